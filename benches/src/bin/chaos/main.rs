//! Faults in fleets of real processes, and how the loop heals them: `cargo run --release -p juno-benches --bin chaos`.
//!
//! Each fleet is five services that call each other. One after another they are killed, stopped, hung, slowed, made to fail, to
//! leak and to fill their disk, lose their database, get a bad configuration, or two of these at once. Each fleet has a database
//! whose autopilot heals it, and the figures are read from its tables. Some fleets are left alone for as long as the run takes: what
//! is done there is a false action. `full_disk` and `dependency_down` were left out while the loop was made.
//!
//! **Invariant:** measures and prints; the seed chooses faults and victims, the machine the rest.

mod episode;
mod fleet;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use juno_server::autopilot::WARM_UP;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::episode::{Breaker, Dice, KINDS, Outcome};

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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut faults: Vec<String> = (0..arguments.faults).flat_map(|_| arguments.kinds.iter().cloned()).collect();
    let mut dice = Dice(arguments.seed);
    for at in (1..faults.len()).rev() {
        faults.swap(at, dice.below(at + 1));
    }
    let queue = Arc::new(Mutex::new(faults));
    let (mut broken, mut alone) = (JoinSet::new(), Vec::new());
    for number in 0..arguments.fleets + arguments.quiet_fleets {
        let demo = Arc::new(fleet::start(number).await?);
        if number < arguments.fleets {
            let dice = Dice(arguments.seed ^ u64::from(number + 1) << 32);
            let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
            broken.spawn(break_all(Breaker { demo, dice, http }, Arc::clone(&queue)));
        } else {
            alone.push((demo, Instant::now()));
        }
    }
    let mut outcomes = Vec::new();
    while let Some(done) = broken.join_next().await {
        outcomes.extend(done??);
    }
    let (mut hours, mut opened, mut acted) = (0.0, 0, 0);
    for (demo, began) in &alone {
        sleep(Duration::from_secs(arguments.quiet_s).saturating_sub(began.elapsed())).await;
        hours += began.elapsed().as_secs_f64() / 3_600.0;
        opened += demo.incidents(0).await?.len();
        acted += demo.remediations(0).await?.len();
    }
    report::print(&outcomes, (hours, opened, acted));
    Ok(())
}

async fn break_all(mut breaker: Breaker, queue: Arc<Mutex<Vec<String>>>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    // Until the detector has learnt what is usual.
    while breaker.demo.pulse().looks < WARM_UP as u64 + 20 {
        sleep(Duration::from_millis(500)).await;
    }
    loop {
        let Some(kind) = queue.lock().pop() else { return Ok(outcomes) };
        let outcome = breaker.episode(&kind).await?;
        println!(
            "{kind:<16} healed {} right {} after {:.2} s, {:.2} s, {:.2} s: {}",
            outcome.is_healed,
            outcome.is_right,
            outcome.detection_s,
            outcome.diagnosis_s,
            outcome.healed_s,
            outcome.story
        );
        outcomes.push(outcome);
    }
}
