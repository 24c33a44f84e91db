//! `scaling_forecast`: the demand of a service over the hours to come, how far such forecasts could be trusted, and the units that
//! would carry it.
//!
//! **Invariant:** reads what the caller may read and writes nothing; with `as_of` the same rows give the same answer.

use serde_json::{Map, Value, json};

use super::demand::{
    ACCURACY, AS_OF, Accuracy, Ask, DEMAND, HORIZON, NAMES, SERVICE, STEP, Source, Subject, accuracy, known, quantiles,
    seasons, sources,
};
use crate::Result;
use crate::operation::{Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::ops::operations::predict::named;
use crate::role::Role;
use crate::session::{Invocation, rfc3339};

/// The forecaster of the SQL function `forecast`.
const MODEL: &str = "seasonal_ensemble";
/// Past forecasts that are looked back on at most.
const ORIGINS_MAX: usize = 24;
const DAY_US: i64 = 86_400_000_000;

const POINT: &[Member] = &[
    Member::new("t", Form::Time, "The time."),
    Member::new("required_units_by_resource", Form::Map(&Form::Number), "The units that the highest quantile needs."),
];
const SEASON: &[Member] = &[
    Member::new("period_s", Form::Number, "Its length, in seconds."),
    Member::new("strength", Form::Number, "How much of the demand it explains."),
];
const ANSWER: &[Member] = &[
    Member::new("service", Form::Text, "The service."),
    Member::new("resource", Form::Choice(NAMES), "Of what the points are."),
    Member::new("metric", Form::Text, "The metric, as table.column."),
    Member::new("generated_at", Form::Time, "The time from which was forecast."),
    Member::new("model", Form::Text, "The forecaster."),
    Member::new("confidence", Form::Number, "How far it may be trusted, 0 to 1."),
    Member::new("points", Form::List(&Form::Extended(POINT, &Form::Number)), "The forecast, with a member a quantile."),
    Member::new("accuracy_24h", Form::Object(ACCURACY), "How such forecasts did of late."),
    Member::new("seasonality", Form::List(&Form::Object(SEASON)), "The seasons, the main one first."),
    Member::new("warnings", Form::List(&Form::Text), "What deserves caution."),
];

/// `GET /scaling/forecast`.
pub(crate) const OPERATION: Operation = Operation {
    name: "scaling_forecast",
    does: "Forecasts the demand of a service with quantiles, their accuracy of late, and the units that they need.",
    parameters: &[
        SERVICE,
        Parameter::new("resource", Kind::Choice(NAMES), "Of what; all that is known where it is left out."),
        DEMAND,
        HORIZON,
        STEP,
        Parameter::new("quantiles", Kind::List(&Kind::Number(0.001, 0.999), 9), "Which quantiles, of 0 to 1.")
            .or("[0.5, 0.95, 0.99]"),
        AS_OF,
    ],
    role: Role::Viewer,
    effect: Effect::Computes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Object(ANSWER),
    plans: &[],
    refuses: &[Refused::InvalidValue, Refused::NotFound, Refused::NoTelemetry, Refused::InsufficientHistory],
    decide: None,
    run: |invocation| Box::pin(run(invocation)),
};

async fn run(invocation: &Invocation) -> Result<Value> {
    let (ask, subject) = (Ask::of(invocation)?, Subject::of(invocation));
    let sources = wanted(invocation, sources(subject, &ask)?)?;
    let mut shares: Vec<f64> = invocation.list("quantiles").iter().filter_map(Value::as_f64).collect();
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    let Some(highest) = shares.last().copied() else {
        return Err(Refusal::new(Refused::InvalidValue, "name at least one quantile").at("/quantiles").into());
    };
    for source in &sources {
        known(subject, source).await?;
    }
    let first = &sources[0];
    let mut points: Vec<Map<String, Value>> = Vec::new();
    let mut needed: Vec<Map<String, Value>> = Vec::new();
    for (time, values) in quantiles(subject, &ask, first, &shares).await? {
        let mut point = Map::from_iter([("t".to_owned(), time.into())]);
        point.extend(shares.iter().zip(values).map(|(share, value)| (named(*share), value.into())));
        points.push(point);
        needed.push(Map::new());
    }
    for source in &sources {
        let rows = quantiles(subject, &ask, source, &[highest]).await?;
        for ((_, values), needed) in rows.into_iter().zip(&mut needed) {
            needed.insert(source.name().into(), (values[0] / source.capacity).ceil().into());
        }
    }
    for (point, needed) in points.iter_mut().zip(needed) {
        point.insert("required_units_by_resource".into(), needed.into());
    }
    let past = lately(subject, &ask, first).await?;
    let seasons = seasons(subject, &ask, first).await?;
    Ok(json!({
        "service": invocation.word("service"),
        "resource": first.name(),
        "metric": first.metric,
        "generated_at": rfc3339(ask.until_us),
        "model": MODEL,
        "confidence": past.confidence,
        "points": points,
        "accuracy_24h": { "wape": past.wape, "coverage": past.coverage },
        "seasonality": seasons.iter().map(|(period_s, strength)| {
            json!({ "period_s": period_s, "strength": strength })
        }).collect::<Vec<_>>(),
        "warnings": warnings(&past, !seasons.is_empty(), invocation.settings.scaling_confidence),
    }))
}

/// The sources of the resource that is asked for; all where none is.
fn wanted(invocation: &Invocation, sources: Vec<Source>) -> Result<Vec<Source>> {
    let Some(resource) = invocation.text("resource") else { return Ok(sources) };
    let known: Vec<&str> = sources.iter().map(Source::name).collect();
    let left: Vec<Source> = sources.into_iter().filter(|source| source.name() == resource).collect();
    if left.is_empty() {
        let text =
            format!("no telemetry of {resource} is known, but of {}: name the metric as demand", known.join(", "));
        return Err(Refusal::new(Refused::NoTelemetry, text).at("/resource").into());
    }
    Ok(left)
}

/// How forecasts of this horizon did over the last 24 hours; longer ones are held to 24 hours.
async fn lately(subject: Subject<'_>, ask: &Ask, source: &Source) -> Result<Accuracy> {
    let day = usize::try_from(DAY_US / ask.step_us).unwrap_or(1).max(1);
    let steps = ask.steps.min(day);
    accuracy(subject, source, steps, (day / steps).clamp(1, ORIGINS_MAX)).await
}

fn warnings(past: &Accuracy, has_season: bool, threshold: f64) -> Vec<String> {
    let mut all = Vec::new();
    if past.coverage.is_none() {
        all.push("the history is too short to tell how such forecasts did".to_owned());
    } else if past.confidence < threshold {
        all.push(format!("the confidence is below {threshold}: a plan from it is advisory"));
    }
    if !has_season {
        all.push("no season was found: the forecast follows level and trend".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_that_cannot_be_trusted_says_so() {
        let past = |coverage: Option<f64>, confidence| Accuracy { wape: coverage, coverage, confidence };
        assert!(warnings(&past(Some(0.9), 0.95), true, 0.8).is_empty());
        assert!(warnings(&past(Some(0.4), 0.4), true, 0.8)[0].contains("advisory"));
        let short = warnings(&past(None, 0.0), false, 0.8);
        assert!(short.len() == 2 && short[0].contains("too short") && short[1].contains("no season"), "{short:?}");
    }
}
