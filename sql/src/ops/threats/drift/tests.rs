//! A model over rows that stay as they were, and become others.

use super::*;
use crate::ops::actuator::fake::World;

/// A sequence that is even between 0 and 1.
fn even(n: usize, step: f64) -> f64 {
    (n as f64 * step).fract()
}

/// A table of requests that came before, and a model of them. The table has the time of each row, by which its rows are told apart.
async fn world() -> World {
    let world = World::open().await;
    let table = "CREATE TABLE requests (at TIMESTAMPTZ, id TEXT, src_ip TEXT, bytes DOUBLE PRECISION, pause DOUBLE PRECISION) \
                 WITH (tags = 'id', time_column = 'at')";
    world.own.query(table).await.expect("a table");
    add(&world, 0..3_000, -3_600_000_000, ("192.0.2.1", 1.0)).await;
    let train = "CALL train_threat_model('web', 'SELECT at, src_ip, bytes, pause FROM requests', features => 'bytes, pause', trees => 10)";
    world.own.query(train).await.expect("a model");
    world
}

/// Requests of these numbers, from so many microseconds from now on, one each microsecond.
async fn add(world: &World, numbers: std::ops::Range<usize>, from_us: i64, (address, scale): (&str, f64)) {
    let now_us = world.own.db().system().clock().now_us() + from_us;
    let row = |(at, n): (i64, usize)| {
        let (bytes, pause) = (scale * (100.0 + 900.0 * even(n, 0.618_034)), 10.0 * even(n, 0.754_878));
        format!("('{}', 'r{n}', '{address}', {bytes}, {pause})", rfc3339(now_us + at))
    };
    let rows: Vec<String> = (0_i64..).zip(numbers).map(row).collect();
    for some in rows.chunks(1_000) {
        world.own.query(&format!("INSERT INTO requests VALUES {}", some.join(", "))).await.expect("rows");
    }
}

/// What is told of the active version after a look.
async fn look(world: &World) -> Value {
    watch_models(&world.own).await.expect("a look");
    world.row("SELECT drift FROM models WHERE active").await["drift"].clone()
}

/// The events that told of the model.
async fn told(world: &World) -> Vec<Value> {
    let rows =
        world.rows("SELECT data FROM operations_events WHERE type = 'threat' AND subject = 'web' ORDER BY id").await;
    rows.iter().map(|row| row["data"]["status"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_is_told_of_enough_rows_once_and_ends_with_another_calibration() {
    let world = world().await;
    let first = look(&world).await;
    assert_eq!((&first["state"], &first["n"]), (&json!("collecting"), &json!(0)), "rows of the training do not count");
    add(&world, 3_000..3_900, 0, ("192.0.2.1", 3.0)).await;
    let few = look(&world).await;
    assert_eq!((&few["state"], &few["n"], &few["p_value"]), (&json!("collecting"), &json!(900), &Value::Null));
    add(&world, 3_900..4_900, 0, ("192.0.2.1", 3.0)).await;
    let drifted = look(&world).await;
    assert_eq!((&drifted["state"], &drifted["n"]), (&json!("drifted"), &json!(1_900)));
    assert!(drifted["p_value"].as_f64().is_some_and(|p_value| p_value < 1e-3), "{drifted}");
    assert!(drifted["since"].is_string() && drifted["warning"].as_str().is_some_and(|text| text.contains("calibrate")));
    assert_eq!(look(&world).await, drifted, "nothing is new");
    let status = world.row("SELECT models, drifted_models FROM threats_status").await;
    assert_eq!((&status["drifted_models"], &status["models"][0]["drift"]["state"]), (&json!(1), &json!("drifted")));
    let calibrate = "CALL calibrate_threat_model('web', 'SELECT at, bytes, pause FROM requests WHERE bytes > 1000')";
    world.own.query(calibrate).await.expect("a calibration");
    assert_eq!(look(&world).await, drifted, "another version is not yet the active one");
    world.own.query("CALL promote_model('web', 2)").await.expect("a promotion");
    let anew = look(&world).await;
    assert_eq!((&anew["state"], &anew["n"], &anew["since"]), (&json!("collecting"), &json!(0), &Value::Null));
    look(&world).await;
    assert_eq!(told(&world).await, ["drifted", "over"], "once");
    let over = "SELECT data FROM operations_events WHERE type = 'threat' AND subject = 'web' ORDER BY id DESC LIMIT 1";
    assert_eq!(world.row(over).await["data"]["model"], json!({ "name": "web", "version": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_rows_and_those_of_attackers_are_no_drift() {
    let world = world().await;
    add(&world, 3_000..4_500, 0, ("192.0.2.1", 1.0)).await;
    let insert = "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES \
                  (gen_random_uuid(), now(), 'sigma', 'high', '{\"entity\": \"203.0.113.7\"}', 0.9)";
    world.own.query(insert).await.expect("a threat");
    add(&world, 4_500..4_900, 0, ("203.0.113.7", 9.0)).await;
    let steady = look(&world).await;
    assert_eq!((&steady["state"], &steady["n"]), (&json!("steady"), &json!(1_500)), "{steady}");
    assert!(steady["warning"].is_null() && told(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_gone_is_forgotten() {
    let world = world().await;
    look(&world).await;
    let kept = "SELECT count(*) AS n FROM juno_model_drift";
    assert_eq!(world.row(kept).await["n"], 1);
    let drifted = "UPDATE juno_model_drift SET drifted_at = $1 WHERE name = 'web'";
    world.own.changed_rows(drifted, &[world.own.now().into()]).await.expect("a drift");
    world.own.query("CALL drop_model('web', 1)").await.expect("it is dropped");
    for _ in 0..2 {
        watch_models(&world.own).await.expect("a look");
        assert_eq!(world.row(kept).await["n"], 0);
        assert_eq!(told(&world).await, ["over"]);
    }
}

#[test]
fn so_many_p_values_are_kept_and_none_is_at_a_level_that_it_was_above() {
    let mut record = Record {
        name: "web".into(),
        version: 1,
        since_us: 0,
        until_us: 0,
        p_values: vec![7; ROWS_KEPT],
        drifted_us: None,
        left: None,
        is_kept: true,
    };
    record.add(&[0.05, 0.050_000_01, 1e-300, 1.0]);
    assert_eq!(record.p_values.len(), ROWS_KEPT);
    assert_eq!(record.p_values[ROWS_KEPT - 4..], [50_000, 50_001, 1, 1_000_000]);
}
