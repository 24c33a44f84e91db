//! JSON text as PostgreSQL keeps it: valid for `json`, in one canonical spelling for `jsonb`.
//!
//! **Invariant:** knows text and nothing of columns or functions; numbers keep all of their digits.

use std::collections::HashMap;

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
    let value: &RawValue = serde_json::from_str(text).map_err(|error| invalid(text, &error.to_string()))?;
    let mut out = String::with_capacity(text.len());
    write(&mut out, value.get(), 0).map_err(|reason| invalid(text, &reason))?;
    Ok(out)
}

fn invalid(text: &str, reason: &str) -> Error {
    let shown: String = text.chars().take(60).collect();
    Error::InvalidText(format!("invalid input syntax for type json: \"{shown}\" ({reason})"))
}

/// Writes one JSON value, which is valid, without space around it.
fn write(out: &mut String, json: &str, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    let parts = |error: serde_json::Error| error.to_string();
    match json.as_bytes().first() {
        Some(b'{') => {
            let object: HashMap<String, &RawValue> = serde_json::from_str(json).map_err(parts)?;
            let mut entries: Vec<_> = object.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                separate(out, index);
                out.push_str(&Value::from(key).to_string());
                out.push_str(": ");
                write(out, value.get(), depth + 1)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).map_err(parts)?;
            out.push('[');
            for (index, item) in items.into_iter().enumerate() {
                separate(out, index);
                write(out, item.get(), depth + 1)?;
            }
            out.push(']');
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(parts)?;
            out.push_str(&Value::from(text).to_string());
        }
        Some(b'-' | b'0'..=b'9') => number(out, json)?,
        _ => out.push_str(json),
    }
    Ok(())
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push_str(", ");
    }
}

/// A number as PostgreSQL's numeric prints it: every digit that was written, the point where the exponent puts it.
fn number(out: &mut String, json: &str) -> Result<(), String> {
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
    if negative && (!significant.is_empty() || fraction.contains(|c| c != '0')) {
        out.push('-');
    }
    out.push_str(if significant.is_empty() { "0" } else { significant });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(&fraction);
    }
    Ok(())
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
    fn nesting_ends_at_a_limit() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(canonical(&nested(DEPTH_MAX)).expect("within"), nested(DEPTH_MAX));
        assert!(matches!(canonical(&nested(100_000)), Err(Error::InvalidText(text)) if text.contains("nested")));
    }
}
