//! One load: the default rule, the tuned static rule and policies of several seeds on its second half.
//!
//! **Invariant:** all three are judged at the same price of violations, which comes from the first half.

use std::ops::Range;

use anyhow::{Context, Result};
use juno_sql::rl::comparison::{DAY_EPOCHS, improvement};
use juno_sql::rl::reward::{Goal, Objective};
use juno_sql::rl::simulator::{Control, Run, Simulator};
use juno_sql::rl::stability::stability;
use juno_sql::rl::train::{Environment, Settings, Training, train};
use juno_sql::rl::{Algorithm, Policy};

use super::load::Case;

/// The table's head.
pub(crate) const HEADER: &str = "\
| load, start-up | algorithm | price | default rule: reward (cost, lost) | tuned static | learned, mean of seeds [95 %] | \
over default, mean; lower bound by seeds, by days | over tuned static, mean [95 % by days] | recommendations vary (k, hold, guard) | \
one seed twice |\n|---|---|---|---|---|---|---|---|---|---|";

/// Days to train on at most.
const TRAINING_DAYS: usize = 10;

/// What the second half gave.
struct Judged {
    objective: Objective,
    price: f64,
    default: Run,
    tuned: Run,
    learned: Vec<Run>,
}

/// A row of the table.
///
/// # Errors
/// Where training refuses the case.
pub(crate) fn measure(case: &Case, algorithm: Algorithm, seeds: u64) -> Result<String> {
    let objective = Objective::new(Goal::Balanced);
    let first = case.half.saturating_sub(TRAINING_DAYS * DAY_EPOCHS).max(DAY_EPOCHS);
    let training = |seed: u64, epochs: Range<usize>| -> Result<Training> {
        let environment = Environment::Simulator { service: &case.service, track: &case.track, epochs };
        Ok(train(&environment, &Settings::new(algorithm, objective, seed), None, &|| true)?)
    };
    let trained = (0..seeds).map(|seed| training(seed, first..case.half)).collect::<Result<Vec<_>>>()?;
    let fixed = trained.first().and_then(|training| training.tuned).context("at least one seed")?;
    let judged = Judged {
        objective,
        price: fixed.price,
        default: run(case, Control::DEFAULT)?,
        tuned: run(case, Control::Knobs(fixed.knobs))?,
        learned: trained.iter().map(|training| follow(case, &training.policy)).collect::<Result<_>>()?,
    };
    // Two more trainings, on windows that end earlier.
    let mut policies: Vec<Policy> = trained.iter().map(|training| training.policy.clone()).collect();
    for part in [1, 2] {
        let cut = ((case.half - first) / 8).min(DAY_EPOCHS) * part;
        policies.push(training(seeds + part as u64, first..case.half - cut)?.policy);
    }
    let steady = stability(&policies, &trained[0].states, 1)?;
    let bytes = trained[0].policy.to_bytes();
    let again = training(0, first..case.half)?.policy.to_bytes() == bytes;
    let again = if again { format!("same bits, {:08x}", hash(&bytes)) } else { "DIFFERS".to_owned() };
    let [k, hold_s, guard] = steady.by_knob;
    Ok(format!(
        "| {} | {} | {} | {:.2} % ({k:.1}, {hold_s:.1}, {guard:.1}) | {again} |",
        case.name,
        algorithm.name(),
        judged.cells()?,
        steady.percent
    ))
}

impl Judged {
    fn reward(&self, run: &Run) -> f64 {
        run.reward(&self.objective, self.price)
    }

    /// The cells from the default rule to the comparison with the static one.
    fn cells(&self) -> Result<String> {
        let count = self.learned.len() as f64;
        let rewards: Vec<f64> = self.learned.iter().map(|run| self.reward(run)).collect();
        let (mean, half) = interval(&rewards);
        let gain = |base: &Run, value: f64| 100.0 * (value - self.reward(base)) / self.reward(base).abs();
        let runs: Vec<&Run> = self.learned.iter().collect();
        let days = |base: &Run| improvement(&runs, base, &self.objective, self.price, (DAY_EPOCHS, 5));
        let (over_default, over_tuned) = (days(&self.default)?, days(&self.tuned)?);
        let cost = self.learned.iter().map(|run| run.cost).sum::<f64>() / count;
        let lost = 100.0 * self.learned.iter().map(|run| run.violation).sum::<f64>() / count;
        let rule = |run: &Run| format!("{:.3} ({:.3}, {:.3} %)", self.reward(run), run.cost, 100.0 * run.violation);
        Ok(format!(
            "{:.0} | {} | {} | {mean:.3} [{:.3}, {:.3}] ({cost:.3}, {lost:.3} %) | {:+.1} %; {:+.1} %, {:+.1} % | {:+.1} % [{:+.1}, {:+.1}]",
            self.price,
            rule(&self.default),
            rule(&self.tuned),
            mean - half,
            mean + half,
            gain(&self.default, mean),
            gain(&self.default, mean - half),
            over_default.ci95[0],
            gain(&self.tuned, mean),
            over_tuned.ci95[0],
            over_tuned.ci95[1]
        ))
    }
}

/// A fixed rule on the second half.
fn run(case: &Case, control: Control) -> Result<Run> {
    let simulator = Simulator::new(&case.service, &case.track, case.half..case.track.epochs())?;
    Ok(simulator.run(|_| control))
}

/// A policy on the second half, with hysteresis as in service.
fn follow(case: &Case, policy: &Policy) -> Result<Run> {
    let simulator = Simulator::new(&case.service, &case.track, case.half..case.track.epochs())?;
    let mut in_force = None;
    Ok(simulator.run(|state| {
        let knobs = in_force.map_or_else(|| policy.recommend(state), |knobs| policy.recommend_after(&knobs, state));
        in_force = Some(knobs);
        Control::Knobs(knobs)
    }))
}

/// Mean and half the width of Student's 95 % interval.
fn interval(values: &[f64]) -> (f64, f64) {
    const QUANTILES: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, f64::INFINITY);
    }
    let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, QUANTILES.get(values.len() - 2).copied().unwrap_or(1.96) * (square / count).sqrt())
}

/// FNV-1a of bytes.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
