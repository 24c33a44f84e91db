//! The unit of integer timestamps, and the range of times that juno stores.
//!
//! **Invariant:** pure; a time that does not fit is an error, never wrapped.

/// 0001-01-01T00:00:00Z: the first time that PostgreSQL clients and RFC 3339 can both write.
pub(crate) const TIME_US_MIN: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z: the last one.
pub(crate) const TIME_US_MAX: i64 = 253_402_300_799_999_999;

/// The unit that timestamps are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// `ns` or `n`
    Nanoseconds,
    /// `us`, `u` or `µ`
    Microseconds,
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
    /// `m`
    Minutes,
    /// `h`
    Hours,
}

impl Precision {
    pub(crate) const NAMES: &'static str = "ns, us, ms, s, m, h";

    /// Reads the names of both versions of InfluxDB's API.
    pub(crate) fn read(text: &str) -> Option<Precision> {
        Some(match text {
            "ns" | "n" | "nanosecond" => Precision::Nanoseconds,
            "us" | "u" | "µ" | "microsecond" => Precision::Microseconds,
            "ms" | "millisecond" => Precision::Milliseconds,
            "s" | "second" => Precision::Seconds,
            "m" => Precision::Minutes,
            "h" => Precision::Hours,
            _ => return None,
        })
    }

    /// Microseconds since 1970, nanoseconds rounded down; None where the time is out of range.
    pub(crate) fn to_us(self, count: i64) -> Option<i64> {
        let us = match self {
            Precision::Nanoseconds => Some(count.div_euclid(1000)),
            Precision::Microseconds => Some(count),
            Precision::Milliseconds => count.checked_mul(1000),
            Precision::Seconds => count.checked_mul(1_000_000),
            Precision::Minutes => count.checked_mul(60_000_000),
            Precision::Hours => count.checked_mul(3_600_000_000),
        };
        us.filter(|us| (TIME_US_MIN..=TIME_US_MAX).contains(us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_round_down_on_both_sides_of_1970() {
        assert_eq!(Precision::Nanoseconds.to_us(1_999), Some(1));
        assert_eq!(Precision::Nanoseconds.to_us(-1), Some(-1));
    }

    #[test]
    fn times_that_overflow_or_leave_the_calendar_are_refused() {
        assert_eq!(Precision::Seconds.to_us(i64::MAX), None);
        assert_eq!(Precision::Microseconds.to_us(i64::MAX), None);
        assert_eq!(Precision::Seconds.to_us(253_402_300_800), None);
        assert_eq!(Precision::Seconds.to_us(253_402_300_799), Some(253_402_300_799_000_000));
        assert_eq!(Precision::Hours.to_us(1), Some(3_600_000_000));
    }
}
