//! The plans of many series, laid out flat for `seasonal_ar.cu`, and its results taken apart again.
//!
//! **Invariant:** copies, computes nothing; the host shim of the tests gets the same arrays as a device.

use super::interval::WIDEN;
use super::normal::LANES;
use super::plan::{LAGS_MAX, LEVELS, Modelled, Plan, RIDGES};
use crate::device::argument::Argument;

/// Threads of one block: a warp for every lane.
pub(super) const THREADS: usize = LANES * 32;
/// Entries of the normal equations of one lane.
const ENTRIES: usize = (LAGS_MAX + 1) * (LAGS_MAX + 2) / 2;

/// The kernel's arguments, in its own order.
pub(super) struct Batch {
    values: Vec<f64>,
    shapes: Vec<i64>,
    levels: Vec<f64>,
    sizes: [i64; 3],
    /// How many numbers of scratch space one block needs.
    scratch: usize,
    /// How many numbers the forecasts and the origins' forecasts of all series take.
    mean: usize,
    rolled: usize,
}

impl Batch {
    /// Lays out the plans of one launch.
    pub(super) fn new(plans: &[&Plan], horizon: usize) -> Self {
        let longest = plans.iter().map(|plan| plan.values.len()).max().unwrap_or(0);
        let sizes = [plans.len(), horizon, longest].map(int);
        let scratch = longest + 2 * LANES * ENTRIES + 3 * RIDGES.len() * LANES * horizon;
        let mean = plans.len() * horizon;
        let (values, shapes, levels) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = Self { values, shapes, levels, sizes, scratch, mean, rolled: 0 };
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

    /// How many numbers of scratch space so many blocks need.
    pub(super) fn scratch(&self, blocks: usize) -> usize {
        blocks * self.scratch
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 8] {
        [
            Argument::F64(&self.values),
            Argument::I64(&self.shapes),
            Argument::F64(&self.levels),
            Argument::F64(&RIDGES),
            Argument::I64(&self.sizes),
            Argument::Scratch(self.scratch(blocks)),
            Argument::Zeros(self.mean),
            Argument::Zeros(self.rolled),
        ]
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
pub(super) fn rolled(plan: &Plan) -> usize {
    (plan.cuts.len() - 1) * plan.steps
}

/// A size as the device takes it.
fn int(size: usize) -> i64 {
    i64::try_from(size).expect("no slice is longer than i64 can say")
}
