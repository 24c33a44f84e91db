//! `anomalies`: every point judged by the ones before it, with a p-value, a kind, and an alarm within a budget.
//!
//! `SELECT * FROM anomalies('cpu', 'usage_user', by => 'host', warm_up => 288, false_alarms => 0.1)`: `warm_up` points only
//! teach (default 288); an alarm is a p-value that so many false alarms per series and day (default 0.1) allow. Gives `time`,
//! `value`, `score` (0 to below 1), `p_value`, `kind` (point, level_shift, pattern, silence, flatline, or null) and `is_alarm`. The
//! method is the kernel `record_ratio`.
//!
//! **Invariant:** a row depends on its series up to its time, but for the day's number of points, which the whole series gives.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use juno_kernels::record_ratio::{Params, Point, score};
use juno_kernels::{Device, Series};

use super::{Batch, Rows, number_field, time_field};
use crate::detector::{FALSE_ALARMS, points_per_day};
use crate::functions::launches;
use crate::functions::refusal::invalid;

pub(super) fn fields() -> Fields {
    vec![
        time_field(),
        number_field("value"),
        number_field("score"),
        number_field("p_value"),
        Field::new("kind", DataType::Utf8, true),
        Field::new("is_alarm", DataType::Boolean, true),
    ]
    .into()
}

/// What the constant arguments ask for.
pub(super) struct Asked {
    params: Params,
    false_alarms: f64,
}

impl Asked {
    /// Reads warm-up and budget.
    pub(super) fn of(constants: &[Option<f64>]) -> Result<Self> {
        let constant = |index: usize| constants.get(index).copied().flatten();
        let params = match constant(0) {
            None => Params::default(),
            Some(points) => Params { warm_up: whole("warm_up of anomalies", points)? },
        };
        params.state().map_err(|error| invalid(format!("argument warm_up of anomalies: {error}")))?;
        let false_alarms = constant(1).unwrap_or(FALSE_ALARMS);
        if !(false_alarms > 0.0 && false_alarms.is_finite()) {
            return Err(invalid(format!(
                "argument false_alarms of anomalies must be a number above 0, of alarms per series and day, not {false_alarms}"
            )));
        }
        Ok(Self { params, false_alarms })
    }
}

/// A number that counts something.
pub(super) fn whole(argument: &str, number: f64) -> Result<usize> {
    if number.fract() != 0.0 || !(0.0..1e9).contains(&number) {
        return Err(invalid(format!("argument {argument} must be a whole number of points, not {number}")));
    }
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "whole and in range")]
    Ok(number as usize)
}

pub(super) fn run(device: &Device, batch: &Batch, constants: &[Option<f64>]) -> Result<Rows> {
    let asked = Asked::of(constants)?;
    let failed = |error: juno_kernels::Error| invalid(format!("anomalies: {error}"));
    let series = Series::new(&batch.values, &batch.offsets).map_err(failed)?;
    let seconds: Vec<i64> = batch.times_us.iter().map(|time| time.div_euclid(1_000_000)).collect();
    let points = score(device, &series, Some(&seconds), &asked.params).map_err(failed)?;
    launches::count(1, series.len());
    let known = |number: f64| (!number.is_nan()).then_some(number);
    let mut alarms = Vec::with_capacity(points.len());
    for pair in batch.offsets.windows(2) {
        let times = batch.times_us[pair[0]..pair[1]].windows(2);
        let steps = times.map(|pair| pair[1].saturating_sub(pair[0])).collect();
        let limit = asked.false_alarms / points_per_day(steps);
        alarms.extend(points[pair[0]..pair[1]].iter().map(|point| known(point.p_value).map(|p| p <= limit)));
    }
    let column =
        |of: fn(&Point) -> f64| Arc::new(points.iter().map(|point| known(of(point))).collect::<Float64Array>());
    Ok(Rows {
        lengths: batch.offsets.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        times: batch.times_us.clone(),
        columns: vec![
            Arc::new(batch.values.iter().map(|value| known(*value)).collect::<Float64Array>()),
            column(|point| point.score),
            column(|point| point.p_value),
            Arc::new(points.iter().map(|point| point.kind.name()).collect::<StringArray>()),
            Arc::new(BooleanArray::from(alarms)),
        ],
    })
}
