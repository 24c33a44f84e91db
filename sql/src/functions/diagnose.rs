//! `diagnose`: what made an incident, ranked with evidence and probability.
//!
//! `SELECT * FROM diagnose('metrics', 'value', service => 'service', metric => 'metric', since => '2026-01-02 10:00', calls =>
//! 'calls', symptom_service => 'shop', symptom_metric => 'latency')`. Rows before `since` are normal, those from it to before
//! `until` (default: the end) the incident. `value` may name several columns where `metric` is left out: each is a metric of its
//! name. `calls` is a relation with the columns `caller` and `callee`. Gives `rank`, `service`, `metric`, `score`, `probability`,
//! the means `before` and `during`, `deviation` and `correlation` with the symptom. The method is the kernel `explain_away`.
//!
//! The aggregate behind it takes the columns of [`COLUMNS`], since, until and the symptom; rows with a callee are calls.
//!
//! **Invariant:** the order of rows does not matter: metrics are ranked in the order of their names where scores are equal.

mod incident;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue, resources_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, TypeSignature, Volatility,
};
use juno_kernels::Device;

use self::incident::{Found, Incident, Window};
use crate::functions::refusal::{invalid, mismatch};

/// The name that SQL knows it by.
pub(super) const NAME: &str = "diagnose";
/// The arguments of the table function, in the order that they have without names.
pub(super) const ARGUMENTS: [&str; 10] =
    ["relation", "value", "service", "metric", "since", "until", "calls", "symptom_service", "symptom_metric", "time"];
/// The columns that the aggregate takes first.
pub(super) const COLUMNS: [&str; 5] = ["time", "service", "metric", "value", "callee"];
/// The most rows of one incident: 8 GiB of them.
const ROWS_MAX: usize = 1 << 28;

/// The columns of a row of the result.
pub(super) fn fields() -> Fields {
    let (number, text) =
        (|name| Field::new(name, DataType::Float64, true), |name| Field::new(name, DataType::Utf8, true));
    vec![
        Field::new("rank", DataType::Int64, true),
        text("service"),
        text("metric"),
        number("score"),
        number("probability"),
        number("before"),
        number("during"),
        number("deviation"),
        number("correlation"),
    ]
    .into()
}

/// The aggregate. Gives a list of causes. Immutable.
pub(super) fn aggregate(device: &Device) -> AggregateUDF {
    let signature = Signature::one_of(vec![TypeSignature::Any(9)], Volatility::Immutable);
    AggregateUDF::new_from_impl(Diagnose { device: device.clone(), signature })
}

struct Diagnose {
    device: Device,
    signature: Signature,
}

impl std::fmt::Debug for Diagnose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diagnose").field("device", &self.device.kind()).finish()
    }
}

impl PartialEq for Diagnose {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for Diagnose {}

impl Hash for Diagnose {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

fn list_type(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true)))
}

/// The rows taken in so far, as another accumulator takes them.
fn row_fields() -> Fields {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let [time, service, metric, value, callee] = COLUMNS;
    let time = Field::new(time, DataType::Timestamp(TimeUnit::Microsecond, None), true);
    vec![time, text(service), text(metric), Field::new(value, DataType::Float64, true), text(callee)].into()
}

impl AggregateUDFImpl for Diagnose {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Timestamp(..), DataType::Utf8, DataType::Utf8, DataType::Float64, DataType::Utf8, ..] => {
                Ok(list_type(fields()))
            }
            _ => Err(mismatch("diagnose is a table function: SELECT * FROM diagnose('metrics', 'value', …)")),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let constant = |index: usize| constant(&args, index);
        let time = |index, name| match constant(index)? {
            ScalarValue::TimestampMicrosecond(time, _) => Ok(time),
            _ => Err(invalid(format!("argument {name} of diagnose must be a time"))),
        };
        let text = |index: usize, name| match constant(index)? {
            ScalarValue::Utf8(text) => Ok(text),
            _ => Err(invalid(format!("argument {name} of diagnose must be a text"))),
        };
        let since = time(5, "since")?.ok_or_else(|| invalid("argument since of diagnose must be a time, not null"))?;
        let until = time(6, "until")?.unwrap_or(i64::MAX);
        if until <= since {
            return Err(invalid("diagnose needs an incident that ends after it began: until must be later than since"));
        }
        let symptom = match (text(7, "symptom_service")?, text(8, "symptom_metric")?) {
            (Some(service), Some(metric)) => Some((service, metric)),
            (None, None) => None,
            _ => return Err(invalid("diagnose needs both or neither of symptom_service and symptom_metric")),
        };
        let window = Window { since, until };
        Ok(Box::new(State { device: self.device.clone(), incident: Incident::new(window, symptom) }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "rows"), list_type(row_fields()), true))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn constant(args: &AccumulatorArgs, index: usize) -> Result<ScalarValue> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let wrong = || invalid("arguments since, until and symptom of diagnose must be constants");
    match args.exprs[index].evaluate(&nothing).map_err(|_| wrong())? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(_) => Err(wrong()),
    }
}

/// The rows of one incident.
#[derive(Debug)]
struct State {
    device: Device,
    incident: Incident,
}

impl State {
    fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let times = cast(&columns[0], &DataType::Timestamp(TimeUnit::Microsecond, zone(&columns[0])))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let (services, metrics) = (columns[1].as_string::<i32>(), columns[2].as_string::<i32>());
        let (values, callees) = (columns[3].as_primitive::<Float64Type>(), columns[4].as_string::<i32>());
        for row in (0..services.len()).filter(|row| services.is_valid(*row)) {
            if callees.is_valid(row) {
                self.incident.call(services.value(row), callees.value(row));
            } else if metrics.is_valid(row) && times.is_valid(row) && values.is_valid(row) {
                let point = (times.value(row), values.value(row));
                self.incident.point(services.value(row), metrics.value(row), point);
            }
        }
        if self.incident.points() > ROWS_MAX {
            return Err(resources_datafusion_err!(
                "diagnose takes at most {ROWS_MAX} rows: choose a shorter time before"
            ));
        }
        Ok(())
    }
}

fn zone(times: &ArrayRef) -> Option<Arc<str>> {
    match times.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

/// One list of so many rows.
fn list(fields: Fields, columns: Vec<ArrayRef>, rows: usize) -> Result<ScalarValue> {
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
    let rows = OffsetBuffer::from_lengths([rows]);
    let list = ListArray::try_new(item, rows, Arc::new(StructArray::try_new(fields, columns, None)?), None)?;
    Ok(ScalarValue::List(Arc::new(list)))
}

impl Accumulator for State {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.add(columns)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let causes = self.incident.causes(&self.device)?;
        let text = |of: fn(&Found) -> &str| Arc::new(StringArray::from_iter_values(causes.iter().map(of)));
        let number = |of: fn(&Found) -> f64| Arc::new(Float64Array::from_iter_values(causes.iter().map(of)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(1..=causes.len() as i64)),
            text(|found| &found.service),
            text(|found| &found.metric),
            number(|found| found.cause.score),
            number(|found| found.cause.probability),
            number(|found| found.cause.before),
            number(|found| found.cause.during),
            number(|found| found.cause.deviation),
            number(|found| found.cause.correlation),
        ];
        list(fields(), columns, causes.len())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (columns, rows) = self.incident.columns();
        Ok(vec![list(row_fields(), columns, rows)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        lists.iter().flatten().try_for_each(|rows| self.add(rows.as_struct().columns()))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.incident.size_bytes()
    }
}
