//! How far a forecaster may be trusted: what share of its upper bounds held over the trailing week.
//!
//! **Invariant:** full confidence takes a week of observations; a day of bounds that fail takes it away.

use serde::{Deserialize, Serialize};

/// The quantile whose coverage is watched.
pub(super) const NOMINAL: f64 = 0.95;
const WEEK_S: f64 = 604_800.0;
const DAY_S: f64 = 86_400.0;

/// Coverage of the upper bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Confidence {
    step_s: f64,
    steps: f64,
    /// Share within the bound over a week and over a day, as exponential means.
    week: f64,
    day: f64,
}

impl Confidence {
    pub(super) fn new(step_s: u32) -> Self {
        Self { step_s: f64::from(step_s), steps: 0.0, week: 0.0, day: 0.0 }
    }

    /// A lead time ended at `z` scales above its mean; `bound` is what the quantile was put at before.
    pub(super) fn covered(&mut self, z: f64, bound: f64) {
        self.steps += 1.0;
        let held = f64::from(u8::from(z <= bound));
        self.week += (held - self.week) * (self.step_s / WEEK_S).max(1.0 / self.steps);
        self.day += (held - self.day) * (self.step_s / DAY_S).max(1.0 / self.steps);
    }

    /// 0 to 1: coverage as a share of what it should be, the worse of week and day, times the share of a week seen.
    pub(super) fn value(&self) -> f64 {
        let coverage = (self.week.min(self.day) / NOMINAL).min(1.0);
        coverage * (self.steps * self.step_s / WEEK_S).min(1.0)
    }
}
