//! What analyses say of events of an entity and of events that are sent, on a real database.

use super::*;
use crate::ops::actuator::fake::{World, refusal};
use crate::ops::threats::sigma::{RuleFile, load_rules};
use crate::session::rfc3339;

const ADA: (&str, Role) = ("ada", Role::Operator);
const RULE: &str = "title: Failed logon of root\nid: root\nlevel: high\ntags: [attack.t1110, attack.credential-access]\nlogsource:\n    \
                    product: linux\n    service: sshd\ndetection:\n    selection:\n        actor_user: root\n    condition: selection\n";

/// Ordinary events, one of an attacker, a model of the ordinary ones, and a rule that the other matches.
async fn world() -> World {
    let world = World::open().await;
    let table = "CREATE TABLE security_events (time TIMESTAMPTZ, source_name TEXT, event_uid TEXT, class_uid BIGINT, actor_user TEXT, \
                 src_ip TEXT, bytes_out DOUBLE PRECISION, duration_ms DOUBLE PRECISION) WITH (tags = 'source_name, event_uid')";
    world.own.query(table).await.expect("a table");
    let now_us = world.own.db().system().clock().now_us() - 3_600_000_000;
    let even = |n: i64, step: f64| (n as f64 * step).fract();
    let row = |n: i64| {
        let (bytes, duration) = (100.0 + 900.0 * even(n, 0.618_034), 10.0 * even(n, 0.754_878));
        format!("('{}', 'sshd', 'e{n}', 3002, 'ada', '192.0.2.1', {bytes}, {duration})", rfc3339(now_us + n))
    };
    let rows: Vec<String> = (0..2_000).map(row).collect();
    world.own.query(&format!("INSERT INTO security_events VALUES {}", rows.join(", "))).await.expect("events");
    let train = "CALL train_threat_model('net', 'SELECT bytes_out, duration_ms FROM security_events')";
    world.own.query(train).await.expect("a model");
    let attack = format!("('{}', 'sshd', 'a', 3002, 'root', '203.0.113.7', 1e9, 1e9)", rfc3339(now_us));
    world.own.query(&format!("INSERT INTO security_events VALUES {attack}")).await.expect("an attack");
    let file = RuleFile { name: "a.yml".into(), text: Ok(RULE.into()) };
    load_rules(&world.own, &[file]).await.expect("a rule");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_looked_for_in_the_security_events_and_its_alarms_name_techniques() {
    let world = world().await;
    let asked = json!({ "entity": "203.0.113.7", "persist": true });
    let told = world.ask(&OPERATION, ADA, asked).await.expect("a judgement").value;
    assert_eq!((&told["events"], &told["alarms"]), (&json!(1), &json!(1)), "{told}");
    assert_eq!(told["threats"][0]["mitre"], json!(["T1110"]));
    let alert = world.row("SELECT * FROM threats_alerts").await;
    assert_eq!((&alert["mitre"], &alert["entity"]), (&json!(["T1110"]), &json!("203.0.113.7")));
    let seen = json!({ "indicators": [{ "type": "ip", "value": "203.0.113.7" }] });
    let seen = world.ask(&OPERATION, ADA, seen).await.expect("a look-up").value;
    assert_eq!(seen["threats"][0]["mitre"], json!(["T1110"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_sent_may_name_its_techniques() {
    let world = world().await;
    let event = json!({ "bytes_out": 1e9, "duration_ms": 1e9, "technique": "T1041", "mitre": ["T1048.003", "x"] });
    let told = world.ask(&OPERATION, ADA, json!({ "events": [event] })).await.expect("a judgement").value;
    assert_eq!(told["threats"][0]["mitre"], json!(["T1041", "T1048.003"]));
    let plain = json!({ "events": [{ "bytes_out": 1e9, "duration_ms": 1e9 }] });
    let told = world.ask(&OPERATION, ADA, plain).await.expect("a judgement").value;
    assert_eq!(told["threats"][0]["mitre"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_table_of_events_an_entity_cannot_be_looked_for() {
    let world = World::open().await;
    let asked = world.ask(&OPERATION, ADA, json!({ "entity": "203.0.113.7" })).await;
    assert_eq!(refusal(asked), Refused::NoTelemetry);
}
