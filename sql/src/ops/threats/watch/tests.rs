//! What rules tell of new events: once, by rule and entity, also after a restart.

use serde_json::{Value, json};

use super::*;
use crate::ops::actuator::fake::World;
use crate::ops::threats::sigma::{RuleFile, load_rules};

const FAILED: &str = "title: Failed logon of root\nid: root\nlevel: high\ntags: [attack.t1110]\nlogsource:\n    product: linux\n    service: \
                      sshd\ndetection:\n    selection:\n        actor_user: root\n        status_id: 2\n    condition: selection\n";

/// A database with events that begin now, and these rules.
async fn world(rules: &str) -> World {
    let world = World::open().await;
    let table = "CREATE TABLE security_events (time TIMESTAMPTZ, source_name TEXT, event_uid TEXT, class_uid BIGINT, \
                 status_id BIGINT, actor_user TEXT, src_ip TEXT, device_hostname TEXT, raw TEXT) WITH (tags = 'source_name, event_uid')";
    world.own.query(table).await.expect("a table");
    load(&world, rules).await;
    world
}

async fn load(world: &World, rules: &str) {
    let file = RuleFile { name: "a.yml".into(), text: Ok(rules.into()) };
    let told = load_rules(&world.own, &[file]).await.expect("rules");
    assert!(told.iter().all(|one| one.rules.is_ok()), "{told:?}");
}

/// Failed logons, as many as there are ids, one second apart from an hour ago on; of no class, so that no behaviour looks at them.
async fn logons(world: &World, user: &str, address: &str, ids: std::ops::Range<i64>) {
    let hour_ago_us = world.own.db().system().clock().now_us() - 3_600_000_000;
    let row = |id: i64| {
        let time = rfc3339(hour_ago_us + id * 1_000_000);
        format!("('{time}', 'sshd', 'e{id}', 1, 2, '{user}', '{address}', 'web1', 'Failed password for {user}')")
    };
    let rows: Vec<String> = ids.map(row).collect();
    world.own.query(&format!("INSERT INTO security_events VALUES {}", rows.join(", "))).await.expect("events");
}

async fn told(world: &World) -> Vec<Value> {
    let rows = world.rows("SELECT * FROM threats_history WHERE threat_type = 'sigma' ORDER BY id").await;
    rows.into_iter().map(Value::Object).collect()
}

async fn look(watch: &mut ThreatWatch, world: &World) -> usize {
    watch.look(&world.own).await.expect("a look").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_tells_of_an_entity_once_while_its_threat_is_open_and_of_no_event_twice() {
    let world = world(FAILED).await;
    let mut watch = ThreatWatch::default();
    logons(&world, "root", "203.0.113.7", 0..3).await;
    logons(&world, "ada", "203.0.113.9", 3..5).await;
    assert_eq!(look(&mut watch, &world).await, 1);
    let all = told(&world).await;
    let (threat, indicators) = (&all[0], &all[0]["indicators"]);
    assert_eq!(
        (&threat["severity"], &threat["confidence_score"], &threat["entity"]),
        (&json!("high"), &json!(0.85), &json!("203.0.113.7"))
    );
    assert_eq!(
        (&indicators["rule_id"], &indicators["mitre"], &indicators["events"]),
        (&json!("root"), &json!(["T1110"]), &json!(3))
    );
    assert_eq!(indicators["event_uids"], json!(["e0", "e1", "e2"]));
    assert_eq!(indicators["evidence"]["selections"], json!(["selection"]));
    assert_eq!((&threat["mitre"], &threat["dedup_count"]), (&json!(["T1110"]), &json!(3)));
    assert_eq!(
        (&threat["first_seen"], &threat["last_seen"]),
        (&indicators["window"]["from"], &indicators["window"]["to"])
    );
    assert_eq!(threat["recommended_response"], json!({ "action": "block_ip", "target": "203.0.113.7" }));
    logons(&world, "root", "203.0.113.7", 5..7).await;
    assert_eq!(look(&mut watch, &world).await, 0, "the threat is open");
    logons(&world, "root", "203.0.113.8", 7..8).await;
    assert_eq!(look(&mut watch, &world).await, 1, "another entity is another threat");
    world.own.query("UPDATE threat_events SET resolved_at = now()").await.expect("an end");
    logons(&world, "root", "203.0.113.7", 0..3).await;
    assert_eq!(look(&mut watch, &world).await, 0, "sent again, they are the same events");
    logons(&world, "root", "203.0.113.7", 4_000..4_001).await;
    assert_eq!(look(&mut watch, &world).await, 1, "what is new after the end is a new threat");
    assert_eq!(told(&world).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_nothing_again_and_misses_nothing() {
    let world = world(FAILED).await;
    logons(&world, "root", "203.0.113.7", 0..3).await;
    assert_eq!(look(&mut ThreatWatch::default(), &world).await, 1);
    world.own.query("UPDATE threat_events SET resolved_at = now()").await.expect("an end");
    // Nobody watches these.
    logons(&world, "root", "203.0.113.8", 3..4).await;
    let world = world.reopened().await;
    assert_eq!(look(&mut ThreatWatch::default(), &world).await, 1);
    let entities: Vec<Value> = told(&world).await.iter().map(|threat| threat["entity"].clone()).collect();
    assert_eq!(entities, ["203.0.113.7", "203.0.113.8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_judges_so_many_events_and_the_next_ones_the_rest() {
    let many = "title: Many\nid: many\nlevel: medium\ncorrelation:\n    type: event_count\n    rules: [root]\n    group-by: [src_ip]\n    \
                timespan: 3h\n    condition:\n        gte: 5500\n";
    let world = world(&format!("{FAILED}---\n{many}")).await;
    let mut watch = ThreatWatch::default();
    for from in (0..6_000).step_by(1_000) {
        logons(&world, "root", "203.0.113.7", from..from + 1_000).await;
    }
    assert_eq!(look(&mut watch, &world).await, 0, "5000 events are no 5500");
    assert_eq!(look(&mut watch, &world).await, 1, "nothing new has come, and the rest is judged");
    assert_eq!(look(&mut watch, &world).await, 0);
    assert_eq!(told(&world).await[0]["indicators"]["evidence"]["correlation"], "event_count");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rules_hold_from_the_next_event_on_and_rules_that_are_gone_tell_nothing() {
    let world = world(FAILED).await;
    let mut watch = ThreatWatch::default();
    logons(&world, "ada", "203.0.113.9", 0..1).await;
    assert_eq!(look(&mut watch, &world).await, 0);
    load(&world, &FAILED.replace("root", "ada")).await;
    logons(&world, "ada", "203.0.113.9", 1..2).await;
    assert_eq!(look(&mut watch, &world).await, 1);
    load_rules(&world.own, &[]).await.expect("no rules");
    logons(&world, "ada", "203.0.113.10", 2..3).await;
    assert_eq!(look(&mut watch, &world).await, 0);
    let file = RuleFile { name: "a.yml".into(), text: Ok("title: broken".into()) };
    let refused = load_rules(&world.own, &[file]).await.expect("a load");
    assert!(refused[0].rules.is_err());
    assert_eq!(look(&mut watch, &world).await, 0, "a rule that is broken keeps nothing else from being watched");
}
