//! The demand of a service over the hours to come: which telemetry it is, its forecast, and how far that may be trusted.
//!
//! **Invariant:** reads what the caller may read and writes nothing; with `as_of` the same rows give the same answer.

use juno_engine::TableSchema;
use serde_json::{Map, Value};

use super::policy::capacity::{Load, POINTS_MAX, Quantiles, Resource};
use crate::operation::{Kind, Parameter, Refusal, Refused, duration_us};
use crate::ops::operations::predict::quoted;
use crate::session::{Invocation, rfc3339};
use crate::{Error, Result};

/// The fewest points that a forecast is made from.
const POINTS_MIN: i64 = 20;
/// The level whose upper bound is the 95 % quantile, and that of the 99 % quantile.
const LEVELS: [f64; 2] = [0.9, 0.98];
/// What a unit carries of its own processor, memory, disk or network, where demand is a share of it.
const SHARE: f64 = 1.0;

const RESOURCES: [(&str, Resource); 5] = [
    ("requests", Resource::Requests),
    ("cpu", Resource::Cpu),
    ("memory", Resource::Memory),
    ("network", Resource::Network),
    ("storage", Resource::Storage),
];

const ONE: &[Parameter] = &[
    Parameter::new("resource", Kind::Choice(&["requests", "cpu", "memory", "network", "storage"]), "What it is of.")
        .required(),
    Parameter::new("metric", Kind::Text, "The metric, as table.column of telemetry with a tag service.").required(),
    Parameter::new("agg", Kind::Choice(&["sum", "avg", "max"]), "How the rows of a step become one value.")
        .or("\"sum\""),
    Parameter::new("capacity", Kind::Number(1e-9, 1e300), "What one unit carries of it.").or("1"),
];

/// Whose demand.
pub(super) const SERVICE: Parameter =
    Parameter::new("service", Kind::Text, "The service: the value of the tag service.").required();
/// Which telemetry it is.
pub(super) const DEMAND: Parameter = Parameter::new(
    "demand",
    Kind::List(&Kind::Object(ONE), 5),
    "What its demand is; where it is left out, the columns requests, cpu, memory, network and storage of telemetry.",
);
/// How far ahead.
pub(super) const HORIZON: Parameter =
    Parameter::new("horizon", Kind::Duration, "How far ahead; SCALING_FORECAST_HORIZON where it is left out.");
/// How finely.
pub(super) const STEP: Parameter = Parameter::new("step", Kind::Duration, "The distance of two points.").or("\"5m\"");
/// From when on.
pub(super) const AS_OF: Parameter =
    Parameter::new("as_of", Kind::Time, "The time from which is planned: later rows are not looked at.");

/// What is looked at.
pub(super) struct Ask {
    pub(super) until_us: i64,
    pub(super) step_us: i64,
    pub(super) steps: usize,
}

impl Ask {
    pub(super) fn of(invocation: &Invocation) -> Result<Self> {
        let us = |name: &str| invocation.text(name).and_then(duration_us);
        let step_us = us("step").unwrap_or(300_000_000);
        let horizon_us = us("horizon").unwrap_or(i64::from(invocation.settings.scaling_horizon_h) * 3_600_000_000);
        let steps = usize::try_from(horizon_us / step_us.max(1)).unwrap_or_default();
        if step_us < 1_000_000 || !(1..=POINTS_MAX).contains(&steps) {
            let text = format!("a horizon of {steps} steps is not within 1 to {POINTS_MAX}: choose another step");
            return Err(Refusal::new(Refused::InvalidValue, text).at("/horizon").into());
        }
        Ok(Self { until_us: invocation.time_us("as_of").unwrap_or_else(|| invocation.now_us()), step_us, steps })
    }
}

/// One resource of a service with where its rows are.
pub(super) struct Source {
    pub(super) resource: Resource,
    pub(super) capacity: f64,
    /// Name in answers: table.column.
    pub(super) metric: String,
    sql: String,
}

/// What is known of the demand of one resource.
pub(super) struct Outlook {
    pub(super) load: Load,
    /// The last value that was seen.
    pub(super) now: f64,
    /// How far the forecast may be trusted, 0 to 1.
    pub(super) confidence: f64,
    /// Error of past forecasts as a share of the demand, and the share of values in their 90 % interval.
    pub(super) wape: Option<f64>,
    pub(super) coverage: Option<f64>,
}

/// The sources of a service: those that are named, or those that telemetry has under the names of resources.
pub(super) fn sources(invocation: &Invocation, ask: &Ask) -> Result<Vec<Source>> {
    let named = invocation.list("demand");
    let found = match named.is_empty() {
        false => {
            named.iter().enumerate().map(|(at, one)| stated(invocation, ask, at, one)).collect::<Result<Vec<_>>>()?
        }
        true => by_names(invocation, ask),
    };
    if found.is_empty() {
        let text = "no telemetry table with a tag service has a column requests, cpu, memory, network or storage: name the \
                    metrics as demand";
        return Err(Refusal::new(Refused::NoTelemetry, text).at("/demand").into());
    }
    Ok(found)
}

fn stated(invocation: &Invocation, ask: &Ask, at: usize, one: &Value) -> Result<Source> {
    let metric = one["metric"].as_str().unwrap_or_default();
    let missing = || -> Error {
        let text =
            format!("\"{metric}\" is no metric with a tag service: metrics are table.column of telemetry tables");
        Refusal::new(Refused::NotFound, text).at(&format!("/demand/{at}/metric")).into()
    };
    let (table, column) = metric.rsplit_once('.').ok_or_else(missing)?;
    let catalog = invocation.session.db().catalog();
    let table = catalog.table(table).ok_or_else(missing)?;
    let resource = RESOURCES.iter().find(|(name, _)| one["resource"] == *name).map(|(_, resource)| *resource);
    let resource = resource.ok_or_else(missing)?;
    let agg = one["agg"].as_str().unwrap_or("sum");
    let capacity = one["capacity"].as_f64().unwrap_or(SHARE);
    source(invocation, ask, table, (resource, column, agg, capacity)).ok_or_else(missing)
}

fn by_names(invocation: &Invocation, ask: &Ask) -> Vec<Source> {
    let catalog = invocation.session.db().catalog();
    let mut found: Vec<Source> = Vec::new();
    for (name, resource) in RESOURCES {
        let one = catalog.tables.values().find_map(|table| {
            let agg = if resource == Resource::Requests { "sum" } else { "avg" };
            source(invocation, ask, table, (resource, name, agg, SHARE))
        });
        found.extend(one);
    }
    found
}

/// The source in a table, where it is telemetry with a tag service and such a column of numbers.
fn source(
    invocation: &Invocation,
    ask: &Ask,
    table: &TableSchema,
    (resource, column, agg, capacity): (Resource, &str, &str, f64),
) -> Option<Source> {
    let time = quoted(&table.columns[table.time()?].name);
    let has_service = table.tags().iter().any(|tag| table.columns[*tag].name == "service");
    let index = table.column(column).filter(|index| table.columns[*index].data_type.is_numeric() && has_service)?;
    let service = invocation.word("service").replace('\'', "''");
    let sql = format!(
        "SELECT time_bucket(INTERVAL '{} milliseconds', {time}) AS time, CAST({agg}({}) AS DOUBLE PRECISION) AS value FROM {} \
         WHERE service = '{service}' AND {time} < TIMESTAMPTZ '{}' GROUP BY 1",
        ask.step_us / 1_000,
        quoted(&table.columns[index].name),
        quoted(&table.name),
        rfc3339(ask.until_us)
    );
    Some(Source { resource, capacity, metric: format!("{}.{column}", table.name), sql })
}

/// The forecast of a source; refuses one with too little history.
pub(super) async fn outlook(invocation: &Invocation, ask: &Ask, source: &Source) -> Result<Outlook> {
    let known = format!("SELECT count(value) AS n, last(value, time) AS now FROM ({}) AS points", source.sql);
    let known = invocation.session.objects(&known, &[]).await?.pop().unwrap_or_default();
    let n = known.get("n").and_then(Value::as_i64).unwrap_or_default();
    let (service, metric) = (invocation.word("service"), &source.metric);
    if n == 0 {
        let text = format!("{metric} has no points of service \"{service}\"");
        return Err(Refusal::new(Refused::NotFound, text).at("/service").into());
    }
    if n < POINTS_MIN {
        let text = format!("{metric} has {n} points of service \"{service}\" and needs {} more", POINTS_MIN - n);
        return Err(Refusal::new(Refused::InsufficientHistory, text).at("/service").into());
    }
    let sql = format!(
        "SELECT forecast, upper FROM forecast(({}), 'value', horizon => {}, level => ARRAY{LEVELS:?}) ORDER BY time, level",
        source.sql, ask.steps
    );
    let rows = invocation.session.objects(&sql, &[]).await?;
    let number = |row: &Map<String, Value>, name| row.get(name).and_then(Value::as_f64).unwrap_or_default().max(0.0);
    let points = rows.as_chunks::<{ LEVELS.len() }>().0.iter().map(|[inner, outer]| {
        let q50 = number(inner, "forecast");
        let q95 = number(inner, "upper").max(q50);
        Quantiles { q50, q95, q99: number(outer, "upper").max(q95) }
    });
    let points = points.collect();
    let (confidence, wape, coverage) = trust(invocation, ask, source).await?;
    let load = Load { resource: source.resource, capacity: source.capacity, points };
    let now = known.get("now").and_then(Value::as_f64).unwrap_or_default();
    Ok(Outlook { load, now, confidence, wape, coverage })
}

/// The coverage of past forecasts held against what it should be, less what they are worse than the seasonal naive; 0 where
/// there is too little past to tell.
async fn trust(invocation: &Invocation, ask: &Ask, source: &Source) -> Result<(f64, Option<f64>, Option<f64>)> {
    let sql = format!(
        "SELECT coverage, wape, mase, naive_mase FROM forecast_accuracy(({}), 'value', horizon => {}, level => {})",
        source.sql, ask.steps, LEVELS[0]
    );
    let row = invocation.session.objects(&sql, &[]).await?.pop().unwrap_or_default();
    let number = |name: &str| row.get(name).and_then(Value::as_f64);
    let covered = number("coverage").map(|coverage| (coverage / LEVELS[0]).min(1.0));
    let skill = match (number("mase"), number("naive_mase")) {
        (Some(own), Some(naive)) if own > 0.0 => (naive / own).min(1.0),
        _ => 1.0,
    };
    Ok((covered.unwrap_or_default() * skill, number("wape"), number("coverage")))
}
