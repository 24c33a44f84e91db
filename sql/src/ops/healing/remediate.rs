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
use crate::operation::{Component, Decision, Doing, Effect, Kind, Lasts, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::{Invocation, Session};

const TARGET: &[Parameter] = &[
    Parameter::new("executor", Kind::Text, "What acts on it: process, kubernetes or webhook."),
    Parameter::new("name", Kind::Text, "Its name there.").required(),
];
const VERIFY: &[Parameter] = &[
    Parameter::new(
        "metric",
        Kind::Text,
        "What is looked at: healthy, error_excess, latency_ratio, memory_ratio, disk_share.",
    ),
    Parameter::new("sql", Kind::Text, "A SELECT of one number instead."),
    Parameter::new("is", Kind::Choice(&["at_most", "at_least"]), "How it is compared.").or("\"at_most\""),
    Parameter::new("value", Kind::Number(f64::MIN, f64::MAX), "With what.").required(),
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

async fn remediate(invocation: &Invocation) -> Result<Value> {
    let asked = Asked::of(invocation).await?;
    let own = &invocation.own;
    let _turn = own.turn(asked.found.actuator.executor(), "", &asked.found.target.name)?;
    let id = invocation.new_id();
    let cooldown_s = asked.cooldown_s(own).await?;
    past::begin(invocation, &asked, &id, cooldown_s).await?;
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
    if success && !by_autopilot {
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
    Ok(told)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::actuator::fake::{World, refusal};
    use crate::ops::healing::incident::IncidentOpening;
    use crate::ops::healing::policy::severity::Severity;

    const ADA: (&str, Role) = ("ada", Role::Responder);

    async fn world() -> (World, Value) {
        let world = World::open().await;
        let opening = IncidentOpening {
            incident_type: "performance".into(),
            severity: Severity::High,
            symptoms: json!({ "service": "shop" }),
        };
        let id = world.own.open_incident(&opening).await.expect("an incident");
        let target = json!({ "name": "shop" });
        (world, json!({ "incident_id": id, "action": "scale", "params": { "add": 1 }, "target": target }))
    }

    async fn freeze(world: &World, name: &str, service: Option<&str>) {
        let insert = "INSERT INTO juno_maintenance_windows (id, name, service, freeze, starts_at, ends_at, created_by, \
                      created_at) VALUES (gen_random_uuid(), $1, $2, true, now() - INTERVAL '1 hour', \
                      now() + INTERVAL '1 hour', 'ada', now())";
        world.own.changed_rows(insert, &[name.into(), service.into()]).await.expect("a window");
    }

    /// What a dry run says of a guard, and the decision.
    async fn told(world: &World, asked: &Value, guard: &str) -> (Value, Value, String) {
        let mut dry = asked.clone();
        dry["dry_run"] = true.into();
        let plan = world.ask(&OPERATION, ADA, dry).await.expect("a decision").value;
        let rules = plan["policy"]["rules"].as_array().expect("rules");
        let one = rules.iter().find(|one| one["rule"] == guard).expect("the guard");
        let reason = one["reason"].as_str().unwrap_or_default().to_owned();
        (plan["policy"]["decision"].clone(), one["passed"].clone(), reason)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dry_run_in_a_freeze_window_is_told_so_and_not_refused() {
        let (world, asked) = world().await;
        freeze(&world, "sale of others", Some("till")).await;
        let (decision, passed, _) = told(&world, &asked, "freeze-window").await;
        assert_eq!((decision, passed), (json!("dry_run"), json!(true)), "the window is another's");
        freeze(&world, "the sale", Some("shop")).await;
        let (decision, passed, reason) = told(&world, &asked, "freeze-window").await;
        assert_eq!((decision, passed), (json!("deny"), json!(false)));
        assert!(reason.contains("the sale"), "{reason}");
        assert_eq!(refusal(world.ask(&OPERATION, ADA, asked).await), Refused::Frozen);
        assert!(world.fake.orders.lock().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dry_run_is_told_of_the_kill_switch() {
        let (world, asked) = world().await;
        world.own.query("CALL kill_switch(true, 'drill')").await.expect("engaged");
        let (decision, passed, _) = told(&world, &asked, "kill-switch").await;
        assert_eq!((decision, passed), (json!("deny"), json!(false)));
        assert_eq!(refusal(world.ask(&OPERATION, ADA, asked).await), Refused::KillSwitch);
    }
}
