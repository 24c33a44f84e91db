//! The static rule: the best fixed knobs for a load, and the price of violations at which they are best.
//!
//! **Invariant:** sees the training part only; a finer grid than the policies' arms, so that it is no straw man.

use std::ops::Range;

use crate::ops::rl::policy::action::{ActionSpace, KNOBS, Knobs};
use crate::ops::rl::policy::refusal::{Refusal, Result};
use crate::ops::rl::policy::reward::{Dual, Objective};
use crate::ops::rl::policy::simulator::track::Track;
use crate::ops::rl::policy::simulator::{Control, Run, Service, Simulator};

/// Steps of the dual ascent over the runs of the grid.
const ASCENT_STEPS: usize = 200;
/// Points of the grid between two rungs.
const BETWEEN: usize = 2;

/// A tuned static rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fixed {
    /// The knobs.
    pub knobs: Knobs,
    /// The price of a violation at which the rule is the best one within the budget.
    pub price: f64,
    /// Its mean reward at that price, on the load it was tuned on.
    pub reward: f64,
    /// Its violation there.
    pub violation: f64,
}

/// Tunes fixed knobs on a part of a track.
///
/// # Errors
/// [`Refusal::Parameter`] when service, objective or epochs are out of range.
pub fn tuned(
    service: &Service,
    track: &Track,
    epochs: Range<usize>,
    space: &ActionSpace,
    objective: &Objective,
) -> Result<Fixed> {
    objective.check()?;
    let mut runs: Vec<(Knobs, Run)> = Vec::new();
    for knobs in grid(space) {
        let simulator = Simulator::new(service, track, epochs.clone())?;
        runs.push((knobs, simulator.run(|_| Control::Knobs(knobs))));
    }
    let mut dual = Dual::new(objective, None);
    for _ in 0..ASCENT_STEPS {
        let price = dual.price();
        if let Some((_, run)) = best(&runs, |run| run.reward(objective, price)) {
            dual.update(run.violation);
        }
    }
    let price = dual.settled();
    let within = 0.7 * objective.violation_max;
    let fits =
        |run: &Run| if run.violation <= within { run.reward(objective, 0.0) } else { -1e6 * run.violation - 1e3 };
    let Some((knobs, run)) = best(&runs, fits) else {
        return Err(Refusal::Parameter("there are no arms to choose from".to_owned()));
    };
    Ok(Fixed { knobs: *knobs, price, reward: run.reward(objective, price), violation: run.violation })
}

fn best(runs: &[(Knobs, Run)], worth: impl Fn(&Run) -> f64) -> Option<&(Knobs, Run)> {
    let mut found: Option<(f64, &(Knobs, Run))> = None;
    for pair in runs {
        let value = worth(&pair.1);
        if found.is_none_or(|(top, _)| value > top) {
            found = Some((value, pair));
        }
    }
    found.map(|(_, pair)| pair)
}

/// Every combination of rungs and of points between them.
fn grid(space: &ActionSpace) -> Vec<Knobs> {
    let ladder = |rungs: &Vec<f64>| -> Vec<f64> {
        let steps = |pair: &[f64]| {
            let (low, high) = (pair[0], pair[1]);
            (0..=BETWEEN).map(move |part| low + (high - low) * part as f64 / (BETWEEN + 1) as f64)
        };
        rungs.windows(2).flat_map(steps).chain(rungs.last().copied()).collect()
    };
    let ladders: [Vec<f64>; KNOBS] = std::array::from_fn(|knob| ladder(&space.rungs()[knob]));
    let mut all = Vec::new();
    for k in &ladders[0] {
        for hold_s in &ladders[1] {
            all.extend(ladders[2].iter().map(|guard| Knobs { k: *k, hold_s: *hold_s, guard: *guard }));
        }
    }
    all
}
