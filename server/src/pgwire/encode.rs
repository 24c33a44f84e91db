//! Record batches as rows on the wire, cut into chunks of bounded size: DataRow messages here, COPY's rows in `copy`.
//!
//! **Invariant:** every value is written whole in the format its column was described with, or the row is not written.

mod binary;
mod text;
mod time;
mod values;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowDictionaryKeyType, DataType, Field, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, Bytes};
use juno_sql::{Error, Result};

use self::values::Rows;
use super::column::{Column, Format, WireType, element};

/// A chunk is closed at the first row that reaches this many bytes.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// The longest value that a message can carry, in bytes.
const VALUE_BYTES_MAX: usize = i32::MAX as usize / 2;

/// Whole DataRow messages, back to back, and where each ends.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) ends: Vec<usize>,
}

impl Chunk {
    /// Cuts the first `rows` rows off.
    pub(super) fn split_to(&mut self, rows: usize) -> Chunk {
        let Some(at) = rows.checked_sub(1).and_then(|last| self.ends.get(last)).copied() else {
            return Chunk::default();
        };
        let rest = self.ends.split_off(rows).into_iter().map(|end| end - at).collect();
        Chunk { bytes: self.bytes.split_to(at), ends: std::mem::replace(&mut self.ends, rest) }
    }
}

/// Chunks as they are encoded.
pub(super) type Chunks<'a> = Box<dyn Iterator<Item = Result<Chunk>> + Send + 'a>;

/// What turns the batches of one statement into bytes.
pub(super) trait Encode: Send {
    /// The rows of a batch.
    fn chunks<'a>(&'a mut self, batch: &RecordBatch) -> Result<Chunks<'a>>;

    /// What follows the last row.
    fn tail(&mut self) -> Result<Bytes>;
}

/// The rows that `write` writes, cut into chunks.
pub(super) fn in_chunks<'a>(
    rows: usize,
    mut write: impl FnMut(usize, &mut Vec<u8>) -> Result<()> + Send + 'a,
) -> Chunks<'a> {
    let mut row = 0;
    Box::new(std::iter::from_fn(move || {
        if row == rows {
            return None;
        }
        let mut out = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        let mut ends = Vec::new();
        while row < rows && out.len() < CHUNK_BYTES {
            if let Err(error) = write(row, &mut out) {
                row = rows;
                return Some(Err(error));
            }
            ends.push(out.len());
            row += 1;
        }
        Some(Ok(Chunk { bytes: Bytes::from(out), ends }))
    }))
}

/// Encodes the rows of one statement as DataRow messages.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    columns: Arc<[Column]>,
    zone: Tz,
}

impl Encoder {
    pub(super) fn new(columns: Arc<[Column]>, zone: Tz) -> Encoder {
        Encoder { columns, zone }
    }
}

impl Encode for Encoder {
    fn chunks<'a>(&'a mut self, batch: &RecordBatch) -> Result<Chunks<'a>> {
        let mut rows = Rows::new(arrays(&self.columns, batch)?, &self.columns, &self.zone);
        Ok(in_chunks(batch.num_rows(), move |row, out| rows.write(row, out)))
    }

    fn tail(&mut self) -> Result<Bytes> {
        Ok(Bytes::new())
    }
}

/// The batch's columns, cast to what was described where the plan gave another type than it promised.
pub(super) fn arrays(columns: &[Column], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    if batch.num_columns() != columns.len() {
        let (got, told) = (batch.num_columns(), columns.len());
        return Err(Error::Internal(format!("a result of {told} columns came with {got}")));
    }
    let column = |(array, column): (&ArrayRef, &Column)| {
        let told = column.field.data_type();
        let arrived = Field::new("", array.data_type().clone(), true).with_metadata(column.field.metadata().clone());
        if array.data_type() == told || WireType::of(&arrived)?.kind == column.wire.kind {
            return Ok(array.clone());
        }
        arrow::compute::cast(array, told).map_err(|error| Error::Internal(error.to_string()))
    };
    batch.columns().iter().zip(columns).map(column).collect()
}

/// Writes a value with its length before it, or the length of a null.
pub(super) fn write_counted(
    array: &dyn Array,
    row: usize,
    column: &Column,
    zone: &Tz,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    out.put_i32(-1);
    if write(array, row, column, zone, out)? {
        let length = out.len() - start - 4;
        out[start..start + 4].copy_from_slice(&(length as i32).to_be_bytes());
        check_length(length)?;
    }
    Ok(())
}

fn check_length(length: usize) -> Result<()> {
    match length > VALUE_BYTES_MAX {
        true => Err(Error::NumericOutOfRange(format!("a value of {length} bytes is too long to be sent"))),
        false => Ok(()),
    }
}

/// Writes a value in its column's format; false where it is null and nothing was written.
pub(super) fn write(array: &dyn Array, row: usize, column: &Column, zone: &Tz, out: &mut Vec<u8>) -> Result<bool> {
    let Some((array, row)) = present(array, row) else { return Ok(false) };
    match column.format {
        Format::Text => text::write(array, row, zone, out)?,
        Format::Binary => binary::write(array, row, &column.wire.kind, out)?,
    }
    Ok(true)
}

/// Writes the length of a message whose length field stands at `at`; the length counts itself.
pub(super) fn patch_length(out: &mut [u8], at: usize) -> Result<()> {
    let length = i32::try_from(out.len() - at);
    let length = length.map_err(|_| Error::NumericOutOfRange("a row is too long to be sent".to_owned()))?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The array and index that really hold the value, looking through dictionaries; None where it is null.
fn present(array: &dyn Array, row: usize) -> Option<(&dyn Array, usize)> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Null => None,
        DataType::Dictionary(key, _) => match **key {
            DataType::Int8 => entry::<Int8Type>(array, row),
            DataType::Int16 => entry::<Int16Type>(array, row),
            DataType::Int32 => entry::<Int32Type>(array, row),
            DataType::Int64 => entry::<Int64Type>(array, row),
            DataType::UInt8 => entry::<UInt8Type>(array, row),
            DataType::UInt16 => entry::<UInt16Type>(array, row),
            DataType::UInt32 => entry::<UInt32Type>(array, row),
            _ => entry::<UInt64Type>(array, row),
        },
        _ => Some((array, row)),
    }
}

fn entry<K: ArrowDictionaryKeyType>(array: &dyn Array, row: usize) -> Option<(&dyn Array, usize)> {
    let dictionary = array.as_dictionary::<K>();
    present(dictionary.values().as_ref(), dictionary.key(row)?)
}

/// The elements of one list value, whatever flavour of list the array is; None where the array holds no lists.
fn elements(array: &dyn Array, row: usize) -> Option<ArrayRef> {
    element(array.data_type())?;
    Some(match array.data_type() {
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        DataType::FixedSizeList(_, _) => array.as_fixed_size_list().value(row),
        DataType::Map(_, _) => Arc::new(array.as_map().value(row)),
        _ => array.as_list::<i32>().value(row),
    })
}

/// The text of a string array's value; None where the array holds no strings.
fn string(array: &dyn Array, row: usize) -> Option<&str> {
    match array.data_type() {
        DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(array.as_string_view().value(row)),
        _ => None,
    }
}

/// The bytes of a binary array's value; None where the array holds no bytes.
fn octets(array: &dyn Array, row: usize) -> Option<&[u8]> {
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Some(array.as_fixed_size_binary().value(row)),
        _ => None,
    }
}
