//! Responses to threats: `cargo run --release -p juno-benches --bin respond`.
//!
//! A log of sshd says that somebody guessed the way into a host, which is a process of juno's fleet. Measured is the time from sending
//! the log to the frozen process.
//!
//! **Invariant:** that a process is frozen is asked of the system.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use juno_benches::measured::Times;
use juno_tests::attack::Guarded;

/// Responses to threats.
#[derive(Parser)]
struct Arguments {
    /// Attacks, one after another; each has another source.
    #[arg(long, default_value_t = 100)]
    attacks: usize,
    /// Hosts.
    #[arg(long, default_value_t = 5)]
    hosts: usize,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let guarded = Guarded::start(arguments.hosts)?;
    let mut times = Times::default();
    for round in 0..arguments.attacks {
        times.add(guarded.break_in(round)? * 1e3);
    }
    println!(
        "{} attacks: event in to contained, s: p50 {:.2}, p99 {:.2}, max {:.2}; all contained and taken back",
        times.count(),
        times.quantile(0.5) / 1e3,
        times.quantile(0.99) / 1e3,
        times.quantile(1.0) / 1e3
    );
    Ok(ExitCode::SUCCESS)
}
