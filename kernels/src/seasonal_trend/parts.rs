//! Trend, seasons and remainder of one series.
//!
//! **Invariant:** looks at one series only; every pass runs in ascending time.

use super::{Decomposition, Season};
use crate::seasonal_ar::history::{self, History};

/// Rounds: the first without robustness weights, each later one with those of the round before.
const ROUNDS: usize = 3;
/// Passes of one round over trend and seasons.
const PASSES: usize = 2;
/// Cycles to each side that a season is averaged over.
const CYCLES: usize = 3;
/// The shortest trend window, in points.
const TREND_POINTS_MIN: usize = 5;
/// Remainders beyond this multiple of their median weigh nothing.
const OUTLIER: f64 = 6.0;

/// A median remainder below this share of the largest magnitude is what rounding left: then all values weigh alike.
const ROUNDING: f64 = 1e-9;

/// One series taken apart, from its first known value on, on the scale of its history.
pub(super) struct Parts {
    scale: f64,
    known: Vec<bool>,
    values: Vec<f64>,
    trend: Vec<f64>,
    /// The seasons' lengths and values, the main one first.
    seasons: Vec<(usize, Vec<f64>)>,
    remainder: Vec<f64>,
}

impl Parts {
    /// Takes a series apart; `None` where no value is known.
    pub(super) fn of(raw: &[f64]) -> Option<Self> {
        let mut parts = Self::prepared(raw)?;
        parts.fit();
        Some(parts)
    }

    /// A series with its gaps filled and its seasons' lengths found, and all parts still 0.
    pub(super) fn prepared(raw: &[f64]) -> Option<Self> {
        let first = raw.iter().position(|v| v.is_finite())?;
        let History { values, scale, seasons } = history::prepare_whole(raw)?;
        let n = values.len();
        let lengths = [seasons.main, seasons.outer].into_iter().filter(|m| *m > 1);
        Some(Self {
            scale,
            known: raw[first..].iter().map(|v| v.is_finite()).collect(),
            trend: vec![0.0; n],
            seasons: lengths.map(|m| (m, vec![0.0; n])).collect(),
            remainder: vec![0.0; n],
            values,
        })
    }

    /// Takes a prepared series apart.
    fn fit(&mut self) {
        let mut weights = vec![1.0; self.values.len()];
        for round in 0..ROUNDS {
            if round > 0 {
                self.weigh(&mut weights);
                // What an outlier left in one season would keep it in the other.
                self.seasons.iter_mut().for_each(|season| season.1.fill(0.0));
            }
            (0..PASSES).for_each(|_| self.pass(&weights, round == 0));
        }
    }

    /// The values, scaled to magnitudes of at most 1.
    #[cfg(feature = "cuda")]
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    /// Which values were not filled in.
    #[cfg(feature = "cuda")]
    pub(super) fn known(&self) -> &[bool] {
        &self.known
    }

    /// The lengths of the main and of the outer season; 0 where there is none.
    #[cfg(feature = "cuda")]
    pub(super) fn lengths(&self) -> [usize; 2] {
        std::array::from_fn(|at| self.seasons.get(at).map_or(0, |season| season.0))
    }

    /// Takes trend, main and outer season and remainder from elsewhere.
    #[cfg(feature = "cuda")]
    pub(super) fn set(&mut self, [trend, main, outer, remainder]: [&[f64]; 4]) {
        self.trend.copy_from_slice(trend);
        self.remainder.copy_from_slice(remainder);
        self.seasons.iter_mut().zip([main, outer]).for_each(|(season, values)| season.1.copy_from_slice(values));
    }

    fn pass(&mut self, weights: &[f64], first: bool) {
        let main = self.seasons.first().map_or(1, |season| season.0);
        let window = self.seasons.last().map_or((self.values.len() / 10).max(TREND_POINTS_MIN) | 1, |season| season.0);
        let seasons = &self.seasons;
        let without: Vec<f64> =
            self.values.iter().enumerate().map(|(t, v)| v - seasons.iter().map(|s| s.1[t]).sum::<f64>()).collect();
        self.trend = moving(&without, weights, window, main);
        for at in 0..self.seasons.len() {
            let others = |t: usize| -> f64 {
                let others = self.seasons.iter().enumerate().filter(|(other, _)| *other != at);
                others.map(|(_, season)| season.1[t]).sum()
            };
            let left: Vec<f64> = self.values.iter().enumerate().map(|(t, v)| v - self.trend[t] - others(t)).collect();
            let length = self.seasons[at].0;
            self.seasons[at].1 = cycles(&left, weights, length, first);
        }
        for t in 0..self.values.len() {
            let seasons: f64 = self.seasons.iter().map(|season| season.1[t]).sum();
            self.remainder[t] = self.values[t] - self.trend[t] - seasons;
        }
    }

    /// Robustness weights from the remainders of known values.
    fn weigh(&self, weights: &mut [f64]) {
        let known = self.remainder.iter().zip(&self.known).filter(|(_, known)| **known);
        let mut sizes: Vec<f64> = known.map(|(r, _)| r.abs()).collect();
        let half = sizes.len() / 2;
        let median = *sizes.select_nth_unstable_by(half, f64::total_cmp).1;
        let reach = if median > ROUNDING { OUTLIER * median } else { f64::INFINITY };
        for (weight, r) in weights.iter_mut().zip(&self.remainder) {
            let share = (r.abs() / reach).min(1.0);
            *weight = (1.0 - share * share) * (1.0 - share * share);
        }
    }

    /// The seasons with their strengths.
    pub(super) fn strengths(&self) -> Vec<Season> {
        let strength = |season: &[f64]| {
            let left = variance(self.remainder.iter().copied());
            let both = variance(self.remainder.iter().zip(season).map(|(r, s)| r + s));
            if both > 0.0 { (1.0 - left / both).clamp(0.0, 1.0) } else { 0.0 }
        };
        self.seasons.iter().map(|(steps, season)| Season { steps: *steps, strength: strength(season) }).collect()
    }

    /// The parts in the units of the series.
    pub(super) fn in_units(&self) -> Decomposition {
        let scaled = |values: &[f64]| values.iter().map(|v| v * self.scale).collect();
        let season = |at: usize| match self.seasons.get(at) {
            Some(season) => scaled(&season.1),
            None => vec![0.0; self.values.len()],
        };
        let remainder = self.remainder.iter().zip(&self.known);
        Decomposition {
            trend: scaled(&self.trend),
            season: season(0),
            outer: season(1),
            remainder: remainder.map(|(r, known)| if *known { r * self.scale } else { f64::NAN }).collect(),
        }
    }
}

fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (count, sum) = values.clone().fold((0.0, 0.0), |(count, sum), v| (count + 1.0, sum + v));
    values.map(|v| (v - sum / count) * (v - sum / count)).sum::<f64>() / count
}

/// The weighted mean of the `window` points around each, or of as many whole `unit`s as there are at the ends.
fn moving(values: &[f64], weights: &[f64], window: usize, unit: usize) -> Vec<f64> {
    let n = values.len();
    let (mut sums, mut masses) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    for t in 0..n {
        sums[t + 1] = sums[t] + values[t] * weights[t];
        masses[t + 1] = masses[t] + weights[t];
    }
    let level = |t: usize| {
        let (from, to) = (t.saturating_sub(window / 2), (t + window.div_ceil(2)).min(n));
        let length = (((to - from) / unit).max(1) * unit).min(n);
        let (from, to) = if from == 0 { (0, length) } else { (to.max(length) - length, to.max(length)) };
        let mass = masses[to] - masses[from];
        if mass > 1e-9 { (sums[to] - sums[from]) / mass } else { values[t] }
    };
    (0..n).map(level).collect()
}

/// The values averaged over neighbouring cycles at each place, without their mean over a cycle.
///
/// The first round takes the median: a mean would smear an outlier over its place in all cycles, which then all look like
/// outliers.
fn cycles(values: &[f64], weights: &[f64], length: usize, first: bool) -> Vec<f64> {
    let n = values.len();
    let near = |distance: usize| {
        let share = distance as f64 / (CYCLES + 1) as f64;
        (1.0 - share * share * share).powi(3)
    };
    let middle = |t: usize| {
        let from = t - (t / length).min(CYCLES) * length;
        let mut near: Vec<f64> = values[from..].iter().step_by(length).take(2 * CYCLES + 1).copied().collect();
        let half = near.len() / 2;
        *near.select_nth_unstable_by(half, f64::total_cmp).1
    };
    let smooth = |t: usize| {
        let (mut sum, mut mass) = (0.0, 0.0);
        for distance in 0..=CYCLES {
            let sides = [t.checked_sub(distance * length), Some(t + distance * length).filter(|_| distance > 0)];
            for at in sides.into_iter().flatten().filter(|at| *at < n) {
                let weight = near(distance) * (weights[at] + 1e-9);
                sum += weight * values[at];
                mass += weight;
            }
        }
        sum / mass
    };
    let smoothed: Vec<f64> = if first { (0..n).map(middle).collect() } else { (0..n).map(smooth).collect() };
    let level = moving(&smoothed, &vec![1.0; n], length, length);
    smoothed.iter().zip(&level).map(|(v, level)| v - level).collect()
}
