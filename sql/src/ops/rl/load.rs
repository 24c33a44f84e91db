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

/// The same, by what the arguments [`METRIC`], [`AGG`] and [`STEP`] of a request were.
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
    let (metric, time, column, table) = source(session, text("metric"))?;
    let agg = text("agg").unwrap_or("sum");
    let sql = format!(
        "SELECT time_bucket(INTERVAL '{} milliseconds', {time}) AS at, CAST({agg}({column}) AS DOUBLE PRECISION) AS value \
         FROM {table} WHERE service = '{}' AND {time} >= TIMESTAMPTZ '{}' AND {time} < TIMESTAMPTZ '{}' \
         GROUP BY 1 ORDER BY 1 LIMIT {}",
        step_us / 1_000,
        service.replace('\'', "''"),
        rfc3339(from_us),
        rfc3339(to_us),
        SAMPLES_MAX + 1
    );
    let rows = session.objects(&sql, &[]).await?;
    let point = |row: &Map<String, Value>| Some((time_us(row["at"].as_str()?)?, row["value"].as_f64()?));
    let points: Vec<(i64, f64)> = rows.iter().filter_map(point).collect();
    let refuse = |kind, text: String| -> Error { Refusal::new(kind, text).at(at).into() };
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Err(refuse(
            Refused::NotFound,
            format!("{metric} has no points of service \"{service}\" in the window"),
        ));
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

/// The name of the metric, and its time, column and table, quoted.
fn source(session: &Session, metric: Option<&str>) -> Result<(String, String, String, String)> {
    let catalog = session.db().catalog();
    let of = |table: &juno_engine::TableSchema, column: &str| {
        let time = quoted(&table.columns[table.time()?].name);
        let has_service = table.tags().iter().any(|tag| table.columns[*tag].name == "service");
        table.column(column).filter(|index| table.columns[*index].data_type.is_numeric() && has_service)?;
        Some((format!("{}.{column}", table.name), time, quoted(column), quoted(&table.name)))
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

    #[test]
    fn gaps_are_filled_on_straight_lines_and_mostly_empty_loads_refused() {
        let points = [(0, 1.0), (10, 2.0), (30, 6.0)];
        assert_eq!(filled(&points, 10).unwrap(), [1.0, 2.0, 4.0, 6.0]);
        assert!(filled(&[(0, 1.0), (100, 2.0)], 10).unwrap_err().contains("larger step"));
        assert!(filled(&[(0, 1.0), (10, -2.0)], 10).is_err() && filled(&[(0, f64::NAN)], 10).is_err());
    }
}
