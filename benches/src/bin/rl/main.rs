//! What reinforcement learning brings on a simulated service: `cargo run --release -p juno-benches --bin rl`.
//!
//! Four real loads and a made one, the first half to train on, the second never seen before the end; 90 s and 600 s start-up. Beside
//! the learned policy stand the rule that a service has when nobody tuned anything (Kubernetes' autoscaler at 70 %, as installed) and
//! the best fixed knobs of the forecast rule on the training half. Rewards are means of an epoch of 15 minutes at the price of
//! violations that the training half gave; intervals over seeds are Student's, those over days a bootstrap of whole days.
//!
//! **Invariant:** nothing is chosen on the second half; every seed counts.

mod experiment;
mod load;
mod off_policy;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use juno_benches::machine;
use juno_sql::rl::Algorithm;

/// Rewards of learned policies.
#[derive(Parser)]
struct Arguments {
    /// Folder with the load traces.
    #[arg(long, default_value = "../shared/data/scaling")]
    data: PathBuf,
    /// Algorithms to train on every load.
    #[arg(long, default_values = ["es"])]
    algorithm: Vec<String>,
    /// Loads to use: worldcup98, azure, alibaba, taxi, made.
    #[arg(long, default_values = ["worldcup98", "azure", "alibaba", "taxi", "made"])]
    load: Vec<String>,
    /// Start-up times, in seconds.
    #[arg(long, default_values = ["90", "600"])]
    startup_s: Vec<f64>,
    /// Seeds, each a training of its own.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Logs for the error of off-policy estimates; 0 leaves them out.
    #[arg(long, default_value_t = 100)]
    logs: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("Learned policies on unseen load, {} seeds; {}", arguments.seeds, machine::describe());
    println!("{}", experiment::HEADER);
    for name in &arguments.load {
        for startup_s in &arguments.startup_s {
            let case = load::case(&arguments.data, name, *startup_s)?;
            for algorithm in &arguments.algorithm {
                println!("{}", experiment::measure(&case, Algorithm::parse(algorithm)?, arguments.seeds)?);
            }
        }
    }
    if arguments.logs > 0 {
        println!("\n{}", off_policy::report(&load::case(&arguments.data, "made", 90.0)?, arguments.logs)?);
    }
    Ok(())
}
