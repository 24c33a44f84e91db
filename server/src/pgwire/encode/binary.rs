//! Values in PostgreSQL's binary format.
//!
//! **Invariant:** every value has exactly the layout of the type that its column was described with.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use bytes::BufMut;
use juno_sql::{Error, Result};
use pgwire::api::Type;

use super::text::integer;
use super::time::{self, Time};
use super::{elements, octets, present, string};
use crate::pgwire::calendar;
use crate::pgwire::column::{WireType, element, unsendable};
use crate::pgwire::numeric::Decimal;

/// The version byte that a binary jsonb begins with.
const JSONB_VERSION: u8 = 1;

/// Writes the value at `row`, which is not null and in no dictionary, as the `kind` that the client was told of.
pub(super) fn write(array: &dyn Array, row: usize, kind: &Type, out: &mut Vec<u8>) -> Result<()> {
    if let Some(value) = string(array, row) {
        return write_string(value, kind, out);
    }
    match array.data_type() {
        DataType::Boolean => out.put_u8(array.as_boolean().value(row).into()),
        DataType::Float16 => out.put_f32(array.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => out.put_f32(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => out.put_f64(array.as_primitive::<Float64Type>().value(row)),
        DataType::Struct(fields) => write_record(array, row, fields, out)?,
        kind if kind.is_integer() && *kind != DataType::UInt64 => write_integer(array, row, out)?,
        kind if kind.is_temporal() => write_time(array, row, out)?,
        _ => return write_rare(array, row, out),
    }
    Ok(())
}

fn write_rare(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if let Some(decimal) = Decimal::of(array, row) {
        decimal.write_binary(out);
        return Ok(());
    }
    if let Some(bytes) = octets(array, row) {
        out.put_slice(bytes);
        return Ok(());
    }
    match elements(array, row) {
        Some(items) => write_array(array.data_type(), items.as_ref(), out),
        None => Err(unsendable(array.data_type())),
    }
}

fn write_string(value: &str, kind: &Type, out: &mut Vec<u8>) -> Result<()> {
    match *kind {
        Type::UUID => {
            let uuid = uuid::Uuid::parse_str(value);
            let uuid = uuid.map_err(|_| Error::Corrupt(format!("stored value is no uuid: \"{value}\"")))?;
            out.put_slice(uuid.as_bytes());
        }
        Type::JSONB => {
            out.put_u8(JSONB_VERSION);
            out.put_slice(value.as_bytes());
        }
        Type::CHAR => out.put_u8(value.bytes().next().unwrap_or(0)),
        _ => out.put_slice(value.as_bytes()),
    }
    Ok(())
}

/// Integers in the width of their type on the wire: the unsigned ones are one size wider than in Arrow.
fn write_integer(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let value = integer(array, row)?;
    match array.data_type() {
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => out.put_i16(value as i16),
        DataType::UInt16 | DataType::Int32 => out.put_i32(value as i32),
        _ => out.put_i64(value),
    }
    Ok(())
}

fn write_time(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    match time::at(array, row)?.ok_or_else(|| unsendable(array.data_type()))? {
        Time::Date(days) => out.put_i32(calendar::date_to_epoch_2000(days)?),
        Time::Clock(micros) => out.put_i64(micros),
        Time::Wall(micros) | Time::Instant(micros) => out.put_i64(calendar::to_epoch_2000(micros)?),
        Time::Span(months, days, micros) => {
            out.put_i64(micros);
            out.put_i32(days);
            out.put_i32(months);
        }
    }
    Ok(())
}

/// Dimensions, null flag, element OID, each dimension's length and lower bound, then the elements.
fn write_array(list: &DataType, items: &dyn Array, out: &mut Vec<u8>) -> Result<()> {
    let mut lengths = Vec::new();
    let mut leaf = element(list).ok_or_else(|| unsendable(list))?;
    measure(items, 0, &mut lengths)?;
    while let Some(next) = element(leaf.data_type()) {
        leaf = next;
    }
    let empty = lengths.contains(&0);
    let kind = WireType::of(leaf)?.kind;
    let start = out.len();
    out.put_i32(if empty { 0 } else { lengths.len() as i32 });
    out.put_i32(0);
    out.put_u32(kind.oid());
    if empty {
        return Ok(());
    }
    for length in &lengths {
        out.put_i32(*length as i32);
        out.put_i32(1);
    }
    if write_items(items, &kind, out)? {
        out[start + 4..start + 8].copy_from_slice(&1i32.to_be_bytes());
    }
    Ok(())
}

/// Notes the length of each dimension; PostgreSQL's arrays are rectangular.
fn measure(items: &dyn Array, depth: usize, lengths: &mut Vec<usize>) -> Result<()> {
    let ragged = || Error::Unsupported("lists of different lengths in a list cannot be sent, use text".to_owned());
    match lengths.get(depth) {
        Some(length) if *length != items.len() => return Err(ragged()),
        Some(_) => {}
        None => lengths.push(items.len()),
    }
    if element(items.data_type()).is_some() {
        for row in 0..items.len() {
            let inner = (!items.is_null(row)).then(|| elements(items, row)).flatten().ok_or_else(ragged)?;
            measure(inner.as_ref(), depth + 1, lengths)?;
        }
    }
    Ok(())
}

/// Writes all leaves in order; true where one was null.
fn write_items(items: &dyn Array, leaf: &Type, out: &mut Vec<u8>) -> Result<bool> {
    let mut nulls = false;
    for row in 0..items.len() {
        match elements(items, row) {
            Some(inner) => nulls |= write_items(inner.as_ref(), leaf, out)?,
            None => nulls |= !write_nested(items, row, leaf, out)?,
        }
    }
    Ok(nulls)
}

/// The number of fields, then OID, length and value of each.
fn write_record(array: &dyn Array, row: usize, fields: &[FieldRef], out: &mut Vec<u8>) -> Result<()> {
    out.put_i32(fields.len() as i32);
    for (column, field) in array.as_struct().columns().iter().zip(fields) {
        let kind = WireType::of(field)?.kind;
        out.put_u32(kind.oid());
        write_nested(column.as_ref(), row, &kind, out)?;
    }
    Ok(())
}

/// Writes length and value of an element or record field, or the length of a null; true where it was there.
fn write_nested(array: &dyn Array, row: usize, kind: &Type, out: &mut Vec<u8>) -> Result<bool> {
    let Some((array, row)) = present(array, row) else {
        out.put_i32(-1);
        return Ok(false);
    };
    let start = out.len();
    out.put_i32(0);
    write(array, row, kind, out)?;
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(true)
}
