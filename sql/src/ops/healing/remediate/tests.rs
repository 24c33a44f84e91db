//! Remediations by a target that lies: what it says of itself is not enough.

mod dry_run;

use serde_json::{Map, Value, json};

use super::*;
use crate::ops::actuator::fake::{World, result};

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
        assert_eq!((&told["status"], &incident(&world).await["status"]), (&json!(status), &json!(status)));
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
        asked["verify"] = json!({ "sql": sql, "is": "at_most", "value": 5, "hold": 2, "within_s": 4 });
        let told = result(world.ask(&OPERATION, ADA, asked).await);
        assert_eq!((&told["success"], &told["verification"]["evidence"]), (&json!(is_healed), &json!("select")));
        let row = incident(&world).await;
        let expected = if is_healed { (json!("resolved"), json!(true)) } else { (json!("diagnosing"), Value::Null) };
        assert_eq!((row["status"].clone(), row["success"].clone()), expected);
    }
}
