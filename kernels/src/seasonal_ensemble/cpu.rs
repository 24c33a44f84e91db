//! The reference twin: one thread models one series at a time, all its origins side by side.
//!
//! **Invariant:** starts no thread; keeps nothing but buffers between series, so that a series' result does not depend
//! on the series before it.

use super::fourier::Fourier;
use super::frame::{Frame, Member, Scaled, Transform};
use super::lags::{Lags, SETS};
use super::members::{Kind, SINGLE, SPECS, Spec};
use super::profile::Profile;
use super::weighted::Weighted;
use super::{Model, levels, smoothing, stack, windows};
use crate::seasonal_ar::interval;
use crate::seasonal_ar::normal::{LANES, Lanes};
use crate::seasonal_ar::plan::{LEVELS, Modelled, Plan};
use crate::seasonal_ar::ridge::{BLOCK, Ridge};

/// By how much intervals are widened: the stacked origins flatter the ensemble. Chosen on rolling origins inside the
/// histories of M4 Hourly, PJM and Bitbrains.
pub(super) const WIDEN: f64 = 1.25;
/// What share of the median error at the origins is taken off the forecast.
const BIAS: f64 = 0.3;
/// A series with values near zero has fewer transforms than this in its plan, and its members' weighted median counts
/// as much as their mean: its values keep to few levels, between which a mean falls.
const ALL_TRANSFORMS: usize = 3;
/// Rounds of re-weighting towards least absolute deviations.
const ROUNDS: usize = 1;

/// Buffers that a thread keeps from series to series.
#[derive(Default)]
pub(super) struct Work {
    ridges: [Ridge; SETS],
    weighted: Weighted,
    profile: Profile,
    fourier: Fourier,
    differences: Vec<f64>,
    path: Vec<Lanes>,
}

/// The member that a model of one member consists of; `None` where there are more.
pub(super) fn single(work: &mut Work, plan: &Plan, horizon: usize, model: Model) -> Option<Modelled> {
    let frame = Frame::new(plan, horizon);
    let naive = || repeated(&frame, plan.season);
    let member = match model {
        Model::Naive => naive(),
        Model::Ar => {
            let scaled = frame.scaled(Transform::Sqrt).or_else(|| frame.scaled(Transform::Raw))?;
            match fit(work, &frame, &scaled, &SINGLE) {
                Some(steps) => frame.member(&scaled, &steps),
                None => naive(),
            }
        }
        _ => return None,
    };
    let rolled = (1..plan.cuts.len()).flat_map(|w| (0..plan.steps).map(move |step| (step, w)));
    Some(Modelled {
        rolled: rolled.map(|(step, w)| member[step][w]).collect(),
        mean: member.iter().map(|lanes| lanes[0]).collect(),
        widen: interval::WIDEN,
    })
}

/// Fits, validates and combines the members for one series.
pub(super) fn model(work: &mut Work, plan: &Plan, horizon: usize) -> Modelled {
    let frame = Frame::new(plan, horizon);
    let mut members = unfitted(plan, &frame);
    members.extend(fitted(work, &frame).into_iter().flatten());
    combine(plan, &frame, &members)
}

/// The members that are not fitted: those that repeat, the levels, the trends and the rate of demand.
pub(super) fn unfitted(plan: &Plan, frame: &Frame) -> Vec<Member> {
    let mut members = simple(plan, frame);
    members.extend(levels::members(frame));
    members
}

/// The fitted members; `None` for those that the series does not allow.
pub(super) fn fitted(work: &mut Work, frame: &Frame) -> Vec<Option<Member>> {
    let mut members = Vec::new();
    for transform in [Transform::Raw, Transform::Sqrt, Transform::Log] {
        let Some(scaled) = frame.scaled(transform) else { continue };
        for spec in SPECS.iter().filter(|spec| spec.transforms.contains(&transform)) {
            members.push(fit(work, frame, &scaled, spec).map(|steps| frame.member(&scaled, &steps)));
        }
    }
    members
}

/// Whether the members' weighted median counts as much as their mean.
pub(super) fn median_counts(plan: &Plan) -> bool {
    plan.transforms < ALL_TRANSFORMS
}

/// What came at the origins' steps, origin by origin.
pub(super) fn actual(plan: &Plan, frame: &Frame) -> Vec<f64> {
    (1..plan.cuts.len()).flat_map(|w| &frame.values[frame.ends[w]..][..plan.steps]).copied().collect()
}

/// The last season repeated.
fn repeated(frame: &Frame, season: usize) -> Member {
    let value = |end: usize, step: usize| frame.values[end - season + step % season];
    (0..frame.horizon).map(|step| frame.ends.map(|end| value(end, step))).collect()
}

/// The last main season and the last outer season repeated, the median of outer seasons, and the levels.
fn simple(plan: &Plan, frame: &Frame) -> Vec<Member> {
    let mut members = vec![repeated(frame, plan.season)];
    if frame.outer > 0 && frame.shortest >= frame.outer {
        members.push(repeated(frame, frame.outer));
    }
    if frame.outer > 0 && frame.shortest >= 3 * frame.outer {
        members.push(middle(frame));
    }
    for level in 0..LEVELS {
        let lanes = std::array::from_fn(|w| plan.levels.get(w).unwrap_or(&plan.levels[0])[level]);
        members.push(vec![lanes; frame.horizon]);
    }
    members
}

/// The median of the last three outer seasons at each place.
fn middle(frame: &Frame) -> Member {
    let value = |end: usize, step: usize| {
        let at = |back: usize| frame.values[end - back * frame.outer + step % frame.outer];
        let (a, b, c) = (at(1), at(2), at(3));
        a.min(b).max(a.max(b).min(c))
    };
    (0..frame.horizon).map(|step| frame.ends.map(|end| value(end, step))).collect()
}

/// The standardised forecasts of one member; `None` where the series does not allow it.
fn fit(work: &mut Work, frame: &Frame, scaled: &Scaled, spec: &Spec) -> Option<Vec<Lanes>> {
    let z = &scaled.z[..];
    match spec.kind {
        Kind::Ar { lags, ridge, decay, absolute } => {
            autoregression(work, frame, z, &frame.ends, (lags, ridge, frame.decay(decay), absolute))
        }
        Kind::Difference { outer, lags, ridge } => difference(work, frame, z, outer, lags, ridge),
        Kind::Profile { shape, lags, ridge } => work.profile.forecast(frame, z, shape, lags, ridge),
        Kind::Fourier { lags, ridge, ridge_waves } => work.fourier.forecast(frame, z, lags, ridge, ridge_waves),
        Kind::Windows { seasons } => windows::forecast(frame, z, seasons),
        Kind::Smoothing => smoothing::forecast(frame, z),
    }
}

/// An autoregression by ridge regression or by least absolute deviations.
fn autoregression(
    work: &mut Work,
    frame: &Frame,
    z: &[f64],
    ends: &[usize; LANES],
    (lags, penalty, decay, absolute): (Lags, f64, f64, bool),
) -> Option<Vec<Lanes>> {
    let Work { ridges, weighted, path, .. } = work;
    let ridge = &mut ridges[lags as usize];
    ridge.set_lags(&lags.before(frame, ends.iter().copied().min()?)?);
    ridge.set_history(z, ends, decay);
    ridge.solve(penalty);
    if absolute {
        weighted.absolute(ridge, z, ends, decay, penalty, ROUNDS);
    }
    ridge.roll(z, ends, frame.horizon, path);
    Some(path[ridge.longest()..].to_vec())
}

/// An autoregression on the differences to the season before, added up again.
fn difference(work: &mut Work, frame: &Frame, z: &[f64], outer: bool, lags: Lags, penalty: f64) -> Option<Vec<Lanes>> {
    let season = season_of(frame, outer)?;
    let mut changes = std::mem::take(&mut work.differences);
    differences(&z[..frame.values.len()], season, &mut changes);
    changes.resize(changes.len() + BLOCK, 0.0);
    let ends = frame.ends.map(|end| end - season);
    let steps = autoregression(work, frame, &changes, &ends, (lags, penalty, 0.0, false));
    work.differences = changes;
    let mut steps = steps?;
    summed(frame, z, season, &mut steps);
    Some(steps)
}

/// The main or the outer season, where the series has it often enough to take differences.
pub(super) fn season_of(frame: &Frame, outer: bool) -> Option<usize> {
    let season = if outer { frame.outer } else { frame.main };
    (season > 0 && frame.shortest >= 3 * season).then_some(season)
}

/// The differences to the season before.
fn differences(z: &[f64], season: usize, changes: &mut Vec<f64>) {
    changes.clear();
    changes.extend(z[season..].iter().zip(z).map(|(now, before)| now - before));
}

/// Adds differences up again, lane by lane.
fn summed(frame: &Frame, z: &[f64], season: usize, steps: &mut [Lanes]) {
    for step in 0..steps.len() {
        for w in 0..LANES {
            steps[step][w] += if step < season { z[frame.ends[w] - season + step] } else { steps[step - season][w] };
        }
    }
}

/// Weighs the members by their errors at the origins and adds them up.
fn combine(plan: &Plan, frame: &Frame, members: &[Member]) -> Modelled {
    let origins = || (1..plan.cuts.len()).flat_map(|w| (0..plan.steps).map(move |step| (step, w)));
    let actual = actual(plan, frame);
    let rolled: Vec<Vec<f64>> =
        members.iter().map(|member| origins().map(|(step, w)| member[step][w]).collect()).collect();
    let shares = stack::shares(&rolled, &actual);
    let middle = median_counts(plan);
    let sum = |step: usize, w: usize| -> f64 {
        let mean: f64 = members.iter().zip(&shares).map(|(member, share)| member[step][w] * share).sum();
        if middle { 0.5 * mean + 0.5 * stack::median(members, &shares, step, w) } else { mean }
    };
    let mut rolled: Vec<f64> = origins().map(|(step, w)| sum(step, w)).collect();
    let shift = BIAS * stack::middle_error(&rolled, &actual);
    let shifted = |value: f64, w: usize| frame.bounded(value + shift, w);
    origins().zip(&mut rolled).for_each(|((_, w), value)| *value = shifted(*value, w));
    Modelled { rolled, mean: (0..frame.horizon).map(|step| shifted(sum(step, 0), 0)).collect(), widen: WIDEN }
}
