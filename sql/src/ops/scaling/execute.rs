//! `scaling_execute`: changes the units of a target, by a step of a plan or as a person asks.
//!
//! **Invariant:** what may be done, [`super::policy::verdict`] and [`super::policy::execution`] say; the event's row is there before
//! the order is given, and says what came of it afterwards.

pub(super) mod asked;
pub(crate) mod event;

use std::time::Duration;

use serde_json::{Value, json};

use self::asked::Asked;
use self::event::Event;
use super::demand::NAMES;
use crate::actuator::{Action, Observation};
use crate::operation::{
    Component, Decision, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused, answer,
};
use crate::role::Role;
use crate::session::{Found, Invocation, refused};
use crate::{Error, Result};

/// Between two looks whether units are ready.
const LOOK: Duration = Duration::from_millis(200);

/// What units are of.
pub(super) const TARGET: &[Parameter] = &[
    Parameter::new("executor", Kind::Text, "Its actuator; any that knows the name where it is left out."),
    Parameter::new("name", Kind::Text, "Its name.").required(),
];

const RULES: &[Member] = &[
    Member::new("units", Form::List(&Form::Integer), "The fewest and the most units."),
    Member::new("units_at_a_time", Form::Integer, "The largest change that nobody need agree to."),
    Member::new("cooldown_s", Form::Integer, "The least time between two changes to fewer, in seconds."),
    Member::new("confidence", Form::Number, "The confidence that a plan must have."),
    Member::new("exceptions", Form::List(&Form::Text), "Why another person must agree."),
];
const RULED: &[Member] = &[
    Member::new("decision", Form::Choice(&["allow", "needs_approval"]), "What they say together."),
    Member::new("rules", Form::Object(RULES), "The rules."),
];
const BLAST_RADIUS: &[Member] = &[
    Member::new("targets", Form::Integer, "How many targets are changed."),
    Member::new("units", Form::Integer, "How many units come or go."),
];
const PLAN_ID: Member = Member::new("plan_id", Form::Id, "The plan that it is a step of.").or_null();
const STEP: Member = Member::new("step", Form::Integer, "The number of that step.").or_null();
const CHANGED: Member = Member::new("target", Form::Object(answer::TARGET), "What is changed.");
const SERVICE: Member = Member::new("service", Form::Text, "The service.");
const RESOURCE: Member = Member::new("resource", Form::Text, "The resource that it is for.");
const FROM: Member = Member::new("from", Form::Integer, "The units before.");
const TO: Member = Member::new("to", Form::Integer, "The units that there shall be.");
const POLICY: Member = Member::new("policy", Form::Object(RULED), "What the rules say of it.");
const COOLDOWN: Member =
    Member::new("cooldown_until", Form::Time, "Until when there may not be fewer units again.").or_null();
const PLAN: &[Member] = &[
    PLAN_ID,
    STEP,
    CHANGED,
    SERVICE,
    RESOURCE,
    FROM,
    TO,
    Member::new("reason", Form::Text, "Why."),
    POLICY,
    COOLDOWN,
    Member::new("blast_radius", Form::Object(BLAST_RADIUS), "How much it touches."),
];
const ANSWER: &[Member] = &[
    Member::new("event_id", Form::Id, "The row of the history."),
    PLAN_ID,
    STEP,
    CHANGED,
    SERVICE,
    RESOURCE,
    FROM,
    TO,
    Member::new("applied_at", Form::Time, "When the order was carried out.").or_null(),
    Member::new("observed_ready_at", Form::Time, "When all units were ready; null where another change came.")
        .or_null(),
    POLICY,
    COOLDOWN,
    Member::new("verified_after", Form::Time, "When it is known what it brought."),
];

/// `POST /scaling/execute`.
pub(crate) const OPERATION: Operation = Operation {
    name: "scaling_execute",
    does: "Changes the units of a target, by a step of a plan or as asked for, and waits until they are ready.",
    parameters: &[
        Parameter::new("plan_id", Kind::Id, "The plan, whose ETag must be given as If-Match."),
        Parameter::new("step", Kind::Any, "The number of the plan's step, from 0, or \"now\": the last that is due."),
        Parameter::new("target", Kind::Object(TARGET), "What is changed; the plan's service where it is left out."),
        Parameter::new("resource", Kind::Choice(NAMES), "Without a plan: the resource that it is for."),
        Parameter::new("to", Kind::Integer(0, 1_000_000), "Without a plan: the units that there shall be."),
        Parameter::new("reason", Kind::Text, "Why; required without a plan."),
        Parameter::new("force", Kind::Boolean, "Whether an approver is asked where the forecast is not sure enough.")
            .or("false"),
        Parameter::new("timeout_s", Kind::Integer(1, 600), "How long the change may take until its units are ready.")
            .or("120"),
    ],
    role: Role::Operator,
    effect: Effect::Acts,
    component: Some(Component::Scaling),
    lasts: Lasts::Long,
    matched: true,
    answers: Form::Object(ANSWER),
    plans: PLAN,
    refuses: &[
        Refused::InvalidValue,
        Refused::MissingField,
        Refused::NotFound,
        Refused::UnknownTarget,
        Refused::AlreadyAtTarget,
        Refused::CooldownActive,
        Refused::LowConfidence,
        Refused::PlanExpired,
        Refused::Conflict,
        Refused::Interrupted,
        Refused::TargetTimeout,
    ],
    decide: Some(decide),
    run,
};

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(async move {
        let asked = Asked::of(invocation).await?;
        let ruled = asked.ruled(invocation).await?;
        Ok(Decision { plan: asked.plan(&ruled), approval: ruled.approval })
    })
}

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(execute(invocation))
}

async fn execute(invocation: &Invocation) -> Result<Value> {
    let own = &invocation.own;
    let found = Asked::of(invocation).await?.found;
    let turn = own.turn(found.actuator.executor(), "", &found.target.name)?;
    // Nobody else acts on it from here on: what is there now is judged once more.
    let asked = Asked::of(invocation).await?;
    let ruled = asked.ruled(invocation).await?;
    invocation.progress(0.1).await?;
    let mut event = Event::new(invocation, &asked, &ruled.policy).await?;
    event.begin(own).await?;
    let timeout_s = invocation.arguments["timeout_s"].as_u64().unwrap_or(120);
    let order = (Action::Scale, json!({ "replicas": asked.to }), timeout_s * 1_000);
    let given = own.give_order(invocation.mandate(Some(&event.id)), &asked.found, order).await;
    if let Err(error) = given {
        event.end(own, "failed").await?;
        return Err(error);
    }
    event.applied(own).await?;
    // Units take long to be ready, and more of them must not wait for that.
    drop(turn);
    let ready = ready(invocation, &asked, &event, timeout_s).await;
    match &ready {
        Ok(state) => event.end(own, state).await?,
        Err(_) => event.end(own, "not_ready").await?,
    }
    ready?;
    Ok(event.told(&asked, &ruled))
}

/// Waits until there are as many units as asked for, all ready: `ready`; or until another change took its place: `superseded`.
async fn ready(invocation: &Invocation, asked: &Asked, event: &Event, timeout_s: u64) -> Result<&'static str> {
    let Found { actuator, target, .. } = &asked.found;
    let clock = invocation.own.db().system().clock();
    let until_us = clock.monotonic_us() + timeout_s * 1_000_000;
    let mut last: Option<Error> = None;
    loop {
        match actuator.observe(&target.name).await {
            Ok(observed) if units_ready(&observed) == asked.to as usize => return Ok("ready"),
            Ok(observed) if observed.wanted != asked.to as usize && event.is_superseded(&invocation.own).await? => {
                return Ok("superseded");
            }
            Ok(_) => {}
            Err(error) => last = Some(refused(error)),
        }
        if clock.monotonic_us() >= until_us {
            let text = format!(
                "\"{}\" was ordered to have {} units, and they were not ready within {timeout_s} s",
                target.name, asked.to
            );
            return Err(last.unwrap_or_else(|| Refusal::new(Refused::TargetTimeout, text).into()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Units that run and are not known to be ill; where the actuator tells of none, those that there should be.
pub(super) fn units_ready(observed: &Observation) -> usize {
    match observed.replicas.as_slice() {
        [] => observed.wanted,
        replicas => {
            let is_ready = |state: &str, is_healthy: Option<bool>| state == "running" && is_healthy != Some(false);
            replicas.iter().filter(|replica| is_ready(&replica.state, replica.is_healthy)).count()
        }
    }
}

#[cfg(test)]
mod tests;
