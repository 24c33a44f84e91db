//! One column of a COPY FROM: texts or binary values on their way into an Arrow array.
//!
//! The frequent types are appended straight to their builder; what that cannot read, and all other types, are read as
//! parameters of a statement are, so that values and errors are the same by both ways.
//!
//! **Invariant:** a value is taken whole or is an error; an array is as long as the values that were taken.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    StringDictionaryBuilder, TimestampMicrosecondBuilder, new_empty_array,
};
use arrow::datatypes::{DataType, FieldRef, Int32Type, TimeUnit};
use datafusion::scalar::ScalarValue;
use juno_sql::{Error, Result};
use pgwire::api::Type;

use crate::pgwire::calendar;
use crate::pgwire::column::{Format, WireType};
use crate::pgwire::decode;

/// A column that is being read.
pub(super) struct ColumnReader {
    pub(super) field: FieldRef,
    kind: Type,
    format: Format,
    zone: Tz,
    values: Values,
}

enum Values {
    Float64(Float64Builder),
    Int64(Int64Builder),
    Int32(Int32Builder),
    Int16(Int16Builder),
    Boolean(BooleanBuilder),
    Instant(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    Tag(StringDictionaryBuilder<Int32Type>),
    Other(Vec<ScalarValue>),
}

impl Values {
    fn of(field: &FieldRef, kind: &Type, format: Format) -> Values {
        let spelled = format == Format::Text || matches!(*kind, Type::TEXT | Type::VARCHAR);
        match field.data_type() {
            DataType::Float64 => Values::Float64(Float64Builder::new()),
            DataType::Int64 => Values::Int64(Int64Builder::new()),
            DataType::Int32 => Values::Int32(Int32Builder::new()),
            DataType::Int16 => Values::Int16(Int16Builder::new()),
            DataType::Boolean => Values::Boolean(BooleanBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                let builder = TimestampMicrosecondBuilder::new().with_data_type(field.data_type().clone());
                Values::Instant(builder)
            }
            DataType::Utf8 if spelled => Values::Text(StringBuilder::new()),
            DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => {
                Values::Tag(StringDictionaryBuilder::new())
            }
            _ => Values::Other(Vec::new()),
        }
    }
}

impl ColumnReader {
    pub(super) fn new(field: &FieldRef, format: Format, zone: Tz) -> Result<ColumnReader> {
        let kind = WireType::of(field)?.kind;
        let values = Values::of(field, &kind, format);
        Ok(ColumnReader { field: Arc::clone(field), kind, format, zone, values })
    }

    /// Takes a null. Whether the column allows one is the caller's question.
    pub(super) fn null(&mut self) -> Result<()> {
        match &mut self.values {
            Values::Float64(values) => values.append_null(),
            Values::Int64(values) => values.append_null(),
            Values::Int32(values) => values.append_null(),
            Values::Int16(values) => values.append_null(),
            Values::Boolean(values) => values.append_null(),
            Values::Instant(values) => values.append_null(),
            Values::Text(values) => values.append_null(),
            Values::Tag(values) => values.append_null(),
            Values::Other(values) => values.push(ScalarValue::try_from(self.field.data_type())?),
        }
        Ok(())
    }

    /// Takes a value in the column's format.
    pub(super) fn value(&mut self, bytes: &[u8]) -> Result<()> {
        let taken = match self.format {
            Format::Text => self.fast_text(bytes),
            Format::Binary => self.fast_binary(bytes),
        };
        if taken { Ok(()) } else { self.slow(bytes) }
    }

    /// Takes what reads plainly; false where it does not.
    fn fast_text(&mut self, bytes: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        match &mut self.values {
            Values::Float64(values) => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => values.append_value(value),
                _ => return false,
            },
            Values::Int64(values) => match text.parse() {
                Ok(value) => values.append_value(value),
                Err(_) => return false,
            },
            Values::Int32(values) => match text.parse() {
                Ok(value) => values.append_value(value),
                Err(_) => return false,
            },
            Values::Int16(values) => match text.parse() {
                Ok(value) => values.append_value(value),
                Err(_) => return false,
            },
            Values::Boolean(values) => match text {
                "t" | "true" => values.append_value(true),
                "f" | "false" => values.append_value(false),
                _ => return false,
            },
            Values::Instant(values) => match calendar::parse_timestamp(text, &self.zone) {
                Ok(micros) => values.append_value(micros),
                Err(_) => return false,
            },
            Values::Text(values) if !text.contains('\0') => values.append_value(text),
            Values::Tag(values) if !text.contains('\0') => values.append_value(text),
            _ => return false,
        }
        true
    }

    fn fast_binary(&mut self, bytes: &[u8]) -> bool {
        match (&mut self.values, bytes.len()) {
            (Values::Float64(values), 8) => values.append_value(f64::from_be_bytes(fixed(bytes))),
            (Values::Int64(values), 8) => values.append_value(i64::from_be_bytes(fixed(bytes))),
            (Values::Int32(values), 4) => values.append_value(i32::from_be_bytes(fixed(bytes))),
            (Values::Int16(values), 2) => values.append_value(i16::from_be_bytes(fixed(bytes))),
            (Values::Boolean(values), 1) => values.append_value(bytes[0] != 0),
            (Values::Instant(values), 8) => match calendar::from_epoch_2000(i64::from_be_bytes(fixed(bytes))) {
                Ok(micros) => values.append_value(micros),
                Err(_) => return false,
            },
            (Values::Text(_) | Values::Tag(_), _) => return self.fast_text(bytes),
            _ => return false,
        }
        true
    }

    /// Takes a value as a parameter would be taken.
    fn slow(&mut self, bytes: &[u8]) -> Result<()> {
        let value = decode::parameter(Some(bytes), self.format, &self.kind, &self.field, &self.zone)?;
        match (&mut self.values, &value) {
            (Values::Float64(values), ScalarValue::Float64(value)) => values.append_option(*value),
            (Values::Int64(values), ScalarValue::Int64(value)) => values.append_option(*value),
            (Values::Int32(values), ScalarValue::Int32(value)) => values.append_option(*value),
            (Values::Int16(values), ScalarValue::Int16(value)) => values.append_option(*value),
            (Values::Boolean(values), ScalarValue::Boolean(value)) => values.append_option(*value),
            (Values::Instant(values), ScalarValue::TimestampMicrosecond(value, _)) => values.append_option(*value),
            (Values::Other(values), _) => values.push(value),
            (_, other) => return Err(Error::Internal(format!("a value of {} was read as {other}", self.kind))),
        }
        Ok(())
    }

    /// The values that were taken since the last call.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match &mut self.values {
            Values::Float64(values) => Arc::new(values.finish()),
            Values::Int64(values) => Arc::new(values.finish()),
            Values::Int32(values) => Arc::new(values.finish()),
            Values::Int16(values) => Arc::new(values.finish()),
            Values::Boolean(values) => Arc::new(values.finish()),
            Values::Instant(values) => Arc::new(values.finish()),
            Values::Text(values) => Arc::new(values.finish()),
            Values::Tag(values) => Arc::new(values.finish()),
            Values::Other(values) if values.is_empty() => new_empty_array(self.field.data_type()),
            Values::Other(values) => {
                let array = ScalarValue::iter_to_array(std::mem::take(values))?;
                debug_assert_eq!(array.data_type(), self.field.data_type());
                array
            }
        })
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller looked at the length")
}
