//! Brings a batch of any origin into the shape of telemetry: a time, tags, and fields of float, integer, boolean or text.
//!
//! Narrow numbers widen (f32, decimals to f64; all integers to i64, u64 stays). Times of any unit become microseconds, rounded
//! down; times without a zone are UTC. NaN becomes null. A table that is new takes as tags what the caller names, and where the
//! caller names none, every text column: two rows of one time would else overwrite each other. A table that exists keeps its own.
//!
//! **Invariant:** pure; a batch is shaped whole or refused with the column, and where it matters the row, named.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampNanosecondType};
use juno_sql::Incoming;

use super::known::Known;
use super::precision::{Precision, TIME_US_MAX, TIME_US_MIN};
use super::refusal::Refusal;

/// The longest name of a table or a column.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// The most columns of a table that ingest makes.
pub(crate) const COLUMNS_MAX: usize = 1024;
/// The time column of a table that line protocol makes.
pub(crate) const TIME_NAME: &str = "time";
/// Names that a time column has where the caller does not say.
const TIME_NAMES: &[&str] = &["time", "timestamp", "ts", "_time", "datetime", "date"];

/// What the caller says about the rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) table: String,
    pub(crate) time: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
    /// The unit of integer times.
    pub(crate) precision: Option<Precision>,
}

/// `a,b` as names; the empty text is no name.
pub(crate) fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Shapes one batch; `rows_before` counts the rows of the batches before it, for messages.
pub(crate) fn shape(
    batch: &RecordBatch,
    rows_before: usize,
    wanted: &Wanted,
    known: Option<&Known>,
) -> Result<Incoming, Refusal> {
    let schema = batch.schema();
    if schema.fields().len() > COLUMNS_MAX {
        return unfit(format!("a table may have {COLUMNS_MAX} columns, this has {}", schema.fields().len()));
    }
    let time = time_column(&schema, wanted, known)?;
    let tags = tag_columns(&schema, &time, wanted, known)?;
    let time_name = known.and_then(|known| known.time.clone()).unwrap_or_else(|| time.clone());
    let mut fields = vec![];
    let mut columns: Vec<ArrayRef> = vec![];
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let name = field.name();
        if *name == time {
            let times = times(array, name, wanted.precision, rows_before)?;
            fields.push(Field::new(&time_name, times.data_type().clone(), false));
            columns.push(times);
            continue;
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with("__") || *name == time_name {
            return unfit(format!("a column cannot be named \"{name}\""));
        }
        let Some(kind) = target(name, array.data_type(), tags.contains(name), known)? else {
            continue;
        };
        let array = convert(array, name, &kind, rows_before)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        columns.push(array);
    }
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    let rows = rows.map_err(|error| Refusal::Unstorable(format!("the columns do not fit together: {error}")))?;
    Ok(Incoming { table: wanted.table.clone(), rows, time: time_name, tags })
}

/// The column that holds the time.
pub(crate) fn time_column(schema: &Schema, wanted: &Wanted, known: Option<&Known>) -> Result<String, Refusal> {
    let has = |name: &str| schema.column_with_name(name).is_some();
    if let Some(Known { time: None, name, .. }) = known {
        return unfit(format!("table \"{name}\" has a primary key and no time column; write to it by SQL"));
    }
    if let Some(name) = &wanted.time {
        return if has(name) {
            Ok(name.clone())
        } else {
            unfit(format!("there is no column \"{name}\" to take the time from; columns are {}", listed(schema)))
        };
    }
    if let Some(name) = known.and_then(|known| known.time.as_ref()).filter(|name| has(name)) {
        return Ok(name.clone());
    }
    let named = schema.fields().iter().find(|field| TIME_NAMES.contains(&field.name().to_lowercase().as_str()));
    let mut typed = schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::Timestamp(_, _)));
    match (named, typed.next(), typed.next()) {
        (Some(field), _, _) | (None, Some(field), None) => Ok(field.name().clone()),
        _ => unfit(format!("say which column is the time (time=NAME); columns are {}", listed(schema))),
    }
}

/// The columns that are tags.
pub(crate) fn tag_columns(
    schema: &Schema,
    time: &str,
    wanted: &Wanted,
    known: Option<&Known>,
) -> Result<Vec<String>, Refusal> {
    let has = |name: &String| schema.column_with_name(name).is_some();
    if let Some(missing) = wanted.tags.iter().flatten().find(|name| !has(name)) {
        return unfit(format!("there is no column \"{missing}\" to be a tag; columns are {}", listed(schema)));
    }
    if let Some(known) = known {
        if let Some(other) = wanted.tags.iter().flatten().find(|name| known.fields.contains_key(*name)) {
            let tags = known.tags.join(", ");
            return unfit(format!("\"{other}\" is a field of table \"{}\", whose tags are ({tags})", known.name));
        }
        let new = wanted.tags.iter().flatten().filter(|name| !known.tags.contains(name));
        return Ok(known.tags.iter().filter(|name| has(name)).chain(new).cloned().collect());
    }
    let texts = schema.fields().iter().filter(|field| field.name() != time && is_text(field.data_type()));
    Ok(match &wanted.tags {
        Some(tags) => tags.clone(),
        None => texts.map(|field| field.name().clone()).collect(),
    })
}

/// The type that a column is stored as; None for a column without a single value that the table does not have.
fn target(name: &str, given: &DataType, tag: bool, known: Option<&Known>) -> Result<Option<DataType>, Refusal> {
    let dictionary = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let natural = match given {
        DataType::Null => None,
        _ if tag && is_scalar(given) => Some(dictionary()),
        DataType::Boolean => Some(DataType::Boolean),
        DataType::UInt64 => Some(DataType::UInt64),
        integer if integer.is_integer() => Some(DataType::Int64),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => Some(DataType::Float64),
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => Some(utc()),
        text if is_text(text) => Some(DataType::Utf8),
        other => {
            return unfit(format!(
                "column \"{name}\" is {other}: telemetry columns are floats, integers, booleans and text; flatten or drop it"
            ));
        }
    };
    let Some(wanted) = known.and_then(|known| known.fields.get(name)) else {
        return Ok(natural);
    };
    let widens = |from: &DataType| from == wanted || (from.is_integer() && wanted.is_numeric());
    match natural {
        None => Ok(Some(wanted.clone())),
        Some(from) if widens(&from) => Ok(Some(wanted.clone())),
        Some(_) => unfit(format!("column \"{name}\" is {wanted} in the table and {given} here")),
    }
}

fn convert(array: &ArrayRef, name: &str, kind: &DataType, rows_before: usize) -> Result<ArrayRef, Refusal> {
    let refuse = |error| Refusal::Unstorable(format!("column \"{name}\" does not convert to {kind}: {error}"));
    if array.data_type() == kind && !matches!(kind, DataType::Float64) {
        return Ok(Arc::clone(array));
    }
    if let DataType::Dictionary(_, _) = kind {
        // Through plain text, so that any scalar can be a tag.
        return cast(&cast(array, &DataType::Utf8).map_err(refuse)?, kind).map_err(refuse);
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let array = cast_with_options(array, kind, &strict).map_err(refuse)?;
    match kind {
        DataType::Float64 => finite(array.as_primitive::<Float64Type>(), name, rows_before),
        _ => Ok(array),
    }
}

fn finite(array: &Float64Array, name: &str, rows_before: usize) -> Result<ArrayRef, Refusal> {
    if let Some(row) = array.iter().position(|value| value.is_some_and(f64::is_infinite)) {
        return unfit(format!("column \"{name}\" is infinite in row {}", rows_before + row + 1));
    }
    if array.values().iter().any(|value| value.is_nan()) {
        return Ok(Arc::new(array.iter().map(|value| value.filter(|value| !value.is_nan())).collect::<Float64Array>()));
    }
    Ok(Arc::new(array.clone()))
}

/// Times as microseconds, UTC.
fn times(array: &ArrayRef, name: &str, precision: Option<Precision>, rows_before: usize) -> Result<ArrayRef, Refusal> {
    let refuse = |error| Refusal::Unstorable(format!("column \"{name}\" is no time: {error}"));
    let times: ArrayRef = match array.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = array.as_primitive::<TimestampNanosecondType>();
            Arc::new(nanos.unary::<_, arrow::datatypes::TimestampMicrosecondType>(|ns| ns.div_euclid(1000)))
        }
        integer if integer.is_integer() => {
            let Some(precision) = precision else {
                return unfit(format!(
                    "column \"{name}\" holds integers: say their unit (precision={})",
                    Precision::NAMES
                ));
            };
            let counts = cast(array, &DataType::Int64).map_err(refuse)?;
            let counts = counts.as_primitive::<Int64Type>();
            let micros = counts.iter().map(|count| precision.to_us(count?));
            Arc::new(micros.collect::<TimestampMicrosecondArray>())
        }
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => cast(array, &utc()).map_err(refuse)?,
        text if is_text(text) => cast(&cast(array, &DataType::Utf8).map_err(refuse)?, &utc()).map_err(refuse)?,
        other => return unfit(format!("column \"{name}\" is {other}, not a time")),
    };
    let micros = times.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let odd = micros.iter().position(|us| us.is_none_or(|us| !(TIME_US_MIN..=TIME_US_MAX).contains(&us)));
    match odd {
        Some(row) => unfit(format!("column \"{name}\" has no valid time in row {}", rows_before + row + 1)),
        None => Ok(Arc::new(micros.clone().with_timezone("+00:00"))),
    }
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

pub(crate) fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => is_text(value),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

fn is_scalar(kind: &DataType) -> bool {
    is_text(kind) || kind.is_numeric() || matches!(kind, DataType::Boolean)
}

fn listed(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn unfit<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal::Unstorable(text))
}

#[cfg(test)]
mod tests;
