//! Security logs by the ingest door, events that behaviours judge, and feeds of indicators.
//!
//! **Invariant:** logs of these tests are made here; what is judged is asked by SQL.

use juno_tests::Server;
use serde_json::json;

use crate::client::{Answer, Postgres, http};
use crate::{name_program, server};

fn send(server: &Server, query: &str, body: &str) -> Answer {
    http(server, "POST", &format!("/api/v4/ingest?{query}"), &[], body.as_bytes())
}

fn stored(server: &Server, query: &str, body: &str, rows: usize, skipped: usize) {
    let answer = send(server, query, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let found = answer.json();
    assert_eq!((&found["rows"], &found["skipped"]), (&rows.into(), &skipped.into()), "{query}");
}

#[test]
fn a_brute_force_in_a_log_of_sshd_is_told_with_its_source() {
    let server = server();
    let mut log = String::new();
    for minute in 0..40 {
        log += &format!(
            "2026-01-01T10:{minute:02}:00Z web1 sshd[7]: Failed password for root from 203.0.113.7 port 4{minute:02} ssh2\n"
        );
    }
    log +=
        "2026-01-01T10:50:00Z web1 sshd[8]: Accepted publickey for ada from 192.0.2.1 port 22 ssh2: ED25519 SHA256:x\n";
    log += "2026-01-01T10:51:00Z web1 sshd[8]: Connection closed by 192.0.2.1 port 22\n";
    for _ in 0..2 {
        stored(&server, "format=sshd", &log, 41, 1);
    }
    let postgres = Postgres::connect(&server);
    assert_eq!(postgres.value("SELECT count(*) FROM security_events"), "41", "what is sent again is the same events");
    let events = "(SELECT time, src_ip, actor_user, status_id, device_hostname FROM security_events)";
    let sources = postgres.rows(&format!("SELECT DISTINCT source FROM brute_force({events})"));
    assert_eq!(sources, ["203.0.113.7"], "and not ada, who was let in");
}

#[test]
fn logs_of_four_kinds_are_one_table() {
    let server = server();
    let zeek = r#"{"ts": 1767261600.5, "uid": "C1", "id.orig_h": "10.0.0.1", "id.resp_h": "10.0.0.2", "id.resp_p": 443, "orig_bytes": 9}
{"ts": 1767261601, "uid": "C1", "id.orig_h": "10.0.0.1", "id.resp_h": "10.0.0.3", "query": "example.com"}
{"ts": 1767261602, "uid": "C1", "id.orig_h": "10.0.0.1", "id.resp_h": "10.0.0.2", "trans_depth": 1, "method": "GET", "host": "shop", "uri": "/?id=1", "status_code": 404}"#;
    stored(&server, "format=zeek", zeek, 3, 0);
    let audit = r#"{"kind": "EventList", "items": [{"auditID": "a", "stage": "ResponseComplete", "verb": "get",
        "user": {"username": "eve"}, "responseStatus": {"code": 403}, "stageTimestamp": "2026-01-01T10:00:00Z"},
        {"auditID": "a", "stage": "RequestReceived", "verb": "get"}]}"#;
    stored(&server, "format=kubernetes_audit", audit, 1, 1);
    let trail = r#"{"Records": [{"eventTime": "2026-01-01T10:00:00Z", "eventID": "e", "eventName": "StopLogging"}]}"#;
    stored(&server, "format=cloudtrail", trail, 1, 0);
    let line = "Jan  1 10:00:00 web1 sshd[7]: Failed password for root from 203.0.113.7 port 22 ssh2";
    stored(&server, "format=sshd", line, 1, 0);
    let postgres = Postgres::connect(&server);
    let classes =
        postgres.value("SELECT string_agg(class_uid::TEXT, ' ' ORDER BY source_name, class_uid) FROM security_events");
    assert_eq!(classes, "6003 6003 3002 4001 4002 4003");
    let request = "SELECT http_method, dst_domain, http_url, http_status FROM security_events WHERE class_uid = 4002";
    assert_eq!(postgres.rows(request), ["GET|shop|/?id=1|404"]);
}

#[test]
fn what_is_no_log_of_its_kind_leaves_no_table() {
    let server = server();
    for (query, body, status, slug) in [
        ("format=sshd", "hello\n", 400, "unreadable-body"),
        ("format=zeek", "{", 400, "unreadable-body"),
        ("format=cloudtrail", "{\"a\": 1}", 400, "unreadable-body"),
        ("format=windows", "", 400, "invalid-parameter-value"),
        ("format=sshd&time=ts", "", 400, "unknown-parameter"),
    ] {
        let answer = send(&server, query, body);
        let found = answer.json();
        assert_eq!(
            (answer.status, found["type"].as_str()),
            (status, Some(format!("/problems/{slug}").as_str())),
            "{query}"
        );
    }
    assert_eq!(Postgres::connect(&server).error("SELECT * FROM security_events").0, "42P01");
}

#[test]
fn indicators_of_feeds_are_found_and_a_bad_feed_keeps_nothing_from_starting() {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let dir = server.scratch("feeds");
    std::fs::create_dir(&dir).expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("a file");
    write("list.csv", "# botnet\nvalue,confidence\n203.0.113.7,95\n");
    write("bad.csv", "this is no indicator\n");
    write(
        "stix.json",
        r#"{"type": "bundle", "objects": [{"type": "indicator", "pattern": "[domain-name:value = 'evil.example']", "confidence": 60}]}"#,
    );
    server.set("THREAT_INTELLIGENCE_FEEDS", "true");
    server.set("JUNO_FEEDS_DIR", &dir.display().to_string());
    server.run().expect("juno starts");
    let analyze = |kind: &str, value: &str| {
        let body = json!({ "indicators": [{ "type": kind, "value": value }] });
        let answer = http(
            &server,
            "POST",
            "/api/v4/threats/analyze",
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let found = analyze("ip", "203.0.113.7");
    assert_eq!((&found["verdict"], &found["threats"][0]["feed"]), (&json!("malicious"), &json!("list.csv")));
    assert_eq!(analyze("domain", "EVIL.example")["verdict"], "suspicious");
    assert_eq!(analyze("ip", "203.0.113.8")["verdict"], "benign");
}
