//! How steady recommendations are: their deviation over their mean, on a frozen set of states.
//!
//! Policies of other seeds and of other trainings are asked the same states, each as it is and with every scaled number moved by
//! 1 %. For every state and knob the standard deviation over all answers is divided by their mean; the measure is the mean
//! of that over states and knobs, in percent.
//!
//! **Invariant:** without hysteresis, so that it judges the policies and not what holds them.

use juno_kernels::SplitMix;

use super::Policy;
use super::action::KNOBS;
use super::refusal::{Refusal, Result};
use super::state::State;

/// The share by which inputs are moved.
const JITTER: f64 = 0.01;
/// Moved copies of a state, beside the state itself.
const COPIES: usize = 4;

/// How steady recommendations are, in percent; less is steadier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stability {
    /// Over all knobs: what is to stay under 5 %.
    pub percent: f64,
    /// Of each knob.
    pub by_knob: [f64; KNOBS],
}

/// Asks several policies the same states.
///
/// # Errors
/// [`Refusal::InsufficientExperience`] without states or with fewer than two policies.
pub fn stability(policies: &[Policy], states: &[State], seed: u64) -> Result<Stability> {
    if states.is_empty() || policies.len() < 2 {
        let text = "stability needs states and at least two policies of other seeds or trainings";
        return Err(Refusal::InsufficientExperience(text.to_owned()));
    }
    let mut random = SplitMix::new(seed, 4);
    let mut by_knob = [0.0; KNOBS];
    for state in states {
        let mut answers: Vec<[f64; KNOBS]> = Vec::with_capacity(policies.len() * (COPIES + 1));
        let copies: Vec<State> = (0..COPIES).map(|_| state.map(|x| x * (1.0 + JITTER * random.normal()))).collect();
        for policy in policies {
            answers.extend([state].into_iter().chain(&copies).map(|state| policy.recommend(state).array()));
        }
        for (knob, total) in by_knob.iter_mut().enumerate() {
            *total += variation(answers.iter().map(|answer| answer[knob])) / states.len() as f64;
        }
    }
    let percent = by_knob.map(|share| 100.0 * share);
    Ok(Stability { percent: percent.iter().sum::<f64>() / KNOBS as f64, by_knob: percent })
}

/// What policies of other seeds would vary by, reckoned from the members of one: their variation over the root of their number.
///
/// # Errors
/// [`Refusal::InsufficientExperience`] without states or with fewer than two members.
pub fn of_members(policy: &Policy, states: &[State], seed: u64) -> Result<Stability> {
    let members = policy.members();
    let Stability { percent, by_knob } = stability(&members, states, seed)?;
    let root = (members.len() as f64).sqrt();
    Ok(Stability { percent: percent / root, by_knob: by_knob.map(|knob| knob / root) })
}

/// Standard deviation over mean.
fn variation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let square = values.map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
    if mean.abs() < 1e-12 { 0.0 } else { square.sqrt() / mean.abs() }
}
