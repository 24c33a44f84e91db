//! `anomaly_score` through SQL: launches, fall-backs, refusals, hostile values.
//!
//! **Invariant:** holds for any kernel: scores are compared with each other, never with a model's output.

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use crate::functions::tests::{
    START_US, builder, context, metric, numbers, one, query, refusal, rows, scattered, sorted, telemetry, text,
};

const SCORES: &str =
    "SELECT anomaly_score(usage) OVER (PARTITION BY host ORDER BY time) AS s FROM cpu ORDER BY host, time";

/// A context whose plans keep `WindowAggExec`.
fn without_batching() -> SessionContext {
    let state = builder(2).build();
    let rules =
        state.physical_optimizers().iter().filter(|rule| rule.name() != "batch_anomaly_score").cloned().collect();
    let state = SessionStateBuilder::new_from_existing(state).with_physical_optimizer_rules(rules).build();
    SessionContext::new_with_state(state)
}

#[tokio::test]
async fn all_series_of_a_query_share_one_launch() {
    for partitions in [1, 2, 8] {
        let context = context(partitions);
        scattered(&context, "cpu", &telemetry(500, 40));
        assert_eq!(metric(&context, SCORES, "ScoreExec", "launches").await, 1, "{partitions} partitions");
        let series = metric(&context, SCORES, "ScoreExec", "series").await;
        assert_eq!(series, 500);
    }
}

#[tokio::test]
async fn sorted_input_is_scored_in_one_launch_too() {
    let context = context(2);
    sorted(&context, "cpu", &telemetry(100, 50));
    assert_eq!(metric(&context, SCORES, "ScoreExec", "launches").await, 1);
    assert_eq!(numbers(&context, SCORES).await.len(), 5_000);
}

#[tokio::test]
async fn the_batching_node_and_the_window_operator_score_alike() {
    let (batched, plain) = (context(2), without_batching());
    for context in [&batched, &plain] {
        scattered(context, "cpu", &telemetry(9, 300));
    }
    let plan = text(&plain, &format!("EXPLAIN {SCORES}")).await.join("\n");
    assert!(!plan.contains("ScoreExec") && plan.contains("WindowAggExec"), "{plan}");
    assert_eq!(numbers(&batched, SCORES).await, numbers(&plain, SCORES).await);
}

#[tokio::test]
async fn other_window_functions_beside_it_keep_their_columns() {
    let context = context(2);
    scattered(&context, "cpu", &telemetry(5, 200));
    let sql = "SELECT host, anomaly_score(usage) OVER w AS a, row_number() OVER w AS n, anomaly_score(-usage) OVER w AS b, \
               avg(usage) OVER w AS m FROM cpu WINDOW w AS (PARTITION BY host ORDER BY time)";
    assert_eq!(metric(&context, sql, "ScoreExec", "series").await, 10, "two columns of five series");
    assert_eq!(metric(&context, sql, "ScoreExec", "launches").await, 1);
    let batches = query(&context, &format!("SELECT a FROM ({sql}) ORDER BY host, n")).await;
    let alone = query(&context, SCORES).await;
    let all = |batches: &[arrow::array::RecordBatch]| arrow::compute::concat_batches(&batches[0].schema(), batches);
    assert_eq!(all(&batches).expect("one schema").column(0), all(&alone).expect("one schema").column(0));
    assert_eq!(one(&context, &format!("SELECT max(n) FROM ({sql})")).await, "200");
}

#[tokio::test]
async fn without_partition_by_all_rows_are_one_series() {
    let context = context(2);
    scattered(&context, "cpu", &telemetry(1, 400));
    let sql = "SELECT anomaly_score(usage) OVER (ORDER BY time) AS s FROM cpu ORDER BY time";
    assert_eq!(metric(&context, sql, "ScoreExec", "series").await, 1);
    assert_eq!(numbers(&context, sql).await, numbers(&context, SCORES).await);
}

#[tokio::test]
async fn a_frame_has_no_effect() {
    let context = context(2);
    scattered(&context, "cpu", &telemetry(2, 300));
    let framed = SCORES.replace("time) AS", "time ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS");
    assert_eq!(numbers(&context, &framed).await, numbers(&context, SCORES).await);
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused() {
    let context = context(2);
    scattered(&context, "cpu", &telemetry(2, 20));
    for (sql, says) in [
        ("anomaly_score(usage) OVER (PARTITION BY host)", "ORDER BY time"),
        ("anomaly_score(usage) OVER (ORDER BY time DESC)", "ascending"),
        ("anomaly_score(usage) FILTER (WHERE usage > 0) OVER (ORDER BY time)", "no FILTER"),
        ("anomaly_score(host) OVER (ORDER BY time)", "must be a number"),
        ("anomaly_score() OVER (ORDER BY time)", "anomaly_score"),
        ("anomaly_score(usage, 1) OVER (ORDER BY time)", "anomaly_score"),
        ("anomaly_score(usage)", "anomaly_score"),
    ] {
        let error = refusal(&context, &format!("SELECT {sql} FROM cpu")).await;
        assert!(error.contains(says), "{sql}: {error}");
    }
}

#[tokio::test]
async fn hostile_values_give_null_or_a_score() {
    let context = context(2);
    let values = [Some(f64::NAN), None, Some(f64::INFINITY), Some(f64::MIN), Some(0.0), Some(f64::MAX), Some(1.0)];
    let table: Vec<_> = (0..700).map(|i| (Some(START_US + i), "h", values[i as usize % values.len()])).collect();
    scattered(&context, "cpu", &rows(&table));
    let scores = numbers(&context, SCORES).await;
    assert_eq!(scores.len(), 700);
    for (index, score) in scores.iter().enumerate() {
        match index % values.len() {
            0 | 1 => assert_eq!(*score, None, "{index}"),
            _ => assert!(score.is_none_or(|score| (0.0..1.0).contains(&score)), "{index}: {score:?}"),
        }
    }
    assert_eq!(numbers(&context, &SCORES.replace("FROM cpu", "FROM cpu WHERE host = 'none'")).await, []);
}

#[tokio::test]
async fn integers_and_decimals_are_scored_as_numbers() {
    let context = context(1);
    scattered(&context, "cpu", &telemetry(1, 50));
    for value in ["usage::BIGINT", "usage::DECIMAL(10,2)", "usage::REAL", "NULL"] {
        let sql = format!("SELECT anomaly_score({value}) OVER (ORDER BY time) FROM cpu");
        assert_eq!(text(&context, &sql).await.len(), 50, "{value}");
    }
}
