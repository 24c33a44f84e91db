//! `cargo run --release -p juno-sim -- --seeds 20000`: runs seeds until one fails; `-- --seed N` runs one again.
//!
//! **Invariant:** exit status 0 when all held, 1 when one failed; that one is printed with the command that repeats it.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Parser;
use juno_sim::{Failure, Report, run, stop_everywhere};

/// Seeds that a thread takes at once.
const CHUNK: u64 = 20;

#[derive(Debug, Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed only, twice, and see that it does the same.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the first time of this seed once for each change that it makes to the disk, and stop the machine there.
    #[arg(long)]
    stop_everywhere: Option<u64>,
    /// How many to run at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.seed, args.stop_everywhere) {
        (Some(seed), _) => twice(seed),
        (None, Some(seed)) => stop_everywhere(seed),
        (None, None) => all(args.from..args.from + args.seeds, args.jobs),
    };
    match result {
        Ok(report) => {
            println!(
                "{} seeds held: {} commits, {} reads compared, {} accesses to the disk, {} stops; fingerprint {:016x}",
                report.seeds, report.commits, report.reads, report.accesses, report.crashes, report.fingerprint
            );
            ExitCode::SUCCESS
        }
        Err(Failure { seed, reason }) => {
            eprintln!("seed {seed} failed: {reason}\nagain: cargo run --release -p juno-sim -- --seed {seed}");
            ExitCode::FAILURE
        }
    }
}

fn twice(seed: u64) -> Result<Report, Failure> {
    let (first, second) = (run(seed..seed + 1)?, run(seed..seed + 1)?);
    if first != second {
        return Err(Failure { seed, reason: format!("it went two ways: {first:?} and {second:?}") });
    }
    Ok(first)
}

/// Runs seeds on some threads; answers the sum, or the first failure met.
fn all(seeds: Range<u64>, jobs: usize) -> Result<Report, Failure> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut sum = Report::default();
        loop {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            if from >= seeds.end {
                return Ok(sum);
            }
            let done =
                run(from..(from + CHUNK).min(seeds.end)).inspect_err(|_| next.store(seeds.end, Ordering::Relaxed))?;
            sum.add(done);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut sum = Report::default();
        for thread in threads {
            sum.add(thread.join().expect("run catches panics")?);
        }
        Ok(sum)
    })
}
