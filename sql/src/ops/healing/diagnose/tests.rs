//! Diagnoses of telemetry that is made up: what they rank, what they find besides, and what they recommend.

use std::collections::BTreeSet;

use super::*;
use crate::operation::Answered;
use crate::ops::actuator::fake::{World, refusal};

const ADA: (&str, Role) = ("ada", Role::Operator);
/// The first minute of telemetry.
const BEGIN: &str = "TIMESTAMPTZ '2026-01-01 09:00:00Z'";

/// A database with two tables: who calls whom, and the latency of these services each minute from nine to ten past ten; from ten
/// on it is so much more.
async fn world(calls: &[(&str, &str)], services: &[(&str, u32)]) -> World {
    let world = World::open().await;
    let mut statements = vec![
        "CREATE TABLE web (time TIMESTAMPTZ, service TEXT, latency DOUBLE PRECISION) WITH (tags = 'service')"
            .to_owned(),
        "CREATE TABLE calls (caller TEXT, callee TEXT, PRIMARY KEY (caller, callee))".to_owned(),
    ];
    statements
        .extend(calls.iter().map(|(caller, callee)| format!("INSERT INTO calls VALUES ('{caller}', '{callee}')")));
    statements.extend(services.iter().map(|(service, more)| {
        format!(
            "INSERT INTO web SELECT {BEGIN} + INTERVAL '1 minute' * i, '{service}', \
             50.0 + i % 7 + CASE WHEN i >= 60 THEN {more} ELSE 0 END FROM generate_series(0, 69) AS g (i)"
        )
    }));
    for sql in statements {
        world.own.query(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    world
}

async fn diagnosed(world: &World, more: Value) -> Value {
    let mut body =
        json!({ "window": { "from": "2026-01-01T10:00:00Z", "to": "2026-01-01T10:10:00Z" }, "baseline": "1h" });
    for (name, value) in more.as_object().expect("an object") {
        body[name.as_str()] = value.clone();
    }
    let Answered { value, job, .. } = world.ask(&OPERATION, ADA, body).await.expect("a diagnosis");
    assert!(job.is_none(), "{value}");
    value
}

fn latency(services: &[&str]) -> Value {
    services.iter().map(|service| json!({ "metric": "web.latency", "service": service })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_symptom_counts() {
    let calls = [("site", "shop"), ("site", "mail"), ("till", "shop")];
    let world = world(&calls, &[("site", 200), ("till", 100), ("shop", 100), ("mail", 150)]).await;
    let first = async |symptoms: &[&str]| {
        let told = diagnosed(&world, json!({ "symptoms": latency(symptoms) })).await;
        assert_eq!(
            told["warnings"].as_array().map(Vec::len),
            Some(usize::from(told["candidates"][0]["component"] == "mail"))
        );
        told["candidates"][0]["component"].clone()
    };
    assert_eq!(first(&["site"]).await, "mail", "it is what moved most");
    assert_eq!(first(&["site", "till"]).await, "shop", "the till does not call mail");
    assert_eq!(first(&["till", "site"]).await, "shop");
    let told = diagnosed(&world, json!({ "symptoms": latency(&["mail"]) })).await;
    let warnings = told["warnings"].as_array().expect("a list");
    assert!(
        warnings[0].as_str().is_some_and(|text| text.contains("nothing else can explain web.latency of mail")),
        "{told}"
    );
    let missing = json!({ "window": { "from": "2026-01-01T10:00:00Z" }, "symptoms": [{ "metric": "web.latency" }] });
    assert_eq!(refusal(world.ask(&OPERATION, ADA, missing).await), Refused::MissingField);
    let unknown = json!({ "window": { "from": "2026-01-01T10:00:00Z" }, "symptoms": latency(&["site", "nobody"]) });
    assert_eq!(refusal(world.ask(&OPERATION, ADA, unknown).await), Refused::NoTelemetry);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_done_is_told_with_what_it_has_achieved() {
    let world = world(&[("site", "shop")], &[("site", 300), ("shop", 300)]).await;
    let body = || json!({ "symptoms": latency(&["site"]) });
    let told = diagnosed(&world, body()).await;
    let first = &told["candidates"][0];
    assert_eq!((&first["component"], &first["cause_class"]), (&json!("shop"), &json!("slow")));
    let actions = told["recommended_actions"].as_array().expect("a list");
    let named: Vec<&Value> = actions.iter().map(|action| &action["runbook"]).collect();
    assert_eq!(named, ["restart", "scale_up"], "the one that heals more often first: {told}");
    let action = &actions[1];
    assert_eq!((&action["runbook"], &action["cause"]), (&json!("scale_up"), &json!("slow")));
    assert_eq!(action["target"], json!({ "executor": "fake", "name": "shop" }));
    assert_eq!((&action["params"], &action["risk"]), (&json!({ "add": 1 }), &json!("low")));
    assert_eq!(action["blast_radius"]["targets"], 1);
    let percent = action["blast_radius"]["pct_of_fleet"].as_f64().expect("a number");
    assert!((percent - 100.0 / 3.0).abs() < 1e-9, "{action}");
    let chance = |told: &Value| {
        let actions = told["recommended_actions"].as_array()?;
        actions.iter().find(|action| action["runbook"] == "scale_up")?["expected_success"].as_f64()
    };
    assert!(chance(&told).is_some_and(|chance| (chance - 0.4).abs() < 1e-9), "{told}");

    let incident = told["incident_id"].as_str().expect("an id").to_owned();
    let other = "00000000-0000-7000-8000-0000000000ff";
    for number in 0..4 {
        tried(&world, number, other, "succeeded").await;
    }
    let told = diagnosed(&world, body()).await;
    assert!(chance(&told).is_some_and(|chance| (chance - 0.7).abs() < 1e-9), "{told}");
    tried(&world, 4, &incident, "failed").await;
    let again = diagnosed(&world, json!({ "symptoms": latency(&["site"]), "incident_id": incident })).await;
    assert_eq!((&again["created"], chance(&again)), (&json!(false), None), "it failed here");
    let kept = world.rows("SELECT diagnosis FROM healing_incidents WHERE diagnosis IS NOT NULL").await;
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|row| row["diagnosis"]["recommended_actions"].is_array()));
}

/// A remediation of slowness of `shop` by one more unit, half an hour before the incident.
async fn tried(world: &World, number: u32, incident: &str, state: &str) {
    let insert = "INSERT INTO juno_remediations (id, incident_id, runbook, cause, executor, target, actor, began_at, cooldown_until, \
                  ended_at, state) VALUES ($1, $2, 'scale_up', 'slow', 'fake', 'shop', 'ada', $3, $3, $3, $4)";
    let id = format!("00000000-0000-7000-8000-0000000001{number:02}");
    let values = [id.into(), incident.into(), "2026-01-01T09:30:00Z".into(), state.into()];
    world.own.changed_rows(insert, &values).await.expect("a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_loop_found_is_acted_on() {
    let world = world(&[], &[("shop", 300), ("mail", 0)]).await;
    let insert = "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms, diagnosis) \
                  VALUES ($1, '2026-01-01T10:02:00Z', 'slow', 'low', '{\"service\": \"shop\"}', $2)";
    let id = "00000000-0000-7000-8000-000000000001";
    let diagnosis = json!({
        "method": "evidence", "inconclusive": false,
        "candidates": [{ "component": "shop", "cause": "saturation", "probability": 0.9 }],
    });
    world.own.changed_rows(insert, &[id.into(), diagnosis]).await.expect("an incident");
    let told = diagnosed(&world, json!({ "incident_id": id })).await;
    let action = &told["recommended_actions"][0];
    assert_eq!((&action["runbook"], &action["cause"]), (&json!("scale_up"), &json!("saturation")), "{told}");
    let again = diagnosed(&world, json!({ "incident_id": id })).await;
    let actions = (&told["recommended_actions"], &again["recommended_actions"]);
    assert_eq!(actions.0, actions.1, "a diagnosis leaves what the loop found");
    let incident = world.own.incident(id).await.expect("the incident");
    assert_eq!(incident.cause("shop").as_deref(), Some("slow"), "the latest diagnosis comes first");
    assert_eq!(incident.probability("shop", Cause::Saturation), Some(0.9));
    assert_eq!(told.get("loop"), None, "it is kept, and not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_events_and_calls_are_evidence_beside_metrics() {
    let world = world(&[("site", "shop"), ("shop", "store")], &[("site", 300), ("shop", 300), ("store", 5)]).await;
    for sql in [
        "CREATE TABLE deployments (time TIMESTAMPTZ, service TEXT, version TEXT) WITH (tags = 'service')",
        "INSERT INTO deployments VALUES ('2026-01-01 09:45:00Z', 'shop', 'v7'), ('2026-01-01 09:50:00Z', 'mail', 'v8'), \
         ('2026-01-01 08:30:00Z', 'shop', 'v6')",
        "CREATE TABLE security_events (time TIMESTAMPTZ, event_uid TEXT, class_uid BIGINT, device_hostname TEXT, actor_user TEXT, \
         api_operation TEXT, resource_name TEXT) WITH (tags = 'event_uid')",
        "INSERT INTO security_events VALUES ('2026-01-01 09:30:00Z', 'a', 6003, NULL, 'eve', 'patch', 'prod/shop'), \
         ('2026-01-01 09:30:00Z', 'b', 6003, NULL, 'eve', 'get', 'prod/shop'), \
         ('2026-01-01 09:54:00Z', 'c', 3002, 'shop', 'eve', NULL, NULL)",
        "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES \
         ('00000000-0000-7000-8000-000000000001', '2026-01-01 09:30:00Z', 'slow', 'low', '{\"service\": \"store\"}'), \
         ('00000000-0000-7000-8000-000000000002', '2026-01-01 09:30:00Z', 'slow', 'low', '{\"service\": \"bank\"}')",
    ] {
        world.own.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    tried(&world, 1, "00000000-0000-7000-8000-0000000000ff", "succeeded").await;
    let told = diagnosed(&world, json!({ "symptoms": latency(&["site"]) })).await;
    let first = &told["candidates"][0];
    assert_eq!(
        (&first["component"], &first["first_deviation_at"]),
        (&json!("shop"), &json!("2026-01-01T10:00:00.000000Z"))
    );
    let evidence = first["evidence"].as_array().expect("a list");
    let score = |item: &Value| item["score"].as_f64().expect("a score");
    assert!(evidence.iter().all(|item| (0.0..=1.0).contains(&score(item))), "{told}");
    let of = |kind: &str| -> Vec<(String, f64, String)> {
        let own = evidence.iter().filter(|item| item["kind"] == kind);
        let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        own.map(|item| (text(item, "ref"), (score(item) * 1e6).round() / 1e6, text(item, "what"))).collect()
    };
    let item = |place: &str, score: f64, what: &str| (place.to_owned(), score, what.to_owned());
    let remediation = "juno_remediations/00000000-0000-7000-8000-000000000101";
    let changes = [
        item(remediation, 0.5, "scale_up by ada"),
        item("deployments/2026-01-01T09:45:00.000000Z", 0.75, "v7"),
        item("security_events/2026-01-01T09:30:00.000000Z", 0.5, "patch by eve"),
    ];
    assert_eq!(of("change"), changes);
    let events = [
        item("security_events/class_uid=3002", 0.9, "1 events"),
        item("healing_incidents/00000000-0000-7000-8000-000000000001", 0.5, "slow of store"),
    ];
    assert_eq!(of("event"), events);
    assert_eq!(of("topology"), [item("site -> shop", 1.0, "")]);
    assert_eq!(of("metric").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_tell_of_a_service_are_found() {
    let world = world(&[], &[("shop", 0)]).await;
    let columns = telemetry::columns(&world.own.db().catalog());
    let from_us = time_us("2026-01-01T09:00:00Z").expect("a time");
    let near = async |service: &str, from_us: i64| {
        let times = (from_us, from_us + 3_600_000_000);
        telemetry::tables_near(&world.own, &BTreeSet::from([service]), &columns, times).await.expect("tables")
    };
    assert_eq!(near("shop", from_us).await, BTreeSet::from(["web".to_owned()]));
    assert!(near("mail", from_us).await.is_empty() && near("shop", 0).await.is_empty());
}

#[test]
fn what_asks_for_much_becomes_a_job() {
    let long = |arguments: Value| is_long(arguments.as_object().expect("an object"));
    let window = |to: &str| json!({ "from": "2026-01-01T00:00:00Z", "to": to });
    assert!(
        !long(json!({ "baseline": "6h" }))
            && !long(json!({ "baseline": "6h", "window": window("2026-01-02T18:00:00Z") }))
    );
    assert!(long(json!({ "baseline": "6h", "window": window("2026-01-02T18:00:01Z") })));
    assert!(long(json!({ "baseline": "3d" })));
    assert!(long(json!({ "baseline": "6h", "symptoms": vec![json!({ "metric": "a.b" }); 9] })));
}
