//! A faded profile of the seasons and an autoregression on what is left.
//!
//! The level is a moving average over the outer (or main) season in whole main seasons. What is left of it is averaged
//! by the place in the main and in the outer season, the newest most, and both averages are mixed to a profile; the
//! series without the profile is fitted by ridge autoregression, whose forecast gets the profile added.
//!
//! **Invariant:** lanes are aligned at their ends, so that place `n − 1` is each lane's newest value.

use super::frame::Frame;
use super::lags::Lags;
use super::weighted::{self, gram};
use crate::seasonal_ar::normal::{LANES, Lanes, Normal};
use crate::seasonal_ar::plan::RIDGE_INTERCEPT;

/// How a profile is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// What a main season weighs, relative to the one after it.
    pub(super) main_fade: f64,
    /// What an outer season weighs, relative to the one after it.
    pub(super) outer_fade: f64,
    /// The outer season's share of the profile.
    pub(super) outer_share: f64,
}

/// Buffers for profiles.
#[derive(Default)]
pub(super) struct Profile {
    rest: Vec<Lanes>,
    weights: Vec<Lanes>,
    tile: Vec<Lanes>,
    normal: Normal,
}

impl Profile {
    /// The forecasts of standardised values; `None` where there is no season or too little history.
    pub(super) fn forecast(
        &mut self,
        frame: &Frame,
        z: &[f64],
        shape: Shape,
        lags: Lags,
        ridge: f64,
    ) -> Option<Vec<Lanes>> {
        let n = frame.values.len();
        let lags = lags_of(frame, lags)?;
        let seasons: Vec<Vec<f64>> = frame.ends.iter().map(|end| profile(&z[..*end], frame, shape)).collect();
        let period = seasons[0].len();
        self.rest.clear();
        self.rest.resize(n, [0.0; LANES]);
        for (w, end) in frame.ends.iter().enumerate() {
            for (at, value) in z[..*end].iter().enumerate() {
                let place = n - end + at;
                self.rest[place][w] = value - seasons[w][(period - 1) - (n - 1 - place) % period];
            }
        }
        let p = *lags.last()?;
        self.weights.clear();
        let row = |t: usize| frame.ends.map(|end| f64::from(u8::from(t >= n - end + p)));
        self.weights.extend((p..n).map(row));
        self.normal.reset(lags.len(), 1);
        gram(&mut self.normal, &lags, &self.rest, p, &self.weights, &mut self.tile);
        self.normal.rows = weighted::rows(&self.weights);
        self.normal.penalty = self.penalty(frame);
        self.normal.solve(ridge, RIDGE_INTERCEPT);
        let mut path = self.rest[n - p..].to_vec();
        let intercept = *self.normal.weights.last()?;
        self.normal.roll(&lags, frame.horizon, &mut path, |_| intercept);
        let step = |(step, rest): (usize, &Lanes)| std::array::from_fn(|w| rest[w] + seasons[w][step % period]);
        Some(path[p..].iter().enumerate().map(step).collect())
    }

    /// Rows times the variance of what is left, lane by lane.
    fn penalty(&self, frame: &Frame) -> Lanes {
        let sums = self.rest.iter().fold([0.0; LANES], |sum: Lanes, row| std::array::from_fn(|w| sum[w] + row[w]));
        let squares =
            self.rest.iter().fold([0.0; LANES], |sum: Lanes, row| std::array::from_fn(|w| sum[w] + row[w] * row[w]));
        std::array::from_fn(|w| {
            let count = frame.ends[w] as f64;
            self.normal.rows[w] * (squares[w] / count - (sums[w] / count) * (sums[w] / count)).max(1e-6)
        })
    }
}

/// The lags for what is left; `None` where there is no season or too little history.
pub(super) fn lags_of(frame: &Frame, lags: Lags) -> Option<Vec<usize>> {
    lags.of(frame).filter(|_| frame.main > 0 && frame.shortest >= 3 * frame.main)
}

/// The outer season of a profile, 0 where the series does not have it twice.
pub(super) fn outer_of(frame: &Frame) -> usize {
    if frame.shortest >= 2 * frame.outer { frame.outer } else { 0 }
}

/// The profile of one lane, from the place after its end on: as long as the outer season, or the main one.
fn profile(z: &[f64], frame: &Frame, shape: Shape) -> Vec<f64> {
    let n = z.len();
    let m = frame.main;
    let outer = outer_of(frame);
    let window = if outer > 0 { outer } else { m };
    let mut running = vec![0.0; n + 1];
    for t in 0..n {
        running[t + 1] = running[t] + z[t];
    }
    let level = |t: usize| {
        let (from, to) = (t.saturating_sub(window / 2), (t + window.div_ceil(2)).min(n));
        let length = ((to - from) / m * m).max(m);
        let (from, to) = if from == 0 { (0, length) } else { (to - length, to) };
        (running[to] - running[from]) / (to - from) as f64
    };
    let rest: Vec<f64> = (0..n).map(|t| z[t] - level(t)).collect();
    let main = faded(&rest, m, shape.main_fade);
    if outer == 0 {
        return main;
    }
    let outer = faded(&rest, outer, shape.outer_fade);
    // Both end at the series' end: the main season's places are counted from there.
    let at = |i: usize| main[(m - 1) - (outer.len() - 1 - i) % m];
    (0..outer.len()).map(|i| shape.outer_share * outer[i] + (1.0 - shape.outer_share) * at(i)).collect()
}

/// The mean of each place in the season, whole seasons counted from the end, each weighing `fade` of the one after it.
fn faded(values: &[f64], season: usize, fade: f64) -> Vec<f64> {
    let mut profile = vec![0.0; season];
    let (mut weight, mut total) = (1.0, 0.0);
    for cycle in values.rchunks_exact(season) {
        profile.iter_mut().zip(cycle).for_each(|(sum, v)| *sum += weight * v);
        total += weight;
        weight *= fade;
    }
    profile.iter_mut().for_each(|v| *v /= total);
    profile
}
