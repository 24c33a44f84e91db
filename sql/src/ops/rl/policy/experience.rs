//! Logged decisions: what was seen, which arm was taken with which probability, and what came of it.
//!
//! **Invariant:** an [`Experience`] holds no decision without a propensity, no arm outside the grid and no number that is not
//! finite; what breaks that is refused by its place, never dropped in silence.

use super::action::ActionSpace;
use super::refusal::{Refusal, Result};
use super::reward::Components;
use super::state::State;

/// Decisions of one evaluation or training.
pub const DECISIONS_MAX: usize = 1_000_000;
/// Fewer decisions than this say nothing.
pub const DECISIONS_MIN: usize = 50;

/// One logged decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// What was seen.
    pub state: State,
    /// The arm that was taken.
    pub arm: usize,
    /// The probability that it was taken with, logged when it was; NaN where none was logged.
    pub propensity: f64,
    /// What came of it.
    pub outcome: Components,
}

/// Decisions in order of time, checked.
#[derive(Clone, Debug)]
pub struct Experience {
    decisions: Vec<Decision>,
}

impl Experience {
    /// Checks decisions on the arms of a grid.
    ///
    /// # Errors
    /// [`Refusal::InsufficientExperience`] for fewer than [`DECISIONS_MIN`], [`Refusal::NoPropensities`] where one has no
    /// probability in (0, 1], [`Refusal::Parameter`] for an arm outside the grid, a number that is not finite, or too many.
    pub fn new(decisions: Vec<Decision>, space: &ActionSpace) -> Result<Self> {
        if decisions.len() < DECISIONS_MIN {
            let text =
                format!("{} decisions are too few: log at least {DECISIONS_MIN} or widen the window", decisions.len());
            return Err(Refusal::InsufficientExperience(text));
        }
        if decisions.len() > DECISIONS_MAX {
            let text = format!("{} decisions are too many: narrow the window to {DECISIONS_MAX}", decisions.len());
            return Err(Refusal::Parameter(text));
        }
        for (number, decision) in decisions.iter().enumerate() {
            if !(decision.propensity > 0.0 && decision.propensity <= 1.0) {
                let text = format!(
                    "decision {number} has a propensity of {}: log with each decision the probability it was taken with",
                    decision.propensity
                );
                return Err(Refusal::NoPropensities(text));
            }
            if decision.arm >= space.arms() {
                let text = format!("decision {number} took arm {}, but there are {}", decision.arm, space.arms());
                return Err(Refusal::Parameter(text));
            }
            if !decision.outcome.array().iter().chain(&decision.state).all(|value| value.is_finite()) {
                let text = format!("decision {number} has a number that is not finite: repair it or leave it out");
                return Err(Refusal::Parameter(text));
            }
        }
        Ok(Self { decisions })
    }

    /// The decisions, oldest first.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// Their states.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        self.decisions.iter().map(|decision| decision.state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rl::policy::state::FEATURES;

    fn decisions(count: usize) -> Vec<Decision> {
        let one = Decision { state: [0.5; FEATURES], arm: 3, propensity: 0.25, outcome: Components::default() };
        vec![one; count]
    }

    #[test]
    fn whole_decisions_are_taken() {
        let experience = Experience::new(decisions(60), &ActionSpace::default()).unwrap();
        assert_eq!((experience.decisions().len(), experience.states().len()), (60, 60));
    }

    #[test]
    fn what_cannot_be_learned_from_is_refused_by_its_place() {
        let with = |change: fn(&mut Decision)| {
            let mut all = decisions(60);
            change(&mut all[17]);
            Experience::new(all, &ActionSpace::default()).unwrap_err()
        };
        for refusal in [with(|d| d.propensity = f64::NAN), with(|d| d.propensity = 0.0), with(|d| d.propensity = 1.5)] {
            assert!(matches!(&refusal, Refusal::NoPropensities(text) if text.contains("decision 17")), "{refusal}");
        }
        let refused = [with(|d| d.outcome.cost = f64::NAN), with(|d| d.state[2] = f64::INFINITY), with(|d| d.arm = 30)];
        for refusal in refused {
            assert!(matches!(&refusal, Refusal::Parameter(text) if text.contains("decision 17")), "{refusal}");
        }
        for count in [0, 49] {
            let refusal = Experience::new(decisions(count), &ActionSpace::default()).unwrap_err();
            assert_eq!(refusal.slug(), "insufficient-experience");
        }
    }
}
