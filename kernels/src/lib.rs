//! juno-kernels: batched forecasting and anomaly scoring, slices in, slices out, with a CPU and a CUDA twin of every
//! kernel.
//!
//! A call takes many series at once ([`Series`]) and hands all of them to one batched kernel on a [`Device`].
//!
//! **Invariant:** knows neither Arrow nor SQL nor storage, reads no clock and no randomness, and never panics on data:
//! a kernel is a pure function of its slices and parameters.

pub mod artefact;
pub mod beaconing;
pub mod behaviours;
mod bins;
mod codes;
pub mod conditional_histograms;
pub mod conformal;
mod crc;
pub mod dense_network;
mod device;
mod error;
pub mod explain_away;
mod fft;
mod grid;
pub mod hashed_ngrams;
pub mod isolation_forest;
mod lanes;
pub mod oblivious_trees;
pub mod pelt;
pub mod record_ratio;
pub mod robust_residual;
mod season;
pub mod seasonal_ar;
pub mod seasonal_ensemble;
pub mod seasonal_trend;
mod series;
mod splitmix;
pub mod threat_model;
#[cfg(test)]
mod twin;

pub use bins::{BINS, Bins};
pub use codes::{Codes, FEATURES_MAX};
pub use device::{Device, Stop};
pub use error::{Error, Result};
pub use grid::{GRID_POINTS_MAX, Grid, regular_grid};
pub use series::Series;
pub use splitmix::SplitMix;
