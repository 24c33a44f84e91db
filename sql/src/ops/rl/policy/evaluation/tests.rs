//! Tests of off-policy estimates against a world whose truth is known.

use super::*;
use crate::ops::rl::policy::gate::{drawn, explored};
use crate::ops::rl::policy::reward::{Components, Goal};
use crate::ops::rl::policy::state::{FEATURES, State};
use crate::ops::rl::policy::worth::network;
use crate::ops::rl::policy::{Algorithm, Base};

fn question(seed: u64) -> Question {
    Question { objective: Objective::new(Goal::Balanced), price: 100.0, bootstrap: 300, seed }
}

/// What an arm costs in a state: not linear, so that no model is right. Cheap at the low end, dearer where the state is high.
fn cost(space: &ActionSpace, state: &State, arm: usize) -> f64 {
    let [k, _, guard] = space.coordinates(arm);
    0.3 + 0.1 * k + 0.05 * (guard * state[0]).tanh() + 0.02 * k * k * k
}

/// A policy that always recommends these knobs, more or less.
fn constant(k: f64) -> Policy {
    let space = ActionSpace::default();
    let mut reward = vec![0.0; TERMS];
    (reward[1 + FEATURES], reward[4 + FEATURES]) = (k, -1.0);
    let base = Base {
        algorithm: Algorithm::LinUcb,
        objective: Objective::new(Goal::Balanced),
        price: 100.0,
        scaler: Scaler { means: [0.0; FEATURES], deviations: [1.0; FEATURES] },
        space,
    };
    let network = network(&base.space, &reward, 0.05).unwrap();
    Policy::of(&base, vec![network]).unwrap()
}

/// Decisions of a policy that explores, and the mean reward that another would have had on the same states.
fn log(count: usize, logging: &Policy, rate: f64, target: &Policy, seed: u64) -> (Vec<Decision>, f64) {
    let (space, objective) = (target.space(), Objective::new(Goal::Balanced));
    let mut random = SplitMix::new(seed, 0);
    let mut truth = 0.0;
    let mut one = |_| {
        let state: State = std::array::from_fn(|_| random.normal());
        let outcome =
            |arm: usize, noise: f64| Components { cost: cost(space, &state, arm) + noise, ..Default::default() };
        for (arm, chance) in target.distribution(&state).iter().enumerate() {
            truth += chance * objective.reward(&outcome(arm, 0.0), 100.0) / count as f64;
        }
        let chances = explored(&logging.distribution(&state), rate);
        let arm = drawn(&chances, random.unit());
        Decision { state, arm, propensity: chances[arm], outcome: outcome(arm, 0.05 * random.normal()) }
    };
    let decisions = (0..count).map(&mut one).collect();
    (decisions, truth)
}

fn experience(decisions: Vec<Decision>) -> Experience {
    Experience::new(decisions, &ActionSpace::default()).unwrap()
}

#[test]
fn every_estimate_comes_near_the_truth() {
    let (logging, target) = (constant(0.5), constant(-1.0));
    let (decisions, truth) = log(4_000, &logging, 0.9, &target, 1);
    let found = evaluate(&experience(decisions), &target, Against::Logged, &question(1)).unwrap();
    for method in Method::ALL {
        let Estimate { value, ci95: [low, high] } = found.estimate(method);
        // The model is wrong on purpose; weights alone vary much.
        let far = [0.06, 0.1, 0.02, 0.02][method as usize];
        assert!((value - truth).abs() < far * truth.abs(), "{method:?}: {value} for {truth}");
        assert!(low <= value && value <= high);
        assert_eq!(Method::parse(method.name()).unwrap(), method);
    }
    let width = |method| found.estimate(method).ci95[1] - found.estimate(method).ci95[0];
    assert!(width(Method::Dr) < width(Method::Ips), "a model narrows the interval");
    assert!(Method::parse("magic").is_err());
}

#[test]
fn the_verdict_says_better_worse_or_neither() {
    let logging = constant(0.5);
    let verdict = |target: &Policy, against: Against| {
        let (decisions, _) = log(3_000, &logging, 0.8, target, 2);
        evaluate(&experience(decisions), target, against, &question(2)).unwrap()
    };
    let (cheap, dear) = (constant(-1.5), constant(1.5));
    let better = verdict(&cheap, Against::Logged);
    assert_eq!((better.verdict, better.verdict.name()), (Verdict::Better, "better"));
    assert!(better.improvement_pct > 5.0 && better.p_better > 0.99, "{better:?}");
    let worse = verdict(&dear, Against::Policy(&cheap));
    assert_eq!(worse.verdict, Verdict::Worse);
    assert!(worse.p_better < 0.01);
    let same = verdict(&cheap, Against::Policy(&cheap));
    assert_eq!((same.verdict, same.difference.value), (Verdict::Inconclusive, 0.0));
    let knobs = dear.recommend(&[0.0; FEATURES]);
    assert_eq!(verdict(&dear, Against::Static(knobs)).verdict, Verdict::Inconclusive);
}

#[test]
fn little_overlap_is_warned_of_and_too_little_is_refused() {
    let (logging, target) = (constant(2.0), constant(-2.0));
    let (decisions, _) = log(1_000, &logging, 0.02, &target, 3);
    let refusal = evaluate(&experience(decisions), &target, Against::Logged, &question(3)).unwrap_err();
    assert!(matches!(&refusal, Refusal::LowOverlap(text) if text.contains("explore nearer")), "{refusal}");
    let (decisions, _) = log(20_000, &logging, 0.15, &target, 3);
    let found = evaluate(&experience(decisions), &target, Against::Logged, &question(3)).unwrap();
    assert!(found.effective_decisions >= SAMPLE_SIZE_MIN && found.overlap_warning.is_some(), "{found:?}");
    let (decisions, _) = log(1_000, &target, 0.5, &target, 3);
    let found = evaluate(&experience(decisions), &target, Against::Logged, &question(3)).unwrap();
    assert_eq!(found.overlap_warning, None);
}

#[test]
fn one_seed_gives_one_answer() {
    let (logging, target) = (constant(0.5), constant(-1.0));
    let log = experience(log(2_400, &logging, 0.9, &target, 4).0);
    let of = |seed| evaluate(&log, &target, Against::Logged, &question(seed)).unwrap();
    assert_eq!(of(5), of(5));
    assert_eq!(of(5).estimates[3].value, of(6).estimates[3].value);
    assert_ne!(of(5).estimates[3].ci95, of(6).estimates[3].ci95);
}

#[test]
fn questions_out_of_range_are_refused() {
    let target = constant(0.0);
    let log = experience(log(200, &target, 0.5, &target, 4).0);
    for bootstrap in [0, 99, BOOTSTRAP_MAX + 1] {
        let question = Question { bootstrap, ..question(1) };
        assert!(matches!(evaluate(&log, &target, Against::Logged, &question), Err(Refusal::Parameter(_))));
    }
    let question = Question { price: f64::NAN, ..question(1) };
    assert!(evaluate(&log, &target, Against::Logged, &question).is_err());
}
