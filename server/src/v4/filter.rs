//! Declared query parameters and the conditions that they stand for.
//!
//! **Invariant:** the SQL of a condition is a constant of the program; only its bound value comes from the client.

use arrow::datatypes::{DataType, TimeUnit};
use juno_sql::rfc3339;
use serde_json::Value;

use super::{Pairs, range};
use crate::http::problem::Problem;

/// How a parameter's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A finite number.
    Number,
    /// RFC 3339, unix milliseconds, or relative to now.
    Time,
}

/// A parameter that an endpoint takes: given several times, any of its values will do.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// The parameter's name.
    pub name: &'static str,
    /// The condition, with `{}` for the value.
    pub sql: &'static str,
    /// How its text is read.
    pub kind: Kind,
}

impl Filter {
    pub(super) const fn new(name: &'static str, sql: &'static str, kind: Kind) -> Filter {
        Filter { name, sql, kind }
    }
}

/// The conditions of a WHERE clause and the values bound to them.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    /// Joined by AND.
    sql: Vec<String>,
    pub(super) values: Vec<Value>,
    pub(super) types: Vec<Option<DataType>>,
}

impl Conditions {
    /// Binds a value and gives its `$n`.
    pub(super) fn bind(&mut self, value: Value, kind: Kind) -> String {
        self.values.push(value);
        self.types.push(match kind {
            Kind::Text => Some(DataType::Utf8),
            Kind::Boolean => Some(DataType::Boolean),
            Kind::Number => Some(DataType::Float64),
            Kind::Time => Some(DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
        });
        format!("${}", self.values.len())
    }

    /// Adds a condition whose placeholders were bound by [`Conditions::bind`].
    pub(super) fn and(&mut self, condition: impl Into<String>) {
        self.sql.push(condition.into());
    }

    /// Adds `column-time >= from` and `< to`.
    pub(super) fn within(&mut self, column: &str, range: range::Range) {
        if let Some(from) = range.from_us {
            let from = self.bind(rfc3339(from).into(), Kind::Time);
            self.and(format!("{column} >= {from}"));
        }
        if let Some(to) = range.to_us {
            let to = self.bind(rfc3339(to).into(), Kind::Time);
            self.and(format!("{column} < {to}"));
        }
    }

    /// Adds the filter's condition for all its values, joined by OR.
    fn filter(&mut self, filter: &Filter, texts: &[&str], now_us: i64) -> Result<(), Problem> {
        let mut any = vec![];
        for text in texts {
            let value = read(filter, text, now_us)?;
            let placeholder = self.bind(value, filter.kind);
            any.push(filter.sql.replace("{}", &placeholder));
        }
        if !any.is_empty() {
            self.and(format!("({})", any.join(" OR ")));
        }
        Ok(())
    }

    /// Adds the conditions of all filters that a request names.
    pub(super) fn filters(&mut self, filters: &[Filter], pairs: &Pairs, now_us: i64) -> Result<(), Problem> {
        for filter in filters {
            let given = pairs.iter().filter(|(name, _)| name == filter.name);
            let texts: Vec<&str> = given.map(|(_, text)| text.as_str()).collect();
            self.filter(filter, &texts, now_us)?;
        }
        Ok(())
    }

    /// ` WHERE …`, or nothing.
    pub(super) fn clause(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!(" WHERE {}", self.sql.join(" AND ")) }
    }
}

/// Refuses a parameter that is no filter and none of these others.
pub(super) fn only_known(pairs: &Pairs, filters: &[Filter], others: &[&str]) -> Result<(), Problem> {
    let known: Vec<&str> = filters.iter().map(|filter| filter.name).chain(others.iter().copied()).collect();
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(Problem::unknown_parameter(name, &known)),
        None => Ok(()),
    }
}

fn read(filter: &Filter, text: &str, now_us: i64) -> Result<Value, Problem> {
    let found = match filter.kind {
        Kind::Text => Some(Value::from(text)),
        Kind::Boolean => text.parse::<bool>().ok().map(Value::from),
        Kind::Number => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
        Kind::Time => range::time(text, now_us).map(|time| rfc3339(time).into()),
    };
    let wanted = match filter.kind {
        Kind::Text => "a text",
        Kind::Boolean => "true or false",
        Kind::Number => "a number",
        Kind::Time => range::TIME_FORMS,
    };
    found.ok_or_else(|| invalid(filter.name, text, wanted))
}

/// The problem of a parameter whose text says nothing.
pub(super) fn invalid(name: &str, text: &str, wanted: &str) -> Problem {
    Problem::new("invalid-parameter-value", format!("{name}=\"{text}\" is not {wanted}")).at(format!("?{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_values_are_or_and_nothing_of_the_client_is_in_the_sql() {
        let mut conditions = Conditions::default();
        let severity = Filter::new("severity", "severity = {}", Kind::Text);
        conditions.filter(&severity, &["high", "'; DROP TABLE x; --"], 0).unwrap();
        conditions.and("success");
        assert_eq!(conditions.clause(), " WHERE (severity = $1 OR severity = $2) AND success");
        assert_eq!(conditions.values[1], "'; DROP TABLE x; --");
    }

    #[test]
    fn filters_take_what_is_theirs_and_other_parameters_must_be_known() {
        let filters = [Filter::new("a", "a = {}", Kind::Text), Filter::new("b", "b = {}", Kind::Number)];
        let given = |pairs: &[(&str, &str)]| -> Pairs {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let mut conditions = Conditions::default();
        let pairs = given(&[("b", "7"), ("a", "x"), ("from", "now-1h"), ("a", "y")]);
        conditions.filters(&filters, &pairs, 0).unwrap();
        assert_eq!(conditions.clause(), " WHERE (a = $1 OR a = $2) AND (b = $3)");
        assert_eq!(conditions.values, [Value::from("x"), Value::from("y"), Value::from(7.0)]);
        assert!(conditions.filters(&filters, &given(&[("b", "seven")]), 0).is_err());
        assert!(only_known(&pairs, &filters, &["from"]).is_ok());
        let refused = only_known(&pairs, &filters, &[]).unwrap_err();
        assert_eq!((refused.status, refused.errors[0].pointer.as_str()), (400, "?from"));
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_the_parameter_named() {
        let mut conditions = Conditions::default();
        for (kind, text) in [(Kind::Boolean, "yes"), (Kind::Number, "NaN"), (Kind::Time, "yesterday")] {
            let problem = conditions.filter(&Filter::new("x", "x = {}", kind), &[text], 0).unwrap_err();
            assert_eq!((problem.status, problem.errors[0].pointer.as_str()), (400, "?x"));
        }
        assert!(conditions.clause().is_empty());
    }
}
