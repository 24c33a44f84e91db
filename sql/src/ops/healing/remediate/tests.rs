//! Remediations by a target that lies: what it says of itself is not enough.

mod dry_run;

use serde_json::{Map, Value, json};

use super::*;
use crate::ops::actuator::fake::{World, refusal, result};
use crate::ops::operations::approvals;

const ADA: (&str, Role) = ("ada", Role::Responder);
const INCIDENT: &str = "00000000-0000-7000-8000-0000000000cc";

/// An incident of `shop`, found by whom `source` says.
async fn world(source: &str) -> World {
    let world = World::open().await;
    let insert = "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) \
                  VALUES ($1, now(), 'performance', 'high', $2)";
    let symptoms = json!({ "service": "shop", "source": source });
    world.own.changed_rows(insert, &[INCIDENT.into(), symptoms]).await.expect("an incident");
    world
}

async fn incident(world: &World) -> Map<String, Value> {
    world.row("SELECT * FROM healing_incidents_list").await
}

async fn remediation(world: &World) -> Value {
    world.row("SELECT state FROM juno_remediations").await.remove("state").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_as_done_and_is_not_to_be_seen_is_taken_back_and_heals_nothing() {
    let world = world("people").await;
    *world.fake.lies.lock() = true;
    let more = json!({ "incident_id": INCIDENT, "action": "scale", "params": { "replicas": 3 } });
    let told = result(world.ask(&OPERATION, ADA, more).await);
    assert_eq!((&told["success"], &told["verification"]["passed"]), (&json!(false), &json!(false)), "{told:#}");
    let why = told["verification"]["contradiction"].as_str().expect("a reason");
    assert!(why.contains("still has 2 units and not 3"), "{why}");
    assert_eq!((&told["rolled_back"], &told["steps"][1]["name"]), (&json!(true), &json!("undo of scale")));
    let orders = world.rows("SELECT action, is_undo, state FROM juno_intents ORDER BY id").await;
    let undone: Vec<&Value> = orders.iter().map(|row| &row["is_undo"]).collect();
    assert_eq!(undone, [&json!(false), &json!(true)], "{orders:?}");
    let row = incident(&world).await;
    assert_eq!(
        (&row["status"], &row["resolved_at"], &row["success"]),
        (&json!("diagnosing"), &Value::Null, &Value::Null)
    );
    assert_eq!(row["remediation_actions"]["actions"][0]["success"], false);
    assert_eq!(remediation(&world).await, "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_started_nothing_is_none() {
    let world = world("people").await;
    *world.fake.lies.lock() = true;
    let restart = json!({ "incident_id": INCIDENT, "action": "restart" });
    let told = result(world.ask(&OPERATION, ADA, restart).await);
    let why = told["verification"]["contradiction"].as_str().expect("a reason");
    assert!(why.contains("no replica of \"shop\" was started anew"), "{told:#}");
    assert_eq!(
        (&told["success"], &told["rolled_back"]),
        (&json!(false), &json!(false)),
        "nothing is left to take back"
    );
    assert_eq!((&incident(&world).await["status"], remediation(&world).await), (&json!("diagnosing"), json!("failed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_telemetry_showed_is_not_over_because_the_target_says_so() {
    let restart = json!({ "incident_id": INCIDENT, "action": "restart" });
    for (source, status) in [("telemetry", "diagnosing"), ("people", "resolved")] {
        let world = world(source).await;
        let told = result(world.ask(&OPERATION, ADA, restart.clone()).await);
        assert_eq!((&told["success"], &told["verification"]["evidence"]), (&json!(true), &json!("told")), "{told:#}");
        let row = incident(&world).await;
        assert_eq!((&told["status"], &row["status"]), (&json!(status), &json!(status)));
        assert_eq!(told["resolution_time_seconds"], row["resolution_time_seconds"]);
        assert_eq!(told["resolution_time_seconds"].is_number(), status == "resolved", "{told:#}");
    }
    // Asked of the telemetry itself, it is known.
    for (errors, is_healed) in [(0, true), (40, false)] {
        let world = world("telemetry").await;
        let table = "CREATE TABLE web (time TIMESTAMPTZ, service TEXT, errors BIGINT) WITH (tags = 'service')";
        world.own.query(table).await.expect("a table");
        let row = format!("INSERT INTO web VALUES (now(), 'shop', {errors})");
        world.own.query(&row).await.expect("a row");
        let mut asked = restart.clone();
        let sql = "SELECT max(errors) FROM web WHERE service = 'shop'";
        asked["verify"] = json!({ "sql": sql, "condition": "<= 5", "hold": 2, "within_s": 4 });
        let told = result(world.ask(&OPERATION, ADA, asked).await);
        assert_eq!((&told["success"], &told["verification"]["evidence"]), (&json!(is_healed), &json!("select")));
        let row = incident(&world).await;
        let expected = if is_healed { (json!("resolved"), json!(true)) } else { (json!("diagnosing"), Value::Null) };
        assert_eq!((row["status"].clone(), row["success"].clone()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_must_be_of_the_kind_and_in_the_namespace_that_are_named() {
    let world = world("people").await;
    let asked = |kind: &str, namespace: &str| {
        let target = json!({ "name": "shop", "kind": kind, "namespace": namespace });
        json!({ "incident_id": INCIDENT, "action": "restart", "target": target, "dry_run": true })
    };
    let plan = world.ask(&OPERATION, ADA, asked("Process", "east")).await.expect("a plan").value;
    assert_eq!(plan["target"], json!({ "executor": "fake", "kind": "process", "name": "shop" }));
    for (kind, namespace, at) in [("deployment", "east", "/target/kind"), ("process", "west", "/target/namespace")] {
        let Err(crate::Error::Refused(refusal)) = world.ask(&OPERATION, ADA, asked(kind, namespace)).await else {
            panic!("{kind} in {namespace} was found");
        };
        assert_eq!((refusal.kind, refusal.faults[0].0.as_str()), (Refused::UnknownTarget, at), "{}", refusal.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_takes_a_condition_or_a_value() {
    let world = world("people").await;
    let asked =
        |verify: Value| json!({ "incident_id": INCIDENT, "action": "restart", "verify": verify, "dry_run": true });
    for verify in [
        json!({ "metric": "error_excess", "condition": ">= 2" }),
        json!({ "metric": "error_excess", "is": "at_least", "value": 2 }),
    ] {
        let plan = world.ask(&OPERATION, ADA, asked(verify)).await.expect("a plan").value;
        let all = &plan["verify"]["all"][0];
        assert_eq!(
            (&all["metric"], &all["is"], &all["value"]),
            (&json!("error_excess"), &json!("at_least"), &json!(2.0))
        );
    }
    for (verify, kind) in [
        (json!({ "metric": "healthy" }), Refused::MissingField),
        (json!({ "metric": "healthy", "condition": "well" }), Refused::InvalidValue),
        (json!({ "metric": "healthy", "condition": ">= 1", "value": 1 }), Refused::InvalidValue),
    ] {
        assert_eq!(refusal(world.ask(&OPERATION, ADA, asked(verify.clone())).await), kind, "{verify}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_about_an_incident_that_people_closed_meanwhile() {
    for status in ["open", "escalated", "failed"] {
        let world = world("people").await;
        let told = format!("UPDATE healing_incidents SET remediation_actions = '{{\"status\": \"{status}\"}}'");
        world.own.query(&told).await.expect("a status");
        let closed = "UPDATE healing_incidents SET remediation_actions = '{\"status\": \"resolved\"}', resolved_at = now(), \
                      success = true";
        // It is read when it is decided and when it begins: the second time it is closed just after it was read.
        *world.fake.meanwhile.lock() = [closed, ""].map(|sql| (world.own.connect(), sql.to_owned())).into();
        let restart = json!({ "incident_id": INCIDENT, "action": "restart" });
        let job = world.ask(&OPERATION, ADA, restart).await.expect("a job").value;
        assert_eq!(job["state"], "failed", "{status}: {job:#}");
        assert!(world.fake.meanwhile.lock().is_empty() && world.fake.orders.lock().is_empty(), "{status}");
        let row = world.row("SELECT state, cooldown_until = began_at AS rested FROM juno_remediations").await;
        assert_eq!((&row["state"], &row["rested"]), (&json!("interrupted"), &json!(true)), "{status}");
        let budget = world.row("SELECT budget FROM healing_status").await.remove("budget");
        assert_eq!(budget, Some(json!({ "actions_used_1h": 0, "limit": 10 })), "{status}: nothing was used up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_approves_what_ended_while_it_was_decided_anew_is_told_so() {
    let world = world("people").await;
    let restart = json!({ "incident_id": INCIDENT, "action": "restart", "approval": "required" });
    let waits = world.ask(&OPERATION, ADA, restart).await.expect("a job").value;
    assert_eq!(waits["state"], "awaiting_approval", "{waits:#}");
    let ended = "UPDATE juno_jobs SET state = 'cancelled' WHERE state = 'awaiting_approval'".to_owned();
    *world.fake.meanwhile.lock() = vec![(world.own.connect(), ended)];
    let approval = json!({ "id": waits["approval_id"] });
    let approved = world.ask(&approvals::APPROVE, ("eve", Role::Approver), approval).await;
    assert_eq!(refusal(approved), Refused::Conflict);
    let job = world.row("SELECT state FROM juno_jobs").await;
    assert_eq!((&job["state"], world.fake.orders.lock().len()), (&json!("cancelled"), 0));
}
