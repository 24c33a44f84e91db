//! Changes of units on a fleet in memory: what is done, what is refused, and what is written down.

use serde_json::{Value, json};

use super::*;
use crate::actuator::ActuatorError;
use crate::operation::OperationSettings;
use crate::ops::actuator::fake::{World, refusal, result};
use crate::ops::scaling::verify::verify_scaling;

const ADA: (&str, Role) = ("ada", Role::Responder);
const PLAN: &str = "00000000-0000-7000-8000-0000000000aa";

fn to(units: u32) -> Value {
    json!({ "target": { "name": "shop" }, "to": units, "reason": "a sale" })
}

/// A plan of two steps, the first due: `shop` to 3 units, and to 2 an hour later.
async fn plan(world: &World, expires_in_s: i64, confidence: f64) {
    let now_us = world.own.db().system().clock().now_us();
    let at = |seconds: i64| crate::session::rfc3339(now_us + seconds * 1_000_000);
    let step = |seconds: i64, from: u32, to: u32| json!({ "at": at(seconds), "resource": "cpu", "target": "units", "from": from, "to": to, "reason": "demand-rises", "q": 0.99 });
    let request = json!({
        "service": "shop", "step": "1m", "bounds": { "min": 1, "max": 4, "max_step": 0 },
        "unit": { "startup_s": 90, "cost_per_hour": 2.0, "currency": "EUR" },
        "demand": [{ "resource": "cpu", "metric": "load.cpu", "agg": "sum", "capacity": 10 }],
    });
    world.own.changed_rows("DELETE FROM juno_scaling_plans WHERE id = $1", &[PLAN.into()]).await.expect("a delete");
    let insert = "INSERT INTO juno_scaling_plans (id, created_at, created_by, service, strategy, request, steps, expected, \
                  confidence, advisory, binding_dimension, warnings, expires_at) \
                  VALUES ($1, $2, 'ada', 'shop', 'horizontal', $3, $4, '{}', $5, false, 'cpu', '[]', $6)";
    let steps = json!([step(-60, 2, 3), step(3_600, 3, 2)]);
    let values = [PLAN.into(), at(-120).into(), request, steps, confidence.into(), at(expires_in_s).into()];
    world.own.changed_rows(insert, &values).await.expect("a plan");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_done_once_judged_and_written_down() {
    let world = World::open().await;
    let dry = json!({ "target": { "name": "shop" }, "to": 3, "reason": "a sale", "dry_run": true });
    let told = world.ask(&OPERATION, ADA, dry).await.expect("a decision").value;
    assert_eq!((&told["from"], &told["to"], &told["policy"]["decision"]), (&json!(2), &json!(3), &json!("allow")));
    assert!(world.fake.orders.lock().is_empty() && world.rows("SELECT id FROM scaling_events").await.is_empty());
    let done = result(world.ask(&OPERATION, ADA, to(3)).await);
    assert_eq!((&done["from"], &done["to"], &done["cooldown_until"]), (&json!(2), &json!(3), &Value::Null));
    assert!(done["applied_at"].is_string() && done["observed_ready_at"].is_string(), "{done}");
    assert_eq!(world.fake.now("shop").wanted, 3);
    let event = world.row("SELECT * FROM scaling_history").await;
    assert_eq!((&event["id"], &event["scaling_type"]), (&done["event_id"], &json!("scale_up")));
    assert_eq!((&event["executed_by"], &event["scaling_action"]["state"]), (&json!("human"), &json!("ready")));
    assert!(event["actual_demand"].is_null() && event["predicted_demand"]["unknown"].is_string(), "{event:?}");
    let intent = world.row("SELECT state, subject FROM juno_intents").await;
    assert_eq!((&intent["state"], &intent["subject"]), (&json!("done"), &done["event_id"]));
    assert_eq!(refusal(world.ask(&OPERATION, ADA, to(3)).await), Refused::AlreadyAtTarget);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_or_is_out_of_bounds_is_refused_before_anything_is_done() {
    let world = World::open().await;
    let lamp = json!({ "target": { "name": "lamp" }, "to": 2, "reason": "x" });
    let nobody = json!({ "target": { "name": "nobody" }, "to": 2, "reason": "x" });
    for (arguments, expected) in [
        (to(0), Refused::InvalidValue),
        (to(101), Refused::InvalidValue),
        (lamp, Refused::UnknownTarget),
        (nobody, Refused::UnknownTarget),
        (json!({ "to": 2, "reason": "x" }), Refused::MissingField),
        (json!({ "target": { "name": "shop" }, "to": 3 }), Refused::MissingField),
        (json!({ "target": { "name": "shop" }, "to": 3, "reason": "x", "step": 1 }), Refused::InvalidValue),
        (json!({ "plan_id": PLAN, "to": 3 }), Refused::InvalidValue),
        (json!({ "plan_id": PLAN }), Refused::NotFound),
    ] {
        assert_eq!(refusal(world.ask(&OPERATION, ADA, arguments.clone()).await), expected, "{arguments}");
    }
    let waits = world.ask(&OPERATION, ADA, to(9)).await.expect("a job");
    assert_eq!(waits.value["state"], "awaiting_approval", "seven more units at once are more than half");
    assert!(world.fake.orders.lock().is_empty() && world.rows("SELECT id FROM scaling_events").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_units_take_a_responder_and_a_cooldown_that_never_blocks_more() {
    let world = World::open().await;
    let operator = ("eve", Role::Operator);
    result(world.ask(&OPERATION, operator, to(3)).await);
    result(world.ask(&OPERATION, operator, to(4)).await);
    let refused = world.ask(&OPERATION, operator, to(3)).await;
    assert!(matches!(&refused, Err(Error::Forbidden(text)) if text.contains("responder")), "{refused:?}");
    let done = result(world.ask(&OPERATION, ADA, to(3)).await);
    assert!(done["cooldown_until"].is_string(), "{done}");
    assert_eq!(refusal(world.ask(&OPERATION, ADA, to(2)).await), Refused::CooldownActive);
    let more = result(world.ask(&OPERATION, operator, to(4)).await);
    assert_eq!((&more["to"], more["cooldown_until"].is_string()), (&json!(4), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_executed_by_its_etag_while_it_is_fresh_and_sure() {
    let world = World::open().await;
    let asked = || json!({ "plan_id": PLAN });
    plan(&world, 3_600, 0.95).await;
    assert_eq!(refusal(world.ask(&OPERATION, ADA, asked()).await), Refused::PreconditionRequired);
    let other = world.ask_matching(&OPERATION, ADA, asked(), Some("\"x\"")).await;
    assert_eq!(refusal(other), Refused::PreconditionFailed);
    let missing = json!({ "plan_id": PLAN, "step": 7 });
    assert_eq!(refusal(world.ask_matching(&OPERATION, ADA, missing, Some(PLAN)).await), Refused::InvalidValue);
    plan(&world, -1, 0.95).await;
    assert_eq!(refusal(world.ask_matching(&OPERATION, ADA, asked(), Some(PLAN)).await), Refused::PlanExpired);
    plan(&world, 3_600, 0.5).await;
    assert_eq!(refusal(world.ask_matching(&OPERATION, ADA, asked(), Some(PLAN)).await), Refused::LowConfidence);
    let forced = json!({ "plan_id": PLAN, "force": true });
    let waits = world.ask_matching(&OPERATION, ADA, forced, Some(PLAN)).await.expect("a job");
    assert_eq!(waits.value["state"], "awaiting_approval");
    plan(&world, 3_600, 0.95).await;
    let done = result(world.ask_matching(&OPERATION, ADA, asked(), Some(PLAN)).await);
    assert_eq!((&done["plan_id"], &done["step"], &done["to"]), (&json!(PLAN), &json!(0), &json!(3)));
    assert_eq!((&done["service"], &done["resource"]), (&json!("shop"), &json!("cpu")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_fails_is_an_event_that_failed() {
    let world = World::open().await;
    let late = ActuatorError::Timeout { target: "shop".into(), action: "scale".into(), limit_ms: 1 };
    *world.fake.fails.lock() = Some(late);
    let job = world.ask(&OPERATION, ADA, to(3)).await.expect("a job").value;
    assert_eq!(job["state"], "failed");
    assert!(job["error"]["detail"].as_str().is_some_and(|text| text.contains("did not scale")), "{job}");
    assert_eq!(world.row("SELECT scaling_action FROM scaling_events").await["scaling_action"]["state"], "failed");
    assert_eq!(verify_scaling(&world.own).await.expect("a sweep"), 0, "what was not done brought nothing");
    *world.fake.fails.lock() = None;
    result(world.ask(&OPERATION, ADA, to(3)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_were_promised_and_never_came_are_not_ready() {
    let world = World::open().await;
    *world.fake.lies.lock() = true;
    let mut asked = to(3);
    asked["timeout_s"] = 1.into();
    let job = world.ask(&OPERATION, ADA, asked).await.expect("a job").value;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"]["detail"].as_str().is_some_and(|text| text.contains("not ready within 1 s")), "{job}");
    let event = world.row("SELECT * FROM scaling_history").await;
    assert_eq!(event["scaling_action"]["state"], "not_ready");
    assert_eq!((&event["scaling_action"]["observed_ready_at"], &event["actual_demand"]), (&Value::Null, &Value::Null));
    *world.fake.lies.lock() = false;
    result(world.ask(&OPERATION, ADA, to(3)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_brought_is_written_down_once_its_time_is_over() {
    let world = World::open().await;
    let own = &world.own;
    own.query("CREATE TABLE load (time TIMESTAMPTZ, service TEXT, cpu DOUBLE PRECISION) WITH (tags = 'service')")
        .await
        .expect("a table");
    plan(&world, 3_600, 0.95).await;
    let done = result(world.ask_matching(&OPERATION, ADA, json!({ "plan_id": PLAN }), Some(PLAN)).await);
    result(world.ask(&OPERATION, ADA, to(4)).await);
    assert_eq!(verify_scaling(own).await.expect("a sweep"), 0, "it is too early");
    // Two minutes of the past: 25 and 35 of demand, where three units carry 30 and two would have carried 20.
    let over = "UPDATE juno_scaling_executions SET watched_from = '2026-01-01T00:00:00Z', watched_until = '2026-01-01T01:00:00Z'";
    own.changed_rows(over, &[]).await.expect("an update");
    let nobody = "UPDATE juno_scaling_executions SET service = 'nobody' WHERE plan_id IS NULL";
    own.changed_rows(nobody, &[]).await.expect("an update");
    let rows = "INSERT INTO load VALUES ('2026-01-01T00:00:10Z', 'shop', 25), ('2026-01-01T00:01:10Z', 'shop', 35), \
                ('2026-01-01T02:00:00Z', 'shop', 900), ('2026-01-01T00:00:10Z', 'cart', 900)";
    own.query(rows).await.expect("rows");
    assert_eq!(verify_scaling(own).await.expect("a sweep"), 2);
    let sql = format!("SELECT * FROM scaling_history WHERE id = '{}'", done["event_id"].as_str().expect("an id"));
    let event = world.row(&sql).await;
    assert_eq!(event["actual_demand"]["cpu"], json!({ "mean": 30.0, "max": 35.0, "steps": 2 }));
    assert_eq!((&event["cost_impact"], &event["cost_unit"]), (&json!(2.0), &json!("EUR")), "one unit more for an hour");
    let near = |value: &Value, expected: f64| value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-9);
    assert!(near(&event["sla_during"], 55.0 / 60.0) && near(&event["performance_impact"]["sla_without"], 40.0 / 60.0));
    let other = world.row("SELECT * FROM scaling_history WHERE resource_type = 'replicas'").await;
    assert!(other["actual_demand"]["unknown"].is_string() && other["performance_impact"].is_null(), "{other:?}");
    assert!(
        other["cost_impact"].is_null() && other["cost_unit"].is_null(),
        "no plan said what a unit costs: {other:?}"
    );
    assert_eq!(verify_scaling(own).await.expect("a sweep"), 0, "a change is verified once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cooldown_and_the_confidence_that_are_set_hold() {
    let world = World::open().await;
    let set = |scaling_cooldown_s: u64, scaling_confidence: f64| {
        let settings = OperationSettings { scaling_cooldown_s, scaling_confidence, ..OperationSettings::default() };
        world.own.set_operations(settings, |_| Value::Null);
    };
    let dry = |units: u32| {
        let mut asked = to(units);
        asked["dry_run"] = true.into();
        asked
    };
    result(world.ask(&OPERATION, ADA, to(3)).await);
    result(world.ask(&OPERATION, ADA, to(2)).await);
    let ten_minutes_ago = "UPDATE juno_scaling_executions SET applied_at = now() - INTERVAL '10 minutes'";
    world.own.changed_rows(ten_minutes_ago, &[]).await.expect("an update");
    for (cooldown_s, expected) in [(300, None), (900, Some(Refused::CooldownActive)), (60, None)] {
        set(cooldown_s, 0.8);
        let answered = world.ask(&OPERATION, ADA, dry(1)).await;
        match expected {
            Some(expected) => assert_eq!(refusal(answered), expected),
            None => assert!(answered.is_ok(), "{cooldown_s}: {answered:?}"),
        }
        assert!(world.ask(&OPERATION, ADA, dry(3)).await.is_ok(), "more units never wait");
    }
    plan(&world, 3_600, 0.5).await;
    let asked = json!({ "plan_id": PLAN, "dry_run": true });
    for (confidence, refused) in [(0.8, true), (0.4, false)] {
        set(300, confidence);
        let answered = world.ask_matching(&OPERATION, ADA, asked.clone(), Some(PLAN)).await;
        match refused {
            true => assert_eq!(refusal(answered), Refused::LowConfidence),
            false => assert!(answered.is_ok(), "{answered:?}"),
        }
    }
}
