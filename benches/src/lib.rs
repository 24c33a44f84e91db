//! juno-benches: what the measuring commands share: data files, processor time, the scores of forecasts and of anomalies.
//!
//! **Invariant:** measures and prints, asserts nothing; every figure stands beside a naive or a peer's figure of the same run.

pub mod forecast_run;
pub mod forecast_score;
pub mod kernel_speed;
pub mod machine;
pub mod measured;
pub mod nab_score;
pub mod rows;
pub mod scaling;
pub mod table;
