//! HPA tuned on one half of a recording: the cheapest target and stabilisation window that keep the objective there.
//!
//! **Invariant:** what is tuned here sees the training half and nothing else.

use super::hpa::Hpa;
use super::service::{Outcome, run};

/// Share of requests that must be within capacity.
pub const OBJECTIVE: f64 = 0.999;
/// Stabilisation windows of the grid, in seconds.
const WINDOWS_S: [usize; 3] = [60, 300, 900];

/// Targets of the grid: 6 % to 98 %.
fn targets() -> impl Iterator<Item = f64> {
    (3..15).map(|step| f64::from(step) * 0.02).chain((0..18).map(|step| 0.30 + f64::from(step) * 0.04))
}

/// One autoscaler over a recording from a slot on.
#[must_use]
pub fn outcome(demand: &[f64], from: usize, capacity: f64, boot: usize, target: f64, window_s: usize) -> Outcome {
    let mut hpa = Hpa::new(target, window_s, capacity);
    run(demand, from, capacity, boot, |seen| hpa.command(seen))
}

/// Target and window in seconds of the cheapest that keeps the objective over `demand`; where none does, the one that comes
/// closest.
#[must_use]
pub fn tuned(demand: &[f64], capacity: f64, boot: usize) -> (f64, usize) {
    let mut best = (0.0, 0, f64::INFINITY, 0.0);
    for window_s in WINDOWS_S {
        for target in targets() {
            let run = outcome(demand, 0, capacity, boot, target, window_s);
            let within = run.within.min(OBJECTIVE);
            if within > best.3 || (within == best.3 && run.replicas < best.2) {
                best = (target, window_s, run.replicas, within);
            }
        }
    }
    (best.0, best.1)
}
