//! `locf` and `interpolate`: values for the rows of a series that have none.
//!
//! In a query that groups by `time_bucket_gapfill`, `locf(avg(v))` and `interpolate(avg(v))` stand for these window functions
//! over the other groups in time order; see `gapfill`.
//!
//! **Invariant:** a value that is there is never changed; nothing is made up before the first value of a series.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, TypeSignature, Volatility, WindowUDF, WindowUDFImpl};

use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::mismatch;

/// `SELECT time, locf(usage_user) OVER (PARTITION BY host ORDER BY time) FROM cpu`: the last value that was there, of any type;
/// null before the first. Immutable.
pub(super) fn locf() -> WindowUDF {
    WindowUDF::new_from_impl(Fill { how: How::Locf, signature: Signature::any(1, Volatility::Immutable) })
}

/// `SELECT time, interpolate(usage_user, time) OVER (PARTITION BY host ORDER BY time) FROM cpu`: DOUBLE PRECISION, on the line
/// between the values around; null before the first and after the last. Immutable.
pub(super) fn interpolate() -> WindowUDF {
    let signature = Signature::one_of(vec![TypeSignature::Any(1), TypeSignature::Any(2)], Volatility::Immutable);
    WindowUDF::new_from_impl(Fill { how: How::Interpolate, signature })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum How {
    Locf,
    Interpolate,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Fill {
    how: How,
    signature: Signature,
}

impl Fill {
    /// Whether the function needs the time as its second argument.
    pub(super) fn takes_time(&self) -> bool {
        self.how == How::Interpolate
    }
}

impl WindowUDFImpl for Fill {
    fn name(&self) -> &str {
        match self.how {
            How::Locf => "locf",
            How::Interpolate => "interpolate",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator(self.how)))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let fields = args.input_fields();
        if self.how == How::Locf {
            return Ok(Arc::new(fields[0].as_ref().clone().with_name(args.name()).with_nullable(true)));
        }
        let (value, time) = (fields[0].data_type(), fields.get(1).map(|time| time.data_type()));
        if !value.is_numeric() && !value.is_null() {
            return Err(mismatch(format!("argument value of interpolate must be a number, not {}", name_of(value))));
        }
        if let Some(time) = time
            && !matches!(time, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
        {
            return Err(mismatch(format!("argument time of interpolate must be a timestamp, not {}", name_of(time))));
        }
        Ok(Arc::new(Field::new(args.name(), DataType::Float64, true)))
    }
}

/// Fills one series.
#[derive(Debug)]
struct Evaluator(How);

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        match (self.0, values) {
            (How::Locf, [values, ..]) => carried(values),
            (How::Interpolate, [values, times]) => interpolated(values, times),
            _ => Err(mismatch(
                "interpolate needs the time: write interpolate(value, time) OVER (PARTITION BY … ORDER BY time), \
                 or group by time_bucket_gapfill",
            )),
        }
    }
}

fn carried(values: &ArrayRef) -> Result<ArrayRef> {
    if values.null_count() == 0 {
        return Ok(Arc::clone(values));
    }
    let mut last = None;
    let rows = (0..values.len()).map(|row| {
        if values.is_valid(row) {
            last = Some(row as u64);
        }
        last
    });
    Ok(take(values, &rows.collect::<UInt64Array>(), None)?)
}

fn interpolated(values: &ArrayRef, times: &ArrayRef) -> Result<ArrayRef> {
    let zone = match times.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let values = cast(values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let mut filled: Vec<Option<f64>> = values.iter().collect();
    let known: Vec<usize> = (0..values.len()).filter(|row| values.is_valid(*row) && times.is_valid(*row)).collect();
    for pair in known.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let width = (times.value(to) - times.value(from)) as f64;
        for row in (from + 1..to).filter(|row| times.is_valid(*row) && width != 0.0) {
            let share = (times.value(row) - times.value(from)) as f64 / width;
            filled[row] = Some(values.value(from) + (values.value(to) - values.value(from)) * share);
        }
    }
    Ok(Arc::new(Float64Array::from(filled)))
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;

    use super::*;

    fn column(values: &[Option<f64>]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    #[test]
    fn the_last_value_is_carried_forward_and_never_backward() {
        let filled = carried(&column(&[None, Some(1.0), None, None, Some(4.0), None])).expect("fills");
        assert_eq!(&filled, &column(&[None, Some(1.0), Some(1.0), Some(1.0), Some(4.0), Some(4.0)]));
    }

    #[test]
    fn a_line_is_drawn_by_time_and_not_by_row() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 10, 20, 50, 60]));
        let filled = interpolated(&column(&[None, Some(1.0), None, Some(5.0), None]), &times).expect("fills");
        assert_eq!(&filled, &column(&[None, Some(1.0), Some(2.0), Some(5.0), None]));
    }
}
