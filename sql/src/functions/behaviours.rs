//! Behaviours of attackers told from events: `SELECT * FROM beaconing('events')` and its like, a file each.
//!
//! A behaviour is described by what it takes and what it tells ([`Behaviour`]); planning is in `table`, the rows on their way to a
//! kernel in `events`, the rows of the result in `told`. The aggregate behind each takes its columns, then its constants.
//!
//! **Invariant:** the order of rows does not matter: events are sorted by time and their own values before a kernel sees them.

mod beaconing;
mod brute_force;
mod dns_tunnelling;
mod events;
mod exfiltration;
mod impossible_travel;
mod lateral_movement;
mod password_spray;
mod rare_process;
mod table;
mod told;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, TypeSignature, Volatility,
};
use juno_kernels::Device;

use self::events::Events;
use self::told::{Told, list_type};
use crate::functions::launches;
use crate::functions::refusal::{invalid, mismatch};

pub(super) use self::table::plan;

/// All of them.
const ALL: [&Behaviour; 8] = [
    &beaconing::BEHAVIOUR,
    &brute_force::BEHAVIOUR,
    &dns_tunnelling::BEHAVIOUR,
    &exfiltration::BEHAVIOUR,
    &impossible_travel::BEHAVIOUR,
    &lateral_movement::BEHAVIOUR,
    &password_spray::BEHAVIOUR,
    &rare_process::BEHAVIOUR,
];
const DAY_S: f64 = 86_400.0;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Time,
    Text,
    Number,
}

/// A column of the events.
#[derive(Debug)]
struct Column {
    /// The argument that names it.
    name: &'static str,
    /// What it is called where no argument names it, best first.
    known_as: &'static [&'static str],
    kind: Kind,
    needed: bool,
}

/// What a constant argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// An interval, in seconds; not negative.
    Span,
    Number,
    /// A whole number that is not negative.
    Whole,
}

/// A constant argument.
#[derive(Debug)]
struct Constant {
    name: &'static str,
    unit: Unit,
    default: f64,
}

/// What a behaviour does with the events and its numbers.
type Run = fn(&Device, &Events, &[f64]) -> Result<Vec<Told>, juno_kernels::Error>;

/// What a behaviour takes and what it tells.
#[derive(Debug)]
pub(super) struct Behaviour {
    name: &'static str,
    /// The first is the time, those that are needed come before the others.
    columns: &'static [Column],
    /// Columns of which one group at least must be there.
    either: &'static [&'static [&'static str]],
    constants: &'static [Constant],
    /// The columns of text that its rows begin with.
    entities: &'static [&'static str],
    run: Run,
}

impl Behaviour {
    /// The name that SQL knows it by.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// The behaviours that SQL knows.
pub(super) fn all() -> impl Iterator<Item = &'static Behaviour> {
    ALL.into_iter()
}

const fn needed(name: &'static str, kind: Kind, known_as: &'static [&'static str]) -> Column {
    Column { name, known_as, kind, needed: true }
}

const fn optional(name: &'static str, kind: Kind, known_as: &'static [&'static str]) -> Column {
    Column { name, known_as, kind, needed: false }
}

const TIME: Column = needed("time", Kind::Time, &["time"]);

/// A number that counts, as a kernel takes it.
fn whole(number: f64) -> u32 {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "checked when it was read; saturates")]
    let whole = number as u32;
    whole
}

/// The aggregate of a behaviour. Gives a list of what it tells. Immutable.
fn aggregate(behaviour: &'static Behaviour, device: &Device) -> AggregateUDF {
    let arguments = behaviour.columns.len() + behaviour.constants.len();
    let signature = Signature::one_of(vec![TypeSignature::Any(arguments)], Volatility::Immutable);
    AggregateUDF::new_from_impl(Aggregate { behaviour, device: device.clone(), signature })
}

struct Aggregate {
    behaviour: &'static Behaviour,
    device: Device,
    signature: Signature,
}

impl std::fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregate")
            .field("behaviour", &self.behaviour.name)
            .field("device", &self.device.kind())
            .finish()
    }
}

impl PartialEq for Aggregate {
    fn eq(&self, other: &Self) -> bool {
        self.behaviour.name == other.behaviour.name
    }
}

impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.behaviour.name.hash(state);
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.behaviour.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let fits = |(column, given): (&Column, &DataType)| match column.kind {
            Kind::Time => matches!(given, DataType::Timestamp(..)),
            Kind::Text => *given == DataType::Utf8,
            Kind::Number => *given == DataType::Float64,
        };
        if self.behaviour.columns.iter().zip(types).all(fits) {
            return Ok(list_type(self.behaviour));
        }
        let name = self.behaviour.name;
        Err(mismatch(format!("{name} is a table function: SELECT * FROM {name}('events')")))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let first = self.behaviour.columns.len();
        let constants = self.behaviour.constants.iter().enumerate();
        let constants = constants.map(|(index, constant)| {
            let argument = format!("{} of {}", constant.name, self.behaviour.name);
            read(constant, &argument, &evaluated(&args, first + index, &argument)?)
        });
        let constants = constants.collect::<Result<Vec<_>>>()?;
        let events = Events::new(self.behaviour);
        Ok(Box::new(State { behaviour: self.behaviour, device: self.device.clone(), constants, events }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let rows = Events::list_type(self.behaviour);
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "events"), rows, true))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn evaluated(args: &AccumulatorArgs, index: usize, argument: &str) -> Result<ScalarValue> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let wrong = || invalid(format!("argument {argument} must be a constant"));
    match args.exprs[index].evaluate(&nothing).map_err(|_| wrong())? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(_) => Err(wrong()),
    }
}

/// The number that a constant is; its default where it was left out.
fn read(constant: &Constant, argument: &str, value: &ScalarValue) -> Result<f64> {
    if *value == ScalarValue::Null {
        return Ok(constant.default);
    }
    let what = match constant.unit {
        Unit::Span => "an interval like '1 hour', not negative",
        Unit::Number => "a number",
        Unit::Whole => "a whole number of 0 to 4294967295",
    };
    let wrong = || invalid(format!("argument {argument} must be {what}, not {value}"));
    if constant.unit == Unit::Span {
        let span = match value.try_as_str().flatten() {
            Some(text) => parse_interval_month_day_nano(text).map_err(|_| wrong())?,
            None => match value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)).map_err(|_| wrong())? {
                ScalarValue::IntervalMonthDayNano(Some(span)) if !value.data_type().is_numeric() => span,
                _ => return Err(wrong()),
            },
        };
        let days = f64::from(span.months) * 30.0 + f64::from(span.days);
        let seconds = days * DAY_S + span.nanoseconds as f64 / 1e9;
        return if seconds >= 0.0 { Ok(seconds) } else { Err(wrong()) };
    }
    let number = match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(number))) if value.data_type().is_numeric() => number,
        _ => return Err(wrong()),
    };
    let fits =
        constant.unit == Unit::Number || (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number));
    if fits && number.is_finite() { Ok(number) } else { Err(wrong()) }
}

/// The events of one call.
#[derive(Debug)]
struct State {
    behaviour: &'static Behaviour,
    device: Device,
    constants: Vec<f64>,
    events: Events,
}

impl Accumulator for State {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.events.add(&columns[..self.behaviour.columns.len()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let name = self.behaviour.name;
        self.events.sort();
        let told = (self.behaviour.run)(&self.device, &self.events, &self.constants);
        let told = told.map_err(|error| invalid(format!("{name}: {error}")))?;
        launches::count(1, 1);
        told::list(self.behaviour, told)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.events.list()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        lists.iter().flatten().try_for_each(|rows| self.events.add(rows.as_struct().columns()))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.events.size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_names_are_told_apart() {
        for behaviour in all() {
            assert_eq!(behaviour.columns[0].name, "time");
            assert!(behaviour.columns.is_sorted_by_key(|column| !column.needed), "{}", behaviour.name);
            let columns = behaviour.columns.iter().map(|column| column.name);
            let mut names: Vec<_> = columns.chain(behaviour.constants.iter().map(|constant| constant.name)).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", behaviour.name);
        }
    }

    #[test]
    fn constants_are_spans_and_numbers() {
        let of = |unit, value: ScalarValue| {
            let constant = Constant { name: "window", unit, default: 7.0 };
            read(&constant, "window of test", &value).map_err(|error| crate::Error::from(error).to_string())
        };
        assert_eq!(of(Unit::Span, ScalarValue::from("90 minutes")), Ok(5_400.0));
        assert_eq!(of(Unit::Span, ScalarValue::Null), Ok(7.0));
        assert_eq!(of(Unit::Number, ScalarValue::from(2.5)), Ok(2.5));
        assert_eq!(of(Unit::Whole, ScalarValue::from(3i64)), Ok(3.0));
        for (unit, value) in [
            (Unit::Span, ScalarValue::from(60i64)),
            (Unit::Span, ScalarValue::from("soon")),
            (Unit::Span, ScalarValue::from("-1 hour")),
            (Unit::Whole, ScalarValue::from(2.5)),
            (Unit::Whole, ScalarValue::from(-1i64)),
            (Unit::Number, ScalarValue::from("two")),
            (Unit::Number, ScalarValue::from(f64::NAN)),
        ] {
            let refused = of(unit, value.clone()).expect_err("refused");
            assert!(refused.starts_with("argument window of test must be a"), "{refused} for {value}");
        }
    }
}
