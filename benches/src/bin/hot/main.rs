//! The hot paths, each alone: `cargo run --release -p juno-benches --bin hot -- --save before.tsv` before a change and
//! `… --baseline before.tsv` after it. A word behind the flags runs only the paths with that word in their names.
//!
//! A path is run for a second, at least ten times; its time is that within which a quarter of the runs ended, which a busy
//! neighbour disturbs little. Not criterion: its dependencies turn on features that have all of DataFusion compiled twice.
//!
//! **Invariant:** disks are in memory, so that no device is measured.

mod doors;
mod engine;
mod kernels;
mod query;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use juno_benches::machine;
use juno_benches::measured::{Times, ms_since, now};

const RUNS_MIN: usize = 10;
const RUNS_MAX: usize = 5000;
const SPENT_MAX_MS: f64 = 1000.0;

/// The hot paths.
#[derive(Parser)]
struct Arguments {
    /// Where the times are kept for a later comparison.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Times that were kept before a change.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Only paths with this in their names.
    only: Option<String>,
}

/// Measures one path after the other.
pub(crate) struct Hot {
    only: Option<String>,
    baseline: BTreeMap<String, f64>,
    /// Name and microseconds.
    taken: Vec<(String, f64)>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let baseline = match &arguments.baseline {
        None => BTreeMap::new(),
        Some(path) => read(&std::fs::read_to_string(path).with_context(|| path.display().to_string())?)?,
    };
    let mut hot = Hot { only: arguments.only, baseline, taken: Vec::new() };
    println!("Hot paths; {}\n", machine::describe());
    println!("| path | µs | items/s | to the baseline |\n|---|---|---|---|");
    engine::commits(&mut hot);
    engine::parts(&mut hot);
    query::queries(&mut hot);
    doors::doors(&mut hot);
    kernels::kernels(&mut hot);
    if let Some(path) = &arguments.save {
        let lines: String = hot.taken.iter().map(|(name, us)| format!("{name}\t{us}\n")).collect();
        std::fs::write(path, lines).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn read(text: &str) -> Result<BTreeMap<String, f64>> {
    let line = |line: &str| {
        let (name, us) = line.split_once('\t').with_context(|| format!("no time in the line \"{line}\""))?;
        Ok((name.to_owned(), us.parse()?))
    };
    text.lines().map(line).collect()
}

impl Hot {
    /// Runs `work` on what `given` makes, which does not count; a run treats so many items.
    pub(crate) fn run<I, O>(
        &mut self,
        name: &str,
        items: usize,
        mut given: impl FnMut() -> I,
        mut work: impl FnMut(I) -> O,
    ) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        let (mut times, mut spent_ms) = (Times::default(), 0.0);
        // The first run fills caches.
        drop(work(given()));
        while times.count() < RUNS_MIN || (spent_ms < SPENT_MAX_MS && times.count() < RUNS_MAX) {
            let given = given();
            let start = now();
            let outcome = work(given);
            let ms = ms_since(start);
            drop(outcome);
            times.add(ms);
            spent_ms += ms;
        }
        let us = times.quantile(0.25) * 1e3;
        let change = self.baseline.get(name).map_or("–".to_owned(), |before| format!("{:.2} ×", us / before));
        println!("| {name} | {us:.1} | {:.0} | {change} |", items as f64 / us * 1e6);
        self.taken.push((name.to_owned(), us));
    }
}
