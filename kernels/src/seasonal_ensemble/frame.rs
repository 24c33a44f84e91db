//! One series as the members see it: its seasons, its origins, and its values under each transform.
//!
//! **Invariant:** a lane knows nothing after its end but the scale of the values.

use crate::seasonal_ar::normal::{LANES, Lanes};
use crate::seasonal_ar::plan::Plan;
use crate::seasonal_ar::ridge::BLOCK;

/// A series with values below this share of their mean gets an offset of that share before the logarithm.
const OFFSET_SHARE: f64 = 0.02;

/// Where no outer season was found, seven main seasons are tried in a series of at least three times that.
const OUTER_CYCLES_MIN: usize = 3;

/// The forecasts of one member, step by step, of all lanes.
pub(super) type Member = Vec<Lanes>;

/// A change of scale before a member is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    Raw,
    Sqrt,
    Log,
}

/// What all members of one series share.
pub(super) struct Frame<'a> {
    pub(super) values: &'a [f64],
    /// Where each lane's history ends: the forecast's first, then the origins'.
    pub(super) ends: [usize; LANES],
    pub(super) horizon: usize,
    /// The main season, 0 where there is none.
    pub(super) main: usize,
    /// The outer season, 0 where there is none.
    pub(super) outer: usize,
    /// The shortest lane's history.
    pub(super) shortest: usize,
    /// Added before the logarithm; none where the series has negative values.
    pub(super) offset: Option<f64>,
    /// The range that each lane's forecasts are held in.
    pub(super) bounds: [(f64, f64); LANES],
}

/// The values under one transform, standardised, with [`BLOCK`] zeros behind.
pub(super) struct Scaled {
    pub(super) z: Vec<f64>,
    pub(super) centre: f64,
    pub(super) spread: f64,
    pub(super) transform: Transform,
}

impl<'a> Frame<'a> {
    pub(super) fn new(plan: &'a Plan, horizon: usize) -> Self {
        let values = &plan.values[..];
        let n = values.len();
        let ends = std::array::from_fn(|w| n - plan.cuts.get(w).unwrap_or(&0));
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let floor = OFFSET_SHARE * values.iter().sum::<f64>() / n as f64;
        Self {
            values,
            ends,
            horizon,
            main: if plan.season > 1 { plan.season } else { 0 },
            outer: if plan.outer > 0 || plan.season == 1 || n < OUTER_CYCLES_MIN * 7 * plan.season {
                plan.outer
            } else {
                7 * plan.season
            },
            shortest: ends.iter().copied().min().unwrap_or(n),
            offset: (low >= 0.0).then_some(if low < floor { floor } else { 0.0 }),
            bounds: bounds(values, &ends),
        }
    }

    /// The values under a transform; `None` where the series does not allow it.
    pub(super) fn scaled(&self, transform: Transform) -> Option<Scaled> {
        if transform != Transform::Raw && self.offset.is_none() {
            return None;
        }
        let n = self.values.len();
        let mut z: Vec<f64> = self.values.iter().map(|v| self.forward(*v, transform)).collect();
        let centre = z.iter().sum::<f64>() / n as f64;
        let variance = z.iter().map(|v| (v - centre) * (v - centre)).sum::<f64>() / n as f64;
        let spread = variance.sqrt().max(1e-9);
        z.iter_mut().for_each(|v| *v = (*v - centre) / spread);
        z.resize(n + BLOCK, 0.0);
        Some(Scaled { z, centre, spread, transform })
    }

    /// The decay of one step, given that of a main season (of a day of 24 steps where there is none).
    pub(super) fn decay(&self, per_season: f64) -> f64 {
        per_season / if self.main > 0 { self.main as f64 } else { 24.0 }
    }

    fn forward(&self, value: f64, transform: Transform) -> f64 {
        match transform {
            Transform::Raw => value,
            Transform::Sqrt => value.sqrt(),
            Transform::Log => (value + self.offset.unwrap_or(0.0)).max(1e-12).ln(),
        }
    }

    /// A value within the bounds of a lane.
    pub(super) fn bounded(&self, value: f64, lane: usize) -> f64 {
        value.clamp(self.bounds[lane].0, self.bounds[lane].1)
    }

    /// Forecasts of standardised values as a member: in the units of the series, within its bounds.
    pub(super) fn member(&self, scaled: &Scaled, steps: &[Lanes]) -> Member {
        let back = |z: f64| {
            let value = z * scaled.spread + scaled.centre;
            match scaled.transform {
                Transform::Raw => value,
                Transform::Sqrt => value.max(0.0) * value.max(0.0),
                Transform::Log => value.clamp(-50.0, 50.0).exp() - self.offset.unwrap_or(0.0),
            }
        };
        steps.iter().map(|lanes| std::array::from_fn(|w| self.bounded(back(lanes[w]), w))).collect()
    }
}

/// The range that each lane's forecasts are held in.
fn bounds(values: &[f64], ends: &[usize; LANES]) -> [(f64, f64); LANES] {
    let mut lanes: Vec<usize> = (0..LANES).collect();
    lanes.sort_by_key(|w| ends[*w]);
    let mut bounds = [(0.0, 0.0); LANES];
    let (mut from, mut low, mut high) = (0, f64::INFINITY, f64::NEG_INFINITY);
    for w in lanes {
        for value in &values[from..ends[w]] {
            low = low.min(*value);
            high = high.max(*value);
        }
        from = ends[w];
        let range = high - low;
        let floor = low - range / 4.0;
        bounds[w] = (if low >= 0.0 { floor.max(low / 2.0) } else { floor }, high + range / 2.0);
    }
    bounds
}
