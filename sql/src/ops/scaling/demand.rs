//! The demand of a service over the hours to come: which telemetry it is, its forecast, and how far that may be trusted.
//!
//! **Invariant:** reads what the caller may read and writes nothing; with `as_of` the same rows give the same answer.

use std::collections::BTreeMap;

use juno_engine::TableSchema;
use serde_json::{Map, Value, json};

use super::policy::capacity::{Load, POINTS_MAX, Quantiles, Resource};
use crate::operation::{Form, Kind, Member, Parameter, Refusal, Refused, duration_us, time_us};
use crate::ops::healing::HEALTH;
use crate::ops::operations::predict::quoted;
use crate::session::{Invocation, Session, rfc3339};
use crate::{Error, Result};

/// The fewest points that a forecast is made from.
const POINTS_MIN: i64 = 20;
/// The level at which past forecasts are judged.
const LEVEL: f64 = 0.9;
/// How many past forecasts are looked back on.
const ORIGINS: usize = 5;
/// What a unit carries of its own processor, memory, disk or network, where demand is a share of it.
pub(super) const SHARE: f64 = 1.0;

/// The names of [`RESOURCES`].
pub(super) const NAMES: &[&str] = &["requests", "cpu", "memory", "network", "storage"];

const RESOURCES: [(&str, Resource); 5] = [
    ("requests", Resource::Requests),
    ("cpu", Resource::Cpu),
    ("memory", Resource::Memory),
    ("network", Resource::Network),
    ("storage", Resource::Storage),
];

const ONE: &[Parameter] = &[
    Parameter::new("resource", Kind::Choice(NAMES), "What it is of.").required(),
    Parameter::new("metric", Kind::Text, "The metric, as table.column of telemetry with a tag service.").required(),
    Parameter::new("agg", Kind::Choice(&["sum", "avg", "max"]), "How the rows of a step become one value.")
        .or("\"sum\""),
    Parameter::new(
        "capacity",
        Kind::Number(1e-9, 1e300),
        "What one unit carries of it; unit.capacity where it is left out, or 1 without one.",
    ),
];

/// What answers say of past forecasts.
pub(super) const ACCURACY: &[Member] = &[
    Member::new("wape", Form::Number, "Their error as a share of the demand; null with too little past.").or_null(),
    Member::new("coverage", Form::Number, "The share of values in their 90 % interval.").or_null(),
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

/// Whose demand it is, and who looks.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) session: &'a Session,
    pub(super) service: &'a str,
    /// As [`DEMAND`] takes it.
    pub(super) demand: &'a [Value],
    /// What a unit carries of a demand that does not say so itself.
    pub(super) capacity: f64,
}

impl<'a> Subject<'a> {
    pub(super) fn of(invocation: &'a Invocation) -> Self {
        Self {
            session: &invocation.session,
            service: invocation.word("service"),
            demand: invocation.list("demand"),
            capacity: capacity(&invocation.arguments),
        }
    }
}

/// What a unit carries, as a request says it of all demand.
pub(super) fn capacity(request: &Map<String, Value>) -> f64 {
    request.get("unit").and_then(|unit| unit["capacity"].as_f64()).unwrap_or(SHARE)
}

/// What is looked at.
pub(super) struct Ask {
    /// From when on; from the beginning where it is left out.
    pub(super) since_us: Option<i64>,
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
        let until_us = invocation.time_us("as_of").unwrap_or_else(|| invocation.now_us());
        Ok(Self { since_us: None, until_us, step_us, steps })
    }
}

/// One resource of a service with where its rows are.
pub(super) struct Source {
    pub(super) resource: Resource,
    pub(super) capacity: f64,
    /// Name in answers: table.column.
    pub(super) metric: String,
    agg: String,
    sql: String,
}

impl Source {
    /// The name of its resource.
    pub(super) fn name(&self) -> &'static str {
        RESOURCES.iter().find(|(_, resource)| *resource == self.resource).map_or("", |(name, _)| name)
    }

    /// As [`DEMAND`] would name it.
    pub(super) fn stated(&self) -> Value {
        json!({ "resource": self.name(), "metric": self.metric, "agg": self.agg, "capacity": self.capacity })
    }
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
pub(super) fn sources(subject: Subject<'_>, ask: &Ask) -> Result<Vec<Source>> {
    let named = subject.demand;
    let found = match named.is_empty() {
        false => named.iter().enumerate().map(|(at, one)| stated(subject, ask, at, one)).collect::<Result<Vec<_>>>()?,
        true => by_names(subject, ask),
    };
    if found.is_empty() {
        let text = "no telemetry table with a tag service has a column requests, cpu, memory, network or storage: name the \
                    metrics as demand";
        return Err(Refusal::new(Refused::NoTelemetry, text).at("/demand").into());
    }
    Ok(found)
}

fn stated(subject: Subject<'_>, ask: &Ask, at: usize, one: &Value) -> Result<Source> {
    let metric = one["metric"].as_str().unwrap_or_default();
    let missing = || -> Error {
        let text =
            format!("\"{metric}\" is no metric with a tag service: metrics are table.column of telemetry tables");
        Refusal::new(Refused::NotFound, text).at(&format!("/demand/{at}/metric")).into()
    };
    let (table, column) = metric.rsplit_once('.').ok_or_else(missing)?;
    let catalog = subject.session.db().catalog();
    let table = catalog.table(table).ok_or_else(missing)?;
    let resource = RESOURCES.iter().find(|(name, _)| one["resource"] == *name).map(|(_, resource)| *resource);
    let resource = resource.ok_or_else(missing)?;
    let agg = one["agg"].as_str().unwrap_or("sum");
    let capacity = one["capacity"].as_f64().unwrap_or(subject.capacity);
    source(subject, ask, table, (resource, column, agg, capacity)).ok_or_else(missing)
}

fn by_names(subject: Subject<'_>, ask: &Ask) -> Vec<Source> {
    let catalog = subject.session.db().catalog();
    let mut found: Vec<Source> = Vec::new();
    for (name, resource) in RESOURCES {
        // What juno writes of its own fleet counts where nothing else is there.
        let (own, others): (Vec<_>, Vec<_>) = catalog.tables.values().partition(|table| table.name == HEALTH);
        let one = others.into_iter().chain(own).find_map(|table| {
            let (agg, capacity) = match resource {
                Resource::Requests => ("sum", subject.capacity),
                _ => ("avg", SHARE),
            };
            source(subject, ask, table, (resource, name, agg, capacity))
        });
        found.extend(one);
    }
    found
}

/// The source in a table, where it is telemetry with a tag service and such a column of numbers.
fn source(
    subject: Subject<'_>,
    ask: &Ask,
    table: &TableSchema,
    (resource, column, agg, capacity): (Resource, &str, &str, f64),
) -> Option<Source> {
    let time = quoted(&table.columns[table.time()?].name);
    let has_service = table.tags().iter().any(|tag| table.columns[*tag].name == "service");
    let index = table.column(column).filter(|index| table.columns[*index].data_type.is_numeric() && has_service)?;
    let service = subject.service.replace('\'', "''");
    let since = ask.since_us.map_or_else(String::new, |us| format!("{time} >= TIMESTAMPTZ '{}' AND ", rfc3339(us)));
    let sql = format!(
        "SELECT time_bucket(INTERVAL '{} milliseconds', {time}) AS time, CAST({agg}({}) AS DOUBLE PRECISION) AS value FROM {} \
         WHERE service = '{service}' AND {since}{time} < TIMESTAMPTZ '{}' GROUP BY 1",
        ask.step_us / 1_000,
        quoted(&table.columns[index].name),
        quoted(&table.name),
        rfc3339(ask.until_us)
    );
    Some(Source { resource, capacity, metric: format!("{}.{column}", table.name), agg: agg.to_owned(), sql })
}

/// The last value of a source; refuses one with too little history.
pub(super) async fn known(subject: Subject<'_>, source: &Source) -> Result<f64> {
    let known = format!("SELECT count(value) AS n, last(value, time) AS now FROM ({}) AS points", source.sql);
    let known = subject.session.objects(&known, &[]).await?.pop().unwrap_or_default();
    let n = known.get("n").and_then(Value::as_i64).unwrap_or_default();
    let (service, metric) = (subject.service, &source.metric);
    if n == 0 {
        let text = format!("{metric} has no points of service \"{service}\"");
        return Err(Refusal::new(Refused::NotFound, text).at("/service").into());
    }
    if n < POINTS_MIN {
        let text = format!("{metric} has {n} points of service \"{service}\" and needs {} more", POINTS_MIN - n);
        return Err(Refusal::new(Refused::InsufficientHistory, text).at("/service").into());
    }
    Ok(known.get("now").and_then(Value::as_f64).unwrap_or_default())
}

/// The forecast of a source; refuses one with too little history.
pub(super) async fn outlook(subject: Subject<'_>, ask: &Ask, source: &Source) -> Result<Outlook> {
    let now = known(subject, source).await?;
    let rows = quantiles(subject, ask, source, &[0.5, 0.95, 0.99]).await?;
    let points = rows.into_iter().map(|(_, values)| {
        let q95 = values[1].max(values[0]);
        Quantiles { q50: values[0], q95, q99: values[2].max(q95) }
    });
    let points = points.collect();
    let past = accuracy(subject, source, ask.steps, ORIGINS).await?;
    let load = Load { resource: source.resource, capacity: source.capacity, points };
    Ok(Outlook { load, now, confidence: past.confidence, wape: past.wape, coverage: past.coverage })
}

/// Quantiles of the demand at every step, with the step's time: one fit, whatever their number.
pub(super) async fn quantiles(
    subject: Subject<'_>,
    ask: &Ask,
    source: &Source,
    shares: &[f64],
) -> Result<Vec<(String, Vec<f64>)>> {
    // The interval of which a quantile is an end, in millionths; the middle is that of any.
    let level = |share: f64| if share == 0.5 { None } else { Some(((2.0 * share - 1.0).abs() * 1e6).round() as u32) };
    let mut levels: Vec<u32> = shares.iter().filter_map(|share| level(*share)).collect();
    levels.sort_unstable();
    levels.dedup();
    if levels.is_empty() {
        levels.push((LEVEL * 1e6) as u32);
    }
    let list: Vec<String> = levels.iter().map(|level| format!("{:.6}", f64::from(*level) / 1e6)).collect();
    let sql = format!(
        "SELECT time, forecast, lower, upper FROM forecast(({}), 'value', horizon => {}, level => ARRAY[{}]) ORDER BY time, level",
        source.sql,
        ask.steps,
        list.join(", ")
    );
    let rows = subject.session.objects(&sql, &[]).await?;
    let step = |rows: &[Map<String, Value>]| {
        let value = |share: &f64| {
            let at = level(*share).and_then(|level| levels.binary_search(&level).ok()).unwrap_or_default();
            let column = match share.total_cmp(&0.5) {
                std::cmp::Ordering::Equal => "forecast",
                std::cmp::Ordering::Less => "lower",
                std::cmp::Ordering::Greater => "upper",
            };
            rows[at].get(column).and_then(Value::as_f64).unwrap_or_default().max(0.0)
        };
        let time = rows[0].get("time").and_then(Value::as_str).unwrap_or_default().to_owned();
        (time, shares.iter().map(value).collect())
    };
    Ok(rows.chunks_exact(levels.len()).map(step).collect())
}

/// How past forecasts of a source did.
pub(super) struct Accuracy {
    /// Their error as a share of the demand, and the share of values in their 90 % interval; none with too little past to tell.
    pub(super) wape: Option<f64>,
    pub(super) coverage: Option<f64>,
    /// The coverage held against what it should be, less what they were worse than the seasonal naive; 0 with too little past.
    pub(super) confidence: f64,
}

/// Looks back on forecasts of so many steps from so many origins, each a horizon before the next.
pub(super) async fn accuracy(subject: Subject<'_>, source: &Source, steps: usize, origins: usize) -> Result<Accuracy> {
    let sql = format!(
        "SELECT coverage, wape, mase, naive_mase FROM forecast_accuracy(({}), 'value', horizon => {steps}, level => {}, \
         origins => {origins})",
        source.sql, LEVEL
    );
    let row = subject.session.objects(&sql, &[]).await?.pop().unwrap_or_default();
    let number = |name: &str| row.get(name).and_then(Value::as_f64);
    let covered = number("coverage").map(|coverage| (coverage / LEVEL).min(1.0));
    let skill = match (number("mase"), number("naive_mase")) {
        (Some(own), Some(naive)) if own > 0.0 => (naive / own).min(1.0),
        _ => 1.0,
    };
    let confidence = covered.unwrap_or_default() * skill;
    Ok(Accuracy { wape: number("wape"), coverage: number("coverage"), confidence })
}

/// The seasons of a source, the main one first: seconds and strength.
pub(super) async fn seasons(subject: Subject<'_>, ask: &Ask, source: &Source) -> Result<Vec<(f64, f64)>> {
    let sql = format!("SELECT season, strength FROM detect_seasonality(({}), 'value')", source.sql);
    let rows = subject.session.objects(&sql, &[]).await?;
    let number = |row: &Map<String, Value>, name: &str| row.get(name).and_then(Value::as_f64);
    let one =
        |row: &Map<String, Value>| Some((number(row, "season")? * ask.step_us as f64 / 1e6, number(row, "strength")?));
    Ok(rows.iter().filter_map(one).collect())
}

/// What was measured of a source: the value of each step that has one, by when it began.
pub(super) async fn measured(subject: Subject<'_>, source: &Source) -> Result<BTreeMap<i64, f64>> {
    let sql = format!("SELECT time, value FROM ({}) AS points WHERE value IS NOT NULL", source.sql);
    let rows = subject.session.objects(&sql, &[]).await?;
    let point = |row: &Map<String, Value>| Some((row["time"].as_str().and_then(time_us)?, row["value"].as_f64()?));
    Ok(rows.iter().filter_map(point).collect())
}

/// What was seen of a source, step by step; none where nothing was.
pub(super) async fn seen(subject: Subject<'_>, source: &Source) -> Result<Vec<f64>> {
    let sql = format!("SELECT value FROM ({}) AS points WHERE value IS NOT NULL ORDER BY time", source.sql);
    let rows = subject.session.objects(&sql, &[]).await?;
    Ok(rows.iter().filter_map(|row| row.get("value").and_then(Value::as_f64)).collect())
}
