//! What surrounds a request: its body, roles, idempotency keys, ETags, switches, and the audit.
//!
//! **Invariant:** a refused request leaves nothing behind but its row in the audit.

use std::io::Write as _;

use juno_tests::{Server, juno};
use serde_json::{Value, json};

use super::{etag, good, post, problem, proposal, send};
use crate::client::{Postgres, get, http};
use crate::{name_program, server};

/// The SHA-256 of `ada's token`, `bob's token`, `eve's token`.
const TOKENS: [(&str, &str); 3] = [("ada", "operator"), ("bob", "approver"), ("eve", "viewer")];

/// A method and path, a body, and the problem with the pointer that it names.
const BAD: &[(&str, &str, &str, u16, &str, &str)] = &[
    ("POST", "kill-switch", r#"{"engaged": true}"#, 400, "missing-field", "/reason"),
    ("POST", "kill-switch", r#"{"engaged": "yes", "reason": "x"}"#, 400, "invalid-field", "/engaged"),
    ("POST", "kill-switch", r#"{"engaged": true, "reason": " "}"#, 422, "invalid-value", "/reason"),
    ("POST", "kill-switch", r#"{"engaged": true, "reason": "x", "a/b": 1}"#, 400, "unknown-field", "/a~1b"),
    ("POST", "kill-switch", "[1]", 400, "bad-request", ""),
    ("POST", "kill-switch", "{", 400, "bad-request", ""),
    ("POST", "kill-switch?x=1", "{}", 400, "unknown-parameter", "?x"),
    ("POST", "operations/predict", r#"{"targets": []}"#, 422, "invalid-value", "/targets"),
    ("POST", "operations/predict", r#"{"targets": [{"metric": "a.b"}]}"#, 404, "not-found", "/targets/0/metric"),
    ("POST", "operations/predict", r#"{"targets": [{"metric": 1}]}"#, 400, "invalid-field", "/targets/0/metric"),
    ("POST", "operations/predict", r#"{"targets": [{}], "quantiles": [2]}"#, 422, "invalid-value", "/quantiles/0"),
    ("POST", "operations/predict", r#"{"targets": [{"metric": "few.v"}]}"#, 422, "insufficient-history", "/targets/0"),
    ("POST", "healing/diagnose", "{}", 400, "missing-field", "/window"),
    ("POST", "healing/diagnose", r#"{"incident_id": "x"}"#, 422, "invalid-value", "/incident_id"),
    (
        "POST",
        "healing/diagnose",
        r#"{"incident_id": "00000000-0000-7000-8000-000000000001"}"#,
        404,
        "not-found",
        "/incident_id",
    ),
    ("POST", "healing/diagnose", r#"{"window": {"from": "2026-01-01T00:00:00Z"}}"#, 422, "no-telemetry", ""),
    (
        "PATCH",
        "healing/incidents/00000000-0000-7000-8000-000000000001",
        r#"{"success": true}"#,
        404,
        "not-found",
        "/id",
    ),
    (
        "PATCH",
        "healing/incidents/00000000-0000-7000-8000-000000000001",
        r#"{"note": "x"}"#,
        400,
        "missing-field",
        "/success",
    ),
    ("POST", "threats/analyze", "{}", 400, "missing-field", "/events"),
    ("POST", "threats/analyze", r#"{"events": [{"a": 1}]}"#, 422, "no-model", "/model"),
    ("POST", "threats/analyze", r#"{"entity": "a", "source": "none"}"#, 422, "no-telemetry", "/source"),
    ("PATCH", "threats/00000000-0000-7000-8000-000000000001", r#"{"resolved": true}"#, 404, "not-found", "/id"),
    ("PATCH", "threats/00000000-0000-7000-8000-000000000001", "{}", 400, "missing-field", "/false_positive"),
    ("PATCH", "threats/1", r#"{"resolved": true}"#, 422, "invalid-value", "/id"),
    ("DELETE", "operations/jobs/00000000-0000-7000-8000-000000000001", "", 404, "not-found", "/id"),
    ("POST", "approvals/00000000-0000-7000-8000-000000000001:approve", "{}", 404, "not-found", "/id"),
    ("POST", "maintenance-windows", r#"{"name": "x"}"#, 422, "invalid-value", "/ends_at"),
    (
        "POST",
        "maintenance-windows",
        r#"{"name": "x", "ends_at": "2000-01-01T00:00:00Z"}"#,
        422,
        "invalid-value",
        "/ends_at",
    ),
    ("POST", "scaling/execute", r#"{"to": 3}"#, 400, "idempotency-key-required", ""),
    ("POST", "scaling/execute", r#"{"to": 3, "reason": "x", "dry_run": true}"#, 400, "missing-field", "/target"),
    ("POST", "scaling/execute", r#"{"to": -1, "dry_run": true}"#, 422, "invalid-value", "/to"),
    (
        "POST",
        "scaling/execute",
        r#"{"target": {"name": "a"}, "to": 3, "reason": "x", "dry_run": true}"#,
        422,
        "unknown-target",
        "/target",
    ),
    (
        "POST",
        "scaling/execute",
        r#"{"plan_id": "00000000-0000-7000-8000-000000000001", "dry_run": true}"#,
        404,
        "not-found",
        "/plan_id",
    ),
    ("POST", "threats/respond", r#"{"action": "isolate", "dry_run": true}"#, 400, "missing-field", "/threat_event_id"),
    (
        "POST",
        "threats/respond",
        r#"{"threat_event_id": "00000000-0000-7000-8000-000000000001", "action": "nuke", "dry_run": true}"#,
        422,
        "invalid-value",
        "/action",
    ),
    (
        "POST",
        "threats/respond",
        r#"{"threat_event_id": "00000000-0000-7000-8000-000000000001", "action": "notify", "dry_run": true}"#,
        404,
        "not-found",
        "/threat_event_id",
    ),
    (
        "POST",
        "threats/responses/00000000-0000-7000-8000-000000000001:undo",
        r#"{"reason": "x", "dry_run": true}"#,
        404,
        "not-found",
        "/id",
    ),
    ("GET", "scaling/forecast?service=a", "", 422, "no-telemetry", "?demand"),
    (
        "POST",
        "governance/rollback",
        r#"{"id": "00000000-0000-7000-8000-000000000001", "reason": "x"}"#,
        404,
        "not-found",
        "/id",
    ),
    ("POST", "rl/train", "{}", 400, "missing-field", "/policy"),
    ("POST", "rl/train", r#"{"policy": "a", "algorithm": "q_learning"}"#, 422, "invalid-value", "/algorithm"),
    (
        "POST",
        "rl/train",
        r#"{"policy": "a", "algorithm": "linucb", "environment": "replay"}"#,
        422,
        "insufficient-experience",
        "/window",
    ),
    (
        "POST",
        "rl/train",
        r#"{"policy": "a", "reward": {"constraint": {"max": 0.4}}}"#,
        403,
        "policy-denied",
        "/reward/constraint/max",
    ),
    ("POST", "rl/evaluate", r#"{"policy_id": "00000000-0000-7000-8000-000000000001"}"#, 404, "not-found", "/policy_id"),
    ("POST", "rl/policies/00000000-0000-7000-8000-000000000001:promote", "{}", 404, "not-found", "/id"),
    ("POST", "rl/policies/00000000-0000-7000-8000-000000000001:rollback", "{}", 400, "missing-field", "/reason"),
    ("POST", "operations/optimize", r#"{"type": "cost"}"#, 400, "missing-field", "/scope"),
    (
        "POST",
        "operations/optimize",
        r#"{"type": "cost", "scope": {"service": "a"}, "apply": true}"#,
        409,
        "state-conflict",
        "/apply",
    ),
    ("POST", "operations/optimize", r#"{"type": "speed", "scope": {"service": "a"}}"#, 422, "invalid-value", "/type"),
    ("POST", "operations/optimize", r#"{"type": "cost", "scope": {"service": "a"}}"#, 422, "no-telemetry", "/metric"),
    ("GET", "rl/performance?step=soon", "", 400, "invalid-parameter-value", "?step"),
    ("GET", "rl/policies?colour=red", "", 400, "unknown-parameter", "?colour"),
    ("GET", "operations/jobs/00000000-0000-7000-8000-000000000001", "", 404, "not-found", ""),
    ("GET", "healing/incidents/nothing", "", 404, "not-found", ""),
    ("GET", "events?type=weather", "", 400, "invalid-parameter-value", "?type"),
];

#[test]
fn bad_requests_are_refused_by_name_and_place() {
    let server = server();
    assert_eq!(http(&server, "POST", "/write", &[], b"few v=1").status, 204);
    for (method, path, body, status, slug, pointer) in BAD {
        let headers = [("Content-Type", "application/json")];
        let answer = http(&server, method, &format!("/api/v4/{path}"), &headers, body.as_bytes());
        let members = problem(&answer, *status, slug);
        let found = members["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert_eq!(found, *pointer, "{method} {path} {body}: {members}");
    }
    let kill = |headers: &[(&str, &str)], body: &[u8]| http(&server, "POST", "/api/v4/kill-switch", headers, body);
    problem(&kill(&[("Content-Type", "text/plain")], b"{}"), 415, "unsupported-media-type");
    problem(&kill(&[("Accept", "text/csv")], b"{}"), 406, "not-acceptable");
    problem(&kill(&[], &vec![b' '; (16 << 20) + 1]), 413, "too-large");
    problem(&kill(&[("Prefer", "wait=31")], b"{}"), 400, "bad-request");
    for (method, path, allow) in [
        ("PUT", "kill-switch", "GET, POST, HEAD"),
        ("GET", "governance/propose", "POST"),
        ("POST", "approvals/x", "GET, HEAD"),
        ("GET", "approvals/x:approve", "POST"),
        ("PATCH", "operations/status", "GET, HEAD"),
    ] {
        let answer = http(&server, method, &format!("/api/v4/{path}"), &[], b"");
        problem(&answer, 405, "method-not-allowed");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    assert_eq!(get(&server, "/api/v4/kill-switch").json()["items"], json!([]));
}

/// A server that lets in ada (operator), bob (approver) and eve (viewer) with their tokens.
fn with_tokens() -> Server {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let path = server.scratch("tokens");
    let mut file = std::fs::File::create(&path).expect("a file");
    for (name, role) in TOKENS {
        let hash = sha256(&format!("{name}'s token"));
        writeln!(file, "{name} {role} {hash}").expect("a line");
    }
    server.set("JUNO_AUTH_TOKENS_FILE", &path.display().to_string());
    server.run().expect("juno starts");
    server
}

/// By the program that every Linux has.
fn sha256(text: &str) -> String {
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sha256sum");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("a text");
    let output = child.wait_with_output().expect("an end");
    String::from_utf8_lossy(&output.stdout).chars().take(64).collect()
}

#[test]
fn roles_are_asked_for_and_nobody_approves_what_they_asked_for() {
    let server = with_tokens();
    let by = |name: &str| format!("Bearer {name}'s token");
    let (ada, bob, eve) = (by("ada"), by("bob"), by("eve"));
    let drill = json!({ "engaged": true, "reason": "drill" });
    assert_eq!(post(&server, "kill-switch", &drill).status, 401);
    let refused = problem(&send(&server, "POST", "kill-switch", &[("Authorization", &ada)], &drill), 403, "forbidden");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("responder")), "{refused}");
    let read = |path: &str, who: &str| http(&server, "GET", &format!("/api/v4/{path}"), &[("Authorization", who)], b"");
    assert_eq!((read("operations/status", &eve).status, read("operations/config", &bob).status), (200, 403));
    assert_eq!(send(&server, "POST", "audit/verify", &[("Authorization", &eve)], &json!({})).status, 403);
    let tag = read("governance/policies/healing", &eve).header("etag").to_owned();
    let body = proposal("healing", &json!({ "actions_per_hour": 20 }));
    let job = send(&server, "POST", "governance/propose", &[("Authorization", &ada), ("If-Match", &tag)], &body);
    let location = job.header("location").to_owned();
    let job = good(&job, 202);
    assert_eq!(location, format!("/api/v4/operations/jobs/{}", job["id"].as_str().expect("an id")));
    let decide = |verb: &str, who: &str| {
        let path = format!("approvals/{}:{verb}", job["approval_id"].as_str().expect("an id"));
        send(&server, "POST", &path, &[("Authorization", who)], &json!({ "comment": "seen" }))
    };
    assert_eq!(decide("approve", &ada).status, 403);
    assert_eq!(good(&decide("approve", &bob), 200)["state"], "approved");
    problem(&decide("deny", &bob), 409, "state-conflict");
    let path = location.trim_start_matches("/api/v4/").to_owned();
    let done = wait_for(|| read(&path, &eve).json(), "succeeded");
    assert_eq!(done["result"]["new_policy"]["actions_per_hour"], 20);
    let own = send(
        &server,
        "POST",
        "governance/propose",
        &[("Authorization", &bob), ("If-Match", "*")],
        &proposal("healing", &json!({ "actions_per_hour": 50 })),
    );
    let own = good(&own, 202);
    let path = format!("approvals/{}:approve", own["approval_id"].as_str().expect("an id"));
    problem(&send(&server, "POST", &path, &[("Authorization", &bob)], &json!({})), 403, "own-request");
}

#[test]
fn who_is_refused_in_response_to_a_threat_is_refused_at_the_door_until_that_is_taken_back() {
    let server = with_tokens();
    let by = |name: &str| format!("Bearer {name}'s token");
    let read = |who: &str| http(&server, "GET", "/api/v4/operations/status", &[("Authorization", &by(who))], b"");
    assert_eq!(read("eve").status, 200);
    let id = "00000000-0000-7000-8000-000000000003";
    Postgres::connect(&server).rows(&format!(
        "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES \
         ('{id}', now(), 'token_theft', 'high', '{{\"entity\": \"eve\"}}', 0.95)"
    ));
    let bob = by("bob");
    let acted = |path: &str, key: &str, body: &Value| {
        let headers = [("Authorization", bob.as_str()), ("Idempotency-Key", key), ("Prefer", "wait=30")];
        send(&server, "POST", path, &headers, body)
    };
    let own = json!({ "threat_event_id": id, "action": "revoke_token", "target": { "name": "bob" } });
    problem(&acted("threats/respond", "a", &own), 403, "protected-target");
    let here = json!({ "threat_event_id": id, "action": "block_ip", "target": { "name": "127.0.0.1" } });
    problem(&acted("threats/respond", "b", &here), 403, "protected-target");
    let job = good(&acted("threats/respond", "c", &json!({ "threat_event_id": id, "action": "revoke_token" })), 200);
    assert_eq!(job["result"]["state"], "active", "{job}");
    let refused = problem(&read("eve"), 403, "blocked");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("\"eve\" is refused until")), "{refused}");
    assert_eq!((read("ada").status, read("bob").status), (200, 200));
    let undo = format!("threats/responses/{}:undo", job["result"]["response_id"].as_str().expect("an id"));
    good(&acted(&undo, "d", &json!({ "reason": "it was a drill" })), 200);
    assert_eq!(read("eve").status, 200);
}

/// Asks until the state is this one.
pub(super) fn wait_for(ask: impl Fn() -> Value, state: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..2_000 {
        last = ask();
        if last["state"] == state {
            return last;
        }
    }
    panic!("never {state}: {last}");
}

#[test]
fn a_key_is_done_once_however_often_it_is_sent() {
    let server = server();
    let window = json!({ "name": "upgrade", "duration": "1h", "freeze": false });
    let once =
        |key: &str, body: &Value| send(&server, "POST", "maintenance-windows", &[("Idempotency-Key", key)], body);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| once("one", &window))).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        problem(answer, 409, "in-flight");
    }
    let again = once("one", &window);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let first = good(&again, 201);
    for answer in answers.iter().filter(|answer| answer.status == 201) {
        assert_eq!(answer.json(), first);
    }
    let windows = || get(&server, "/api/v4/maintenance-windows").json()["items"].as_array().map_or(0, Vec::len);
    assert_eq!(windows(), 1);
    problem(&once("one", &json!({ "name": "other", "duration": "1h" })), 422, "idempotency-key-reused");
    assert_eq!(good(&once("two", &window), 201)["name"], "upgrade");
    assert_eq!(windows(), 2);
    // A refusal did nothing, so that its key is free again.
    problem(&once("three", &json!({ "name": "x" })), 422, "invalid-value");
    assert_eq!(once("three", &window).status, 201);
    problem(&once(&"x".repeat(256), &window), 422, "invalid-value");
    let postgres = Postgres::connect(&server);
    let call = "CALL maintenance_windows_create(name => 'by sql', duration => '1h', idempotency_key => 'four')";
    assert_eq!(postgres.value(call), postgres.value(call));
    assert_eq!(windows(), 4);
}

#[test]
fn what_has_an_etag_is_changed_by_who_read_it() {
    let server = server();
    let body = proposal("scaling", &json!({ "step_pct": 40 }));
    let propose = |headers: &[(&str, &str)], body: &Value| send(&server, "POST", "governance/propose", headers, body);
    problem(&propose(&[], &body), 428, "precondition-required");
    problem(&propose(&[("If-Match", "\"v9\"")], &body), 412, "precondition-failed");
    let tag = etag(&server, "scaling");
    let dry = proposal("scaling", &json!({ "step_pct": 40 }));
    let mut dry = dry.as_object().expect("an object").clone();
    dry.insert("dry_run".into(), true.into());
    let verdict = good(&propose(&[("If-Match", &tag)], &Value::Object(dry)), 200);
    assert_eq!((&verdict["policy"]["decision"], etag(&server, "scaling")), (&json!("allow"), tag.clone()));
    let done = propose(&[("If-Match", &tag)], &body);
    assert_eq!((done.status, done.header("etag")), (200, "\"v2\""));
    problem(&propose(&[("If-Match", &tag)], &body), 412, "precondition-failed");
    let denied = propose(&[("If-Match", "\"v2\"")], &proposal("scaling", &json!({ "step_pct": 900 })));
    assert_eq!(problem(&denied, 403, "policy-denied")["errors"][0]["pointer"], "/policy/step_pct");
    let seen = http(&server, "GET", "/api/v4/governance/policies/scaling", &[("If-None-Match", "\"v2\"")], b"");
    assert_eq!((seen.status, seen.body.len()), (304, 0));
}

#[test]
fn switches_stop_what_they_switch_and_status_says_so() {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    for (name, value) in [("SELF_HEALING_ENABLED", "false"), ("JUNO_PHASE", "3"), ("HEALING_AUTOMATION_LEVEL", "low")] {
        server.set(name, value);
    }
    server.run().expect("juno starts");
    let diagnose = json!({ "service": "shop", "window": { "from": "2026-01-01T00:00:00Z" } });
    problem(&post(&server, "healing/diagnose", &diagnose), 409, "component-disabled");
    let status = get(&server, "/api/v4/operations/status").json();
    assert_eq!((&status["phase"], &status["autonomy_level"]), (&json!(3), &json!("low")));
    assert_eq!(status["components"]["self_healing"]["enabled"], false);
    assert_eq!((&status["components"]["threats"]["enabled"], &status["kill_switch"]), (&json!(true), &json!(false)));
    assert_eq!(get(&server, "/api/v4/healing/status").json()["enabled"], false);
    let threats = get(&server, "/api/v4/threats/status").json();
    assert_eq!((&threats["enabled"], &threats["drifted_models"]), (&json!(true), &json!(0)));
    assert_eq!(get(&server, "/api/v4/healing/incidents").status, 200);
    good(&post(&server, "kill-switch", &json!({ "engaged": true, "reason": "drill" })), 200);
    good(&post(&server, "maintenance-windows", &json!({ "name": "now", "duration": "1h" })), 201);
    let status = get(&server, "/api/v4/operations/status").json();
    assert_eq!((&status["kill_switch"], &status["state"]), (&json!(true), &json!("maintenance")));
    let config = get(&server, "/api/v4/operations/config").json();
    let one =
        |name: &str| config["items"].as_array().and_then(|all| all.iter().find(|item| item["id"] == name)).cloned();
    assert_eq!(one("phase"), Some(json!({ "id": "phase", "value": "3", "source": "environment JUNO_PHASE" })));
}

#[test]
fn below_phase_4_what_acts_is_refused_and_what_reads_or_decides_is_not() {
    name_program();
    let service = json!({ "name": "shop", "replicas_max": 4, "program": { "argv": ["sleep", "1000"] } });
    let mut server = Server::prepare().expect("a directory");
    let file = server.scratch("fleet.json");
    std::fs::write(&file, json!({ "services": [service] }).to_string()).expect("a file");
    server.set("JUNO_FLEET", &file.display().to_string());
    server.set("JUNO_PHASE", "3");
    server.run().expect("juno starts");
    let postgres = Postgres::connect(&server);
    let id = "00000000-0000-7000-8000-000000000001";
    postgres.rows(&format!(
        "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES \
         ('{id}', now(), 'reported', 'low', '{{\"service\": \"shop\"}}')"
    ));
    postgres.rows(&format!(
        "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES \
         ('{id}', now(), 'token_theft', 'high', '{{\"entity\": \"shop\"}}', 0.95)"
    ));
    let asked = [
        ("healing/remediate", json!({ "incident_id": id, "action": "restart" })),
        ("scaling/execute", json!({ "target": { "name": "shop" }, "to": 2, "reason": "a sale" })),
        ("threats/respond", json!({ "threat_event_id": id, "action": "isolate" })),
    ];
    for (path, body) in asked {
        let told = problem(&send(&server, "POST", path, &[("Idempotency-Key", path)], &body), 409, "phase-too-low");
        assert!(told["detail"].as_str().is_some_and(|text| text.contains("JUNO_PHASE")), "{path}: {told}");
        let mut dry = body.clone();
        dry["dry_run"] = true.into();
        good(&post(&server, path, &dry), 200);
    }
    assert_eq!(postgres.value("SELECT count(*) FROM juno_intents"), "0");
    let code = postgres
        .error(&format!("CALL healing_remediate(incident_id => '{id}', action => 'restart', idempotency_key => 'a')"))
        .0;
    assert_eq!(code, "55000", "the same by SQL");
    for path in ["healing/incidents", "scaling/history", "threats/alerts"] {
        assert_eq!(get(&server, &format!("/api/v4/{path}")).status, 200, "{path}");
    }
}

#[test]
fn the_audit_tells_what_was_asked_and_done_and_whether_it_was_touched() {
    let mut server = server();
    let headers = [("X-Request-Id", "r-1"), ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let answer = send(&server, "POST", "kill-switch", &headers, &json!({ "engaged": true, "reason": "drill" }));
    assert_eq!((answer.header("x-request-id"), answer.header("traceparent")), ("r-1", headers[1].1));
    problem(
        &send(&server, "POST", "governance/propose", &[], &proposal("rl", &json!({ "change_pct": 5 }))),
        428,
        "precondition-required",
    );
    let audit = get(&server, "/api/v4/audit?order=asc").json();
    let rows: Vec<(&str, &str, &str)> = audit["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default();
            (text("stage"), text("operation"), text("outcome"))
        })
        .collect();
    let expected = [
        ("before", "kill_switch", ""),
        ("after", "kill_switch", "succeeded"),
        ("refused", "governance_propose", "refused"),
    ];
    assert_eq!(rows, expected);
    let record = &audit["items"][0]["record"];
    assert_eq!((&record["request_id"], &record["arguments"]["reason"]), (&json!("r-1"), &json!("drill")));
    assert_eq!(record["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let found = good(&post(&server, "audit/verify", &json!({})), 200);
    assert_eq!((&found["whole"], &found["rows"], &found["broken"]), (&json!(true), &json!(3), &Value::Null));
    assert_eq!(server.stop().expect("an exit code"), Some(0));
    let data = server.data().display().to_string();
    let verified = juno(&["audit", "verify", "--data", &data]).output().expect("juno audit verify");
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        verified.status.success() && text.contains("3 rows"),
        "{text}{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    assert!(text.contains(found["head"].as_str().expect("a hash")), "{text}");
}
