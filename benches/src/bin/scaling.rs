//! What a simulated service costs under predictive scaling, and what share of its requests it can serve:
//! `cargo run --release -p juno-benches --bin scaling`.
//!
//! Each recording is scaled so that the second half, which is the test, needs 20 replicas on average. A replica is billed from its
//! order on and serves after 90 s or 600 s. The planner goes through the first half step by step and on into the second with what
//! it learnt; it sees the mean demand of past 15 s, its replicas and what was lost. Beside it: HPA as it is installed (60 % and
//! 70 %), HPA tuned on the first half by a grid, the last minute with a margin tuned on the first half, and the planner's rule
//! with a perfect forecast. The forecast is acted on from the first day, without the week of proof that unattended use asks for.
//!
//! **Invariant:** nothing is tuned on a test half; of perfect forecasts the table says so.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use juno_benches::machine;
use juno_benches::scaling::demand::{Recording, recordings};
use juno_benches::scaling::grid::{self, OBJECTIVE};
use juno_benches::scaling::planned;
use juno_benches::scaling::service::{Outcome, SLOT_S};
use juno_sql::scaling::{Bounds, Observation, Options, Planner, Unit};

/// Replicas that the test half needs on average.
const REPLICAS: f64 = 20.0;
/// Both halves are whole hours.
const HOUR_SLOTS: usize = 3_600 / SLOT_S;

/// Cost and capacity of predictive and reactive scaling.
#[derive(Parser)]
struct Arguments {
    /// Folder with the recordings.
    #[arg(long, default_value = "../shared/data/scaling")]
    data: PathBuf,
    /// Seconds that a replica takes to start.
    #[arg(long, default_values_t = [90_u32, 600])]
    startup: Vec<u32>,
    /// Only recordings whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Seed of the Poisson counts.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Demand stays the same over a bin of the recording instead of following a line.
    #[arg(long)]
    steps: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("Simulated service, {REPLICAS} replicas needed on average; {}", machine::describe());
    for recording in recordings(&arguments.data, arguments.seed, arguments.steps)? {
        if recording.name.contains(&arguments.only) {
            for &startup_s in &arguments.startup {
                report(&recording, startup_s)?;
            }
        }
    }
    Ok(())
}

fn report(recording: &Recording, startup_s: u32) -> Result<()> {
    let half = recording.demand.len() / 2 / HOUR_SLOTS * HOUR_SLOTS;
    let demand = &recording.demand[..2 * half];
    let capacity = demand[half..].iter().sum::<f64>() / half as f64 / REPLICAS;
    let boot = startup_s as usize / SLOT_S;
    let hours = half * SLOT_S / 3_600;
    println!("\n{}, start-up {startup_s} s, {hours} h of training and as many of test", recording.name);
    println!("| method | mean replicas | within capacity | ≥ 99.9 % | against HPA 70 | changes an hour |");
    println!("|---|---|---|---|---|---|");
    let installed = |target| grid::outcome(demand, half, capacity, boot, target, 300);
    let hpa_70 = installed(0.7);
    let row = |name: &str, run: Outcome| print(name, run, hpa_70.replicas);
    row("HPA 60 %", installed(0.6));
    row("HPA 70 %", hpa_70);
    let (target, window_s) = grid::tuned(&demand[..half], capacity, boot);
    let tuned = grid::outcome(demand, half, capacity, boot, target, window_s);
    row(&format!("HPA tuned on training: {:.0} %, {window_s} s", target * 100.0), tuned);
    let factor = planned::tuned_factor(&demand[..half], capacity, boot);
    row(
        &format!("last minute × {factor:.2}, tuned on training"),
        planned::last_minute(demand, half, capacity, boot, factor),
    );
    row("**forecast planner**", planner(demand, half, capacity, startup_s)?);
    row("perfect forecast", planned::perfect(demand, half, capacity, boot));
    Ok(())
}

fn print(name: &str, run: Outcome, hpa_70: f64) {
    let kept = if run.within >= OBJECTIVE { "yes" } else { "no" };
    println!(
        "| {name} | {:.2} | {:.4} % | {kept} | {:+.1} % | {:.1} |",
        run.replicas,
        run.within * 100.0,
        (run.replicas / hpa_70 - 1.0) * 100.0,
        run.changes_per_hour
    );
}

/// The planner through the first half and on through the second.
fn planner(demand: &[f64], half: usize, capacity: f64, startup_s: u32) -> Result<Outcome> {
    let mut planner = Planner::new(Options {
        step_s: planned::STEP_S,
        unit: Unit { capacity, startup_s, cost_per_hour: 1.0 },
        bounds: Bounds { min: 2, max: 100_000, max_step: 0 },
        capacity_share: OBJECTIVE,
        cooldown_s: 0,
        confidence_threshold: 0.0,
    })?;
    for (step, demand) in planned::steps(&demand[..half]).enumerate() {
        planner.observe(&Observation { at_s: planned::at_s(step), demand, units: None, lost: None })?;
    }
    let first = half * SLOT_S / planned::STEP_S as usize;
    planned::run(demand, half, capacity, startup_s as usize / SLOT_S, |step, demand, seen| {
        let units = Some((seen.ready + seen.starting) as u32);
        let seen = Observation { at_s: planned::at_s(first + step), demand, units, lost: Some(seen.lost) };
        Ok(f64::from(planner.observe(&seen)?.to))
    })
}
