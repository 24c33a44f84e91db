//! Commands that look ahead, or pretend to: one every 15 s, from the mean demand of the steps so far.
//!
//! **Invariant:** only [`perfect`] reads demand that is still to come, and it is a bound, not a method.

use std::collections::VecDeque;

use anyhow::Result;

use super::grid::OBJECTIVE;
use super::service::{self, CONTROL_SLOTS, Outcome, SLOT_S, Seen};

/// Seconds between commands.
pub const STEP_S: u32 = (SLOT_S * CONTROL_SLOTS) as u32;
/// Commands that are looked back on before there are fewer replicas: a minute.
const HOLD: usize = 4;
const REPLICAS_MIN: f64 = 2.0;

/// Mean demand of each step.
pub fn steps(demand: &[f64]) -> impl Iterator<Item = f64> {
    demand.chunks_exact(CONTROL_SLOTS).map(|slots| slots.iter().sum::<f64>() / CONTROL_SLOTS as f64)
}

/// End of a step, counted from the beginning of a recording, in seconds since a midnight.
#[must_use]
pub fn at_s(step: usize) -> i64 {
    (step as i64 + 1) * i64::from(STEP_S)
}

/// Runs a service from a slot on; the command of each step follows from the number of the step, its mean demand and what is seen.
///
/// # Errors
/// The first one of a command.
pub fn run(
    demand: &[f64],
    from: usize,
    capacity: f64,
    boot: usize,
    mut command: impl FnMut(usize, f64, Seen<'_>) -> Result<f64>,
) -> Result<Outcome> {
    let (mut step, mut failed) = (0, None);
    let outcome = service::run(demand, from, capacity, boot, |seen| {
        let last = &seen.demand[seen.demand.len() - CONTROL_SLOTS..];
        let mean = last.iter().sum::<f64>() / CONTROL_SLOTS as f64;
        let to = command(step, mean, seen).unwrap_or_else(|error| {
            failed.get_or_insert(error);
            seen.ready
        });
        step += 1;
        to
    });
    failed.map_or(Ok(outcome), Err)
}

/// Replicas for the mean of the last minute times a factor.
#[must_use]
pub fn last_minute(demand: &[f64], from: usize, capacity: f64, boot: usize, factor: f64) -> Outcome {
    held(demand, from, capacity, boot, |seen| {
        let minute = &seen.demand[seen.demand.len().saturating_sub(60 / SLOT_S)..];
        minute.iter().sum::<f64>() / minute.len() as f64 * factor
    })
}

/// The smallest factor of [`last_minute`] that keeps the objective over `demand`.
#[must_use]
pub fn tuned_factor(demand: &[f64], capacity: f64, boot: usize) -> f64 {
    let factors =
        (0..40).map(|step| 1.0 + f64::from(step) * 0.03).chain((0..20).map(|step| 2.2 + f64::from(step) * 0.2));
    let keeps = |factor: &f64| last_minute(demand, 0, capacity, boot, *factor).within >= OBJECTIVE;
    factors.clone().find(keeps).or(factors.last()).expect("the grid is not empty")
}

/// Replicas for the largest demand of the next start-up and step, as it will be.
#[must_use]
pub fn perfect(demand: &[f64], from: usize, capacity: f64, boot: usize) -> Outcome {
    held(demand, from, capacity, boot, |seen| {
        let now = seen.demand.len();
        demand[now..(now + boot + CONTROL_SLOTS).min(demand.len())].iter().copied().fold(0.0, f64::max)
    })
}

/// Replicas for a demand; fewer only once no command of the last minute asked for more.
fn held(demand: &[f64], from: usize, capacity: f64, boot: usize, mut needed: impl FnMut(Seen<'_>) -> f64) -> Outcome {
    let mut commands = VecDeque::new();
    service::run(demand, from, capacity, boot, |seen| {
        let wanted = (needed(seen) / capacity).ceil().max(REPLICAS_MIN);
        if commands.len() == HOLD {
            commands.pop_front();
        }
        commands.push_back(wanted);
        let now = seen.ready + seen.starting;
        if wanted >= now { wanted } else { commands.iter().copied().fold(wanted, f64::max).min(now) }
    })
}
