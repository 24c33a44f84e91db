//! HPA tuned on one half of a recording: the cheapest target and stabilisation window that keep the objective there.
//!
//! **Invariant:** what is tuned here sees the training half and nothing else.

use super::hpa::Hpa;
use super::service::{Outcome, run};

/// Share of requests that must be within capacity.
pub const OBJECTIVE: f64 = 0.999;
/// Stabilisation windows of the grid, in seconds.
const WINDOWS_S: [usize; 3] = [60, 300, 900];

/// Targets of the grid from the cheapest on: 98 % to 6 %.
fn targets() -> impl Iterator<Item = f64> {
    (0..18).map(|step| 0.98 - f64::from(step) * 0.04).chain((1..13).map(|step| 0.30 - f64::from(step) * 0.02))
}

/// One autoscaler over a recording from a slot on.
#[must_use]
pub fn outcome(demand: &[f64], from: usize, capacity: f64, boot: usize, target: f64, window_s: usize) -> Outcome {
    let mut hpa = Hpa::new(target, window_s, capacity);
    run(demand, from, capacity, boot, |seen| hpa.command(seen))
}

/// Target and window in seconds of the cheapest that keeps the objective over `demand`: of each window the largest target that
/// does, and of these the cheapest. Where none does, the smallest target with the longest window.
#[must_use]
pub fn tuned(demand: &[f64], capacity: f64, boot: usize) -> (f64, usize) {
    let kept = |window_s: usize| {
        let mut runs = targets().map(|target| (target, window_s, outcome(demand, 0, capacity, boot, target, window_s)));
        runs.find(|(_, _, run)| run.within >= OBJECTIVE)
    };
    let best = WINDOWS_S.into_iter().filter_map(kept).min_by(|a, b| a.2.replicas.total_cmp(&b.2.replicas));
    let safest = (targets().last().expect("a grid has targets"), WINDOWS_S[2]);
    best.map_or(safest, |(target, window_s, _)| (target, window_s))
}
