//! Texts of times and intervals in PostgreSQL's spellings that arrow's parsers do not know.
//!
//! **Invariant:** changes a text only where its type is written beside it.

use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr, Interval, UnaryOperator, Value};

use super::take;

/// `'2024-01-15 10:30'::timestamp`, `timestamptz '2024-01-15+00'`, `INTERVAL '1 day 02:03:04'`, `- INTERVAL '1 day'`,
/// `'today'::date`.
pub(super) fn adapt(expr: &mut Expr) {
    match expr {
        Expr::Cast { expr: inner, data_type, .. } => match data_type {
            DataType::Timestamp(..) | DataType::Date => {
                if let Some(moment) = text_of(inner).and_then(moment) {
                    **inner = moment;
                }
                change(inner, with_seconds);
            }
            DataType::Interval { .. } => change(inner, with_units),
            _ => {}
        },
        Expr::TypedString(typed) if matches!(typed.data_type, DataType::Timestamp(..) | DataType::Date) => {
            if let Value::SingleQuotedString(text) = &typed.value.value
                && let Some(moment) = moment(text)
            {
                let data_type = typed.data_type.clone();
                *expr =
                    Expr::Cast { kind: CastKind::Cast, expr: Box::new(moment), data_type, array: false, format: None };
            } else if let Value::SingleQuotedString(text) = &mut typed.value.value
                && let Some(changed) = with_seconds(text)
            {
                *text = changed;
            }
        }
        Expr::Interval(interval) => change(&mut interval.value, with_units),
        // DataFusion would put the sign before the first number only.
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } if matches!(**inner, Expr::Interval(_)) => {
            let zero = Interval {
                value: Box::new(Expr::value(Value::SingleQuotedString("0 seconds".into()))),
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            };
            let minus = datafusion::sql::sqlparser::ast::BinaryOperator::Minus;
            let inner = take(inner);
            let difference = Expr::BinaryOp { left: Box::new(Expr::Interval(zero)), op: minus, right: Box::new(inner) };
            *expr = Expr::Nested(Box::new(difference));
        }
        _ => {}
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The moment that one of PostgreSQL's words stands for.
fn moment(text: &str) -> Option<Expr> {
    let sql = match text.trim().to_lowercase().as_str() {
        "now" => "now()",
        "today" => "date_trunc('day', now())",
        "tomorrow" => "date_trunc('day', now()) + INTERVAL '1 day'",
        "yesterday" => "date_trunc('day', now()) - INTERVAL '1 day'",
        "epoch" => "to_timestamp(0)",
        _ => return None,
    };
    super::parsed(sql)
}

fn change(expr: &mut Expr, to: fn(&str) -> Option<String>) {
    if let Expr::Value(value) = expr
        && let Value::SingleQuotedString(text) = &mut value.value
        && let Some(changed) = to(text)
    {
        *text = changed;
    }
}

/// A date with hours and minutes and no seconds, or with a zone and no time; none where nothing is missing.
pub(crate) fn with_seconds(text: &str) -> Option<String> {
    let text = text.trim();
    let is_date = |text: &str| text.len() == 10 && fits(text, "dddd-dd-dd");
    let date = text.get(..10).filter(|date| is_date(date))?;
    let rest = &text[10..];
    if fits(rest.get(..1)?, "+") || fits(rest.get(..1)?, "-") {
        return Some(format!("{date}T00:00:00{rest}"));
    }
    let time = rest.strip_prefix([' ', 'T'])?;
    let minutes = time.get(..5).filter(|minutes| fits(minutes, "dd:dd"))?;
    let zone = &time[5..];
    (zone.is_empty() || zone.starts_with(['+', '-', 'Z', ' '])).then(|| format!("{date}T{minutes}:00{}", zone.trim()))
}

fn fits(text: &str, pattern: &str) -> bool {
    let same = |(c, p): (char, char)| if p == 'd' { c.is_ascii_digit() } else { c == p };
    text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(same)
}

/// An interval whose `02:03:04.5` is written with units; none where there is no such part.
fn with_units(text: &str) -> Option<String> {
    if !text.contains(':') {
        return None;
    }
    let part = |part: &str| {
        let (sign, clock) = match part.strip_prefix('-') {
            Some(clock) => ("-", clock),
            None => ("", part.strip_prefix('+').unwrap_or(part)),
        };
        let mut numbers = clock.split(':');
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(hours), Some(minutes), seconds, None) => {
                let seconds = seconds.unwrap_or("0");
                format!("{sign}{hours} hours {sign}{minutes} minutes {sign}{seconds} seconds")
            }
            _ => part.to_owned(),
        }
    };
    Some(text.split_whitespace().map(part).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_seconds_are_added_and_nothing_else() {
        let changed = |text: &str| with_seconds(text);
        assert_eq!(changed("2024-01-15 10:30").as_deref(), Some("2024-01-15T10:30:00"));
        assert_eq!(changed("2024-01-15T10:30+02").as_deref(), Some("2024-01-15T10:30:00+02"));
        assert_eq!(changed("2024-01-15+00").as_deref(), Some("2024-01-15T00:00:00+00"));
        for whole in ["2024-01-15", "2024-01-15 10:30:00", "noon", "", "2024-01-15 1", "äöü2024-01"] {
            assert_eq!(changed(whole), None, "{whole}");
        }
    }

    #[test]
    fn clock_times_in_intervals_get_units() {
        let units = "2 days -1 hours -2 minutes -3.5 seconds";
        assert_eq!(with_units("2 days -1:2:3.5").as_deref(), Some(units));
        assert_eq!(with_units("1 day"), None);
    }
}
