//! `width_bucket(operand, low, high, count)`: which of equally wide buckets a value falls into, as in PostgreSQL.
//!
//! **Invariant:** bucket 0 is below the range and `count + 1` at its end and above; the range may run downwards.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// `SELECT width_bucket(usage_user, 0, 100, 10) AS bucket, count(*) FROM cpu GROUP BY bucket`. Immutable.
pub(super) fn width_bucket() -> ScalarUDF {
    let signature = Signature::any(4, Volatility::Immutable)
        .with_parameter_names(vec!["operand", "low", "high", "count"])
        .expect("four names for four arguments");
    ScalarUDF::new_from_impl(WidthBucket { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WidthBucket {
    signature: Signature,
}

impl ScalarUDFImpl for WidthBucket {
    fn name(&self) -> &str {
        "width_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        numbers(self.name(), &["operand", "low", "high", "count"], types)?;
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let numbers = |index: usize| cast(&arrays[index], &DataType::Float64);
        let (operand, low, high) = (numbers(0)?, numbers(1)?, numbers(2)?);
        let [operand, low, high] = [&operand, &low, &high].map(|array| array.as_primitive::<Float64Type>());
        let count = cast(&arrays[3], &DataType::Int32)?;
        let count = count.as_primitive::<Int32Type>();
        let buckets = (0..count.len()).map(|row| {
            let valid = [operand, low, high].iter().all(|array| array.is_valid(row)) && count.is_valid(row);
            valid.then(|| bucket(operand.value(row), low.value(row), high.value(row), count.value(row))).transpose()
        });
        let buckets: ArrayRef = Arc::new(buckets.collect::<Result<Int32Array>>()?);
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&buckets, 0)?)
        } else {
            ColumnarValue::Array(buckets)
        })
    }
}

/// Refuses arguments that are no numbers.
pub(super) fn numbers(function: &str, names: &[&str], types: &[DataType]) -> Result<()> {
    let wrong = names.iter().zip(types).find(|(_, given)| !given.is_numeric() && !given.is_null());
    wrong.map_or(Ok(()), |(name, given)| {
        Err(mismatch(format!("argument {name} of {function} must be a number, not {}", name_of(given))))
    })
}

/// The bucket of a value: 1 to `count` inside the range.
pub(super) fn bucket(value: f64, low: f64, high: f64, count: i32) -> Result<i32> {
    if count < 1 || count == i32::MAX {
        return Err(invalid("count must be greater than zero"));
    }
    if value.is_nan() || !low.is_finite() || !high.is_finite() {
        return Err(invalid("operand, lower bound, and upper bound cannot be NaN, and the bounds must be finite"));
    }
    if low == high {
        return Err(invalid("lower bound cannot equal upper bound"));
    }
    let (from, to) = if low < high { (value - low, high - low) } else { (low - value, low - high) };
    Ok(if from < 0.0 {
        0
    } else if from >= to {
        count + 1
    } else {
        // A value just below the end can round up to it.
        ((from / to * f64::from(count)) as i32 + 1).min(count)
    })
}
