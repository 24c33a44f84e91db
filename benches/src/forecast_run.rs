//! A forecast measured through psql: histories in as line protocol, one SELECT from `forecast(…)`, its rows taken apart.
//!
//! **Invariant:** the server never sees a value of the test part.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use juno_tests::Server;

use crate::forecast_score::Case;

/// Lines of one request.
const BODY_LINES: usize = 10_000;
/// 2020-01-01, the made-up start of all series: seconds since 1970.
const START_S: i64 = 1_577_836_800;

/// Forecast, lower and upper of every series, by its name.
pub type Bounds = BTreeMap<String, [Vec<f64>; 3]>;

/// Forecasts `horizon` hours of all cases at a level of 0.95 with a model; returns the launches that it took too.
///
/// # Errors
/// Where the server, psql or an answer fails.
pub fn forecast(cases: &[Case], horizon: usize, model: &str) -> Result<(Bounds, String)> {
    let server = Server::start()?;
    load(&server, cases)?;
    let query = format!(
        "SELECT name, forecast, lower, upper FROM forecast('series', 'y', by => 'name', horizon => '{horizon} hours', \
         level => 0.95, model => '{model}') ORDER BY name, time"
    );
    let bounds = bounds(&server.psql(&["--csv", "--tuples-only", "--command", &query])?)?;
    ensure!(bounds.len() == cases.len(), "{} of {} series were forecast", bounds.len(), cases.len());
    ensure!(bounds.values().all(|series| series[0].len() == horizon), "a forecast must have {horizon} steps");
    let plan = server.psql(&["--command", &format!("EXPLAIN ANALYZE {query}")])?;
    let launches = plan
        .split("launches=")
        .nth(1)
        .and_then(|rest| rest.split([',', ']', ' ']).next())
        .context("no launches in the plan")?;
    Ok((bounds, launches.to_owned()))
}

fn load(server: &Server, cases: &[Case]) -> Result<()> {
    let line = |case: &Case, hour: usize, value: f64| {
        format!("series,name={} y={value} {}\n", case.name, START_S + hour as i64 * 3_600)
    };
    let lines: Vec<String> = cases
        .iter()
        .flat_map(|case| {
            case.history.iter().enumerate().map(|(hour, value)| line(case, hour, *value)).collect::<Vec<_>>()
        })
        .collect();
    for body in lines.chunks(BODY_LINES) {
        let answer = ureq::post(server.url("/write?precision=s")).send(body.concat())?;
        ensure!(answer.status() == 204, "a write was answered {}", answer.status());
    }
    Ok(())
}

fn bounds(csv: &str) -> Result<Bounds> {
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
