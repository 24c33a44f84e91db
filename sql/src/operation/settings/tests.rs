//! What settings do to operations; those of one operation alone are tested with it.

use juno_kernels::SplitMix;
use serde_json::{Value, json};

use super::*;
use crate::operation::{Operation, Refused};
use crate::ops::OPERATIONS;
use crate::ops::actuator::fake::{World, refusal};
use crate::ops::healing::AUTOPILOT;
use crate::role::Role;
use crate::{IncidentOpening, healing};

const ADA: (&str, Role) = ("ada", Role::Responder);

fn operation(name: &str) -> &'static Operation {
    OPERATIONS.iter().find(|operation| operation.name == name).expect(name)
}

fn set(world: &World, settings: OperationSettings) {
    world.own.set_operations(settings, |_| Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_off_refuses_its_operations_and_no_others_and_status_says_so() {
    let world = World::open().await;
    let window = json!({ "from": "2026-01-01T00:00:00Z" });
    let asked = [
        (Component::SelfHealing, "healing_diagnose", json!({ "service": "shop", "window": window })),
        (Component::Rl, "rl_train", json!({ "policy": "shop", "algorithm": "linucb", "environment": "replay" })),
        (Component::Scaling, "scaling_plan", json!({ "service": "shop" })),
        (Component::Threats, "threats_analyze", json!({ "indicators": [{ "type": "ip", "value": "192.0.2.7" }] })),
    ];
    for off in Component::ALL {
        set(&world, OperationSettings { disabled: vec![off], ..OperationSettings::default() });
        for (component, name, arguments) in &asked {
            let answered = world.ask(operation(name), ADA, arguments.clone()).await;
            let is_refused =
                matches!(&answered, Err(crate::Error::Refused(refusal)) if refusal.kind == Refused::ComponentDisabled);
            assert_eq!(is_refused, *component == off, "{name} without {}: {answered:?}", off.name());
        }
        let status = world.row("SELECT components FROM operations_status").await;
        for component in Component::ALL {
            let said = &status["components"][component.name()];
            assert_eq!((&said["enabled"], said["state"] == "disabled"), (&json!(component != off), component == off));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn governance_and_the_door_of_postgresql_tell_of_their_runs() {
    let world = World::open().await;
    let told = async |name: &str| {
        let status = world.row("SELECT components FROM operations_status").await;
        status["components"][name].clone()
    };
    let (policies, door) = (told("governance").await, told("pgwire").await);
    assert_eq!((&policies["state"], &policies["last_run_at"]), (&json!("idle"), &Value::Null));
    assert_eq!((&door["enabled"], &door["state"]), (&json!(false), &json!("disabled")), "there is no server");
    world.own.component_ran(Component::Governance, Some(&crate::Error::Internal("no policy".into())));
    world.own.component_ran(Component::Pgwire, None);
    let (policies, door) = (told("governance").await, told("pgwire").await);
    assert_eq!((&policies["enabled"], &policies["state"]), (&json!(true), &json!("failing")));
    assert!(policies["last_error"].as_str().is_some_and(|error| error.contains("no policy")), "{policies}");
    assert!(policies["last_run_at"].is_string() && policies["lag_s"].is_number(), "{policies}");
    assert_eq!(
        (&door["enabled"], &door["state"], &door["last_error"]),
        (&json!(true), &json!("running"), &Value::Null)
    );
    world.own.component_ran(Component::Governance, None);
    assert_eq!(told("governance").await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn healing_asks_people_as_far_as_its_level_says_and_never_acts_alone_in_advisory_mode() {
    let world = World::open().await;
    let symptoms = json!({ "service": "shop" });
    let severity = healing::severity::Severity::High;
    let opening = IncidentOpening { incident_type: "performance".into(), severity, symptoms };
    let incident = world.own.open_incident(&opening).await.expect("an incident");
    let asked = json!({ "incident_id": incident, "action": "scale", "params": { "add": 1 }, "dry_run": true });
    let by = async |name: &str| world.ask(operation("healing_remediate"), (name, Role::Responder), asked.clone()).await;
    for (healing, expected) in [
        (Automation::Low, "needs_approval"),
        (Automation::Medium, "dry_run"),
        (Automation::High, "dry_run"),
        (Automation::Full, "dry_run"),
    ] {
        set(&world, OperationSettings { healing, ..OperationSettings::default() });
        let told = by(AUTOPILOT).await.expect("a decision").value;
        assert_eq!(told["policy"]["decision"], expected, "{healing}: {told}");
    }
    set(&world, OperationSettings { healing: Automation::Off, ..OperationSettings::default() });
    assert_eq!(refusal(by(AUTOPILOT).await), Refused::ComponentDisabled);
    set(&world, OperationSettings { ai_native: false, ..OperationSettings::default() });
    assert_eq!(refusal(by(AUTOPILOT).await), Refused::ComponentDisabled, "AI_NATIVE_OPERATIONS=false");
    assert_eq!(by("ada").await.expect("people may still act").value["policy"]["decision"], "dry_run");
}

#[tokio::test(flavor = "multi_thread")]
async fn forecasts_and_plans_look_as_far_ahead_as_the_horizon_says() {
    let world = World::open().await;
    let table = "CREATE TABLE load (time TIMESTAMPTZ, service TEXT, cpu DOUBLE PRECISION) WITH (tags = 'service')";
    world.own.query(table).await.expect("a table");
    let rows = "INSERT INTO load SELECT now() - i * INTERVAL '5 minutes', 'shop', 20 + i % 7 FROM generate_series(1, 300) AS g (i)";
    world.own.query(rows).await.expect("rows");
    let demand = json!([{ "resource": "cpu", "metric": "load.cpu", "capacity": 100 }]);
    let mut hours = Vec::new();
    for horizon in [1, 2] {
        set(&world, OperationSettings { scaling_horizon_h: horizon, ..OperationSettings::default() });
        let asked = json!({ "service": "shop", "demand": demand });
        let forecast = world.ask(operation("scaling_forecast"), ADA, asked.clone()).await.expect("a forecast").value;
        assert_eq!(forecast["points"].as_array().map(Vec::len), Some(12 * horizon as usize));
        let plan = world.ask(operation("scaling_plan"), ADA, asked).await.expect("a plan").value;
        hours.push(plan["expected"]["replica_hours"].as_f64().expect("a number"));
    }
    assert!((hours[1] - 2.0 * hours[0]).abs() < 1e-6 && hours[0] > 0.0, "one unit carries all of it: {hours:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sensitivity_to_threats_is_the_share_of_ordinary_events_that_alarm() {
    let world = World::open().await;
    let mut random = SplitMix::new(7, 0);
    world
        .own
        .query("CREATE TABLE ordinary (id INTEGER PRIMARY KEY, a DOUBLE PRECISION, b DOUBLE PRECISION)")
        .await
        .expect("a table");
    let rows: Vec<String> = (0..6_000).map(|id| format!("({id}, {}, {})", random.normal(), random.unit())).collect();
    for some in rows.chunks(1_000) {
        world.own.query(&format!("INSERT INTO ordinary VALUES {}", some.join(", "))).await.expect("rows");
    }
    world
        .own
        .query("CALL train_threat_model('m', 'SELECT a, b FROM ordinary', trees => 30, seed => 1)")
        .await
        .expect("a model");
    let events: Vec<Value> = (0..3_000).map(|_| json!({ "a": random.normal(), "b": random.unit() })).collect();
    let mut before = f64::INFINITY;
    for (threat_sensitivity, expected) in [(0.5, 0.1), (0.75, 0.05), (0.9, 0.02)] {
        let settings = OperationSettings { threat_sensitivity, ..OperationSettings::default() };
        assert!((settings.threat_false_alarms() - expected).abs() < 1e-9);
        set(&world, settings);
        let asked = json!({ "events": events });
        let told = world.ask(operation("threats_analyze"), ADA, asked).await.expect("a judgement").value;
        let share = told["alarms"].as_f64().expect("a number") / events.len() as f64;
        assert!((expected / 2.0..expected * 2.0).contains(&share) && share < before, "{threat_sensitivity}: {share}");
        before = share;
    }
}
