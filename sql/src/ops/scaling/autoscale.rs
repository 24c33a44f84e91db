//! `scaling_autoscale`: puts a service under automatic scaling, changes how, or ends it.
//!
//! **Invariant:** writes down what is to be done and changes no units; [`super::autoscaler`] does, by `scaling_execute`.

use serde_json::{Map, Value, json};

use super::demand::{Ask, DEMAND, SERVICE, Subject, known, sources};
use super::execute::TARGET;
use super::execute::asked::scalable;
use super::limits::Limits;
use super::plan::{BOUNDS, SLO, UNIT};
use super::policy::{Bounds, Options, Planner, Unit};
use crate::operation::{Component, Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused, duration_us};
use crate::ops::operations::optimize::trial;
use crate::role::Role;
use crate::session::Invocation;
use crate::{Error, Result};

/// `POST /scaling/autoscale`.
pub(crate) const OPERATION: Operation = Operation {
    name: "scaling_autoscale",
    does: "Puts a service under automatic scaling, changes how it is scaled, or ends it.",
    parameters: &[
        SERVICE,
        Parameter::new("enabled", Kind::Boolean, "Whether it is scaled automatically.").or("true"),
        Parameter::new("target", Kind::Object(TARGET), "What is scaled; the service where it is left out."),
        DEMAND,
        Parameter::new("step", Kind::Duration, "How often is decided, 15s to 5m.").or("\"1m\""),
        SLO,
        UNIT,
        BOUNDS,
        Parameter::new(
            "policy",
            Kind::Text,
            "A learned policy that turns the knobs of the scaling rule, and logs its decisions; the planner decides where it is left out.",
        ),
    ],
    role: Role::Responder,
    effect: Effect::Changes,
    component: Some(Component::Scaling),
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("scaling_autoscaled"),
    plans: &[],
    refuses: &[
        Refused::InvalidValue,
        Refused::MissingField,
        Refused::NotFound,
        Refused::UnknownTarget,
        Refused::NoTelemetry,
        Refused::InsufficientHistory,
        Refused::Conflict,
        Refused::Interrupted,
        Refused::TargetTimeout,
    ],
    decide: None,
    run: |invocation| Box::pin(run(invocation)),
};

async fn run(invocation: &Invocation) -> Result<Value> {
    let service = invocation.word("service");
    match invocation.flag("enabled") {
        true => begin(invocation, service).await?,
        false => end(invocation, service).await?,
    }
    let row = "SELECT * FROM scaling_autoscaled WHERE service = $1";
    let row = invocation.own.objects(row, &[service.into()]).await?.pop();
    let data =
        json!({ "service": service, "status": if invocation.flag("enabled") { "autoscaled" } else { "manual" } });
    invocation.own.tell("scaling", &invocation.new_id(), data).await?;
    Ok(row.map_or(Value::Null, Value::Object))
}

async fn end(invocation: &Invocation, service: &str) -> Result<()> {
    let update = "UPDATE juno_autoscaled SET enabled = false, changed_at = $2, changed_by = $3, decision = NULL, \
                  decided_at = NULL WHERE service = $1";
    let values = [service.into(), invocation.now().into(), invocation.actor().into()];
    if invocation.own.changed_rows(update, &values).await? == 0 {
        let text = format!("\"{service}\" was never scaled automatically: there is nothing to end");
        return Err(Refusal::new(Refused::NotFound, text).at("/service").into());
    }
    trial::end(&invocation.own, service).await
}

async fn begin(invocation: &Invocation, service: &str) -> Result<()> {
    if invocation.list("demand").is_empty() {
        let text = "say what its demand is, and what one unit carries of it";
        return Err(Refusal::new(Refused::MissingField, text).at("/demand").into());
    }
    let (found, _) = scalable(invocation, Some(service)).await?;
    let limits = Limits::of(&invocation.own, &invocation.settings).await?;
    let subject = Subject::of(invocation);
    let step_us = step_us(&invocation.arguments);
    let ask = Ask { since_us: None, until_us: invocation.now_us(), step_us, steps: 1 };
    for source in sources(subject, &ask)? {
        let options = options(&invocation.arguments, source.capacity, &limits)?;
        Planner::new(options).map_err(|error| Refusal::new(Refused::InvalidValue, error.to_string()))?;
        known(subject, &source).await?;
    }
    let insert = "INSERT INTO juno_autoscaled (service, enabled, executor, target, request, changed_at, changed_by) \
                  VALUES ($1, true, $2, $3, $4, $5, $6) ON CONFLICT (service) DO UPDATE SET enabled = true, \
                  executor = excluded.executor, target = excluded.target, request = excluded.request, \
                  changed_at = excluded.changed_at, changed_by = excluded.changed_by, decision = NULL, decided_at = NULL";
    let values = [
        service.into(),
        found.actuator.executor().into(),
        found.target.name.as_str().into(),
        Value::Object(invocation.arguments.clone()),
        invocation.now().into(),
        invocation.actor().into(),
    ];
    invocation.own.changed_rows(insert, &values).await?;
    // What was put in force was found for what the service was before.
    let knobs = "DELETE FROM juno_scaling_knobs WHERE service = $1";
    invocation.own.changed_rows(knobs, &[service.into()]).await?;
    trial::end(&invocation.own, service).await
}

/// How often is decided, in microseconds.
pub(super) fn step_us(request: &Map<String, Value>) -> i64 {
    request.get("step").and_then(Value::as_str).and_then(duration_us).unwrap_or(60_000_000)
}

/// The settings of a planner for one resource.
pub(super) fn options(request: &Map<String, Value>, capacity: f64, limits: &Limits) -> Result<Options> {
    let member = |object: &str, name: &str| request.get(object).map_or(&Value::Null, |object| &object[name]);
    let bounds = request.get("bounds").cloned().unwrap_or_default();
    let bounds: Bounds = serde_json::from_value(bounds).map_err(|error| Error::Corrupt(error.to_string()))?;
    let startup_s = member("unit", "startup_s").as_u64().unwrap_or(90);
    Ok(Options {
        step_s: u32::try_from(step_us(request) / 1_000_000).unwrap_or(u32::MAX),
        unit: Unit {
            capacity,
            startup_s: u32::try_from(startup_s).unwrap_or(u32::MAX),
            cost_per_hour: member("unit", "cost_per_hour").as_f64().unwrap_or(1.0),
        },
        bounds: limits.rails.bounds(Some(bounds)),
        capacity_share: member("slo", "capacity_share").as_f64().unwrap_or(0.999),
        cooldown_s: limits.cooldown_s,
        confidence_threshold: limits.confidence,
    })
}
