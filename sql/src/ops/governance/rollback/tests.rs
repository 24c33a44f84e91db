//! Going back: at once to what is stricter, after an approval to what is much looser, and never by a row that people wrote.

use std::sync::Arc;
use std::time::Duration;

use super::super::propose;
use super::*;
use crate::Answered;
use crate::operation::{HouseRules, OperationSettings};
use crate::ops::actuator::fake::{World, refusal};
use crate::ops::operations::approvals;

const BOB: (&str, Role) = ("bob", Role::Responder);

async fn changed(world: &World, sql: &str) {
    world.own.query(sql).await.expect("a change");
}

/// Proposes something that rails allow; gives the adaptation.
async fn proposed(world: &World, policy_type: &str, policy: Value) -> String {
    let asked = json!({ "policy_type": policy_type, "policy": policy, "reason": "a test" });
    let done = world.ask_matching(&propose::OPERATION, ("ada", Role::Operator), asked, Some("*")).await;
    done.expect("it is allowed").value["adaptation_id"].as_str().expect("an id").to_owned()
}

async fn back(world: &World, id: &str) -> Result<Answered> {
    world.ask_matching(&OPERATION, BOB, json!({ "id": id, "reason": "a test" }), Some("*")).await
}

async fn member(world: &World, policy_type: &str, key: &str) -> Option<f64> {
    let row = world.row(&format!("SELECT policy FROM juno_policies WHERE policy_type = '{policy_type}'")).await;
    row["policy"][key].as_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_without_asking_is_not_switched_on_by_going_back() {
    let world = World::open().await;
    changed(&world, "UPDATE juno_policies SET policy = '{\"failover\": 1}' WHERE policy_type = 'approvals'").await;
    let id = proposed(&world, "approvals", json!({ "failover": 0 })).await;
    let waits = back(&world, &id).await.expect("a job").value;
    assert_eq!(waits["state"], "awaiting_approval", "{waits}");
    assert_eq!(member(&world, "approvals", "failover").await, Some(0.0));
    let approval = json!({ "id": waits["approval_id"] });
    world.ask(&approvals::APPROVE, ("eve", Role::Approver), approval).await.expect("an approval");
    let state = format!("SELECT state, error FROM juno_jobs WHERE id = '{}'", waits["id"].as_str().expect("an id"));
    let mut job = world.row(&state).await;
    while job["state"] == "queued" || job["state"] == "running" {
        tokio::time::sleep(Duration::from_millis(20)).await;
        job = world.row(&state).await;
    }
    assert_eq!(job["state"], "succeeded", "{job:?}");
    assert_eq!(member(&world, "approvals", "failover").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_people_wrote_puts_nothing_in_force() {
    let world = World::open().await;
    let forged = "00000000-0000-7000-8000-0000000000aa";
    let policy = |actions: u32| {
        format!(
            "{{\"actions_per_hour\": {actions}, \"blast_radius_pct\": 20, \"cooldown_s\": 300, \"circuit_failures\": 3}}"
        )
    };
    let id = proposed(&world, "healing", json!({ "actions_per_hour": 9 })).await;
    let insert = format!(
        "INSERT INTO governance_adaptations (id, timestamp, policy_type, old_policy, new_policy, adaptation_reason) \
         VALUES ('{forged}', now() + INTERVAL '1 hour', 'healing', '{}', '{}', 'none')",
        policy(10),
        policy(9)
    );
    changed(&world, &insert).await;
    assert_eq!(refusal(back(&world, forged).await), Refused::Conflict);
    let old = async |text: &str| {
        let set =
            format!("UPDATE governance_adaptations SET old_policy = '{text}', rollback_at = NULL WHERE id = '{id}'");
        changed(&world, &set).await;
    };
    old(&policy(50)).await;
    assert_eq!(back(&world, &id).await.expect("a job").value["state"], "awaiting_approval");
    old("{\"actions_per_hour\": 8}").await;
    assert_eq!(back(&world, &id).await.expect("a job").value["state"], "awaiting_approval", "limits would be gone");
    old(&policy(500)).await;
    assert_eq!(refusal(back(&world, &id).await), Refused::PolicyDenied);
    assert_eq!(member(&world, "healing", "actions_per_hour").await, Some(9.0));
    old(&policy(10)).await;
    let done = back(&world, &id).await.expect("it is little").value;
    assert_eq!((&done["version"], member(&world, "healing", "actions_per_hour").await), (&json!(3), Some(10.0)));
    old(&policy(12)).await;
    assert_eq!(refusal(back(&world, &id).await), Refused::Conflict, "once, whatever its row says");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_the_house_stand_above_what_is_looser() {
    let world = World::open().await;
    let stricter = proposed(&world, "healing", json!({ "actions_per_hour": 9 })).await;
    let looser = proposed(&world, "scaling", json!({ "step_pct": 55 })).await;
    let rules = "package juno\ndeny contains \"not now\" if { input.operation == \"governance_rollback\" }";
    let rules = Some(Arc::new(HouseRules::parse("deny.rego", rules).expect("rules")));
    world.own.set_operations(OperationSettings { rules, ..OperationSettings::default() }, |_| Value::Null);
    assert_eq!(refusal(back(&world, &stricter).await), Refused::PolicyDenied);
    back(&world, &looser).await.expect("what makes things safer is not asked about");
    assert_eq!(member(&world, "scaling", "step_pct").await, Some(50.0));
}
