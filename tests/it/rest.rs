//! The HTTP door: probes, metrics, queries in every format, and problems that say what to do.
//!
//! **Invariant:** every answer is judged by status, media type and content, as a stranger's client would.

mod endpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::util::display::array_value_to_string;
use flate2::Compression;
use flate2::write::GzEncoder;
use juno_tests::Server;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::client::{Answer, get, http};
use crate::server;

const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";

fn query(server: &Server, sql: &str, params: &Value, accept: &str) -> Answer {
    let body = json!({"sql": sql, "params": params}).to_string();
    http(server, "POST", "/api/v4/query", &[("Accept", accept), ("Content-Type", "application/json")], body.as_bytes())
}

/// Checks that the answer is this problem, that the problem's type is a page, and gives its members.
fn problem(server: &Server, answer: &Answer, status: u16, slug: &str) -> Value {
    let text = answer.text();
    assert_eq!((answer.status, answer.content_type.as_str()), (status, "application/problem+json"), "{text}");
    let members = answer.json();
    assert_eq!((&members["type"], &members["status"]), (&json!(format!("/problems/{slug}")), &json!(status)), "{text}");
    for member in ["title", "detail", "instance", "trace_id"] {
        assert!(members[member].as_str().is_some_and(|text| !text.is_empty()), "no {member} in {text}");
    }
    let page = get(server, &format!("/problems/{slug}"));
    assert_eq!((page.status, page.content_type.starts_with("text/html")), (200, true), "the page of {slug}");
    assert!(page.text().contains(slug) && page.text().contains(&status.to_string()), "the page of {slug}");
    members
}

fn arrow_rows(answer: &Answer) -> RecordBatch {
    let reader = StreamReader::try_new(answer.body.as_slice(), None).expect("an Arrow stream");
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().expect("whole batches");
    arrow::compute::concat_batches(&schema, &batches).expect("one schema")
}

fn parquet_rows(server: &Server, answer: &Answer) -> RecordBatch {
    let path = server.scratch("answer.parquet");
    std::fs::write(&path, &answer.body).expect("a file");
    let file = std::fs::File::open(&path).expect("the file");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let schema = builder.schema().clone();
    let batches = builder.build().and_then(|reader| Ok(reader.collect::<Result<Vec<_>, _>>()?)).expect("rows");
    arrow::compute::concat_batches(&schema, &batches).expect("one schema")
}

fn texts(batch: &RecordBatch, row: usize) -> Vec<String> {
    batch.columns().iter().map(|column| array_value_to_string(column, row).expect("a text")).collect()
}

/// The samples of an OpenMetrics document; panics where it breaks the format.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "no # EOF at the end:\n{text}");
    let (mut found, mut declared) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            match words.as_slice() {
                ["TYPE", name, word] => {
                    assert!(declared.insert((*name).to_owned()), "{name} is declared twice");
                    (family, kind) = ((*name).to_owned(), (*word).to_owned());
                }
                ["HELP", _, help] => assert!(help.ends_with('.'), "{line}"),
                ["UNIT", name, unit] => assert!(name.ends_with(&format!("_{unit}")), "{line}"),
                _ => panic!("no comment of OpenMetrics: {line}"),
            }
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            "gauge" => &[""],
            other => panic!("{family} is a {other}"),
        };
        assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{line} is no sample of {family}");
        assert!(labels.ends_with('}') && labels.matches('"').count() % 2 == 0, "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(found.insert(key.to_owned(), value).is_none(), "{key} stands twice");
    }
    found
}

#[test]
fn probes_answer_and_metrics_count_what_happened() {
    let server = server();
    assert_eq!(get(&server, "/healthz").json(), json!({"status": "ok"}));
    assert_eq!(get(&server, "/readyz").json(), json!({"status": "ready"}));
    assert_eq!(http(&server, "POST", "/write", &[], b"m v=1 1\nm v=2 2000").status, 204);
    assert_eq!(query(&server, "SELECT * FROM nowhere", &json!([]), "*/*").status, 404);
    let answer = get(&server, "/metrics");
    assert_eq!(answer.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let found = samples(&answer.text());
    for (key, least) in [
        ("juno_rows_ingested_total{format=\"line_protocol\"}", 2.0),
        ("juno_rows_rejected_total{format=\"line_protocol\"}", 0.0),
        ("juno_statements_total{door=\"Http\"}", 1.0),
        ("juno_errors_total{door=\"Http\",sqlstate=\"42P01\"}", 1.0),
        ("juno_http_responses_total{status=\"204\"}", 1.0),
        ("juno_statement_duration_seconds_count", 1.0),
        ("juno_statement_duration_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("juno_memtable_rows", 2.0),
        ("juno_log_bytes", 1.0),
        ("juno_tables", 6.0),
        ("juno_uptime_seconds", 0.0),
        ("juno_parts", 0.0),
        ("juno_read_only", 0.0),
        ("juno_flushed_bytes_total", 0.0),
        ("juno_compacted_bytes_total", 0.0),
        ("juno_flush_failing", 0.0),
        ("juno_kill_switch", 0.0),
        ("juno_pending_approvals", 0.0),
        ("juno_running_jobs", 0.0),
        ("juno_http_request_duration_seconds_count{route=\"/write\"}", 1.0),
        ("juno_http_request_duration_seconds_bucket{le=\"+Inf\",route=\"/api/v4/query\"}", 1.0),
    ] {
        assert!(found.get(key).is_some_and(|value| *value >= least), "{key} should be {least} at least: {found:#?}");
    }
    let scrape = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")];
    let again = samples(&http(&server, "GET", "/api/v4/operations/metrics", &scrape, b"").text());
    assert!(found.keys().all(|key| again.contains_key(key)), "the endpoint lacks samples of /metrics");
    for path in ["/metrics", "/api/v4/operations/metrics"] {
        let older = http(&server, "GET", path, &[("Accept", "text/plain; version=0.0.4")], b"");
        assert_eq!(
            (older.status, older.content_type.as_str()),
            (200, "text/plain; version=0.0.4; charset=utf-8"),
            "{path}"
        );
        let text = older.text();
        assert!(text.contains("# TYPE juno_statements_total counter\n") && !text.contains("# EOF"), "{text}");
    }
}

#[test]
fn queries_are_answered_in_the_format_that_accept_asks_for() {
    let server = server();
    let sql = "SELECT 1 AS a, 'x,y' AS t, 1.50::decimal(5,2) AS d, true AS ok, \
               TIMESTAMPTZ '2026-01-02T03:04:05.000006Z' AS at, $1::double precision AS f";
    let ask = |accept: &str| query(&server, sql, &json!([null]), accept);
    let answer = ask("application/json");
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let columns = json!([
        column("a", "bigint"),
        column("t", "text"),
        column("d", "numeric(5,2)"),
        column("ok", "boolean"),
        column("at", "timestamptz"),
        column("f", "double precision")
    ]);
    let rows = json!([[1, "x,y", 1.5, true, "2026-01-02T03:04:05.000006Z", null]]);
    assert_eq!(answer.json(), json!({"columns": columns, "rows": rows, "command": "SELECT 1"}));
    let csv = ask("text/csv");
    assert!(csv.content_type.starts_with("text/csv"), "{}", csv.content_type);
    assert_eq!(csv.text(), "a,t,d,ok,at,f\r\n1,\"x,y\",1.50,true,2026-01-02T03:04:05.000006Z,\r\n");
    let object = json!({"a": 1, "t": "x,y", "d": 1.5, "ok": true, "at": "2026-01-02T03:04:05.000006Z", "f": null});
    let ndjson = ask("application/x-ndjson").text();
    assert_eq!(serde_json::from_str::<Value>(ndjson.trim_end()).expect("one line"), object);
    let arrow = ask(ARROW);
    assert_eq!(arrow.content_type, ARROW);
    let parquet = ask(PARQUET);
    assert_eq!(parquet.content_type, PARQUET);
    for batch in [arrow_rows(&arrow), parquet_rows(&server, &parquet)] {
        assert_eq!(texts(&batch, 0), ["1", "x,y", "1.50", "true", "2026-01-02T03:04:05.000006Z", ""]);
    }
    assert_eq!(ask("text/csv;q=0.2, application/json;q=0.1").content_type, csv.content_type);
    let refused = problem(&server, &ask("image/png"), 406, "not-acceptable");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains(ARROW)), "{refused}");
}

#[test]
fn many_rows_arrive_whole_in_every_format() {
    let server = server();
    let sql = "SELECT n, 'row ' || n AS name FROM generate_series(1, 40000) AS t(n) ORDER BY n";
    let ask = |accept: &str| query(&server, sql, &json!([]), accept);
    let json = ask("application/json").json();
    assert_eq!((json["rows"].as_array().map(Vec::len), json["command"].as_str()), (Some(40_000), Some("SELECT 40000")));
    assert_eq!(ask("text/csv").text().lines().count(), 40_001);
    assert_eq!(ask("application/x-ndjson").text().lines().count(), 40_000);
    for batch in [arrow_rows(&ask(ARROW)), parquet_rows(&server, &ask(PARQUET))] {
        assert_eq!((batch.num_rows(), texts(&batch, 39_999)), (40_000, vec!["40000".into(), "row 40000".into()]));
    }
}

#[test]
fn parameters_are_bound_as_values_of_the_types_that_the_statement_needs() {
    let server = server();
    let ask = |sql: &str, params: Value| query(&server, sql, &params, "application/json");
    assert_eq!(ask("CREATE TABLE k (id INT PRIMARY KEY, j JSONB, s TEXT, d DECIMAL(5,2))", json!([])).status, 200);
    let insert = "INSERT INTO k VALUES ($1, $2, $3, $4)";
    let answer = ask(insert, json!([1, {"a": [1, null]}, "'; DROP TABLE k; --", 0.1]));
    assert_eq!((answer.status, answer.header("x-juno-command")), (200, "INSERT 0 1"), "{}", answer.text());
    let rows = ask("SELECT * FROM k WHERE s = $1 AND d < $2", json!(["'; DROP TABLE k; --", 0.2])).json();
    assert_eq!(rows["rows"], json!([[1, {"a": [1, null]}, "'; DROP TABLE k; --", 0.1]]));
    let twice = problem(&server, &ask(insert, json!([1, null, null, null])), 409, "unique-violation");
    assert_eq!(twice["sqlstate"], "23505");
    let odd = problem(&server, &ask(insert, json!(["x", null, null, null])), 422, "invalid-text");
    assert!(odd["detail"].as_str().is_some_and(|text| text.contains("$1")), "{odd}");
    problem(&server, &ask(insert, json!([2.5, null, null, null])), 422, "invalid-text");
    problem(&server, &ask("SELECT $1::bigint", json!([])), 400, "invalid-parameter");
    problem(&server, &ask("SELECT 1", json!([1])), 400, "invalid-parameter");
    assert_eq!(ask("SELECT count(*) FROM k", json!([])).json()["rows"], json!([[1]]));
}

/// A statement and the problem that it must be answered with.
const FAILING: &[(&str, u16, &str, &str)] = &[
    ("SELEC 1", 400, "syntax-error", "42601"),
    ("", 400, "syntax-error", "42601"),
    ("SELECT 1; SELECT 2", 400, "syntax-error", "42601"),
    ("SELECT * FROM nowhere", 404, "undefined-table", "42P01"),
    ("SELECT nothing FROM threat_events", 422, "undefined-column", "42703"),
    ("SELECT nofunction(1)", 422, "undefined-function", "42883"),
    ("SELECT 1 / 0", 422, "division-by-zero", "22012"),
    ("CREATE TABLE threat_events (a INT)", 409, "duplicate-table", "42P07"),
    ("CREATE TABLE t (a NOSUCHTYPE)", 422, "undefined-type", "42704"),
    ("INSERT INTO threat_events (id) VALUES (gen_random_uuid())", 422, "not-null-violation", "23502"),
    ("COPY threat_events FROM STDIN", 422, "not-supported", "0A000"),
];

#[test]
fn statements_that_fail_are_problems_with_a_status_and_an_sqlstate() {
    let server = server();
    for (sql, status, slug, sqlstate) in FAILING {
        let answer = query(&server, sql, &json!([]), "text/csv");
        let members = problem(&server, &answer, *status, slug);
        assert_eq!((&members["sqlstate"], &members["instance"]), (&json!(sqlstate), &json!("/api/v4/query")), "{sql}");
    }
    let post = |body: &[u8]| http(&server, "POST", "/api/v4/query", &[], body);
    for body in [
        &b"nonsense"[..],
        b"",
        b"{\"sqql\": \"SELECT 1\"}",
        b"{\"sql\": 1}",
        b"{\"sql\": \"SELECT 1\", \"params\": {}}",
    ] {
        problem(&server, &post(body), 400, "bad-request");
    }
    let mut bomb = GzEncoder::new(vec![], Compression::fast());
    bomb.write_all(&vec![b' '; (4 << 20) + 1]).expect("memory takes every write");
    let bomb = bomb.finish().expect("memory takes every write");
    let answer = http(&server, "POST", "/api/v4/query", &[("Content-Encoding", "gzip")], &bomb);
    problem(&server, &answer, 413, "too-large");
    let long = vec![b' '; 20 << 20];
    problem(&server, &post(&long), 413, "too-large");
    let early = http(&server, "PUT", "/api/v4/query", &[], &long);
    problem(&server, &early, 405, "method-not-allowed");
    let answer = http(&server, "POST", "/api/v4/query?limit=1", &[], br#"{"sql": "SELECT 1"}"#);
    let unknown = problem(&server, &answer, 400, "unknown-parameter");
    assert_eq!(unknown["errors"][0]["pointer"], "?limit");
}

#[test]
fn commands_are_tagged_as_postgresql_tags_them_and_null_is_an_empty_field() {
    let server = server();
    assert_eq!(http(&server, "POST", "/write", &[], b"m v=1 1000").status, 204);
    for (sql, command) in [
        ("CALL flush()", "CALL"),
        ("SELECT 1 AS a", "SELECT 1"),
        ("SELECT 1 WHERE false", "SELECT 0"),
        ("SHOW timezone", "SHOW"),
        ("CREATE TABLE c (a INT PRIMARY KEY)", "CREATE TABLE"),
        ("INSERT INTO c VALUES (1), (2)", "INSERT 0 2"),
    ] {
        let answer = query(&server, sql, &json!([]), "application/json");
        assert_eq!(answer.json()["command"], command, "{sql}: {}", answer.text());
    }
    let csv = query(&server, "SELECT NULL AS n, '' AS t, 1 AS a", &json!([]), "text/csv");
    assert_eq!(csv.text(), "n,t,a\r\n,\"\",1\r\n");
}

#[test]
fn requests_for_nothing_are_problems_and_ids_are_echoed() {
    let server = server();
    problem(&server, &get(&server, "/nothing"), 404, "not-found");
    problem(&server, &get(&server, "/problems/nothing"), 404, "not-found");
    for (method, path, allowed) in
        [("PUT", "/healthz", "GET"), ("GET", "/write", "POST"), ("POST", "/api/v4/threats/alerts", "GET")]
    {
        let answer = http(&server, method, path, &[], b"");
        problem(&server, &answer, 405, "method-not-allowed");
        assert!(answer.header("allow").contains(allowed), "{path}: {:?}", answer.headers);
    }
    let with = |headers: &[(&str, &str)]| http(&server, "GET", "/nothing", headers, b"");
    let named = with(&[("X-Request-Id", "order-66")]);
    let begun = named.header("traceparent");
    assert_eq!((named.header("x-request-id"), begun.len()), ("order-66", 55));
    assert_eq!(named.json()["trace_id"].as_str(), begun.split('-').nth(1), "a request without a trace begins one");
    let odd = with(&[("X-Request-Id", "<script>")]);
    assert!(uuid::Uuid::parse_str(odd.header("x-request-id")).is_ok(), "{:?}", odd.headers);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = with(&[("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"))]);
    assert_eq!(traced.json()["trace_id"], trace);
    let (one, other) = (get(&server, "/healthz"), get(&server, "/healthz"));
    assert_ne!(one.header("traceparent"), other.header("traceparent"));
    assert_ne!(get(&server, "/healthz").header("x-request-id"), get(&server, "/healthz").header("x-request-id"));
}

#[test]
fn probes_answer_while_queries_run_away() {
    let mut server = server();
    let address = server.url("").replace("http://", "");
    let body = json!({"sql": "SELECT count(*) FROM generate_series(1, 1000000000000)"}).to_string();
    let head = format!("POST /api/v4/query HTTP/1.1\r\nHost: juno\r\nContent-Length: {}\r\n\r\n", body.len());
    let runaways: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("a connection");
            stream.write_all(format!("{head}{body}").as_bytes()).expect("the request is sent");
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!((get(&server, "/healthz").status, get(&server, "/readyz").status), (200, 200));
    }
    assert_eq!(query(&server, "SELECT 1", &json!([]), "*/*").status, 200);
    drop(runaways);
    assert_eq!(server.stop().expect("it runs"), Some(0));
}
