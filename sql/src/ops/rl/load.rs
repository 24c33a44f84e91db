//! The load of a service, from telemetry that counts its requests.
//!
//! **Invariant:** reads what the caller may read; the same rows give the same load.

use serde_json::{Map, Value, json};

use super::policy::simulator::{EPOCH_SLOTS, SLOT_S};
use crate::operation::{Form, Kind, Member, Parameter, Refusal, Refused, duration_us, time_us};
use crate::ops::operations::predict::quoted;
use crate::session::{Invocation, Session, rfc3339};
use crate::{Error, Result};

/// Samples of a load.
const SAMPLES_MAX: usize = 400_000;
/// The least days of load: two to learn from and two to judge by.
const DAYS_MIN: f64 = 4.0;
/// The share of steps that must have rows.
const FILLED_MIN: f64 = 0.5;
/// Bounds of a step, in microseconds.
const STEP_US: (i64, i64) = (15_000_000, 3_600_000_000);

/// Which telemetry it is.
pub(crate) const METRIC: Parameter = Parameter::new(
    "metric",
    Kind::Text,
    "What counts its requests, as table.column of telemetry with a tag service; a column requests where it is left out.",
);
/// How rows become a rate.
pub(crate) const AGG: Parameter = Parameter::new(
    "agg",
    Kind::Choice(&["sum", "avg"]),
    "How the rows of a step become its rate: sum of counts over its seconds, or the average of rates.",
);
/// How finely it is read.
pub(crate) const STEP: Parameter =
    Parameter::new("step", Kind::Duration, "The distance of two samples of the load, 15s to 1h.");

/// Which rows of a service, as members of a scope.
pub(crate) const ROWS: [Parameter; 2] = [
    Parameter::new("namespace", Kind::Text, "Only its rows of this namespace, where the telemetry has such a tag."),
    Parameter::new("labels", Kind::Map, "Only its rows with these values of the telemetry's tags."),
];

/// What answers say of a load.
pub(crate) const TOLD: &[Member] = &[
    Member::new("metric", Form::Text, "The metric, as table.column."),
    Member::new("from", Form::Time, "The first sample."),
    Member::new("to", Form::Time, "The end of the last sample."),
    Member::new("samples", Form::Integer, "How many."),
];

/// A load as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Requests a second.
    pub(crate) samples: Vec<f64>,
    /// Seconds from one sample to the next.
    pub(crate) step_s: f64,
    metric: String,
    from_us: i64,
    to_us: i64,
}

impl Load {
    /// When an epoch of it begins, in microseconds.
    pub(crate) fn epoch_us(&self, epoch: usize) -> i64 {
        self.from_us.saturating_add((epoch as f64 * EPOCH_SLOTS as f64 * SLOT_S * 1e6) as i64)
    }

    /// The first epoch that begins at a time or later.
    pub(crate) fn epoch_at(&self, at_us: i64) -> usize {
        let epochs = at_us.saturating_sub(self.from_us) as f64 / (EPOCH_SLOTS as f64 * SLOT_S * 1e6);
        epochs.ceil().max(0.0) as usize
    }

    /// Where it came from, for answers.
    pub(crate) fn told(&self) -> Value {
        json!({
            "metric": self.metric,
            "from": rfc3339(self.from_us),
            "to": rfc3339(self.to_us),
            "samples": self.samples.len(),
        })
    }
}

/// The load of a service within a window; `at` points to the argument that names the service.
pub(crate) async fn load(invocation: &Invocation, service: &str, window: (i64, i64), at: &str) -> Result<Load> {
    read(&invocation.session, &invocation.arguments, service, window, at).await
}

/// The same, by what the arguments [`METRIC`], [`AGG`] and [`STEP`] of a request were, of the rows that [`ROWS`] of its `scope`
/// choose.
pub(crate) async fn read(
    session: &Session,
    arguments: &Map<String, Value>,
    service: &str,
    (from_us, to_us): (i64, i64),
    at: &str,
) -> Result<Load> {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    let step_us = text("step").and_then(duration_us).unwrap_or(300_000_000);
    if !(STEP_US.0..=STEP_US.1).contains(&step_us) {
        return Err(Refusal::new(Refused::InvalidValue, "a step is 15s to 1h").at("/step").into());
    }
    // Whole steps only: a part of one would look like a dip.
    let from_us = from_us.saturating_add(step_us - 1).div_euclid(step_us) * step_us;
    let to_us = to_us.div_euclid(step_us) * step_us;
    let source = source(session, text("metric"))?;
    let rows = source.rows(arguments.get("scope").unwrap_or(&Value::Null))?;
    let Source { metric, time, column, table, .. } = source;
    let agg = text("agg").unwrap_or("sum");
    let sql = format!(
        "SELECT time_bucket(INTERVAL '{} milliseconds', {time}) AS at, CAST({agg}({column}) AS DOUBLE PRECISION) AS value \
         FROM {table} WHERE service = '{}'{rows} AND {time} >= TIMESTAMPTZ '{}' AND {time} < TIMESTAMPTZ '{}' \
         GROUP BY 1 ORDER BY 1 LIMIT {}",
        step_us / 1_000,
        service.replace('\'', "''"),
        rfc3339(from_us),
        rfc3339(to_us),
        SAMPLES_MAX + 1
    );
    let found = session.objects(&sql, &[]).await?;
    let point = |row: &Map<String, Value>| Some((time_us(row["at"].as_str()?)?, row["value"].as_f64()?));
    let points: Vec<(i64, f64)> = found.iter().filter_map(point).collect();
    let refuse = |kind, text: String| -> Error { Refusal::new(kind, text).at(at).into() };
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        let which = if rows.is_empty() { "" } else { " with the labels of the scope" };
        let text = format!("{metric} has no points of service \"{service}\"{which} in the window");
        return Err(refuse(Refused::NotFound, text));
    };
    let days = (last.0 - first.0 + step_us) as f64 / 86_400e6;
    if points.len() > SAMPLES_MAX {
        return Err(refuse(Refused::InvalidValue, format!("more than {SAMPLES_MAX} samples: choose a larger step")));
    }
    if days < DAYS_MIN {
        let text = format!("{metric} has {days:.1} days of service \"{service}\" and needs {DAYS_MIN}");
        return Err(refuse(Refused::InsufficientHistory, text));
    }
    let step_s = step_us as f64 / 1e6;
    let mut samples = filled(&points, step_us).map_err(|text| refuse(Refused::InsufficientHistory, text))?;
    if agg == "sum" {
        samples.iter_mut().for_each(|sample| *sample /= step_s);
    }
    Ok(Load { samples, step_s, metric, from_us: first.0, to_us: last.0 + step_us })
}

/// Where a load is.
struct Source {
    metric: String,
    /// Quoted, as column and table are.
    time: String,
    column: String,
    table: String,
    tags: Vec<String>,
}

impl Source {
    /// The conditions by which a scope chooses rows beside their service.
    fn rows(&self, scope: &Value) -> Result<String> {
        let namespace = scope.get("namespace").map(|value| ("namespace", "/scope/namespace".to_owned(), value));
        let labels = scope.get("labels").and_then(Value::as_object).into_iter().flatten();
        let at = |tag: &str| format!("/scope/labels/{}", tag.replace('~', "~0").replace('/', "~1"));
        let labels = labels.map(|(tag, value)| (tag.as_str(), at(tag), value));
        let condition = |(tag, at, value): (&str, String, &Value)| -> Result<String> {
            let refuse = |text: String| -> Error { Refusal::new(Refused::InvalidValue, text).at(&at).into() };
            if !self.tags.iter().any(|own| own == tag) {
                let (metric, tags) = (&self.metric, self.tags.join(", "));
                return Err(refuse(format!("\"{tag}\" is no tag of the table of {metric}; its tags are {tags}")));
            }
            let value = value.as_str().ok_or_else(|| refuse("a label is a text".to_owned()))?;
            Ok(format!(" AND {} = '{}'", quoted(tag), value.replace('\'', "''")))
        };
        namespace.into_iter().chain(labels).map(condition).collect()
    }
}

fn source(session: &Session, metric: Option<&str>) -> Result<Source> {
    let catalog = session.db().catalog();
    let of = |table: &juno_engine::TableSchema, column: &str| {
        let time = quoted(&table.columns[table.time()?].name);
        let tags: Vec<String> = table.tags().iter().map(|tag| table.columns[*tag].name.clone()).collect();
        let has_service = tags.iter().any(|tag| tag == "service");
        table.column(column).filter(|index| table.columns[*index].data_type.is_numeric() && has_service)?;
        let metric = format!("{}.{column}", table.name);
        Some(Source { metric, time, column: quoted(column), table: quoted(&table.name), tags })
    };
    match metric {
        Some(metric) => {
            let found = metric.rsplit_once('.').and_then(|(table, column)| of(catalog.table(table)?, column));
            found.ok_or_else(|| {
                let text =
                    format!("\"{metric}\" is no metric with a tag service: metrics are table.column of telemetry");
                Refusal::new(Refused::NotFound, text).at("/metric").into()
            })
        }
        None => catalog.tables.values().find_map(|table| of(table, "requests")).ok_or_else(|| {
            let text = "no telemetry table with a tag service has a column requests: name a metric";
            Refusal::new(Refused::NoTelemetry, text).at("/metric").into()
        }),
    }
}

/// One value for each step from the first to the last, on straight lines where steps have none.
fn filled(points: &[(i64, f64)], step_us: i64) -> std::result::Result<Vec<f64>, String> {
    let Some(first) = points.first().map(|point| point.0) else { return Ok(Vec::new()) };
    let place = |at: i64| usize::try_from((at - first) / step_us).unwrap_or_default();
    let mut all: Vec<f64> = Vec::new();
    for (at, value) in points {
        if !(value.is_finite() && *value >= 0.0) {
            return Err(format!("the load is {value} at {}: a load is a number from 0 on", rfc3339(*at)));
        }
        let place = place(*at);
        let (before, gap) = (all.last().copied().unwrap_or(*value), place + 1 - all.len().min(place + 1));
        all.extend((1..=gap).map(|step| before + (value - before) * step as f64 / gap as f64));
    }
    let share = points.len() as f64 / all.len().max(1) as f64;
    if share < FILLED_MIN {
        return Err(format!("only {:.0} % of the steps have rows: choose a larger step", 100.0 * share));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::actuator::fake::World;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_scope_chooses_rows_by_their_tags() {
        let world = World::open().await;
        for sql in [
            "CREATE TABLE traffic (time TIMESTAMPTZ, service TEXT, namespace TEXT, region TEXT, requests DOUBLE PRECISION) \
             WITH (tags = 'service, namespace, region')",
            "INSERT INTO traffic SELECT TIMESTAMPTZ '2026-01-01 00:00:00+00' + INTERVAL '5 minutes' * i, 'shop', n, r, v \
             FROM generate_series(0, 1439) AS g (i), \
             (VALUES ('live', 'eu', 300.0), ('live', 'us', 600.0), ('test', 'eu', 1500.0)) AS t (n, r, v)",
        ] {
            world.own.query(sql).await.unwrap();
        }
        let day_us = |day: &str| time_us(&format!("2026-01-{day}T00:00:00Z")).unwrap();
        let window = (day_us("01"), day_us("06"));
        let of = async |scope: Value| {
            let arguments = json!({ "metric": "traffic.requests", "scope": scope }).as_object().unwrap().clone();
            read(&world.own, &arguments, "shop", window, "/scope/service").await
        };
        for (scope, rate) in [
            (json!({ "service": "shop" }), 8.0),
            (json!({ "namespace": "live" }), 3.0),
            (json!({ "labels": { "region": "eu" } }), 6.0),
            (json!({ "namespace": "live", "labels": { "region": "us" } }), 2.0),
        ] {
            let load = of(scope.clone()).await.unwrap();
            let is_so = load.samples.iter().all(|sample| (sample - rate).abs() < 1e-9);
            assert!(load.samples.len() == 1_440 && is_so, "{scope}: {:?}", &load.samples[..3]);
        }
        for (scope, kind, at) in [
            (json!({ "labels": { "zone": "a" } }), Refused::InvalidValue, "/scope/labels/zone"),
            (json!({ "labels": { "region": 1 } }), Refused::InvalidValue, "/scope/labels/region"),
            (json!({ "labels": { "region": "it's" } }), Refused::NotFound, "/scope/service"),
        ] {
            let Err(Error::Refused(refusal)) = of(scope.clone()).await else { panic!("{scope} was read") };
            assert_eq!((refusal.kind, refusal.faults[0].0.as_str()), (kind, at), "{}", refusal.detail);
        }
    }

    #[test]
    fn gaps_are_filled_on_straight_lines_and_mostly_empty_loads_refused() {
        let points = [(0, 1.0), (10, 2.0), (30, 6.0)];
        assert_eq!(filled(&points, 10).unwrap(), [1.0, 2.0, 4.0, 6.0]);
        assert!(filled(&[(0, 1.0), (100, 2.0)], 10).unwrap_err().contains("larger step"));
        assert!(filled(&[(0, 1.0), (10, -2.0)], 10).is_err() && filled(&[(0, f64::NAN)], 10).is_err());
    }
}
