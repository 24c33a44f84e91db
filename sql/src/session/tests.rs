//! What a session does with whole statements, on a real database in a temporary directory.

use arrow::array::StringArray;
use arrow::util::pretty::pretty_format_batches;

use super::*;

async fn session() -> (tempfile::TempDir, Session) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(directory.path()).expect("an empty database");
    let session = Session::open(db, Device::cpu()).await.expect("migrations");
    (directory, session)
}

async fn table(session: &Session, sql: &str) -> String {
    let batches = session.collect(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pretty_format_batches(&batches).expect("printable").to_string()
}

async fn tag(session: &Session, sql: &str) -> String {
    match session.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")) {
        Outcome::Done { tag, .. } => tag,
        _ => panic!("{sql} returned rows"),
    }
}

async fn error(session: &Session, sql: &str) -> Error {
    match session.collect(sql).await {
        Ok(batches) => panic!("{sql} gave {} batches", batches.len()),
        Err(error) => error,
    }
}

const INCIDENT: &str = "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES \
                        ('0192F0C1-7B4E-7C3A-8D5E-0123456789AB', '2026-01-01T00:00:00Z', 'crash', 'high', '{\"service\":\"api\",\"n\":[1]}')";

#[tokio::test]
async fn who_asks_is_told_under_the_name_of_the_question() {
    let (_directory, session) = session().await;
    let told =
        table(&session, "SELECT current_user, session_user, current_setting('jit'), current_user || '!' AS who").await;
    assert!(told.contains("| current_user | session_user | current_setting | who   |"), "{told}");
    assert!(told.contains("| juno         | juno         | off             | juno! |"), "{told}");
}

#[tokio::test]
async fn views_are_the_same_when_the_database_is_opened_again() {
    let (_directory, session) = session().await;
    table(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY, host TEXT, at TIMESTAMPTZ)").await;
    table(&session, "INSERT INTO t VALUES (1, 'a', '2026-01-01 10:11:12.5'), (2, 'b', '2026-01-02'), (3, 'a', NULL)")
        .await;
    // What is planned in other words than it was written in.
    let queries = [
        "SELECT host, jsonb_agg(id ORDER BY id) AS ids, json_object_agg(id, at) AS times FROM t GROUP BY host",
        "SELECT ARRAY(SELECT id FROM t ORDER BY 1) AS ids",
        "SELECT id FROM t WHERE host = ANY (ARRAY['a', 'c']) ORDER BY id FETCH FIRST 1 ROW ONLY",
        "SELECT date_trunc('seconds', at) AS at, mod(id, 2), div(id, 2) AS half FROM t",
        "SELECT (SELECT max(id) FROM t) AS most, generate_subscripts(ARRAY[5, 6], 1) AS place",
    ];
    let mut before = Vec::new();
    for (number, query) in queries.iter().enumerate() {
        table(&session, &format!("CREATE VIEW v{number} AS {query}")).await;
        before.push(table(&session, &format!("SELECT * FROM v{number} ORDER BY 1")).await);
    }
    let session = Session::open(session.db().clone(), Device::cpu()).await.expect("views are read");
    for (number, before) in before.iter().enumerate() {
        assert_eq!(&table(&session, &format!("SELECT * FROM v{number} ORDER BY 1")).await, before);
    }
    let shown = table(&session, "SELECT pg_get_viewdef('v0')").await;
    assert!(shown.contains("jsonb_agg(id ORDER BY id) AS ids"), "{shown}");
}

#[tokio::test]
async fn a_telemetry_table_takes_rows_and_the_later_write_wins() {
    let (_directory, session) = session().await;
    assert_eq!(
        tag(&session, "CREATE TABLE cpu (time TIMESTAMPTZ, host TEXT, usage DOUBLE PRECISION)").await,
        "CREATE TABLE"
    );
    let rows = "INSERT INTO cpu VALUES ('2026-01-01T00:00:00Z', 'a', 1), ('2026-01-01T00:00:10Z', 'a', 2), ('2026-01-01T00:00:00Z', 'b', 3)";
    assert_eq!(tag(&session, rows).await, "INSERT 0 3");
    assert_eq!(
        tag(&session, "INSERT INTO cpu (time, host, usage) VALUES ('2026-01-01T00:00:00Z', 'a', 9)").await,
        "INSERT 0 1"
    );
    insta::assert_snapshot!(table(&session, "SELECT * FROM cpu ORDER BY host, time").await, @r"
+----------------------+------+-------+
| time                 | host | usage |
+----------------------+------+-------+
| 2026-01-01T00:00:00Z | a    | 9.0   |
| 2026-01-01T00:00:10Z | a    | 2.0   |
| 2026-01-01T00:00:00Z | b    | 3.0   |
+----------------------+------+-------+
");
    assert_eq!(tag(&session, "UPDATE cpu SET usage = usage * 2 WHERE host = 'a'").await, "UPDATE 2");
    assert_eq!(tag(&session, "DELETE FROM cpu WHERE host = 'b'").await, "DELETE 1");
    insta::assert_snapshot!(table(&session, "SELECT count(*), sum(usage) FROM cpu").await, @r"
+-------+------+
| count | sum  |
+-------+------+
| 2     | 22.0 |
+-------+------+
");
    assert_eq!(tag(&session, "UPDATE cpu SET host = 'c' WHERE time < '2026-01-01T00:00:05Z'").await, "UPDATE 1");
    insta::assert_snapshot!(table(&session, "SELECT host, usage FROM cpu ORDER BY 1").await, @r"
+------+-------+
| host | usage |
+------+-------+
| a    | 4.0   |
| c    | 18.0  |
+------+-------+
");
}

#[tokio::test]
async fn the_history_tables_enforce_what_they_declare() {
    let (_directory, session) = session().await;
    assert_eq!(tag(&session, INCIDENT).await, "INSERT 0 1");
    assert!(matches!(error(&session, INCIDENT).await, Error::UniqueViolation { .. }));
    let insert = |id: &str, kind: &str, symptoms: &str| {
        format!(
            "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES ({id}, now(), '{kind}', 'low', {symptoms})"
        )
    };
    let long = "x".repeat(51);
    assert!(matches!(
        error(&session, &insert("gen_random_uuid()", &long, "'{}'")).await,
        Error::StringTooLong { limit: 50, .. }
    ));
    assert!(matches!(
        error(&session, &insert("gen_random_uuid()", "crash", "NULL")).await,
        Error::NotNullViolation { .. }
    ));
    assert!(matches!(error(&session, &insert("NULL", "crash", "'{}'")).await, Error::NotNullViolation { .. }));
    assert!(matches!(error(&session, &insert("'7'", "crash", "'{}'")).await, Error::InvalidText(_)));
    assert!(matches!(error(&session, &insert("gen_random_uuid()", "crash", "'{bad'")).await, Error::InvalidText(_)));
    let threat = |score: &str| {
        format!(
            "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES (gen_random_uuid(), now(), 'scan', 'low', '{{}}', {score})"
        )
    };
    assert!(matches!(error(&session, &threat("10.5")).await, Error::NumericOutOfRange(_)));
    assert_eq!(tag(&session, &threat("0.95")).await, "INSERT 0 1");
    insta::assert_snapshot!(table(&session, "SELECT confidence_score, false_positive, resolved_at FROM threat_events").await, @r"
+------------------+----------------+-------------+
| confidence_score | false_positive | resolved_at |
+------------------+----------------+-------------+
| 0.95             | false          |             |
+------------------+----------------+-------------+
");
    assert_eq!(tag(&session, "UPDATE healing_incidents SET success = true, resolved_at = '2026-01-01T00:01:00Z' WHERE incident_type = 'crash'").await, "UPDATE 1");
    let sql = "SELECT id, symptoms, symptoms ->> 'service' AS service, symptoms -> 'n' AS n, status FROM healing_incidents_list";
    insta::assert_snapshot!(table(&session, sql).await, @r#"
+--------------------------------------+------------------------------+---------+-----+----------+
| id                                   | symptoms                     | service | n   | status   |
+--------------------------------------+------------------------------+---------+-----+----------+
| 0192f0c1-7b4e-7c3a-8d5e-0123456789ab | {"n": [1], "service": "api"} | api     | [1] | resolved |
+--------------------------------------+------------------------------+---------+-----+----------+
"#);
}

#[tokio::test]
async fn names_that_do_not_exist_are_told_apart() {
    let (_directory, session) = session().await;
    assert!(matches!(error(&session, "SELECT * FROM nowhere").await, Error::UndefinedTable(_)));
    assert!(matches!(error(&session, "SELECT nothing FROM healing_incidents").await, Error::UndefinedColumn(_)));
    assert!(matches!(error(&session, "SELECT nofunc(1)").await, Error::UndefinedFunction(_)));
    assert!(matches!(error(&session, "SELEC 1").await, Error::Syntax(_)));
    assert!(matches!(error(&session, "SELECT 1/0").await, Error::DivisionByZero));
    assert!(matches!(error(&session, "SELECT 'x'::int").await, Error::InvalidText(_)));
    let twice = error(&session, "CREATE TABLE healing_incidents (a INT)").await;
    assert!(matches!(twice, Error::DuplicateTable(_)), "{twice:?}");
    assert!(matches!(error(&session, "DROP TABLE nowhere").await, Error::UndefinedTable(_)));
    assert!(matches!(error(&session, "COPY healing_incidents TO '/tmp/x'").await, Error::Unsupported(_)));
    assert!(matches!(
        error(&session, "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'").await,
        Error::Unsupported(_)
    ));
    assert!(matches!(error(&session, "CALL nothing()").await, Error::UndefinedFunction(_)));
}

#[tokio::test]
async fn a_transaction_commits_all_or_nothing() {
    let (_directory, session) = session().await;
    session.query("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)").await.expect("a table");
    session.query("BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO t VALUES (2, 'b')").await.expect("two inserts");
    let other = session.connect();
    assert_eq!(
        other.collect("SELECT * FROM t").await.expect("a read").iter().map(RecordBatch::num_rows).sum::<usize>(),
        0
    );
    let own = session.collect("SELECT * FROM t").await.expect("a read");
    assert_eq!(own.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    session.fail_transaction();
    assert!(matches!(error(&session, "SELECT 1").await, Error::FailedTransaction));
    assert_eq!(tag(&session, "COMMIT").await, "ROLLBACK");
    session
        .query("BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO t VALUES (2, 'b'); COMMIT")
        .await
        .expect("a transaction");
    insta::assert_snapshot!(table(&other, "SELECT * FROM t ORDER BY id").await, @r"
+----+---+
| id | v |
+----+---+
| 1  | a |
| 2  | b |
+----+---+
");
    session.query("BEGIN; INSERT INTO t VALUES (3, 'c')").await.expect("held back");
    assert!(matches!(error(&session, "INSERT INTO t VALUES (1, 'again')").await, Error::UniqueViolation { .. }));
    session.query("ROLLBACK").await.expect("an end");
    insta::assert_snapshot!(table(&other, "SELECT count(*) FROM t").await, @r"
+-------+
| count |
+-------+
| 2     |
+-------+
");
}

#[tokio::test]
async fn parameters_take_their_types_from_where_they_stand() {
    let (_directory, session) = session().await;
    session.query("CREATE TABLE t (id BIGINT PRIMARY KEY, at TIMESTAMPTZ, v DECIMAL(5,2))").await.expect("a table");
    let prepare = async |sql: &str, types: &[Option<DataType>]| {
        let statement = session.parse(sql).expect("SQL").remove(0);
        session.prepare(statement, types).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    let insert = prepare("INSERT INTO t (id, v) VALUES ($1, $2)", &[]).await;
    assert_eq!(insert.parameters[0].data_type(), &DataType::Int64);
    assert_eq!(insert.parameters[1].data_type(), &DataType::Decimal128(5, 2));
    for id in 0..3 {
        let values = vec![ScalarValue::Int64(Some(id)), ScalarValue::Decimal128(Some(150 * id as i128), 5, 2)];
        session.execute(&insert, values).await.expect("an insert");
    }
    let read = prepare("SELECT id FROM t WHERE v > $1 AND id = $2", &[]).await;
    assert_eq!(read.parameters.len(), 2);
    let sum = prepare("SELECT $1 + 1 AS next", &[Some(DataType::Int32)]).await;
    assert_eq!(sum.parameters[0].data_type(), &DataType::Int32);
    let Ok(Outcome::Rows { stream, .. }) = session.execute(&sum, vec![ScalarValue::Int32(Some(41))]).await else {
        panic!("no rows")
    };
    let rows: Vec<RecordBatch> = stream.try_collect().await.expect("a row");
    insta::assert_snapshot!(pretty_format_batches(&rows).expect("printable"), @r"
+------+
| next |
+------+
| 42   |
+------+
");
    assert!(matches!(session.execute(&sum, Vec::new()).await, Err(Error::InvalidParameter(_))));
}

#[tokio::test]
async fn ingest_makes_tables_and_widens_them() {
    let (_directory, session) = session().await;
    let batch = |fields: Vec<(&str, arrow::array::ArrayRef)>| Incoming {
        table: "disk".into(),
        rows: RecordBatch::try_from_iter(fields).expect("a batch"),
        time: "time".into(),
        tags: vec!["host".into()],
    };
    let time = |at: i64| {
        Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![at]).with_timezone("+00:00"))
            as arrow::array::ArrayRef
    };
    let host = || Arc::new(StringArray::from(vec!["a"])) as arrow::array::ArrayRef;
    let number = |value: f64| Arc::new(arrow::array::Float64Array::from(vec![value])) as arrow::array::ArrayRef;
    let first = batch(vec![("time", time(0)), ("host", host()), ("used", number(0.5))]);
    let second = batch(vec![("time", time(1_000_000)), ("host", host()), ("used", number(0.6)), ("free", number(0.4))]);
    assert_eq!(session.ingest(vec![first, second]).await.expect("rows"), 2);
    insta::assert_snapshot!(table(&session, "SELECT * FROM disk ORDER BY time").await, @r"
+----------------------+------+------+------+
| time                 | host | used | free |
+----------------------+------+------+------+
| 1970-01-01T00:00:00Z | a    | 0.5  |      |
| 1970-01-01T00:00:01Z | a    | 0.6  | 0.4  |
+----------------------+------+------+------+
");
    let wrong = batch(vec![("time", time(0)), ("host", host()), ("used", host())]);
    assert!(matches!(session.ingest(vec![wrong]).await, Err(Error::TypeMismatch(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_and_a_late_statement_stop() {
    let (_directory, session) = session().await;
    let endless = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    session.set("statement_timeout", "50ms").expect("a timeout");
    assert!(matches!(error(&session, endless).await, Error::Timeout));
    session.set("statement_timeout", "0").expect("no timeout");
    let cancel = session.cancel_handle();
    let running = session.collect(endless);
    let cancelling = async {
        tokio::task::yield_now().await;
        cancel();
    };
    let (result, ()) = tokio::join!(running, cancelling);
    assert!(matches!(result, Err(Error::Cancelled)));
}

#[tokio::test]
async fn the_catalog_answers_psql() {
    let (_directory, session) = session().await;
    session.query("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)").await.expect("a table");
    let sql = "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = 'public' AND c.relkind = 'r' AND c.relname IN ('t', 'threat_events') ORDER BY 1";
    insta::assert_snapshot!(table(&session, sql).await, @r"
+---------------+
| relname       |
+---------------+
| t             |
| threat_events |
+---------------+
");
    insta::assert_snapshot!(table(&session, "SELECT current_database(), version() LIKE 'PostgreSQL 16%' AS pg").await, @r"
+------------------+------+
| current_database | pg   |
+------------------+------+
| juno             | true |
+------------------+------+
");
}

#[tokio::test]
async fn flush_is_a_procedure() {
    let (_directory, session) = session().await;
    session.query("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await.expect("rows");
    insta::assert_snapshot!(table(&session, "SELECT 1").await, @r"
+----------+
| ?column? |
+----------+
| 1        |
+----------+
");
    let flushed = session.collect("CALL flush(table => 't')").await.expect("flushed");
    assert_eq!(flushed.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert!(matches!(error(&session, "CALL flush(tabel => 't')").await, Error::UndefinedFunction(_)));
    assert!(matches!(error(&session, "CALL flush(table => 'nowhere')").await, Error::UndefinedTable(_)));
}

#[tokio::test]
async fn a_detector_goes_on_where_it_was_when_the_database_is_opened_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let opened = || async {
        let db = Db::open(directory.path()).expect("a database");
        Session::open(db, Device::cpu()).await.expect("migrations")
    };
    let rows = |from: i64, to: i64| {
        format!(
            "INSERT INTO cpu SELECT to_timestamp(1767225600 + 60 * i), h, 20 + 5 * sin(i / 40.0) + (i * 7919 % 101) / 50.0 \
             + CASE WHEN i = 900 THEN 500 ELSE 0 END FROM generate_series({from}, {to}) AS g (i), (VALUES ('a'), ('b')) AS v (h)"
        )
    };
    let session = opened().await;
    session.query("CREATE TABLE cpu (time TIMESTAMPTZ, host TEXT, usage DOUBLE PRECISION)").await.expect("a table");
    session.query("CREATE DETECTOR odd ON cpu (usage) WITH (warm_up = 64, false_alarms = 1)").await.expect("made");
    session.query(&rows(0, 499)).await.expect("rows");
    session.collect("CALL catch_up('odd')").await.expect("judged");
    // What comes now may be judged before the end or after the next beginning.
    session.query(&rows(500, 699)).await.expect("rows");
    session.db().close().expect("closed");
    drop(session);
    let session = opened().await;
    session.query(&rows(700, 999)).await.expect("rows");
    session.collect("CALL catch_up('odd')").await.expect("judged");
    let same = "SELECT count(*) AS points, sum(CASE WHEN o.is_alarm THEN 1 ELSE 0 END) AS alarms FROM odd AS o \
                JOIN anomalies('cpu', 'usage', by => 'host', warm_up => 64, false_alarms => 1) AS a \
                ON o.host = a.host AND o.time = a.time AND o.score = a.score AND o.p_value = a.p_value";
    insta::assert_snapshot!(table(&session, same).await, @r"
    +--------+--------+
    | points | alarms |
    +--------+--------+
    | 2000   | 4      |
    +--------+--------+
    ");
}
