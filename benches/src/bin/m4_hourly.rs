//! Forecast accuracy on M4 Hourly, through psql: `cargo run --release -p juno-benches --bin m4_hourly`.
//!
//! The training parts go into a fresh server as line protocol; one SELECT from `forecast(…)` through psql gives 48 hours with
//! 95 % intervals for every series, for each model. The seasonal naive and Naive2 stand beside them.
//!
//! **Invariant:** the server never sees a value of the test part.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use juno_benches::forecast_run::{Bounds, forecast};
use juno_benches::forecast_score::{Case, Score, interval_score, score, seasonal_naive};
use juno_benches::machine;
use juno_benches::table::Table;

const HORIZON: usize = 48;
const SEASON: usize = 24;
const LEVEL: f64 = 0.95;
/// Forecast accuracy on M4 Hourly.
#[derive(Parser)]
struct Arguments {
    /// Folder with m4_hourly.parquet and m4_hourly_naive2.parquet.
    #[arg(long, default_value = "../shared/data/forecast")]
    data: PathBuf,
    /// Models to measure.
    #[arg(long, default_values = ["full", "lean"])]
    model: Vec<String>,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let cases = cases(&arguments.data)?;
    let naive2 = naive2(&arguments.data, &cases)?;
    let benchmark = head(&cases, &naive2);
    for model in &arguments.model {
        let (forecasts, launches) = forecast(&cases, HORIZON, model)?;
        row(&cases, &benchmark, &forecasts, model, &launches);
    }
    Ok(ExitCode::SUCCESS)
}

fn cases(folder: &std::path::Path) -> Result<Vec<Case>> {
    let table = Table::read(&folder.join("m4_hourly.parquet"))?;
    let (ids, values, splits) = (table.texts("unique_id")?, table.numbers("y")?, table.texts("split")?);
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for ((id, value), split) in ids.into_iter().zip(values).zip(splits) {
        let case = cases.entry(id.clone()).or_insert_with(|| Case { name: id, history: Vec::new(), truth: Vec::new() });
        if split == "test" { case.truth.push(value) } else { case.history.push(value) }
    }
    Ok(cases.into_values().collect())
}

fn naive2(folder: &std::path::Path, cases: &[Case]) -> Result<Vec<Vec<f64>>> {
    let table = Table::read(&folder.join("m4_hourly_naive2.parquet"))?;
    let ids = table.texts("unique_id")?;
    let steps = (1..=HORIZON).map(|step| table.numbers(&format!("F{step}"))).collect::<Result<Vec<_>>>()?;
    let row = |case: &Case| {
        let row = ids.iter().position(|id| *id == case.name).with_context(|| format!("no Naive2 for {}", case.name))?;
        Ok(steps.iter().map(|step| step[row]).collect())
    };
    cases.iter().map(row).collect()
}

/// Prints the table's head and the naive rows; gives the score of Naive2.
fn head(cases: &[Case], naive2: &[Vec<f64>]) -> Score {
    let benchmark = score(cases, naive2.iter().map(Vec::as_slice), SEASON);
    let naive: Vec<Vec<f64>> = cases.iter().map(|case| seasonal_naive(&case.history, SEASON, HORIZON)).collect();
    let naive = score(cases, naive.iter().map(Vec::as_slice), SEASON);
    println!("M4 Hourly, {} series, {HORIZON} h, through psql; {}", cases.len(), machine::describe());
    println!("| method | sMAPE | MASE | OWA | MSIS 95 % | coverage 95 % | launches |\n|---|---|---|---|---|---|---|");
    println!("| Naive2 | {:.3} | {:.3} | 1.000 | – | – | – |", benchmark.smape, benchmark.mase);
    println!(
        "| seasonal naive 24 | {:.3} | {:.3} | {:.3} | – | – | – |",
        naive.smape,
        naive.mase,
        naive.owa(&benchmark)
    );
    benchmark
}

fn row(cases: &[Case], benchmark: &Score, forecasts: &Bounds, model: &str, launches: &str) {
    let juno = score(cases, forecasts.values().map(|series| series[0].as_slice()), SEASON);
    let bounds = forecasts.values().map(|series| (series[1].as_slice(), series[2].as_slice()));
    let interval = interval_score(cases, bounds, LEVEL, SEASON);
    println!(
        "| juno forecast, {model} | {:.3} | {:.3} | {:.3} | {:.2} | {:.1} % | {launches} |",
        juno.smape,
        juno.mase,
        juno.owa(benchmark),
        interval.msis,
        interval.coverage * 100.0
    );
}
