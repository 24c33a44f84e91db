//! Tests of the simulated service.

use super::load::generated;
use super::*;
use crate::ops::rl::policy::reward::{Goal, Objective};

const HALF: usize = 2 * 96;

fn service(startup_s: f64) -> Service {
    Service::sized(200.0, 20.0, startup_s)
}

fn track(load: Vec<f64>, service: &Service) -> Track {
    Track::new(load, service, HALF).unwrap()
}

fn run(service: &Service, track: &Track, control: Control) -> Run {
    Simulator::new(service, track, HALF..track.epochs()).unwrap().run(|_| control)
}

fn knobs(k: f64, hold_s: f64, guard: f64) -> Control {
    Control::Knobs(Knobs { k, hold_s, guard })
}

#[test]
fn more_headroom_costs_more_and_loses_less() {
    let service = service(300.0);
    let track = track(generated(4, 1).unwrap(), &service);
    let runs = [0.0, 1.5, 3.0].map(|k| run(&service, &track, knobs(k, 60.0, 1.0)));
    for pair in runs.windows(2) {
        assert!(pair[0].cost < pair[1].cost && pair[0].violation > pair[1].violation);
    }
    let guarded = run(&service, &track, knobs(0.0, 60.0, 1.4));
    assert!(guarded.cost > runs[0].cost && guarded.violation < runs[0].violation);
    let held = run(&service, &track, knobs(0.0, 900.0, 1.0));
    assert!(held.cost > runs[0].cost && held.violation < runs[0].violation);
}

#[test]
fn a_slow_start_hurts_the_reactive_rule() {
    let of = |startup_s| {
        let service = service(startup_s);
        run(&service, &track(generated(4, 1).unwrap(), &service), Control::DEFAULT)
    };
    let (fast, slow) = (of(15.0), of(900.0));
    assert!(slow.violation > fast.violation, "{} {}", slow.violation, fast.violation);
    // On a steady load the target utilisation is met.
    let service = service(90.0);
    let steady = run(&service, &track(vec![200.0; 4 * 5_760], &service), Control::DEFAULT);
    assert!((1.25..=1.45).contains(&steady.cost) && steady.violation == 0.0, "{steady:?}");
}

#[test]
fn a_steady_load_needs_what_it_needs() {
    let service = service(90.0);
    let run = run(&service, &track(vec![195.0; 3 * 5_760], &service), knobs(0.0, 60.0, 1.0));
    let last = run.outcomes.last().unwrap();
    assert_eq!((last.violation, last.slow, last.churn), (0.0, 0.0, 0.0));
    assert!((last.cost - 0.5 / 19.5).abs() < 1e-6 && (last.idle - 0.025).abs() < 1e-6, "{last:?}");
    assert!(last.latency > 0.8 && last.latency < 1.0);
    assert!((run.reward(&Objective::new(Goal::Balanced), 100.0) + 0.5 / 19.5).abs() < 0.02);
}

#[test]
fn a_jump_is_lost_until_replicas_have_started() {
    let service = service(300.0);
    let mut load = vec![100.0; 3 * 5_760];
    let jump = (HALF + 4) * EPOCH_SLOTS;
    load[jump..].fill(300.0);
    let outcomes = run(&service, &track(load, &service), knobs(1.0, 60.0, 1.0)).outcomes;
    let lost: Vec<f64> = outcomes.iter().map(|outcome| outcome.violation).collect();
    assert!(lost[..4].iter().all(|x| *x == 0.0) && lost[4] > 0.3, "{:?}", &lost[..8]);
    assert!(lost[6..].iter().all(|x| *x == 0.0), "{:?}", &lost[..8]);
    assert!(outcomes[4].slow > 0.5 && outcomes[7].slow == 0.0);
}

#[test]
fn bounds_of_replicas_are_kept() {
    let service = Service { replicas_max: 10.0, ..service(90.0) };
    let run = run(&service, &track(vec![200.0; 3 * 5_760], &service), knobs(3.0, 60.0, 1.4));
    assert!(run.cost <= 0.51, "{}", run.cost);
    let idle = Service { capacity_rps: 1e9, ..service };
    let outcome = self::run(&idle, &track(vec![200.0; 3 * 5_760], &idle), knobs(0.0, 60.0, 1.0));
    assert!(outcome.violation == 0.0 && outcome.outcomes.iter().all(|o| o.array().iter().all(|x| x.is_finite())));
}

#[test]
fn a_state_shows_nothing_of_what_comes() {
    let service = service(90.0);
    let load = generated(4, 1).unwrap();
    let mut other = load.clone();
    let at = HALF + 50;
    other[at * EPOCH_SLOTS..].iter_mut().for_each(|x| *x *= 3.0);
    let states = |load: Vec<f64>| {
        let track = track(load, &service);
        let mut states = Vec::new();
        Simulator::new(&service, &track, HALF..HALF + 60).unwrap().run(|state| {
            states.push(*state);
            knobs(2.0, 60.0, 1.0)
        });
        states
    };
    let (one, two) = (states(load), states(other));
    assert_eq!(one[..=50], two[..=50]);
    assert_ne!(one[51], two[51]);
    assert!(one.iter().flatten().all(|x| x.is_finite()));
}

#[test]
fn loads_and_epochs_that_cannot_be_are_refused() {
    let service = service(90.0);
    let load = generated(3, 1).unwrap();
    assert!(matches!(Track::new(load.clone(), &service, 10), Err(Refusal::InsufficientExperience(_))));
    assert!(matches!(Track::new(load.clone(), &service, 9_999), Err(Refusal::InsufficientExperience(_))));
    let mut bad = load.clone();
    bad[77] = f64::NAN;
    let refusal = Track::new(bad, &service, HALF).unwrap_err();
    assert!(refusal.to_string().contains("slot 77"), "{refusal}");
    let track = track(load, &service);
    for epochs in [0..5, 5..5, 100..track.epochs() + 1] {
        assert!(matches!(Simulator::new(&service, &track, epochs), Err(Refusal::Parameter(_))));
    }
    for bad in [Service { capacity_rps: 0.0, ..service }, Service { replicas_min: 2_000.0, ..service }] {
        assert!(Simulator::new(&bad, &track, 1..5).is_err());
    }
}
