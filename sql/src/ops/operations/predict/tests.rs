//! Predictions: what is told of series whose future is known.

use juno_kernels::SplitMix;

use super::*;
use crate::ops::actuator::fake::World;

/// Midnight; what is forecast begins here.
const AS_OF_US: i64 = 1_767_225_600_000_000;
const STEP_US: i64 = 300_000_000;
/// Points of a series.
const POINTS: i64 = 600;

/// A database with a series of noise around 100: of a deviation of 10, and for its newest hours of another one.
async fn noisy(newest: f64) -> World {
    let world = World::open().await;
    let table = "CREATE TABLE load (time TIMESTAMPTZ, service TEXT, cpu DOUBLE PRECISION) WITH (tags = 'service')";
    world.own.query(table).await.expect("a table");
    let mut random = SplitMix::new(11, 0);
    let row = |step: i64| {
        let deviation = if step <= 60 { newest } else { 10.0 };
        format!("('{}', 'shop', {})", rfc3339(AS_OF_US - step * STEP_US), 100.0 + deviation * random.normal())
    };
    let rows: Vec<String> = (1..=POINTS).rev().map(row).collect();
    world.own.query(&format!("INSERT INTO load VALUES {}", rows.join(", "))).await.expect("rows");
    world
}

/// The answer about that series.
async fn told(world: &World, capacity: f64, include: &[&str], persist: bool) -> Value {
    let asked = json!({
        "targets": [{ "metric": "load.cpu", "labels": { "service": "shop" }, "capacity": capacity }], "horizon": "1h",
        "as_of": rfc3339(AS_OF_US), "include": include, "persist": persist,
    });
    let answer = world.ask(&OPERATION, ("ada", Role::Operator), asked).await.expect("a forecast").value;
    answer["series"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_as_likely_as_the_spread_of_the_series_says() {
    let world = noisy(10.0).await;
    let risk = async |capacity: f64| {
        let told = told(&world, capacity, &["failure_risk"], false).await;
        assert!(told["points"].is_null() && told["backtest"].is_null(), "it was not asked for: {told}");
        told["failure_risk"]["probability"].as_f64().expect("a probability")
    };
    // One deviation above the mean: 16 % of the points are there or above.
    let (low, one, high) = (risk(20.0).await, risk(110.0).await, risk(1_000.0).await);
    assert_eq!((low, high), (1.0, 0.0));
    assert!((0.08..0.4).contains(&one), "{one}");
    assert!(risk(105.0).await >= one && one >= risk(120.0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anomaly_is_as_likely_as_the_past_was_outside_of_its_band() {
    let mut risks = Vec::new();
    for newest in [10.0, 60.0] {
        let told = told(&noisy(newest).await, 1_000.0, &["anomaly_risk", "backtest"], false).await;
        let risk = told["anomaly_risk"]["probability"].as_f64().expect("a probability");
        let coverage = told["backtest"]["coverage90"].as_f64().expect("a share");
        assert!((risk + coverage - 1.0).abs() < 1e-9, "{told}");
        risks.push(risk);
    }
    assert!(risks[0] < 0.3 && risks[1] > risks[0] + 0.1, "{risks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_as_the_contract_does_is_told_with_its_model_and_kept_where_that_is_wanted() {
    let world = noisy(10.0).await;
    let include = ["forecast", "anomaly_risk", "failure_risk", "capacity_exhaustion"];
    let passing = told(&world, 300.0, &include, false).await;
    assert_eq!((&passing["model"], &passing["forecast_id"]), (&json!("full"), &Value::Null));
    assert_eq!(passing["points"].as_array().map(Vec::len), Some(12));
    assert!(passing["warnings"].is_array(), "{passing}");
    assert!(world.rows("SELECT id FROM juno_forecasts").await.is_empty(), "nothing is kept unasked");
    let kept = told(&world, 300.0, &include, true).await;
    let row = world.row("SELECT * FROM juno_forecasts").await;
    assert_eq!((&row["id"], &row["model"], &row["created_by"]), (&kept["forecast_id"], &json!("full"), &json!("ada")));
    assert_eq!((&row["target"]["metric"], row["horizon_s"].as_f64()), (&json!("load.cpu"), Some(3_600.0)));
    assert_eq!(row["result"]["points"].as_array().map(Vec::len), Some(12));
    assert_eq!(row["result"]["failure_risk"]["probability"].as_f64(), kept["failure_risk"]["probability"].as_f64());
}

#[tokio::test(flavor = "multi_thread")]
async fn forecasts_are_kept_for_thirty_days() {
    let world = noisy(10.0).await;
    for _ in 0..2 {
        told(&world, 300.0, &["forecast"], true).await;
    }
    assert_eq!(world.own.purge_forecasts().await.expect("a purge"), 0, "they are new");
    let first = world.rows("SELECT id FROM juno_forecasts ORDER BY id").await.remove(0);
    for (days, left) in [(29, 2), (31, 1)] {
        let at = rfc3339(world.own.db().system().clock().now_us() - days * 86_400_000_000);
        let update = "UPDATE juno_forecasts SET created_at = $2 WHERE id = $1";
        world.own.changed_rows(update, &[first["id"].clone(), at.into()]).await.expect("an update");
        assert_eq!(world.own.purge_forecasts().await.expect("a purge"), 2 - left, "after {days} days");
        assert_eq!(world.rows("SELECT id FROM juno_forecasts").await.len() as u64, left);
    }
}

#[test]
fn auto_is_the_full_model_for_as_much_as_it_does_in_seconds() {
    assert_eq!((used("auto", 400_000), used("auto", 400_001)), ("full", "lean"));
    assert_eq!((used("lean", 1), used("full", 1_000_000)), ("lean", "full"));
    assert_eq!((tested_slots(100, 10), tested_slots(25, 10), tested_slots(5, 10)), (350, 20, 0));
}

#[test]
fn quantiles_are_named_by_their_percent() {
    assert_eq!([0.05, 0.5, 0.95, 0.975, 0.001].map(named), ["q05", "q50", "q95", "q975", "q001"]);
}

#[test]
fn quantiles_are_bounds_of_intervals() {
    let bounds = [0.05, 0.5, 0.95, 0.99, 0.001].map(bound);
    let texts = bounds.each_ref().map(|(column, level)| (*column, level.as_str()));
    let expected = [
        ("lower", "0.900000"),
        ("forecast", "0.900000"),
        ("upper", "0.900000"),
        ("upper", "0.980000"),
        ("lower", "0.998000"),
    ];
    assert_eq!(texts, expected);
}

#[test]
fn much_work_is_a_job() {
    let asked = |targets: usize, horizon: &str| {
        let arguments = json!({ "targets": vec![json!({}); targets], "horizon": horizon, "step": "1m" });
        is_long(arguments.as_object().unwrap())
    };
    assert!(!asked(200, "1000m") && asked(201, "1000m") && !asked(1, "24h"));
}

#[test]
fn a_capacity_is_reached_at_the_first_point_over_it() {
    let points: Vec<Map<String, Value>> =
        (0..4).map(|t| json!({ "t": t, "mean": t }).as_object().unwrap().clone()).collect();
    assert_eq!((reached(&points, "mean", 2.0), reached(&points, "mean", 9.0)), (json!(2), Value::Null));
}
