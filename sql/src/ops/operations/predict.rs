//! `operations_predict`: what series will do next, how well such forecasts did before, and when a capacity is reached.
//!
//! **Invariant:** reads what the caller may read and writes nothing; with `as_of` the same rows give the same answer.

mod answer;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::operation::{Doing, Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused, duration_us};
use crate::role::Role;
use crate::session::{Invocation, rfc3339};
use crate::{Error, Result};

/// Series of one request.
const TARGETS_MAX: usize = 1_000;
/// Series times steps that are computed while the caller waits.
const WORK_SHORT_MAX: usize = 200 * 1_000;
/// Steps of one forecast.
const STEPS_MAX: i64 = 10_000;
/// The fewest points that a forecast can be made from.
const POINTS_MIN: i64 = 10;

const TARGET: &[Parameter] = &[
    Parameter::new("metric", Kind::Text, "The metric, as table.column of telemetry."),
    Parameter::new("labels", Kind::Map, "The values of the table's tags that choose the rows."),
    Parameter::new("sql", Kind::Text, "In place of a metric: a query with the columns time and value."),
    Parameter::new("agg", Kind::Choice(&["avg", "sum", "min", "max"]), "How the rows of a step become one value.")
        .or("\"avg\""),
    Parameter::new("capacity", Kind::Number(-1e300, 1e300), "The value that is not to be reached."),
];

/// `POST /operations/predict`.
pub(crate) const OPERATION: Operation = Operation {
    name: "operations_predict",
    does: "Forecasts series with quantiles, their accuracy in the past, and when each reaches its capacity.",
    parameters: &[
        Parameter::new("targets", Kind::List(&Kind::Object(TARGET), TARGETS_MAX), "The series.").required(),
        Parameter::new("horizon", Kind::Duration, "How far ahead; SCALING_FORECAST_HORIZON where it is left out."),
        Parameter::new("step", Kind::Duration, "The distance of two points.").or("\"5m\""),
        Parameter::new("history", Kind::Duration, "How much of the past is learnt from.").or("\"14d\""),
        Parameter::new("quantiles", Kind::List(&Kind::Number(0.001, 0.999), 9), "Which quantiles, of 0 to 1.")
            .or("[0.05, 0.5, 0.95]"),
        Parameter::new("model", Kind::Choice(&["auto", "full", "lean"]), "Which forecaster.").or("\"auto\""),
        Parameter::new(
            "include",
            Kind::List(&Kind::Choice(&["forecast", "backtest", "capacity_exhaustion"]), 3),
            "What is asked for.",
        )
        .or("[\"forecast\", \"backtest\"]"),
        Parameter::new("as_of", Kind::Time, "The time from which is forecast: later rows are not looked at."),
    ],
    role: Role::Operator,
    effect: Effect::Computes,
    component: None,
    lasts: Lasts::Depends(is_long),
    matched: false,
    answers: Form::Object(answer::ANSWER),
    plans: &[],
    refuses: &[Refused::InvalidValue, Refused::NotFound, Refused::InsufficientHistory],
    decide: None,
    run: |invocation| run(invocation),
};

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(predict(invocation))
}

fn is_long(arguments: &Map<String, Value>) -> bool {
    let us = |name: &str| arguments.get(name).and_then(Value::as_str).and_then(duration_us);
    let steps = us("horizon").unwrap_or(86_400_000_000) / us("step").unwrap_or(300_000_000);
    let targets = arguments["targets"].as_array().map_or(0, Vec::len);
    targets * usize::try_from(steps).unwrap_or(usize::MAX / (TARGETS_MAX + 1)) > WORK_SHORT_MAX
}

/// What is asked of all series.
struct Ask {
    until_us: i64,
    since_us: i64,
    step_us: i64,
    steps: i64,
    model: String,
}

async fn predict(invocation: &Invocation) -> Result<Value> {
    let ask = ask(invocation)?;
    let targets = invocation.list("targets");
    if targets.is_empty() {
        return Err(Refusal::new(Refused::InvalidValue, "name at least one series").at("/targets").into());
    }
    let parts = targets.iter().enumerate().map(|(at, target)| points(invocation, &ask, at, target));
    let series = parts.collect::<Result<Vec<_>>>()?.join(" UNION ALL ");
    let trained = trained(invocation, &series, targets).await?;
    let mut points = forecast(invocation, &ask, &series, targets.len()).await?;
    invocation.progress(0.5).await?;
    let asked = |what: &str| invocation.list("include").iter().any(|word| word == what);
    let backtests = if asked("backtest") { backtest(invocation, &ask, &series).await? } else { BTreeMap::new() };
    let mut answers = Vec::with_capacity(targets.len());
    for (at, target) in targets.iter().enumerate() {
        let mut answer = Map::new();
        for member in ["metric", "labels", "sql"] {
            if let Some(value) = target.get(member) {
                answer.insert(member.into(), value.clone());
            }
        }
        answer.insert("model".into(), ask.model.clone().into());
        answer.insert("trained_on".into(), trained[at].clone());
        let own = std::mem::take(&mut points[at]);
        if asked("capacity_exhaustion")
            && let Some(capacity) = target["capacity"].as_f64()
        {
            answer.insert("capacity".into(), capacity.into());
            answer.insert("exhaustion_at".into(), reached(&own, "mean", capacity));
            let earliest = own.last().and_then(|last| last.keys().rfind(|name| name.starts_with('q')).cloned());
            let earliest = earliest.map_or(Value::Null, |name| reached(&own, &name, capacity));
            answer.insert("exhaustion_earliest_at".into(), earliest);
        }
        if asked("forecast") {
            answer.insert("points".into(), own.into_iter().map(Value::Object).collect());
        }
        if let Some(backtest) = backtests.get(&at) {
            answer.insert("backtest".into(), backtest.clone().into());
        }
        answers.push(Value::Object(answer));
    }
    Ok(json!({ "as_of": rfc3339(ask.until_us), "step_s": ask.step_us as f64 / 1e6, "series": answers }))
}

fn ask(invocation: &Invocation) -> Result<Ask> {
    let us = |name: &str| invocation.text(name).and_then(duration_us);
    let step_us = us("step").unwrap_or(300_000_000);
    let horizon_us = us("horizon").unwrap_or(i64::from(invocation.settings.scaling_horizon_h) * 3_600_000_000);
    let steps = horizon_us / step_us;
    if !(1..=STEPS_MAX).contains(&steps) {
        let text = format!("a horizon of {steps} steps is not within 1 to {STEPS_MAX}: choose another step");
        return Err(Refusal::new(Refused::InvalidValue, text).at("/horizon").into());
    }
    let until_us = invocation.time_us("as_of").unwrap_or_else(|| invocation.now_us());
    let since_us = until_us.saturating_sub(us("history").unwrap_or_default());
    Ok(Ask { until_us, since_us, step_us, steps, model: invocation.word("model").to_owned() })
}

/// The quantiles that are asked for, in order.
fn quantiles(invocation: &Invocation) -> Vec<f64> {
    let mut all: Vec<f64> = invocation.list("quantiles").iter().filter_map(Value::as_f64).collect();
    all.push(0.5);
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The query of one series: its number, times and values.
fn points(invocation: &Invocation, ask: &Ask, at: usize, target: &Value) -> Result<String> {
    let range = |time: &str| {
        let (since, until) = (rfc3339(ask.since_us), rfc3339(ask.until_us));
        format!("{time} >= TIMESTAMPTZ '{since}' AND {time} < TIMESTAMPTZ '{until}'")
    };
    let step_ms = ask.step_us / 1_000;
    let bucket = |time: &str| format!("time_bucket(INTERVAL '{step_ms} milliseconds', {time})");
    let aggregate = target["agg"].as_str().unwrap_or("avg");
    let refused = |text: String, member: &str| -> Error {
        Refusal::new(Refused::InvalidValue, text).at(&format!("/targets/{at}{member}")).into()
    };
    let (metric, sql) = match (target["metric"].as_str(), target["sql"].as_str()) {
        (Some(metric), None) => (metric, None),
        (None, Some(sql)) => ("", Some(sql)),
        _ => return Err(refused("name one of metric and sql".into(), "")),
    };
    if let Some(sql) = sql {
        let sql = sql.trim().trim_end_matches(';');
        return Ok(format!(
            "SELECT {at} AS series, {} AS time, CAST({aggregate}(value) AS DOUBLE PRECISION) AS value FROM ({sql}) AS asked \
             WHERE {} GROUP BY 1, 2",
            bucket("time"),
            range("time")
        ));
    }
    let missing = || -> Error {
        let text = format!("\"{metric}\" is no metric: metrics are table.column of telemetry tables");
        Refusal::new(Refused::NotFound, text).at(&format!("/targets/{at}/metric")).into()
    };
    let (table, column) = metric.rsplit_once('.').ok_or_else(missing)?;
    let catalog = invocation.session.db().catalog();
    let schema = catalog.table(table).ok_or_else(missing)?;
    let column =
        schema.column(column).filter(|column| schema.columns[*column].data_type.is_numeric()).ok_or_else(missing)?;
    let time = schema.time().ok_or_else(missing)?;
    let tags: Vec<&str> = schema.tags().iter().map(|tag| schema.columns[*tag].name.as_str()).collect();
    let time = quoted(&schema.columns[time].name);
    let mut conditions = vec![range(&time)];
    for (name, value) in target["labels"].as_object().into_iter().flatten() {
        if !tags.contains(&name.as_str()) {
            let text = format!("\"{name}\" is no tag of \"{table}\"; its tags are {}", tags.join(", "));
            return Err(refused(text, &format!("/labels/{name}")));
        }
        let value = value.as_str().ok_or_else(|| refused("a label is a text".into(), &format!("/labels/{name}")))?;
        conditions.push(format!("{} = '{}'", quoted(name), value.replace('\'', "''")));
    }
    Ok(format!(
        "SELECT {at} AS series, {} AS time, CAST({aggregate}({}) AS DOUBLE PRECISION) AS value FROM {} WHERE {} GROUP BY 1, 2",
        bucket(&time),
        quoted(&schema.columns[column].name),
        quoted(&schema.name),
        conditions.join(" AND ")
    ))
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What each series is learnt from; refuses those with too little.
async fn trained(invocation: &Invocation, series: &str, targets: &[Value]) -> Result<Vec<Value>> {
    let sql = format!(
        "SELECT series, count(value) AS n, min(time) AS first, max(time) AS last FROM ({series}) AS points GROUP BY series"
    );
    let mut all = vec![Value::Null; targets.len()];
    for row in invocation.session.objects(&sql, &[]).await? {
        let at = row["series"].as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or_default();
        all[at] = json!({ "from": row["first"], "to": row["last"], "n": row["n"] });
    }
    for (at, trained) in all.iter().enumerate() {
        let (n, pointer) = (trained["n"].as_i64().unwrap_or_default(), format!("/targets/{at}"));
        if n == 0 {
            return Err(Refusal::new(Refused::NotFound, "the series has no points in this time").at(&pointer).into());
        }
        if n < POINTS_MIN {
            let text = format!("the series has {n} points and needs {} more", POINTS_MIN - n);
            return Err(Refusal::new(Refused::InsufficientHistory, text).at(&pointer).into());
        }
    }
    Ok(all)
}

/// The points of every series, each with its time, the mean and the quantiles.
async fn forecast(
    invocation: &Invocation,
    ask: &Ask,
    series: &str,
    count: usize,
) -> Result<Vec<Vec<Map<String, Value>>>> {
    let quantiles = quantiles(invocation);
    let mut levels: Vec<String> = quantiles.iter().map(|quantile| bound(*quantile).1).collect();
    // As texts of one length they are in the order of their numbers.
    levels.sort_unstable();
    levels.dedup();
    let sql = format!(
        "SELECT series, time, forecast, lower, upper FROM forecast(({series}), 'value', by => 'series', horizon => {}, \
         level => ARRAY[{}], model => '{}') ORDER BY series, time, level",
        ask.steps,
        levels.join(", "),
        ask.model
    );
    let mut points = vec![Vec::new(); count];
    for rows in invocation.session.objects(&sql, &[]).await?.chunks(levels.len()) {
        let at = rows[0]["series"].as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or_default();
        let mut point = Map::from_iter([("t".to_owned(), rows[0]["time"].clone())]);
        for quantile in &quantiles {
            let (column, level) = bound(*quantile);
            let row = levels.binary_search(&level).map_or(&rows[0], |place| &rows[place]);
            if *quantile == 0.5 {
                point.insert("mean".into(), row[column].clone());
            }
            point.insert(named(*quantile), row[column].clone());
        }
        points[at].push(point);
    }
    Ok(points)
}

/// Which bound of which interval a quantile is; the middle one is the same at every level.
fn bound(quantile: f64) -> (&'static str, String) {
    let (column, level) = match quantile {
        0.5 => ("forecast", 0.9),
        low if low < 0.5 => ("lower", 1.0 - 2.0 * low),
        high => ("upper", 2.0 * high - 1.0),
    };
    (column, format!("{level:.6}"))
}

/// `q05` of 0.05, `q975` of 0.975.
pub(crate) fn named(quantile: f64) -> String {
    let text = format!("{quantile:.3}");
    let digits = text.trim_start_matches("0.");
    format!("q{}", digits.strip_suffix('0').unwrap_or(digits))
}

async fn backtest(invocation: &Invocation, ask: &Ask, series: &str) -> Result<BTreeMap<usize, Map<String, Value>>> {
    let sql = format!(
        "SELECT * FROM forecast_accuracy(({series}), 'value', by => 'series', horizon => {}, level => 0.9, model => '{}')",
        ask.steps, ask.model
    );
    let rows = invocation.session.objects(&sql, &[]).await?;
    let one = |mut row: Map<String, Value>| {
        let at = row.remove("series")?.as_u64().and_then(|at| usize::try_from(at).ok())?;
        if let Some(coverage) = row.remove("coverage") {
            row.insert("coverage90".into(), coverage);
        }
        Some((at, row))
    };
    Ok(rows.into_iter().filter_map(one).collect())
}

/// When a member of the points first reaches the capacity.
fn reached(points: &[Map<String, Value>], member: &str, capacity: f64) -> Value {
    let over =
        |point: &&Map<String, Value>| point.get(member).and_then(Value::as_f64).is_some_and(|value| value >= capacity);
    points.iter().find(over).map_or(Value::Null, |point| point["t"].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_named_by_their_percent() {
        assert_eq!([0.05, 0.5, 0.95, 0.975, 0.001].map(named), ["q05", "q50", "q95", "q975", "q001"]);
    }

    #[test]
    fn quantiles_are_bounds_of_intervals() {
        let bounds = [0.05, 0.5, 0.95, 0.99, 0.001].map(bound);
        let texts = bounds.each_ref().map(|(column, level)| (*column, level.as_str()));
        let expected = [
            ("lower", "0.900000"),
            ("forecast", "0.900000"),
            ("upper", "0.900000"),
            ("upper", "0.980000"),
            ("lower", "0.998000"),
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn much_work_is_a_job() {
        let asked = |targets: usize, horizon: &str| {
            let arguments = json!({ "targets": vec![json!({}); targets], "horizon": horizon, "step": "1m" });
            is_long(arguments.as_object().unwrap())
        };
        assert!(!asked(200, "1000m") && asked(201, "1000m") && !asked(1, "24h"));
    }

    #[test]
    fn a_capacity_is_reached_at_the_first_point_over_it() {
        let points: Vec<Map<String, Value>> =
            (0..4).map(|t| json!({ "t": t, "mean": t }).as_object().unwrap().clone()).collect();
        assert_eq!((reached(&points, "mean", 2.0), reached(&points, "mean", 9.0)), (json!(2), Value::Null));
    }
}
