//! The engine under a scheduler, a disk and a clock that a seed drives, checked against a model.
//!
//! A seed opens a database a few times. Each time some callers write, read, define tables, flush, compact, import, let rows
//! expire and back up at once, and then it is closed, or its process is killed, or the machine stops at some access to the
//! disk and keeps only what was synced, whole or torn; in some the disk fills up, a single write fails or some reads do.
//! Between the times starts are cut short, the disk is full, a part is damaged. [`history`] says what must hold. The engine's
//! own threads are scheduled at every lock, channel and access to the disk.
//!
//! **Invariant:** nothing but the seed decides what happens: the same seed does the same to the disk in the same order.

mod callers;
mod dice;
mod history;
mod importer;
mod model;
mod operator;
mod schedule;
mod simulation;
mod table;
mod world;

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Bytes of stack for each thread of a simulation.
const STACK_BYTES: usize = 4 << 20;
/// Turns after which a simulation has run in circles.
const TURNS_MAX: usize = 5_000_000;

/// What some seeds did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Seeds that held.
    pub seeds: u64,
    /// Commits that were acknowledged.
    pub commits: u64,
    /// Tables read and compared.
    pub reads: u64,
    /// Accesses to the disk.
    pub accesses: u64,
    /// Stops of the machine.
    pub crashes: u64,
    /// The same for two runs of some seeds, in whatever order, only if they did the same to the disk.
    pub fingerprint: u64,
}

impl Report {
    /// Adds what other seeds did.
    pub fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.commits += other.commits;
        self.reads += other.reads;
        self.accesses += other.accesses;
        self.crashes += other.crashes;
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
    }
}

/// A seed that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub reason: String,
}

/// Runs these seeds, one after the other.
///
/// # Errors
/// The first seed that failed.
pub fn run(seeds: Range<u64>) -> Result<Report, Failure> {
    scheduled(seeds, |seed, sum| {
        let done = simulation::run(seed);
        sum.lock().expect("no panic under it").add(done);
    })
}

/// Runs the first time of a seed again and again, and stops the machine at one change to the disk after the other, at each
/// that there is.
///
/// # Errors
/// The first stop after which a promise was broken.
pub fn stop_everywhere(seed: u64) -> Result<Report, Failure> {
    let mut sum = Report::default();
    for change in 1.. {
        let reached = Arc::new(AtomicBool::new(false));
        let reach = Arc::clone(&reached);
        let stop = move |seed, sum: &Mutex<Report>| {
            let (done, reached) = simulation::stop_at(seed, change);
            reach.store(reached, Ordering::Relaxed);
            sum.lock().expect("no panic under it").add(done);
        };
        let named =
            |failure: Failure| Failure { reason: format!("stopped at change {change}: {}", failure.reason), ..failure };
        sum.add(scheduled(seed..seed + 1, stop).map_err(named)?);
        if !reached.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(sum)
}

fn scheduled(seeds: Range<u64>, one: impl Fn(u64, &Mutex<Report>) + Send + Sync + 'static) -> Result<Report, Failure> {
    let current = Arc::new(AtomicU64::new(seeds.start));
    let report = Arc::new(Mutex::new(Report::default()));
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(TURNS_MAX);
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    let runner = Runner::new(schedule::Seeded::new(seeds, Arc::clone(&current)), config);
    let (seed, sum) = (Arc::clone(&current), Arc::clone(&report));
    let body = move || one(seed.load(Ordering::Relaxed), &sum);
    let ran = catch_unwind(AssertUnwindSafe(|| runner.run(body)));
    match ran {
        Ok(_) => Ok(*report.lock().expect("no panic under it")),
        Err(panic) => Err(Failure { seed: current.load(Ordering::Relaxed), reason: text(panic.as_ref()) }),
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "it panicked".into())
}
