//! Evolution by the cross-entropy method: where on its ladder each knob stands, as a linear function of the state.
//!
//! A candidate is three rows of coefficients. It is written down as a network whose logits make the chances a bell of half a rung
//! around those places, so that what is tried is what will be used. Each generation draws candidates around the mean, runs
//! them over the whole load, and moves mean and spread to the best quarter; the price of violations follows the mean.
//!
//! **Invariant:** the first mean is the tuned static rule; ties go to the earlier candidate.

use juno_kernels::SplitMix;
use juno_kernels::dense_network::Network;

use super::{Learned, Scene, Start};
use crate::ops::rl::policy::Base;
use crate::ops::rl::policy::action::KNOBS;
use crate::ops::rl::policy::refusal::Result;
use crate::ops::rl::policy::reward::Dual;
use crate::ops::rl::policy::state::FEATURES;

const CANDIDATES: usize = 24;
const BEST: usize = 6;
/// The share of its step that mean and spread take.
const STEP: f64 = 0.7;
/// The width of the bell, in rungs.
const BELL_RUNGS: f64 = 0.5;
/// What the square of a coefficient costs, in reward: what cannot be told apart stays with the static rule.
const PULL: f64 = 0.02;
/// Coefficients of a knob: a place and one for each feature.
const TERMS: usize = FEATURES + 1;

/// Evolves one member.
pub(super) fn learn(scene: &Scene, start: &Start, member: u64) -> Result<Learned> {
    let settings = scene.settings;
    let mut random = SplitMix::new(settings.seed, 100 + member);
    let mut dual = Dual::new(&settings.objective, Some(start.base.price));
    let mut mean = [0.0; KNOBS * TERMS];
    let mut spread = [settings.exploration_rate; KNOBS * TERMS];
    let mut path = Vec::new();
    let generations = (settings.steps / (CANDIDATES * scene.epochs.len())).max(1);
    for generation in 0..generations {
        let mut tried: Vec<(f64, [f64; KNOBS * TERMS])> = Vec::with_capacity(CANDIDATES);
        for candidate in 0..CANDIDATES {
            let genes = if candidate == 0 { mean } else { drawn(&mean, &spread, &mut random) };
            let run = scene.run(&start.base, &network(start, &genes)?)?;
            let pull = PULL * genes.iter().map(|x| x * x).sum::<f64>();
            tried.push((run.reward(&settings.objective, dual.price()) - pull, genes));
            if candidate == 0 {
                path.push((generation * CANDIDATES * scene.epochs.len(), dual.price(), run));
            }
        }
        tried.sort_by(|a, b| b.0.total_cmp(&a.0));
        move_to(&mut mean, &mut spread, &tried[..BEST]);
        let violation = path.last().map_or(0.0, |(_, _, run)| run.violation);
        dual.update(violation);
    }
    let network = network(start, &mean)?;
    path.push((generations * CANDIDATES * scene.epochs.len(), dual.price(), scene.run(&start.base, &network)?));
    Ok(Learned { network, path, price: dual.settled() })
}

fn drawn<const N: usize>(mean: &[f64; N], spread: &[f64; N], random: &mut SplitMix) -> [f64; N] {
    std::array::from_fn(|place| mean[place] + spread[place] * random.normal())
}

/// Moves mean and spread towards the best, the first weighing most.
fn move_to<const N: usize>(mean: &mut [f64; N], spread: &mut [f64; N], best: &[(f64, [f64; N])]) {
    let weight = |rank: usize| (best.len() as f64 + 0.5).ln() - (rank as f64 + 1.0).ln();
    let total: f64 = (0..best.len()).map(weight).sum();
    for place in 0..N {
        let centre: f64 = best.iter().enumerate().map(|(rank, (_, genes))| weight(rank) / total * genes[place]).sum();
        let square: f64 =
            best.iter().enumerate().map(|(rank, (_, x))| weight(rank) / total * (x[place] - mean[place]).powi(2)).sum();
        mean[place] += STEP * (centre - mean[place]);
        spread[place] += STEP * (square.sqrt() - spread[place]) + 1e-3;
    }
}

/// The network of a bell around places that are linear in the state: −|place − x|² / 2w², less what all arms share.
fn network(start: &Start, genes: &[f64; KNOBS * TERMS]) -> Result<Network> {
    let Base { space, .. } = &start.base;
    let (positions, arms) = (space.positions(&start.knobs), space.arms());
    let origin: [f64; KNOBS] = std::array::from_fn(|knob| centre(positions[knob], space.rungs()[knob].len()));
    let square = BELL_RUNGS * BELL_RUNGS;
    let mut parameters = vec![0.0; (FEATURES + 1) * arms];
    for arm in 0..arms {
        for (knob, place) in space.places(arm).into_iter().enumerate() {
            let (place, own) = (place as f64, &genes[knob * TERMS..(knob + 1) * TERMS]);
            parameters[FEATURES * arms + arm] += (place * (origin[knob] + own[0]) - place * place / 2.0) / square;
            for feature in 0..FEATURES {
                parameters[feature * arms + arm] += place * own[1 + feature] / square;
            }
        }
    }
    Ok(Network::from_parts(&[FEATURES, arms], parameters)?)
}

/// Where a bell must stand for its mean over the rungs to be a position; beyond the ladder for one near its end.
fn centre(position: f64, rungs: usize) -> f64 {
    let last = (rungs - 1) as f64;
    let mean = |centre: f64| {
        let weight = |place: usize| (-(place as f64 - centre).powi(2) / (2.0 * BELL_RUNGS * BELL_RUNGS)).exp();
        let total: f64 = (0..rungs).map(weight).sum();
        (0..rungs).map(|place| place as f64 * weight(place)).sum::<f64>() / total
    };
    let (mut low, mut high) = (-0.5, last + 0.5);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if mean(middle) < position { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_put_where_its_mean_is_the_position() {
        let mean = |centre: f64, rungs: usize| {
            let weight = |place: usize| (-(place as f64 - centre).powi(2) / 0.5).exp();
            let total: f64 = (0..rungs).map(weight).sum();
            (0..rungs).map(|place| place as f64 * weight(place)).sum::<f64>() / total
        };
        for (position, rungs) in [(0.0, 2), (1.0, 2), (0.3, 3), (1.5, 5), (4.0, 5)] {
            assert!((mean(centre(position, rungs), rungs) - position).abs() < 0.025, "{position} of {rungs}");
        }
        assert!(centre(0.0, 1).is_finite());
    }
}
