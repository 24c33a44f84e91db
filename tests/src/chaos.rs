//! Fleets of real processes that are broken, and what juno makes of it.
//!
//! Each fleet is the demo's five services, with a database whose autopilot heals them; what it did is read from its tables.
//!
//! **Invariant:** the seed chooses faults and victims, the machine the rest.

mod episode;
mod fleet;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use juno_server::autopilot::WARM_UP;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::episode::{Breaker, Dice};
pub use self::episode::{KINDS, LATER_KINDS, Outcome};

/// The kinds of the suite `infrastructure_failure`.
pub const INFRASTRUCTURE: [&str; 5] = ["kill", "stop", "hang", "full_disk", "dependency_down"];
/// The kinds of the suite `performance_degradation`.
pub const PERFORMANCE: [&str; 5] = ["slow", "errors", "leak", "bad_config", "two_at_once"];
/// Fleets that a suite breaks at the same time.
const SUITE_FLEETS: u16 = 2;

/// What is to be broken.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kinds of faults, in no order.
    pub faults: Vec<String>,
    /// Fleets that are broken.
    pub fleets: u16,
    /// Fleets that are left alone.
    pub quiet_fleets: u16,
    /// Seconds that the fleets left alone run at least.
    pub quiet_s: u64,
    /// What chooses the order, faults and victims.
    pub seed: u64,
}

/// What was done to fleets that were left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet {
    /// How long they ran, together.
    pub hours: f64,
    /// Incidents that were opened.
    pub incidents: usize,
    /// Remediations.
    pub orders: usize,
}

/// Breaks fleets, one fault of a fleet after another.
///
/// # Errors
/// Where a fleet does not start or does not come to rest.
pub fn run(plan: Plan) -> Result<(Vec<Outcome>, Quiet)> {
    // Not async, so that what is compiled here is not compiled again in each program that calls it.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(break_fleets(plan))
}

async fn break_fleets(plan: Plan) -> Result<(Vec<Outcome>, Quiet)> {
    let Plan { mut faults, fleets, quiet_fleets, quiet_s, seed } = plan;
    let mut dice = Dice(seed);
    for at in (1..faults.len()).rev() {
        faults.swap(at, dice.below(at + 1));
    }
    let queue = Arc::new(Mutex::new(faults));
    let (mut broken, mut alone) = (JoinSet::new(), Vec::new());
    for number in 0..fleets + quiet_fleets {
        let demo = Arc::new(fleet::start(number).await?);
        if number < fleets {
            let dice = Dice(seed ^ u64::from(number + 1) << 32);
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
    let mut quiet = Quiet::default();
    for (demo, began) in &alone {
        sleep(Duration::from_secs(quiet_s).saturating_sub(began.elapsed())).await;
        quiet.hours += began.elapsed().as_secs_f64() / 3_600.0;
        let incidents = demo.incidents(0).await?;
        for incident in &incidents {
            println!("NO FAULT, AND AN INCIDENT: {}", serde_json::Value::Object(incident.clone()));
        }
        quiet.incidents += incidents.len();
        quiet.orders += demo.remediations(0).await?.len();
    }
    Ok((outcomes, quiet))
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

/// A suite: breaks by each kind once, in fleets that run at the same time, and wants each fault healed and nothing else touched.
///
/// # Errors
/// What was not healed, or touched without need.
pub fn suite(kinds: &[&str]) -> Result<()> {
    let faults = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    let (outcomes, _) = run(Plan { faults, fleets: SUITE_FLEETS, quiet_fleets: 0, quiet_s: 0, seed: 1 })?;
    for outcome in &outcomes {
        anyhow::ensure!(outcome.is_healed, "{} was not healed: {}", outcome.kind, outcome.story);
        anyhow::ensure!(outcome.strayed == 0, "{}: something else was touched: {}", outcome.kind, outcome.story);
    }
    anyhow::ensure!(outcomes.len() == kinds.len(), "{} of {} faults", outcomes.len(), kinds.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_in_one_of_the_suites() {
        let mut suites: Vec<&str> = INFRASTRUCTURE.into_iter().chain(PERFORMANCE).collect();
        let mut kinds = KINDS.to_vec();
        suites.sort_unstable();
        kinds.sort_unstable();
        assert_eq!(suites, kinds);
    }
}
