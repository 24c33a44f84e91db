//! Forecast accuracy a day ahead on electricity load and on virtual machines, through psql:
//! `cargo run --release -p juno-benches --bin day_ahead`.
//!
//! PJM: hourly load of each zone, eight origins in the last year, 41 days apart, from 960 hours of history; `--skip 8 --origins 24`
//! takes older ones. All zones share their days, so that eight origins are eight days and no more. Bitbrains: hourly
//! CPU usage of each machine that has 721 hours and varies, the last day but one hour forecast from the 696 hours before it.
//! The seasonal naive stands beside.
//!
//! **Invariant:** the server never sees a value of the test part.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use juno_benches::forecast_run::forecast;
use juno_benches::forecast_score::{Case, accuracy, interval_score, score, seasonal_naive};
use juno_benches::machine;
use juno_benches::table::Table;

const HORIZON: usize = 24;
const SEASON: usize = 24;
const LEVEL: f64 = 0.95;
/// Hours of history of a PJM case.
const PJM_HISTORY: usize = 960;
/// Days between the origins of a zone.
const PJM_STRIDE_DAYS: usize = 41;
/// Hours of a machine that are used.
const BITBRAINS_HOURS: usize = 721;

/// Forecast accuracy a day ahead.
#[derive(Parser)]
struct Arguments {
    /// Folder with pjm/*.csv and bitbrains_faststorage_hourly.parquet.
    #[arg(long, default_value = "../shared/data/forecast")]
    data: PathBuf,
    /// Models to measure.
    #[arg(long, default_values = ["full", "lean"])]
    model: Vec<String>,
    /// Origins of each zone of PJM.
    #[arg(long, default_value_t = 8)]
    origins: usize,
    /// How many of the newest origins are left out.
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Leaves Bitbrains out.
    #[arg(long)]
    pjm_alone: bool,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let origins = arguments.skip..arguments.skip + arguments.origins;
    report("PJM zone load", &pjm(&arguments.data.join("pjm"), origins)?, &arguments.model)?;
    if arguments.pjm_alone {
        return Ok(ExitCode::SUCCESS);
    }
    let machines = bitbrains(&arguments.data.join("bitbrains_faststorage_hourly.parquet"))?;
    report("Bitbrains CPU usage", &machines, &arguments.model)?;
    Ok(ExitCode::SUCCESS)
}

fn report(name: &str, cases: &[Case], models: &[String]) -> Result<()> {
    println!("{name}, {} series, {HORIZON} h, through psql; {}", cases.len(), machine::describe());
    println!("| method | mean 1 − WAPE | median 1 − WAPE | MASE | MSIS 95 % | coverage 95 % | launches |");
    println!("|---|---|---|---|---|---|---|");
    let naive: Vec<Vec<f64>> = cases.iter().map(|case| seasonal_naive(&case.history, SEASON, HORIZON)).collect();
    let rows = || naive.iter().map(Vec::as_slice);
    let (mean, median) = accuracy(cases, rows());
    println!("| seasonal naive 24 | {mean:.4} | {median:.4} | {:.3} | – | – | – |", score(cases, rows(), SEASON).mase);
    for model in models {
        let (forecasts, launches) = forecast(cases, HORIZON, model)?;
        let rows = || forecasts.values().map(|series| series[0].as_slice());
        let (mean, median) = accuracy(cases, rows());
        let bounds = forecasts.values().map(|series| (series[1].as_slice(), series[2].as_slice()));
        let interval = interval_score(cases, bounds, LEVEL, SEASON);
        println!(
            "| juno forecast, {model} | {mean:.4} | {median:.4} | {:.3} | {:.2} | {:.1} % | {launches} |",
            score(cases, rows(), SEASON).mase,
            interval.msis,
            interval.coverage * 100.0
        );
    }
    Ok(())
}

/// The cases of every zone, in the order of their names.
fn pjm(folder: &Path, origins: Range<usize>) -> Result<Vec<Case>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let zone = file.file_stem().and_then(|stem| stem.to_str()).context("a file has a name")?.to_owned();
        let load = hourly(&std::fs::read_to_string(&file)?)?;
        for origin in origins.clone() {
            let end = load.len().checked_sub(HORIZON + origin * PJM_STRIDE_DAYS * 24).filter(|end| *end >= PJM_HISTORY);
            let end = end.with_context(|| format!("{zone} has no {origin} origins: leave fewer out"))?;
            let (history, truth) = (load[end - PJM_HISTORY..end].to_vec(), load[end..end + HORIZON].to_vec());
            cases.push(Case { name: format!("{zone}_{origin}"), history, truth });
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

/// The load of each hour from the first to the last: the mean of an hour's rows, a line over missing hours.
fn hourly(csv: &str) -> Result<Vec<f64>> {
    let mut hours: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for line in csv.lines().skip(1).filter(|line| !line.is_empty()) {
        let (time, load) = line.split_once(',').context("a row has two columns")?;
        let sum = hours.entry(hour(time).with_context(|| format!("'{time}' is no time"))?).or_default();
        *sum = (sum.0 + load.trim().parse::<f64>()?, sum.1 + 1.0);
    }
    let mut load: Vec<f64> = Vec::new();
    let mut last: Option<(i64, f64)> = None;
    for (hour, (sum, count)) in hours {
        let value = (sum / count).max(1.0);
        if let Some((before, from)) = last {
            let steps = (hour - before) as f64;
            load.extend((1..hour - before).map(|step| from + (value - from) * step as f64 / steps));
        }
        load.push(value);
        last = Some((hour, value));
    }
    Ok(load)
}

/// Hours since 1970-01-01 of `2004-12-31 01:00:00`.
fn hour(time: &str) -> Option<i64> {
    let (date, clock) = time.split_once(' ')?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let clock = clock.split(':').next()?.parse::<i64>().ok()?;
    // Days by the civil calendar, years starting in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5;
    Some((days + day - 719_469) * 24 + clock)
}

fn bitbrains(file: &Path) -> Result<Vec<Case>> {
    let table = Table::read(file)?;
    let mut machines: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (machine, usage) in table.integers("vm")?.into_iter().zip(table.numbers("CPU usage [MHZ]")?) {
        machines.entry(machine).or_default().push(usage);
    }
    let varies = |usage: &[f64]| usage.iter().any(|value| (value - usage[0]).abs() > 1e-9);
    let case = |(machine, usage): (i64, Vec<f64>)| {
        let usage = usage.get(usage.len().checked_sub(BITBRAINS_HOURS)?..usage.len() - 1)?;
        let (history, truth) = usage.split_at(usage.len() - HORIZON);
        varies(history).then(|| Case {
            name: format!("{machine:06}"),
            history: history.to_vec(),
            truth: truth.to_vec(),
        })
    };
    Ok(machines.into_iter().filter_map(case).collect())
}
