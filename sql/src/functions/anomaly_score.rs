//! `anomaly_score(value) OVER (PARTITION BY … ORDER BY time)`: how unusual each value is, given its own series so far.
//!
//! **Invariant:** a window frame has no effect; a score rests on all earlier values of the series and on none after it.

mod batching;
mod node;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use juno_kernels::{Device, Series, robust_residual};

pub(super) use self::batching::Batching;
use super::launches;
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// `SELECT time, host, anomaly_score(usage_user) OVER (PARTITION BY host ORDER BY time) FROM cpu`.
///
/// DOUBLE PRECISION from 0 (as expected, or still warming up) to below 1; above 0.99 is rare. Null where the value is null
/// or NaN. Immutable. The method is the kernel `robust_residual`.
pub(super) fn window(device: &Device) -> WindowUDF {
    let signature = Signature::any(1, Volatility::Immutable);
    WindowUDF::new_from_impl(AnomalyScore { device: device.clone(), signature })
}

struct AnomalyScore {
    device: Device,
    signature: Signature,
}

impl std::fmt::Debug for AnomalyScore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnomalyScore").field("device", &self.device.kind()).finish()
    }
}

impl PartialEq for AnomalyScore {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for AnomalyScore {}

impl Hash for AnomalyScore {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl WindowUDFImpl for AnomalyScore {
    fn name(&self) -> &str {
        "anomaly_score"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator { device: self.device.clone() }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        match args.input_fields() {
            [value] if value.data_type().is_numeric() || value.data_type().is_null() => {
                Ok(Arc::new(Field::new(args.name(), DataType::Float64, true)))
            }
            [value] => Err(mismatch(format!(
                "argument value of anomaly_score must be a number, not {}",
                name_of(value.data_type())
            ))),
            _ => Err(mismatch("anomaly_score takes one value")),
        }
    }
}

/// Scores one series per call: what DataFusion falls back on where the batching node does not take over.
struct Evaluator {
    device: Device,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Evaluator")
    }
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let mut series = Vec::with_capacity(rows);
        append(&mut series, &values[0])?;
        let scored = score(&self.device, &series, &[0, rows])?;
        Ok(column(&scored.scores))
    }
}

/// Appends a column's values; null becomes NaN.
fn append(series: &mut Vec<f64>, values: &ArrayRef) -> Result<()> {
    let values = cast(values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    match values.null_count() {
        0 => series.extend_from_slice(values.values()),
        _ => series.extend(values.iter().map(|value| value.unwrap_or(f64::NAN))),
    }
    Ok(())
}

/// One kernel call for all series.
fn score(device: &Device, values: &[f64], offsets: &[usize]) -> Result<robust_residual::Scores> {
    let failed = |error: juno_kernels::Error| invalid(format!("anomaly_score: {error}"));
    let series = Series::new(values, offsets).map_err(failed)?;
    let scored = robust_residual::score(device, &series, &robust_residual::Params::default()).map_err(failed)?;
    launches::count(scored.launches, series.len());
    Ok(scored)
}

/// Scores as a column; NaN becomes null.
fn column(scores: &[f64]) -> ArrayRef {
    Arc::new(scores.iter().map(|score| (!score.is_nan()).then_some(*score)).collect::<Float64Array>())
}

#[cfg(test)]
mod tests;
