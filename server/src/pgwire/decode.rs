//! Parameters of a Bind message as scalar values of the types that the statement takes.
//!
//! **Invariant:** no bytes that a client can send make this panic, and no value is changed silently: what does not fit
//! is an error with PostgreSQL's code.

mod array;

use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano};
use bytes::Buf;
use datafusion::scalar::ScalarValue;
use juno_sql::{Error, Result};
use pgwire::api::Type;

use super::calendar;
use super::column::{Format, WireType, parameter_type};
use super::numeric;

/// The wire type of a parameter: what the client declared, else what the statement takes.
pub(super) fn parameter_wire_type(declared: u32, field: &Field) -> Result<Type> {
    match Type::from_oid(declared) {
        Some(kind) if kind != Type::UNKNOWN => Ok(kind),
        _ => Ok(WireType::of(field)?.kind),
    }
}

/// Reads one parameter. `wanted` is the statement's, `kind` the type that the bytes are of.
pub(super) fn parameter(
    bytes: Option<&[u8]>,
    format: Format,
    kind: &Type,
    wanted: &FieldRef,
    zone: &Tz,
) -> Result<ScalarValue> {
    let target = wanted.data_type();
    let Some(bytes) = bytes else {
        return ScalarValue::try_from(target).map_err(Error::from);
    };
    match format {
        Format::Text => of_text(text(bytes)?, kind, target, zone),
        Format::Binary => of_binary(bytes, kind, target, zone),
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::InvalidEncoding(""))?;
    if text.contains('\0') {
        return Err(Error::InvalidEncoding(": 0x00"));
    }
    Ok(text)
}

fn invalid(kind: &Type, text: &str) -> Error {
    Error::InvalidText(format!("invalid input syntax for type {}: \"{text}\"", spoken(kind)))
}

/// The name that PostgreSQL's messages use.
fn spoken(kind: &Type) -> &str {
    match *kind {
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::BOOL => "boolean",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        _ => kind.name(),
    }
}

/// Reads the text format. The declared type says how to read, the statement's type what it becomes.
fn of_text(text: &str, kind: &Type, target: &DataType, zone: &Tz) -> Result<ScalarValue> {
    let value = match *kind {
        Type::BOOL => ScalarValue::Boolean(Some(boolean(text).ok_or_else(|| invalid(kind, text))?)),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => integer(text, kind)?,
        Type::FLOAT4 | Type::FLOAT8 => float(text, kind)?,
        Type::NUMERIC => return decimal(text, target),
        Type::UUID => {
            let uuid = uuid::Uuid::parse_str(text.trim()).map_err(|_| invalid(kind, text))?;
            ScalarValue::Utf8(Some(uuid.to_string()))
        }
        Type::TIMESTAMPTZ => instant(calendar::parse_timestamp(text, zone)?),
        Type::TIMESTAMP => ScalarValue::TimestampMicrosecond(Some(calendar::parse_wall_clock(text)?), None),
        Type::BYTEA => ScalarValue::Binary(Some(bytea(text).ok_or_else(|| invalid(kind, text))?)),
        _ if matches!(parameter_type(kind.oid()), Some(DataType::List(_))) => {
            array::of_text(text, kind, zone)?.ok_or_else(|| array::malformed(text))?
        }
        _ => ScalarValue::Utf8(Some(text.to_owned())),
    };
    fit(value, target, || invalid(kind, text))
}

/// Casts to what the statement takes. A value that does not fit is out of range, a text that does not parse `unreadable`.
fn fit(value: ScalarValue, target: &DataType, unreadable: impl Fn() -> Error) -> Result<ScalarValue> {
    if value.data_type() == *target || *target == DataType::Null {
        return Ok(value);
    }
    let from_text = matches!(value, ScalarValue::Utf8(_));
    let spoken = target.to_string();
    value.cast_to(target).map_err(|_| match from_text {
        true => unreadable(),
        false => Error::NumericOutOfRange(format!("parameter value {value} does not fit type {spoken}")),
    })
}

/// PostgreSQL's spellings of truth: unique prefixes of true, false, yes, no, and on, off, 1, 0.
fn boolean(text: &str) -> Option<bool> {
    let word = text.trim().to_ascii_lowercase();
    match word.as_str() {
        "" | "o" => None,
        "on" | "1" => Some(true),
        "off" | "of" | "0" => Some(false),
        word if "true".starts_with(word) || "yes".starts_with(word) => Some(true),
        word if "false".starts_with(word) || "no".starts_with(word) => Some(false),
        _ => None,
    }
}

fn integer(text: &str, kind: &Type) -> Result<ScalarValue> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let range = || Error::NumericOutOfRange(format!("value \"{text}\" is out of range for type {}", spoken(kind)));
    let value: i64 = text.trim().parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow | NegOverflow => range(),
        _ => invalid(kind, text),
    })?;
    let fits = match *kind {
        Type::INT2 => i16::try_from(value).is_ok(),
        Type::INT4 => i32::try_from(value).is_ok(),
        Type::OID => u32::try_from(value).is_ok(),
        _ => true,
    };
    if fits { Ok(ScalarValue::Int64(Some(value))) } else { Err(range()) }
}

fn float(text: &str, kind: &Type) -> Result<ScalarValue> {
    let value: f64 = text.trim().parse().map_err(|_| invalid(kind, text))?;
    let spelled = text.to_ascii_lowercase().contains("inf");
    let narrowed = *kind == Type::FLOAT4 && (value as f32).is_infinite();
    if (value.is_infinite() || narrowed) && !spelled {
        return Err(Error::NumericOutOfRange(format!("\"{text}\" is out of range for type {}", spoken(kind))));
    }
    Ok(ScalarValue::Float64(Some(value)))
}

/// A decimal text as what the statement takes: exactly for decimals and text, else by way of a cast.
fn decimal(text: &str, target: &DataType) -> Result<ScalarValue> {
    match target {
        DataType::Decimal128(precision, scale) => {
            let value = numeric::parse(text, *precision, *scale)?;
            Ok(ScalarValue::Decimal128(Some(value), *precision, *scale))
        }
        DataType::Float32 | DataType::Float64 => {
            fit(float(text, &Type::NUMERIC)?, target, || invalid(&Type::NUMERIC, text))
        }
        kind if kind.is_integer() => {
            let whole = numeric::parse(text, 20, 0)?;
            let value = match kind {
                DataType::UInt64 => u64::try_from(whole).map(|whole| ScalarValue::UInt64(Some(whole))),
                _ => i64::try_from(whole).map(|whole| ScalarValue::Int64(Some(whole))),
            };
            let value = value
                .map_err(|_| Error::NumericOutOfRange(format!("parameter value {text} does not fit type {kind}")))?;
            fit(value, target, || invalid(&Type::NUMERIC, text))
        }
        _ => fit(ScalarValue::Utf8(Some(text.to_owned())), target, || invalid(&Type::NUMERIC, text)),
    }
}

fn instant(micros: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
}

/// `\x0aff`, or the escape format: octets as themselves, `\\`, or `\ooo`.
fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let nibble = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
        let pair = |pair: &[u8]| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?);
        return digits.chunks(2).map(pair).collect();
    }
    let mut bytes = text.bytes();
    let mut value = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next()? {
                b'\\' => value.push(b'\\'),
                first @ b'0'..=b'3' => {
                    let octal = |byte: u8| matches!(byte, b'0'..=b'7').then_some(byte - b'0');
                    value.push((first - b'0') << 6 | octal(bytes.next()?)? << 3 | octal(bytes.next()?)?);
                }
                _ => return None,
            },
            byte => value.push(byte),
        }
    }
    Some(value)
}

/// Reads the binary format of `kind`.
fn of_binary(bytes: &[u8], kind: &Type, target: &DataType, zone: &Tz) -> Result<ScalarValue> {
    let size = || Error::InvalidParameter(format!("incorrect binary data format for type {}", spoken(kind)));
    let value = match *kind {
        Type::BOOL => ScalarValue::Boolean(Some(exactly::<1>(bytes).ok_or_else(size)?[0] != 0)),
        Type::INT2 => ScalarValue::Int64(Some(i16::from_be_bytes(exactly(bytes).ok_or_else(size)?).into())),
        Type::INT4 => ScalarValue::Int64(Some(i32::from_be_bytes(exactly(bytes).ok_or_else(size)?).into())),
        Type::OID => ScalarValue::Int64(Some(u32::from_be_bytes(exactly(bytes).ok_or_else(size)?).into())),
        Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(exactly(bytes).ok_or_else(size)?))),
        Type::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(exactly(bytes).ok_or_else(size)?))),
        Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(exactly(bytes).ok_or_else(size)?))),
        Type::NUMERIC => return decimal(&numeric::text_of_binary(bytes)?, target),
        Type::UUID => ScalarValue::Utf8(Some(uuid::Uuid::from_bytes(exactly(bytes).ok_or_else(size)?).to_string())),
        Type::JSONB => match bytes {
            [1, json @ ..] => ScalarValue::Utf8(Some(text(json)?.to_owned())),
            _ => return Err(Error::InvalidParameter("unsupported jsonb version number".to_owned())),
        },
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UNKNOWN | Type::CHAR => {
            ScalarValue::Utf8(Some(text(bytes)?.to_owned()))
        }
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::TIMESTAMPTZ | Type::TIMESTAMP | Type::DATE | Type::TIME | Type::INTERVAL => {
            time_of_binary(bytes, kind)?.ok_or_else(size)?
        }
        _ => array::of_binary(bytes, kind, zone)?,
    };
    fit(value, target, || Error::TypeMismatch(format!("parameter of type {kind} where {target} is wanted")))
}

fn exactly<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// The value of a time type; None where the length is not the type's.
fn time_of_binary(bytes: &[u8], kind: &Type) -> Result<Option<ScalarValue>> {
    if *kind == Type::DATE {
        let Some(value) = exactly(bytes).map(i32::from_be_bytes) else { return Ok(None) };
        return Ok(Some(ScalarValue::Date32(Some(calendar::date_from_epoch_2000(value)?))));
    }
    if *kind == Type::INTERVAL {
        return interval_of_binary(bytes);
    }
    let Some(value) = exactly(bytes).map(i64::from_be_bytes) else { return Ok(None) };
    Ok(Some(match *kind {
        Type::TIME => ScalarValue::Time64Microsecond(Some(value)),
        Type::TIMESTAMP => ScalarValue::TimestampMicrosecond(Some(calendar::from_epoch_2000(value)?), None),
        _ => instant(calendar::from_epoch_2000(value)?),
    }))
}

fn interval_of_binary(mut bytes: &[u8]) -> Result<Option<ScalarValue>> {
    if bytes.len() != 16 {
        return Ok(None);
    }
    let (micros, days, months) = (bytes.get_i64(), bytes.get_i32(), bytes.get_i32());
    let nanoseconds = micros.checked_mul(1_000);
    let nanoseconds = nanoseconds.ok_or_else(|| Error::DatetimeOutOfRange("interval out of range".to_owned()))?;
    Ok(Some(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))))
}

#[cfg(test)]
mod tests;
