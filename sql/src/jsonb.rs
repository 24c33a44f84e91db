//! JSON as PostgreSQL keeps it: valid for `json`, in one canonical spelling for `jsonb`; and its values as a tree.
//!
//! **Invariant:** knows text and trees and nothing of columns or functions; numbers keep all of their digits.

mod edit;

use std::collections::HashMap;
use std::fmt::{self, Write};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Error, Result};

/// How deep arrays and objects of a `jsonb` may be nested.
const DEPTH_MAX: usize = 128;
/// The most digits that an exponent may add to a number.
const EXPONENT_MAX: usize = 1_000;

/// Whether a text is JSON.
pub(crate) fn validate(text: &str) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ()).map_err(|error| invalid(text, &error.to_string()))
}

/// A text as `jsonb` prints it: keys ordered by length, then bytes; the last of equal keys; one space after `:` and `,`;
/// numbers without exponent.
pub(crate) fn canonical(text: &str) -> Result<String> {
    Json::parse(text).map(|value| value.to_string())
}

fn invalid(text: &str, reason: &str) -> Error {
    let shown: String = text.chars().take(60).collect();
    Error::InvalidText(format!("invalid input syntax for type json: \"{shown}\" ({reason})"))
}

/// One JSON value. It prints as `jsonb` does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// Its digits, without an exponent.
    Number(String),
    String(String),
    Array(Vec<Json>),
    /// Members in the order in which they print; no key twice, but for what `json_build_object` makes.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a text.
    ///
    /// # Errors
    /// [`Error::InvalidText`].
    pub(crate) fn parse(text: &str) -> Result<Json> {
        let value: &RawValue = serde_json::from_str(text).map_err(|error| invalid(text, &error.to_string()))?;
        parse(value.get(), 0).map_err(|reason| invalid(text, &reason))
    }

    /// The same tree for serde_json, whose parser refuses some numbers that a double can hold; what none can hold is a text.
    pub(crate) fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(is) => is.into(),
            Self::Number(digits) => {
                let whole = digits.parse::<i64>().map(Value::from).or_else(|_| digits.parse::<u64>().map(Value::from));
                let number = || digits.parse().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
                whole.ok().or_else(number).unwrap_or(Value::String(digits))
            }
            Self::String(text) => text.into(),
            Self::Array(items) => items.into_iter().map(Self::value).collect(),
            Self::Object(members) => members.into_iter().map(|(name, value)| (name, value.value())).collect(),
        }
    }

    /// An object as `jsonb` keeps it: of equal keys the last stays.
    pub(crate) fn object(members: impl IntoIterator<Item = (String, Json)>) -> Json {
        let unique: HashMap<String, Json> = members.into_iter().collect();
        let mut members: Vec<_> = unique.into_iter().collect();
        members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        Json::Object(members)
    }

    /// The name that `jsonb_typeof` gives.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }

    /// As text: a string without its quotes, null as none.
    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Json::Null => None,
            Json::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    /// Over several lines, as `jsonb_pretty` prints it.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.indented(&mut out, 0);
        out
    }

    fn indented(&self, out: &mut String, depth: usize) {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth * 4));
        };
        let (open, close, len) = match self {
            Json::Array(items) => ('[', ']', items.len()),
            Json::Object(members) => ('{', '}', members.len()),
            scalar => {
                out.push_str(&scalar.to_string());
                return;
            }
        };
        out.push(open);
        for index in 0..len {
            if index > 0 {
                out.push(',');
            }
            line(out, depth + 1);
            match self {
                Json::Object(members) => {
                    out.push_str(&Value::from(members[index].0.as_str()).to_string());
                    out.push_str(": ");
                    members[index].1.indented(out, depth + 1);
                }
                Json::Array(items) => items[index].indented(out, depth + 1),
                _ => {}
            }
        }
        line(out, depth);
        out.push(close);
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(digits) => f.write_str(digits),
            Json::String(text) => write!(f, "{}", Value::from(text.as_str())),
            Json::Array(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", separator(index))?;
                }
                f.write_char(']')
            }
            Json::Object(members) => {
                f.write_char('{')?;
                for (index, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}{}: {value}", separator(index), Value::from(key.as_str()))?;
                }
                f.write_char('}')
            }
        }
    }
}

fn separator(index: usize) -> &'static str {
    if index > 0 { ", " } else { "" }
}

/// Reads one JSON value, which is valid, without space around it.
fn parse(json: &str, depth: usize) -> Result<Json, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    let parts = |error: serde_json::Error| error.to_string();
    Ok(match json.as_bytes().first() {
        Some(b'{') => {
            let members: HashMap<String, &RawValue> = serde_json::from_str(json).map_err(parts)?;
            let members = members.into_iter().map(|(key, value)| Ok((key, parse(value.get(), depth + 1)?)));
            Json::object(members.collect::<Result<Vec<_>, String>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).map_err(parts)?;
            Json::Array(items.into_iter().map(|item| parse(item.get(), depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Json::String(serde_json::from_str(json).map_err(parts)?),
        Some(b't') => Json::Bool(true),
        Some(b'f') => Json::Bool(false),
        Some(b'n') => Json::Null,
        _ => Json::Number(number(json)?),
    })
}

/// A number as PostgreSQL's numeric prints it: every digit that was written, the point where the exponent puts it.
pub(crate) fn number(json: &str) -> Result<String, String> {
    let (mantissa, exponent) = json.split_once(['e', 'E']).unwrap_or((json, "0"));
    let too_large = || format!("the exponent of {json} is beyond {EXPONENT_MAX}");
    let exponent: i64 = exponent.parse().map_err(|_| too_large())?;
    let shift =
        usize::try_from(exponent.unsigned_abs()).ok().filter(|shift| *shift <= EXPONENT_MAX).ok_or_else(too_large)?;
    let (negative, digits) = mantissa.strip_prefix('-').map_or((false, mantissa), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = if exponent >= 0 {
        let moved = fraction.len().min(shift);
        let zeros = "0".repeat(shift - moved);
        (format!("{whole}{}{zeros}", &fraction[..moved]), fraction[moved..].to_owned())
    } else {
        let padded = format!("{}{whole}", "0".repeat(shift));
        let (whole, moved) = padded.split_at(padded.len() - shift);
        (whole.to_owned(), format!("{moved}{fraction}"))
    };
    let significant = whole.trim_start_matches('0');
    let mut out = String::with_capacity(json.len());
    if negative && (!significant.is_empty() || fraction.contains(|c| c != '0')) {
        out.push('-');
    }
    out.push_str(if significant.is_empty() { "0" } else { significant });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(&fraction);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_and_spaced_as_postgresql_prints_them() {
        let text = r#" {"service":"api","a":[1,2.5,null],"id":{"x":true,"x":false}, "e": [ ], "q\"": {} } "#;
        let printed = r#"{"a": [1, 2.5, null], "e": [], "id": {"x": false}, "q\"": {}, "service": "api"}"#;
        assert_eq!(canonical(text).expect("valid"), printed);
        assert!(matches!(canonical("{bad"), Err(Error::InvalidText(_))));
        assert!(validate("[1, 2").is_err());
    }

    #[test]
    fn numbers_keep_their_digits_and_lose_their_exponents() {
        for (written, printed) in [
            ("900.50", "900.50"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("0.1234567890123456789012", "0.1234567890123456789012"),
            ("1e3", "1000"),
            ("1.25E1", "12.5"),
            ("1.5e-3", "0.0015"),
            ("-12e-1", "-1.2"),
            ("120e-1", "12.0"),
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("0e5", "0"),
        ] {
            assert_eq!(canonical(written).expect("valid"), printed, "{written}");
        }
        for beyond in ["1e1001", "1e-99999999999999999999"] {
            assert!(
                matches!(canonical(beyond), Err(Error::InvalidText(text)) if text.contains("exponent")),
                "{beyond}"
            );
        }
    }

    #[test]
    fn a_tree_holds_what_a_double_can() {
        let tree = |text: &str| Json::parse(text).expect("JSON").value();
        assert_eq!(tree("{\"a\": [1.7976931348623157e308, null, true]}")["a"][0].as_f64(), Some(f64::MAX));
        assert_eq!(tree("[3, 18446744073709551615, 0.5]"), serde_json::json!([3, u64::MAX, 0.5]));
        assert_eq!(tree("[1e309]")[0].as_str().map(str::len), Some(310), "no double holds it");
    }

    #[test]
    fn nesting_ends_at_a_limit() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(canonical(&nested(DEPTH_MAX)).expect("within"), nested(DEPTH_MAX));
        assert!(matches!(canonical(&nested(100_000)), Err(Error::InvalidText(text)) if text.contains("nested")));
    }
}
