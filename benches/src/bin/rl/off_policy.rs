//! The error of off-policy estimates, against the truth that a simulator can tell.
//!
//! **Invariant:** target, logging policy and truth are fixed; only the draws of the logs differ.

use anyhow::Result;
use juno_sql::kernels::SplitMix;
use juno_sql::rl::comparison::DAY_EPOCHS;
use juno_sql::rl::evaluation::{Against, Evaluation, Method, Question, evaluate};
use juno_sql::rl::experience::{Decision, Experience};
use juno_sql::rl::gate::{drawn, explored};
use juno_sql::rl::reward::{Goal, Objective};
use juno_sql::rl::simulator::{Control, Simulator};
use juno_sql::rl::state::State;
use juno_sql::rl::train::{Environment, Settings, train};
use juno_sql::rl::{Algorithm, Policy};

use super::load::Case;

/// Decisions of a log: ten days of quarters of an hour.
const DECISIONS: usize = 960;
/// The share of logged decisions that explore.
const EXPLORATION: f64 = 0.3;
/// Runs that the truth is the mean of.
const TRUTH_RUNS: u64 = 40;

/// The table of errors.
///
/// # Errors
/// Where a log says too little.
pub(crate) fn report(case: &Case, logs: u64) -> Result<String> {
    let objective = Objective::new(Goal::Balanced);
    let half = case.half;
    let environment = Environment::Simulator { service: &case.service, track: &case.track, epochs: DAY_EPOCHS..half };
    let training = train(&environment, &Settings::new(Algorithm::Es, objective, 0), None, &|| true)?;
    let (policy, price) = (&training.policy, training.policy.price());
    let epochs = half..(half + DECISIONS).min(case.track.epochs());
    // The rule in force: the tuned static one, exploring.
    let fixed = training.tuned.map_or_else(|| policy.space().knobs(0), |fixed| fixed.knobs);
    let logging = explored(&policy.space().spread(&fixed), EXPLORATION);
    let log = |seed: u64, chances: &dyn Fn(&State) -> Vec<f64>| -> Result<Vec<Decision>> {
        let mut simulator = Simulator::new(&case.service, &case.track, epochs.clone())?;
        let mut random = SplitMix::new(seed, 9);
        let mut decisions = Vec::new();
        while !simulator.is_over() {
            let state = simulator.state();
            let chances = chances(&state);
            let arm = drawn(&chances, random.unit());
            let outcome = simulator.step(&Control::Knobs(policy.space().knobs(arm)));
            decisions.push(Decision { state, arm, propensity: chances[arm], outcome });
        }
        Ok(decisions)
    };
    let value = |decisions: &[Decision]| {
        let total: f64 = decisions.iter().map(|decision| objective.reward(&decision.outcome, price)).sum();
        total / decisions.len() as f64
    };
    let mut truth = 0.0;
    for seed in 0..TRUTH_RUNS {
        truth += value(&log(10_000 + seed, &|state| policy.distribution(state))?) / TRUTH_RUNS as f64;
    }
    let mut evaluations = Vec::new();
    for seed in 0..logs {
        let experience = Experience::new(log(seed, &|_| logging.clone())?, policy.space())?;
        let question = Question { objective, price, bootstrap: 200, seed };
        evaluations.push(evaluate(&experience, policy, Against::Logged, &question)?);
    }
    Ok(table(&evaluations, truth, policy, epochs.len()))
}

fn table(evaluations: &[Evaluation], truth: f64, policy: &Policy, decisions: usize) -> String {
    let count = evaluations.len() as f64;
    let effective = evaluations.iter().map(|evaluation| evaluation.effective_decisions).sum::<f64>() / count;
    let mut text = format!(
        "Off-policy estimates of a policy of {} arms, {} logs of {decisions} decisions ({:.0} % explore), worth {effective:.0} on \
         average; true value {truth:.4}\n| method | mean estimate | RMSE, in % of the truth | truth inside the 95 % interval |\n|---|---|---|---|\n",
        policy.space().arms(),
        evaluations.len(),
        100.0 * EXPLORATION
    );
    for method in Method::ALL {
        let estimates = || evaluations.iter().map(|evaluation| evaluation.estimate(method));
        let mean = estimates().map(|estimate| estimate.value).sum::<f64>() / count;
        let square = estimates().map(|estimate| (estimate.value - truth).powi(2)).sum::<f64>() / count;
        let inside = estimates().filter(|x| (x.ci95[0]..=x.ci95[1]).contains(&truth)).count() as f64 / count;
        text += &format!(
            "| {} | {mean:.4} | {:.1} % | {:.0} % |\n",
            method.name(),
            100.0 * square.sqrt() / truth.abs(),
            100.0 * inside
        );
    }
    text
}
