//! Forecasts of many series at once: batched seasonal ridge autoregression with conformal intervals.
//!
//! **Formula.** For a history y(1)…y(n), scaled to magnitudes of at most 1:
//! 1. Seasons are found by autocorrelation. The lags are 1–6, m−2…m+2, 2m±1, 3m±1, 4m, 5m, 6m±1, 7m±1 for the main
//!    season m, and an outer season ±1 that is another multiple; lags beyond two fifths of n are dropped.
//! 2. For each transform T (raw; square root where y ≥ 0; logarithm where y > 1e-4) z = (T(y) − mean) / deviation.
//!    Weights solve the ridge normal equations (XᵀX + λ·rows·var(z)·I) w = Xᵀz of the lagged values and an intercept,
//!    by Cholesky, for λ = 1e-5 and 1e-1. Forecasts are rolled out step by step, z held in ±8, and brought back into
//!    [max(min − R/4, min/2), max + R/2], R the range (min/2 only for min ≥ 0).
//! 3. Further members: the last season repeated (the last value, if there is none), the last value, the median of the
//!    last season and of the last seven.
//! 4. Every member is refitted at up to ten rolling origins inside the history. With a and b its sums of |y − f| and of
//!    |y − f| / (|y| + |f|), each relative to the sum over members, its merit is (a + b)⁻⁶; shares are max(0, merit /
//!    best − 0.05), normalised. The forecast is the weighted mean. Nothing after the history is looked at.
//! 5. Intervals: conformal quantiles of the origins' residuals (`interval.rs`).
//!
//! **Missing values.** NaN and infinities are missing. Missing values at the start are cut off; gaps are filled by a
//! line, long ones and those at the end by the season before. The forecast starts after the last slot, missing or not.
//!
//! **Series of their own kind.** Only the newest 16,384 points are looked at. No finite value among them: NaN
//! throughout. Constant: that value, interval of no width. Flat for the last 48 points and two seasons: stopped, the
//! last value goes on. Fewer than 24 points: the last value, with an interval that grows with the root of time.
//!
//! **Order of reduction.** The CPU sums in ascending time, Gram entries as differences of running sums; the CUDA twin
//! sums Gram entries in ascending time and whole-series sums as trees. All else is the same operations in the same
//! order, without fused multiply-adds. Tolerance between twins: 1e-6 of the series' largest magnitude.
//!
//! **Papers.** Hoerl and Kennard 1970 (ridge); Bates and Granger 1969 (combination by past errors); Lei et al. 2018
//! (split conformal prediction).
//!
//! **Invariant:** a series' forecast depends on that series alone, not on the batch it came in.

#[cfg(any(test, feature = "cuda"))]
mod batch;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod history;
pub(crate) mod interval;
pub(crate) mod normal;
pub(crate) mod plan;
pub(crate) mod ridge;
pub(crate) mod simple;
#[cfg(test)]
mod tests;

use self::plan::{Modelled, Plan};
use self::simple::Row;
use crate::{Device, Error, Result, Series, lanes};

/// The longest horizon, in steps.
pub const HORIZON_STEPS_MAX: usize = 10_080;
/// The most levels of one forecast.
pub const INTERVAL_LEVELS_MAX: usize = 20;

/// What to forecast.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// How many steps ahead, 1 to [`HORIZON_STEPS_MAX`].
    pub horizon: usize,
    /// The shares of outcomes that intervals should hold, each strictly between 0 and 1: one to [`INTERVAL_LEVELS_MAX`].
    pub levels: &'a [f64],
}

/// Forecasts of a batch, in the units of the input: `mean` is series × horizon, `lower` and `upper` are series × levels ×
/// horizon, row-major. What is fitted and the mean do not depend on the levels, an interval on its own level alone.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// The expected values. NaN for a series without any finite value.
    pub mean: Vec<f64>,
    /// The lower ends of the intervals.
    pub lower: Vec<f64>,
    /// The upper ends of the intervals.
    pub upper: Vec<f64>,
    /// The main season of each series, in steps; 0 where none was found.
    pub seasons: Vec<u32>,
    /// How many times the device was launched; the CPU counts one for a call.
    pub launches: u64,
}

/// Forecasts every series.
///
/// # Errors
/// [`Error::Parameter`] when the horizon or a level is out of range. Data never makes an error.
pub fn forecast(device: &Device, series: &Series, params: &Params) -> Result<Forecast> {
    check(params)?;
    #[cfg(feature = "cuda")]
    if let Some(forecast) = device.offload("seasonal_ar", |gpu| {
        on_gpu(device, series, params, |plans| cuda::model(device, gpu, plans, params.horizon))
    })? {
        return Ok(forecast);
    }
    let rows = lanes::map(device, series.len(), cpu::Work::default, |work, i| {
        let prepared = Prepared::new(series.get(i), params);
        let modelled = prepared.plan().map(|plan| cpu::model(work, plan, params.horizon));
        prepared.finish(modelled.as_ref(), params)
    })?;
    Ok(Forecast::of(rows, 1))
}

/// The same with all planned series modelled at once, by a CUDA twin that says how many launches it took.
#[cfg(feature = "cuda")]
pub(crate) fn on_gpu(
    device: &Device,
    series: &Series,
    params: &Params,
    model: impl FnOnce(&[&Plan]) -> std::result::Result<(Vec<Modelled>, u64), crate::device::fault::Fault>,
) -> std::result::Result<Forecast, crate::device::fault::Fault> {
    let prepared = lanes::map(device, series.len(), || (), |(), i| Prepared::new(series.get(i), params))?;
    let plans: Vec<&Plan> = prepared.iter().filter_map(Prepared::plan).collect();
    let (modelled, launches) = model(&plans)?;
    let mut modelled = modelled.iter();
    let with_results: Vec<(&Prepared, Option<&Modelled>)> =
        prepared.iter().map(|one| (one, one.plan().and_then(|_| modelled.next()))).collect();
    let rows = lanes::map(
        device,
        with_results.len(),
        || (),
        |(), i| {
            let (prepared, modelled) = with_results[i];
            prepared.finish(modelled, params)
        },
    )?;
    Ok(Forecast::of(rows, launches))
}

/// Whether the parameters are in range.
pub(crate) fn check(params: &Params) -> Result<()> {
    let Params { horizon, levels } = params;
    if !(1..=HORIZON_STEPS_MAX).contains(horizon) {
        let text = format!("a horizon of {horizon} steps is out of range: use 1 to {HORIZON_STEPS_MAX}");
        return Err(Error::Parameter(text));
    }
    if !(1..=INTERVAL_LEVELS_MAX).contains(&levels.len()) {
        let text = format!("{} interval levels are out of range: use 1 to {INTERVAL_LEVELS_MAX}", levels.len());
        return Err(Error::Parameter(text));
    }
    match levels.iter().find(|level| !(**level > 0.0 && **level < 1.0)) {
        Some(level) => Err(Error::Parameter(format!(
            "an interval level of {level} is out of range: use a share between 0 and 1, like 0.95"
        ))),
        None => Ok(()),
    }
}

/// One series before the twins see it.
pub(crate) struct Prepared {
    season: usize,
    scale: f64,
    work: Work,
}

/// What is left to do for a series.
enum Work {
    /// Nothing: it follows a rule of its own.
    Done(Row),
    /// A twin models it.
    Planned(Box<Plan>),
}

impl Prepared {
    pub(crate) fn new(raw: &[f64], params: &Params) -> Self {
        let Some(history) = history::prepare(raw) else {
            let work = Work::Done(simple::flat(f64::NAN, params));
            return Self { season: 0, scale: 1.0, work };
        };
        let (season, scale) = (history.seasons.main, history.scale);
        let work = match simple::forecast(&history, params) {
            Some(row) => Work::Done(row),
            None => Work::Planned(Box::new(Plan::new(history, params.horizon))),
        };
        Self { season, scale, work }
    }

    pub(crate) fn plan(&self) -> Option<&Plan> {
        match &self.work {
            Work::Done(_) => None,
            Work::Planned(plan) => Some(plan),
        }
    }

    /// The season and the forecast in the units of the series, given what a twin made of the plan.
    pub(crate) fn finish(&self, modelled: Option<&Modelled>, params: &Params) -> (usize, Row) {
        let (mut mean, mut lower, mut upper) = match (&self.work, modelled) {
            (Work::Planned(plan), Some(modelled)) => {
                let (lower, upper) = interval::around(plan, modelled, params.levels);
                (modelled.mean.clone(), lower, upper)
            }
            (Work::Done(row), _) => row.clone(),
            (Work::Planned(_), None) => unreachable!("a twin returns a result for every plan"),
        };
        for values in [&mut mean, &mut lower, &mut upper] {
            values.iter_mut().for_each(|v| *v = (*v * self.scale).clamp(f64::MIN, f64::MAX));
        }
        (self.season, (mean, lower, upper))
    }
}

impl Forecast {
    /// Puts the rows of a batch behind each other.
    pub(crate) fn of(rows: Vec<(usize, Row)>, launches: u64) -> Self {
        let mut forecast = Self { launches, ..Self::default() };
        for (season, (mean, lower, upper)) in rows {
            forecast.mean.extend(mean);
            forecast.lower.extend(lower);
            forecast.upper.extend(upper);
            forecast.seasons.push(u32::try_from(season).expect("a season is shorter than the longest history"));
        }
        forecast
    }
}
