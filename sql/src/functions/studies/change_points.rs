//! `change_points`: where the mean of a series changed for good.
//!
//! `SELECT * FROM change_points('cpu', 'usage_user', by => 'host', penalty => 6, least => 5)`: a larger `penalty` (default 6)
//! finds fewer changes; a segment has at least `least` points (default 5). Gives `time` of the first point after each change,
//! the means `before` and `after`, and the `strength`, their difference in standard errors. The method is the kernel `pelt`.
//!
//! **Invariant:** looks at the whole series: a later point may move or remove a change.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::Fields;
use datafusion::common::Result;
use juno_kernels::pelt::{Change, Params, change_points};
use juno_kernels::{Device, Series};

use super::anomalies::whole;
use super::{Batch, Rows, number_field, time_field};
use crate::functions::launches;
use crate::functions::refusal::invalid;

pub(super) fn fields() -> Fields {
    vec![time_field(), number_field("before"), number_field("after"), number_field("strength")].into()
}

/// What the constant arguments ask for.
pub(super) fn params(constants: &[Option<f64>]) -> Result<Params> {
    let constant = |index: usize| constants.get(index).copied().flatten();
    let default = Params::default();
    let penalty = constant(0).unwrap_or(default.penalty);
    if !(penalty > 0.0 && penalty.is_finite()) {
        return Err(invalid(format!("argument penalty of change_points must be a number above 0, not {penalty}")));
    }
    let least = constant(1).map(|points| whole("least of change_points", points)).transpose()?;
    match least {
        Some(0) => Err(invalid("argument least of change_points must be at least 1")),
        least => Ok(Params { penalty, least: least.unwrap_or(default.least) }),
    }
}

pub(super) fn run(device: &Device, batch: &Batch, constants: &[Option<f64>]) -> Result<Rows> {
    let failed = |error: juno_kernels::Error| invalid(format!("change_points: {error}"));
    let series = Series::new(&batch.values, &batch.offsets).map_err(failed)?;
    let found = change_points(device, &series, &params(constants)?).map_err(failed)?;
    launches::count(1, series.len());
    let changes =
        || found.iter().zip(&batch.offsets).flat_map(|(changes, start)| changes.iter().map(move |c| (*start, c)));
    let column = |of: fn(&Change) -> f64| Arc::new(Float64Array::from_iter_values(changes().map(|(_, c)| of(c))));
    Ok(Rows {
        lengths: found.iter().map(Vec::len).collect(),
        times: changes().map(|(start, change)| batch.times_us[start + change.at]).collect(),
        columns: vec![column(|c| c.before), column(|c| c.after), column(|c| c.strength)],
    })
}
