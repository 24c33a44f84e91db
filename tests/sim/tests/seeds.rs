//! Three hundred seeds in every run of the tests; more by the command that a failure names.
//!
//! **Invariant:** a failure names the seed and the command that repeats it.

use juno_sim::run;

/// Runs a part of the seeds, so that a machine with more cores is done sooner.
fn hold(from: u64) {
    if let Err(failure) = run(from..from + 150) {
        let seed = failure.seed;
        panic!("seed {seed}: {}\nagain: cargo run --release -p juno-sim -- --seed {seed}", failure.reason);
    }
}

#[test]
fn seeds_0_to_149_lose_and_invent_nothing() {
    hold(0);
}

#[test]
fn seeds_150_to_299_lose_and_invent_nothing() {
    hold(150);
}

#[test]
fn one_seed_has_one_history() {
    for seed in [1, 7, 2026] {
        assert_eq!(run(seed..seed + 1), run(seed..seed + 1), "seed {seed}");
    }
}
