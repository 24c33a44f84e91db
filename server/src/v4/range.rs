//! Times, half-open time ranges and steps as query parameters write them.
//!
//! **Invariant:** pure; "now" is an argument.

use chrono::DateTime;
use juno_sql::rfc3339;

use super::filter::invalid;
use crate::http::problem::Problem;

/// The longest range that one request may ask for.
const RANGE_DAYS_MAX: i64 = 400;
pub(super) const DAY_US: i64 = 86_400_000_000;
pub(super) const TIME_FORMS: &str = "a time: RFC 3339, unix milliseconds, now or now-24h";

/// `[from, to)` in microseconds since 1970; an end that is not given is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Range {
    pub(super) from_us: Option<i64>,
    pub(super) to_us: Option<i64>,
}

impl Range {
    /// Reads from and to. Where neither is given and `last_day` is set, the range is the 24 hours up to now.
    pub(super) fn read(from: Option<&str>, to: Option<&str>, last_day: bool, now_us: i64) -> Result<Range, Problem> {
        let read = |name, text: Option<&str>| {
            text.map(|text| time(text, now_us).ok_or_else(|| invalid(name, text, TIME_FORMS))).transpose()
        };
        let (mut from_us, to_us) = (read("from", from)?, read("to", to)?);
        if last_day && from_us.is_none() {
            from_us = Some(to_us.unwrap_or(now_us) - DAY_US);
        }
        if let (Some(from), Some(to)) = (from_us, to_us)
            && from > to
        {
            return Err(invalid("from", &rfc3339(from), "before to"));
        }
        if let Some(from) = from_us
            && to_us.unwrap_or(now_us).saturating_sub(from) > RANGE_DAYS_MAX * DAY_US
        {
            return Err(Problem::new("range-too-large", format!("a request may span {RANGE_DAYS_MAX} days at most"))
                .at("?from"));
        }
        Ok(Range { from_us, to_us })
    }
}

/// Microseconds since 1970 of RFC 3339, unix milliseconds, `now`, `now-24h` or `now+1h`.
pub(super) fn time(text: &str, now_us: i64) -> Option<i64> {
    if let Some(offset) = text.strip_prefix("now") {
        return match offset.as_bytes().first() {
            None => Some(now_us),
            Some(b'-') => now_us.checked_sub(step(&offset[1..])?),
            // A plus that was not percent-encoded arrives as a space.
            Some(b'+' | b' ') => now_us.checked_add(step(&offset[1..])?),
            Some(_) => None,
        };
    }
    if let Ok(millis) = text.parse::<i64>() {
        return millis.checked_mul(1000).filter(|us| DateTime::from_timestamp_micros(*us).is_some());
    }
    DateTime::parse_from_rfc3339(&text.replace(' ', "+")).ok().map(|at| at.timestamp_micros())
}

/// Microseconds of a positive step such as `500ms`, `30s`, `5m`, `1h`, `1d`, `1w`.
pub(super) fn step(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match &text[digits..] {
        "ms" => 1000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => DAY_US,
        "w" => 7 * DAY_US,
        _ => return None,
    };
    text[..digits].parse::<i64>().ok()?.checked_mul(unit).filter(|us| *us > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_700_000_000_000_000;

    #[test]
    fn times_are_rfc_3339_unix_milliseconds_or_relative() {
        assert_eq!(time("1700000000000", NOW_US), Some(NOW_US));
        assert_eq!(time("2023-11-14T22:13:20Z", NOW_US), Some(NOW_US));
        assert_eq!(time("2023-11-15T00:13:20 02:00", NOW_US), Some(NOW_US));
        assert_eq!(time("now-24h", NOW_US), Some(NOW_US - DAY_US));
        assert_eq!(time("now", NOW_US), Some(NOW_US));
        for odd in ["", "yesterday", "now-", "now-5", "now-5y", "now*2h", "9223372036854775807", "2023-13-01T00:00:00Z"]
        {
            assert_eq!(time(odd, NOW_US), None, "{odd}");
        }
    }

    #[test]
    fn a_history_without_a_range_is_the_last_day_and_alerts_are_all() {
        let day = Range::read(None, None, true, NOW_US).unwrap();
        assert_eq!(day, Range { from_us: Some(NOW_US - DAY_US), to_us: None });
        assert_eq!(Range::read(None, None, false, NOW_US).unwrap(), Range::default());
        let before = Range::read(None, Some("now-1d"), true, NOW_US).unwrap();
        assert_eq!(before.from_us, Some(NOW_US - 2 * DAY_US));
    }

    #[test]
    fn ranges_that_are_too_long_or_turned_round_are_refused() {
        assert_eq!(Range::read(Some("now-401d"), None, true, NOW_US).unwrap_err().status, 422);
        assert!(Range::read(Some("now-400d"), None, true, NOW_US).is_ok());
        assert_eq!(Range::read(Some("now"), Some("now-1h"), true, NOW_US).unwrap_err().status, 400);
    }

    #[test]
    fn steps_are_positive_and_have_a_unit() {
        assert_eq!(step("30s"), Some(30_000_000));
        assert_eq!(step("500ms"), Some(500_000));
        for odd in ["", "5", "0s", "-1s", "1y", "s", "99999999999999w"] {
            assert_eq!(step(odd), None, "{odd}");
        }
    }
}
