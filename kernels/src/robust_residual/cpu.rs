//! The reference twin: one pass over one series, point after point.
//!
//! **Invariant:** state of bounded size; a point is scored before anything is learned from it.

use super::is_usable;
use super::plan::Look;
use super::ranks::{BINS, Ranks, TAIL_MIN};

/// How fast the level follows.
const LEVEL_RATE: f64 = 0.1;
/// How fast the base follows, against which a drift is measured.
const BASE_RATE: f64 = 1.0 / 200.0;
/// How fast the drift follows the distance from the base.
const DRIFT_RATE: f64 = 0.1;
/// How fast scales follow once they have seen enough.
const SCALE_RATE: f64 = 0.01;
/// The smallest scale, relative to the largest value so far.
const SCALE_MIN: f64 = 1e-6;
/// Scales are trusted, and residuals ranked, after this many points.
const TRUST_POINTS: f64 = 16.0;
/// How fast a place in the season follows.
const SEASON_RATE: f64 = 0.2;
/// A residual teaches as if it were at most this many scales.
const REACH: f64 = 4.0;

/// The running state for one series.
struct Model {
    seen: f64,
    top: f64,
    level: f64,
    base: f64,
    drift: f64,
    scales: [f64; 3],
    main: Vec<f64>,
    outer: Vec<f64>,
    ranks: [Ranks; 2],
}

/// Scores every value of one series.
pub(super) fn score(values: &[f64], looks: &[Look], warm_up: usize, prior: &[f64; BINS]) -> Vec<f64> {
    let mut model = Model::new(&[0.0], &[0.0], prior);
    let mut looks = looks.iter().peekable();
    let mut scores = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        if let Some(look) = looks.next_if(|look| look.at == at) {
            model = Model::new(&look.main, &look.outer, prior);
            for at in (look.from..look.at).filter(|at| is_usable(values[*at])) {
                model.learn(at, values[at]);
            }
        }
        scores.push(if value.is_nan() {
            f64::NAN
        } else {
            let tail = if is_usable(*value) { model.learn(at, *value) } else { TAIL_MIN };
            if at < warm_up { 0.0 } else { 1.0 - tail }
        });
    }
    scores
}

impl Model {
    fn new(main: &[f64], outer: &[f64], prior: &[f64; BINS]) -> Self {
        Self {
            seen: 0.0,
            top: 0.0,
            level: 0.0,
            base: 0.0,
            drift: 0.0,
            scales: [0.0; 3],
            main: main.to_vec(),
            outer: outer.to_vec(),
            ranks: [Ranks::new(prior), Ranks::new(prior)],
        }
    }

    /// The tail probability of a value, which is then learned from.
    fn learn(&mut self, at: usize, value: f64) -> f64 {
        let (i, j) = (at % self.main.len(), at % self.outer.len());
        let rest = value - self.main[i] - self.outer[j];
        if self.seen == 0.0 {
            (self.level, self.base) = (rest, rest);
        }
        self.top = self.top.max(value.abs());
        let floor = SCALE_MIN * self.top + f64::MIN_POSITIVE;
        let reach = if self.seen < TRUST_POINTS { f64::INFINITY } else { REACH };
        let held = |v: f64, scale: f64| v.clamp(-reach * scale.max(floor), reach * scale.max(floor));
        let (near, far) = (rest - self.level, rest - self.base);
        let (near_held, far_held) = (held(near, self.scales[0]), held(far, self.scales[1]));
        self.drift += DRIFT_RATE * (far_held - self.drift);
        let ratios = [near.abs() / self.scales[0].max(floor), self.drift.abs() / self.scales[2].max(floor)];
        let tails = [self.ranks[0].tail(ratios[0]), self.ranks[1].tail(ratios[1])];
        if self.seen >= TRUST_POINTS {
            self.ranks[0].learn(ratios[0]);
            self.ranks[1].learn(ratios[1]);
        }
        let young = 1.0 / (self.seen + 1.0);
        let moved = [near_held.abs(), far_held.abs(), held(self.drift, self.scales[2]).abs()];
        for (scale, moved) in self.scales.iter_mut().zip(moved) {
            *scale += SCALE_RATE.max(young) * (moved - *scale);
        }
        self.level += LEVEL_RATE.max(young) * near_held;
        self.base += BASE_RATE.max(young) * far_held;
        if self.main.len() > 1 {
            self.main[i] += SEASON_RATE * near_held;
        }
        if self.outer.len() > 1 {
            self.outer[j] += SEASON_RATE * near_held;
        }
        self.seen += 1.0;
        (2.0 * tails[0].min(tails[1])).min(1.0)
    }
}
