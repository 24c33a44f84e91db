//! Two thousand seeds in every run of the tests; more by the command that a failure names.
//!
//! **Invariant:** a failure names the seed and the command that repeats it.

use juno_sim::{Failure, Report, run, stop_everywhere};

/// Seeds of one test, so that a machine with more cores is done sooner.
const SEEDS: u64 = 500;

/// Seeds whose first time is stopped at each change that it makes to the disk, which are some hundred.
const STOPPED: u64 = 5;

fn held(result: Result<Report, Failure>, how: &str) {
    if let Err(Failure { seed, reason }) = result {
        panic!("seed {seed}: {reason}\nagain: cargo run --release -p juno-sim -- --{how} {seed}");
    }
}

fn hold(from: u64) {
    held(run(from..from + SEEDS), "seed");
}

#[test]
fn seeds_0_to_499_lose_and_invent_nothing() {
    hold(0);
}

#[test]
fn seeds_500_to_999_lose_and_invent_nothing() {
    hold(SEEDS);
}

#[test]
fn seeds_1000_to_1499_lose_and_invent_nothing() {
    hold(2 * SEEDS);
}

#[test]
fn seeds_1500_to_1999_lose_and_invent_nothing() {
    hold(3 * SEEDS);
}

#[test]
fn a_stop_at_any_change_to_the_disk_loses_and_invents_nothing() {
    for seed in 0..STOPPED {
        held(stop_everywhere(seed), "stop-everywhere");
    }
}

#[test]
fn one_seed_has_one_history() {
    for seed in [1, 7, 2026] {
        assert_eq!(run(seed..seed + 1), run(seed..seed + 1), "seed {seed}");
    }
}
