//! Faults in fleets of real processes, and how the loop heals them: `cargo run --release -p juno-benches --bin chaos`.
//!
//! Each fleet is five services that call each other. One after another they are killed, stopped, hung, slowed, made to fail, to
//! leak and to fill their disk, lose their database, get a bad configuration, or two of these at once. Each fleet has a database
//! whose autopilot heals it, and the figures are read from its tables. Some fleets are left alone for as long as the run takes: what
//! is done there is a false action. `--kinds flaky,creep,burst` breaks them in ways that came after the policy was made.
//!
//! **Invariant:** measures and prints; the seed chooses faults and victims, the machine the rest.

mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use juno_tests::chaos::{self, KINDS, Plan};

/// Faults and how they are healed.
#[derive(Parser, Clone)]
struct Arguments {
    /// Faults of each kind.
    #[arg(long, default_value_t = 30)]
    faults: usize,
    /// Fleets that are broken.
    #[arg(long, default_value_t = 4)]
    fleets: u16,
    /// Fleets that are left alone.
    #[arg(long, default_value_t = 1)]
    quiet_fleets: u16,
    /// Seconds that the fleets left alone run at least.
    #[arg(long, default_value_t = 300)]
    quiet_s: u64,
    /// Kinds of faults, by comma.
    #[arg(long, value_delimiter = ',', default_values_t = KINDS.map(str::to_owned))]
    kinds: Vec<String>,
    /// What chooses faults and victims.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let plan = Plan {
        faults: (0..arguments.faults).flat_map(|_| arguments.kinds.iter().cloned()).collect(),
        fleets: arguments.fleets,
        quiet_fleets: arguments.quiet_fleets,
        quiet_s: arguments.quiet_s,
        seed: arguments.seed,
    };
    let (outcomes, quiet) = chaos::run(plan)?;
    report::print(&outcomes, &quiet);
    Ok(ExitCode::SUCCESS)
}
