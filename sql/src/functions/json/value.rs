//! Any SQL value as JSON, as `to_jsonb` has it.
//!
//! **Invariant:** JSON and JSONB go in as they are, and everything that JSON has no word for as the text that SQL prints.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use chrono::DateTime;
use datafusion::common::Result;

use crate::functions::refusal::invalid;
use crate::jsonb::{Json, number};
use crate::types::TYPE_KEY;

/// The value at a row.
pub(super) fn to_json(array: &ArrayRef, row: usize, field: &Field) -> Result<Json> {
    let data_type = array.data_type();
    if data_type.is_null() || array.is_null(row) {
        return Ok(Json::Null);
    }
    Ok(match data_type {
        DataType::Boolean => Json::Bool(array.as_boolean().value(row)),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => float(array, row)?,
        DataType::Dictionary(_, value) => {
            return to_json(&cast(&array.slice(row, 1), value)?, 0, field);
        }
        other if other.is_numeric() => digits(&array_value_to_string(array, row)?)?,
        other if other.is_string() => {
            let text = array_value_to_string(array, row)?;
            match field.metadata().get(TYPE_KEY).map(String::as_str) {
                Some("json" | "jsonb") => Json::parse(&text)?,
                _ => Json::String(text),
            }
        }
        DataType::Timestamp(_, zone) => timestamp(array, row, zone.is_some())?,
        DataType::List(item) => items(&array.as_list::<i32>().value(row), item)?,
        DataType::LargeList(item) => items(&array.as_list::<i64>().value(row), item)?,
        DataType::FixedSizeList(item, _) => items(&array.as_fixed_size_list().value(row), item)?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let member = |(field, column)| {
                let field: &Field = field;
                Ok((field.name().clone(), to_json(column, row, field)?))
            };
            let members = fields.iter().map(AsRef::as_ref).zip(columns).map(member);
            Json::Object(members.collect::<Result<Vec<_>>>()?)
        }
        _ => Json::String(array_value_to_string(array, row)?),
    })
}

fn items(array: &ArrayRef, item: &Field) -> Result<Json> {
    let items = (0..array.len()).map(|row| to_json(array, row, item));
    Ok(Json::Array(items.collect::<Result<Vec<_>>>()?))
}

fn digits(text: &str) -> Result<Json> {
    Ok(Json::Number(number(text).map_err(invalid)?))
}

fn float(array: &ArrayRef, row: usize) -> Result<Json> {
    let shown = match array.data_type() {
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Float32 => array.as_primitive::<arrow::datatypes::Float32Type>().value(row).to_string(),
        _ => array_value_to_string(array, row)?,
    };
    match shown.as_str() {
        "NaN" => Ok(Json::String(shown)),
        "inf" => Ok(Json::String("Infinity".into())),
        "-inf" => Ok(Json::String("-Infinity".into())),
        _ => digits(&shown),
    }
}

/// `2026-01-01T00:00:00.5+00:00`.
fn timestamp(array: &ArrayRef, row: usize, zone: bool) -> Result<Json> {
    let zone_of = match array.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let one = cast(&array.slice(row, 1), &DataType::Timestamp(TimeUnit::Microsecond, zone_of))?;
    let at = one.as_primitive::<TimestampMicrosecondType>().value(0);
    let at = DateTime::from_timestamp_micros(at).ok_or_else(|| invalid("timestamp out of range"))?;
    let fraction = at.timestamp_subsec_micros();
    let mut text = at.format("%Y-%m-%dT%H:%M:%S").to_string();
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    Ok(Json::String(if zone { text + "+00:00" } else { text }))
}
