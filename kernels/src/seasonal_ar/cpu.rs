//! The reference twin: one thread models one series at a time, all its origins side by side.
//!
//! **Invariant:** starts no thread; keeps nothing but buffers between series, so that a series' result does not depend
//! on the series before it.

use super::interval::WIDEN;
use super::normal::{LANES, Lanes};
use super::plan::{LEAST, LEVELS, Modelled, Plan, RIDGES, SHARPNESS};
use super::ridge::{BLOCK, Ridge};

/// Buffers that a thread keeps from series to series.
#[derive(Default)]
pub(super) struct Work {
    ridge: Ridge,
    z: Vec<f64>,
    path: Vec<Lanes>,
}

/// The forecasts of one member, step by step, of all lanes.
type Member = Vec<Lanes>;

/// Fits, validates and combines the members for one series.
pub(super) fn model(work: &mut Work, plan: &Plan, horizon: usize) -> Modelled {
    let ends = std::array::from_fn(|w| plan.values.len() - plan.cuts.get(w).unwrap_or(&0));
    let mut members = Vec::with_capacity(3 * RIDGES.len() + 1 + LEVELS);
    autoregressions(work, plan, &ends, horizon, &mut members);
    members.push(seasonal_naive(plan, &ends, horizon));
    for level in 0..LEVELS {
        let lanes = std::array::from_fn(|w| plan.levels.get(w).unwrap_or(&plan.levels[0])[level]);
        members.push(vec![lanes; horizon]);
    }
    combine(plan, &ends, &members)
}

/// One member for every transform and penalty.
fn autoregressions(work: &mut Work, plan: &Plan, ends: &[usize; LANES], horizon: usize, members: &mut Vec<Member>) {
    let Work { ridge, z, path } = work;
    let bounds = bounds(plan, ends);
    ridge.set_lags(&plan.lags);
    for transform in 0..plan.transforms {
        let (centre, spread) = standardise(&plan.values, transform, z);
        ridge.set_history(z, ends, 0.0);
        for penalty in RIDGES {
            ridge.solve(penalty);
            ridge.roll(z, ends, horizon, path);
            let value = |z: f64, w: usize| backward(z * spread + centre, transform).clamp(bounds[w].0, bounds[w].1);
            let steps = path[ridge.longest()..].iter();
            members.push(steps.map(|lanes| std::array::from_fn(|w| value(lanes[w], w))).collect());
        }
    }
}

/// The range that each lane's forecasts are held in.
fn bounds(plan: &Plan, ends: &[usize; LANES]) -> [(f64, f64); LANES] {
    ends.map(|end| {
        let known = &plan.values[..end];
        let low = known.iter().copied().fold(f64::INFINITY, f64::min);
        let high = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let range = high - low;
        let floor = low - range / 4.0;
        (if low >= 0.0 { floor.max(low / 2.0) } else { floor }, high + range / 2.0)
    })
}

/// The transform of one value.
fn forward(value: f64, transform: usize) -> f64 {
    match transform {
        0 => value,
        1 => value.sqrt(),
        _ => value.ln(),
    }
}

/// The inverse of [`forward`].
fn backward(value: f64, transform: usize) -> f64 {
    match transform {
        0 => value,
        1 => value.max(0.0) * value.max(0.0),
        _ => value.exp(),
    }
}

/// Writes the transformed, centred and scaled values to `z`, with [`BLOCK`] zeros behind; returns centre and spread.
fn standardise(values: &[f64], transform: usize, z: &mut Vec<f64>) -> (f64, f64) {
    let n = values.len();
    z.clear();
    z.extend(values.iter().map(|v| forward(*v, transform)));
    let centre = z.iter().sum::<f64>() / n as f64;
    let variance = z.iter().map(|v| (v - centre) * (v - centre)).sum::<f64>() / n as f64;
    let spread = variance.sqrt().max(1e-9);
    z.iter_mut().for_each(|v| *v = (*v - centre) / spread);
    z.resize(n + BLOCK, 0.0);
    (centre, spread)
}

/// The last season repeated, or the last value where there is no season.
fn seasonal_naive(plan: &Plan, ends: &[usize; LANES], horizon: usize) -> Member {
    (0..horizon).map(|step| ends.map(|end| plan.values[end - plan.season + step % plan.season])).collect()
}

/// Weighs the members by their errors at the origins and adds them up.
fn combine(plan: &Plan, ends: &[usize; LANES], members: &[Member]) -> Modelled {
    let shares = shares(plan, ends, members);
    let sum = |step: usize, w: usize| members.iter().zip(&shares).map(|(member, share)| member[step][w] * share).sum();
    let origins = (1..plan.cuts.len()).flat_map(|w| (0..plan.steps).map(move |step| (step, w)));
    Modelled {
        rolled: origins.map(|(step, w)| sum(step, w)).collect(),
        mean: (0..members[0].len()).map(|step| sum(step, 0)).collect(),
        widen: WIDEN,
    }
}

/// The members' shares, from their absolute and their relative errors at the origins.
fn shares(plan: &Plan, ends: &[usize; LANES], members: &[Member]) -> Vec<f64> {
    let errors: Vec<(f64, f64)> = members.iter().map(|member| errors(plan, ends, member)).collect();
    let total = errors.iter().fold((1e-12, 1e-12), |sum, e| (sum.0 + e.0, sum.1 + e.1));
    let merits: Vec<f64> = errors.iter().map(|e| (e.0 / total.0 + e.1 / total.1).max(1e-6).powi(-SHARPNESS)).collect();
    let best = merits.iter().copied().fold(0.0, f64::max);
    let kept: Vec<f64> = merits.iter().map(|merit| (merit / best - LEAST).max(0.0)).collect();
    let all: f64 = kept.iter().sum();
    kept.iter().map(|share| share / all).collect()
}

/// The sums of |y − f| and of |y − f| / (|y| + |f|) over all origins.
fn errors(plan: &Plan, ends: &[usize; LANES], member: &[Lanes]) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for w in 1..plan.cuts.len() {
        for (actual, lanes) in plan.values[ends[w]..][..plan.steps].iter().zip(member) {
            let error = (actual - lanes[w]).abs();
            sums.0 += error;
            sums.1 += error / (actual.abs() + lanes[w].abs()).max(1e-9);
        }
    }
    sums
}
