//! Anomaly scores of many series at once: causal, robust, season-aware residuals, ranked against their own past.
//!
//! **Formula.** For a value x at point t with the seasonal parts m(t) and w(t) of a main and an outer season:
//! 1. r = x − m − w. A fast level ℓ and a slow base b follow r (rates 0.1 and 1/200). The *residual* is r − ℓ; the
//!    *drift* is an exponential mean (rate 0.1) of r − b.
//! 2. Both are divided by their scale, an exponential mean (rate 0.01) of their magnitude. Everything learns from
//!    residuals cut at four scales, so that an anomaly does not become the norm; seasonal parts learn at rate 0.2.
//! 3. The magnitudes are ranked among their own past: a histogram that fades over 4,000 points, its highest tenth
//!    smoothed by a generalised Pareto tail. That gives tail probabilities p₁ and p₂.
//! 4. score = 1 − min(1, 2·min(p₁, p₂)): a score above 0.999 comes about once in a thousand points of plain noise, and
//!    a typical point scores a little under 0.5.
//!
//! **Seasons** are looked for after 128, 256, 512, … points among the 8,192 points before; when they change, the model
//! starts afresh and replays those points. No season is known before the first look.
//!
//! **Missing values.** A NaN scores NaN, and its slot passes without teaching anything. An infinite value, or one
//! beyond 1e150, scores just below 1 and teaches nothing. The first `warm_up` points teach but score 0.
//!
//! **Causal.** A score depends on its own series' past and present alone; later points never change it. The warm-up is
//! therefore a number of points and not a share of the series.
//!
//! **Twins.** Both run the same operations in the same order, without fused multiply-adds; only exp and log1p may round
//! differently. Tolerance: 1e-9 per score.
//!
//! **Papers.** Siffer et al., *Anomaly Detection in Streams with Extreme Value Theory*, KDD 2017 (tail of the peaks
//! over a threshold); Hosking and Wallis, *Parameter and Quantile Estimation for the Generalized Pareto Distribution*,
//! 1987.
//!
//! **Invariant:** state of bounded size per series; knows no clock and no calendar.

#[cfg(any(test, feature = "cuda"))]
mod batch;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod plan;
mod ranks;
#[cfg(test)]
mod tests;

use crate::{Device, Error, Result, Series, lanes};

/// The shortest warm-up, in points.
pub const WARM_UP_POINTS_MIN: usize = 16;
/// Magnitudes beyond this count as infinite: their squares would be.
const VALUE_MAX: f64 = 1e150;

/// How to score.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// How many points of each series only teach and score 0; at least [`WARM_UP_POINTS_MIN`].
    pub warm_up: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { warm_up: 96 }
    }
}

/// Scores of a batch.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// One score per value, in the order of the values: 0 up to below 1, NaN where the value is NaN.
    pub scores: Vec<f64>,
    /// How many times the device was launched.
    pub launches: u64,
}

/// Scores every value of every series.
///
/// # Errors
/// [`Error::Parameter`] when the warm-up is out of range. Data never makes an error.
pub fn score(device: &Device, series: &Series, params: &Params) -> Result<Scores> {
    if params.warm_up < WARM_UP_POINTS_MIN {
        let text = format!("a warm-up of {} points is too short: use {WARM_UP_POINTS_MIN} or more", params.warm_up);
        return Err(Error::Parameter(text));
    }
    let prior = ranks::prior();
    #[cfg(feature = "cuda")]
    if let Some((scores, launches)) = device.offload("robust_residual", |gpu| {
        let looks = lanes::map(device, series.len(), || (), |(), i| plan::looks(series.get(i)))?;
        cuda::score(device, gpu, series, &looks, params.warm_up, &prior)
    })? {
        return Ok(Scores { scores, launches });
    }
    let rows = lanes::map(
        device,
        series.len(),
        || (),
        |(), i| {
            let values = series.get(i);
            cpu::score(values, &plan::looks(values), params.warm_up, &prior)
        },
    )?;
    Ok(Scores { scores: rows.concat(), launches: 1 })
}

/// Whether a value teaches the model anything.
fn is_usable(value: f64) -> bool {
    value.abs() <= VALUE_MAX
}
