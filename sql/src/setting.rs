//! Session settings: what SET, SHOW and RESET know.
//!
//! **Invariant:** a setting that would have an effect in PostgreSQL and has none here takes only the value that is true of juno.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Select, Value, VisitMut, VisitorMut,
};

use crate::transaction::Modes;
use crate::{Error, Result, spelling};

/// What a setting takes.
#[derive(Clone, Copy)]
enum Takes {
    /// Any text; only the client reads it.
    Text,
    /// Milliseconds, or a number with a unit; 0 is off.
    Duration,
    /// One of these words, kept as it was given.
    Word(&'static [&'static str]),
    /// One of these words, which all mean the default.
    OneOf(&'static [&'static str]),
    /// On or off.
    Switch,
    /// Never changes.
    Fixed,
}

const LEVEL: Takes = Takes::Word(&["read committed", "read uncommitted", "repeatable read"]);

const ON: Takes = Takes::OneOf(&["on", "true", "yes", "1"]);

/// Name as PostgreSQL shows it, default, and what it takes.
const KNOWN: &[(&str, &str, Takes)] = &[
    ("application_name", "", Takes::Text),
    ("bytea_output", "hex", Takes::OneOf(&["hex"])),
    ("client_encoding", "UTF8", Takes::OneOf(&["utf8", "utf-8", "unicode"])),
    ("client_min_messages", "notice", Takes::Text),
    (
        "DateStyle",
        "ISO, MDY",
        Takes::OneOf(&["iso", "iso, mdy", "iso, dmy", "iso, ymd", "iso,mdy", "iso,dmy", "iso,ymd"]),
    ),
    ("default_transaction_isolation", "read committed", LEVEL),
    ("default_transaction_read_only", "off", Takes::Word(&["off", "on"])),
    ("extra_float_digits", "1", Takes::Text),
    ("idle_in_transaction_session_timeout", "0", Takes::Duration),
    ("integer_datetimes", "on", Takes::Fixed),
    ("IntervalStyle", "postgres", Takes::OneOf(&["postgres"])),
    ("is_superuser", "on", Takes::Fixed),
    ("jit", "off", Takes::Text),
    ("juno.aggregates", "on", Takes::Switch),
    ("lock_timeout", "0", Takes::Duration),
    ("max_identifier_length", "63", Takes::Fixed),
    ("row_security", "off", Takes::Text),
    ("search_path", "public", Takes::Text),
    ("server_encoding", "UTF8", Takes::Fixed),
    ("server_version", "16.6", Takes::Fixed),
    ("server_version_num", "160006", Takes::Fixed),
    ("standard_conforming_strings", "on", ON),
    ("statement_timeout", "0", Takes::Duration),
    ("synchronous_commit", "on", ON),
    ("TimeZone", "UTC", Takes::OneOf(&["utc", "gmt", "etc/utc", "zulu", "+00:00", "+00", "0"])),
];

/// The settings of one session.
#[derive(Debug, Default, Clone)]
pub(crate) struct Settings {
    changed: Changed,
    block: Option<Block>,
}

type Changed = BTreeMap<&'static str, String>;

/// What becomes of the settings at the end of a transaction.
#[derive(Debug, Clone)]
struct Block {
    /// Those that it began with.
    begun: Changed,
    /// Those that outlast it where it commits.
    lasting: Changed,
}

/// What `set_config` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    /// None is the default.
    pub(crate) value: Option<String>,
    /// To the end of the transaction.
    pub(crate) local: bool,
}

fn known(name: &str) -> Result<&'static (&'static str, &'static str, Takes)> {
    KNOWN
        .iter()
        .find(|(known, ..)| known.eq_ignore_ascii_case(name))
        .ok_or_else(|| Error::InvalidArgument(format!("unrecognized configuration parameter \"{name}\"")))
}

/// Whether a text asks for settings, or changes them, as a function.
pub(crate) fn asked(sql: &str) -> bool {
    let lower = sql.to_lowercase();
    [ASKS, CHANGES].iter().any(|name| lower.contains(name))
}

const ASKS: &str = "current_setting";
const CHANGES: &str = "set_config";

/// `current_setting('name' [, missing_ok])` becomes the value that the setting has now, and `set_config('name', 'value',
/// is_local)` the value that it is to have; what is to change is given back.
pub(crate) fn fill(statement: &mut Parsed, value_of: &impl Fn(&str) -> Result<String>) -> Result<Vec<Assignment>> {
    let Parsed::Statement(statement) = statement else { return Ok(Vec::new()) };
    let mut fill = Fill { value_of, changes: Vec::new() };
    match VisitMut::visit(statement.as_mut(), &mut fill) {
        ControlFlow::Continue(()) => Ok(fill.changes),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Fill<'a, F> {
    value_of: &'a F,
    changes: Vec<Assignment>,
}

impl<F: Fn(&str) -> Result<String>> Fill<'_, F> {
    fn value(&mut self, name: &str, arguments: &[Option<Value>]) -> Result<Value> {
        match (name, arguments) {
            (ASKS, [Some(Value::SingleQuotedString(name)), rest @ ..]) => match (self.value_of)(name) {
                Ok(value) => Ok(Value::SingleQuotedString(value)),
                Err(_) if matches!(rest, [Some(Value::Boolean(true))]) => Ok(Value::Null),
                Err(error) => Err(error),
            },
            (
                CHANGES,
                [
                    Some(Value::SingleQuotedString(name)),
                    Some(value @ (Value::SingleQuotedString(_) | Value::Null)),
                    Some(Value::Boolean(local)),
                ],
            ) => {
                let text = if let Value::SingleQuotedString(text) = value { Some(text.clone()) } else { None };
                self.changes.push(Assignment { name: name.clone(), value: text, local: *local });
                Ok(value.clone())
            }
            (ASKS, _) => Err(Error::Unsupported("current_setting takes the name of a setting, written out".into())),
            _ => Err(Error::Unsupported(
                "set_config takes a name, a value and whether it is local, written out; SET does the same".into(),
            )),
        }
    }
}

/// The function's name, where an expression is a call of one of the two.
fn called(expr: &Expr) -> Option<&'static str> {
    let Expr::Function(call) = expr else { return None };
    let name = call.name.0.last()?.as_ident()?;
    [ASKS, CHANGES].into_iter().find(|known| known.eq_ignore_ascii_case(&name.value))
}

impl<F: Fn(&str) -> Result<String>> VisitorMut for Fill<'_, F> {
    type Break = Error;

    /// A column that is the call alone keeps its name.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        spelling::keep_names(&mut select.projection, |expr| called(expr).map(Ident::new));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let (Some(name), Expr::Function(call)) = (called(expr), &*expr) else { return ControlFlow::Continue(()) };
        let value = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => Some(value.value.clone()),
            _ => None,
        };
        let arguments: Vec<Option<Value>> = match &call.args {
            FunctionArguments::List(list) => list.args.iter().map(value).collect(),
            _ => Vec::new(),
        };
        match self.value(name, &arguments) {
            Ok(value) => *expr = Expr::value(value),
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// Every setting with its default.
pub(crate) fn defaults() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.iter().map(|(name, default, _)| (*name, *default))
}

impl Settings {
    /// The value of a setting.
    pub(crate) fn get(&self, name: &str) -> Result<String> {
        known(name).map(|known| self.shown(known))
    }

    fn shown(&self, (name, default, takes): &(&'static str, &'static str, Takes)) -> String {
        match (self.changed.get(name), takes) {
            (Some(ms), Takes::Duration) => with_unit(ms),
            (Some(value), _) => value.clone(),
            (None, _) => (*default).to_owned(),
        }
    }

    /// Begins a transaction.
    pub(crate) fn begin(&mut self) {
        self.block = Some(Block { begun: self.changed.clone(), lasting: self.changed.clone() });
    }

    /// Ends a transaction: what was changed for it alone goes, and all that was changed where it did not commit.
    pub(crate) fn end(&mut self, committed: bool) {
        if let Some(block) = self.block.take() {
            self.changed = if committed { block.lasting } else { block.begun };
        }
    }

    /// Changes a setting to the end of the transaction; whether there is one.
    pub(crate) fn set_local(&mut self, name: &str, value: &str) -> Result<bool> {
        let kept = kept(name, value)?;
        if self.block.is_some() {
            self.changed.insert(kept.0, kept.1);
        }
        Ok(self.block.is_some())
    }

    /// Changes a setting.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let (name, kept) = kept(name, value)?;
        if let Some(block) = &mut self.block {
            block.lasting.insert(name, kept.clone());
        }
        self.changed.insert(name, kept);
        Ok(())
    }

    /// Back to the default: one setting, or all.
    pub(crate) fn reset(&mut self, name: Option<&str>) -> Result<()> {
        let name = name.map(known).transpose()?.map(|known| known.0);
        let lasting = self.block.as_mut().map(|block| &mut block.lasting);
        for changed in std::iter::once(&mut self.changed).chain(lasting) {
            match name {
                Some(name) => drop(changed.remove(name)),
                None => changed.clear(),
            }
        }
        Ok(())
    }

    /// All settings with their values.
    pub(crate) fn all(&self) -> Vec<(&'static str, String)> {
        KNOWN.iter().map(|known| (known.0, self.shown(known))).collect()
    }

    /// Whether block aggregates and the like may answer in place of rows.
    pub(crate) fn aggregates(&self) -> bool {
        self.changed.get("juno.aggregates").is_none_or(|value| value == "on")
    }

    /// The limit that a setting puts; None where it puts none.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        let ms = self.changed.get(name)?.parse().ok().filter(|ms| *ms > 0)?;
        Some(Duration::from_millis(ms))
    }

    /// What a transaction is where BEGIN does not say.
    pub(crate) fn modes(&self) -> Modes {
        let is = |name: &str, value: &str| self.changed.get(name).is_some_and(|now| now == value);
        Modes {
            repeatable: is("default_transaction_isolation", "repeatable read"),
            read_only: is("default_transaction_read_only", "on"),
        }
    }
}

/// The name of a setting as it is kept, and a value as it is kept.
fn kept(name: &str, value: &str) -> Result<(&'static str, String)> {
    let (name, default, takes) = known(name)?;
    let value = value.trim().trim_matches('\'');
    let kept = match takes {
        Takes::Text => value.to_owned(),
        Takes::Duration => milliseconds(name, value)?.to_string(),
        Takes::Switch => switch(name, value)?.to_owned(),
        Takes::Word(words) => word(name, words, value)?.to_owned(),
        Takes::OneOf(words) if words.iter().any(|word| word.eq_ignore_ascii_case(value)) => (*default).to_owned(),
        Takes::OneOf(_) => {
            return Err(Error::Unsupported(format!(
                "\"{name}\" is always {default} in juno and cannot be \"{value}\""
            )));
        }
        Takes::Fixed => return Err(Error::InvalidArgument(format!("parameter \"{name}\" cannot be changed"))),
    };
    Ok((name, kept))
}

/// Which of its words a value is; `true`, `yes` and `1` are `on`.
fn word(name: &str, words: &[&'static str], value: &str) -> Result<&'static str> {
    let value = value.to_lowercase();
    let value = match value.as_str() {
        "true" | "yes" | "1" => "on",
        "false" | "no" | "0" => "off",
        other => other,
    };
    words.iter().find(|word| **word == value).copied().ok_or_else(|| {
        Error::Unsupported(format!("\"{name}\" cannot be \"{value}\" in juno: it takes {}", words.join(", ")))
    })
}

fn switch(name: &str, value: &str) -> Result<&'static str> {
    match value.to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok("on"),
        "off" | "false" | "no" | "0" => Ok("off"),
        _ => Err(Error::InvalidArgument(format!("parameter \"{name}\" requires a Boolean value: on or off"))),
    }
}

/// Milliseconds as PostgreSQL shows them: in the largest unit that is whole.
fn with_unit(ms: &str) -> String {
    let ms: u64 = ms.parse().expect("kept as digits");
    let units = [(3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    match units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => "0".to_owned(),
    }
}

/// `250`, `250ms`, `5s`, `2min` or `1h` in milliseconds.
fn milliseconds(name: &str, value: &str) -> Result<u64> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let factor = match value[digits..].trim() {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = value[..digits].parse::<u64>().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|ms| *ms <= i32::MAX as u64)
        .ok_or_else(|| {
            Error::InvalidArgument(format!(
                "invalid value for parameter \"{name}\": \"{value}\"; write 500, '500ms', '5s' or '1min'"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_takes_units_and_a_fixed_truth_takes_only_itself() {
        let mut settings = Settings::default();
        assert_eq!(settings.duration("statement_timeout"), None);
        settings.set("statement_timeout", "2min").expect("has a unit");
        assert_eq!(settings.get("statement_timeout").expect("known"), "2min");
        assert_eq!(settings.duration("statement_timeout"), Some(Duration::from_secs(120)));
        assert!(settings.set("statement_timeout", "soon").is_err());
        settings.set("timezone", "Etc/UTC").expect("is UTC");
        assert!(matches!(settings.set("TimeZone", "Europe/Berlin"), Err(Error::Unsupported(_))));
        assert!(settings.get("no_such").is_err());
    }

    #[test]
    fn a_transaction_ends_what_was_set_for_it() {
        let mut settings = Settings::default();
        let now = |settings: &Settings| settings.get("application_name").expect("known");
        assert!(!settings.set_local("application_name", "nowhere").expect("known"));
        settings.set("application_name", "before").expect("text");
        for (committed, after) in [(false, "before"), (true, "lasting")] {
            settings.begin();
            settings.set("application_name", "lasting").expect("text");
            assert!(settings.set_local("application_name", "local").expect("known"));
            assert_eq!(now(&settings), "local");
            settings.end(committed);
            assert_eq!(now(&settings), after);
        }
        settings.begin();
        settings.reset(Some("application_name")).expect("known");
        settings.end(true);
        assert_eq!(now(&settings), "");
    }
}
