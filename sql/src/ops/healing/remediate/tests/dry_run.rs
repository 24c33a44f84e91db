//! A dry run tells what the guards say, and is refused by none of them.

use serde_json::json;

use super::super::*;
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
