//! The same by both doors: every operation of the endpoint table, by REST and by CALL.
//!
//! **Invariant:** an endpoint that calls an operation and has no case here fails the test.

use std::collections::BTreeSet;

use juno_server::v4::ENDPOINTS;
use juno_tests::Server;
use serde_json::{Value, json};

use super::described::{hold, hold_call, hold_rows};
use super::{etag, good, proposal, send, with_fleet};
use crate::client::{Postgres, get};
use crate::{name_program, server};

/// Members that differ from one request to the next.
const OTHER: &[&str] = &[
    "version",
    "changed_by",
    "etag",
    "took_ms",
    "took_s",
    "plan_id",
    "head",
    "rows",
    "actor",
    "created_by",
    "cancelled_by",
    "requested_by",
    "decided_by",
    "reported_by",
    "request_id",
    "trace_id",
    "status",
    "if_match",
    "containment_s",
    "evidence_sha256",
    "resolution_time_seconds",
    "remediation_s",
];

/// What a logged state holds.
const FEATURES: [&str; 10] = [
    "load_1m_over_1h",
    "load_1h_over_yesterday",
    "volatility_1h",
    "forecast_mean",
    "forecast_spread",
    "day_sine",
    "day_cosine",
    "violation_over_budget",
    "forecast_surprise",
    "replicas_needed",
];

fn is_time(text: &str) -> bool {
    text.len() == 27 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

/// The answer without what differs from one request to the next.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| {
                let value = if OTHER.contains(&name.as_str()) { json!("other") } else { masked(value) };
                (name.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::String(text) if is_time(text) => json!("time"),
        Value::String(text) if uuid::Uuid::try_parse(text).is_ok() => json!("id"),
        Value::String(text) if text.starts_with("/api/v4/") => json!("link"),
        // 1 and 1.0 are one number.
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

/// The result of a CALL, which must be as described.
fn call(both: &Both, name: &str, arguments: &Value, more: &str) -> Value {
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} => '{}'", text.replace('\'', "''")),
        Value::Array(_) | Value::Object(_) => format!("{name} => '{}'", value.to_string().replace('\'', "''")),
        other => format!("{name} => {other}"),
    };
    let mut list: Vec<String> = arguments.as_object().expect("an object").iter().map(one).collect();
    if !more.is_empty() {
        list.push(more.to_owned());
    }
    let text = both.postgres.value(&format!("CALL {name}({})", list.join(", ")));
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    hold_call(&both.server, name, &value);
    value
}

struct Both {
    server: Server,
    postgres: Postgres,
    seen: BTreeSet<&'static str>,
}

impl Both {
    /// The same arguments by both doors.
    fn check(&mut self, name: &'static str, status: u16, arguments: &Value) {
        self.check_each(name, status, (arguments, arguments));
    }

    /// Arguments by REST and by CALL, which differ in ids.
    fn check_each(&mut self, name: &'static str, status: u16, (rest, sql): (&Value, &Value)) -> (Value, Value) {
        let row = ENDPOINTS.iter().find(|row| row.sql == format!("CALL {name}")).expect(name);
        let mut body = rest.clone();
        let id = body["id"].as_str().map(str::to_owned);
        let path = row.path.trim_start_matches("/api/v4/");
        let path = match &id {
            Some(id) if path.contains("{id}") => {
                body.as_object_mut().expect("an object").remove("id");
                path.replace("{id}", id)
            }
            _ => path.to_owned(),
        };
        let by_rest = good(&send(&self.server, row.method, &path, &[], &body), status);
        let by_sql = call(self, name, sql, "");
        assert_eq!(masked(&by_rest), masked(&by_sql), "{name}");
        self.seen.insert(name);
        (by_rest, by_sql)
    }
}

#[test]
fn every_call_of_the_table_gives_by_sql_what_it_gives_by_rest() {
    name_program();
    let fleet =
        json!({ "services": [{ "name": "shop", "replicas_max": 4, "program": { "argv": ["sleep", "1000"] } }] });
    let server = with_fleet(&fleet);
    let postgres = Postgres::connect(&server);
    let mut both = Both { server, postgres, seen: BTreeSet::new() };
    telemetry(&both);
    both.check(
        "operations_predict",
        200,
        &json!({
            "targets": [{ "metric": "load.cpu", "labels": { "service": "shop" }, "capacity": 1000 }],
            "horizon": "1h", "as_of": "2026-01-02T00:00:00Z", "persist": true,
            "include": ["forecast", "backtest", "capacity_exhaustion", "anomaly_risk", "failure_risk"],
        }),
    );
    healing(&mut both);
    both.check(
        "scaling_plan",
        201,
        &json!({
            "service": "shop", "horizon": "2h", "as_of": "2026-01-02T00:00:00Z",
            "demand": [{ "resource": "cpu", "metric": "load.cpu", "capacity": 5 }],
        }),
    );
    forecasts(&mut both);
    both.check("threats_analyze", 200, &json!({ "indicators": [{ "type": "ip", "value": "192.0.2.7" }] }));
    both.check("audit_verify", 200, &json!({}));
    both.check("kill_switch", 200, &json!({ "engaged": true, "reason": "it's a drill" }));
    both.check("kill_switch", 200, &json!({ "engaged": false, "reason": "over" }));
    labels(&mut both);
    executions(&mut both);
    both.check(
        "scaling_autoscale",
        200,
        &json!({
            "service": "shop", "step": "5m", "bounds": { "min": 1, "max": 4 },
            "demand": [{ "resource": "cpu", "metric": "load.cpu", "capacity": 50 }],
        }),
    );
    both.check("scaling_autoscale", 200, &json!({ "service": "shop", "enabled": false }));
    responses(&mut both);
    windows(&mut both);
    governance(&mut both);
    approvals(&mut both);
    learning(&mut both);
    optimization(&mut both);
    let called = ENDPOINTS.iter().filter_map(|row| row.sql.strip_prefix("CALL "));
    let missing: Vec<&str> = called.filter(|name| !both.seen.contains(name)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    hold_rows(&both.server);
}

/// A day of load of two services, one of which has an hour of trouble.
fn telemetry(both: &Both) {
    let line = |minute: u64, service: &str, cpu: u64| {
        format!("load,service={service} cpu={cpu} {}", 1_767_225_600 + 60 * minute)
    };
    let mut lines = Vec::new();
    for minute in (0..1440).step_by(5) {
        let trouble = (1200..1260).contains(&minute);
        lines.push(line(minute, "shop", 50 + minute % 60 + if trouble { 400 } else { 0 }));
        lines.push(line(minute, "cart", 20 + minute % 15));
    }
    let written = crate::client::http(&both.server, "POST", "/write?precision=s", &[], lines.join("\n").as_bytes());
    assert_eq!(written.status, 204, "{}", written.text());
}

/// A GET that computes: its query parameters are the arguments of the CALL.
fn forecasts(both: &mut Both) {
    let demand = r#"[{"resource":"cpu","metric":"load.cpu","agg":"sum","capacity":5}]"#;
    let path = |demand: &str, more: &str| {
        let demand = demand.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        format!("/api/v4/scaling/forecast?service=shop&horizon=2h&as_of=2026-01-02T00:00:00Z&demand={demand}{more}")
    };
    let answer = get(&both.server, &path(demand, "&quantiles=.5,.95"));
    hold(&both.server, "GET", &path(demand, ""), &answer);
    let by_rest = good(&answer, 200);
    let asked = json!({
        "service": "shop", "horizon": "2h", "as_of": "2026-01-02T00:00:00Z", "quantiles": [0.5, 0.95],
        "demand": [{ "resource": "cpu", "metric": "load.cpu", "agg": "sum", "capacity": 5 }],
    });
    assert_eq!(masked(&by_rest), masked(&call(both, "scaling_forecast", &asked, "")));
    let points = by_rest["points"].as_array().expect("points");
    assert_eq!((points.len(), &points[0]["t"]), (24, &json!("2026-01-02T00:00:00.000000Z")));
    for point in points {
        let number = |name: &str| point[name].as_f64().expect(name);
        let units = point["required_units_by_resource"]["cpu"].as_f64().expect("units");
        assert!(number("q50") <= number("q95") && units == (number("q95") / 5.0).ceil(), "{point}");
    }
    for (query, status, slug) in [
        ("service=shop&resource=memory", 422, "no-telemetry"),
        ("service=shop&horizon=soon", 400, "invalid-parameter-value"),
        ("service=shop&colour=red", 400, "unknown-parameter"),
        ("horizon=1h", 400, "invalid-parameter-value"),
    ] {
        super::problem(&get(&both.server, &format!("/api/v4/scaling/forecast?{query}")), status, slug);
    }
    let unknown = get(&both.server, &path(demand, "").replace("service=shop", "service=nobody"));
    assert_eq!(super::problem(&unknown, 404, "not-found")["errors"][0]["pointer"], "?service");
    let early = get(
        &both.server,
        &path(demand, "").replace("as_of=2026-01-02", "as_of=2026-01-01").replace("T00:00", "T00:30"),
    );
    super::problem(&early, 422, "insufficient-history");
    both.seen.insert("scaling_forecast");
}

/// An incident is diagnosed, and what would be done about it is told.
fn healing(both: &mut Both) {
    let body = json!({
        "service": "shop", "window": { "from": "2026-01-01T20:00:00Z", "to": "2026-01-01T21:00:00Z" }, "max_causes": 2,
    });
    let (first, second) = both.check_each("healing_diagnose", 201, (&body, &body));
    assert_eq!(first["candidates"][0]["evidence"][0]["kind"], "metric");
    // That a processor is busy says nothing of what to do.
    assert_eq!((&first["recommended_actions"], &first["warnings"]), (&json!([]), &json!([])));
    let remediate =
        |incident: &Value| json!({ "incident_id": incident["incident_id"], "action": "restart", "dry_run": true });
    both.check_each("healing_remediate", 200, (&remediate(&first), &remediate(&second)));
    let close = |incident: &Value| json!({ "id": incident["incident_id"], "success": true, "note": "it's well again" });
    let (by_rest, _) = both.check_each("healing_resolve", 200, (&close(&first), &close(&second)));
    let last = by_rest["timeline"].as_array().and_then(|timeline| timeline.last()).expect("a timeline");
    assert_eq!((&last["stage"], &last["reason"]), (&json!("resolved"), &json!("it's well again")));
}

fn labels(both: &mut Both) {
    for id in [1, 2] {
        both.postgres.rows(&format!(
            "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES \
             ('00000000-0000-7000-8000-00000000000{id}', now(), 'scan', 'high', '{{}}', 0.9)"
        ));
    }
    let body = |n: u32| json!({ "id": format!("00000000-0000-7000-8000-00000000000{n}"), "false_positive": true, "resolved": true });
    both.check_each("threats_label", 200, (&body(1), &body(2)));
    let alerts = get(&both.server, "/api/v4/threats/alerts").json();
    assert_eq!(alerts["items"], json!([]));
}

/// The body of a request that acts, answered when its job is done.
fn acted(both: &Both, path: &str, key: &str, body: &Value) -> Value {
    let headers = [("Idempotency-Key", key), ("Prefer", "wait=30")];
    let job = good(&send(&both.server, "POST", path, &headers, body), 200);
    assert_eq!(job["state"], "succeeded", "{job}");
    job
}

/// A unit more by each of the doors: the answers have the same members.
fn executions(both: &mut Both) {
    let body = |to: u32| json!({ "target": { "name": "shop" }, "resource": "cpu", "to": to, "reason": "a sale" });
    let by_rest = acted(both, "scaling/execute", "scale", &body(2));
    let by_sql = call(both, "scaling_execute", &body(3), "idempotency_key => 'scale too', wait_s => 30");
    let names = |job: &Value| job["result"].as_object().expect("a result").keys().cloned().collect::<Vec<_>>();
    assert_eq!((names(&by_rest), &by_sql["state"]), (names(&by_sql), &json!("succeeded")), "{by_sql}");
    let units = |job: &Value| (job["result"]["from"].clone(), job["result"]["to"].clone());
    assert_eq!((units(&by_rest), units(&by_sql)), ((json!(1), json!(2)), (json!(2), json!(3))));
    let history = get(&both.server, "/api/v4/scaling/history?executed_by=human&resource_type=cpu").json();
    assert_eq!(history["items"].as_array().map(Vec::len), Some(2), "{history}");
    both.seen.insert("scaling_execute");
}

/// Addresses that juno's own doors refuse, by both doors.
fn responses(both: &mut Both) {
    let id = "00000000-0000-7000-8000-000000000003";
    both.postgres.rows(&format!(
        "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES \
         ('{id}', now(), 'brute_force', 'high', '{{}}', 0.95)"
    ));
    let body = |address: &str| json!({ "threat_event_id": id, "action": "block_ip", "target": { "name": address } });
    let same = |job: &Value| {
        masked(&serde_json::from_str(&job.to_string().replace("203.0.113.8", "203.0.113.7")).expect("JSON"))
    };
    let by_rest = acted(both, "threats/respond", "block", &body("203.0.113.7"));
    let keyed = "idempotency_key => 'block too', wait_s => 30";
    let by_sql = call(both, "threats_respond", &body("203.0.113.8"), keyed);
    assert_eq!(same(&by_rest), same(&by_sql));
    let listed = get(&both.server, "/api/v4/threats/responses?state=active&action=block_ip").json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    let threat = get(&both.server, &format!("/api/v4/threats/{id}")).json();
    assert_eq!(threat["status"], "contained");
    let evidence = by_rest["result"]["evidence_ref"].as_str().expect("a link");
    assert_eq!(get(&both.server, evidence).json()["evidence"]["threat"]["id"], id);
    let response = |job: &Value| job["result"]["response_id"].as_str().expect("an id").to_owned();
    let undo = format!("threats/responses/{}:undo", response(&by_rest));
    let undone = acted(both, &undo, "undo", &json!({ "reason": "a test" }));
    let body = json!({ "id": response(&by_sql), "reason": "a test" });
    let other = call(both, "threats_undo", &body, "idempotency_key => 'undo too', wait_s => 30");
    assert_eq!(same(&undone), same(&other));
    assert_eq!(get(&both.server, &format!("/api/v4/threats/{id}")).json()["status"], "acknowledged");
    both.seen.extend(["threats_respond", "threats_undo"]);
}

fn windows(both: &mut Both) {
    let body = json!({ "name": "upgrade", "service": "shop", "starts_at": "2030-01-01T00:00:00Z", "duration": "2h" });
    let (first, second) = both.check_each("maintenance_windows_create", 201, (&body, &body));
    assert_eq!((&first["ends_at"], &first["state"]), (&json!("2030-01-01T02:00:00.000000Z"), &json!("announced")));
    let id = |window: &Value| json!({ "id": window["id"] });
    both.check_each("maintenance_windows_cancel", 200, (&id(&first), &id(&second)));
}

fn governance(both: &mut Both) {
    let body = proposal("healing", &json!({ "actions_per_hour": 9 }));
    let tag = etag(&both.server, "healing");
    let first = good(&send(&both.server, "POST", "governance/propose", &[("If-Match", &tag)], &body), 200);
    assert_eq!((&first["applied"], &first["new_policy"]["actions_per_hour"]), (&json!(true), &json!(9)));
    let rolled_back = |adaptation: &Value| json!({ "id": adaptation["adaptation_id"], "reason": "a test" });
    let undo =
        |headers: &[(&str, &str)]| send(&both.server, "POST", "governance/rollback", headers, &rolled_back(&first));
    super::problem(&undo(&[]), 428, "precondition-required");
    super::problem(&undo(&[("If-Match", &tag)]), 412, "precondition-failed");
    let tag = etag(&both.server, "healing");
    let undone = good(&undo(&[("If-Match", &tag)]), 200);
    let tag = etag(&both.server, "healing").replace('"', "");
    let second = call(both, "governance_propose", &body, &format!("if_match => '{tag}'"));
    assert_eq!(masked(&first), masked(&second));
    let tag = etag(&both.server, "healing").replace('"', "");
    let back = call(both, "governance_rollback", &rolled_back(&second), &format!("if_match => '{tag}'"));
    assert_eq!(masked(&undone), masked(&back));
    both.seen.extend(["governance_propose", "governance_rollback"]);
    let adaptations = get(&both.server, "/api/v4/governance/adaptations?status=rolled_back").json();
    assert_eq!(adaptations["items"].as_array().map(Vec::len), Some(2));
}

/// What REST asks for is approved by SQL, and the other way round: nobody approves what they asked for.
fn approvals(both: &mut Both) {
    let by_rest = |both: &Both, hours: u32| {
        let body = proposal("healing", &json!({ "actions_per_hour": hours }));
        let tag = etag(&both.server, "healing");
        good(&send(&both.server, "POST", "governance/propose", &[("If-Match", &tag)], &body), 202)
    };
    let by_sql = |both: &Both, hours: u32| {
        let body = proposal("healing", &json!({ "actions_per_hour": hours }));
        let tag = etag(&both.server, "healing").replace('"', "");
        call(both, "governance_propose", &body, &format!("if_match => '{tag}'"))
    };
    let (asked, other) = (by_rest(both, 50), by_sql(both, 50));
    assert_eq!((&asked["state"], masked(&asked)), (&json!("awaiting_approval"), masked(&other)));
    let decide = |job: &Value| json!({ "id": job["approval_id"], "comment": "fine" });
    both.check_each("approvals_deny", 200, (&decide(&other), &decide(&asked)));
    let (asked, other) = (by_rest(both, 60), by_sql(both, 60));
    both.check_each("approvals_approve", 200, (&decide(&other), &decide(&asked)));
    let path = format!("/api/v4/operations/jobs/{}", other["id"].as_str().expect("an id"));
    let done = super::guards::wait_for(|| get(&both.server, &path).json(), "succeeded");
    assert_eq!(done["result"]["new_policy"]["actions_per_hour"], 60);
    let (asked, other) = (by_rest(both, 90), by_sql(both, 90));
    let id = |job: &Value| json!({ "id": job["id"] });
    both.check_each("operations_jobs_cancel", 202, (&id(&asked), &id(&other)));
}

/// The results of a job that REST begins and of one that CALL begins.
fn job(both: &mut Both, name: &'static str, body: &Value) -> (Value, Value) {
    let path = ENDPOINTS.iter().find(|row| row.sql == format!("CALL {name}")).expect(name).path;
    let ended = |both: &Both, begun: &Value| {
        let path = format!("/api/v4/operations/jobs/{}", begun["id"].as_str().expect("an id"));
        // A simulation takes its time in a build that is not optimised.
        let ended = (0..200_000).map(|_| get(&both.server, &path).json()).find(|job| job["finished_at"].is_string());
        let ended = ended.expect("the job ends");
        assert_eq!(ended["state"], "succeeded", "{ended}");
        hold_call(&both.server, name, &ended);
        ended
    };
    let begun = good(&send(&both.server, "POST", path.trim_start_matches("/api/v4/"), &[], body), 202);
    let first = ended(both, &begun);
    let begun = call(both, name, body, "");
    let second = ended(both, &begun);
    assert_eq!(masked(&first), masked(&second), "{name}");
    both.seen.insert(name);
    (first["result"].clone(), second["result"].clone())
}

/// A training gives the same bits by both doors; what it gave is promoted, evaluated on a log and taken back.
fn learning(both: &mut Both) {
    let body = json!({
        "policy": "shop", "algorithm": "linucb", "days": 4, "seed": 7, "budget": { "steps": 200 },
        "hyperparameters": { "members": 2 },
    });
    let (first, second) = job(both, "rl_train", &body);
    assert!(first["checksum"].is_string() && first["checksum"] == second["checksum"]);
    let features = FEATURES.map(|name| format!("'{name}', sin(i * 7 % 101)"));
    both.postgres.rows(&format!(
        "INSERT INTO rl_experience (id, at, policy, state, action, propensity, outcome, reward) SELECT gen_random_uuid(), \
         now() - i * INTERVAL '1 minute', 'shop', jsonb_build_object({}), jsonb_build_object('k', CASE i / 6 % 5 WHEN 4 THEN 4.5 \
         ELSE i / 6 % 5 END, 'hold_s', CASE i / 3 % 2 WHEN 0 THEN 60 ELSE 300 END, 'guard', CASE i % 3 WHEN 0 THEN 1.0 WHEN 1 \
         THEN 1.15 ELSE 1.4 END), 1.0 / 30, \
         jsonb_build_object('cost', 0.3, 'idle', 0.2, 'violation', 0.0, 'slow', 0.0, 'latency', 0.5, 'churn', 0.0), -0.3 \
         FROM generate_series(1, 6000) AS g (i)",
        features.join(", ")
    ));
    let evaluated = |result: &Value| json!({ "policy_id": result["policy_id"], "against": "logged", "bootstrap": 100 });
    both.check_each("rl_evaluate", 200, (&evaluated(&first), &evaluated(&first)));
    let moved = |both: &mut Both, name: &'static str, verb: &str, more: &Value, revision: &str| {
        let path = format!("rl/policies/{}:{verb}", first["policy_id"].as_str().expect("an id"));
        let tag = format!("\"{revision}\"");
        let by_rest = good(&send(&both.server, "POST", &path, &[("If-Match", &tag)], more), 200);
        let mut arguments = more.clone();
        arguments["id"] = second["policy_id"].clone();
        let by_sql = call(both, name, &arguments, &format!("if_match => '{revision}'"));
        assert_eq!(masked(&by_rest), masked(&by_sql), "{name}");
        both.seen.insert(name);
        by_rest
    };
    let shadow = moved(both, "rl_policies_promote", "promote", &json!({ "to": "shadow" }), "r1");
    assert_eq!((&shadow["state"], &shadow["etag"]), (&json!("shadow"), &json!("r2")));
    let shadows = get(&both.server, "/api/v4/rl/policies?state=shadow&name=shop").json();
    assert_eq!(shadows["items"].as_array().map(Vec::len), Some(2), "{shadows}");
    let back = moved(both, "rl_policies_rollback", "rollback", &json!({ "reason": "a test" }), "r2");
    assert_eq!(back["state"], "candidate");
    let told = get(&both.server, "/api/v4/rl/performance?policy=shop&from=now-3d&step=6h").json();
    assert!(told["series"].as_array().is_some_and(|series| series.len() >= 12), "{told}");
    assert!(told["series"][1]["baseline_reward"].as_f64().is_some_and(|reward| (reward + 0.3).abs() < 1e-9), "{told}");
    assert!(told["summary"]["reward"].is_null() && told["summary"]["decisions"].is_number(), "{told}");
}

/// Knobs for a service whose day repeats itself, and the row of the history that a proposal leaves.
fn optimization(both: &mut Both) {
    both.postgres.rows(
        "CREATE TABLE traffic (time TIMESTAMPTZ, service TEXT, requests DOUBLE PRECISION) WITH (tags = 'service')",
    );
    both.postgres.rows(
        "INSERT INTO traffic SELECT to_timestamp(1767225600 + 300 * i), 'shop', 60000 + 40000 * sin(i * 2 * pi() / 288) \
         FROM generate_series(0, 1151) AS g (i)",
    );
    let body = json!({
        "type": "cost", "scope": { "service": "shop" }, "metric": "traffic.requests",
        "window": { "from": "2026-01-01T00:00:00Z", "to": "2026-01-05T00:00:00Z" },
    });
    let (found, _) = job(both, "operations_optimize", &body);
    assert_eq!((&found["verdict"], &found["applied"]), (&json!("better"), &json!(false)), "{found}");
    assert_eq!(found["decides"]["by"], "tuned static rule");
    assert_eq!(found["recommended"].as_array().map(Vec::len), Some(3), "{found}");
    let kept = "SELECT count(*) FROM optimization_history WHERE improvement_percentage IS NULL AND rl_reward < 0 \
                AND parameters ->> 'service' = 'shop'";
    assert_eq!(both.postgres.value(kept), "2");
}

#[test]
fn arguments_are_held_to_their_declaration_by_sql_too() {
    let server = server();
    let postgres = Postgres::connect(&server);
    for (sql, code, told) in [
        ("CALL kill_switch(true)", "22023", "/reason"),
        ("CALL kill_switch(engaged => 'yes', reason => 'x')", "22023", "true or false"),
        ("CALL kill_switch(engage => true, reason => 'x')", "42883", "has no argument \"engage\""),
        ("CALL operations_predict(targets => 'no json')", "22P02", "must be JSON"),
        ("CALL operations_predict(targets => '[{\"metric\": \"a.b\", \"x\": 1}]')", "22023", "/targets/0/x"),
        ("CALL operations_jobs_cancel('00000000-0000-7000-8000-000000000001')", "42704", "there is no job"),
        ("INSERT INTO juno_audit SELECT * FROM juno_audit", "42501", "juno_audit"),
        ("DELETE FROM juno_audit", "42501", "juno_audit"),
        ("DROP TABLE juno_audit", "42P16", "juno_audit"),
    ] {
        let (found, text) = postgres.error(sql);
        assert!(found == code && text.contains(told), "{sql}: {found} {text}");
    }
}
