//! What analyses say of events of an entity and of events that are sent, on a real database.

use super::*;
use crate::ops::actuator::fake::{World, refusal};
use crate::ops::threats::sigma::{RuleFile, load_rules};

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
async fn events_of_an_entity_are_read_of_a_day_where_no_window_is_given() {
    let world = world().await;
    let now_us = world.own.db().system().clock().now_us();
    let old = rfc3339(now_us - 90_000_000_000);
    let row = format!("('{old}', 'sshd', 'old', 3002, 'root', '203.0.113.7', 1e9, 1e9)");
    world.own.query(&format!("INSERT INTO security_events VALUES {row}")).await.expect("an old event");
    let count = async |window: Value| {
        let mut asked = json!({ "entity": "203.0.113.7" });
        if !window.is_null() {
            asked["window"] = window;
        }
        world.ask(&OPERATION, ADA, asked).await.expect("a judgement").value["events"].clone()
    };
    assert_eq!(count(Value::Null).await, 1);
    assert_eq!(count(json!({})).await, 1);
    assert_eq!(count(json!({ "from": old })).await, 2);
    assert_eq!(count(json!({ "to": rfc3339(now_us - 7_200_000_000) })).await, 1, "a day before that end");
}

/// A judgement of these events of logons, each with its user and the second in which it was, all alike suspicious.
async fn techniques_of(world: &World, events: &[(&str, u32)]) -> Vec<Value> {
    let one = |(user, second): &(&str, u32)| {
        json!({
            "time": format!("2026-01-01T00:00:{second:02}Z"), "source_name": "sshd", "class_uid": 3002, "actor_user": user,
            "src_ip": "203.0.113.7", "bytes_out": 1e9, "duration_ms": 1e9,
        })
    };
    let events: Vec<Value> = events.iter().map(one).collect();
    let told = world.ask(&OPERATION, ADA, json!({ "events": events })).await.expect("a judgement").value;
    let mut threats = told["threats"].as_array().expect("a list").clone();
    threats.sort_by_key(|threat| threat["event"].as_u64());
    threats.iter().map(|threat| threat["mitre"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_count_by_the_times_of_events_and_each_analysis_anew() {
    let world = world().await;
    let order = "title: root after eve\nid: order\nlevel: high\ntags: [attack.t1078]\ncorrelation:\n    type: temporal_ordered\n    \
                 rules: [eve, root]\n    group-by: [src_ip]\n    timespan: 1m\n";
    let eve = RULE.replace("root", "eve").replace("t1110", "t1021");
    let file = RuleFile { name: "a.yml".into(), text: Ok(format!("{RULE}---\n{eve}---\n{order}")) };
    load_rules(&world.own, &[file]).await.expect("rules");
    let found =
        |told: &[Value], number: usize| told[number].as_array().is_some_and(|all| all.contains(&json!("T1078")));
    let told = techniques_of(&world, &[("root", 9), ("eve", 1)]).await;
    assert!(found(&told, 0) && !found(&told, 1), "{told:?}");
    let told = techniques_of(&world, &[("root", 1), ("eve", 9)]).await;
    assert!(!found(&told, 0), "{told:?}");
    techniques_of(&world, &[("eve", 1)]).await;
    let told = techniques_of(&world, &[("root", 2)]).await;
    assert!(!found(&told, 0), "what another analysis saw does not count: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_compiled_once_and_anew_where_they_were_loaded_anew() {
    let world = world().await;
    let root = [("root", 1)];
    assert!(world.own.operations().rules.lock().is_none());
    assert_eq!(techniques_of(&world, &root).await, [json!(["T1110"])]);
    let other = RULE.replace("t1110", "t1021");
    {
        let mut at_rest = world.own.operations().rules.lock();
        let rules = at_rest.as_mut().expect("rules that were given back");
        rules.judge = sigma::judge::Judge::of([other.as_str()]).expect("a rule");
    }
    assert_eq!(techniques_of(&world, &root).await, [json!(["T1021"])], "those at rest are used");
    let file =
        RuleFile { name: "b.yml".into(), text: Ok(RULE.replace("id: root", "id: more").replace("t1110", "t1078")) };
    let again = RuleFile { name: "a.yml".into(), text: Ok(RULE.into()) };
    load_rules(&world.own, &[again, file]).await.expect("rules");
    assert_eq!(techniques_of(&world, &root).await, [json!(["T1078", "T1110"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_table_of_events_an_entity_cannot_be_looked_for() {
    let world = World::open().await;
    let asked = world.ask(&OPERATION, ADA, json!({ "entity": "203.0.113.7" })).await;
    assert_eq!(refusal(asked), Refused::NoTelemetry);
}
