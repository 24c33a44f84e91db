//! An alarm: one series that stood out at one time, and how improbable that is on a calm day.
//!
//! Three tests give alarms. A *detector* judges a point (the kernel `record_ratio`); its p-value may be sharpened by the
//! points that follow ([`persisted`]): an outlier is soon over, a fault is not. A *trend* is a run of steps that few steps
//! before reached ([`rising`]): what leaks or fills up rises slowly and never stands out at once. A *check* is a question that
//! failed so often in a row ([`failed_checks`]). What is improbable may still be of no matter: [`matters`] says so.
//!
//! **Missing values.** NaN is left out of what is usual, and ends a run.
//!
//! **Invariant:** a p-value is above 0 and at most 1, and never below what the past can tell.

use serde::{Deserialize, Serialize};

/// The least p-value.
pub const P_MIN: f64 = 1e-12;
/// The longest run of points or steps that counts.
const RUN_MAX: usize = 8;
/// A check that never failed is held to fail this often.
const FAILURE_SHARE_MIN: f64 = 1e-3;

/// What stood out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A single value.
    Point,
    /// A mean that moved.
    LevelShift,
    /// A course not seen before.
    Pattern,
    /// No values.
    Silence,
    /// The same value for too long.
    Flatline,
    /// A run of steps in one direction.
    Trend,
    /// A check that failed.
    Check,
}

/// One series that stood out at one time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Alarm {
    /// The service that the series belongs to.
    pub service: String,
    /// The metric's name.
    pub metric: String,
    /// What else tells the series from others: host, region, replica.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// When.
    pub at_us: i64,
    /// The probability that a calm point stands out as much.
    pub p_value: f64,
    /// What stood out.
    pub kind: Kind,
}

impl Alarm {
    /// The p-value within its bounds; 1 where it is no number.
    pub fn probability(&self) -> f64 {
        if self.p_value.is_nan() { 1.0 } else { self.p_value.clamp(P_MIN, 1.0) }
    }
}

/// The p-value of an alarm of `p_value` after which the values `since` came, the alarm's own point not among them. Each of
/// them counts the share of `past` that was as far from its median on the same side; one that is back ends the run.
/// `rises` says to which side the alarm's point went.
pub fn persisted(p_value: f64, past: &[f64], since: &[f64], rises: bool) -> f64 {
    let sign = if rises { 1.0 } else { -1.0 };
    let usual: Vec<f64> = past.iter().filter(|value| value.is_finite()).map(|value| sign * value).collect();
    let run = since.iter().map(|value| exceeded(&usual, sign * value));
    let run: f64 = run.take(RUN_MAX).take_while(|share| *share < 0.5).product();
    (p_value * run).clamp(P_MIN, 1.0)
}

/// The p-value of a series' last steps upward: the product over the last of them of the share of steps before that were as
/// large, for the run length up to 8 that is the least probable, times the number of lengths. A step below `step_min` ends the
/// run. `usual` and `recent` are values in time order, the second following the first.
pub fn rising(usual: &[f64], recent: &[f64], step_min: f64) -> f64 {
    let steps = |values: &[f64]| values.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<f64>>();
    let before: Vec<f64> = steps(usual).into_iter().filter(|step| step.is_finite()).collect();
    let mut run = 1.0;
    let mut least: f64 = 1.0;
    for step in steps(recent).into_iter().rev().take(RUN_MAX) {
        // Not a number is no step upward either.
        if step.is_nan() || step <= 0.0 || step < step_min {
            break;
        }
        run *= exceeded(&before, step);
        least = least.min(run);
    }
    (least * RUN_MAX as f64).clamp(P_MIN, 1.0)
}

/// The p-value of a level that the last values keep above `middle`: the product of the shares of values before that were as
/// large, over the last ones that matter, for the run length up to 8 that is the least probable, times the number of lengths.
/// A detector of records misses it where a larger value was seen not long ago.
pub fn sustained(usual: &[f64], recent: &[f64], middle: f64, least_move: Least) -> f64 {
    let usual: Vec<f64> = usual.iter().copied().filter(|value| value.is_finite()).collect();
    let (mut run, mut least) = (1.0, 1.0f64);
    for value in recent.iter().rev().take(RUN_MAX) {
        if value.is_nan() || *value <= middle || !matters(*value, middle, least_move) {
            break;
        }
        run *= exceeded(&usual, *value);
        least = least.min(run);
    }
    (least * RUN_MAX as f64).clamp(P_MIN, 1.0)
}

/// How far a value must be from the usual one to matter: as a share of it, and in its unit. Both must be met.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Least {
    /// As a share of the usual value.
    pub relative: f64,
    /// In the value's unit.
    pub absolute: f64,
}

/// Whether a value is far enough from the usual one to matter: constant series make trifles improbable.
pub fn matters(value: f64, usual: f64, least: Least) -> bool {
    let far = (value - usual).abs();
    far >= least.absolute && far >= least.relative * usual.abs()
}

/// The p-value of a check that failed `consecutive` times, having failed `failed` of `asked` times before.
pub fn failed_checks(consecutive: u32, failed: u64, asked: u64) -> f64 {
    if consecutive == 0 {
        return 1.0;
    }
    let share = ((failed as f64 + 0.5) / (asked as f64 + 1.0)).clamp(FAILURE_SHARE_MIN, 1.0);
    share.powi(i32::try_from(consecutive).unwrap_or(i32::MAX)).clamp(P_MIN, 1.0)
}

/// The share of values at or above one, itself counted among them: never 0.
fn exceeded(values: &[f64], value: f64) -> f64 {
    if value.is_nan() {
        return 1.0;
    }
    let above = values.iter().filter(|other| **other >= value).count();
    (above as f64 + 1.0) / (values.len() as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f64> {
        (0..n).map(|i| 10.0 + (i as f64 * 0.7).sin()).collect()
    }

    #[test]
    fn an_outlier_that_is_over_gains_nothing_and_one_that_stays_does() {
        let past = wave(99);
        let over = persisted(1e-5, &past, &[10.0, 10.1], true);
        let stays = persisted(1e-5, &past, &[30.0, 31.0, 29.0], true);
        assert_eq!(over, 1e-5);
        assert!((stays / 1e-11 - 1.0).abs() < 1e-9, "{stays}");
        assert_eq!(persisted(1e-5, &past, &[30.0, 31.0], false), 1e-5, "the other side is no persistence");
        assert_eq!(persisted(1e-5, &past, &[f64::NAN, 31.0], true), 1e-5);
    }

    #[test]
    fn a_leak_is_seen_after_a_few_steps_and_a_wave_is_not() {
        let usual = wave(120);
        let leak: Vec<f64> = (0..6).map(|i| 11.0 + 3.0 * f64::from(i)).collect();
        assert!(rising(&usual, &leak, 0.1) < 1e-8, "{}", rising(&usual, &leak, 0.1));
        assert!(rising(&usual, &wave(130)[120..], 0.0) > 1e-3);
        assert!(rising(&usual, &[11.0, 14.0, 11.0], 0.0) > 0.5, "the last step fell");
        assert_eq!(rising(&usual, &leak, 5.0), 1.0, "steps that are of no matter");
        assert_eq!(rising(&[], &[1.0, 2.0], 0.0), 1.0, "without a past nothing is unusual");
    }

    #[test]
    fn a_level_that_stays_is_seen_also_where_a_larger_value_was_seen_before() {
        let least = Least { relative: 0.5, absolute: 5.0 };
        let mut usual = wave(230);
        usual[40] = 900.0;
        let slow = [40.0, 42.0, 41.0, 40.5];
        assert!(sustained(&usual, &slow, 10.0, least) < 1e-6, "{}", sustained(&usual, &slow, 10.0, least));
        assert!(sustained(&usual, &[40.0, 10.0, 41.0], 10.0, least) > 1e-2, "it did not stay");
        assert_eq!(sustained(&usual, &[13.0; 4], 10.0, least), 1.0, "that is of no matter");
        assert_eq!(sustained(&[], &slow, 10.0, least), 1.0, "without a past nothing is unusual");
        let often: Vec<f64> = (0..230).map(|i| if i % 3 == 0 { 45.0 } else { 10.0 }).collect();
        assert!(sustained(&often, &slow, 10.0, least) > 1e-2, "it is often so");
    }

    #[test]
    fn trifles_of_constant_series_do_not_matter() {
        let least = Least { relative: 0.1, absolute: 5.0 };
        assert!(matters(120.0, 100.0, least) && matters(80.0, 100.0, least));
        assert!(!matters(108.0, 100.0, least) && !matters(14.0, 10.0, least) && !matters(f64::NAN, 10.0, least));
    }

    #[test]
    fn checks_that_never_failed_tell_after_three_failures_and_flaky_ones_do_not() {
        assert_eq!(failed_checks(0, 0, 1_000), 1.0);
        assert!(failed_checks(3, 0, 1_000) <= 1e-9);
        assert!(failed_checks(3, 300, 1_000) > 0.02);
        assert!(failed_checks(3, 0, 0) > 0.1, "a check that was never asked tells nothing");
    }
}
