//! What a feature's value is worth: its ratio to the largest that its own fading past has seen.
//!
//! **Invariant:** a value is compared before it becomes part of the past.

/// No ratio is larger than this.
pub(super) const RATIO_MAX: f64 = 50.0;

/// The fading record of one feature.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record(f64);

impl Record {
    /// The ratio of a value ≥ 0 to the record, which fades by `fade` and then takes the value in. `least` > 0 is what a
    /// value must be well above to count at all.
    pub(super) fn ratio(&mut self, value: f64, fade: f64, least: f64) -> f64 {
        let ratio = (value / (self.0 + least)).min(RATIO_MAX);
        self.0 = (self.0 * fade).max(value);
        ratio
    }

    /// The ratio of a value that has not come to its end yet, which becomes part of the past only with `learned`.
    pub(super) fn ratio_of_unfinished(&mut self, value: f64, learned: f64, fade: f64, least: f64) -> f64 {
        let ratio = (value / (self.0 + least)).min(RATIO_MAX);
        self.0 = (self.0 * fade).max(learned);
        ratio
    }

    /// The record as it stands.
    pub(super) fn height(&self) -> f64 {
        self.0
    }
}
