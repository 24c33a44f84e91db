//! Forecasts of many series at once by a stacked ensemble of seasonal models, or by one of its parts.
//!
//! **Formula.** For a history y(1)…y(n), scaled to magnitudes of at most 1, with its main season m and outer season M:
//! 1. Transforms: raw, square root and logarithm for y ≥ 0 (2 % of the mean is added before the logarithm where a value
//!    lies below that), raw alone else. z is the transformed series, centred and of deviation 1.
//! 2. Members (`members.rs`): ridge autoregressions on several lag sets, some with rows that fade with their age, some
//!    re-weighted towards least absolute deviations (`weighted.rs`); autoregressions on y(t) − y(t−m) and
//!    y(t) − y(t−M), on what a faded profile leaves (`profile.rs`), with sines and cosines (`fourier.rs`);
//!    double-seasonal exponential smoothing (`smoothing.rs`); nearest windows (`windows.rs`); the last m, the last M
//!    and three levels repeated; for series without a season two damped trends, for intermittent ones the smoothed rate
//!    of demand (`levels.rs`). Forecasts are rolled out step by step, z held in ±8, and brought back into
//!    [max(min − R/4, min/2), max + R/2], R the range (min/2 only for min ≥ 0). A member that the series' length or
//!    seasons do not allow is left out.
//! 3. Every member is refitted at up to ten rolling origins inside the history, and the members are weighed by their
//!    errors there (`stack.rs`). Nothing after the history is looked at.
//! 4. Intervals: conformal quantiles of the origins' residuals (`seasonal_ar/interval.rs`).
//!
//! **Missing values, series of their own kind.** As `seasonal_ar` has it.
//!
//! **Order of reduction.** Sums in ascending time, without fused multiply-adds; Gram entries of unweighted
//! autoregressions as differences of running sums, of weighted ones in tiles of rows.
//!
//! **Twins.** The CUDA twin fits all fitted members, rolls them out, weighs all members and adds them up. What is chosen by (the
//! errors of smoothing's parameters, the distances of windows) it sums in the CPU twin's order, so that both choose alike. It
//! sums Gram entries in ascending time, a profile's running sums in 32 stretches, the members' errors and their products' norm
//! and the moments behind penalties as trees, and the products of errors step by step. What is repeated, the levels and
//! trends and the intervals are the host's, and a series of which nothing can be fitted; it finishes a launch while the device
//! computes the next. Tolerance between the twins: 1e-5 of the series' largest magnitude.
//!
//! **Papers.** Hoerl and Kennard 1970 (ridge); Schlossmacher 1973 (absolute deviations); Taylor 2003 (double-seasonal
//! smoothing); Breiman 1996 (stacking); Lei et al. 2018 (split conformal prediction).
//!
//! **Invariant:** a series' forecast depends on that series and the parameters alone; under [`Model::Auto`] the choice
//! between the models depends on the sizes of the batch too, never on a clock.

mod backtest;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod fourier;
mod frame;
mod lags;
mod levels;
mod members;
mod profile;
mod smoothing;
mod stack;
#[cfg(feature = "cuda")]
mod tasks;
#[cfg(test)]
mod tests;
mod weighted;
mod windows;

pub use self::backtest::{Accuracy, Measures, ORIGINS_MAX, backtest};
#[cfg(feature = "cuda")]
use crate::seasonal_ar::plan::Plan;
use crate::seasonal_ar::{self, Forecast, Params, Prepared, check};
use crate::{Device, Result, Series, lanes};

/// Under [`Model::Auto`] the full ensemble serves batches of at most so many points, some seconds of one core.
pub const AUTO_POINTS_MAX: usize = 400_000;

/// Which model forecasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// The full ensemble where the batch has at most [`AUTO_POINTS_MAX`] points, else the lean one.
    #[default]
    Auto,
    /// All members.
    Full,
    /// A few autoregressions, see [`seasonal_ar`].
    Lean,
    /// One ridge autoregression of the square root, or of the values where some are negative.
    Ar,
    /// The last season repeated, the last value where there is none.
    Naive,
}

/// Forecasts every series.
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) when the horizon or a level is out of range. Data never makes an
/// error.
pub fn forecast(device: &Device, series: &Series, params: &Params, model: Model) -> Result<Forecast> {
    check(params)?;
    let lean = match model {
        Model::Auto => series.values().len() > AUTO_POINTS_MAX,
        Model::Lean => true,
        Model::Full | Model::Ar | Model::Naive => false,
    };
    if lean {
        return seasonal_ar::forecast(device, series, params);
    }
    #[cfg(feature = "cuda")]
    if matches!(model, Model::Full | Model::Auto)
        && let Some(forecast) = device.offload("seasonal_ensemble", |gpu| {
            let on_device = |plans: &[&Plan]| cuda::model(device, gpu, plans, params.horizon);
            seasonal_ar::on_gpu(device, series, params, on_device)
        })?
    {
        return Ok(forecast);
    }
    let rows = lanes::map(device, series.len(), cpu::Work::default, |work, i| {
        let prepared = Prepared::new(series.get(i), params);
        let h = params.horizon;
        let modelled =
            prepared.plan().map(|plan| cpu::single(work, plan, h, model).unwrap_or_else(|| cpu::model(work, plan, h)));
        prepared.finish(modelled.as_ref(), params)
    })?;
    Ok(Forecast::of(rows, 1))
}
