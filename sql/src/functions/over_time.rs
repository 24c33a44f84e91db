//! Aggregates over the points of a series in time order: `rate`, `increase`, `delta`, `irate`, `resets` and
//! `time_weighted_avg`.
//!
//! Rows may come in any order. Rows without a time, without a value or with NaN are left out. As window functions the
//! aggregates take sliding frames: `rate(value, time) OVER (… RANGE BETWEEN '5 minutes' PRECEDING AND CURRENT ROW)`.
//!
//! **Invariant:** what a series' points are worth is decided in `measure`; here they are only collected and ordered.

mod measure;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use self::measure::{delta, increase, irate, rate, resets, time_weighted_avg};
use super::collecting::{Collecting, Finish};
use super::points::{Point, list, points_of_rows, points_type, read};
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};

/// What a series' points come to; they are in time order and hold no NaN.
type Measure = fn(&[Point]) -> Option<f64>;

/// `SELECT host, rate(packets, time) FROM net GROUP BY host`: DOUBLE PRECISION, null where there are too few points. Immutable.
pub(super) fn all() -> [AggregateUDF; 6] {
    let named: [(&'static str, Measure); 6] = [
        ("rate", rate),
        ("increase", increase),
        ("delta", delta),
        ("irate", irate),
        ("resets", resets),
        ("time_weighted_avg", time_weighted_avg),
    ];
    named.map(|(name, measure)| {
        let signature = Signature::any(2, Volatility::Immutable)
            .with_parameter_names(vec!["value", "time"])
            .expect("two names for two arguments");
        AggregateUDF::new_from_impl(OverTime { name, measure: Measured(measure), signature })
    })
}

/// A measure that two functions of one name share.
#[derive(Clone, Copy)]
struct Measured(Measure);

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measured")
    }
}

#[derive(Debug)]
struct OverTime {
    name: &'static str,
    measure: Measured,
    signature: Signature,
}

impl PartialEq for OverTime {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for OverTime {}

impl std::hash::Hash for OverTime {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for OverTime {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [value, time] = types else {
            return Err(invalid(format!("{} takes a value and a time", self.name)));
        };
        if !value.is_numeric() && !value.is_null() {
            return Err(mismatch(format!("argument value of {} must be a number, not {}", self.name, name_of(value))));
        }
        if !matches!(time, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null) {
            return Err(mismatch(format!("argument time of {} must be a timestamp, not {}", self.name, name_of(time))));
        }
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Frame { measure: self.measure, rows: VecDeque::new() }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "points"), points_type(), true))])
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Collecting::groups(self.measure)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

impl Measured {
    /// What the points come to, put in order first.
    fn of(self, points: &mut Vec<Point>) -> Option<f64> {
        points.retain(|point| !point.1.is_nan());
        if !points.is_sorted_by_key(|point| point.0) {
            points.sort_by_key(|point| point.0);
        }
        (self.0)(points)
    }
}

impl Finish for Measured {
    const TIME_AND_VALUE: [usize; 2] = [1, 0];

    fn finish(&mut self, lists: ListArray) -> Result<ArrayRef> {
        let mut points = Vec::new();
        let measured = (0..lists.len()).map(|row| {
            points.clear();
            read(&lists, row, &mut points);
            self.of(&mut points)
        });
        Ok(Arc::new(measured.collect::<Float64Array>()))
    }
}

/// The points of one group, or of a window frame that rows leave in the order in which they came.
#[derive(Debug)]
struct Frame {
    measure: Measured,
    /// One per row; NaN where the row counts for nothing.
    rows: VecDeque<Point>,
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.extend(points_of_rows(&values[1], &values[0])?);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.drain(..values[0].len().min(self.rows.len()));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.measure.of(&mut self.rows.iter().copied().collect())))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::List(Arc::new(list(self.rows.make_contiguous())))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        let mut points = Vec::new();
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            read(lists, row, &mut points);
        }
        self.rows.extend(points);
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.capacity() * size_of::<Point>()
    }
}
