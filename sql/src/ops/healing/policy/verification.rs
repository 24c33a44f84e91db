//! Whether an action healed.
//!
//! **Invariant:** what was seen before the action, or is not a number, verifies nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The metric that is 1 while a target answers its health check.
const HEALTHY: &str = "healthy";

/// How a value is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Not above.
    AtMost,
    /// Not below.
    AtLeast,
}

impl Comparison {
    /// Reads `<=` or `>=` and a number.
    pub fn parse(condition: &str) -> Option<(Self, f64)> {
        let condition = condition.trim();
        let at_most = condition.strip_prefix("<=").map(|value| (Self::AtMost, value));
        let (is, value) = at_most.or_else(|| condition.strip_prefix(">=").map(|value| (Self::AtLeast, value)))?;
        let value: f64 = value.trim().parse().ok()?;
        value.is_finite().then_some((is, value))
    }
}

/// What a metric must be.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The metric.
    pub metric: String,
    /// How it is compared.
    pub is: Comparison,
    /// With what.
    pub value: f64,
    /// Whether a metric that a sample does not have meets it.
    #[serde(default)]
    pub if_known: bool,
}

impl Condition {
    /// Whether values meet it.
    pub fn is_met(&self, values: &BTreeMap<String, f64>) -> bool {
        match values.get(&self.metric) {
            Some(value) => match self.is {
                Comparison::AtMost => *value <= self.value,
                Comparison::AtLeast => *value >= self.value,
            },
            None => self.if_known,
        }
    }
}

/// How to see that an action healed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// All of these must be met,
    pub all: Vec<Condition>,
    /// by so many samples in a row,
    pub hold: u32,
    /// so many seconds after the action at the latest.
    pub within_s: u32,
    /// It is in vain where the target was well by its health check and still did not meet all for so many seconds: what is
    /// up and no better has had its chance, what is not up yet has not. What came up and was down again for as many samples as
    /// verify it has had its chance too. None waits until the end.
    #[serde(default)]
    pub in_vain_s: Option<u32>,
}

/// What was seen at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at_us: i64,
    /// The metrics.
    pub values: BTreeMap<String, f64>,
}

/// Whether it healed.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is too early to say.
    Pending,
    /// It did: the last of the samples in a row is of this time.
    Passed {
        /// When.
        at_us: i64,
    },
    /// It did not in time; these conditions were not met by the last sample.
    Failed {
        /// The metrics, with what they were where they were known.
        unmet: Vec<(String, Option<f64>)>,
    },
}

impl Verification {
    /// Whether the action that ended at `acted_us` healed, by samples in time order.
    pub fn outcome(&self, samples: &[Sample], acted_us: i64, now_us: i64) -> Outcome {
        let until_us = acted_us.saturating_add(i64::from(self.within_s) * 1_000_000);
        let mut in_a_row = 0;
        let mut in_vain_since_us = None;
        let mut is_in_vain = false;
        let (mut was_up, mut down_in_a_row) = (false, 0);
        for sample in samples.iter().filter(|sample| sample.at_us > acted_us && sample.at_us <= until_us) {
            let is_met = self.all.iter().all(|condition| condition.is_met(&sample.values));
            in_a_row = if is_met { in_a_row + 1 } else { 0 };
            if in_a_row >= self.hold {
                return Outcome::Passed { at_us: sample.at_us };
            }
            let is_up = sample.values.get(HEALTHY).is_some_and(|healthy| *healthy >= 1.0);
            in_vain_since_us = (is_up && !is_met).then_some(in_vain_since_us.unwrap_or(sample.at_us));
            let lasted_us = in_vain_since_us.map_or(0, |since_us| sample.at_us - since_us);
            let is_down = sample.values.get(HEALTHY).is_some_and(|healthy| *healthy < 1.0);
            was_up |= is_up;
            down_in_a_row = if was_up && is_down { down_in_a_row + 1 } else { 0 };
            is_in_vain = self
                .in_vain_s
                .is_some_and(|limit_s| lasted_us >= i64::from(limit_s) * 1_000_000 || down_in_a_row >= self.hold);
            if is_in_vain {
                break;
            }
        }
        if now_us <= until_us && !is_in_vain {
            return Outcome::Pending;
        }
        let nothing = BTreeMap::new();
        let last = samples.last().map_or(&nothing, |sample| &sample.values);
        let unmet = self.all.iter().filter(|condition| !condition.is_met(last));
        Outcome::Failed {
            unmet: unmet.map(|condition| (condition.metric.clone(), last.get(&condition.metric).copied())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verification() -> Verification {
        let at_most = |metric: &str, value, if_known| Condition {
            metric: metric.into(),
            is: Comparison::AtMost,
            value,
            if_known,
        };
        Verification {
            all: vec![at_most("errors", 0.1, false), at_most("latency", 3.0, true)],
            hold: 2,
            within_s: 10,
            in_vain_s: None,
        }
    }

    fn healthy() -> Condition {
        Condition { metric: "healthy".into(), is: Comparison::AtLeast, value: 1.0, if_known: false }
    }

    fn sample(second: i64, errors: f64) -> Sample {
        Sample { at_us: second * 1_000_000, values: [("errors".to_owned(), errors)].into() }
    }

    #[test]
    fn a_condition_is_at_most_or_at_least_a_number() {
        assert_eq!(Comparison::parse("<= 0.05"), Some((Comparison::AtMost, 0.05)));
        assert_eq!(Comparison::parse(" >=-1e3 "), Some((Comparison::AtLeast, -1_000.0)));
        for other in ["", "0.05", "< 1", "> 1", "= 1", "<= x", "<=", "<= inf", ">= NaN", "<= 1 2", "≤ 1"] {
            assert_eq!(Comparison::parse(other), None, "{other}");
        }
    }

    #[test]
    fn good_samples_in_a_row_after_the_action_pass() {
        let samples = [sample(1, 0.0), sample(2, 0.0), sample(6, 0.0), sample(7, 0.9), sample(8, 0.0)];
        let outcome = |samples: &[Sample], now| verification().outcome(samples, 5_000_000, now);
        assert_eq!(outcome(&samples, 8_000_000), Outcome::Pending, "those before the action do not count");
        let more = [&samples[..], &[sample(9, 0.0)]].concat();
        assert_eq!(outcome(&more, 9_000_000), Outcome::Passed { at_us: 9_000_000 });
    }

    #[test]
    fn what_is_up_and_no_better_fails_early_and_what_starts_does_not() {
        let patient = verification();
        let verification = Verification { within_s: 30, in_vain_s: Some(4), ..patient.clone() };
        let seen = |second: i64, healthy: f64, errors: f64| {
            let values = [("healthy".to_owned(), healthy), ("errors".to_owned(), errors)].into();
            Sample { at_us: second * 1_000_000, values }
        };
        let failing: Vec<Sample> = (6..=10).map(|second| seen(second, 1.0, 0.9)).collect();
        let failed = Outcome::Failed { unmet: vec![("errors".into(), Some(0.9))] };
        assert_eq!(verification.outcome(&failing, 5_000_000, 10_000_000), failed);
        assert_eq!(
            verification.outcome(&failing[..4], 5_000_000, 10_000_000),
            Outcome::Pending,
            "four seconds are not over"
        );
        let waits = Verification { within_s: 30, ..patient };
        assert_eq!(waits.outcome(&failing, 5_000_000, 10_000_000), Outcome::Pending, "it waits until the end");
        let starting: Vec<Sample> = (6..=12).map(|second| seen(second, 0.0, 0.9)).collect();
        assert_eq!(verification.outcome(&starting, 5_000_000, 12_000_000), Outcome::Pending, "it is not up yet");
        let again: Vec<Sample> =
            [1.0, 0.0, 0.0].iter().zip(6..).map(|(healthy, second)| seen(second, *healthy, 0.0)).collect();
        let fallen = Verification { all: vec![healthy()], ..verification.clone() };
        let down = Outcome::Failed { unmet: vec![("healthy".into(), Some(0.0))] };
        assert_eq!(fallen.outcome(&again, 5_000_000, 9_000_000), down, "it came up and went down again");
        assert_eq!(fallen.outcome(&again[..2], 5_000_000, 9_000_000), Outcome::Pending, "one may be chance");
        let wavers: Vec<Sample> =
            (6..=14).map(|second| seen(second, 1.0, if second % 3 == 0 { 0.0 } else { 0.9 })).collect();
        assert_eq!(verification.outcome(&wavers, 5_000_000, 14_000_000), Outcome::Pending, "now and then it is well");
    }

    #[test]
    fn late_or_missing_or_wrong_fails_with_what_was_seen() {
        let late = [sample(20, 0.0), sample(21, 0.0)];
        assert_eq!(verification().outcome(&late, 5_000_000, 21_000_000), Outcome::Failed { unmet: vec![] });
        let unmet = Outcome::Failed { unmet: vec![("errors".into(), None)] };
        assert_eq!(verification().outcome(&[], 5_000_000, 15_000_001), unmet);
        let nan = [sample(6, f64::NAN), sample(7, f64::NAN)];
        assert!(
            matches!(verification().outcome(&nan, 5_000_000, 16_000_000), Outcome::Failed { unmet } if unmet.len() == 1)
        );
    }
}
