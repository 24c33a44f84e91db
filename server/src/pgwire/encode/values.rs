//! The rows of a batch as DataRow messages: each column's type is looked at once for all of its values.
//!
//! A tag's value is encoded once for all of its rows, and where a row has the tags of the one before, the bytes of that one
//! are copied as they are.
//!
//! **Invariant:** writes what [`write_counted`] would; kinds of values that are rare are left to it.

use std::ops::Range;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, StringArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use juno_sql::Result;
use pgwire::api::Type;

use super::{check_length, patch_length, write_counted};
use crate::pgwire::calendar::{self, Days};
use crate::pgwire::column::{Column, Format};
use crate::pgwire::numeric;

/// The length of a null.
const NULL: [u8; 4] = (-1i32).to_be_bytes();
/// Type byte, length and number of columns of a DataRow.
const HEADER_BYTES: usize = 7;

/// The rows of one batch.
pub(super) struct Rows<'a> {
    columns: Vec<Stretch<'a>>,
    header: [u8; HEADER_BYTES],
}

/// Neighbouring columns.
enum Stretch<'a> {
    One(Values<'a>),
    Tags(Tags<'a>),
}

impl<'a> Rows<'a> {
    /// `arrays` are of the types that the columns were described with.
    pub(super) fn new(arrays: Vec<ArrayRef>, columns: &'a [Column], zone: &'a Tz) -> Rows<'a> {
        let count = (arrays.len() as u16).to_be_bytes();
        let header = [b'D', 0, 0, 0, 0, count[0], count[1]];
        let mut stretches = Vec::with_capacity(arrays.len());
        for (array, column) in arrays.into_iter().zip(columns) {
            let place = Place { column, zone };
            if !is_tag(array.data_type()) {
                stretches.push(Stretch::One(Values::new(array, place)));
            } else if let Some(Stretch::Tags(tags)) = stretches.last_mut() {
                tags.add(&array, place);
            } else {
                let mut tags = Tags::of_rows(array.len());
                tags.add(&array, place);
                stretches.push(Stretch::Tags(tags));
            }
        }
        Rows { columns: stretches, header }
    }

    /// Writes the message of a row. Rows come in order, each behind the one before or at the beginning of `out`.
    pub(super) fn write(&mut self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.extend_from_slice(&self.header);
        for stretch in &mut self.columns {
            match stretch {
                Stretch::One(values) => values.write(row, out)?,
                Stretch::Tags(tags) => tags.write(row, start == 0, out)?,
            }
        }
        patch_length(out, start + 1)
    }
}

/// Where values go: the column as it was described, and the session's time zone.
#[derive(Clone, Copy)]
struct Place<'a> {
    column: &'a Column,
    zone: &'a Tz,
}

fn is_tag(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(key, _) if **key == DataType::Int32)
}

/// The values of a column.
struct Values<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Doubles(ScalarBuffer<f64>),
    Longs(ScalarBuffer<i64>),
    Ints(ScalarBuffer<i32>),
    Shorts(ScalarBuffer<i16>),
    /// Texts as they are.
    Strings(StringArray),
    DoubleTexts(ScalarBuffer<f64>),
    LongTexts(ScalarBuffer<i64>),
    /// Microseconds; the flag says that they are in UTC and show it.
    TimeTexts(ScalarBuffer<i64>, bool, Days),
    Other(ArrayRef, Place<'a>),
}

impl<'a> Values<'a> {
    fn new(array: ArrayRef, place: Place<'a>) -> Values<'a> {
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        let kind = match place.column.format {
            Format::Binary => Kind::binary(&array, &place.column.wire.kind),
            Format::Text => Kind::text(&array, &place.column.wire.kind, place.zone),
        };
        Values { nulls, kind: kind.unwrap_or(Kind::Other(array, place)) }
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(&NULL);
            return Ok(());
        }
        match &mut self.kind {
            Kind::Doubles(values) => put(values[row].to_be_bytes(), out),
            Kind::Longs(values) => put(values[row].to_be_bytes(), out),
            Kind::Ints(values) => put(values[row].to_be_bytes(), out),
            Kind::Shorts(values) => put(values[row].to_be_bytes(), out),
            Kind::Strings(values) => put_bytes(values.value(row).as_bytes(), out)?,
            Kind::DoubleTexts(values) => counted(out, |out| numeric::write_double(values[row], out)),
            Kind::LongTexts(values) => counted(out, |out| numeric::write_integer(values[row], out)),
            Kind::TimeTexts(values, utc, days) => {
                let start = out.len();
                out.extend_from_slice(&NULL);
                days.write(values[row], if *utc { &b"+00"[..] } else { b"" }, out)?;
                set_length(out, start);
            }
            Kind::Other(array, place) => write_counted(array.as_ref(), row, place.column, place.zone, out)?,
        }
        Ok(())
    }
}

impl Kind<'_> {
    /// None where another kind of values is written.
    fn binary(array: &ArrayRef, wire: &Type) -> Option<Self> {
        Some(match (array.data_type(), wire) {
            (DataType::Float64, _) => Kind::Doubles(native::<Float64Type>(array)),
            (DataType::Int64, _) => Kind::Longs(native::<Int64Type>(array)),
            (DataType::Int32, _) => Kind::Ints(native::<Int32Type>(array)),
            (DataType::Int16, _) => Kind::Shorts(native::<Int16Type>(array)),
            (DataType::Date32, _) => {
                let days = native::<Date32Type>(array);
                Kind::Ints(all(&days, calendar::date_to_epoch_2000)?)
            }
            (DataType::Timestamp(unit, _), _) => Kind::Longs(all(&micros(array, *unit)?, calendar::to_epoch_2000)?),
            (DataType::Utf8, &Type::TEXT | &Type::VARCHAR | &Type::JSON) => Kind::Strings(array.as_string().clone()),
            _ => return None,
        })
    }

    fn text(array: &ArrayRef, wire: &Type, zone: &Tz) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Float64 => Kind::DoubleTexts(native::<Float64Type>(array)),
            DataType::Int64 => Kind::LongTexts(native::<Int64Type>(array)),
            DataType::Int32 => Kind::LongTexts(native::<Int32Type>(array).iter().map(|&value| value.into()).collect()),
            DataType::Utf8 if *wire != Type::CHAR => Kind::Strings(array.as_string().clone()),
            DataType::Timestamp(unit, None) => Kind::TimeTexts(micros(array, *unit)?, false, Days::default()),
            DataType::Timestamp(unit, Some(_)) if calendar::is_utc(zone) => {
                Kind::TimeTexts(micros(array, *unit)?, true, Days::default())
            }
            _ => return None,
        })
    }
}

fn native<T: ArrowPrimitiveType>(array: &ArrayRef) -> ScalarBuffer<T::Native> {
    array.as_primitive::<T>().values().clone()
}

/// Times in microseconds; none where one of them is too far for that.
fn micros(array: &ArrayRef, unit: TimeUnit) -> Option<ScalarBuffer<i64>> {
    let times = match unit {
        TimeUnit::Second => native::<TimestampSecondType>(array),
        TimeUnit::Millisecond => native::<TimestampMillisecondType>(array),
        TimeUnit::Microsecond => return Some(native::<TimestampMicrosecondType>(array)),
        TimeUnit::Nanosecond => native::<TimestampNanosecondType>(array),
    };
    all(&times, |time| calendar::micros(time, unit))
}

/// Each value changed; none where that fails for one, which may be one that is null.
fn all<T: ArrowNativeType>(values: &[T], change: impl Fn(T) -> Result<T>) -> Option<ScalarBuffer<T>> {
    values.iter().map(|&value| change(value).ok()).collect()
}

/// Columns of tags that stand side by side.
struct Tags<'a> {
    tags: Vec<Tag<'a>>,
    /// By row: all have the values of the row before.
    same: Vec<bool>,
    /// Where the bytes of the row before are.
    last: Range<usize>,
}

/// A column of a few values, each for many rows.
struct Tag<'a> {
    /// By row the key of its value; one more than there are values for a null.
    keys: Vec<i32>,
    values: ArrayRef,
    /// By key where in `bytes` the value is, with its length; empty where it was not yet needed.
    encoded: Vec<Range<usize>>,
    bytes: Vec<u8>,
    place: Place<'a>,
}

impl<'a> Tags<'a> {
    fn of_rows(rows: usize) -> Self {
        let mut same = vec![true; rows];
        if let Some(first) = same.first_mut() {
            *first = false;
        }
        Tags { tags: Vec::new(), same, last: 0..0 }
    }

    fn add(&mut self, array: &ArrayRef, place: Place<'a>) {
        let tag = Tag::new(array, place);
        for (same, pair) in self.same[1.min(tag.keys.len())..].iter_mut().zip(tag.keys.windows(2)) {
            *same &= pair[0] == pair[1];
        }
        self.tags.push(tag);
    }

    fn write(&mut self, row: usize, first: bool, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        if self.same[row] && !first {
            out.extend_from_within(self.last.clone());
        } else {
            self.tags.iter_mut().try_for_each(|tag| tag.write(row, out))?;
        }
        self.last = start..out.len();
        Ok(())
    }
}

impl<'a> Tag<'a> {
    fn new(array: &ArrayRef, place: Place<'a>) -> Self {
        let dictionary = array.as_dictionary::<Int32Type>();
        let values = dictionary.values().clone();
        let null = values.len() as i32;
        let keys = dictionary.keys();
        let keys = match keys.nulls() {
            None => keys.values().to_vec(),
            Some(_) => keys.iter().map(|key| key.unwrap_or(null)).collect(),
        };
        Tag { keys, encoded: vec![0..0; values.len() + 1], values, bytes: Vec::new(), place }
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let key = self.keys[row] as usize;
        if self.encoded[key].is_empty() {
            let start = self.bytes.len();
            if key == self.values.len() {
                self.bytes.extend_from_slice(&NULL);
            } else {
                let Place { column, zone } = self.place;
                write_counted(self.values.as_ref(), key, column, zone, &mut self.bytes)?;
            }
            self.encoded[key] = start..self.bytes.len();
        }
        out.extend_from_slice(&self.bytes[self.encoded[key].clone()]);
        Ok(())
    }
}

/// Writes a value of `N` bytes with its length.
fn put<const N: usize>(value: [u8; N], out: &mut Vec<u8>) {
    out.extend_from_slice(&(N as i32).to_be_bytes());
    out.extend_from_slice(&value);
}

fn put_bytes(value: &[u8], out: &mut Vec<u8>) -> Result<()> {
    check_length(value.len())?;
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}

/// Writes a short value with its length before it.
fn counted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&NULL);
    write(out);
    set_length(out, start);
}

fn set_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
