//! Tests of a policy as a whole: its artefact, its averages, its limits.

use juno_kernels::SplitMix;

use super::reward::Goal;
use super::stability::{of_members, stability};
use super::*;

fn base() -> Base {
    Base {
        algorithm: Algorithm::Es,
        objective: Objective::new(Goal::Balanced),
        price: 120.0,
        space: ActionSpace::default(),
        scaler: Scaler { means: [0.5; FEATURES], deviations: [2.0; FEATURES] },
    }
}

/// A policy of so many random networks.
fn policy(seed: u64, members: u64) -> Policy {
    let widths = [FEATURES, 8, ActionSpace::default().arms()];
    let networks = (0..members).map(|member| Network::new(&widths, 1_000 * seed + member).unwrap()).collect();
    Policy::of(&base(), networks).unwrap()
}

fn states(count: u64) -> Vec<State> {
    let mut random = SplitMix::new(count, 0);
    (0..count).map(|_| std::array::from_fn(|_| 2.0 * random.normal())).collect()
}

#[test]
fn an_artefact_brings_the_policy_back_bit_by_bit() {
    let policy = policy(1, 3);
    let bytes = policy.to_bytes();
    let back = Policy::from_bytes(&bytes).unwrap();
    assert_eq!(back, policy);
    assert_eq!(back.to_bytes(), bytes);
    for state in states(20) {
        assert_eq!(back.recommend(&state), policy.recommend(&state));
    }
}

#[test]
fn damaged_bytes_are_an_error_wherever_the_damage_is() {
    let bytes = policy(1, 1).to_bytes();
    for place in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 16;
        assert!(matches!(Policy::from_bytes(&damaged), Err(Refusal::Artefact(_))), "byte {place}");
    }
    for length in [0, 8, 20, bytes.len() - 1] {
        assert!(matches!(Policy::from_bytes(&bytes[..length]), Err(Refusal::Artefact(_))), "{length} bytes");
    }
}

#[test]
fn a_policy_of_other_features_or_of_a_later_version_says_so() {
    let sealed = |change: fn(&mut [u8])| {
        let mut bytes = policy(1, 1).to_bytes();
        change(&mut bytes);
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        Policy::from_bytes(&bytes).unwrap_err().to_string()
    };
    assert!(sealed(|bytes| bytes[8] = 2).contains("version 2"));
    assert!(sealed(|bytes| bytes[20] ^= 1).contains("train it again"));
    assert!(sealed(|bytes| bytes[12] ^= 1).contains("length"));
    // The first mean becomes NaN.
    assert!(sealed(|bytes| bytes[28..36].fill(0xff)).contains("do not fit"));
}

#[test]
fn a_recommendation_is_inside_the_grid_whatever_the_state() {
    let policy = policy(2, 2);
    for state in [[f64::NAN; FEATURES], [f64::INFINITY; FEATURES], [-1e300; FEATURES], [0.0; FEATURES]] {
        let knobs = policy.recommend(&state);
        let last = |knob: usize| *policy.space().rungs()[knob].last().unwrap();
        for (knob, value) in knobs.array().into_iter().enumerate() {
            assert!((policy.space().rungs()[knob][0]..=last(knob)).contains(&value), "{knobs:?}");
        }
        let chances = policy.distribution(&state);
        assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn small_moves_are_held_back_and_large_ones_are_not() {
    let policy = policy(3, 1);
    let state = [0.0; FEATURES];
    let knobs = policy.recommend(&state);
    let near = Knobs { k: knobs.k + 0.1, ..knobs };
    assert_eq!(policy.recommend_after(&near, &state), near);
    let far = Knobs { k: knobs.k + 0.5, ..knobs };
    assert_eq!(policy.recommend_after(&far, &state), knobs);
}

#[test]
fn averages_of_many_networks_vary_less_than_single_ones() {
    let of = |members| -> Vec<Policy> { (1..6).map(|seed| policy(seed, members)).collect() };
    let states = states(30);
    let (single, averaged) = (stability(&of(1), &states, 1).unwrap(), stability(&of(9), &states, 1).unwrap());
    assert!(averaged.percent < 0.5 * single.percent, "{averaged:?} {single:?}");
    assert_eq!(averaged, stability(&of(9), &states, 1).unwrap());
    let reckoned = of_members(&policy(7, 9), &states, 1).unwrap().percent;
    assert!((0.5..2.0).contains(&(reckoned / averaged.percent)), "{reckoned} {averaged:?}");
    assert!(matches!(stability(&of(1)[..1], &states, 1), Err(Refusal::InsufficientExperience(_))));
    assert!(matches!(stability(&of(1), &[], 1), Err(Refusal::InsufficientExperience(_))));
}

#[test]
fn one_retraining_changes_no_more_than_the_limit() {
    let (active, new, states) = (policy(1, 2), policy(2, 2), states(40));
    let whole = new.divergence(&active, &states).unwrap();
    let limited = new.limited(&active, &states, whole / 5.0).unwrap();
    let moved = limited.divergence(&active, &states).unwrap();
    assert!(moved <= whole / 5.0 * 1.000_001 && moved > whole / 6.0, "{moved} of {whole}");
    assert_eq!(new.limited(&active, &states, whole * 2.0).unwrap(), new);
    assert_eq!(active.divergence(&active, &states).unwrap(), 0.0);
    assert!(matches!(new.limited(&active, &states, 0.0), Err(Refusal::Parameter(_))));
    assert!(matches!(new.limited(&active, &[], 0.1), Err(Refusal::InsufficientExperience(_))));
}

#[test]
fn many_retrainings_do_not_grow_a_policy_without_end() {
    let states = states(10);
    let mut active = policy(0, 5);
    for seed in 1..20 {
        active = policy(seed, 5).limited(&active, &states, 1e-3).unwrap();
    }
    assert!(active.members.len() <= MEMBERS_MAX && active.fits());
    assert_eq!(Policy::from_bytes(&active.to_bytes()).unwrap(), active);
}

#[test]
fn names_of_algorithms_are_those_of_the_api() {
    for (name, algorithm) in ["ppo", "a2c", "linucb", "thompson", "es"].into_iter().zip(Algorithm::ALL) {
        assert_eq!((Algorithm::parse(name).unwrap(), algorithm.name()), (algorithm, name));
    }
    assert!(Algorithm::parse("dqn").unwrap_err().to_string().contains("linucb"));
}
