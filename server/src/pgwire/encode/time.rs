//! Times and spans out of Arrow arrays, in PostgreSQL's units.
//!
//! **Invariant:** nothing is written here.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use juno_sql::{Error, Result};

use crate::pgwire::calendar::micros;

/// A value of one of PostgreSQL's time types.
pub(super) enum Time {
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Clock(i64),
    /// Microseconds since 1970-01-01, no zone.
    Wall(i64),
    /// Microseconds since 1970-01-01 UTC.
    Instant(i64),
    /// Months, days, microseconds.
    Span(i32, i32, i64),
}

/// The time at `row`; None where the array holds no times.
pub(super) fn at(array: &dyn Array, row: usize) -> Result<Option<Time>> {
    let kind = array.data_type();
    Ok(Some(match kind {
        DataType::Date32 => Time::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Date64 => Time::Date(array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000) as i32),
        DataType::Timestamp(unit, zone) => {
            let value = micros(timestamp(array, row, *unit), *unit)?;
            if zone.is_some() { Time::Instant(value) } else { Time::Wall(value) }
        }
        DataType::Time32(_) | DataType::Time64(_) => Time::Clock(clock(array, row)?),
        DataType::Duration(unit) => elapsed(micros(duration(array, row, *unit), *unit)?)?,
        DataType::Interval(unit) => interval(array, row, *unit),
        _ => return Ok(None),
    }))
}

/// The difference of two timestamps as PostgreSQL gives it: whole days apart from the rest.
fn elapsed(us: i64) -> Result<Time> {
    const DAY_US: i64 = 86_400_000_000;
    let days = i32::try_from(us / DAY_US).map_err(|_| Error::DatetimeOutOfRange("interval out of range".to_owned()))?;
    Ok(Time::Span(0, days, us % DAY_US))
}

fn timestamp(array: &dyn Array, row: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

fn duration(array: &dyn Array, row: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<DurationSecondType>().value(row),
        TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<DurationMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<DurationNanosecondType>().value(row),
    }
}

fn clock(array: &dyn Array, row: usize) -> Result<i64> {
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            micros(array.as_primitive::<Time32SecondType>().value(row).into(), TimeUnit::Second)
        }
        DataType::Time32(_) => {
            micros(array.as_primitive::<Time32MillisecondType>().value(row).into(), TimeUnit::Millisecond)
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            micros(array.as_primitive::<Time64NanosecondType>().value(row), TimeUnit::Nanosecond)
        }
        _ => Ok(array.as_primitive::<Time64MicrosecondType>().value(row)),
    }
}

fn interval(array: &dyn Array, row: usize, unit: IntervalUnit) -> Time {
    match unit {
        IntervalUnit::YearMonth => Time::Span(array.as_primitive::<IntervalYearMonthType>().value(row), 0, 0),
        IntervalUnit::DayTime => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            Time::Span(0, value.days, i64::from(value.milliseconds) * 1_000)
        }
        IntervalUnit::MonthDayNano => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            Time::Span(value.months, value.days, value.nanoseconds / 1_000)
        }
    }
}
