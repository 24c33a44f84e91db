//! When a series' seasons are looked for, and what was found: the only thing a score takes from more than running
//! state.
//!
//! **Invariant:** the seasons used from point t on are found in points before t; pure and shared by both twins.

use super::is_usable;
use crate::season::{self, Seasons};

/// Seasons are first looked for after this many points, and again whenever there are twice as many.
const FIRST_LOOK_POINTS: usize = 128;
/// How far back a look reaches, in points.
pub(super) const MEMORY_POINTS: usize = 8_192;
/// The looks that a series of any length gets at most; from then on its last seasons stay.
const LOOKS_MAX: usize = 16;

/// From point `at` on the model knows these seasons, having replayed the points from `from` on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Look {
    /// The first point that is scored with these seasons.
    pub(super) at: usize,
    /// Where the replay starts.
    pub(super) from: usize,
    /// What each place of the main season differs from the level; one zero where there is no season.
    pub(super) main: Vec<f64>,
    /// What each place of the outer season differs from level and main season; one zero where there is none.
    pub(super) outer: Vec<f64>,
}

/// The looks at one series that changed its seasons, in time order.
pub(super) fn looks(values: &[f64]) -> Vec<Look> {
    let mut looks: Vec<Look> = Vec::new();
    let mut known = Seasons::default();
    for at in (0..LOOKS_MAX).map(|look| FIRST_LOOK_POINTS << look).take_while(|at| *at < values.len()) {
        let from = at.saturating_sub(MEMORY_POINTS);
        let mut known_values = held(&values[from..at]);
        let seasons = season::find(&known_values);
        if seasons != known {
            known = seasons;
            let main = profile(&mut known_values, seasons.main, from);
            let outer = profile(&mut known_values, seasons.outer, from);
            looks.push(Look { at, from, main, outer });
        }
    }
    looks
}

/// The values with every missing one replaced by the last known before it.
fn held(values: &[f64]) -> Vec<f64> {
    let mut last = values.iter().copied().find(|v| is_usable(*v)).unwrap_or(0.0);
    let hold = |v: &f64| {
        if is_usable(*v) {
            last = *v;
        }
        last
    };
    values.iter().map(hold).collect()
}

/// The median at each place of the season, over its whole cycles, of the distance from the cycle's mean; taken off the
/// values. Value 0 stands at point `from` of the series, whose place is `from` modulo the season.
fn profile(values: &mut [f64], season: usize, from: usize) -> Vec<f64> {
    if season == 0 {
        return vec![0.0];
    }
    let means: Vec<f64> = values.chunks_exact(season).map(|cycle| cycle.iter().sum::<f64>() / season as f64).collect();
    let mut profile = vec![0.0; season];
    for place in 0..season {
        let mut distances: Vec<f64> =
            values.chunks_exact(season).zip(&means).map(|(cycle, mean)| cycle[place] - mean).collect();
        let half = distances.len() / 2;
        profile[(from + place) % season] = *distances.select_nth_unstable_by(half, f64::total_cmp).1;
    }
    for (at, value) in values.iter_mut().enumerate() {
        *value -= profile[(from + at) % season];
    }
    profile
}
