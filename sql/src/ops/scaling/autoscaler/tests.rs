//! Services that are scaled automatically, on a fleet in memory.

use serde_json::{Value, json};

use super::*;
use crate::OperationSettings;
use crate::actuator::Action;
use crate::ops::actuator::fake::{World, refusal};
use crate::ops::healing::AUTOPILOT;
use crate::ops::scaling::autoscale::OPERATION;
use crate::role::{Role, User};

const ADA: (&str, Role) = ("ada", Role::Responder);

/// Two hours of a demand that needs so many units of `shop`, up to now.
async fn demand(world: &World, units: f64) {
    let own = &world.own;
    own.query("CREATE TABLE IF NOT EXISTS load (time TIMESTAMPTZ, service TEXT, requests DOUBLE PRECISION) WITH (tags = 'service')")
        .await
        .expect("a table");
    let rows = format!(
        "INSERT INTO load SELECT now() - INTERVAL '15 seconds' * n, 'shop', {} FROM generate_series(0, 480) AS g(n)",
        units * 10.0 - 1.0
    );
    own.query(&rows).await.expect("rows");
}

fn asked() -> Value {
    json!({
        "service": "shop", "step": "15s", "unit": { "startup_s": 15 }, "bounds": { "min": 1, "max": 8 },
        "demand": [{ "resource": "requests", "metric": "load.requests", "agg": "avg", "capacity": 10 }],
    })
}

async fn look(world: &World, autoscaler: &mut Autoscaler) -> usize {
    let autopilot = world.own.connect_as(User { name: AUTOPILOT.into(), role: Some(Role::Responder) });
    autoscaler.look(&world.own, &autopilot).await.expect("it looks")
}

/// Waits until the job of the last order is over.
async fn settled(world: &World) {
    let running = "SELECT id FROM juno_jobs WHERE state IN ('queued', 'running')";
    while !world.rows(running).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_the_units_that_its_demand_needs() {
    let world = World::open().await;
    demand(&world, 4.0).await;
    let row = world.ask(&OPERATION, ADA, asked()).await.expect("it is scaled").value;
    assert_eq!((&row["service"], &row["enabled"], &row["executor"]), (&json!("shop"), &json!(true), &json!("fake")));
    let mut autoscaler = Autoscaler::default();
    assert_eq!(look(&world, &mut autoscaler).await, 1);
    settled(&world).await;
    let order = world.fake.orders.lock()[0].clone();
    assert_eq!((order.action, &order.params["replicas"]), (Action::Scale, &json!(3)), "half as many more at a time");
    let event = world.row("SELECT executed_by, resource_type, scaling_action FROM scaling_history").await;
    assert_eq!((&event["executed_by"], &event["resource_type"]), (&json!("policy"), &json!("requests")));
    let row = world.row("SELECT * FROM scaling_autoscaled").await;
    assert_eq!(
        (&row["state"], &row["decision"]["from"], &row["decision"]["to"]),
        (&json!("ordered"), &json!(2), &json!(3))
    );
    // Without a week of forecasts that held, the guard decides alone.
    assert_eq!(row["decision"]["reason"], "low-confidence");
    assert_eq!(look(&world, &mut autoscaler).await, 0, "a step is decided about once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_wants_advice_gets_it_and_the_end_is_the_end() {
    let world = World::open().await;
    demand(&world, 4.0).await;
    world.ask(&OPERATION, ADA, asked()).await.expect("it is scaled");
    let advice = OperationSettings { ai_native: false, ..OperationSettings::default() };
    world.own.set_operations(advice, |_| Value::Null);
    assert_eq!(look(&world, &mut Autoscaler::default()).await, 1);
    let row = world.row("SELECT state, decision FROM scaling_autoscaled").await;
    assert_eq!((&row["state"], &row["decision"]["to"]), (&json!("advised"), &json!(3)));
    world.own.set_operations(OperationSettings::default(), |_| Value::Null);
    world.ask(&OPERATION, ADA, json!({ "service": "shop", "enabled": false })).await.expect("it ends");
    assert_eq!(look(&world, &mut Autoscaler::default()).await, 0);
    assert!(world.fake.orders.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_told_and_nothing_is_changed() {
    let world = World::open().await;
    demand(&world, 4.0).await;
    world.ask(&OPERATION, ADA, asked()).await.expect("it is scaled");
    world.own.query("CALL kill_switch(true, 'drill')").await.expect("engaged");
    look(&world, &mut Autoscaler::default()).await;
    let row = world.row("SELECT state, decision FROM scaling_autoscaled").await;
    assert!(
        row["state"] == "refused" && row["decision"]["reason"].as_str().unwrap().contains("kill switch"),
        "{row:?}"
    );
    world.own.query("CALL kill_switch(false, 'over')").await.expect("released");
    // Nothing was measured for more than five steps.
    world.own.query("DELETE FROM load WHERE time > now() - INTERVAL '3 minutes'").await.expect("a delete");
    look(&world, &mut Autoscaler::default()).await;
    let row = world.row("SELECT state, decision FROM scaling_autoscaled").await;
    assert!(row["state"] == "stopped" && row["decision"]["reason"].as_str().unwrap().contains("no demand"), "{row:?}");
    assert!(world.fake.orders.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_scaled_is_refused_when_it_is_declared() {
    let world = World::open().await;
    demand(&world, 4.0).await;
    let other = |member: &str, value: Value| {
        let mut asked = asked();
        asked[member] = value;
        asked
    };
    for (arguments, expected) in [
        (other("demand", json!([])), Refused::MissingField),
        (
            other("demand", json!([{ "resource": "requests", "metric": "load.nothing", "capacity": 10 }])),
            Refused::NotFound,
        ),
        (other("target", json!({ "name": "lamp" })), Refused::UnknownTarget),
        (other("target", json!({ "name": "nobody" })), Refused::UnknownTarget),
        (other("step", json!("1h")), Refused::InvalidValue),
        (other("bounds", json!({ "min": 5, "max": 2 })), Refused::InvalidValue),
        (json!({ "service": "shop", "enabled": false }), Refused::NotFound),
    ] {
        assert_eq!(refusal(world.ask(&OPERATION, ADA, arguments.clone()).await), expected, "{arguments}");
    }
    let eve = world.ask(&OPERATION, ("eve", Role::Operator), asked()).await;
    assert!(matches!(&eve, Err(Error::Forbidden(_))), "{eve:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_of_a_policy_decides_once_two_days_are_known_and_logs_it() {
    let world = World::open().await;
    demand(&world, 4.0).await;
    let mut asked = asked();
    asked["policy"] = "shop".into();
    world.ask(&OPERATION, ADA, asked).await.expect("it is scaled");
    look(&world, &mut Autoscaler::default()).await;
    let row = world.row("SELECT decision FROM scaling_autoscaled").await;
    assert!(row["decision"]["rule"].is_null(), "two hours are too few: {row:?}");
    settled(&world).await;
    let rows = "INSERT INTO load SELECT now() - INTERVAL '15 seconds' * n, 'shop', 39.0 + sin(n / 100.0) FROM \
                generate_series(481, 13000) AS g(n)";
    world.own.query(rows).await.expect("rows");
    look(&world, &mut Autoscaler::default()).await;
    let row = world.row("SELECT decision FROM scaling_autoscaled").await;
    assert_eq!(row["decision"]["rule"]["knobs"], json!({ "k": 2.0, "hold_s": 300.0, "guard": 1.15 }), "{row:?}");
    let logged =
        world.row("SELECT policy, service, policy_id, propensity, explored, outcome, action FROM rl_experience").await;
    assert_eq!(
        (&logged["policy"], &logged["service"], &logged["propensity"]),
        (&json!("shop"), &json!("shop"), &json!(1.0))
    );
    assert!(logged["policy_id"].is_null() && logged["outcome"].is_null(), "{logged:?}");
    assert_eq!(logged["action"], row["decision"]["rule"]["knobs"]);
}
