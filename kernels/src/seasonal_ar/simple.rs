//! Forecasts for series that nothing can be fitted to: constant, stopped, short.
//!
//! **Invariant:** host code shared by both twins; the mean stays within the known values.

use super::history::History;
use super::interval::quantile;
use super::{Params, plan};

/// A series that ends on one value for this many points, and for two seasons, has stopped.
const FLAT_POINTS_MIN: usize = 48;

/// Mean, lower and upper ends of one series: the ends level after level.
pub(crate) type Row = (Vec<f64>, Vec<f64>, Vec<f64>);

/// The forecast by the series' own rule, or `None` where a model can be fitted.
pub(crate) fn forecast(history: &History, params: &Params) -> Option<Row> {
    let values = &history.values;
    let (first, last) = (*values.first()?, *values.last()?);
    if values.iter().all(|v| *v == first) {
        return Some(flat(first, params));
    }
    if flat_tail(values) >= (2 * history.seasons.main).max(FLAT_POINTS_MIN) {
        return Some(stopped(values, last, params));
    }
    (values.len() < plan::POINTS_MIN).then(|| last_value(values, last, params))
}

/// One value throughout, without doubt.
pub(crate) fn flat(value: f64, params: &Params) -> Row {
    let ends = vec![value; params.horizon * params.levels.len()];
    (vec![value; params.horizon], ends.clone(), ends)
}

/// How many points at the end repeat the last one.
fn flat_tail(values: &[f64]) -> usize {
    let last = values[values.len() - 1];
    values.iter().rev().take_while(|v| **v == last).count()
}

/// Stopped: the last value goes on. By the rule of succession it lasts the horizon with the chance L / (L + horizon),
/// L being how long it lasted; below the level, the interval reaches to the quantiles of all values.
fn stopped(values: &[f64], last: f64, &Params { horizon, levels }: &Params) -> Row {
    let lasted = flat_tail(values) as f64;
    let lasts = lasted / (lasted + horizon as f64);
    let mut sorted = values.to_vec();
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for level in levels {
        let (mut low, mut high) = (last, last);
        if lasts < *level {
            low = quantile(&mut sorted, (1.0 - level) / 2.0).min(last);
            high = quantile(&mut sorted, (1.0 + level) / 2.0).max(last);
        }
        lower.extend(std::iter::repeat_n(low, horizon));
        upper.extend(std::iter::repeat_n(high, horizon));
    }
    (vec![last; horizon], lower, upper)
}

/// Short: the last value, with the quantile of the changes so far growing with the root of time.
fn last_value(values: &[f64], last: f64, &Params { horizon, levels }: &Params) -> Row {
    let mut changes: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    let widths: Vec<f64> = levels.iter().map(|level| quantile(&mut changes, *level)).collect();
    let end = |sign: f64| {
        let of = |change: f64| (1..=horizon).map(move |step| last + sign * change * (step as f64).sqrt());
        widths.iter().copied().flat_map(of).collect()
    };
    (vec![last; horizon], end(-1.0), end(1.0))
}
