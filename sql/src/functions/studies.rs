//! Studies of a series: what can be told of its points, as an aggregate over them and as a table function over a relation.
//!
//! Rows may come in any order. Rows without a time are left out, the values of equal times are averaged, null and NaN values are
//! missing. All groups that an aggregate ends together share one kernel call.
//!
//! **Invariant:** a series' study depends on its own points and on the arguments, not on the series beside it.

mod anomalies;
mod change_points;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, TypeSignature, Volatility,
};
use juno_kernels::Device;

use super::collecting::{Collecting, Finish};
use super::histogram::constant;
use super::points::{Point, points_type, read};
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};
use crate::types::timestamptz;

/// What is told of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Study {
    Anomalies,
    ChangePoints,
}

impl Study {
    /// The name that SQL knows both forms by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anomalies => "anomalies",
            Self::ChangePoints => "change_points",
        }
    }

    /// The arguments after time and value: constant numbers that may be left out.
    pub(super) fn constants(self) -> &'static [&'static str] {
        match self {
            Self::Anomalies => &["warm_up", "false_alarms"],
            Self::ChangePoints => &["penalty", "least"],
        }
    }

    /// The columns of a row of the result.
    pub(super) fn fields(self) -> Fields {
        match self {
            Self::Anomalies => anomalies::fields(),
            Self::ChangePoints => change_points::fields(),
        }
    }

    fn check(self, constants: &[Option<f64>]) -> Result<()> {
        match self {
            Self::Anomalies => anomalies::Asked::of(constants).map(|_| ()),
            Self::ChangePoints => change_points::params(constants).map(|_| ()),
        }
    }

    fn run(self, device: &Device, batch: &Batch, constants: &[Option<f64>]) -> Result<Rows> {
        match self {
            Self::Anomalies => anomalies::run(device, batch, constants),
            Self::ChangePoints => change_points::run(device, batch, constants),
        }
    }

    fn list_type(self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Struct(self.fields()), true)))
    }
}

/// The aggregate of a study, such as `SELECT host, anomalies(time, usage) FROM cpu GROUP BY host`.
///
/// Gives a list of the study's rows; `unnest` makes rows of it. Immutable.
pub(super) fn aggregate(study: Study, device: &Device) -> AggregateUDF {
    let names = ["time", "value"].iter().chain(study.constants()).map(ToString::to_string).collect::<Vec<_>>();
    let signature = (2..=names.len()).map(TypeSignature::Any).collect();
    let signature = Signature::one_of(signature, Volatility::Immutable)
        .with_parameter_names(names)
        .expect("as many names as there are arguments at most");
    AggregateUDF::new_from_impl(Aggregate { study, device: device.clone(), signature })
}

struct Aggregate {
    study: Study,
    device: Device,
    signature: Signature,
}

impl Aggregate {
    fn begin(&self, args: &AccumulatorArgs) -> Result<Work> {
        let constants = (2..args.exprs.len()).map(|index| constant(args, index)).collect::<Result<Vec<_>>>()?;
        self.study.check(&constants)?;
        Ok(Work { study: self.study, constants, device: self.device.clone() })
    }
}

impl std::fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregate").field("study", &self.study).field("device", &self.device.kind()).finish()
    }
}

impl PartialEq for Aggregate {
    fn eq(&self, other: &Self) -> bool {
        self.study == other.study
    }
}

impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.study.hash(state);
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.study.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let name = self.name();
        let [time, value, ..] = types else { return Err(invalid(format!("{name} takes time and value"))) };
        if !matches!(time, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
            return Err(mismatch(format!("argument time of {name} must be a timestamp, not {}", name_of(time))));
        }
        if !value.is_numeric() && !value.is_null() {
            return Err(mismatch(format!("argument value of {name} must be a number, not {}", name_of(value))));
        }
        Ok(self.study.list_type())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Collecting::one(self.begin(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "points"), points_type(), true))])
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Collecting::groups(self.begin(&args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// What is to be made of points.
#[derive(Debug)]
struct Work {
    study: Study,
    constants: Vec<Option<f64>>,
    device: Device,
}

impl Finish for Work {
    fn finish(&mut self, points: ListArray) -> Result<ArrayRef> {
        let batch = Batch::of(&points);
        let rows = self.study.run(&self.device, &batch, &self.constants)?;
        let columns =
            std::iter::once(Arc::new(TimestampMicrosecondArray::from(rows.times).with_timezone("+00:00")) as ArrayRef)
                .chain(rows.columns)
                .collect();
        let fields = self.study.fields();
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
        let rows_of_series = OffsetBuffer::from_lengths(rows.lengths);
        let rows = Arc::new(StructArray::try_new(fields, columns, None)?);
        Ok(Arc::new(ListArray::try_new(item, rows_of_series, rows, None)?))
    }
}

/// Series in time order, each time once.
#[derive(Default)]
struct Batch {
    times_us: Vec<i64>,
    values: Vec<f64>,
    offsets: Vec<usize>,
}

impl Batch {
    fn of(lists: &ListArray) -> Self {
        let mut batch = Self { offsets: vec![0], ..Self::default() };
        let mut points: Vec<Point> = Vec::new();
        for row in 0..lists.len() {
            points.clear();
            read(lists, row, &mut points);
            points.sort_by_key(|point| point.0);
            for same in points.chunk_by(|a, b| a.0 == b.0) {
                let known = same.iter().map(|point| point.1).filter(|value| !value.is_nan());
                let (count, sum) = known.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
                batch.times_us.push(same[0].0);
                batch.values.push(if count > 0.0 { sum / count } else { f64::NAN });
            }
            batch.offsets.push(batch.values.len());
        }
        batch
    }
}

/// Rows of a study: how many each series has, and their columns; times come first.
struct Rows {
    lengths: Vec<usize>,
    times: Vec<i64>,
    columns: Vec<ArrayRef>,
}

/// The column of times that every study has.
fn time_field() -> Field {
    Field::new("time", timestamptz(), true)
}

/// A column of numbers.
fn number_field(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}
