//! The HTTP door on a real database, without a socket: what a client sends, what it gets, what is stored.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use juno_sql::Session;
use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::Service;

use super::*;

mod clock;
mod full;

struct Web {
    router: Router,
    _directory: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Web {
    async fn open() -> Web {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(directory.path().join("data")).unwrap();
        let session = Session::open(db, Device::cpu()).await.unwrap();
        let counters = Counters::new();
        let gate = Gate::new(Arc::clone(&counters));
        gate.open(Arc::new(Doors { session, query: tokio::runtime::Handle::current(), counters }));
        Web { router: router(gate), _directory: directory }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let request = headers
            .iter()
            .fold(Request::builder().method(method).uri(path), |request, (name, value)| request.header(*name, *value));
        let response = self.router.clone().call(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    async fn write(&self, lines: &str) -> Answer {
        self.send("POST", "/write", &[], lines.to_owned()).await
    }

    async fn sql(&self, sql: &str, params: Value) -> Answer {
        self.send("POST", "/api/v4/query", &[], json!({"sql": sql, "params": params}).to_string()).await
    }

    async fn rows(&self, sql: &str) -> Value {
        self.sql(sql, json!([])).await.json()["rows"].take()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_lines_are_stored_and_bad_ones_named() {
    let web = Web::open().await;
    assert_eq!(web.write("cpu,host=a usage=1 1000\ncpu,host=b usage=2 2000").await.status, 204);
    let partial = web.write("cpu,host=a usage=3 3000\ncpu,host=a usage=\"x\" 4000\ncpu usage=").await;
    assert_eq!(partial.status, 400);
    let said = partial.json();
    assert_eq!(
        (&said["code"], &said["line"], &said["accepted"], &said["rejected"]),
        (&json!("invalid"), &json!(2), &json!(1), &json!(2))
    );
    assert_eq!(
        web.rows("SELECT host, usage FROM cpu ORDER BY time").await,
        json!([["a", 1.0], ["b", 2.0], ["a", 3.0]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_for_a_view_are_refused_and_the_other_tables_kept() {
    let web = Web::open().await;
    let partial = web.write("m v=1 1000\nthreats_alerts v=1 1000\nthreat_events v=1 1000").await;
    assert_eq!((partial.status, &partial.json()["accepted"]), (400, &json!(1)));
    assert_eq!(web.rows("SELECT v FROM m").await, json!([[1.0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_nested_upload_stores_nothing() {
    let web = Web::open().await;
    let csv = [("content-type", "text/csv")];
    for (body, status) in [
        ("time,v\n2026-01-01,1\n2026-01-02", 400),
        ("time,v\n2026-01-01,1\nsoon,2", 422),
        ("time,v\n2026-01-01,1\n2026-01-02,inf", 422),
        ("a,v\n1,1", 422),
    ] {
        let answer = web.send("POST", "/api/v4/ingest?table=t", &csv, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let parquet = [("content-type", "application/vnd.apache.parquet")];
    assert_eq!(web.send("POST", "/api/v4/ingest?table=t", &parquet, "PAR1 and no more").await.status, 400);
    let ndjson = [("content-type", "application/x-ndjson")];
    let nested = r#"{"time":"2026-01-01","v":{"a":1}}"#;
    assert_eq!(web.send("POST", "/api/v4/ingest?table=t", &ndjson, nested).await.status, 422);
    assert_eq!(web.send("POST", "/api/v4/ingest?table=t", &[("content-type", "image/png")], "x").await.status, 415);
    assert_eq!(web.sql("SELECT * FROM t", json!([])).await.status, 404);
    let good = web.send("POST", "/api/v4/ingest?table=t", &csv, "time,host,v\n2026-01-01,a,1\n2026-01-01,b,2\n").await;
    assert_eq!((good.status, &good.json()["rows"]), (200, &json!(2)));
    assert_eq!(web.rows("SELECT count(*) FROM t").await, json!([[2]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_bind_parameters_and_their_errors_have_statuses() {
    let web = Web::open().await;
    let odd = "'; DROP TABLE healing_incidents; --";
    assert_eq!(web.sql("SELECT $1 || 'x'", json!([odd])).await.json()["rows"], json!([[format!("{odd}x")]]));
    for (sql, status, sqlstate) in [
        ("SELEC 1", 400, "42601"),
        ("SELECT * FROM nowhere", 404, "42P01"),
        ("SELECT nothing FROM healing_incidents", 422, "42703"),
        ("INSERT INTO healing_incidents (id) VALUES (gen_random_uuid())", 422, "23502"),
    ] {
        let answer = web.sql(sql, json!([])).await;
        assert_eq!(
            (answer.status, answer.json()["sqlstate"].as_str()),
            (status, Some(sqlstate)),
            "{sql}: {}",
            answer.text()
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let page = answer.json()["type"].as_str().expect("a type").to_owned();
        assert_eq!(web.get(&page).await.status, 200, "{page}");
    }
    assert_eq!(web.send("POST", "/api/v4/query", &[("accept", "image/png")], "{}").await.status, 406);
    let csv = web.send("POST", "/api/v4/query", &[("accept", "text/csv")], r#"{"sql": "SELECT 1 AS a"}"#).await;
    assert_eq!(csv.text(), "a\r\n1\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_row_once_while_rows_are_added() {
    let web = Web::open().await;
    let insert = async |minute: i64| {
        let sql = format!(
            "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES \
             (gen_random_uuid(), now() - INTERVAL '{minute} minutes', 'outage', 'high', '{{\"service\": \"s{minute}\"}}')"
        );
        assert_eq!(web.sql(&sql, json!([])).await.status, 200);
    };
    for minute in 1..=5 {
        insert(minute).await;
    }
    let (mut seen, mut path, mut pages) = (vec![], "/api/v4/healing/incidents?limit=2&severity=high".to_owned(), 0);
    loop {
        let answer = web.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        seen.extend(page["items"].as_array().expect("items").iter().map(|item| item["symptoms"]["service"].clone()));
        pages += 1;
        if pages == 1 {
            insert(0).await;
        }
        let Some(link) = answer.headers.get("link") else {
            assert_eq!((&page["has_more"], &page["next_cursor"]), (&json!(false), &Value::Null));
            break;
        };
        let link = link.to_str().unwrap();
        path = link[1..link.find('>').expect("a link")].to_owned();
    }
    assert_eq!((pages, seen), (3, ["s1", "s2", "s3", "s4", "s5"].map(Value::from).to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_of_the_table_answers_and_refuses_what_it_does_not_know() {
    let web = Web::open().await;
    web.write("m,host=a v=1\nm,host=b v=3").await;
    let asks_for_more =
        |shape| matches!(shape, v4::Shape::Item | v4::Shape::Call { .. } | v4::Shape::Computed | v4::Shape::Events);
    for endpoint in v4::ENDPOINTS.iter().filter(|endpoint| !asks_for_more(endpoint.shape)) {
        let query = if matches!(endpoint.shape, v4::Shape::Series) { "?metric=m.v&agg=max&group_by=host" } else { "" };
        let answer = web.get(&format!("{}{query}", endpoint.path)).await;
        assert_eq!(answer.status, 200, "{}: {}", endpoint.path, answer.text());
        let separator = if query.is_empty() { "?" } else { "&" };
        let odd = web.get(&format!("{}{query}{separator}colour=red", endpoint.path)).await;
        assert_eq!(
            (odd.status, odd.json()["errors"][0]["pointer"].as_str()),
            (400, Some("?colour")),
            "{}",
            endpoint.path
        );
    }
    let series = web.get("/api/v4/operations/metrics?metric=m.v&group_by=host&host=b").await.json();
    assert_eq!(
        (&series["series"][0]["labels"]["host"], &series["series"][0]["points"][0][1]),
        (&json!("b"), &json!(3.0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_addresses_that_are_not_there() {
    let web = Web::open().await;
    assert_eq!((web.get("/healthz").await.status, web.get("/readyz").await.status), (200, 200));
    let missing = web.send("GET", "/nowhere", &[("x-request-id", "abc")], "").await;
    assert_eq!((missing.status, missing.headers["x-request-id"].to_str().unwrap()), (404, "abc"));
    let said = missing.json();
    let parent = missing.headers["traceparent"].to_str().unwrap();
    assert_eq!((&said["instance"], said["trace_id"].as_str()), (&json!("/nowhere"), crate::trace::id(parent)));
    let method = web.send("DELETE", "/write", &[], "").await;
    assert_eq!((method.status, method.headers["allow"].to_str().unwrap()), (405, "POST"));
    let drill = json!({"engaged": true, "reason": "a drill"}).to_string();
    assert_eq!(web.send("POST", "/api/v4/kill-switch", &[], drill).await.status, 200);
    assert_eq!(web.get("/api/v4/operations/status").await.json()["kill_switch"], true);
    let metrics = web.get("/metrics").await.text();
    for line in [
        "juno_kill_switch 1\n",
        "juno_open_incidents 0\n",
        "juno_open_threats 0\n",
        "juno_http_request_duration_seconds_count{route=\"other\"} 1\n",
        "juno_http_request_duration_seconds_count{route=\"/api/v4/kill-switch\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(metrics.contains("juno_read_only 0") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_database_is_open_probes_say_so() {
    let web = Web { router: router(Gate::new(Counters::new())), _directory: tempfile::tempdir().unwrap() };
    assert_eq!((web.get("/healthz").await.status, web.get("/readyz").await.status), (200, 503));
    let refused = web.sql("SELECT 1", json!([])).await;
    assert_eq!((refused.status, refused.json()["type"].as_str()), (503, Some("/problems/starting")));
}
