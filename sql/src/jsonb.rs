//! JSON text as PostgreSQL keeps it: valid for `json`, in one canonical spelling for `jsonb`.
//!
//! **Invariant:** knows text and nothing of columns or functions.

use serde_json::Value;

use crate::{Error, Result};

/// Whether a text is JSON.
pub(crate) fn validate(text: &str) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ()).map_err(|error| invalid(text, &error))
}

/// A text as `jsonb` prints it: keys ordered by length, then bytes; the last of equal keys; one space after `:` and `,`.
pub(crate) fn canonical(text: &str) -> Result<String> {
    let value: Value = serde_json::from_str(text).map_err(|error| invalid(text, &error))?;
    Ok(print(&value))
}

fn invalid(text: &str, error: &serde_json::Error) -> Error {
    let shown: String = text.chars().take(60).collect();
    Error::InvalidText(format!("invalid input syntax for type json: \"{shown}\" ({error})"))
}

/// A value in canonical spelling.
pub(crate) fn print(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                separate(out, index);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                write(out, value);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(out, index);
                write(out, item);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push_str(", ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_and_spaced_as_postgresql_prints_them() {
        let text = r#"{"service":"api","a":[1,2.5,null],"id":{"x":true,"x":false}}"#;
        let printed = r#"{"a": [1, 2.5, null], "id": {"x": false}, "service": "api"}"#;
        assert_eq!(canonical(text).expect("valid"), printed);
        assert!(matches!(canonical("{bad"), Err(Error::InvalidText(_))));
        assert!(validate("[1, 2").is_err());
    }
}
