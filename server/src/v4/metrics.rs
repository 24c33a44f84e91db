//! `GET /api/v4/operations/metrics`: time series of telemetry columns, or the server's own metrics as Prometheus text.
//!
//! `metric=table.column` (repeatable), `agg`, `step`, `group_by` (tag columns), `fill`, `from`, `to`, and any tag of the table
//! as a filter. Answer: `{"step","from","to","series":[{"metric","labels","points":[[time,value],…]}]}`, or as Arrow, Parquet, CSV
//! and NDJSON a row for each point ([`rows`]).
//!
//! **Invariant:** identifiers in the SQL are those of the catalog, quoted; everything else is bound.

mod fill;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use juno_sql::engine::TableSchema;
use juno_sql::{Form, Member, rfc3339};
use serde_json::{Value, json};

use self::fill::Fill;
use super::Pairs;
use super::filter::{Conditions, Kind, invalid};
use super::page::single;
use super::range::{self, Range};
use crate::http::Gate;
use crate::http::accept::{Format, negotiate};
use crate::http::answer::encode::Encoder;
use crate::http::answer::{self, Job, Table};
use crate::http::problem::Problem;

/// What an answer can be: JSON, the server's own metrics, or a row for each point.
const FORMATS: &[Format] = &[
    Format::Json,
    Format::OpenMetrics,
    Format::Prometheus,
    Format::Arrow,
    Format::Csv,
    Format::Ndjson,
    Format::Parquet,
];
/// Points per series: Prometheus's own limit. It does not hold for Arrow, whose readers take more.
const POINTS_MAX: i64 = 11_000;
/// Points of all series of a metric, with those that are filled in.
const ANSWER_POINTS_MAX: usize = 500_000;
const METRICS_MAX: usize = 20;
const PARAMETERS: &[&str] = &["metric", "agg", "step", "group_by", "fill", "from", "to"];
const AGGREGATES: &[(&str, &str)] = &[
    ("avg", "avg({})"),
    ("min", "min({})"),
    ("max", "max({})"),
    ("sum", "sum({})"),
    ("count", "count({})"),
    ("p50", "approx_percentile_cont({}, 0.5)"),
    ("p95", "approx_percentile_cont({}, 0.95)"),
    ("p99", "approx_percentile_cont({}, 0.99)"),
    ("last", "last({}, {time})"),
];
/// Steps to choose from where the request names none: the first that gives at most 1,000 points.
const STEPS: &[&str] = &["30s", "1m", "5m", "15m", "1h", "6h", "1d"];

const POINT: Form = Form::List(&Form::Either(&[Form::Time, Form::Number, Form::Null]));
const SERIES: &[Member] = &[
    Member::new("metric", Form::Text, "The metric, as table.column."),
    Member::new("labels", Form::Map(&Form::Either(&[Form::Text, Form::Null])), "The tags that it is grouped by."),
    Member::new("points", Form::List(&POINT), "A time and a value each; null where there is none."),
];
/// What is answered with.
pub(super) const ANSWER: &[Member] = &[
    Member::new("step", Form::Text, "The distance of two points, such as 5m."),
    Member::new("from", Form::Time, "From when on."),
    Member::new("to", Form::Time, "Before when."),
    Member::new("series", Form::List(&Form::Object(SERIES)), "One for each metric and set of labels."),
];

/// Times in microseconds and their values.
type Points = Vec<(i64, Option<f64>)>;

/// The points of one set of labels.
struct Series {
    /// The values of the tags of `group_by`.
    labels: Vec<Option<String>>,
    points: Points,
}

struct Ask {
    from_us: i64,
    to_us: i64,
    step_us: i64,
    step: String,
    aggregate: &'static str,
    fill: Option<Fill>,
    group_by: Vec<String>,
}

/// The handler.
pub(super) async fn series(gate: &Gate, pairs: Pairs, headers: &HeaderMap, now_us: i64) -> Result<Response, Problem> {
    let format = negotiate(headers, FORMATS)?;
    if matches!(format, Format::OpenMetrics | Format::Prometheus) {
        return Ok(crate::http::exposition(gate, format));
    }
    let ask = read(&pairs, now_us, format)?;
    let metrics: Vec<&str> =
        pairs.iter().filter(|(name, _)| name == "metric").map(|(_, value)| value.as_str()).collect();
    if !(1..=METRICS_MAX).contains(&metrics.len()) {
        let text = format!("name 1 to {METRICS_MAX} metrics as metric=table.column, or ask for text/plain");
        return Err(Problem::new("invalid-parameter-value", text).at("?metric"));
    }
    let catalog = gate.doors()?.session.db().catalog();
    let (mut all, mut count) = (vec![], 0);
    for metric in metrics {
        let schema = metric.rsplit_once('.').and_then(|(table, _)| catalog.table(table));
        let schema = schema.ok_or_else(|| no_metric(metric))?;
        let job = statement(&ask, metric, schema, &pairs)?;
        let table = answer::collect(gate, job).await?;
        let series = points(&ask, metric, &table)?;
        count += series.iter().map(|one| one.points.len()).sum::<usize>();
        if count > ANSWER_POINTS_MAX {
            let text = format!("the metrics have more than {ANSWER_POINTS_MAX} points in all: ask for fewer at once");
            return Err(Problem::new("range-too-large", text).at("?metric"));
        }
        all.push((metric.to_owned(), series));
    }
    // So much is written by a thread that may block.
    answer::blocking(move || match format {
        Format::Json => Ok(axum::Json(document(&ask, all)).into_response()),
        _ => encoded(format, &ask, &all),
    })
    .await
}

fn document(ask: &Ask, all: Vec<(String, Vec<Series>)>) -> Value {
    let series = all.into_iter().flat_map(|(metric, all)| all.into_iter().map(move |one| (metric.clone(), one)));
    let series = series.map(|(metric, Series { labels, points })| {
        let labels: BTreeMap<_, _> = ask.group_by.iter().zip(labels).collect();
        let points: Vec<Value> = points.into_iter().map(|(time, value)| json!([rfc3339(time), value])).collect();
        json!({"metric": metric, "labels": labels, "points": points})
    });
    let (from, to) = (rfc3339(ask.from_us), rfc3339(ask.to_us));
    json!({"step": ask.step, "from": from, "to": to, "series": series.collect::<Vec<_>>()})
}

fn encoded(format: Format, ask: &Ask, all: &[(String, Vec<Series>)]) -> Result<Response, Problem> {
    let schema = rows::schema(&ask.group_by);
    let mut encoder = Encoder::new(format, Arc::clone(&schema))?;
    for (metric, series) in all {
        encoder.batch(&rows::rows(&schema, metric, series)?)?;
    }
    Ok(([(header::CONTENT_TYPE, format.content_type())], encoder.finish("SELECT")?).into_response())
}

fn read(pairs: &Pairs, now_us: i64, format: Format) -> Result<Ask, Problem> {
    let range = Range::read(single(pairs, "from")?, single(pairs, "to")?, true, now_us)?;
    let (from_us, to_us) = (range.from_us.unwrap_or(now_us - range::DAY_US), range.to_us.unwrap_or(now_us));
    let step = match single(pairs, "step")? {
        Some(step) => step,
        None => {
            let fits = |step: &&&str| range::step(step).is_some_and(|us| (to_us - from_us) / us <= 1000);
            STEPS.iter().find(fits).copied().unwrap_or("1d")
        }
    };
    let step_us = range::step(step).ok_or_else(|| invalid("step", step, "a step such as 30s, 5m or 1h"))?;
    if (to_us - from_us) / step_us > POINTS_MAX && format != Format::Arrow {
        let text = format!(
            "{} points per series are more than {POINTS_MAX}: ask for a larger step, or for Arrow",
            (to_us - from_us) / step_us
        );
        return Err(Problem::new("range-too-large", text).at("?step"));
    }
    let name = single(pairs, "agg")?.unwrap_or("avg");
    let aggregate = AGGREGATES.iter().find(|(known, _)| *known == name).map(|(_, sql)| *sql);
    let aggregate =
        aggregate.ok_or_else(|| invalid("agg", name, "one of avg, min, max, sum, count, p50, p95, p99, last"))?;
    let fill = match single(pairs, "fill")? {
        None => None,
        Some(text) => Some(Fill::read(text).ok_or_else(|| invalid("fill", text, "null, prev or linear"))?),
    };
    let group_by = pairs.iter().filter(|(name, _)| name == "group_by").flat_map(|(_, value)| value.split(','));
    let group_by = group_by.map(|name| name.trim().to_owned()).collect();
    Ok(Ask { from_us, to_us, step_us, step: step.to_owned(), aggregate, fill, group_by })
}

fn statement(ask: &Ask, metric: &str, schema: &TableSchema, pairs: &Pairs) -> Result<Job, Problem> {
    let column =
        metric.rsplit_once('.').and_then(|(_, column)| schema.column(column)).ok_or_else(|| no_metric(metric))?;
    let time = schema.time().ok_or_else(|| no_metric(metric))?;
    let tags: Vec<&str> = schema.tags().iter().map(|tag| schema.columns[*tag].name.as_str()).collect();
    let (time, column) = (quoted(&schema.columns[time].name), quoted(&schema.columns[column].name));
    let mut conditions = Conditions::default();
    conditions.within(&time, Range { from_us: Some(ask.from_us), to_us: Some(ask.to_us) });
    for tag in &tags {
        let wanted = pairs.iter().filter(|(name, _)| name == tag).map(|(_, value)| value);
        let any: Vec<String> = wanted
            .map(|value| format!("{} = {}", quoted(tag), conditions.bind(value.as_str().into(), Kind::Text)))
            .collect();
        if !any.is_empty() {
            conditions.and(format!("({})", any.join(" OR ")));
        }
    }
    let known: Vec<&str> = PARAMETERS.iter().copied().chain(tags.iter().copied()).collect();
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(Problem::unknown_parameter(name, &known));
    }
    if let Some(name) = ask.group_by.iter().find(|name| !tags.contains(&name.as_str())) {
        return Err(invalid(
            "group_by",
            name,
            &format!("a tag of \"{}\"; its tags are {}", schema.name, tags.join(", ")),
        ));
    }
    let labels: String = ask.group_by.iter().map(|name| format!(", {}", quoted(name))).collect();
    let value = ask.aggregate.replace("{time}", &time).replace("{}", &column);
    let (step_ms, table, clause) = (ask.step_us / 1000, quoted(&schema.name), conditions.clause());
    let sql = format!(
        "SELECT time_bucket(INTERVAL '{step_ms} milliseconds', {time}) AS juno_bucket, CAST({value} AS DOUBLE PRECISION) AS juno_value{labels} \
         FROM {table}{clause} GROUP BY juno_bucket{labels} ORDER BY juno_bucket LIMIT {}",
        ANSWER_POINTS_MAX + 1
    );
    Ok(Job { sql, values: conditions.values, types: conditions.types })
}

/// The rows (bucket, value, labels…) as one series per set of labels.
fn points(ask: &Ask, metric: &str, table: &Table) -> Result<Vec<Series>, Problem> {
    let mut found: BTreeMap<Vec<Option<String>>, Points> = BTreeMap::new();
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    for batch in &table.batches {
        let column = |at: usize, kind: &DataType| cast(batch.column(at), kind).map_err(juno_sql::Error::from);
        let (times, values) = (column(0, &micros)?, column(1, &DataType::Float64)?);
        let labels = (2..batch.num_columns()).map(|at| column(at, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let label = |array: &arrow::array::ArrayRef| {
                array.is_valid(row).then(|| array.as_string::<i32>().value(row).to_owned())
            };
            let values = values.as_primitive::<Float64Type>();
            let value = values.is_valid(row).then(|| values.value(row)).filter(|value| value.is_finite());
            let time = times.as_primitive::<TimestampMicrosecondType>().value(row);
            found.entry(labels.iter().map(label).collect()).or_default().push((time, value));
        }
    }
    let buckets = usize::try_from((ask.to_us - ask.from_us) / ask.step_us + 1).unwrap_or(usize::MAX);
    let count = match ask.fill {
        Some(_) => found.len().saturating_mul(buckets),
        None => found.values().map(Vec::len).sum::<usize>(),
    };
    if count > ANSWER_POINTS_MAX {
        let text = format!(
            "\"{metric}\" has more than {ANSWER_POINTS_MAX} points in all: ask for fewer series or a larger step"
        );
        return Err(Problem::new("range-too-large", text).at("?step"));
    }
    let series = found.into_iter().map(|(labels, points)| match ask.fill {
        Some(fill) => Series { labels, points: fill::fill(&points, ask.from_us, ask.to_us, ask.step_us, fill) },
        None => Series { labels, points },
    });
    Ok(series.collect())
}

fn no_metric(metric: &str) -> Problem {
    let text = format!("\"{metric}\" is no metric: metrics are table.column of telemetry tables");
    Problem::new("unknown-metric", text).at("?metric")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_700_000_000_000_000;

    fn asked_as(format: Format, query: &[(&str, &str)]) -> Result<Ask, Problem> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(&pairs, NOW_US, format)
    }

    fn asked(query: &[(&str, &str)]) -> Result<Ask, Problem> {
        asked_as(Format::Json, query)
    }

    #[test]
    fn the_step_is_chosen_so_that_an_answer_stays_small() {
        assert_eq!(asked(&[]).unwrap().step, "5m");
        assert_eq!(asked(&[("from", "now-1h")]).unwrap().step, "30s");
        assert_eq!(asked(&[("from", "now-400d")]).unwrap().step, "1d");
    }

    #[test]
    fn more_than_eleven_thousand_points_are_422_but_as_arrow() {
        for format in [Format::Json, Format::Csv, Format::Ndjson, Format::Parquet] {
            let refused = asked_as(format, &[("step", "1s")]).err().map(|problem| problem.status);
            assert_eq!(refused, Some(422), "{format:?}");
        }
        assert!(asked_as(Format::Arrow, &[("step", "1s")]).is_ok());
        assert!(asked(&[("step", "10s")]).is_ok());
    }

    #[test]
    fn odd_values_are_400() {
        for query in [("agg", "median"), ("step", "soon"), ("fill", "zero"), ("from", "x")] {
            assert_eq!(asked(&[query]).err().map(|problem| problem.status), Some(400), "{query:?}");
        }
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quoted("a\"; DROP"), "\"a\"\"; DROP\"");
    }
}
