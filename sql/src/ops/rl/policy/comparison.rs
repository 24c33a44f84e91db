//! What a run in the simulator brought over another one on the same load.
//!
//! The interval is a bootstrap of blocks of time, the same for both, as neighbouring epochs are alike: whole days, 96 epochs, where
//! there is a week of them. What is left over at the end is not judged.
//!
//! **Invariant:** the interval follows from the runs and the seed.

use juno_kernels::SplitMix;

use super::refusal::{Refusal, Result};
use super::reward::Objective;
use super::simulator::{EPOCH_SLOTS, Run, SLOT_S};

/// Epochs of a day.
pub const DAY_EPOCHS: usize = 86_400 / (EPOCH_SLOTS * SLOT_S as usize);
/// Days from which on they are the blocks.
const DAYS_MIN: usize = 7;
/// Epochs of the blocks of fewer days: four hours.
const SHORT_EPOCHS: usize = DAY_EPOCHS / 6;
const RESAMPLES: usize = 2_000;

/// How much better a run was, in percent of the other's reward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Improvement {
    /// Over all days.
    pub percent: f64,
    /// Where 95 % of the resamples lie.
    pub ci95: [f64; 2],
}

/// The epochs of the blocks that runs of so many epochs are compared by: two days say nothing of days, but do of four hours.
pub fn block_of(epochs: usize) -> usize {
    if epochs < DAYS_MIN * DAY_EPOCHS { SHORT_EPOCHS } else { DAY_EPOCHS }
}

/// Compares runs with a base at a price of violations by blocks of so many epochs; several runs, such as those of several seeds,
/// count as their mean.
///
/// # Errors
/// [`Refusal::InsufficientExperience`] without runs or for less than two days, [`Refusal::Parameter`] for runs of other lengths.
pub fn improvement(
    runs: &[&Run],
    base: &Run,
    objective: &Objective,
    price: f64,
    (block, seed): (usize, u64),
) -> Result<Improvement> {
    if runs.is_empty() || base.outcomes.len() < 2 * DAY_EPOCHS {
        let text = "a comparison needs runs of two days or more";
        return Err(Refusal::InsufficientExperience(text.to_owned()));
    }
    if runs.iter().any(|run| run.outcomes.len() != base.outcomes.len()) {
        return Err(Refusal::Parameter("runs of other lengths cannot be compared".to_owned()));
    }
    let blocks = |run: &Run| -> Vec<f64> {
        let rewards: Vec<f64> = run.outcomes.iter().map(|outcome| objective.reward(outcome, price)).collect();
        rewards.chunks_exact(block.max(1)).map(|block| block.iter().sum()).collect()
    };
    let theirs = blocks(base);
    let mut own = vec![0.0; theirs.len()];
    for run in runs {
        own.iter_mut().zip(blocks(run)).for_each(|(sum, block)| *sum += block / runs.len() as f64);
    }
    let pairs: Vec<(f64, f64)> = own.into_iter().zip(theirs).collect();
    Ok(of_pairs(&pairs, seed))
}

/// How much more the first of pairs are than the second, in percent of these, with a bootstrap of the pairs.
pub fn of_pairs(pairs: &[(f64, f64)], seed: u64) -> Improvement {
    let percent = |places: &mut dyn Iterator<Item = usize>| {
        let sum = places.map(|place| pairs[place]).fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        100.0 * (sum.0 - sum.1) / sum.1.abs().max(1e-9)
    };
    let mut random = SplitMix::new(seed, 5);
    let mut drawn: Vec<f64> =
        (0..RESAMPLES).map(|_| percent(&mut (0..pairs.len()).map(|_| random.below(pairs.len())))).collect();
    drawn.sort_by(f64::total_cmp);
    let ci95 = [drawn[RESAMPLES / 40], drawn[RESAMPLES - 1 - RESAMPLES / 40]];
    Improvement { percent: percent(&mut (0..pairs.len())), ci95 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rl::policy::reward::{Components, Goal};

    fn run(cost: impl Fn(usize) -> f64) -> Run {
        let outcome = |epoch: usize| Components { cost: cost(epoch / DAY_EPOCHS), ..Default::default() };
        Run { outcomes: (0..10 * DAY_EPOCHS).map(outcome).collect(), ..Default::default() }
    }

    #[test]
    fn half_the_cost_is_fifty_percent_better_and_days_make_the_interval() {
        let objective = Objective::new(Goal::Balanced);
        let base = run(|_| 0.4);
        let found = improvement(&[&run(|_| 0.1), &run(|_| 0.3)], &base, &objective, 100.0, (DAY_EPOCHS, 1)).unwrap();
        assert!((found.percent - 50.0).abs() < 1e-9 && found.ci95.iter().all(|x| (x - 50.0).abs() < 1e-9));
        let uneven =
            improvement(&[&run(|day| if day == 0 { 2.0 } else { 0.1 })], &base, &objective, 100.0, (DAY_EPOCHS, 1))
                .unwrap();
        assert!(uneven.ci95[0] < 0.0 && uneven.ci95[1] > uneven.percent, "{uneven:?}");
    }

    #[test]
    fn two_days_are_no_two_numbers() {
        let objective = Objective::new(Goal::Balanced);
        assert_eq!((block_of(2 * DAY_EPOCHS), block_of(7 * DAY_EPOCHS)), (16, DAY_EPOCHS));
        let two = |cost: &dyn Fn(usize) -> f64| Run {
            outcomes: (0..2 * DAY_EPOCHS + 1)
                .map(|epoch| Components { cost: cost(epoch), ..Default::default() })
                .collect(),
            ..Default::default()
        };
        // A little better on both days, and by day no more than chance: half of the blocks are worse.
        let mixed = two(&|epoch| if (epoch / 16) % 2 == 0 { 0.1 } else { 0.29 });
        let base = two(&|_| 0.2);
        let by = |block| improvement(&[&mixed], &base, &objective, 100.0, (block, 1)).unwrap();
        assert!(by(DAY_EPOCHS).ci95[0] > 0.0, "days alone would call it better");
        assert!(by(16).ci95[0] < 0.0, "{:?}", by(16));
    }

    #[test]
    fn runs_that_cannot_be_compared_are_refused() {
        let (objective, base) = (Objective::new(Goal::Balanced), run(|_| 0.4));
        assert!(improvement(&[], &base, &objective, 1.0, (DAY_EPOCHS, 1)).is_err());
        let mut short = run(|_| 0.4);
        short.outcomes.pop();
        assert!(matches!(improvement(&[&short], &base, &objective, 1.0, (DAY_EPOCHS, 1)), Err(Refusal::Parameter(_))));
    }
}
