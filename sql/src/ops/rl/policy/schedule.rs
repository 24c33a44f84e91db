//! When a policy is trained again.
//!
//! **Invariant:** never more often than the interval says, and never for too little that is new.

use super::experience::DECISIONS_MIN;

/// What to do about a policy now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retraining {
    /// Train it.
    Due,
    /// Wait for so many seconds.
    Early(u64),
    /// Wait for so many more decisions.
    TooFew(u64),
}

/// Whether a policy is to be trained again: `interval_s` after the last training, where [`DECISIONS_MIN`] or more decisions with
/// outcomes were logged since. One that was never trained waits for decisions alone.
#[must_use]
pub fn retraining(now_s: i64, trained_s: Option<i64>, interval_s: u64, decisions_since: u64) -> Retraining {
    // A clock that was put back makes it wait for no longer than an interval.
    let age_s = trained_s.map_or(u64::MAX, |trained_s| u64::try_from(now_s.saturating_sub(trained_s)).unwrap_or(0));
    if age_s < interval_s {
        return Retraining::Early(interval_s - age_s);
    }
    match (DECISIONS_MIN as u64).checked_sub(decisions_since) {
        Some(missing) if missing > 0 => Retraining::TooFew(missing),
        _ => Retraining::Due,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_interval_and_new_decisions_are_waited_for() {
        assert_eq!(retraining(10_000, Some(6_400), 3_600, 50), Retraining::Due);
        assert_eq!(retraining(10_000, Some(6_401), 3_600, 5_000), Retraining::Early(1));
        assert_eq!(retraining(10_000, Some(0), 3_600, 49), Retraining::TooFew(1));
        assert_eq!(retraining(10_000, None, 3_600, 50), Retraining::Due);
        assert_eq!(retraining(10_000, None, 3_600, 0), Retraining::TooFew(50));
        assert_eq!(retraining(0, Some(10_000), 3_600, 1_000), Retraining::Early(3_600));
    }
}
