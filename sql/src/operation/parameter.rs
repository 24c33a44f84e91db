//! Parameters of operations, and arguments checked against them.
//!
//! **Invariant:** pure; after [`check`] every argument has its declared type, defaults are in place, and nothing else is there.

use std::fmt::Write as _;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::refusal::{Refusal, Refused};

/// Faults that are told of at a time.
const FAULTS_MAX: usize = 20;
/// The longest text of an argument, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// One parameter of an operation, or one member of an object.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The name: of the JSON member and of the argument of CALL.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// What stands for it where it is not given, as JSON.
    pub default: Option<&'static str>,
    /// What it means, in one sentence.
    pub does: &'static str,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text that is not empty.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A UUID.
    Id,
    /// A time: RFC 3339.
    Time,
    /// A duration such as `30s`, `5m`, `24h`, `7d`.
    Duration,
    /// true or false.
    Boolean,
    /// A whole number within these bounds.
    Integer(i64, i64),
    /// A number within these bounds.
    Number(f64, f64),
    /// An object with these members.
    Object(&'static [Parameter]),
    /// An object with any members.
    Map,
    /// A list of at most so many.
    List(&'static Kind, usize),
    /// Any JSON.
    Any,
}

impl Parameter {
    /// A parameter that may be left out.
    pub const fn new(name: &'static str, kind: Kind, does: &'static str) -> Self {
        Self { name, kind, required: false, default: None, does }
    }

    /// The same, but it must be given.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same with a default, as JSON.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

impl Kind {
    /// Whether CALL gives it as JSON text.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self, Kind::Object(_) | Kind::Map | Kind::List(..) | Kind::Any)
    }

    /// What it takes, in words.
    pub fn wanted(&self) -> String {
        match self {
            Kind::Text => "a text that is not empty".into(),
            Kind::Choice(all) => format!("one of {}", all.join(", ")),
            Kind::Id => "a UUID".into(),
            Kind::Time => "a time such as 2026-01-02T10:00:00Z".into(),
            Kind::Duration => "a duration such as 30s, 5m, 24h or 7d".into(),
            Kind::Boolean => "true or false".into(),
            Kind::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Number(least, most) => format!("a number from {least} to {most}"),
            Kind::Object(members) => {
                format!("an object with {}", members.iter().map(|member| member.name).collect::<Vec<_>>().join(", "))
            }
            Kind::Map => "an object".into(),
            Kind::List(item, most) => format!("a list of at most {most}, each {}", item.wanted()),
            Kind::Any => "JSON".into(),
        }
    }
}

/// Faults found so far.
#[derive(Default)]
struct Faults(Vec<(Refused, String, String)>);

impl Faults {
    fn add(&mut self, kind: Refused, pointer: &str, detail: String) {
        if self.0.len() < FAULTS_MAX {
            self.0.push((kind, pointer.to_owned(), detail));
        }
    }
}

/// Holds arguments to their parameters and puts defaults in place; null is an argument that is not given.
///
/// # Errors
/// A refusal that points to every argument at fault.
pub fn check(parameters: &[Parameter], given: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut faults = Faults::default();
    let checked = object(parameters, given, "", &mut faults);
    let Some((kind, pointer, detail)) = faults.0.first().cloned() else { return Ok(checked) };
    let mut text = format!("{pointer}: {detail}");
    if faults.0.len() > 1 {
        write!(text, " (and {} more)", faults.0.len() - 1).expect("a String takes every write");
    }
    let faults = faults.0.into_iter().map(|(_, pointer, detail)| (pointer, detail)).collect();
    Err(Refusal { kind, detail: text, faults, retry_after_s: None, quota: None })
}

fn object(parameters: &[Parameter], given: Map<String, Value>, at: &str, faults: &mut Faults) -> Map<String, Value> {
    let mut checked = Map::new();
    for (name, value) in given {
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        match parameters.iter().find(|parameter| parameter.name == name) {
            None => {
                let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                faults.add(Refused::UnknownField, &pointer, format!("there is no \"{name}\" here; there is {known}"));
            }
            Some(_) if value.is_null() => {}
            Some(parameter) => {
                if let Some(value) = one(&parameter.kind, value, &pointer, faults) {
                    checked.insert(name, value);
                }
            }
        }
    }
    for parameter in parameters {
        if checked.contains_key(parameter.name) {
            continue;
        }
        let pointer = format!("{at}/{}", parameter.name);
        if faults.0.iter().any(|(_, named, _)| named.starts_with(&pointer)) {
            continue;
        }
        if let Some(default) = parameter.default {
            let value = serde_json::from_str(default).expect("a default is JSON: a test reads them all");
            // An object's own members have defaults too.
            if let Some(value) = one(&parameter.kind, value, &pointer, faults) {
                checked.insert(parameter.name.to_owned(), value);
            }
        } else if parameter.required {
            let detail = format!("\"{}\" is missing: it takes {}", parameter.name, parameter.kind.wanted());
            faults.add(Refused::MissingField, &pointer, detail);
        }
    }
    checked
}

fn one(kind: &Kind, value: Value, pointer: &str, faults: &mut Faults) -> Option<Value> {
    let typed = match kind {
        Kind::Text | Kind::Choice(_) | Kind::Id | Kind::Time | Kind::Duration => value.is_string(),
        Kind::Boolean => value.is_boolean(),
        Kind::Integer(..) | Kind::Number(..) => value.is_number(),
        Kind::Object(_) | Kind::Map => value.is_object(),
        Kind::List(..) => value.is_array(),
        Kind::Any => true,
    };
    if !typed {
        faults.add(Refused::InvalidField, pointer, format!("this must be {}, not {}", kind.wanted(), named(&value)));
        return None;
    }
    match (kind, value) {
        (Kind::Object(members), Value::Object(given)) => Some(Value::Object(object(members, given, pointer, faults))),
        (Kind::List(item, most), Value::Array(items)) if items.len() <= *most => {
            let items = items.into_iter().enumerate();
            let checked = items.filter_map(|(at, value)| one(item, value, &format!("{pointer}/{at}"), faults));
            Some(Value::Array(checked.collect()))
        }
        (kind, value) if makes_sense(kind, &value) => Some(value),
        (kind, value) => {
            let shown: String = value.to_string().chars().take(80).collect();
            faults.add(Refused::InvalidValue, pointer, format!("{shown} is not {}", kind.wanted()));
            None
        }
    }
}

fn named(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether a value of the right type is one that the kind takes.
fn makes_sense(kind: &Kind, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    match kind {
        Kind::Text => !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains('\0'),
        Kind::Choice(all) => all.contains(&text),
        Kind::Id => uuid::Uuid::try_parse(text).is_ok(),
        Kind::Time => time_us(text).is_some(),
        Kind::Duration => duration_us(text).is_some(),
        Kind::Integer(least, most) => value.as_i64().is_some_and(|number| (*least..=*most).contains(&number)),
        Kind::Number(least, most) => value.as_f64().is_some_and(|number| (*least..=*most).contains(&number)),
        Kind::List(..) => false,
        Kind::Boolean | Kind::Object(_) | Kind::Map | Kind::Any => true,
    }
}

/// Microseconds since 1970 of an RFC 3339 time.
pub(crate) fn time_us(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_micros())
}

/// Microseconds of a positive duration such as `30s`.
pub(crate) fn duration_us(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match &text[digits..] {
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "w" => 604_800_000_000,
        _ => return None,
    };
    text[..digits].parse::<i64>().ok()?.checked_mul(unit).filter(|us| *us > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WINDOW: &[Parameter] =
        &[Parameter::new("from", Kind::Time, "Its begin.").required(), Parameter::new("to", Kind::Time, "Its end.")];
    const PARAMETERS: &[Parameter] = &[
        Parameter::new("service", Kind::Text, "Whose.").required(),
        Parameter::new("window", Kind::Object(WINDOW), "When."),
        Parameter::new("quantiles", Kind::List(&Kind::Number(0.0, 1.0), 3), "Which.").or("[0.5]"),
        Parameter::new("count", Kind::Integer(1, 5), "How many."),
        Parameter::new("method", Kind::Choice(&["auto", "none"]), "How."),
    ];

    fn checked(given: Value) -> Result<Map<String, Value>, Refusal> {
        check(PARAMETERS, given.as_object().expect("an object").clone())
    }

    #[test]
    fn defaults_are_put_in_place_and_null_is_not_given() {
        let found = checked(json!({"service": "a", "count": null})).unwrap();
        assert_eq!(Value::Object(found), json!({"service": "a", "quantiles": [0.5]}));
    }

    #[test]
    fn every_fault_is_pointed_to() {
        for (given, kind, pointer) in [
            (json!({}), Refused::MissingField, "/service"),
            (json!({"service": "a", "a/b": 1}), Refused::UnknownField, "/a~1b"),
            (json!({"service": 1}), Refused::InvalidField, "/service"),
            (json!({"service": " "}), Refused::InvalidValue, "/service"),
            (json!({"service": "a", "window": {"from": "soon"}}), Refused::InvalidValue, "/window/from"),
            (json!({"service": "a", "window": {}}), Refused::MissingField, "/window/from"),
            (
                json!({"service": "a", "window": {"from": "2026-01-01T00:00:00Z", "x": 1}}),
                Refused::UnknownField,
                "/window/x",
            ),
            (json!({"service": "a", "quantiles": [0.5, 2]}), Refused::InvalidValue, "/quantiles/1"),
            (json!({"service": "a", "quantiles": [0.1, 0.2, 0.3, 0.4]}), Refused::InvalidValue, "/quantiles"),
            (json!({"service": "a", "count": 1.5}), Refused::InvalidValue, "/count"),
            (json!({"service": "a", "count": 6}), Refused::InvalidValue, "/count"),
            (json!({"service": "a", "method": "magic"}), Refused::InvalidValue, "/method"),
        ] {
            let refusal = checked(given.clone()).unwrap_err();
            assert_eq!((refusal.kind, refusal.faults[0].0.as_str()), (kind, pointer), "{given}: {refusal}");
            assert_eq!(refusal.faults.len(), 1, "{given}: {refusal:?}");
        }
        assert_eq!(checked(json!({"service": 1, "count": "x", "y": 1})).unwrap_err().faults.len(), 3);
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration_us("24h"), Some(86_400_000_000));
        assert!(["", "5", "0s", "-1s", "s", "1y", "99999999999999w"].iter().all(|text| duration_us(text).is_none()));
    }
}
