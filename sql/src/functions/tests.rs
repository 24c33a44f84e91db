//! A small context over tables in memory for the tests of the functions, and the tests of the small ones.
//!
//! **Invariant:** no engine and no session: functions are tested as DataFusion calls them.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{SortExpr, col};
use datafusion::prelude::{SessionConfig, SessionContext};
use juno_kernels::Device;

use super::register;
use crate::types::{TYPE_KEY, tag, timestamptz};

pub(super) const HOUR_US: i64 = 3_600_000_000;
/// 2024-01-01.
pub(super) const START_US: i64 = 1_704_067_200_000_000;

pub(super) fn config(partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    config.options_mut().execution.time_zone = Some("+00:00".into());
    config
}

pub(super) fn builder(partitions: usize) -> SessionStateBuilder {
    let builder = SessionStateBuilder::new().with_default_features().with_config(config(partitions));
    register(builder, &Device::cpu())
}

/// A context with an empty catalog.
pub(super) fn context(partitions: usize) -> SessionContext {
    SessionContext::new_with_state(builder(partitions).build())
}

pub(super) fn cpu_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", timestamptz(), true),
        Field::new("host", tag(), true),
        Field::new("usage", DataType::Float64, true),
    ]))
}

pub(super) fn rows(rows: &[(Option<i64>, &str, Option<f64>)]) -> RecordBatch {
    let times = rows.iter().map(|row| row.0).collect::<TimestampMicrosecondArray>().with_data_type(timestamptz());
    let hosts = cast(&rows.iter().map(|row| Some(row.1)).collect::<StringArray>(), &tag()).expect("few hosts");
    let values = rows.iter().map(|row| row.2).collect::<Float64Array>();
    RecordBatch::try_new(cpu_schema(), vec![Arc::new(times), hosts, Arc::new(values)]).expect("equal lengths")
}

/// Hourly series with a daily season, one per host; sorted by host, then time.
pub(super) fn telemetry(series: usize, points: usize) -> RecordBatch {
    let hosts: Vec<String> = (0..series).map(|series| format!("host_{series:04}")).collect();
    let value = |series: usize, hour: usize| {
        50.0 + (series % 7) as f64
            + 20.0 * (hour as f64 * std::f64::consts::TAU / 24.0).sin()
            + (hour * 31 % 17) as f64 * 0.1
    };
    let row = |series: usize, hour: usize| {
        (Some(START_US + hour as i64 * HOUR_US), hosts[series].as_str(), Some(value(series, hour)))
    };
    rows(
        &(0..series)
            .flat_map(|series| (0..points).map(move |hour| (series, hour)))
            .map(|(s, h)| row(s, h))
            .collect::<Vec<_>>(),
    )
}

/// Registers a table whose rows lie in two partitions, in turn.
pub(super) fn scattered(context: &SessionContext, name: &str, batch: &RecordBatch) {
    let half = |from: u64| {
        let rows = arrow::array::UInt64Array::from_iter_values((from..batch.num_rows() as u64).step_by(2));
        arrow::compute::take_record_batch(batch, &rows).expect("rows in range")
    };
    let cut = |batch: RecordBatch| {
        (0..batch.num_rows()).step_by(500).map(|from| batch.slice(from, 500.min(batch.num_rows() - from))).collect()
    };
    let table = MemTable::try_new(batch.schema(), vec![cut(half(1)), cut(half(0))]).expect("one schema");
    context.register_table(name, Arc::new(table)).expect("a new name");
}

/// Registers a table that is known to be sorted by host and time.
pub(super) fn sorted(context: &SessionContext, name: &str, batch: &RecordBatch) {
    let batches =
        (0..batch.num_rows()).step_by(64).map(|from| batch.slice(from, 64.min(batch.num_rows() - from))).collect();
    let order = ["host", "time"].map(|name| SortExpr::new(col(name), true, SortOptions::default().nulls_first));
    let table =
        MemTable::try_new(batch.schema(), vec![batches]).expect("one schema").with_sort_order(vec![order.into()]);
    context.register_table(name, Arc::new(table)).expect("a new name");
}

pub(super) async fn query(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let run = async { context.sql(sql).await?.collect().await };
    run.await.unwrap_or_else(|error| panic!("{sql}\n{error}"))
}

/// All rows as text, `|` between columns.
pub(super) async fn text(context: &SessionContext, sql: &str) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = Vec::new();
    for batch in query(context, sql).await {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("printable"))
            .collect();
        lines.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    lines
}

/// The one value of a query.
pub(super) async fn one(context: &SessionContext, sql: &str) -> String {
    let lines = text(context, sql).await;
    assert_eq!(lines.len(), 1, "{sql}: {lines:?}");
    lines[0].clone()
}

/// The numbers of one column.
pub(super) async fn numbers(context: &SessionContext, sql: &str) -> Vec<Option<f64>> {
    let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Float64Type>().iter().collect::<Vec<_>>();
    query(context, sql).await.iter().flat_map(column).collect()
}

pub(super) async fn refusal(context: &SessionContext, sql: &str) -> String {
    let run = async { context.sql(sql).await?.collect().await };
    match run.await {
        Ok(_) => panic!("was not refused: {sql}"),
        Err(error) => error.strip_backtrace(),
    }
}

/// A counter of one kind of node in EXPLAIN ANALYZE.
pub(super) async fn metric(context: &SessionContext, sql: &str, node: &str, name: &str) -> usize {
    let plan = text(context, &format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
    let line = plan.lines().find(|line| line.contains(node)).unwrap_or_else(|| panic!("no {node} in\n{plan}"));
    let value = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    value.split([',', ']']).next().and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[tokio::test]
async fn time_buckets_start_where_timescaledb_has_them() {
    let context = context(1);
    for (call, bucket) in [
        ("'5 minutes', TIMESTAMP '2024-02-29 12:34:56.789'", "2024-02-29T12:30:00"),
        ("INTERVAL '1 day', TIMESTAMP '1969-12-31 23:59:59.999999'", "1969-12-31T00:00:00"),
        ("'1 week', TIMESTAMP '2024-03-03 10:00:00'", "2024-02-26T00:00:00"),
        ("'1 month', TIMESTAMP '2024-02-29 23:00:00'", "2024-02-01T00:00:00"),
        ("'3 months', TIMESTAMP '1999-12-31 23:00:00'", "1999-10-01T00:00:00"),
        ("'1 year', TIMESTAMP '2024-07-01 00:00:00'", "2024-01-01T00:00:00"),
        ("'1 hour', TIMESTAMPTZ '2024-02-29 12:34:56+02'", "2024-02-29T10:00:00Z"),
        ("'1 hour', TIMESTAMP '2024-01-01 00:10:00', TIMESTAMP '2000-01-01 00:30:00'", "2023-12-31T23:30:00"),
        ("'1 month', TIMESTAMP '2024-02-10 00:00:00', TIMESTAMP '2000-01-15 00:00:00'", "2024-01-15T00:00:00"),
        ("'1 day', DATE '2024-01-02'", "2024-01-02T00:00:00"),
        ("width => '1 day', time => CAST(NULL AS TIMESTAMP)", "null"),
    ] {
        assert_eq!(one(&context, &format!("SELECT time_bucket({call})")).await, bucket, "{call}");
    }
}

#[tokio::test]
async fn bad_buckets_are_refused_by_name() {
    let context = context(1);
    for (call, says) in [
        ("'x', now()", "argument width"),
        ("'0 seconds', now()", "above zero"),
        ("'-1 hour', now()", "above zero"),
        ("'1 month 1 day', now()", "cannot be mixed"),
        ("5, now()", "argument width"),
        ("'1 hour', 5", "argument time"),
        ("'1 hour', now(), 5", "argument origin"),
    ] {
        let error = refusal(&context, &format!("SELECT time_bucket({call})")).await;
        assert!(error.contains(says), "{call}: {error}");
    }
}

#[tokio::test]
async fn a_bucket_groups_and_keeps_the_order_of_time() {
    let context = context(2);
    scattered(&context, "cpu", &telemetry(3, 48));
    let sql = "SELECT time_bucket('1 day', time) AS day, count(*) FROM cpu GROUP BY day ORDER BY day";
    assert_eq!(text(&context, sql).await, ["2024-01-01T00:00:00Z|72", "2024-01-02T00:00:00Z|72"]);
}

#[tokio::test]
async fn first_and_last_go_by_time_not_by_order_of_rows() {
    let context = context(2);
    let table = [
        (Some(3), "a", Some(3.0)),
        (Some(1), "a", Some(1.0)),
        (None, "a", Some(9.0)),
        (Some(2), "b", None),
        (Some(5), "b", Some(5.0)),
        (Some(2), "a", Some(2.0)),
    ];
    scattered(&context, "t", &rows(&table));
    let sql = "SELECT host, first(usage, time), last(usage, time), last(host, time) FROM t GROUP BY host ORDER BY host";
    assert_eq!(text(&context, sql).await, ["a|1.0|3.0|a", "b|null|5.0|b"]);
    assert_eq!(one(&context, "SELECT first(value => usage, time => time), last(usage, time) FROM t").await, "1.0|5.0");
    assert_eq!(one(&context, "SELECT last(usage, time) FROM t WHERE host = 'none'").await, "null");
    let window =
        "SELECT last(usage, time) OVER (PARTITION BY host ORDER BY time) FROM t WHERE host = 'a' AND usage = 3";
    assert_eq!(one(&context, window).await, "3.0");
    assert!(refusal(&context, "SELECT first(usage, host) FROM t").await.contains("argument time of first"));
}

#[tokio::test]
async fn json_is_read_by_key_and_by_index() {
    let context = context(1);
    for (expression, value) in [
        (r#"'{"a": {"b": [1, 2.50, "x"]}}' -> 'a' -> 'b' ->> 1"#, "2.50"),
        (r#"'{"a": {"b": [1, 2.50, "x"]}}' -> 'a' -> 'b' ->> -1"#, "x"),
        (r#"'{"a": {"b": [1, 2.50, "x"]}}' -> 'a' -> 'b' -> -1"#, "\"x\""),
        (r#"'{"a": null}' -> 'a'"#, "null"),
        (r#"('{"a": null}' ->> 'a') IS NULL"#, "true"),
        (r#"('{"a": 1}' -> 'b') IS NULL"#, "true"),
        (r#"('not json' -> 'b') IS NULL"#, "true"),
        (r#"(NULL::TEXT -> 'b') IS NULL"#, "true"),
        (r#"'{"a": "x"}' ->> 'a' = 'x'"#, "true"),
        (r#"'{"a": "x"}' ->> 'a' || 'y'"#, "xy"),
    ] {
        assert_eq!(one(&context, &format!("SELECT {expression}")).await, value, "{expression}");
    }
    let columns =
        "SELECT json -> key FROM (VALUES ('{\"a\": 1}', 'a'), ('{\"b\": 2}', 'b'), (NULL, 'c')) AS t(json, key)";
    assert_eq!(text(&context, columns).await, ["1", "2", "null"]);
    assert!(refusal(&context, "SELECT 5 -> 'a'").await.contains("left side of ->"));
    assert!(refusal(&context, "SELECT '{}' ->> 1.5").await.contains("right side of ->>"));
}

#[tokio::test]
async fn json_parts_and_uuids_say_what_they_are() {
    let context = context(1);
    let batches = query(&context, "SELECT '{}' -> 'a', '{}' ->> 'a', gen_random_uuid()").await;
    let schema = batches[0].schema();
    let kinds: Vec<_> =
        schema.fields().iter().map(|field| field.metadata().get(TYPE_KEY).map(String::as_str)).collect();
    assert_eq!(kinds, [Some("jsonb"), None, Some("uuid")]);
}

#[tokio::test]
async fn every_row_gets_a_uuid_of_its_own_in_order() {
    let context = context(1);
    scattered(&context, "cpu", &telemetry(2, 50));
    let uuids = text(&context, "SELECT gen_random_uuid() FROM cpu").await;
    let parsed: Vec<_> = uuids.iter().map(|text| uuid::Uuid::parse_str(text).expect("a UUID")).collect();
    assert_eq!(parsed.len(), 100);
    assert!(parsed.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(parsed.iter().all(|uuid| uuid.get_version_num() == 7));
}

#[tokio::test]
async fn version_and_types_are_named_as_postgresql_names_them() {
    let context = context(1);
    let version = one(&context, "SELECT version()").await;
    assert!(version.starts_with("PostgreSQL 16.6 (juno 0.1.0)"), "{version}");
    for (expression, name) in [
        ("now()", "timestamp with time zone"),
        ("1", "bigint"),
        ("1.5::DOUBLE PRECISION", "double precision"),
        ("'a'", "text"),
        ("gen_random_uuid()", "uuid"),
        ("'{}' -> 'a'", "jsonb"),
        ("ARRAY[1]", "bigint[]"),
        ("NULL", "unknown"),
        ("TIMESTAMP '2024-01-01 00:00:00'", "timestamp without time zone"),
    ] {
        assert_eq!(one(&context, &format!("SELECT pg_typeof({expression})")).await, name, "{expression}");
    }
}
