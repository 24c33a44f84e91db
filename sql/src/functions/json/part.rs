//! Finds one member or element in a JSON text without building the rest.
//!
//! **Invariant:** hands out slices of the text as it was written, so that numbers keep their digits.

use serde::de::IgnoredAny;

/// One step down into a JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array; below zero from the end.
    Index(i64),
}

/// The part of `json` that `step` leads to. `None` where there is none or `json` is no JSON.
pub(super) fn part<'a>(json: &'a str, step: &Step) -> Option<&'a str> {
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let json = json.trim_matches(is_space);
    match (step, json.as_bytes().first()?) {
        (Step::Key(key), b'{') => member(json, key),
        (Step::Index(index), b'[') => element(json, *index),
        _ => None,
    }
}

/// A JSON value as text: a string without its quotes and escapes, null as none, anything else as it is written.
pub(super) fn text(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b'n' => None,
        _ => Some(json.to_owned()),
    }
}

/// The value of the last member of that key, as JSONB keeps the last of equal keys.
fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let mut rest = inside(object);
    let mut found = None;
    while !rest.is_empty() {
        let (name, after) = value(rest)?;
        let (member, after) = value(after.strip_prefix(':')?.trim_start_matches(is_space))?;
        if is_key(name, key) {
            found = Some(member);
        }
        rest = next(after);
    }
    found
}

fn element(array: &str, index: i64) -> Option<&str> {
    let mut rest = inside(array);
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (element, after) = value(rest)?;
        if usize::try_from(index) == Ok(elements.len()) {
            return Some(element);
        }
        elements.push(element);
        rest = next(after);
    }
    let from_end = usize::try_from(index.checked_neg()?).ok()?;
    elements.get(elements.len().checked_sub(from_end)?).copied()
}

/// The text between the brackets.
fn inside(json: &str) -> &str {
    json[1..json.len() - 1].trim_matches(is_space)
}

/// The value that a text starts with, and what follows it.
fn value(json: &str) -> Option<(&str, &str)> {
    let mut stream = serde_json::Deserializer::from_str(json).into_iter::<IgnoredAny>();
    stream.next()?.ok()?;
    let (value, after) = json.split_at(stream.byte_offset());
    Some((value, after.trim_start_matches(is_space)))
}

/// What follows the comma.
fn next(after: &str) -> &str {
    after.strip_prefix(',').unwrap_or(after).trim_start_matches(is_space)
}

fn is_key(name: &str, key: &str) -> bool {
    let plain = &name[1..name.len() - 1];
    plain == key || plain.contains('\\') && serde_json::from_str::<String>(name).is_ok_and(|name| name == key)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn members_are_found_as_they_were_written() {
        let json = r#" { "a" : 1.10 , "b\"c" : [1, {"a": 2}], "é": "x", "a": -0.0e5 } "#;
        assert_eq!(part(json, &key("a")), Some("-0.0e5"));
        assert_eq!(part(json, &key("b\"c")), Some(r#"[1, {"a": 2}]"#));
        assert_eq!(part(json, &key("é")), Some("\"x\""));
        assert_eq!(part(json, &key("b")), None);
        assert_eq!(part("{}", &key("a")), None);
    }

    #[test]
    fn elements_count_from_either_end() {
        let json = r#"[10,"a]b", [2], null]"#;
        assert_eq!(part(json, &Step::Index(0)), Some("10"));
        assert_eq!(part(json, &Step::Index(1)), Some("\"a]b\""));
        assert_eq!(part(json, &Step::Index(-2)), Some("[2]"));
        assert_eq!(part(json, &Step::Index(-4)), Some("10"));
        for index in [4, -5, i64::MIN, i64::MAX] {
            assert_eq!(part(json, &Step::Index(index)), None, "{index}");
        }
        assert_eq!(part("[ ]", &Step::Index(0)), None);
    }

    #[test]
    fn a_step_into_the_wrong_kind_or_into_no_json_finds_nothing() {
        assert_eq!(part(r#"{"0": 1}"#, &Step::Index(0)), None);
        assert_eq!(part("[1]", &key("0")), None);
        for json in ["", "{", "7", "\"a\"", "{\"a\": 1", "{\"a\" 1}", "[1,]", "{\"a\": 1} x", "null"] {
            assert_eq!(part(json, &key("a")), None, "{json}");
            assert_eq!(part(json, &Step::Index(0)), None, "{json}");
        }
    }

    #[test]
    fn text_drops_quotes_escapes_and_null() {
        assert_eq!(text(r#""a\u00e9\n""#).as_deref(), Some("aé\n"));
        assert_eq!(text("null"), None);
        assert_eq!(text("1.50").as_deref(), Some("1.50"));
        assert_eq!(text(r#"{"a": 1}"#).as_deref(), Some(r#"{"a": 1}"#));
    }

    #[test]
    fn deep_nesting_does_not_overflow() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let _ = part(&deep, &Step::Index(0));
    }
}
