//! Forecast accuracy on M4 Hourly, through psql: `cargo run --release -p juno-benches --bin m4_hourly`.
//!
//! The training parts go into a fresh server as line protocol; one SELECT from `forecast(…)` through psql gives 48 hours with
//! 95 % intervals for every series. The seasonal naive and Naive2 stand beside it.
//!
//! **Invariant:** the server never sees a value of the test part.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use juno_benches::forecast_score::{Case, interval_score, score, seasonal_naive};
use juno_benches::machine;
use juno_benches::table::Table;
use juno_tests::Server;

const HORIZON: usize = 48;
const SEASON: usize = 24;
const LEVEL: f64 = 0.95;
/// Lines of one request.
const BODY_LINES: usize = 10_000;
/// 2020-01-01, the made-up start of the series, which carry no dates: seconds since 1970.
const START_S: i64 = 1_577_836_800;

const FORECAST: &str = "SELECT unique_id, forecast, lower, upper FROM forecast('m4', 'y', by => 'unique_id', \
                        horizon => '48 hours', level => 0.95) ORDER BY unique_id, time";

/// Forecast accuracy on M4 Hourly.
#[derive(Parser)]
struct Arguments {
    /// Folder with m4_hourly.parquet and m4_hourly_naive2.parquet.
    #[arg(long, default_value = "../shared/data/forecast")]
    data: PathBuf,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let cases = cases(&arguments.data)?;
    let naive2 = naive2(&arguments.data, &cases)?;
    let server = Server::start()?;
    load(&server, &cases)?;
    let forecasts = forecasts(&server.psql(&["--csv", "--tuples-only", "--command", FORECAST])?)?;
    let plan = server.psql(&["--command", &format!("EXPLAIN ANALYZE {FORECAST}")])?;
    let launches = plan
        .split("launches=")
        .nth(1)
        .and_then(|rest| rest.split([',', ']', ' ']).next())
        .context("no launches in the plan")?;
    report(&cases, &naive2, &forecasts, launches)?;
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

fn load(server: &Server, cases: &[Case]) -> Result<()> {
    let lines: Vec<String> = cases
        .iter()
        .flat_map(|case| {
            let line = |(hour, value): (usize, &f64)| {
                format!("m4,unique_id={} y={value} {}\n", case.name, START_S + hour as i64 * 3_600)
            };
            case.history.iter().enumerate().map(line).collect::<Vec<_>>()
        })
        .collect();
    for body in lines.chunks(BODY_LINES) {
        let answer = ureq::post(server.url("/write?precision=s")).send(body.concat())?;
        ensure!(answer.status() == 204, "a write was answered {}", answer.status());
    }
    Ok(())
}

/// Forecast, lower and upper of every series.
type Bounds = BTreeMap<String, [Vec<f64>; 3]>;

fn forecasts(csv: &str) -> Result<Bounds> {
    let mut found: Bounds = BTreeMap::new();
    for line in csv.lines() {
        let mut fields = line.split(',');
        let series = found.entry(fields.next().unwrap_or_default().to_owned()).or_default();
        for column in series {
            column.push(fields.next().context("a row has four columns")?.parse()?);
        }
    }
    Ok(found)
}

fn report(cases: &[Case], naive2: &[Vec<f64>], forecasts: &Bounds, launches: &str) -> Result<()> {
    ensure!(forecasts.len() == cases.len(), "{} of {} series were forecast", forecasts.len(), cases.len());
    ensure!(forecasts.values().all(|series| series[0].len() == HORIZON), "a forecast must have {HORIZON} steps");
    let benchmark = score(cases, naive2.iter().map(Vec::as_slice), SEASON);
    let naive: Vec<Vec<f64>> = cases.iter().map(|case| seasonal_naive(&case.history, SEASON, HORIZON)).collect();
    let naive = score(cases, naive.iter().map(Vec::as_slice), SEASON);
    let juno = score(cases, forecasts.values().map(|series| series[0].as_slice()), SEASON);
    let bounds = forecasts.values().map(|series| (series[1].as_slice(), series[2].as_slice()));
    let interval = interval_score(cases, bounds, LEVEL, SEASON);
    println!("M4 Hourly, {} series, {HORIZON} h, through psql; {}", cases.len(), machine::describe());
    println!("| method | sMAPE | MASE | OWA | MSIS 95 % | coverage 95 % | launches |\n|---|---|---|---|---|---|---|");
    println!("| Naive2 | {:.3} | {:.3} | 1.000 | – | – | – |", benchmark.smape, benchmark.mase);
    println!(
        "| seasonal naive 24 | {:.3} | {:.3} | {:.3} | – | – | – |",
        naive.smape,
        naive.mase,
        naive.owa(&benchmark)
    );
    println!(
        "| juno forecast | {:.3} | {:.3} | {:.3} | {:.2} | {:.1} % | {launches} |",
        juno.smape,
        juno.mase,
        juno.owa(&benchmark),
        interval.msis,
        interval.coverage * 100.0
    );
    Ok(())
}
