//! Responses to threats on a fleet in memory and at juno's own doors: what is done, what never, and how it is taken back.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::actuator::ActuatorError;
use crate::ops::actuator::fake::{World, refusal, result};
use crate::ops::threats::expire::{Swept, UNDO, expire_responses};
use crate::role::User;

const ADA: (&str, Role) = ("ada", Role::Responder);
const THREAT: &str = "00000000-0000-7000-8000-0000000000bb";

async fn world(confidence: f64) -> World {
    let world = World::open().await;
    let insert = "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) \
                  VALUES ($1, now(), 'brute_force', 'high', '{\"entity\": \"shop\"}', $2)";
    world.own.changed_rows(insert, &[THREAT.into(), confidence.into()]).await.expect("a threat");
    world
}

fn respond(action: &str, target: Option<&str>) -> Value {
    let target = target.map(|name| json!({ "name": name }));
    json!({ "threat_event_id": THREAT, "action": action, "target": target })
}

async fn threat(world: &World) -> Map<String, Value> {
    world.row("SELECT * FROM threats_history").await
}

async fn time_is_over(world: &World) {
    let over = "UPDATE juno_threat_responses SET expires_at = '2026-01-01T00:00:00Z' WHERE expires_at IS NOT NULL";
    world.own.changed_rows(over, &[]).await.expect("an update");
}

async fn sweep(world: &World) -> Swept {
    expire_responses(&world.own).await.expect("a sweep")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_isolated_once_and_let_go_when_its_time_is_over() {
    let world = world(0.95).await;
    let dry = json!({ "threat_event_id": THREAT, "action": "isolate", "dry_run": true });
    let told = world.ask(&OPERATION, ADA, dry).await.expect("a decision").value;
    assert_eq!((&told["policy"]["decision"], &told["target"]["name"]), (&json!("allow"), &json!("shop")));
    assert!(world.rows("SELECT id FROM juno_threat_responses").await.is_empty());
    let done = result(world.ask(&OPERATION, ADA, respond("isolate", None)).await);
    assert!(world.fake.now("shop").is_isolated);
    assert!(done["containment_s"].as_f64().is_some_and(|s| s >= 0.0) && done["expires_at"].is_string(), "{done}");
    let row = threat(&world).await;
    assert_eq!((&row["status"], &row["resolved_at"]), (&json!("contained"), &Value::Null));
    assert_eq!(row["response_actions"]["actions"][0]["id"], done["response_id"]);
    let kept = world.row("SELECT * FROM threats_responses").await;
    assert_eq!((&kept["state"], &kept["evidence_sha256"]), (&json!("active"), &done["evidence_sha256"]));
    assert_eq!(kept["evidence"]["target"]["observed"]["is_isolated"], false, "evidence is of before");
    assert_eq!(refusal(world.ask(&OPERATION, ADA, respond("isolate", None)).await), Refused::AlreadyContained);
    assert_eq!(sweep(&world).await, Swept::default());
    time_is_over(&world).await;
    assert_eq!(sweep(&world).await, Swept { undone: 1, ..Swept::default() });
    assert!(!world.fake.now("shop").is_isolated);
    assert_eq!(threat(&world).await["status"], "acknowledged");
    assert_eq!(world.row("SELECT state FROM juno_threat_responses").await["state"], "expired");
    result(world.ask(&OPERATION, ADA, respond("kill_process", None)).await);
    assert!(world.fake.now("shop").replicas.is_empty());
    time_is_over(&world).await;
    assert_eq!((sweep(&world).await.undone, world.fake.now("shop").replicas.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_refused_at_the_doors_until_it_expires_also_after_a_restart() {
    let world = world(0.95).await;
    let address: IpAddr = "203.0.113.7".parse().expect("an address");
    let refused = |world: &World, address: IpAddr| world.own.refused_at_door(Some(address), None).is_some();
    assert!(!refused(&world, address));
    result(world.ask(&OPERATION, ADA, respond("block_ip", Some("203.0.113.7"))).await);
    let mapped: IpAddr = "::ffff:203.0.113.7".parse().expect("an address");
    assert!(
        refused(&world, address) && refused(&world, mapped) && !refused(&world, "203.0.113.8".parse().expect("one"))
    );
    let again = world.ask(&OPERATION, ADA, respond("block_ip", Some("203.0.113.7"))).await;
    assert_eq!(refusal(again), Refused::AlreadyContained);
    let world = world.reopened().await;
    assert!(refused(&world, address));
    time_is_over(&world).await;
    assert_eq!(sweep(&world).await.undone, 1);
    assert!(!refused(&world, address) && world.rows("SELECT id FROM juno_blocks").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_refused_and_the_response_can_be_taken_back() {
    let world = world(0.95).await;
    let refused = |name: &str| world.own.refused_at_door(None, Some(name)).is_some();
    let unknown = world.ask(&OPERATION, ADA, respond("revoke_token", Some("mallory"))).await;
    assert_eq!(refusal(unknown), Refused::UnknownTarget);
    world.own.seen_at_door(&User { name: "mallory".into(), role: Some(Role::Operator) }, None);
    let done = result(world.ask(&OPERATION, ADA, respond("revoke_token", Some("mallory"))).await);
    assert!(refused("mallory") && !refused("ada"));
    let undo = || json!({ "id": done["response_id"], "reason": "it was a test" });
    let undone = result(world.ask(&UNDO, ADA, undo()).await);
    assert_eq!((&undone["state"], refused("mallory")), (&json!("undone"), false));
    assert_eq!(refusal(world.ask(&UNDO, ADA, undo()).await), Refused::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_protected_over_or_nonsense_is_refused_and_what_is_doubtful_waits() {
    let world = world(0.95).await;
    let bob = User { name: "bob".into(), role: Some(Role::Approver) };
    world.own.seen_at_door(&bob, "192.0.2.1".parse().ok());
    for (action, target, expected) in [
        ("isolate", "vault", Refused::ProtectedTarget),
        ("isolate", "lamp", Refused::UnknownTarget),
        ("isolate", "nobody", Refused::UnknownTarget),
        ("block_ip", "127.0.0.1", Refused::ProtectedTarget),
        ("block_ip", "192.0.2.1", Refused::ProtectedTarget),
        ("block_ip", "shop", Refused::InvalidValue),
        ("revoke_token", "bob", Refused::ProtectedTarget),
        ("revoke_token", "ada", Refused::ProtectedTarget),
    ] {
        let asked = world.ask(&OPERATION, ADA, respond(action, Some(target))).await;
        assert_eq!(refusal(asked), expected, "{action} {target}");
    }
    let long = json!({ "threat_event_id": THREAT, "action": "isolate", "ttl_s": 7_200 });
    let waits = world.ask(&OPERATION, ADA, long).await.expect("a job").value;
    assert_eq!(waits["state"], "awaiting_approval");
    world.own.query("UPDATE threat_events SET confidence_score = 0.5").await.expect("an update");
    let waits = world.ask(&OPERATION, ADA, respond("isolate", None)).await.expect("a job").value;
    assert_eq!(waits["state"], "awaiting_approval");
    world.own.query("UPDATE threat_events SET false_positive = true").await.expect("an update");
    assert_eq!(refusal(world.ask(&OPERATION, ADA, respond("isolate", None)).await), Refused::AlreadyResolved);
    assert!(world.fake.orders.lock().is_empty() && world.rows("SELECT id FROM juno_threat_responses").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn telling_and_keeping_evidence_contain_nothing() {
    let world = world(0.4).await;
    for action in ["notify", "snapshot_forensics"] {
        let done = result(world.ask(&OPERATION, ADA, respond(action, None)).await);
        assert_eq!((&done["state"], &done["expires_at"]), (&json!("done"), &Value::Null), "{action}");
        assert!(done["evidence_ref"].as_str().is_some_and(|link| link.starts_with("/api/v4/threats/responses/")));
    }
    assert_eq!(threat(&world).await["status"], "acknowledged");
    assert!(world.fake.orders.lock().is_empty());
    let told = world.rows("SELECT data FROM juno_events WHERE type = 'threat' ORDER BY id").await;
    assert_eq!(told[0]["data"]["action"], "notify");
    let resolving = json!({ "threat_event_id": THREAT, "action": "isolate", "resolve": true, "approval": "required" });
    let waits = world.ask(&OPERATION, ADA, resolving).await.expect("a job").value;
    assert_eq!(waits["state"], "awaiting_approval");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containment_that_cannot_be_lifted_is_tried_again_and_then_told_of() {
    let world = world(0.95).await;
    let done = result(world.ask(&OPERATION, ADA, respond("isolate", None)).await);
    time_is_over(&world).await;
    world.own.query("CALL kill_switch(true, 'drill')").await.expect("engaged");
    assert_eq!(sweep(&world).await, Swept { waiting: 1, ..Swept::default() });
    assert!(world.fake.now("shop").is_isolated, "nothing acts while the kill switch is engaged");
    world.own.query("CALL kill_switch(false, 'over')").await.expect("released");
    *world.fake.fails.lock() = Some(ActuatorError::Unreachable { target: "shop".into(), reason: "gone".into() });
    for _ in 0..5 {
        assert_eq!(sweep(&world).await, Swept { failed: 1, ..Swept::default() });
    }
    assert_eq!(sweep(&world).await, Swept::default(), "it is not tried for ever");
    let row = world.row("SELECT state, error FROM juno_threat_responses").await;
    assert!(
        row["state"] == "undo_failed" && row["error"].as_str().is_some_and(|text| text.contains("gone")),
        "{row:?}"
    );
    assert_eq!(threat(&world).await["status"], "contained");
    *world.fake.fails.lock() = None;
    result(world.ask(&UNDO, ADA, json!({ "id": done["response_id"], "reason": "by hand" })).await);
    assert!(!world.fake.now("shop").is_isolated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_says_it_is_isolated_and_is_not_is_not_told_as_contained() {
    let world = world(0.95).await;
    *world.fake.lies.lock() = true;
    let job = world.ask(&OPERATION, ADA, respond("isolate", None)).await.expect("a job").value;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"]["detail"].as_str().is_some_and(|text| text.contains("is not isolated")), "{job}");
    let row = world.row("SELECT state, error, contained_at FROM juno_threat_responses").await;
    assert_eq!((&row["state"], &row["contained_at"]), (&json!("uncertain"), &Value::Null), "{row:?}");
    let row = threat(&world).await;
    assert_eq!((&row["status"], &row["resolved_at"]), (&json!("acknowledged"), &Value::Null));
    *world.fake.lies.lock() = false;
    result(world.ask(&OPERATION, ADA, respond("isolate", None)).await);
    assert_eq!(threat(&world).await["status"], "contained");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_cut_off_is_lifted_too() {
    let world = world(0.95).await;
    result(world.ask(&OPERATION, ADA, respond("isolate", None)).await);
    let cut = "UPDATE juno_threat_responses SET state = 'ordered', given = NULL, effect = NULL";
    world.own.changed_rows(cut, &[]).await.expect("an update");
    let world = world.reopened().await;
    time_is_over(&world).await;
    assert_eq!((sweep(&world).await.undone, world.fake.now("shop").is_isolated), (1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_fails_contains_nothing_and_what_came_too_late_is_lifted() {
    let world = world(0.95).await;
    let late = ActuatorError::Timeout { target: "shop".into(), action: "isolate".into(), limit_ms: 1 };
    *world.fake.fails.lock() = Some(late);
    let job = world.ask(&OPERATION, ADA, respond("isolate", None)).await.expect("a job").value;
    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(threat(&world).await["status"], "acknowledged");
    assert_eq!(world.row("SELECT state FROM juno_threat_responses").await["state"], "uncertain");
    *world.fake.fails.lock() = None;
    time_is_over(&world).await;
    assert_eq!(sweep(&world).await.undone, 1);
    assert_eq!(world.fake.orders.lock()[0].action, crate::actuator::Action::Resume);
    *world.fake.fails.lock() = Some(ActuatorError::Refused { target: "shop".into(), reason: "no".into() });
    let job = world.ask(&OPERATION, ADA, respond("isolate", None)).await.expect("a job").value;
    assert_eq!(job["state"], "failed", "{job}");
    time_is_over(&world).await;
    assert_eq!(sweep(&world).await, Swept::default(), "what was refused has no effect");
}
