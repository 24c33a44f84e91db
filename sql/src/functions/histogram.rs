//! `histogram(value, min, max, buckets)`: how many values fall into each of equally wide buckets, as in TimescaleDB.
//!
//! **Invariant:** the first count is of the values below `min`, the last of those at `max` and above; nulls and NaN count nowhere.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility};

use crate::functions::refusal::invalid;
use crate::functions::width_bucket::{bucket, numbers};

/// The most buckets of a histogram.
const BUCKETS_MAX: i32 = 100_000;

/// `SELECT host, histogram(usage_user, 0, 100, 10) FROM cpu GROUP BY host`: a list of `buckets` + 2 counts. Immutable.
pub(super) fn histogram() -> AggregateUDF {
    let signature = Signature::any(4, Volatility::Immutable)
        .with_parameter_names(vec!["value", "min", "max", "buckets"])
        .expect("four names for four arguments");
    AggregateUDF::new_from_impl(Histogram { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Histogram {
    signature: Signature,
}

fn counts_type() -> DataType {
    DataType::new_list(DataType::Int64, true)
}

impl AggregateUDFImpl for Histogram {
    fn name(&self) -> &str {
        "histogram"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        numbers("histogram", &["value", "min", "max", "buckets"], types)?;
        Ok(counts_type())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let number = |index| {
            constant(&args, index)?
                .ok_or_else(|| invalid("the arguments min, max and buckets of histogram must not be null"))
        };
        let (min, max, buckets) = (number(1)?, number(2)?, number(3)? as i32);
        if !(1..=BUCKETS_MAX).contains(&buckets) {
            return Err(invalid(format!("argument buckets of histogram must be 1 to {BUCKETS_MAX}, not {buckets}")));
        }
        if min >= max || !min.is_finite() || !max.is_finite() {
            return Err(invalid(format!("argument min of histogram must be below max, and {min} is not below {max}")));
        }
        Ok(Box::new(Counts { min, max, buckets, counts: vec![0; buckets as usize + 2] }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "counts"), counts_type(), true))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The number that a constant argument of an aggregate is; none where it is null.
pub(super) fn constant(args: &AccumulatorArgs, index: usize) -> Result<Option<f64>> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let wrong = || invalid(format!("argument {} of {} must be a constant number", index + 1, args.name));
    match args.exprs[index].evaluate(&nothing).map_err(|_| wrong())? {
        ColumnarValue::Scalar(value) => match value.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(number) => Ok(number),
            _ => Err(wrong()),
        },
        ColumnarValue::Array(_) => Err(wrong()),
    }
}

/// The counts of one group.
#[derive(Debug)]
struct Counts {
    min: f64,
    max: f64,
    buckets: i32,
    counts: Vec<i64>,
}

impl Counts {
    fn add(&mut self, values: &ArrayRef, by: i64) -> Result<()> {
        let values = cast(values, &DataType::Float64)?;
        for value in values.as_primitive::<Float64Type>().iter().flatten().filter(|value| !value.is_nan()) {
            self.counts[bucket(value, self.min, self.max, self.buckets)? as usize] += by;
        }
        Ok(())
    }

    fn list(&self) -> ScalarValue {
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        let values = Arc::new(Int64Array::from(self.counts.clone()));
        ScalarValue::List(Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([self.counts.len()]), values, None)))
    }
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.list())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.list()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for counts in lists.iter().flatten() {
            for (count, more) in self.counts.iter_mut().zip(counts.as_primitive::<Int64Type>().values()) {
                *count += more;
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.counts.capacity() * size_of::<i64>()
    }
}
