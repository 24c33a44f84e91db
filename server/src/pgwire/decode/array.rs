//! One-dimensional arrays as parameters, in text and in binary.
//!
//! **Invariant:** elements are read by the same rules as single parameters; only the array around them is read here.

use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, FieldRef};
use bytes::Buf;
use datafusion::scalar::ScalarValue;
use juno_sql::{Error, Result};
use pgwire::api::Type;

use super::{Format, WireType, parameter, parameter_type};

/// The most elements that an array parameter may have.
const ELEMENTS_MAX: usize = 1_000_000;

/// The error for a text that is no array.
pub(super) fn malformed(text: &str) -> Error {
    Error::InvalidText(format!("malformed array literal: \"{text}\""))
}

fn list(values: &[ScalarValue], item: &FieldRef) -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list_nullable(values, item.data_type()))
}

/// Reads `{1,NULL,"a b"}`; None where the text is no such array.
pub(super) fn of_text(text: &str, kind: &Type, zone: &Tz) -> Result<Option<ScalarValue>> {
    let Some(DataType::List(item)) = parameter_type(kind.oid()) else { return Ok(None) };
    let Some(items) = split(text.trim()) else { return Ok(None) };
    // These are kept as texts, which have one spelling each.
    let element = if *kind == Type::UUID_ARRAY { Type::UUID } else { WireType::of(&item)?.kind };
    let value =
        |text: Option<String>| parameter(text.as_deref().map(str::as_bytes), Format::Text, &element, &item, zone);
    let values: Vec<ScalarValue> = items.into_iter().map(value).collect::<Result<_>>()?;
    Ok(Some(list(&values, &item)))
}

/// The elements' texts, None for NULL.
fn split(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut characters = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Some(items);
    }
    loop {
        let (mut item, mut quoted) = (String::new(), false);
        while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        if characters.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => item.push(characters.next()?),
                    other => item.push(other),
                }
            }
            while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        } else {
            while let Some(other) = characters.next_if(|c| *c != ',') {
                match other {
                    '{' | '}' | '"' => return None,
                    '\\' => item.push(characters.next()?),
                    other => item.push(other),
                }
            }
            item.truncate(item.trim_end().len());
            if item.is_empty() {
                return None;
            }
        }
        let null = !quoted && item.eq_ignore_ascii_case("null");
        items.push((!null).then_some(item));
        match characters.next() {
            None => return (items.len() <= ELEMENTS_MAX).then_some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// Reads the binary form: dimensions, null flag, element OID, length, lower bound, then the elements.
pub(super) fn of_binary(mut bytes: &[u8], kind: &Type, zone: &Tz) -> Result<ScalarValue> {
    let damaged = || Error::InvalidParameter(format!("incorrect binary data format for type {kind}"));
    let Some(DataType::List(item)) = parameter_type(kind.oid()) else {
        return Err(Error::Unsupported(format!("binary parameters of type {kind} are not supported, send text")));
    };
    if bytes.len() < 12 {
        return Err(damaged());
    }
    let (dimensions, _nulls, oid) = (bytes.get_i32(), bytes.get_i32(), bytes.get_u32());
    let element = Type::from_oid(oid).ok_or_else(damaged)?;
    let mut length = 0;
    if dimensions == 1 {
        if bytes.len() < 8 {
            return Err(damaged());
        }
        length = usize::try_from(bytes.get_i32()).ok().filter(|n| *n <= ELEMENTS_MAX).ok_or_else(damaged)?;
        bytes.advance(4);
    } else if dimensions != 0 {
        return Err(Error::Unsupported("array parameters of several dimensions are not supported".to_owned()));
    }
    let mut values = Vec::new();
    for _ in 0..length {
        if bytes.len() < 4 {
            return Err(damaged());
        }
        let value = match usize::try_from(bytes.get_i32()) {
            Ok(size) if size <= bytes.len() => Some(bytes.split_off(..size).ok_or_else(damaged)?),
            Ok(_) => return Err(damaged()),
            Err(_) => None,
        };
        values.push(parameter(value, Format::Binary, &element, &item, zone)?);
    }
    Ok(list(&values, &item))
}
