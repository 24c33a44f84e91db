//! How well forecasts would have done: rolling origins inside the history, the seasonal naive beside them.
//!
//! The last origin leaves out the newest `horizon` points, each one before it as many more. At each the model forecasts
//! from what came before, and its errors are taken against what came: e = |y − f|,
//! - MASE = mean e / s, s the mean |y(t) − y(t − m)| of the history before the first origin, m the main season found
//!   there, 1 where there is none (Hyndman and Koehler 2006);
//! - sMAPE = 100 × the mean of 2e / (|y| + |f|), 0 where both are 0;
//! - WAPE = Σ e / Σ |y|;
//! - coverage = the share of y within the interval, level by level.
//!
//! Missing values are left out. A measure is NaN where it cannot be had: no origin, or a scale of 0.
//!
//! **Invariant:** no forecast sees a value after its origin; all origins of all series go to the model as one batch.

use super::{Model, forecast};
use crate::seasonal_ar::history;
use crate::seasonal_ar::{Forecast, Params};
use crate::{Device, Error, Result, Series};

/// The most origins of one series.
pub const ORIGINS_MAX: usize = 100;
/// An origin needs so many points before it.
const POINTS_MIN: usize = 3;

/// Measures of one method on one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// Mean absolute error relative to the seasonal naive's inside the history.
    pub mase: f64,
    /// Symmetric mean absolute percentage error, 0 to 200.
    pub smape: f64,
    /// Sum of absolute errors relative to the sum of magnitudes.
    pub wape: f64,
}

/// How a model did on one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// How many origins there were.
    pub origins: usize,
    /// The main season that the naive repeats, 1 where there is none.
    pub season: usize,
    /// The model's measures.
    pub model: Measures,
    /// The seasonal naive's.
    pub naive: Measures,
    /// The share of values within the interval of each level.
    pub coverage: Vec<f64>,
}

/// Backtests every series at up to `origins` origins; returns the launches too.
///
/// # Errors
/// [`Error::Parameter`] when the horizon, a level or the number of origins is out of range.
pub fn backtest(
    device: &Device,
    series: &Series,
    params: &Params,
    model: Model,
    origins: usize,
) -> Result<(Vec<Accuracy>, u64)> {
    if !(1..=ORIGINS_MAX).contains(&origins) {
        return Err(Error::Parameter(format!("{origins} origins are out of range: use 1 to {ORIGINS_MAX}")));
    }
    let h = params.horizon;
    let (mut values, mut offsets, mut ends) = (Vec::new(), vec![0], Vec::with_capacity(series.len()));
    for i in 0..series.len() {
        let raw = series.get(i);
        let room = raw.len().saturating_sub(POINTS_MIN) / h.max(1);
        let own: Vec<usize> = (1..=origins.min(room)).rev().map(|origin| raw.len() - origin * h).collect();
        for end in &own {
            values.extend_from_slice(&raw[..*end]);
            offsets.push(values.len());
        }
        ends.push(own);
    }
    let forecasts = forecast(device, &Series::new(&values, &offsets)?, params, model)?;
    let mut first = 0;
    let judged = ends.iter().enumerate().map(|(i, ends)| {
        first += ends.len();
        judge(series.get(i), ends, &forecasts, first - ends.len(), params)
    });
    Ok((judged.collect(), forecasts.launches))
}

/// The sums of one method's errors.
#[derive(Default)]
struct Errors {
    absolute: f64,
    relative: f64,
}

impl Errors {
    fn add(&mut self, actual: f64, forecast: f64) {
        let error = (actual - forecast).abs();
        self.absolute += error;
        self.relative += if error > 0.0 { 200.0 * error / (actual.abs() + forecast.abs()) } else { 0.0 };
    }

    fn measures(&self, count: f64, scale: f64, total: f64) -> Measures {
        let over = |value: f64, by: f64| if by > 0.0 { value / by } else { f64::NAN };
        Measures {
            mase: over(over(self.absolute, count), scale),
            smape: over(self.relative, count),
            wape: over(self.absolute, total),
        }
    }
}

/// The measures of one series, whose forecasts start at row `first`.
fn judge(raw: &[f64], ends: &[usize], forecasts: &Forecast, first: usize, params: &Params) -> Accuracy {
    let (h, levels) = (params.horizon, params.levels.len());
    let season = forecasts.seasons.get(first).filter(|_| !ends.is_empty()).map_or(1, |m| (*m).max(1) as usize);
    let (mut own, mut naive) = (Errors::default(), Errors::default());
    let (mut count, mut total, mut inside) = (0.0, 0.0, vec![0.0; levels]);
    for (origin, end) in ends.iter().enumerate() {
        let Some(history) = history::prepare(&raw[..*end]) else { continue };
        let m = season.min(history.values.len());
        for (step, actual) in raw[*end..][..h].iter().enumerate().filter(|(_, actual)| actual.is_finite()) {
            let at = (first + origin) * h + step;
            own.add(*actual, forecasts.mean[at]);
            naive.add(*actual, history.values[history.values.len() - m + step % m] * history.scale);
            count += 1.0;
            total += actual.abs();
            // Ends that are the value itself but for rounding hold it.
            let slack = 1e-9 * actual.abs();
            for (level, inside) in inside.iter_mut().enumerate() {
                let at = ((first + origin) * levels + level) * h + step;
                let held = forecasts.lower[at] - slack <= *actual && *actual <= forecasts.upper[at] + slack;
                *inside += f64::from(u8::from(held));
            }
        }
    }
    let scale = ends.first().map_or(0.0, |end| scale(&raw[..*end], season));
    Accuracy {
        origins: ends.len(),
        season,
        model: own.measures(count, scale, total),
        naive: naive.measures(count, scale, total),
        coverage: inside.iter().map(|inside| if count > 0.0 { inside / count } else { f64::NAN }).collect(),
    }
}

/// The mean change over a season between known values.
fn scale(known: &[f64], season: usize) -> f64 {
    let changes = known.iter().skip(season).zip(known).map(|(now, before)| (now - before).abs());
    let (count, sum) =
        changes.filter(|change| change.is_finite()).fold((0.0, 0.0), |(count, sum), v| (count + 1.0, sum + v));
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::{noise, series_of_all_kinds, wave};

    const PARAMS: Params = Params { horizon: 24, levels: &[0.9] };

    fn of(values: &[f64], origins: usize) -> Accuracy {
        let offsets = [0, values.len()];
        let series = Series::new(values, &offsets).unwrap();
        backtest(&Device::cpu(), &series, &PARAMS, Model::Full, origins).unwrap().0.remove(0)
    }

    #[test]
    fn a_noisy_season_is_forecast_better_than_repeated() {
        let values: Vec<f64> = (0..24 * 30).map(|t| 50.0 + 10.0 * wave(t, 24) + 2.0 * noise(t)).collect();
        let accuracy = of(&values, 5);
        assert_eq!((accuracy.origins, accuracy.season), (5, 24));
        let (own, naive) = (accuracy.model, accuracy.naive);
        assert!(own.mase < naive.mase && own.smape < naive.smape && own.wape < naive.wape, "{accuracy:?}");
        assert!(own.wape < 0.05 && (0.7..=1.0).contains(&accuracy.coverage[0]), "{accuracy:?}");
    }

    #[test]
    fn several_levels_have_the_coverage_that_each_has_alone() {
        let (values, offsets) = series_of_all_kinds();
        let series = Series::new(&values, &offsets).unwrap();
        let of = |levels: &[f64]| {
            let params = Params { levels, ..PARAMS };
            backtest(&Device::cpu(), &series, &params, Model::Lean, 2).unwrap().0
        };
        let bits = |coverage: &[f64]| coverage.iter().map(|share| share.to_bits()).collect::<Vec<_>>();
        let (both, half, most) = (of(&[0.5, 0.9]), of(&[0.5]), of(&[0.9]));
        for ((both, half), most) in both.iter().zip(&half).zip(&most) {
            assert_eq!(bits(&both.coverage), bits(&[half.coverage[0], most.coverage[0]]));
            assert!(both.coverage[0].is_nan() || both.coverage[0] <= both.coverage[1], "{both:?}");
        }
        assert!(both.iter().any(|one| one.coverage[0] < one.coverage[1]));
    }

    #[test]
    fn measures_agree_with_a_case_worked_by_hand() {
        let mut values = vec![3.0; 100];
        values[90..].fill(6.0);
        let series = Series::new(&values, &[0, 100]).unwrap();
        let params = Params { horizon: 10, ..PARAMS };
        let accuracy = backtest(&Device::cpu(), &series, &params, Model::Full, 1).unwrap().0.remove(0);
        assert!((accuracy.model.wape - 0.5).abs() < 1e-12 && (accuracy.model.smape - 200.0 / 3.0).abs() < 1e-12);
        assert!(accuracy.model.mase.is_nan() && accuracy.coverage == [0.0], "{accuracy:?}");
        assert_eq!(accuracy.model.wape, accuracy.naive.wape);
    }

    #[test]
    fn short_and_hostile_series_have_no_origin_or_no_measure_but_never_an_error() {
        assert_eq!(of(&[1.0, 2.0, 3.0], 5).origins, 0);
        let (values, offsets) = series_of_all_kinds();
        let series = Series::new(&values, &offsets).unwrap();
        let done = backtest(&Device::cpu(), &series, &PARAMS, Model::Full, 2).unwrap().0;
        assert_eq!(done.len(), series.len());
        let shares = done.iter().flat_map(|one| one.coverage.clone());
        assert!(shares.filter(|share| !share.is_nan()).all(|share| (0.0..=1.0).contains(&share)));
        assert!(backtest(&Device::cpu(), &series, &PARAMS, Model::Full, 0).is_err());
    }
}
