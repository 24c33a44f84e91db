//! `scaling_plan`: how much capacity a service shall have over the hours to come, and what that costs.
//!
//! **Invariant:** writes the plan and nothing else; what it decides, [`super::policy::capacity`] decides.

use serde_json::{Value, json};

use super::demand::{ACCURACY, AS_OF, Ask, DEMAND, HORIZON, NAMES, Outlook, SERVICE, STEP, Subject, outlook, sources};
use super::policy::Bounds;
use super::policy::capacity::{Plan, Region, Request, Size, Strategy, plan};
use super::timed;
use crate::operation::{Component, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::{Invocation, rfc3339};
use crate::{Error, Result};

const SLO_MEMBERS: &[Parameter] =
    &[Parameter::new("capacity_share", Kind::Number(0.5, 0.99999), "The share of the demand within capacity.")
        .or("0.999")];
const UNIT_MEMBERS: &[Parameter] = &[
    Parameter::new(
        "capacity",
        Kind::Number(1e-9, 1e300),
        "What one carries of each demand that names no capacity; where no demand is named, of the requests.",
    ),
    Parameter::new("startup_s", Kind::Integer(1, 3600), "Seconds from the order until it serves.").or("90"),
    Parameter::new("cost_per_hour", Kind::Number(0.0, 1e9), "What one costs an hour.").or("1"),
    Parameter::new("currency", Kind::Text, "What that is counted in, such as EUR."),
];
const BOUNDS_MEMBERS: &[Parameter] = &[
    Parameter::new("min", Kind::Integer(0, 1_000_000), "The fewest units.").or("1"),
    Parameter::new("max", Kind::Integer(1, 1_000_000), "The most units.").or("1000"),
    Parameter::new("max_step", Kind::Integer(0, 1_000_000), "The largest change at a time; 0 for any.").or("0"),
];
const SIZE: &[Parameter] = &[
    Parameter::new("factor", Kind::Number(0.001, 1e6), "Its capacity in multiples of a usual unit.").required(),
    Parameter::new("cost_per_hour", Kind::Number(0.0, 1e9), "What one costs an hour.").required(),
];
const REGION: &[Parameter] = &[
    Parameter::new("name", Kind::Text, "Its name.").required(),
    Parameter::new("cost_per_hour", Kind::Number(0.0, 1e9), "What a unit costs there an hour.").required(),
    Parameter::new("units_max", Kind::Integer(0, 1_000_000), "Its room.").required(),
    Parameter::new("share", Kind::Number(0.0, 1.0), "Its share of the load now; over all regions 1.").required(),
];
/// What must be kept.
pub(super) const SLO: Parameter = Parameter::new("slo", Kind::Object(SLO_MEMBERS), "What must be kept.").or("{}");
/// What is added and taken away.
pub(super) const UNIT: Parameter =
    Parameter::new("unit", Kind::Object(UNIT_MEMBERS), "What is added and taken away.").or("{}");
/// How many units there may be.
pub(super) const BOUNDS: Parameter =
    Parameter::new("bounds", Kind::Object(BOUNDS_MEMBERS), "How many units there may be.").or("{}");
const STRATEGIES: &[&str] = &["horizontal", "vertical", "geographic", "temporal", "auto"];

const STEP_MEMBERS: &[Member] = &[
    Member::new("at", Form::Time, "When to order it."),
    Member::new("resource", Form::Choice(NAMES), "The resource that binds then."),
    Member::new("target", Form::Text, "What changes: units, size, or region: and a name."),
    Member::new("from", Form::Number, "What it was."),
    Member::new("to", Form::Number, "What it shall be."),
    Member::new("reason", Form::Text, "Why."),
    Member::new("q", Form::Number, "The quantile of demand that it is meant to carry."),
];
const EXPECTED_MEMBERS: &[Member] = &[
    Member::new("replica_hours", Form::Number, "Units times hours."),
    Member::new("cost", Form::Number, "Their cost."),
    Member::new("reactive_cost", Form::Number, "The cost of a reactive autoscaler at 70 %."),
    Member::new("saving_pct", Form::Number, "How much less, in percent of that."),
    Member::new("sla", Form::Number, "The share of the demand within capacity."),
];
const SOURCE: &[Member] = &[
    Member::new("metric", Form::Text, "The metric, as table.column."),
    Member::new("resource", Form::Choice(NAMES), "What it is of."),
    Member::new("now", Form::Number, "The last value."),
    Member::new("accuracy", Form::Object(ACCURACY), "How such forecasts did."),
];
/// The changes of a plan.
pub(crate) const STEPS: Member =
    Member::new("steps", Form::List(&Form::Object(STEP_MEMBERS)), "The changes, in order of time.");
/// What a plan costs.
pub(crate) const EXPECTED: Member =
    Member::new("expected", Form::Object(EXPECTED_MEMBERS), "What it costs and what it keeps.");
/// What a plan warns of.
pub(crate) const WARNINGS: Member = Member::new("warnings", Form::List(&Form::Text), "What did not fit.");
const ANSWER: &[Member] = &[
    Member::new("plan_id", Form::Id, "The plan."),
    Member::new("service", Form::Text, "The service."),
    Member::new("strategy", Form::Choice(STRATEGIES), "The strategy that was chosen."),
    STEPS,
    EXPECTED,
    Member::new("confidence", Form::Number, "How far the forecast may be trusted, 0 to 1."),
    Member::new("advisory", Form::Boolean, "Whether it is not to be executed without consent."),
    Member::new("binding_dimension", Form::Choice(NAMES), "The resource that binds at most steps."),
    Member::new("expires_at", Form::Time, "When it is too old to be executed."),
    WARNINGS,
    Member::new("demand", Form::List(&Form::Object(SOURCE)), "What it was made from."),
    Member::new("etag", Form::Text, "What scaling_execute takes as If-Match."),
];

/// `POST /scaling/plan`.
pub(crate) const OPERATION: Operation = Operation {
    name: "scaling_plan",
    does: "Plans the capacity of a service from forecasts of its demand, with cost, and keeps the plan.",
    parameters: &[
        SERVICE,
        DEMAND,
        HORIZON,
        STEP,
        AS_OF,
        Parameter::new("strategy", Kind::Choice(STRATEGIES), "How capacity may be changed.").or("\"auto\""),
        SLO,
        UNIT,
        BOUNDS,
        Parameter::new("sizes", Kind::List(&Kind::Object(SIZE), 64), "Sizes of units, the present one first."),
        Parameter::new("regions", Kind::List(&Kind::Object(REGION), 64), "Where units may run."),
        Parameter::new(
            "units",
            Kind::Integer(0, 1_000_000),
            "Units now; as many as demand needs where it is left out.",
        ),
        Parameter::new("budget_per_day", Kind::Number(0.0, 1e12), "The most that a day may cost."),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: Some(Component::Scaling),
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
    let sources = sources(subject, &ask)?;
    let mut outlooks = Vec::with_capacity(sources.len());
    for source in &sources {
        outlooks.push(outlook(subject, &ask, source).await?);
    }
    let request = request(invocation, &ask, &outlooks)?;
    let made = plan(&request).map_err(|error| Error::from(Refusal::new(Refused::InvalidValue, error.to_string())))?;
    let id = invocation.new_id();
    let steps: Value = made.steps.iter().map(|step| timed(step, "at")).collect::<Result<Vec<_>>>()?.into();
    let answer = json!({
        "plan_id": id,
        "service": invocation.word("service"),
        "strategy": made.strategy,
        "steps": steps,
        "expected": made.expected,
        "confidence": made.confidence,
        "advisory": made.advisory,
        "binding_dimension": made.binding_dimension,
        "expires_at": rfc3339(made.expires_at_s * 1_000_000),
        "warnings": made.warnings,
        "demand": sources.iter().zip(&outlooks).map(|(source, outlook)| json!({
            "metric": source.metric, "resource": source.resource, "now": outlook.now,
            "accuracy": { "wape": outlook.wape, "coverage": outlook.coverage },
        })).collect::<Vec<_>>(),
        "etag": id,
    });
    keep(invocation, &id, &made, &answer).await?;
    Ok(answer)
}

fn request(invocation: &Invocation, ask: &Ask, outlooks: &[Outlook]) -> Result<Request> {
    let argument = |name: &str| invocation.arguments.get(name).cloned().unwrap_or_else(|| json!([]));
    let number = |object: &str, name: &str| invocation.arguments[object][name].as_f64().unwrap_or_default();
    let count = |object: &str, name: &str| {
        let count = invocation.arguments[object][name].as_u64().unwrap_or_default();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let read = |error: serde_json::Error| Error::Internal(format!("checked arguments do not fit: {error}"));
    let bounds =
        Bounds { min: count("bounds", "min"), max: count("bounds", "max"), max_step: count("bounds", "max_step") };
    // The resource that needs most units is what there is now.
    let needed = outlooks.iter().map(|outlook| outlook.now / outlook.load.capacity).fold(0.0, f64::max).ceil();
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "held within the bounds before")]
    let needed = needed.clamp(f64::from(bounds.min), f64::from(bounds.max.max(bounds.min))) as u32;
    let given = invocation.arguments.get("units").and_then(Value::as_u64).and_then(|units| u32::try_from(units).ok());
    Ok(Request {
        strategy: serde_json::from_value::<Strategy>(argument("strategy")).map_err(read)?,
        from_s: ask.until_us.div_euclid(1_000_000),
        step_s: u32::try_from(ask.step_us / 1_000_000).unwrap_or(u32::MAX),
        capacity_share: number("slo", "capacity_share"),
        startup_s: count("unit", "startup_s"),
        cost_per_hour: number("unit", "cost_per_hour"),
        bounds,
        budget_per_day: invocation.arguments.get("budget_per_day").and_then(Value::as_f64),
        units: given.unwrap_or(needed),
        loads: outlooks.iter().map(|outlook| outlook.load.clone()).collect(),
        sizes: serde_json::from_value::<Vec<Size>>(argument("sizes")).map_err(read)?,
        regions: serde_json::from_value::<Vec<Region>>(argument("regions")).map_err(read)?,
        confidence: outlooks.iter().map(|outlook| outlook.confidence).fold(1.0, f64::min),
        confidence_threshold: invocation.settings.scaling_confidence,
    })
}

async fn keep(invocation: &Invocation, id: &str, made: &Plan, answer: &Value) -> Result<()> {
    let insert = "INSERT INTO juno_scaling_plans (id, created_at, created_by, service, strategy, request, steps, expected, \
                  confidence, advisory, binding_dimension, warnings, expires_at) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let values = [
        id.into(),
        invocation.now().into(),
        invocation.actor().into(),
        answer["service"].clone(),
        answer["strategy"].clone(),
        Value::Object(invocation.arguments.clone()),
        answer["steps"].clone(),
        answer["expected"].clone(),
        made.confidence.into(),
        made.advisory.into(),
        answer["binding_dimension"].clone(),
        answer["warnings"].clone(),
        answer["expires_at"].clone(),
    ];
    invocation.own.changed_rows(insert, &values).await?;
    invocation.own.tell("scaling", id, json!({ "status": "planned", "service": answer["service"] })).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::actuator::fake::World;

    /// The replica hours that a plan expects for 60 requests, and for what the request says of them.
    async fn hours(world: &World, more: Value) -> f64 {
        let mut asked = json!({ "service": "shop", "horizon": "1h", "step": "5m", "strategy": "horizontal" });
        for (name, value) in more.as_object().expect("an object") {
            asked[name] = value.clone();
        }
        let plan = world.ask(&OPERATION, ("ada", Role::Operator), asked).await.expect("a plan").value;
        plan["expected"]["replica_hours"].as_f64().expect("a number")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_capacity_of_a_unit_is_that_of_every_demand_that_names_none() {
        let world = World::open().await;
        for sql in [
            "CREATE TABLE load (time TIMESTAMPTZ, service TEXT, requests DOUBLE PRECISION) WITH (tags = 'service')",
            "INSERT INTO load SELECT now() - INTERVAL '5 minutes' * n, 'shop', 60 FROM generate_series(0, 288) AS g(n)",
        ] {
            world.own.query(sql).await.expect("rows");
        }
        let unit = json!({ "capacity": 10 });
        let demand =
            |capacity: Value| json!([{ "resource": "requests", "metric": "load.requests", "capacity": capacity }]);
        let few = hours(&world, json!({ "demand": demand(json!(10)) })).await;
        let many = hours(&world, json!({ "demand": demand(Value::Null) })).await;
        assert!(many > 5.0 * few, "{many} with a capacity of 1, {few} with one of 10");
        for same in [
            json!({ "unit": unit, "demand": demand(Value::Null) }),
            json!({ "unit": unit }),
            json!({ "unit": { "capacity": 1 }, "demand": demand(json!(10)) }),
        ] {
            assert!((hours(&world, same.clone()).await - few).abs() < 1e-6, "{same}");
        }
    }
}
