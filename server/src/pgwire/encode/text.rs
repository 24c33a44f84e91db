//! Values in PostgreSQL's text format.
//!
//! **Invariant:** what is written here PostgreSQL's own input functions read back as the same value.

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type,
};
use bytes::BufMut;
use juno_sql::Result;

use super::time::{self, Time};
use super::{elements, octets, present, string};
use crate::pgwire::calendar;
use crate::pgwire::column::{element, unsendable};
use crate::pgwire::numeric::{self, Decimal};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes the value at `row`, which is not null and in no dictionary.
pub(super) fn write(array: &dyn Array, row: usize, zone: &Tz, out: &mut Vec<u8>) -> Result<()> {
    if let Some(value) = string(array, row) {
        out.put_slice(value.as_bytes());
        return Ok(());
    }
    match array.data_type() {
        DataType::Boolean => out.put_u8(if array.as_boolean().value(row) { b't' } else { b'f' }),
        DataType::Float16 => numeric::write_real(array.as_primitive::<Float16Type>().value(row).to_f32(), out),
        DataType::Float32 => numeric::write_real(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => numeric::write_double(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Struct(_) => write_record(array, row, zone, out)?,
        kind if kind.is_integer() && *kind != DataType::UInt64 => write_integer(array, row, out)?,
        kind if kind.is_temporal() => write_time(array, row, zone, out)?,
        _ => return write_rare(array, row, zone, out),
    }
    Ok(())
}

fn write_rare(array: &dyn Array, row: usize, zone: &Tz, out: &mut Vec<u8>) -> Result<()> {
    if let Some(decimal) = Decimal::of(array, row) {
        decimal.write_text(out);
        return Ok(());
    }
    if let Some(bytes) = octets(array, row) {
        out.put_slice(b"\\x");
        for byte in bytes {
            out.extend([byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]));
        }
        return Ok(());
    }
    match elements(array, row) {
        Some(items) => write_array(items.as_ref(), zone, out),
        None => Err(unsendable(array.data_type())),
    }
}

fn write_integer(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    numeric::write_integer(integer(array, row)?, out);
    Ok(())
}

/// The value of an array of integers of any width that bigint holds.
pub(super) fn integer(array: &dyn Array, row: usize) -> Result<i64> {
    Ok(match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        other => return Err(unsendable(other)),
    })
}

fn write_time(array: &dyn Array, row: usize, zone: &Tz, out: &mut Vec<u8>) -> Result<()> {
    match time::at(array, row)?.ok_or_else(|| unsendable(array.data_type()))? {
        Time::Date(days) => calendar::write_date(days, out)?,
        Time::Clock(micros) => calendar::write_time(micros, out),
        Time::Wall(micros) => calendar::write_timestamp(micros, out)?,
        Time::Instant(micros) => calendar::write_timestamptz(micros, zone, out)?,
        Time::Span(months, days, micros) => calendar::write_interval(months, days, micros, out),
    }
    Ok(())
}

/// `{1,NULL,"a b"}`; lists in lists are further dimensions and stand unquoted.
fn write_array(items: &dyn Array, zone: &Tz, out: &mut Vec<u8>) -> Result<()> {
    let nested = element(items.data_type()).is_some();
    out.put_u8(b'{');
    for row in 0..items.len() {
        if row > 0 {
            out.put_u8(b',');
        }
        let Some((array, row)) = present(items, row) else {
            out.put_slice(b"NULL");
            continue;
        };
        let start = out.len();
        write(array, row, zone, out)?;
        let value = &out[start..];
        let plain = !value.is_empty() && !value.eq_ignore_ascii_case(b"null") && !value.iter().any(special_in_array);
        if !nested && !plain {
            quote(out, start, |byte| matches!(byte, b'"' | b'\\').then_some(b'\\'));
        }
    }
    out.put_u8(b'}');
    Ok(())
}

fn special_in_array(byte: &u8) -> bool {
    matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || is_space(byte)
}

/// `(1,,"a b")`: a null is nothing at all, an empty text is `""`.
fn write_record(array: &dyn Array, row: usize, zone: &Tz, out: &mut Vec<u8>) -> Result<()> {
    out.put_u8(b'(');
    for (index, column) in array.as_struct().columns().iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        let Some((array, row)) = present(column.as_ref(), row) else { continue };
        let start = out.len();
        write(array, row, zone, out)?;
        let value = &out[start..];
        if value.is_empty() || value.iter().any(special_in_record) {
            quote(out, start, |byte| matches!(byte, b'"' | b'\\').then_some(byte));
        }
    }
    out.put_u8(b')');
    Ok(())
}

fn special_in_record(byte: &u8) -> bool {
    matches!(byte, b'(' | b')' | b',' | b'"' | b'\\') || is_space(byte)
}

/// The bytes that PostgreSQL's array and record output take for white space.
fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0x0b
}

/// Puts what stands from `start` on in double quotes; `escape` gives the byte that goes before one that needs it.
fn quote(out: &mut Vec<u8>, start: usize, escape: impl Fn(u8) -> Option<u8>) {
    let value = out.split_off(start);
    out.put_u8(b'"');
    for byte in &value {
        if let Some(before) = escape(*byte) {
            out.put_u8(before);
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}
