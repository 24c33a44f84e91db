//! `forecast` through SQL, in both forms: launches, arguments, shapes, refusals, hostile rows.
//!
//! **Invariant:** holds for any kernel: numbers are compared with each other, never with a model's output.

use std::sync::Arc;

use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use crate::Error;
use crate::functions::kernel_counters;
use crate::functions::tests::{
    HOUR_US, START_US, builder, context, metric, one, query, refusal, rows, scattered, sorted, telemetry, text,
};

const AGGREGATE: &str =
    "SELECT host, forecast(time, usage, horizon => '24 hours', level => 0.9) AS f FROM cpu GROUP BY host";
const TABLE: &str = "SELECT * FROM forecast('cpu', 'usage', by => 'host', horizon => '24 hours', level => 0.9)";

/// A context with a table of three hosts and ten days.
fn small() -> SessionContext {
    let context = context(2);
    scattered(&context, "cpu", &telemetry(3, 240));
    context
}

/// All rows, in the order of the result's first two columns.
async fn ordered(context: &SessionContext, sql: &str) -> Vec<String> {
    text(context, &format!("SELECT * FROM ({sql}) AS q ORDER BY 1, 2")).await
}

#[tokio::test]
async fn all_series_of_a_query_share_one_launch() {
    for partitions in [1, 2, 8] {
        let context = context(partitions);
        scattered(&context, "cpu", &telemetry(500, 30));
        for sql in [AGGREGATE, TABLE] {
            assert_eq!(metric(&context, sql, "ForecastExec", "launches").await, 1, "{partitions} partitions: {sql}");
            assert_eq!(metric(&context, sql, "ForecastExec", "series").await, 500, "{sql}");
        }
    }
}

#[tokio::test]
async fn input_sorted_by_series_does_not_cost_a_launch_per_series() {
    for partitions in [1, 2] {
        let context = context(partitions);
        sorted(&context, "cpu", &telemetry(200, 30));
        let plan = text(&context, &format!("EXPLAIN {TABLE}")).await.join("\n");
        assert!(plan.contains("ordering_mode=Sorted"), "the case at hand is an aggregate that ends early\n{plan}");
        for sql in [AGGREGATE, TABLE] {
            assert_eq!(metric(&context, sql, "ForecastExec", "launches").await, 1, "{sql}");
            assert_eq!(metric(&context, sql, "ForecastExec", "series").await, 200, "{sql}");
        }
    }
}

#[tokio::test]
async fn process_wide_counters_count_on() {
    let context = small();
    let before = kernel_counters();
    query(&context, TABLE).await;
    let after = kernel_counters();
    assert!(after.0 > before.0 && after.1 >= before.1 + 3);
}

#[tokio::test]
async fn the_horizon_begins_one_step_after_the_last_time() {
    let context = small();
    let sql = "SELECT count(*), count(DISTINCT host), min(time), max(time), bool_and(lower <= forecast AND forecast <= upper) \
               FROM forecast('cpu', 'usage', by => 'host', horizon => '24 hours')";
    assert_eq!(one(&context, sql).await, "72|3|2024-01-11T00:00:00Z|2024-01-11T23:00:00Z|true");
    let columns = query(&context, TABLE).await[0].schema();
    let names: Vec<_> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["host", "time", "forecast", "lower", "upper"]);
}

#[tokio::test]
async fn every_way_to_write_the_call_means_the_same() {
    let context = small();
    scattered(&context, "\"Cpu Load\"", &telemetry(3, 240));
    let expected = ordered(&context, TABLE).await;
    assert_eq!(expected.len(), 72);
    for call in [
        "forecast('cpu', 'usage', 'host', '24 hours', 0.9)",
        "forecast('cpu', 'usage', 'host', 24, 0.9, 'time')",
        "forecast(cpu, usage, by => host, horizon => INTERVAL '1 day', level => 0.9)",
        "forecast('public.cpu', 'usage', by => ARRAY['host'], horizon => '24', level => 0.90, time => 'time')",
        "forecast(relation => 'cpu', value => '\"usage\"', horizon => 12 * 2, by => 'HOST', level => 0.9)",
        "Forecast((SELECT * FROM cpu), 'usage', by => 'host', horizon => '1 day', level => 1 - 0.1)",
        "forecast((SELECT host, time AS ts, usage AS u FROM cpu ORDER BY random()), 'u', by => 'host', horizon => 24, level => 0.9)",
        "forecast('\"Cpu Load\"', 'usage', by => 'host', horizon => 24, level => 0.9)",
    ] {
        assert_eq!(ordered(&context, &format!("SELECT * FROM {call}")).await, expected, "{call}");
    }
    let aggregate = format!(
        "SELECT host, f['time'] AS t, f['forecast'], f['lower'], f['upper'] FROM (SELECT host, unnest(f) AS f FROM ({AGGREGATE}))"
    );
    assert_eq!(ordered(&context, &aggregate).await, expected);
    let positional = AGGREGATE.replace("horizon => ", "").replace("level => ", "");
    assert_eq!(ordered(&context, &positional).await, ordered(&context, AGGREGATE).await);
    let cte =
        "WITH c AS (SELECT * FROM cpu) SELECT * FROM forecast(c, 'usage', by => 'host', horizon => 24, level => 0.9)";
    assert_eq!(ordered(&context, cte).await, expected);
}

#[tokio::test]
async fn the_result_is_a_relation_like_any_other() {
    let context = small();
    let joined = "SELECT count(*) FROM forecast('cpu', 'usage', by => 'host', horizon => 2) AS f \
                  JOIN cpu AS c ON c.host = f.host AND c.time = f.time - INTERVAL '1 day' WHERE f.forecast IS NOT NULL";
    assert_eq!(one(&context, joined).await, "6");
    let filtered = "SELECT host, count(*) FROM forecast('cpu', 'usage', by => 'host', horizon => 5) \
                    WHERE host = 'host_0001' GROUP BY host";
    assert_eq!(text(&context, filtered).await, ["host_0001|5"]);
    let renamed = "SELECT f.h, f.t FROM forecast('cpu', 'usage', by => 'host', horizon => 1) AS f(h, t, v, l, u) ORDER BY 1 LIMIT 1";
    assert_eq!(text(&context, renamed).await, ["host_0000|2024-01-11T00:00:00Z"]);
    let own_name = "SELECT forecast.forecast IS NULL FROM forecast('cpu', 'usage', by => 'host', horizon => 1) LIMIT 1";
    assert_eq!(text(&context, own_name).await, ["false"]);
    let plan = text(&context, &format!("EXPLAIN {TABLE}")).await.join("\n");
    assert!(plan.contains("ForecastExec: device=cpu"), "{plan}");
}

#[tokio::test]
async fn without_by_all_rows_are_one_series() {
    let context = small();
    assert_eq!(one(&context, "SELECT count(*) FROM forecast('cpu', 'usage', horizon => '6 hours')").await, "6");
    let sql = "SELECT array_length(forecast(time, usage, 6)), count(*) FROM cpu";
    assert_eq!(one(&context, sql).await, "6|720");
}

#[tokio::test]
async fn several_columns_share_a_launch_and_stand_beside_other_aggregates() {
    let context = small();
    let sql = "SELECT host, max(usage), forecast(time, usage, 3), count(*), forecast(time, -usage, '3 hours'), \
               forecast(time, usage, 3) FILTER (WHERE usage > 1e9) FROM cpu GROUP BY host";
    assert_eq!(metric(&context, sql, "ForecastExec", "launches").await, 1);
    assert_eq!(metric(&context, sql, "ForecastExec", "series").await, 6, "filtered away rows leave no series");
    let lengths = format!("SELECT array_length(f), array_length(g), n FROM ({sql}) AS q(h, m, f, n, g, none)");
    assert_eq!(text(&context, &lengths).await, ["3|3|240"; 3]);
}

#[tokio::test]
async fn order_duplicates_and_nulls_do_not_change_a_forecast() {
    let clean = telemetry(1, 200);
    let context = context(2);
    scattered(&context, "clean", &clean);
    let messy = "SELECT time, host, usage + 1 AS usage FROM clean UNION ALL SELECT time, host, usage - 1 FROM clean \
                 UNION ALL SELECT time, host, NULL FROM clean UNION ALL SELECT NULL, host, 1e6 FROM clean \
                 UNION ALL SELECT time, host, 'NaN'::DOUBLE PRECISION FROM clean";
    let count = "SELECT count(*) FROM forecast('clean', 'usage', horizon => 12) AS a JOIN \
                 forecast((MESSY), 'usage', horizon => 12) AS b ON a.time = b.time AND abs(a.forecast - b.forecast) < 1e-6";
    assert_eq!(one(&context, &count.replace("MESSY", messy)).await, "12");
}

#[tokio::test]
async fn the_aggregate_forecasts_alike_where_the_rule_does_not_reach() {
    let batched = small();
    let rules =
        batched.state().physical_optimizers().iter().filter(|rule| rule.name() != "batch_forecast").cloned().collect();
    let state = SessionStateBuilder::new_from_existing(batched.state()).with_physical_optimizer_rules(rules).build();
    let plain = SessionContext::new_with_state(state);
    let plan = text(&plain, &format!("EXPLAIN {TABLE}")).await.join("\n");
    assert!(!plan.contains("ForecastExec"), "{plan}");
    assert_eq!(ordered(&plain, TABLE).await, ordered(&batched, TABLE).await);
    assert_eq!(one(&plain, "SELECT array_length(forecast(time, usage, 4)) FROM cpu").await, "4");
}

#[tokio::test]
async fn several_levels_share_a_fit_and_each_is_what_it_is_alone() {
    let context = small();
    let both = TABLE.replace("0.9", "ARRAY[0.5, 0.9]");
    assert_eq!(metric(&context, &both, "ForecastExec", "launches").await, 1);
    assert_eq!(metric(&context, &both, "ForecastExec", "series").await, 3);
    let columns = query(&context, &both).await[0].schema();
    let names: Vec<_> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["host", "time", "level", "forecast", "lower", "upper"]);
    for level in ["0.5", "0.9"] {
        let part = format!("SELECT host, time, forecast, lower, upper FROM ({both}) AS both WHERE level = {level}");
        assert_eq!(ordered(&context, &part).await, ordered(&context, &TABLE.replace("0.9", level)).await, "{level}");
    }
    let nested = format!(
        "SELECT count(*), bool_and(w.lower <= n.lower AND n.upper <= w.upper) FROM ({both}) AS w JOIN ({both}) AS n \
         ON w.host = n.host AND w.time = n.time WHERE w.level = 0.9 AND n.level = 0.5"
    );
    assert_eq!(one(&context, &nested).await, "72|true");
    let aggregate = AGGREGATE.replace("0.9", "ARRAY[0.5, 0.9]");
    let rows = format!(
        "SELECT host, f['time'] AS t, f['level'], f['forecast'], f['lower'], f['upper'] \
         FROM (SELECT host, unnest(f) AS f FROM ({aggregate}))"
    );
    let all = "SELECT * FROM (SQL) AS q ORDER BY 1, 2, 3";
    let (rows, both) = (all.replace("SQL", &rows), all.replace("SQL", &both));
    assert_eq!(text(&context, &rows).await, text(&context, &both).await);
    let array =
        "SELECT count(*), min(level), max(level) FROM forecast('cpu', 'usage', horizon => 2, level => ARRAY[0.5])";
    assert_eq!(one(&context, array).await, "2|0.5|0.5");
}

#[tokio::test]
async fn accuracy_has_a_row_for_each_of_several_levels() {
    let context = small();
    let both = "SELECT * FROM forecast_accuracy('cpu', 'usage', by => 'host', horizon => 12, level => ARRAY[0.5, 0.9])";
    for level in ["0.5", "0.9"] {
        let columns = "host, origins, season, mase, smape, wape, coverage, naive_mase, naive_smape, naive_wape";
        let part = format!("SELECT {columns} FROM ({both}) AS both WHERE level = {level}");
        let alone = both.replace("ARRAY[0.5, 0.9]", level);
        assert_eq!(ordered(&context, &part).await, ordered(&context, &alone).await, "{level}");
    }
    assert_eq!(metric(&context, both, "ForecastExec", "launches").await, 1);
}

#[tokio::test]
async fn parameters_stand_for_horizon_and_level() {
    let context = small();
    let sql = TABLE.replace("'24 hours'", "$1").replace("0.9", "$2");
    let plan = context.sql(&sql).await.expect("untyped parameters are typed by their place");
    let plan = plan.with_param_values(vec![
        datafusion::common::ScalarValue::from("24 hours"),
        datafusion::common::ScalarValue::from(0.9),
    ]);
    let rows: usize = plan.expect("two parameters").collect().await.expect("a plan").iter().map(|b| b.num_rows()).sum();
    assert_eq!(rows, 72);
}

#[tokio::test]
async fn bad_arguments_are_refused_by_name() {
    let context = small();
    for (args, says) in [
        ("'cpu', 'usage', horizon => 'soon'", "argument horizon"),
        ("'cpu', 'usage', horizon => 0", "argument horizon"),
        ("'cpu', 'usage', horizon => -5", "argument horizon"),
        ("'cpu', 'usage', horizon => '-1 day'", "argument horizon"),
        ("'cpu', 'usage', horizon => 1.5", "argument horizon"),
        ("'cpu', 'usage', horizon => NULL", "argument horizon"),
        ("'cpu', 'usage', horizon => '10 years'", "average the values first"),
        ("'cpu', 'usage', horizon => 24, level => 95", "argument level"),
        ("'cpu', 'usage', horizon => 24, level => 0", "argument level"),
        ("'cpu', 'usage', horizon => 24, level => 'high'", "argument level"),
        ("'cpu', 'usage', horizon => 24, level => '0.5, 0.9'", "ARRAY[0.5, 0.95]"),
        ("'cpu', 'usage', horizon => 24, level => ARRAY[0.5, 95]", "argument level"),
        ("'cpu', 'usage', horizon => 24, level => ARRAY[0.5, NULL]", "argument level"),
        ("'cpu', 'usage', horizon => 24, level => ARRAY[0.5, 0.5]", "names 0.5 twice"),
        ("'cpu', 'usage', horizon => 24, level => ARRAY['high']", "argument level"),
        (
            "(SELECT time, usage, host AS level FROM cpu), 'usage', by => 'level', horizon => 24, level => ARRAY[0.5]",
            "rename it",
        ),
        ("'cpu', 'usage'", "argument horizon"),
        ("'cpu'", "argument value"),
        ("", "argument relation"),
        ("'nowhere', 'usage', horizon => 24", "nowhere"),
        ("'cpu; DROP TABLE cpu', 'usage', horizon => 24", "no table name"),
        ("'', 'usage', horizon => 24", "no table name"),
        ("'cpu', 'nothing', horizon => 24", "argument value of forecast: column \"nothing\" does not exist"),
        ("'cpu', 'host', horizon => 24", "argument value"),
        ("'cpu', 'usage', by => 'rack', horizon => 24", "argument by"),
        ("'cpu', 'usage', by => 'host,,', horizon => 24", "argument by"),
        ("'cpu', 'usage', by => 'host, host', horizon => 24", "twice"),
        ("'cpu', 'usage', by => 'time', horizon => 24", "rename it"),
        ("'cpu', 'usage', time => 'usage', horizon => 24", "argument time"),
        ("'cpu', 'usage', steps => 24", "no argument \"steps\""),
        ("'cpu', 'usage', horizon => 24, horizon => 25", "twice"),
        ("'cpu', horizon => 24, 'usage'", "before"),
        ("'cpu', 5, horizon => 24", "argument value"),
        ("(SELECT usage FROM cpu), 'usage', horizon => 24", "time => "),
        ("(SELECT usage, time AS a, time AS b FROM cpu), 'usage', horizon => 24", "timestamp columns a, b"),
        ("'cpu', 'usage', 'host', 1, 0.5, 'time', 7", "argument model"),
        ("'cpu', 'usage', 'host', 1, 0.5, 'time', 'lean', 8", "at most"),
    ] {
        let error = refusal(&context, &format!("SELECT * FROM forecast({args})")).await;
        assert!(error.contains(says), "forecast({args}): {error}");
    }
}

#[tokio::test]
async fn bad_aggregates_are_refused_by_name() {
    let context = small();
    for (call, says) in [
        ("forecast(time, usage, 'soon')", "argument horizon"),
        ("forecast(time, usage, usage)", "argument horizon"),
        ("forecast(time, usage, 5, 2)", "argument level"),
        ("forecast(time, host, 5)", "argument value"),
        ("forecast(usage, usage, 5)", "argument time"),
        ("forecast(time, usage)", "forecast"),
        ("forecast(DISTINCT time, usage, 5)", "DISTINCT"),
        ("forecast(time, usage, horizons => 5)", "horizons"),
    ] {
        let error = refusal(&context, &format!("SELECT {call} FROM cpu GROUP BY host")).await;
        assert!(error.contains(says), "{call}: {error}");
    }
    let ordinality = "SELECT * FROM forecast('cpu', 'usage', horizon => 5) WITH ORDINALITY";
    assert!(refusal(&context, ordinality).await.contains("WITH ORDINALITY"));
    let query = refusal(&context, "SELECT forecast(time, usage, (SELECT 5)) FROM cpu").await;
    assert!(query.contains("argument horizon") && query.contains("constant"), "{query}");
    let window = refusal(&context, "SELECT forecast(time, usage, 5) OVER (PARTITION BY host) FROM cpu").await;
    assert!(window.contains("GROUP BY"), "{window}");
    let column = refusal(&context, "SELECT forecast(time, usage, usage::BIGINT) FROM cpu GROUP BY host").await;
    assert!(column.contains("argument horizon") && column.contains("constant"), "{column}");
}

#[tokio::test]
async fn hostile_rows_neither_panic_nor_spoil_other_series() {
    let hour = |i: i64| Some(START_US + i * HOUR_US);
    let mut table = Vec::new();
    for i in 0..100 {
        table.push((hour(i), "good", Some(i as f64)));
        table.push((hour(i), "null", None));
        table.push((hour(i), "nan", Some(f64::NAN)));
        table.push((hour(i), "infinite", Some(if i % 2 == 0 { f64::INFINITY } else { f64::NEG_INFINITY })));
        table.push((hour(i), "huge", Some(if i % 2 == 0 { f64::MAX } else { f64::MIN })));
        table.push((hour(i), "constant", Some(7.0)));
        table.push((hour(0), "same time", Some(i as f64)));
        table.push((None, "no time", Some(i as f64)));
    }
    table.extend([(hour(0), "two", Some(1.0)), (hour(1), "two", Some(2.0)), (hour(0), "one", Some(1.0))]);
    table.extend([
        (Some(i64::MIN / 2), "wide", Some(1.0)),
        (Some(0), "wide", Some(2.0)),
        (Some(i64::MAX / 2), "wide", Some(3.0)),
    ]);
    let context = context(2);
    scattered(&context, "cpu", &rows(&table));
    let sql = "SELECT host, count(*), count(forecast) FROM forecast('cpu', 'usage', by => 'host', horizon => 5) GROUP BY host";
    let counts = ordered(&context, sql).await;
    for series in ["constant|5|5", "good|5|5", "infinite|5|0", "nan|5|0", "null|5|0"] {
        assert!(counts.iter().any(|line| line == series), "{series}: {counts:?}");
    }
    for short in ["one", "two", "same time", "no time"] {
        assert!(!counts.iter().any(|line| line.starts_with(&format!("{short}|"))), "{short}: {counts:?}");
    }
    assert_eq!(
        one(&context, "SELECT count(*) FROM forecast((SELECT * FROM cpu WHERE false), 'usage', horizon => 5)").await,
        "0"
    );
}

#[tokio::test]
async fn times_of_any_kind_are_taken() {
    let context = small();
    for cast in ["TIMESTAMP", "TIMESTAMP(0)", "TIMESTAMP(3)", "TIMESTAMP(9)", "TIMESTAMPTZ"] {
        let sql = format!(
            "SELECT min(time) FROM forecast((SELECT time::{cast} AS t, usage FROM cpu), 'usage', horizon => 1)"
        );
        assert_eq!(one(&context, &sql).await, "2024-01-11T00:00:00Z", "{cast}");
    }
    let days =
        "SELECT min(time) FROM forecast((SELECT time::DATE AS t, usage FROM cpu), 'usage', time => 't', horizon => 1)";
    assert_eq!(one(&context, days).await, "2024-01-11T00:00:00Z");
}

#[tokio::test]
async fn a_view_is_forecast_like_a_table() {
    let context = small();
    query(&context, "CREATE VIEW loads AS SELECT time, host, usage / 100 AS load FROM cpu").await;
    let sql = "SELECT count(*), max(upper) < 2 FROM forecast('loads', 'load', by => 'host', horizon => 3)";
    assert_eq!(one(&context, sql).await, "9|true");
}

#[tokio::test]
async fn a_refusal_at_run_time_stays_a_refusal() {
    let context = context(8);
    scattered(&context, "cpu", &telemetry(40, 30));
    let sql = "SELECT * FROM forecast('cpu', 'usage', by => 'host', horizon => '10 years')";
    let error = context.sql(sql).await.expect("a statement").collect().await.expect_err("too far");
    assert!(matches!(Error::from(error), Error::InvalidArgument(text) if text.contains("argument horizon")));
}

#[tokio::test]
async fn memory_beyond_the_limit_is_an_error() {
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(200_000))).build_arc();
    let state = builder(1).with_runtime_env(runtime.expect("a memory pool")).build();
    let context = SessionContext::new_with_state(state);
    scattered(&context, "cpu", &telemetry(50, 1_000));
    let error = refusal(&context, TABLE).await;
    assert!(error.contains("Resources exhausted") || error.contains("Failed to allocate"), "{error}");
}
