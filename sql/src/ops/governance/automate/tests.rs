//! A runbook of medium risk at the level medium: asked about, until people have approved it often enough, and again once it failed.

use std::sync::Arc;

use super::*;
use crate::operation::{Automation, HouseRules, OperationSettings};
use crate::ops::actuator::fake::World;
use crate::ops::healing::{policy, remediate};
use crate::role::{Role, User};
use crate::{Answered, IncidentOpening};

/// So many in a row are enough, and one fewer is not.
const ENOUGH: u32 = 73;

/// A database whose target `till` can fail over, with an incident of it.
async fn open() -> (World, Session, String) {
    let world = World::open().await;
    world.fake.add_with_standby("till");
    let symptoms = json!({ "service": "till" });
    let severity = policy::severity::Severity::High;
    let opening = IncidentOpening { incident_type: "performance".into(), severity, symptoms };
    let incident = world.own.open_incident(&opening).await.expect("an incident");
    let autopilot = world.own.connect_as(User { name: AUTOPILOT.into(), role: Some(Role::Responder) });
    (world, autopilot, incident)
}

/// Requests that were decided so many minutes ago, a minute apart: who asked, what was decided, and whether the run healed.
async fn decided(world: &World, (from, count): (u32, u32), by: &str, state: &str, healed: bool) {
    for n in from..from + count {
        let (job, approval) =
            (format!("00000000-0000-7000-8000-1{n:011}"), format!("00000000-0000-7000-8000-2{n:011}"));
        let minutes = 1_000 - n;
        for row in [
            format!(
                "INSERT INTO juno_jobs (id, kind, state, progress, created_at, arguments, result, actor) VALUES ('{job}', \
                 'healing_remediate', 'succeeded', 1, now(), '{{}}', '{{\"success\": {healed}}}', '{by}')"
            ),
            format!(
                "INSERT INTO juno_approvals (id, requested_at, requested_by, operation, arguments, plan, reason, state, expires_at, \
                 decided_at, decided_by, job_id) VALUES ('{approval}', now(), '{by}', 'healing_remediate', '{{}}', \
                 '{{\"runbook\": \"failover\"}}', 'risk', '{state}', now(), now() - INTERVAL '{minutes} minutes', 'bob', '{job}')"
            ),
        ] {
            world.own.query(&row).await.expect("a row");
        }
    }
}

async fn adapted(world: &World, autopilot: &Session) -> Vec<&'static str> {
    let all = world.own.adapt(autopilot).await.expect("it looks");
    all.into_iter().filter(|one| one.policy_type == APPROVALS).map(|one| one.what).collect()
}

async fn ask(world: &World, incident: &str, dry_run: bool) -> Answered {
    let asked = json!({ "incident_id": incident, "action": "runbook:failover", "dry_run": dry_run });
    world.ask(&remediate::OPERATION, (AUTOPILOT, Role::Responder), asked).await.expect("an answer")
}

async fn decision(world: &World, incident: &str) -> String {
    let told = ask(world, incident, true).await.value;
    told["policy"]["decision"].as_str().unwrap_or_default().to_owned()
}

/// A remediation by the loop that did not heal.
async fn fail(world: &World, incident: &str) {
    let failed = format!(
        "INSERT INTO juno_remediations (id, incident_id, runbook, executor, target, actor, began_at, cooldown_until, ended_at, \
         state) VALUES ('00000000-0000-7000-8000-300000000000', '{incident}', 'failover', 'fake', 'till', '{AUTOPILOT}', now(), \
         now(), now(), 'failed')"
    );
    world.own.query(&failed).await.expect("a row");
}

/// What a person proposes, and rails allow.
async fn proposed_by_ada(world: &World, policy: Value) -> Value {
    let change = json!({ "policy_type": "approvals", "policy": policy, "reason": "a test" });
    let done = world.ask_matching(&propose::OPERATION, ("ada", Role::Operator), change, Some("*")).await;
    done.expect("it is allowed").value
}

fn house_rules(rule: &str) -> OperationSettings {
    let rules = format!("package juno\n{rule} contains \"by hand\" if {{ input.operation == \"governance_propose\" }}");
    let rules = Some(Arc::new(HouseRules::parse("house.rego", &rules).expect("rules")));
    OperationSettings { rules, ..OperationSettings::default() }
}

fn set(world: &World, settings: OperationSettings) {
    world.own.set_operations(settings, |_| Value::Null);
}

#[test]
fn one_failure_and_one_change_begin_the_count_anew() {
    let known: Vec<Known> = (1..=9).map(|at_us| Known { at_us, is_good: at_us != 3 }).collect();
    assert_eq!([i64::MIN, 3, 7, 9].map(|since_us| in_a_row(&known, since_us)), [6, 6, 2, 0]);
    let since = |at_us, policy: Value| Since { at_us, policy: policy.as_object().cloned().unwrap_or_default() };
    let audited = [
        since(1, json!({ "failover": 1 })),
        since(2, json!({ "failover": 1, "restart": 1 })),
        since(3, json!({ "failover": 0, "restart": 1 })),
    ];
    assert_eq!(["failover", "restart", "scale"].map(|runbook| changed_us(&audited, runbook)), [3, 2, i64::MIN]);
    let enough = u64::from(ENOUGH);
    assert!(is_earned(enough) && !is_earned(enough - 1) && !is_earned(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_always_approve_is_asked_about_no_more_until_it_fails() {
    let (world, autopilot, incident) = open().await;
    decided(&world, (0, ENOUGH - 1), AUTOPILOT, "approved", true).await;
    assert!(adapted(&world, &autopilot).await.is_empty());
    assert_eq!(decision(&world, &incident).await, "needs_approval");
    decided(&world, (ENOUGH, 1), AUTOPILOT, "approved", true).await;
    assert_eq!(adapted(&world, &autopilot).await, ["proposed"]);
    assert_eq!(decision(&world, &incident).await, "dry_run", "the guards let it pass");
    let row = world.row("SELECT old_policy, new_policy, adaptation_reason FROM governance_adaptations").await;
    assert_eq!((&row["old_policy"], row["new_policy"]["failover"].as_f64()), (&json!({}), Some(1.0)));
    assert!(row["adaptation_reason"].as_str().is_some_and(|why| why.contains("73 times in a row")), "{row:?}");
    let approved = world.row("SELECT runbooks FROM healing_status").await["runbooks"].clone();
    let book = approved.as_array().and_then(|all| all.iter().find(|book| book["name"] == "failover")).cloned();
    assert_eq!(book.map(|book| book["auto_approved"].clone()), Some(json!(true)));
    // The level and the rules of the house stand above it.
    set(&world, OperationSettings { healing: Automation::Low, ..OperationSettings::default() });
    assert_eq!(decision(&world, &incident).await, "needs_approval");
    let rules = "package juno\nask contains \"by hand\" if { input.operation == \"healing_remediate\" }";
    let rules = Some(Arc::new(HouseRules::parse("ask.rego", rules).expect("rules")));
    set(&world, OperationSettings { rules, ..OperationSettings::default() });
    assert_eq!(ask(&world, &incident, false).await.value["state"], "awaiting_approval");
    set(&world, OperationSettings::default());
    assert_eq!(decision(&world, &incident).await, "dry_run");
    fail(&world, &incident).await;
    assert_eq!(decision(&world, &incident).await, "needs_approval", "at once");
    assert_eq!(adapted(&world, &autopilot).await, ["measured", "rolled_back"]);
    let row = world.row("SELECT rollback_at, effectiveness_score FROM governance_adaptations").await;
    assert_eq!((row["rollback_at"].is_null(), row["effectiveness_score"].as_f64()), (false, Some(0.0)));
    let policy = world.row("SELECT policy, version FROM juno_policies WHERE policy_type = 'approvals'").await;
    assert_eq!((&policy["policy"], &policy["version"]), (&json!({}), &json!(3)));
    assert!(adapted(&world, &autopilot).await.is_empty(), "what was earned before counts no more");
    assert_eq!(decision(&world, &incident).await, "needs_approval");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_and_what_people_asked_for_themselves_earn_nothing() {
    let (world, autopilot, _) = open().await;
    decided(&world, (0, 80), "ada", "approved", true).await;
    decided(&world, (100, 60), AUTOPILOT, "approved", true).await;
    decided(&world, (160, 1), AUTOPILOT, "denied", false).await;
    decided(&world, (161, 60), AUTOPILOT, "approved", true).await;
    assert!(adapted(&world, &autopilot).await.is_empty());
    let change = json!({ "policy_type": "approvals", "policy": { "failover": 1 }, "reason": "a test" });
    let ada = ("ada", Role::Operator);
    let asked = world.ask_matching(&propose::OPERATION, ada, change, Some("*")).await.expect("a job");
    assert_eq!(asked.value["state"], "awaiting_approval", "another person may allow it all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_forgotten_by_no_row_that_people_write_and_by_no_other_change() {
    let (world, _, incident) = open().await;
    let automated = "UPDATE juno_policies SET policy = '{\"failover\": 1}', changed_at = now() - INTERVAL '1 hour' \
                     WHERE policy_type = 'approvals'";
    world.own.query(automated).await.expect("a policy");
    assert_eq!(decision(&world, &incident).await, "dry_run");
    fail(&world, &incident).await;
    assert_eq!(decision(&world, &incident).await, "needs_approval");
    let forged = "INSERT INTO governance_adaptations (id, timestamp, policy_type, old_policy, new_policy, adaptation_reason) \
                  VALUES (gen_random_uuid(), now() + INTERVAL '1 minute', 'approvals', '{}', '{\"failover\": 1}', 'none')";
    world.own.query(forged).await.expect("a row");
    assert_eq!(decision(&world, &incident).await, "needs_approval");
    let done = proposed_by_ada(&world, json!({ "restart": 0 })).await;
    assert_eq!(done["new_policy"], json!({ "failover": 0, "restart": 0 }), "what had failed by then is over");
    assert_eq!(decision(&world, &incident).await, "needs_approval");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_took_back_is_counted_anew_whatever_the_adaptations_say() {
    let (world, autopilot, incident) = open().await;
    decided(&world, (0, ENOUGH), AUTOPILOT, "approved", true).await;
    assert_eq!(adapted(&world, &autopilot).await, ["proposed"]);
    proposed_by_ada(&world, json!({ "failover": 0 })).await;
    world.own.query("DELETE FROM governance_adaptations").await.expect("no rows");
    assert!(adapted(&world, &autopilot).await.is_empty());
    assert_eq!(decision(&world, &incident).await, "needs_approval");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_are_asked_about_or_have_refused_is_not_proposed_again_at_once() {
    let (world, autopilot, _) = open().await;
    decided(&world, (0, ENOUGH), AUTOPILOT, "approved", true).await;
    set(&world, house_rules("ask"));
    assert_eq!(adapted(&world, &autopilot).await, ["proposed"]);
    assert!(adapted(&world, &autopilot).await.is_empty(), "it waits");
    let denied = async |ago: &str| {
        let set = format!(
            "UPDATE juno_approvals SET state = 'denied', decided_at = now() - INTERVAL '{ago}' \
             WHERE operation = 'governance_propose'"
        );
        world.own.query(&set).await.expect("a denial");
    };
    denied("1 hour").await;
    assert!(adapted(&world, &autopilot).await.is_empty(), "it was denied");
    denied("25 hours").await;
    assert_eq!(adapted(&world, &autopilot).await, ["proposed"], "and a day later it may be asked again");
    let asked = world.rows("SELECT id FROM juno_approvals WHERE operation = 'governance_propose'").await;
    assert_eq!(asked.len(), 2);

    let (world, autopilot, _) = open().await;
    decided(&world, (0, ENOUGH), AUTOPILOT, "approved", true).await;
    set(&world, house_rules("deny"));
    assert_eq!(adapted(&world, &autopilot).await, ["refused"]);
    assert!(adapted(&world, &autopilot).await.is_empty(), "it was refused");
}
