//! The circuit breaker of a runbook: after some failures it does not act for a while, then tries once.
//!
//! **Invariant:** follows from the outcomes on record alone; while it is half open one try is let through.

use serde::{Deserialize, Serialize};

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// So many failures,
    pub failures: usize,
    /// within this time,
    pub within_us: i64,
    /// open it for this time.
    pub rest_us: i64,
}

impl Default for Breaker {
    /// Three failures within an hour, for ten minutes.
    fn default() -> Self {
        Self { failures: 3, within_us: 3_600_000_000, rest_us: 600_000_000 }
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Acts.
    Closed,
    /// Does not act until then.
    Open {
        /// When one try is let through.
        until_us: i64,
    },
    /// One try is let through: its outcome decides.
    HalfOpen,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Try {
    /// When.
    pub at_us: i64,
    /// How.
    pub success: bool,
}

impl Breaker {
    /// The state after tries, in time order.
    pub fn state(&self, tries: &[Try], now_us: i64) -> Circuit {
        let mut failed: Vec<i64> = Vec::new();
        let mut opened: Option<i64> = None;
        for one in tries {
            match (one.success, opened) {
                (true, _) => {
                    opened = None;
                    failed.clear();
                }
                // What was under way when it opened does not keep it open for longer.
                (false, Some(at)) if one.at_us < at.saturating_add(self.rest_us) => {}
                (false, Some(_)) => opened = Some(one.at_us),
                (false, None) => {
                    failed.push(one.at_us);
                    failed.retain(|at| *at > one.at_us.saturating_sub(self.within_us));
                    opened = (failed.len() >= self.failures).then_some(one.at_us);
                }
            }
        }
        match opened.map(|at| at.saturating_add(self.rest_us)) {
            None => Circuit::Closed,
            Some(until_us) if now_us < until_us => Circuit::Open { until_us },
            Some(_) => Circuit::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Breaker = Breaker { failures: 3, within_us: 100, rest_us: 50 };

    fn tries(all: &[(i64, bool)]) -> Vec<Try> {
        all.iter().map(|(at_us, success)| Try { at_us: *at_us, success: *success }).collect()
    }

    #[test]
    fn three_failures_open_it_and_a_success_closes_it() {
        let failures = tries(&[(1, false), (2, false), (3, false)]);
        assert_eq!(BREAKER.state(&failures[..2], 3), Circuit::Closed);
        assert_eq!(BREAKER.state(&failures, 4), Circuit::Open { until_us: 53 });
        assert_eq!(BREAKER.state(&failures, 53), Circuit::HalfOpen);
        let healed = tries(&[(1, false), (2, false), (3, false), (60, true), (61, false)]);
        assert_eq!(BREAKER.state(&healed, 62), Circuit::Closed);
    }

    #[test]
    fn a_failed_try_opens_it_again_and_old_failures_are_forgotten() {
        let again = tries(&[(1, false), (2, false), (3, false), (60, false)]);
        assert_eq!(BREAKER.state(&again, 61), Circuit::Open { until_us: 110 });
        let apart = tries(&[(1, false), (90, false), (180, false), (270, false)]);
        assert_eq!(BREAKER.state(&apart, 271), Circuit::Closed);
    }
}
