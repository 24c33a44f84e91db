//! Tests of training in the simulator and from logs.

use juno_kernels::SplitMix;

use super::*;
use crate::ops::rl::policy::experience::Decision;
use crate::ops::rl::policy::gate::drawn;
use crate::ops::rl::policy::reward::{Components, Goal};
use crate::ops::rl::policy::simulator::load::generated;
use crate::ops::rl::policy::state::FEATURES;

const HALF: usize = 2 * 96;

fn service() -> Service {
    Service::sized(200.0, 20.0, 300.0)
}

fn track() -> Track {
    Track::new(generated(3, 2).unwrap(), &service(), HALF).unwrap()
}

/// Few arms, so that the tests are quick.
fn space() -> ActionSpace {
    ActionSpace::new([vec![0.0, 2.0, 4.5], vec![60.0, 300.0], vec![1.0, 1.4]]).unwrap()
}

fn settings(algorithm: Algorithm) -> Settings {
    let steps = match algorithm {
        Algorithm::Es => 24 * 96 * 4,
        _ => 1_500,
    };
    Settings { members: 2, steps, space: space(), ..Settings::new(algorithm, Objective::new(Goal::Balanced), 3) }
}

fn trained(settings: &Settings, warm_start: Option<&Policy>) -> Result<Training> {
    let (service, track) = (service(), track());
    train(&Environment::Simulator { service: &service, track: &track, epochs: 96..HALF }, settings, warm_start, &|| {
        true
    })
}

fn run(control: impl FnMut(&State) -> Control, epochs: Range<usize>) -> Run {
    let (service, track) = (service(), track());
    Simulator::new(&service, &track, epochs).unwrap().run(control)
}

#[test]
fn every_algorithm_beats_the_default_rule_and_reproduces_bit_by_bit() {
    for algorithm in Algorithm::ALL {
        let settings = settings(algorithm);
        let training = trained(&settings, None).unwrap();
        let again = trained(&settings, None).unwrap();
        assert_eq!(training.policy.to_bytes(), again.policy.to_bytes(), "{algorithm:?}");
        assert_eq!(training.learning_curve, again.learning_curve);
        let other = trained(&Settings { seed: 4, ..settings.clone() }, None).unwrap();
        assert_ne!(training.policy.to_bytes(), other.policy.to_bytes(), "{algorithm:?}");
        let (policy, price) = (&training.policy, training.tuned.unwrap().price);
        let reward = |run: &Run| run.reward(&settings.objective, price);
        let learned = reward(&run(|state| Control::Knobs(policy.recommend(state)), 96..HALF));
        let default = reward(&run(|_| Control::DEFAULT, 96..HALF));
        assert!(learned > default, "{algorithm:?}: {learned} for {default}");
        assert!(!training.learning_curve.is_empty() && training.states.len() >= 90);
    }
}

#[test]
fn evolution_does_not_end_below_the_static_rule_it_starts_from() {
    let training = trained(&settings(Algorithm::Es), None).unwrap();
    let (policy, fixed) = (&training.policy, training.tuned.unwrap());
    let learned = run(|state| Control::Knobs(policy.recommend(state)), 96..HALF);
    let objective = Objective::new(Goal::Balanced);
    assert!(learned.reward(&objective, fixed.price) > fixed.reward - 0.03 * fixed.reward.abs());
}

#[test]
fn the_tuned_rule_stays_within_the_budget_where_it_can() {
    let (service, track) = (service(), track());
    let objective = Objective { violation_max: 0.01, ..Objective::new(Goal::Cost) };
    let fixed = tuned(&service, &track, 96..HALF, &space(), &objective).unwrap();
    assert!(fixed.violation <= 0.007, "{fixed:?}");
    let strict = Objective { violation_max: 0.0005, ..objective };
    let strict = tuned(&service, &track, 96..HALF, &space(), &strict).unwrap();
    assert!(strict.violation < fixed.violation && strict.price > fixed.price, "{strict:?} {fixed:?}");
}

#[test]
fn a_retraining_stays_near_the_policy_it_starts_from() {
    let active = trained(&settings(Algorithm::LinUcb), None).unwrap().policy;
    let near = Settings { seed: 9, divergence_max: 1e-3, ..settings(Algorithm::LinUcb) };
    let training = trained(&near, Some(&active)).unwrap();
    assert!(training.policy.divergence(&active, &training.states).unwrap() <= 1.001e-3);
}

/// Decisions where arm costs fall towards the low end for one half of the states and towards the high end for the other.
fn log() -> Experience {
    let space = space();
    let mut random = SplitMix::new(6, 0);
    let even = vec![1.0 / space.arms() as f64; space.arms()];
    let mut one = |_| {
        let state: State = std::array::from_fn(|_| random.normal());
        let arm = drawn(&even, random.unit());
        let [k, ..] = space.coordinates(arm);
        let outcome = Components { cost: 0.5 + 0.3 * k * state[0] + 0.02 * random.normal(), ..Default::default() };
        Decision { state, arm, propensity: even[arm], outcome }
    };
    Experience::new((0..1_500).map(&mut one).collect(), &space).unwrap()
}

#[test]
fn bandits_learn_from_a_log_what_depends_on_the_state() {
    let log = log();
    for algorithm in [Algorithm::LinUcb, Algorithm::Thompson] {
        let training = train(&Environment::Replay(&log), &settings(algorithm), None, &|| true).unwrap();
        let k = |first: f64| {
            let mut state = [0.0; FEATURES];
            state[0] = first;
            training.policy.recommend(&state).k
        };
        assert!(k(2.0) < 0.5 && k(-2.0) > 4.0, "{} {}", k(2.0), k(-2.0));
    }
}

#[test]
fn what_has_to_try_cannot_learn_from_a_log() {
    for algorithm in [Algorithm::Ppo, Algorithm::A2c, Algorithm::Es] {
        let refusal = train(&Environment::Replay(&log()), &settings(algorithm), None, &|| true).unwrap_err();
        assert!(refusal.to_string().contains("use linucb or thompson"), "{refusal}");
    }
}

#[test]
fn settings_out_of_range_are_refused_before_anything_runs() {
    let fine = settings(Algorithm::Ppo);
    let refused = [
        Settings { members: 0, ..fine.clone() },
        Settings { members: MEMBERS_MAX + 1, ..fine.clone() },
        Settings { steps: 0, ..fine.clone() },
        Settings { learning_rate: f64::NAN, ..fine.clone() },
        Settings { discount: 1.0, ..fine.clone() },
        Settings { exploration_rate: -0.1, ..fine.clone() },
        Settings { divergence_max: 0.0, ..fine.clone() },
    ];
    for settings in refused {
        assert!(matches!(trained(&settings, None), Err(Refusal::Parameter(_))), "{settings:?}");
    }
}

#[test]
fn work_that_nobody_wants_ends() {
    let (service, track) = (service(), track());
    let left = std::cell::Cell::new(20);
    let wanted = || left.replace(left.get() - 1) > 0;
    let environment = Environment::Simulator { service: &service, track: &track, epochs: 96..HALF };
    let stopped = train(&environment, &settings(Algorithm::Es), None, &wanted);
    assert!(matches!(stopped, Err(Refusal::Stopped)));
    assert!(left.get() > -3, "it went on for {} runs", -left.get());
}
