//! Numbers as the blocks keep them: doubles that are decimals become decimals.
//!
//! **Invariant:** what comes back is bit by bit what went in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal64Array, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};

use crate::Result;

/// The digits that a decimal of 64 bits has.
const PRECISION: u8 = 18;
/// The most digits behind the point that are tried.
const SCALE_MAX: i8 = 4;
/// The largest integer that is tried: beyond it doubles are not exact.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

fn power(scale: i8) -> f64 {
    10_f64.powi(scale.into())
}

/// A column as it is written.
pub(super) fn narrowed(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Float64 => {
            let doubles = column.as_primitive::<Float64Type>();
            (0..=SCALE_MAX).find_map(|scale| decimals(doubles, scale)).unwrap_or_else(|| Arc::clone(column))
        }
        DataType::Int16 | DataType::Int32 => cast(column, &DataType::Int64)?,
        _ => Arc::clone(column),
    })
}

/// The doubles as integers, times ten to the power of the scale; none where one would not come back the same.
fn decimals(doubles: &Float64Array, scale: i8) -> Option<ArrayRef> {
    let power = power(scale);
    let integer = |value: f64| {
        let integer = (value * power).round();
        #[expect(clippy::cast_possible_truncation, reason = "it is an integer within range")]
        let kept = (integer.abs() <= INTEGER_MAX).then_some(integer as i64)?;
        (back(kept, power).to_bits() == value.to_bits()).then_some(kept)
    };
    let mut integers = Vec::with_capacity(doubles.len());
    for row in 0..doubles.len() {
        integers.push(if doubles.is_null(row) { 0 } else { integer(doubles.value(row))? });
    }
    let nulls = doubles.nulls().cloned();
    if scale == 0 {
        return Some(Arc::new(Int64Array::new(integers.into(), nulls)));
    }
    let decimals = Decimal64Array::new(integers.into(), nulls).with_precision_and_scale(PRECISION, scale);
    Some(Arc::new(decimals.expect("a precision and scale that decimals have")))
}

#[expect(clippy::cast_precision_loss, reason = "integers this large are refused")]
fn back(integer: i64, power: f64) -> f64 {
    integer as f64 / power
}

/// A column that was read, in the type that it had.
pub(super) fn as_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let doubles: ArrayRef = match (column.data_type(), data_type) {
        (kept, wanted) if kept == wanted => return Ok(Arc::clone(column)),
        (DataType::Int64, DataType::Float64 | DataType::Float32) => {
            let integers = column.as_primitive::<Int64Type>();
            Arc::new(integers.unary::<_, Float64Type>(|integer| back(integer, 1.0)))
        }
        (DataType::Decimal128(_, scale), DataType::Float64 | DataType::Float32) => {
            let power = power(*scale);
            let integers = column.as_primitive::<Decimal128Type>();
            #[expect(clippy::cast_precision_loss, reason = "integers so large were not written")]
            let double = |integer: i128| integer as f64 / power;
            Arc::new(integers.unary::<_, Float64Type>(double))
        }
        _ => Arc::clone(column),
    };
    super::plain(&doubles, data_type)
}
