//! `healing_remediate`: does something about an incident, looks whether that healed it, and takes it back where it did not.
//!
//! **Invariant:** nothing is done that a guard refuses; what was done is in `juno_intents`, `juno_remediations` and the incident's
//! row, however it ended.

mod asked;
mod carry_out;
mod past;
pub(crate) mod standing;

use serde_json::Value;

use self::asked::Asked;
use self::carry_out::Work;
use super::AUTOPILOT;
use super::incident::IncidentChange;
use super::policy::cause::CAUSE_NAMES;
use super::policy::guard::{self, Guard, Verdict};
use super::policy::status::Status;
use crate::Result;
use crate::operation::{Component, Decision, Doing, Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::{Invocation, Session};

const TARGET: &[Parameter] = &[
    Parameter::new("executor", Kind::Text, "What acts on it: process, kubernetes or webhook."),
    Parameter::new("namespace", Kind::Text, "The namespace that it must be in."),
    Parameter::new("kind", Kind::Text, "What it must be there: process, deployment, statefulset."),
    Parameter::new("name", Kind::Text, "Its name there.").required(),
];
const VERIFY: &[Parameter] = &[
    Parameter::new(
        "metric",
        Kind::Text,
        "What is looked at: healthy, error_excess, latency_ratio, memory_ratio, disk_share.",
    ),
    Parameter::new("sql", Kind::Text, "A SELECT of one number instead."),
    Parameter::new("condition", Kind::Text, "What it must be: <= or >= and a number; in place of is and value."),
    Parameter::new(
        "is",
        Kind::Choice(&["at_most", "at_least"]),
        "How it is compared with the value; at_most where it is left out.",
    ),
    Parameter::new("value", Kind::Number(f64::MIN, f64::MAX), "With what."),
    Parameter::new("hold", Kind::Integer(1, 60), "By how many looks in a row, one a second.").or("3"),
    Parameter::new("within_s", Kind::Integer(1, 600), "How soon after the action.").or("120"),
];

/// `POST /healing/remediate`.
pub(crate) const OPERATION: Operation = Operation {
    name: "healing_remediate",
    does: "Does something about an incident, verifies that it healed, and takes it back where it did not.",
    parameters: &[
        Parameter::new("incident_id", Kind::Id, "The incident.").required(),
        Parameter::new(
            "action",
            Kind::Text,
            "restart, scale, rollback, failover, rebalance, config_correct, cordon, clean_disk or runbook:NAME.",
        )
        .required(),
        Parameter::new(
            "cause",
            Kind::Choice(&CAUSE_NAMES),
            "What it is done against; the diagnosis says where it is left out.",
        ),
        Parameter::new("target", Kind::Object(TARGET), "On what; the incident's service where it is left out."),
        Parameter::new(
            "params",
            Kind::Map,
            "How: replicas or add of scale, config of config_correct, nice of rebalance, node of cordon.",
        ),
        Parameter::new("approval", Kind::Choice(&["auto", "required"]), "Whether another person must approve anyway.")
            .or("\"auto\""),
        Parameter::new(
            "verify",
            Kind::Object(VERIFY),
            "How to see that it healed; the runbook says where it is left out.",
        ),
        Parameter::new("rollback_on_failure", Kind::Boolean, "Whether to take it back where it did not heal.")
            .or("true"),
        Parameter::new("timeout_s", Kind::Integer(1, 600), "How long each step may take.").or("300"),
    ],
    role: Role::Responder,
    effect: Effect::Acts,
    component: Some(Component::SelfHealing),
    lasts: Lasts::Long,
    matched: false,
    answers: Form::Object(carry_out::ANSWER),
    plans: asked::PLAN,
    refuses: &[
        Refused::MissingField,
        Refused::InvalidValue,
        Refused::NotFound,
        Refused::AlreadyResolved,
        Refused::UnknownTarget,
        Refused::PolicyDenied,
        Refused::ProtectedTarget,
        Refused::Concurrent,
        Refused::CooldownActive,
        Refused::BudgetExhausted,
        Refused::CircuitOpen,
        Refused::KillSwitch,
        Refused::Conflict,
        Refused::Interrupted,
        Refused::TargetTimeout,
    ],
    decide: Some(|invocation| decide(invocation)),
    run: |invocation| run(invocation),
};

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(async move {
        let asked = Asked::of(invocation).await?;
        let verdict = asked.verdict(invocation).await?;
        let approval = match verdict.decision {
            guard::Decision::Deny if invocation.dry_run() && is_enabled(&verdict) => None,
            guard::Decision::Deny => return Err(denied(&verdict).into()),
            guard::Decision::NeedsApproval => verdict.refusal().map(|ruling| ruling.reason.clone()),
            guard::Decision::Allow | guard::Decision::DryRun => None,
        };
        Ok(Decision { plan: asked.plan(&verdict), approval })
    })
}

/// Whether healing is on: a dry run is told of whatever else denies it, and not refused.
fn is_enabled(verdict: &Verdict) -> bool {
    verdict.rules.iter().all(|ruling| ruling.passed || ruling.rule != Guard::Enabled)
}

/// The first guard that refuses for another reason than a missing approval, as a refusal.
fn denied(verdict: &Verdict) -> Refusal {
    let ruling = verdict.rules.iter().find(|ruling| !ruling.passed && ruling.rule != Guard::Approval);
    let (kind, text) = ruling.map_or((Refused::PolicyDenied, "a guard refuses"), |ruling| {
        let kind = match ruling.rule {
            Guard::Enabled => Refused::ComponentDisabled,
            Guard::KillSwitch => Refused::KillSwitch,
            Guard::FreezeWindow => Refused::Frozen,
            Guard::ProtectedTarget => Refused::ProtectedTarget,
            Guard::TargetLock => Refused::Concurrent,
            Guard::CoolDown => Refused::CooldownActive,
            Guard::ActionBudget => Refused::BudgetExhausted,
            Guard::CircuitBreaker => Refused::CircuitOpen,
            Guard::BlastRadius | Guard::Approval => Refused::PolicyDenied,
        };
        (kind, ruling.reason.as_str())
    });
    Refusal::new(kind, text)
}

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(remediate(invocation))
}

/// Moves the incident on to its remediation.
async fn move_on(own: &Session, asked: &Asked) -> Result<()> {
    let to = |status| IncidentChange { status: Some(status), ..IncidentChange::default() };
    if asked.incident.status == Status::Open {
        own.change_incident(&asked.incident.id, to(Status::Diagnosing)).await?;
    }
    let reason = Some(format!("{} of {}", asked.runbook.name, asked.found.target.name));
    own.change_incident(&asked.incident.id, IncidentChange { reason, ..to(Status::Remediating) }).await?;
    Ok(())
}

/// Refuses where people have closed the incident just before its remediation began; from then on they may not.
async fn still_open(own: &Session, id: &str) -> Result<()> {
    let _turn = own.operations().incidents.lock().await;
    if own.incident(id).await?.status == Status::Resolved {
        return Err(Refusal::new(Refused::AlreadyResolved, "the incident is resolved").at("/incident_id").into());
    }
    Ok(())
}

async fn remediate(invocation: &Invocation) -> Result<Value> {
    let asked = Asked::of(invocation).await?;
    let own = &invocation.own;
    let _turn = own.turn(asked.found.actuator.executor(), "", &asked.found.target.name)?;
    let id = invocation.new_id();
    let cooldown_s = asked.cooldown_s(own).await?;
    past::begin(invocation, &asked, &id, cooldown_s).await?;
    if let Err(error) = still_open(own, &asked.incident.id).await {
        past::cut_off(own, &id).await?;
        return Err(error);
    }
    let moves = asked.incident.status.is_under_way();
    if moves && let Err(error) = move_on(own, &asked).await {
        // People have closed it meanwhile.
        past::cut_off(own, &id).await?;
        return Err(error);
    }
    let mut work = Work::default();
    let done = work.carry_out(invocation, &asked, moves).await;
    let success = matches!(done, Ok(true));
    if !success && invocation.flag("rollback_on_failure") {
        work.take_back(invocation, &asked).await;
    }
    let mut told = work.told(&id, &asked, success);
    let by_autopilot = invocation.actor() == AUTOPILOT;
    let mut change = IncidentChange { action: Some(told.clone()), ..IncidentChange::default() };
    // Where telemetry showed it, telemetry shows whether it is over, and not the word of whoever was to heal it.
    let is_over = success && !(work.is_hearsay() && asked.incident.is_of_telemetry);
    if is_over && !by_autopilot {
        (change.status, change.success) = (Some(Status::Resolved), Some(true));
    } else if moves {
        change.status = Some(Status::Diagnosing);
    }
    let status = own.change_incident(&asked.incident.id, change).await;
    // Only now may people close the incident.
    past::end(own, &id, success).await?;
    let status = status?;
    done?;
    told["status"] = status.name().into();
    let resolved = "SELECT resolution_time_seconds FROM healing_incidents WHERE id = $1";
    let row = own.objects(resolved, &[asked.incident.id.as_str().into()]).await?.pop();
    told["resolution_time_seconds"] = row.and_then(|mut row| row.remove("resolution_time_seconds")).unwrap_or_default();
    Ok(told)
}

#[cfg(test)]
mod tests;
