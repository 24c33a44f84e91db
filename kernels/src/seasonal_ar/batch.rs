//! The plans of many series, laid out flat for `seasonal_ar.cu`, and its results taken apart again.
//!
//! **Invariant:** copies, computes nothing; the host shim of the tests gets the same arrays as a device.

use super::interval::WIDEN;
use super::normal::LANES;
use super::plan::{LAGS_MAX, LEVELS, Modelled, Plan};

/// Threads of one block: a warp for every lane.
pub(super) const THREADS: usize = LANES * 32;
/// Entries of the normal equations of one lane.
const ENTRIES: usize = (LAGS_MAX + 1) * (LAGS_MAX + 2) / 2;

/// The kernel's arguments, in its own order.
pub(super) struct Batch {
    pub(super) values: Vec<f64>,
    pub(super) shapes: Vec<i64>,
    pub(super) levels: Vec<f64>,
    pub(super) sizes: [i64; 3],
    /// How many numbers the origins' forecasts of all series take.
    pub(super) rolled: usize,
}

impl Batch {
    /// Lays out the plans of one launch.
    pub(super) fn new(plans: &[&Plan], horizon: usize) -> Self {
        let longest = plans.iter().map(|plan| plan.values.len()).max().unwrap_or(0);
        let sizes = [plans.len(), horizon, longest].map(int);
        let mut batch = Self { values: Vec::new(), shapes: Vec::new(), levels: Vec::new(), sizes, rolled: 0 };
        for plan in plans {
            batch.push(plan);
        }
        batch
    }

    fn push(&mut self, plan: &Plan) {
        let (start, n, k, lanes) = (self.values.len(), plan.values.len(), plan.lags.len(), plan.cuts.len());
        self.shapes.extend([start, n, plan.season, k, lanes, plan.steps, plan.transforms, self.rolled].map(int));
        self.shapes.extend((0..LAGS_MAX).map(|i| int(plan.lags.get(i).copied().unwrap_or(0))));
        self.shapes.extend((0..LANES).map(|w| int(plan.cuts.get(w).copied().unwrap_or(0))));
        self.levels.extend((0..LANES).flat_map(|w| plan.levels.get(w).copied().unwrap_or([0.0; LEVELS])));
        self.values.extend(&plan.values);
        self.rolled += rolled(plan);
    }

    /// How many numbers of scratch space one block needs.
    pub(super) fn scratch(longest: usize, horizon: usize) -> usize {
        longest + 2 * LANES * ENTRIES + 3 * super::plan::RIDGES.len() * LANES * horizon
    }

    /// Hands every series its part of the kernel's results.
    pub(super) fn take_apart(plans: &[&Plan], mean: &[f64], rolled_of_all: &[f64], horizon: usize) -> Vec<Modelled> {
        let mut start = 0;
        let series = plans.iter().zip(mean.chunks_exact(horizon));
        series
            .map(|(plan, mean)| {
                let part = start..start + rolled(plan);
                start = part.end;
                Modelled { mean: mean.to_vec(), rolled: rolled_of_all[part].to_vec(), widen: WIDEN }
            })
            .collect()
    }
}

/// How many numbers the origins' forecasts of one series take.
fn rolled(plan: &Plan) -> usize {
    (plan.cuts.len() - 1) * plan.steps
}

/// A size as the device takes it.
fn int(size: usize) -> i64 {
    i64::try_from(size).expect("no slice is longer than i64 can say")
}
