//! `to_char(time, format)`: a time by PostgreSQL's template patterns, such as `YYYY-MM-DD HH24:MI:SS`.
//!
//! **Invariant:** what is no pattern stands in the text as it is; times are in UTC.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Timelike, Utc};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::mismatch;

/// `SELECT to_char(time, 'YYYY-MM-DD')`. Text between double quotes is not looked at; `FM` before a pattern leaves its zeros and
/// spaces out, `TH` after a number gives it its ending. Immutable.
pub(super) fn to_char() -> ScalarUDF {
    ScalarUDF::new_from_impl(ToChar { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    signature: Signature,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => Ok(DataType::Utf8),
            other => Err(mismatch(format!("to_char takes a timestamp or a date, not {}", name_of(other)))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let zone = match arrays[0].data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let times = cast(&arrays[0], &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
        let formats = cast(&arrays[1], &DataType::Utf8)?;
        let rows = times.as_primitive::<TimestampMicrosecondType>().iter().zip(formats.as_string::<i32>());
        let shown = rows.map(|(time, format)| Some(formatted(DateTime::from_timestamp_micros(time?)?, format?)));
        let shown: ArrayRef = Arc::new(shown.collect::<StringArray>());
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        Ok(if is_scalar && shown.len() == 1 {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&shown, 0)?)
        } else {
            ColumnarValue::Array(shown)
        })
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// What a pattern stands for.
enum Part {
    /// A number and the digits it is padded to.
    Number(i64, usize),
    /// A word and the characters it is padded to.
    Word(String, usize),
}

/// Every pattern, longer ones before those that they begin with.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "HH", "MI", "SSSS", "SS", "MS", "US", "YYYY", "YYY", "YY", "IYYY", "MONTH", "Month", "month",
    "MON", "Mon", "mon", "MM", "RM", "DAY", "Day", "day", "DY", "Dy", "dy", "DDD", "DD", "ID", "IW", "WW", "CC", "TZ",
    "tz", "OF", "AM", "PM", "am", "pm", "A.M.", "P.M.", "a.m.", "p.m.", "Y", "Q", "D", "W", "J",
];

fn part(pattern: &str, at: &DateTime<Utc>) -> Part {
    let (month, day) = (MONTHS[at.month0() as usize], DAYS[at.weekday().num_days_from_sunday() as usize]);
    let number = |value: u32, width| Part::Number(i64::from(value), width);
    let cased = |word: &str| match pattern {
        upper if upper == upper.to_uppercase() => word.to_uppercase(),
        lower if lower == lower.to_lowercase() => word.to_lowercase(),
        _ => word.to_owned(),
    };
    let half = if at.hour() < 12 { "am" } else { "pm" };
    match pattern {
        "HH24" => number(at.hour(), 2),
        "HH12" | "HH" => number(at.hour12().1, 2),
        "MI" => number(at.minute(), 2),
        "SS" => number(at.second(), 2),
        "SSSS" => number(at.num_seconds_from_midnight(), 1),
        "MS" => number(at.timestamp_subsec_millis(), 3),
        "US" => number(at.timestamp_subsec_micros(), 6),
        "YYYY" => Part::Number(i64::from(at.year()), 4),
        "IYYY" => Part::Number(i64::from(at.iso_week().year()), 4),
        "YYY" => Part::Number(i64::from(at.year().rem_euclid(1_000)), 3),
        "YY" => Part::Number(i64::from(at.year().rem_euclid(100)), 2),
        "Y" => Part::Number(i64::from(at.year().rem_euclid(10)), 1),
        "CC" => Part::Number(i64::from((at.year() + 99).div_euclid(100)), 2),
        "Q" => number(at.month0() / 3 + 1, 1),
        "MM" => number(at.month(), 2),
        "RM" => Part::Word(ROMAN[at.month0() as usize].into(), 4),
        "MONTH" | "Month" | "month" => Part::Word(cased(month), 9),
        "MON" | "Mon" | "mon" => Part::Word(cased(&month[..3]), 0),
        "DAY" | "Day" | "day" => Part::Word(cased(day), 9),
        "DY" | "Dy" | "dy" => Part::Word(cased(&day[..3]), 0),
        "DDD" => number(at.ordinal(), 3),
        "DD" => number(at.day(), 2),
        "D" => number(at.weekday().number_from_sunday(), 1),
        "ID" => number(at.weekday().number_from_monday(), 1),
        "IW" => number(at.iso_week().week(), 2),
        "WW" => number(at.ordinal0() / 7 + 1, 2),
        "W" => number(at.day0() / 7 + 1, 1),
        // Days since 24 November 4714 BC.
        "J" => Part::Number(at.timestamp().div_euclid(86_400) + 2_440_588, 1),
        "TZ" => Part::Word("UTC".into(), 0),
        "tz" => Part::Word("utc".into(), 0),
        "OF" => Part::Word("+00".into(), 0),
        "A.M." | "P.M." | "a.m." | "p.m." => {
            let (first, second) = half.split_at(1);
            Part::Word(cased(&format!("{first}.{second}.")), 0)
        }
        _ => Part::Word(cased(half), 0),
    }
}

fn formatted(at: DateTime<Utc>, format: &str) -> String {
    let (mut out, mut rest) = (String::new(), format);
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push_str(&quoted[..end]);
            rest = quoted.get(end + 1..).unwrap_or_default();
            continue;
        }
        let (fill, after) = match rest.strip_prefix("FM") {
            Some(after) => (false, after),
            None => (true, rest),
        };
        let Some(pattern) = PATTERNS.iter().find(|pattern| after.starts_with(**pattern)) else {
            if fill {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            } else {
                rest = after;
            }
            continue;
        };
        rest = &after[pattern.len()..];
        match part(pattern, &at) {
            Part::Number(value, width) => {
                let width = if fill { width } else { 0 };
                out.push_str(&format!("{value:0width$}"));
                if let Some(ending) = ["TH", "th"].into_iter().find(|ending| rest.starts_with(ending)) {
                    let shown = ordinal(value);
                    out.push_str(&if ending == "TH" { shown.to_uppercase() } else { shown.to_owned() });
                    rest = &rest[2..];
                }
            }
            Part::Word(word, width) => {
                let width = if fill { width } else { 0 };
                out.push_str(&format!("{word:width$}"));
            }
        }
    }
    out
}

fn ordinal(value: i64) -> &'static str {
    match (value % 100, value % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_postgresqls() {
        let at = DateTime::from_timestamp_micros(1_709_214_330_123_456).expect("in range");
        for (format, text) in [
            ("YYYY-MM-DD HH24:MI:SS.MS", "2024-02-29 13:45:30.123"),
            ("Dy, DD Mon YYYY HH12:MI AM", "Thu, 29 Feb 2024 01:45 PM"),
            ("FMMonth FMDDth", "February 29th"),
            ("Month|DAY", "February |THURSDAY "),
            ("\"Q\"Q IYYY-IW DDD US", "Q1 2024-09 060 123456"),
        ] {
            assert_eq!(formatted(at, format), text);
        }
    }
}
