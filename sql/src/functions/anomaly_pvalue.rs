//! `anomaly_pvalue(value, time) OVER (PARTITION BY … ORDER BY time)`: how often a calm series would stand out as much.
//!
//! **Invariant:** a window frame has no effect; a p-value rests on the earlier values of the series and on none after it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, TypeSignature, Volatility, WindowUDF, WindowUDFImpl};
use juno_kernels::record_ratio::{Params, score};
use juno_kernels::{Device, Series};

use super::launches;
use super::points::points_of_rows;
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// The name that SQL knows it by.
const NAME: &str = "anomaly_pvalue";

/// `SELECT time, host, anomaly_pvalue(usage_user, time) OVER (PARTITION BY host ORDER BY time) FROM cpu`.
///
/// DOUBLE PRECISION above 0 to 1: 1 where the point does not stand out from those before it, or its series still warms up. An
/// alarm below p comes about once in 1/p points of a calm series. The time, which may be left out, lets it know the time of day
/// and the hour of the week; the third argument is the number of points that only teach (default 288). Null where the value is
/// null or NaN. Immutable. The method is the kernel `record_ratio`.
pub(super) fn window(device: &Device) -> WindowUDF {
    let counts = [1, 2, 3].map(TypeSignature::Any).to_vec();
    let signature = Signature::one_of(counts, Volatility::Immutable)
        .with_parameter_names(vec!["value", "time", "warm_up"])
        .expect("three names for up to three arguments");
    WindowUDF::new_from_impl(AnomalyPValue { device: device.clone(), signature })
}

struct AnomalyPValue {
    device: Device,
    signature: Signature,
}

impl std::fmt::Debug for AnomalyPValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnomalyPValue").field("device", &self.device.kind()).finish()
    }
}

impl PartialEq for AnomalyPValue {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for AnomalyPValue {}

impl Hash for AnomalyPValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl WindowUDFImpl for AnomalyPValue {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator { device: self.device.clone() }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let types: Vec<&DataType> = args.input_fields().iter().map(|field| field.data_type()).collect();
        let wrong = |argument: &str, what: &str, is: &DataType| {
            Err(mismatch(format!("argument {argument} of {NAME} must be {what}, not {}", name_of(is))))
        };
        let is_number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
        let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..)) || data_type.is_null();
        match types.as_slice() {
            [value, ..] if !is_number(value) => wrong("value", "a number", value),
            [_, time, ..] if !is_time(time) => wrong("time", "a timestamp", time),
            [_, _, warm_up] if !is_number(warm_up) => wrong("warm_up", "a number of points", warm_up),
            _ => Ok(Arc::new(Field::new(args.name(), DataType::Float64, true))),
        }
    }
}

/// Judges one series per call.
struct Evaluator {
    device: Device,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Evaluator")
    }
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let failed = |error: juno_kernels::Error| invalid(format!("{NAME}: {error}"));
        let time = columns.get(1).filter(|time| !time.data_type().is_null());
        let (values, seconds): (Vec<f64>, Option<Vec<i64>>) = match time {
            Some(time) => {
                let points = points_of_rows(time, &columns[0])?;
                let seconds = points.iter().map(|point| point.0.div_euclid(1_000_000)).collect();
                (points.into_iter().map(|point| point.1).collect(), Some(seconds))
            }
            None => (numbers(&columns[0])?, None),
        };
        let params = warm_up(columns.get(2))?;
        let series = [0, rows];
        let series = Series::new(&values, &series).map_err(failed)?;
        let points = score(&self.device, &series, seconds.as_deref(), &params).map_err(failed)?;
        launches::count(1, 1);
        Ok(Arc::new(
            points.iter().map(|point| (!point.p_value.is_nan()).then_some(point.p_value)).collect::<Float64Array>(),
        ))
    }
}

/// A column's values; null becomes NaN.
fn numbers(values: &ArrayRef) -> Result<Vec<f64>> {
    let values = cast(values, &DataType::Float64)?;
    Ok(values.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// The warm-up that a column of equal numbers says.
fn warm_up(column: Option<&ArrayRef>) -> Result<Params> {
    let given = column.map(numbers).transpose()?.and_then(|numbers| numbers.first().copied());
    match given.filter(|number| !number.is_nan()) {
        None => Ok(Params::default()),
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "whole and in range")]
        Some(number) if number.fract() == 0.0 && (0.0..1e9).contains(&number) => {
            Ok(Params { warm_up: number as usize })
        }
        Some(number) => {
            Err(invalid(format!("argument warm_up of {NAME} must be a whole number of points, not {number}")))
        }
    }
}
