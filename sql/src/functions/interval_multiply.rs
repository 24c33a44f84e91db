//! `interval * number` and `interval / number`, as in PostgreSQL.
//!
//! **Invariant:** a fraction of a month becomes days (30 of them), a fraction of a day becomes time (24 hours); nothing moves up.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::functions::refusal::invalid;

const DAYS_PER_MONTH: f64 = 30.0;
const DAY_NS: f64 = 86_400e9;

/// What the operators `*` and `/` call. Immutable.
pub(super) fn interval_multiply(divide: bool) -> ScalarUDF {
    ScalarUDF::new_from_impl(IntervalMultiply { divide, signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalMultiply {
    divide: bool,
    signature: Signature,
}

impl ScalarUDFImpl for IntervalMultiply {
    fn name(&self) -> &str {
        if self.divide { "interval_divide" } else { "interval_multiply" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let intervals = cast(&arrays[0], &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let numbers = cast(&arrays[1], &DataType::Float64)?;
        let rows =
            intervals.as_primitive::<IntervalMonthDayNanoType>().iter().zip(numbers.as_primitive::<Float64Type>());
        let products = rows.map(|row| match row {
            (Some(interval), Some(number)) => product(interval, number, self.divide).map(Some),
            _ => Ok(None),
        });
        let products: ArrayRef = Arc::new(products.collect::<Result<IntervalMonthDayNanoArray>>()?);
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&products, 0)?)
        } else {
            ColumnarValue::Array(products)
        })
    }
}

fn product(interval: IntervalMonthDayNano, number: f64, divide: bool) -> Result<IntervalMonthDayNano> {
    if divide && number == 0.0 {
        return Err(invalid("division by zero"));
    }
    let scale = |value: f64| if divide { value / number } else { value * number };
    let months = scale(f64::from(interval.months));
    let days = scale(f64::from(interval.days)) + months.fract() * DAYS_PER_MONTH;
    // Microseconds are what an interval shows.
    let nanos = scale(interval.nanoseconds as f64) + days.fract() * DAY_NS;
    let nanos = (nanos / 1_000.0).round() * 1_000.0;
    let within = |value: f64, most: f64| value.is_finite() && value.abs() <= most;
    if !within(months, f64::from(i32::MAX)) || !within(days, f64::from(i32::MAX)) || !within(nanos, i64::MAX as f64) {
        return Err(invalid("interval out of range"));
    }
    Ok(IntervalMonthDayNano::new(months.trunc() as i32, days.trunc() as i32, nanos as i64))
}
