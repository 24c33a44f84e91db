//! `operations_predict`: what series will do next, how well such forecasts did before, when a capacity is reached and how likely
//! that is.
//!
//! **Invariant:** reads what the caller may read, and writes nothing unless it shall be kept; with `as_of` the same rows give the
//! same answer.

mod keep;
mod risk;
mod warnings;

mod answer;

use std::collections::BTreeMap;

use juno_kernels::seasonal_ensemble::AUTO_POINTS_MAX;
use serde_json::{Map, Value, json};

use self::warnings::{Known, warnings};
use crate::operation::{
    Doing, Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused, duration_us, time_us,
};
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
/// Rolling origins of a backtest, as `forecast_accuracy` has them where it is not told otherwise.
const ORIGINS: i64 = 5;
/// What can be asked for.
const INCLUDES: &[&str] = &["forecast", "backtest", "capacity_exhaustion", "anomaly_risk", "failure_risk"];

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
        Parameter::new("include", Kind::List(&Kind::Choice(INCLUDES), INCLUDES.len()), "What is asked for.")
            .or("[\"forecast\", \"backtest\"]"),
        Parameter::new("as_of", Kind::Time, "The time from which is forecast: later rows are not looked at."),
        Parameter::new("persist", Kind::Boolean, "Whether each series' answer is kept as a row of juno_forecasts.")
            .or("false"),
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

/// What a series is learnt from.
struct Trained {
    told: Value,
    n: i64,
    /// Steps from the first to the newest, gaps included.
    slots: i64,
    newest_us: i64,
}

/// What is forecast of a series.
#[derive(Default)]
struct Outlook {
    points: Vec<Map<String, Value>>,
    /// The quantiles of each point as (share, value), where they are needed.
    ends: Vec<Vec<(f64, f64)>>,
}

/// One series with all that is known of it.
struct Series<'a> {
    target: &'a Value,
    trained: &'a Trained,
    outlook: Outlook,
    backtest: Option<&'a Map<String, Value>>,
    /// The models that forecast and that were tested.
    models: (&'a str, &'a str),
}

async fn predict(invocation: &Invocation) -> Result<Value> {
    let ask = ask(invocation)?;
    let targets = invocation.list("targets");
    if targets.is_empty() {
        return Err(Refusal::new(Refused::InvalidValue, "name at least one series").at("/targets").into());
    }
    let parts = targets.iter().enumerate().map(|(at, target)| points(invocation, &ask, at, target));
    let series = parts.collect::<Result<Vec<_>>>()?.join(" UNION ALL ");
    let trained = trained(invocation, &ask, &series, targets).await?;
    let model = used(&ask.model, trained.iter().map(|one| one.slots).sum());
    let tested = used(&ask.model, trained.iter().map(|one| tested_slots(one.slots, ask.steps)).sum());
    let is_asked = |what: &str| invocation.list("include").iter().any(|word| word == what);
    let mut outlooks = forecast(invocation, &ask, (&series, targets.len()), (model, is_asked("failure_risk"))).await?;
    invocation.progress(0.5).await?;
    let is_tested = is_asked("backtest") || is_asked("anomaly_risk");
    let backtests = if is_tested { backtest(invocation, &ask, &series, tested).await? } else { BTreeMap::new() };
    let mut answers = Vec::with_capacity(targets.len());
    for (at, target) in targets.iter().enumerate() {
        let (outlook, models) = (std::mem::take(&mut outlooks[at]), (model, tested));
        let one = Series { target, trained: &trained[at], outlook, backtest: backtests.get(&at), models };
        answers.push(answer(one, &ask, is_asked));
    }
    if invocation.flag("persist") {
        keep::keep(invocation, &ask, targets, &mut answers).await?;
    }
    Ok(json!({ "as_of": rfc3339(ask.until_us), "step_s": ask.step_us as f64 / 1e6, "series": answers }))
}

/// What is told of one series.
fn answer(one: Series<'_>, ask: &Ask, is_asked: impl Fn(&str) -> bool) -> Map<String, Value> {
    let Series { target, trained, outlook, backtest, models } = one;
    let capacity = target["capacity"].as_f64();
    let known = Known {
        filled: (trained.n, trained.slots),
        late_steps: (ask.until_us - trained.newest_us) / ask.step_us - 1,
        is_tested: is_asked("backtest") || is_asked("anomaly_risk"),
        backtest,
        models,
        lacks_capacity: capacity.is_none() && (is_asked("capacity_exhaustion") || is_asked("failure_risk")),
    };
    let mut answer = Map::new();
    for member in ["metric", "labels", "sql"] {
        if let Some(value) = target.get(member) {
            answer.insert(member.into(), value.clone());
        }
    }
    answer.insert("model".into(), models.0.into());
    answer.insert("trained_on".into(), trained.told.clone());
    answer.insert("warnings".into(), warnings(&known).into());
    let Outlook { points: own, ends } = outlook;
    if is_asked("anomaly_risk") {
        answer.insert("anomaly_risk".into(), risk::anomaly(backtest));
    }
    if let Some(capacity) = capacity.filter(|_| is_asked("failure_risk")) {
        answer.insert("capacity".into(), capacity.into());
        answer.insert("failure_risk".into(), risk::failure(&own, &ends, capacity));
    }
    if let Some(capacity) = capacity.filter(|_| is_asked("capacity_exhaustion")) {
        answer.insert("capacity".into(), capacity.into());
        answer.insert("exhaustion_at".into(), reached(&own, "mean", capacity));
        let earliest = own.last().and_then(|last| last.keys().rfind(|name| name.starts_with('q')).cloned());
        let earliest = earliest.map_or(Value::Null, |name| reached(&own, &name, capacity));
        answer.insert("exhaustion_earliest_at".into(), earliest);
    }
    if is_asked("forecast") {
        answer.insert("points".into(), own.into_iter().map(Value::Object).collect());
    }
    if let Some(backtest) = backtest.filter(|_| is_asked("backtest")) {
        let mut told = backtest.clone();
        told.insert("model".into(), models.1.into());
        answer.insert("backtest".into(), told.into());
    }
    answer
}

/// The model that serves series of so many steps together: `auto` is the full one as long as it takes no more than seconds.
fn used(asked: &str, slots: i64) -> &str {
    let is_much = usize::try_from(slots).is_ok_and(|slots| slots > AUTO_POINTS_MAX);
    match asked {
        "auto" if is_much => "lean",
        "auto" => "full",
        other => other,
    }
}

/// The steps of all histories that a backtest forecasts from.
fn tested_slots(slots: i64, steps: i64) -> i64 {
    (1..=ORIGINS).map(|origin| (slots - origin * steps).max(0)).sum()
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
async fn trained(invocation: &Invocation, ask: &Ask, series: &str, targets: &[Value]) -> Result<Vec<Trained>> {
    let sql = format!(
        "SELECT series, count(value) AS n, min(time) AS first, max(time) AS last FROM ({series}) AS points GROUP BY series"
    );
    let mut all = BTreeMap::new();
    for row in invocation.session.objects(&sql, &[]).await? {
        let at = row["series"].as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or_default();
        let us = |name: &str| row[name].as_str().and_then(time_us).unwrap_or_default();
        let (first_us, newest_us) = (us("first"), us("last"));
        let told = json!({ "from": row["first"], "to": row["last"], "n": row["n"] });
        let (n, slots) = (row["n"].as_i64().unwrap_or_default(), (newest_us - first_us) / ask.step_us + 1);
        all.insert(at, Trained { told, n, slots, newest_us });
    }
    let mut known = Vec::with_capacity(targets.len());
    for at in 0..targets.len() {
        let pointer = format!("/targets/{at}");
        match all.remove(&at) {
            Some(trained) if trained.n >= POINTS_MIN => known.push(trained),
            Some(Trained { n, .. }) if n > 0 => {
                let text = format!("the series has {n} points and needs {} more", POINTS_MIN - n);
                return Err(Refusal::new(Refused::InsufficientHistory, text).at(&pointer).into());
            }
            _ => {
                let text = "the series has no points in this time";
                return Err(Refusal::new(Refused::NotFound, text).at(&pointer).into());
            }
        }
    }
    Ok(known)
}

/// The points of every series, each with its time, the mean and the quantiles, and where it is asked for how they are spread.
async fn forecast(
    invocation: &Invocation,
    ask: &Ask,
    (series, count): (&str, usize),
    (model, with_ends): (&str, bool),
) -> Result<Vec<Outlook>> {
    let quantiles = quantiles(invocation);
    let mut levels: Vec<String> = quantiles.iter().map(|quantile| bound(*quantile).1).collect();
    if with_ends {
        levels.extend(risk::LEVELS.iter().map(|level| format!("{level:.6}")));
    }
    // As texts of one length they are in the order of their numbers.
    levels.sort_unstable();
    levels.dedup();
    let sql = format!(
        "SELECT series, time, level, forecast, lower, upper FROM forecast(({series}), 'value', by => 'series', horizon => {}, \
         level => ARRAY[{}], model => '{model}') ORDER BY series, time, level",
        ask.steps,
        levels.join(", "),
    );
    let mut outlooks: Vec<Outlook> = (0..count).map(|_| Outlook::default()).collect();
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
        if with_ends {
            outlooks[at].ends.push(risk::ends(rows));
        }
        outlooks[at].points.push(point);
    }
    Ok(outlooks)
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

async fn backtest(
    invocation: &Invocation,
    ask: &Ask,
    series: &str,
    model: &str,
) -> Result<BTreeMap<usize, Map<String, Value>>> {
    let sql = format!(
        "SELECT * FROM forecast_accuracy(({series}), 'value', by => 'series', horizon => {}, level => 0.9, model => '{model}', \
         origins => {ORIGINS})",
        ask.steps
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
mod tests;
