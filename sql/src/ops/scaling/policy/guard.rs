//! The reactive guard: what is asked for whatever a forecast says.
//!
//! **Invariant:** reads the last minutes only, and never asks for less than the demand that is there.

use super::demand::Demand;

/// Utilisation that the guard holds where it decides alone: the usual one of a reactive autoscaler.
const UTILISATION: f64 = 0.7;
/// Seconds whose largest demand counts where it decides alone.
const WINDOW_S: u32 = 300;
/// Seconds of the demand that must be carried in any case.
const FLOOR_S: u32 = 30;

/// The least that units must carry under any forecast: the demand now.
pub(super) fn floor(demand: &Demand) -> f64 {
    demand.mean(demand.steps_of(FLOOR_S), 0)
}

/// What the units must be able to carry where the guard decides alone.
pub(super) fn demand(demand: &Demand) -> f64 {
    let smooth = demand.steps_of(FLOOR_S);
    let largest = (0..demand.steps_of(WINDOW_S)).map(|ago| demand.mean(smooth, ago)).fold(0.0, f64::max);
    largest / UTILISATION
}
