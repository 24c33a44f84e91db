//! Times as PostgreSQL spells them (ISO date style, postgres interval style) and its epoch of 2000-01-01.
//!
//! **Invariant:** no clock is read here; a time outside PostgreSQL's or the calendar's range is an error, never another time.

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::TimeUnit;
use bytes::BufMut;
use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use juno_sql::{Error, Result};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's binary timestamps begin.
const EPOCH_US: i64 = 946_684_800_000_000;
/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const SECOND_US: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
const DAY_US: i64 = DAY_S * SECOND_US;

fn out_of_range(what: &str) -> Error {
    Error::DatetimeOutOfRange(format!("{what} out of range"))
}

/// A number of `unit`s as microseconds; nanoseconds are cut to the microsecond below.
pub(super) fn micros(value: i64, unit: TimeUnit) -> Result<i64> {
    let micros = match unit {
        TimeUnit::Second => value.checked_mul(SECOND_US),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
    };
    micros.ok_or_else(|| out_of_range("timestamp"))
}

/// Microseconds since 1970 as PostgreSQL's binary timestamp.
pub(super) fn to_epoch_2000(micros: i64) -> Result<i64> {
    micros.checked_sub(EPOCH_US).ok_or_else(|| out_of_range("timestamp"))
}

/// PostgreSQL's binary timestamp as microseconds since 1970. Its two infinities have no counterpart.
pub(super) fn from_epoch_2000(value: i64) -> Result<i64> {
    if value == i64::MAX || value == i64::MIN {
        return Err(Error::DatetimeOutOfRange("infinite timestamps are not supported".to_owned()));
    }
    value.checked_add(EPOCH_US).ok_or_else(|| out_of_range("timestamp"))
}

/// Days since 1970 as PostgreSQL's binary date.
pub(super) fn date_to_epoch_2000(days: i32) -> Result<i32> {
    days.checked_sub(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))
}

/// PostgreSQL's binary date as days since 1970.
pub(super) fn date_from_epoch_2000(value: i32) -> Result<i32> {
    if value == i32::MAX || value == i32::MIN {
        return Err(Error::DatetimeOutOfRange("infinite dates are not supported".to_owned()));
    }
    value.checked_add(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))
}

/// Reads a timestamp text; one without a zone is in `zone`. Microseconds since 1970.
pub(super) fn parse_timestamp(text: &str, zone: &Tz) -> Result<i64> {
    let instant = string_to_datetime(zone, text.trim());
    instant
        .map(|instant| instant.timestamp_micros())
        .map_err(|_| Error::InvalidText(format!("invalid input syntax for type timestamp with time zone: \"{text}\"")))
}

/// Reads a timestamp text and keeps its wall clock: a zone in it is ignored, as PostgreSQL does. Microseconds since 1970.
pub(super) fn parse_wall_clock(text: &str) -> Result<i64> {
    let bare = wall_clock_of(text.trim());
    let instant = string_to_datetime(&Utc, bare);
    instant
        .map(|instant| instant.timestamp_micros())
        .map_err(|_| Error::InvalidText(format!("invalid input syntax for type timestamp: \"{text}\"")))
}

/// Cuts a zone off: everything from a `Z`, `+` or `-` after the time's first colon.
fn wall_clock_of(text: &str) -> &str {
    let Some(colon) = text.find(':') else { return text };
    let zone = text[colon..].find(['Z', 'z', '+', '-']);
    zone.map_or(text, |at| text[..colon + at].trim_end())
}

/// Whether a time zone is UTC by its name, at all times.
pub(super) fn is_utc(zone: &Tz) -> bool {
    matches!(zone.to_string().as_str(), "UTC" | "Etc/UTC" | "+00:00")
}

/// Writes timestamps that mostly share their day: its date is worked out once.
#[derive(Default)]
pub(super) struct Days {
    /// The day since 1970 and how its date is written, with a space behind; and whether it is BC.
    last: Option<(i64, Vec<u8>, bool)>,
}

impl Days {
    /// Writes `2026-11-23 16:00:00.5`, the zone, and ` BC` where it is.
    pub(super) fn write(&mut self, micros: i64, zone: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let (day, of_day) = (micros.div_euclid(DAY_US), micros.rem_euclid(DAY_US));
        let (_, date, before) = match self.last.take_if(|last| last.0 == day) {
            Some(known) => self.last.insert(known),
            None => {
                let (time, mut date) = (naive(micros)?, Vec::with_capacity(12));
                put_date(&time, &mut date);
                date.push(b' ');
                self.last.insert((day, date, time.year() <= 0))
            }
        };
        out.extend_from_slice(date);
        put_clock(of_day / SECOND_US, of_day % SECOND_US, out);
        out.extend_from_slice(zone);
        if *before {
            out.extend_from_slice(b" BC");
        }
        Ok(())
    }
}

/// Writes `2026-11-23 16:00:00.5`, with ` BC` where it is.
pub(super) fn write_timestamp(micros: i64, out: &mut Vec<u8>) -> Result<()> {
    let time = naive(micros)?;
    write_wall_clock(&time, out);
    write_era(time.year(), out);
    Ok(())
}

/// Writes `2026-11-23 16:00:00+00` in the given zone.
pub(super) fn write_timestamptz(micros: i64, zone: &Tz, out: &mut Vec<u8>) -> Result<()> {
    let utc = naive(micros)?;
    let offset_s = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    let local = utc.checked_add_signed(chrono::TimeDelta::seconds(i64::from(offset_s)));
    let local = local.ok_or_else(|| out_of_range("timestamp"))?;
    write_wall_clock(&local, out);
    out.put_u8(if offset_s < 0 { b'-' } else { b'+' });
    let offset_s = offset_s.unsigned_abs();
    put_two(offset_s / 3600, out);
    for part in [offset_s / 60 % 60, offset_s % 60].iter().take(parts_after_hours(offset_s)) {
        out.put_u8(b':');
        put_two(*part, out);
    }
    write_era(local.year(), out);
    Ok(())
}

fn parts_after_hours(offset_s: u32) -> usize {
    match (offset_s / 60 % 60, offset_s % 60) {
        (0, 0) => 0,
        (_, 0) => 1,
        _ => 2,
    }
}

/// Writes `2026-11-23` from days since 1970.
pub(super) fn write_date(days: i32, out: &mut Vec<u8>) -> Result<()> {
    let midnight = DateTime::from_timestamp(i64::from(days) * DAY_S, 0).ok_or_else(|| out_of_range("date"))?;
    put_date(&midnight.naive_utc(), out);
    write_era(midnight.year(), out);
    Ok(())
}

/// Writes `16:00:00.25` from microseconds since midnight.
pub(super) fn write_time(micros: i64, out: &mut Vec<u8>) {
    put_clock(micros.div_euclid(SECOND_US), micros.rem_euclid(SECOND_US), out);
}

/// Writes `1 year 2 mons -3 days +04:05:06.7`: a positive part after a negative one carries its sign.
pub(super) fn write_interval(months: i32, days: i32, micros: i64, out: &mut Vec<u8>) {
    let (mut first, mut after_negative) = (true, false);
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if first { "" } else { " " };
        let sign = if after_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        out.put_slice(format!("{space}{sign}{value} {unit}{plural}").as_bytes());
        first = false;
        after_negative = value < 0;
    }
    if !first && micros == 0 {
        return;
    }
    if !first {
        out.put_u8(b' ');
    }
    if micros < 0 {
        out.put_u8(b'-');
    } else if after_negative {
        out.put_u8(b'+');
    }
    let magnitude = micros.unsigned_abs() as i128;
    put_clock((magnitude / 1_000_000) as i64, (magnitude % 1_000_000) as i64, out);
}

fn naive(micros: i64) -> Result<NaiveDateTime> {
    let time = DateTime::from_timestamp_micros(micros).ok_or_else(|| out_of_range("timestamp"))?;
    Ok(time.naive_utc())
}

fn write_wall_clock(time: &NaiveDateTime, out: &mut Vec<u8>) {
    put_date(time, out);
    out.put_u8(b' ');
    put_clock(i64::from(time.num_seconds_from_midnight()), i64::from(time.nanosecond() / 1_000), out);
}

fn put_date(time: &NaiveDateTime, out: &mut Vec<u8>) {
    let year = time.year();
    // There is no year zero: 0 is 1 BC.
    let shown = if year > 0 { year } else { 1 - year };
    out.put_slice(format!("{shown:04}-").as_bytes());
    put_two(time.month(), out);
    out.put_u8(b'-');
    put_two(time.day(), out);
}

fn write_era(year: i32, out: &mut Vec<u8>) {
    if year <= 0 {
        out.put_slice(b" BC");
    }
}

/// `HH:MM:SS` and the fraction without its trailing zeros.
fn put_clock(seconds: i64, fraction_us: i64, out: &mut Vec<u8>) {
    let hours = seconds / 3600;
    match u32::try_from(hours) {
        Ok(hours) if hours < 100 => put_two(hours, out),
        _ => out.put_slice(hours.to_string().as_bytes()),
    }
    out.put_u8(b':');
    put_two((seconds / 60 % 60) as u32, out);
    out.put_u8(b':');
    put_two((seconds % 60) as u32, out);
    if fraction_us != 0 {
        out.push(b'.');
    }
    let mut rest = fraction_us;
    while rest > 0 {
        out.push(b'0' + (rest / 100_000) as u8);
        rest = rest % 100_000 * 10;
    }
}

/// Two decimal digits; `value` is below 100.
fn put_two(value: u32, out: &mut Vec<u8>) {
    out.put_u8(b'0' + (value / 10) as u8);
    out.put_u8(b'0' + (value % 10) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn zoned(micros: i64, zone: &str) -> String {
        text(|out| write_timestamptz(micros, &zone.parse().unwrap(), out).unwrap())
    }

    #[test]
    fn timestamps_are_spelled_with_the_zone_of_the_session() {
        let time = 1_795_449_600_000_000; // 2026-11-23 16:00:00 UTC
        assert_eq!(zoned(time, "UTC"), "2026-11-23 16:00:00+00");
        assert_eq!(zoned(time + 120_000, "Asia/Kolkata"), "2026-11-23 21:30:00.12+05:30");
        assert_eq!(zoned(time, "America/St_Johns"), "2026-11-23 12:30:00-03:30");
        assert_eq!(text(|out| write_timestamp(-1, out).unwrap()), "1969-12-31 23:59:59.999999");
        assert_eq!(text(|out| write_timestamp(-62_135_596_800_000_001, out).unwrap()), "0001-12-31 23:59:59.999999 BC");
    }

    #[test]
    fn timestamps_of_many_days_are_spelled_as_each_alone() {
        let (utc, mut days) = ("UTC".parse().unwrap(), Days::default());
        assert!(is_utc(&utc) && !is_utc(&"Europe/London".parse().unwrap()));
        for micros in
            [0, 1, -1, 86_399_999_999, 86_400_000_000, 120_000, -62_135_596_800_000_001, 253_402_300_800_000_000]
        {
            assert_eq!(text(|out| days.write(micros, b"+00", out).unwrap()), zoned(micros, "UTC"));
            assert_eq!(
                text(|out| days.write(micros, b"", out).unwrap()),
                text(|out| write_timestamp(micros, out).unwrap())
            );
        }
        assert!(days.write(i64::MAX, b"", &mut Vec::new()).is_err());
    }

    #[test]
    fn a_timestamp_text_reads_back_what_was_written() {
        let utc: Tz = "UTC".parse().unwrap();
        for micros in [0, 1, -1, 1_795_449_600_123_456, 946_684_800_000_000] {
            assert_eq!(parse_timestamp(&zoned(micros, "UTC"), &utc).unwrap(), micros);
            assert_eq!(parse_timestamp(&zoned(micros, "Asia/Kolkata"), &utc).unwrap(), micros);
        }
        assert_eq!(parse_wall_clock("2000-01-01 00:00:00+05").unwrap(), EPOCH_US);
        assert_eq!(parse_wall_clock("2000-01-01").unwrap(), EPOCH_US);
        assert!(matches!(parse_timestamp("yesterday", &utc), Err(Error::InvalidText(_))));
    }

    #[test]
    fn binary_times_count_from_the_year_2000_and_infinities_are_refused() {
        assert_eq!(to_epoch_2000(EPOCH_US).unwrap(), 0);
        assert_eq!(from_epoch_2000(0).unwrap(), EPOCH_US);
        assert_eq!(date_from_epoch_2000(1).unwrap(), 10_958);
        assert!(matches!(from_epoch_2000(i64::MAX), Err(Error::DatetimeOutOfRange(_))));
        assert!(matches!(micros(i64::MAX, TimeUnit::Second), Err(Error::DatetimeOutOfRange(_))));
    }

    #[test]
    fn dates_and_intervals_are_spelled_as_postgresql_spells_them() {
        assert_eq!(text(|out| write_date(20_780, out).unwrap()), "2026-11-23");
        assert_eq!(text(|out| write_date(-719_163, out).unwrap()), "0001-12-31 BC");
        assert_eq!(text(|out| write_time(57_600_250_000, out)), "16:00:00.25");
        let interval = |months, days, micros| text(|out| write_interval(months, days, micros, out));
        assert_eq!(interval(14, 3, 14_706_700_000), "1 year 2 mons 3 days 04:05:06.7");
        assert_eq!(interval(0, -1, 7_380_000_000), "-1 days +02:03:00");
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(0, 1, 0), "1 day");
        assert_eq!(interval(0, 0, -360_000_000_000), "-100:00:00");
    }
}
