//! The six endpoints: pages, filters, formats, series, and the parameters that they refuse.
//!
//! **Invariant:** rows are inserted by SQL and read by REST.

use serde_json::{Value, json};

use super::{ARROW, PARQUET, arrow_rows, parquet_rows, problem};
use crate::client::{Postgres, get, http};
use crate::server;

/// A day that the rows of these tests lie in.
const DAY: &str = "from=2026-06-01T00:00:00Z&to=2026-06-02T00:00:00Z";

/// Incident `n`: two of them share each minute of the day.
fn incident(n: u32, severity: &str) -> String {
    format!(
        "('00000000-0000-7000-8000-{n:012}', '2026-06-01T00:{:02}:00Z', 'crash', '{severity}', '{{\"service\": \"api{}\"}}')",
        n / 2,
        n % 2
    )
}

fn insert_incidents(postgres: &Postgres, rows: &[String]) {
    let columns = "id, detected_at, incident_type, severity, symptoms";
    postgres.rows(&format!("INSERT INTO healing_incidents ({columns}) VALUES {}", rows.join(", ")));
}

/// The numbers of the incidents of a page.
fn numbers(page: &Value) -> Vec<u32> {
    let items = page["items"].as_array().unwrap_or_else(|| panic!("no page: {page}"));
    let number = |item: &Value| item["id"].as_str().and_then(|id| id[24..].parse().ok()).expect("an id of these tests");
    items.iter().map(number).collect()
}

#[test]
fn pages_are_stable_while_rows_come_and_go() {
    let server = server();
    let postgres = Postgres::connect(&server);
    insert_incidents(&postgres, &(10..20).map(|n| incident(n, "low")).collect::<Vec<_>>());
    let path = format!("/api/v4/healing/incidents?{DAY}&limit=3");
    let first = get(&server, &path).json();
    assert_eq!((numbers(&first), &first["has_more"]), (vec![19, 18, 17], &json!(true)));
    // Newer rows belong to pages that were read; an older one to a page that comes; the last row read may go.
    insert_incidents(&postgres, &[incident(30, "low"), incident(19 + 12, "high"), incident(4, "low")]);
    postgres.rows("DELETE FROM healing_incidents WHERE id = '00000000-0000-7000-8000-000000000017'");
    let (mut seen, mut page) = (vec![], first);
    while let Some(cursor) = page["next_cursor"].as_str() {
        page = get(&server, &format!("{path}&cursor={cursor}")).json();
        assert_eq!(page["has_more"], json!(!page["next_cursor"].is_null()));
        seen.extend(numbers(&page));
    }
    assert_eq!(seen, [16, 15, 14, 13, 12, 11, 10, 4]);
    let (mut seen, mut next) = (vec![], format!("{path}&order=asc&severity=low&severity=high"));
    while !next.is_empty() {
        let answer = get(&server, &next);
        assert_eq!(answer.status, 200, "{}", answer.text());
        seen.extend(numbers(&answer.json()));
        let link = answer.header("link");
        assert!(link.is_empty() || link.ends_with("; rel=\"next\""), "{link}");
        next = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
    }
    assert_eq!(seen, [4, 10, 11, 12, 13, 14, 15, 16, 18, 19, 30, 31]);
}

#[test]
fn filters_repeat_as_or_and_ranges_are_half_open() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let severities = ["low", "high", "critical", "low", "high", "critical"];
    insert_incidents(
        &postgres,
        &severities.iter().zip(0..).map(|(severity, n)| incident(n, severity)).collect::<Vec<_>>(),
    );
    postgres.rows("UPDATE healing_incidents SET resolved_at = detected_at, success = true WHERE severity = 'low'");
    for (query, expected) in [
        ("severity=low", vec![3, 0]),
        ("severity=low&severity=high", vec![4, 3, 1, 0]),
        ("severity=low&service=api1", vec![3]),
        ("success=true", vec![3, 0]),
        ("status=open&service=api0&service=api1&severity=critical", vec![5, 2]),
        ("q=CRASH&q=nothing&type=crash", vec![5, 4, 3, 2, 1, 0]),
        ("q=api1", vec![5, 3, 1]),
        ("severity=%27%20OR%201=1--", vec![]),
    ] {
        let answer = get(&server, &format!("/api/v4/healing/incidents?{DAY}&{query}"));
        assert_eq!(numbers(&answer.json()), expected, "{query}");
    }
    for (range, expected) in [
        ("from=2026-06-01T00:01:00Z&to=2026-06-01T00:02:00Z", vec![3, 2]),
        ("from=1780272060000&to=1780272120000", vec![3, 2]),
        ("from=2026-06-01T02:01:00%2B02:00&to=2026-06-01T00:02:00.000001Z", vec![5, 4, 3, 2]),
        ("to=2026-06-01T00:01:00Z", vec![1, 0]),
        ("from=now-1h", vec![]),
    ] {
        let answer = get(&server, &format!("/api/v4/healing/incidents?{range}"));
        assert_eq!(numbers(&answer.json()), expected, "{range}");
    }
}

#[test]
fn rows_of_all_pages_are_counted_where_that_is_asked_for() {
    let server = server();
    insert_incidents(&Postgres::connect(&server), &(0..5).map(|n| incident(n, "low")).collect::<Vec<_>>());
    let ask = |query: &str, accept: &str| {
        let path = format!("/api/v4/healing/incidents?{DAY}&limit=2{query}");
        let answer = http(&server, "GET", &path, &[("Accept", accept)], b"");
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer
    };
    let plain = ask("", "application/json");
    assert!(plain.json().get("count").is_none() && plain.header("x-juno-count").is_empty(), "{}", plain.text());
    for (query, count) in [
        ("&count=exact", 5),
        ("&count=estimate", 5),
        ("&count=exact&service=api0", 3),
        ("&count=estimate&service=api1", 2),
        ("&count=exact&severity=high", 0),
    ] {
        let page = ask(query, "application/json").json();
        assert_eq!((&page["count"], &page["count_is"]), (&json!(count), &json!("exact")), "{query}");
    }
    let first = ask("&count=exact", "text/csv");
    assert_eq!(first.header("x-juno-count"), "5;is=exact");
    let cursor = ask("", "application/json").json()["next_cursor"].as_str().expect("a cursor").to_owned();
    let second = ask(&format!("&count=exact&cursor={cursor}"), "application/json").json();
    assert_eq!((second["items"].as_array().map(Vec::len), &second["count"]), (Some(2), &json!(5)));
    // What shows a table whole is known without a look at its rows, versions of one row apart.
    for reason in ["a drill", "another"] {
        let body = json!({"engaged": true, "reason": reason}).to_string();
        let kind = [("Content-Type", "application/json")];
        assert_eq!(http(&server, "POST", "/api/v4/kill-switch", &kind, body.as_bytes()).status, 200, "{reason}");
    }
    let known = get(&server, "/api/v4/kill-switch?count=estimate").json();
    assert_eq!((&known["count"], &known["count_is"]), (&json!(2), &json!("estimate")));
    // A view that leaves rows out is counted.
    let open = get(&server, "/api/v4/threats/alerts?count=estimate").json();
    assert_eq!((&open["count"], &open["count_is"]), (&json!(0), &json!("exact")));
}

#[test]
fn lists_come_in_every_format_with_their_link() {
    let server = server();
    insert_incidents(&Postgres::connect(&server), &(0..3).map(|n| incident(n, "low")).collect::<Vec<_>>());
    let ask = |accept| {
        let path = format!("/api/v4/healing/incidents?{DAY}&limit=2");
        let answer = http(&server, "GET", &path, &[("Accept", accept)], b"");
        assert!(answer.status == 200 && answer.header("link").contains("cursor="), "{accept}: {:?}", answer.headers);
        answer
    };
    let item = &ask("application/json").json()["items"][0];
    let expected = json!({
        "id": "00000000-0000-7000-8000-000000000002", "detected_at": "2026-06-01T00:01:00.000000Z",
        "incident_type": "crash", "severity": "low", "symptoms": {"service": "api0"}, "diagnosis": null,
        "remediation_actions": null, "resolved_at": null, "resolution_time_seconds": null, "success": null,
        "status": "open", "service": "api0", "timeline": null, "detection_s": null, "diagnosis_s": null,
        "remediation_s": null, "dedup_count": null, "escalated_to": null
    });
    assert_eq!(*item, expected);
    assert_eq!(ask("text/csv").text().lines().count(), 3);
    let lines = ask("application/x-ndjson").text();
    assert_eq!(serde_json::from_str::<Value>(lines.lines().next().expect("a line")).expect("an object"), expected);
    for batch in [arrow_rows(&ask(ARROW)), parquet_rows(&server, &ask(PARQUET))] {
        assert_eq!((batch.num_rows(), batch.num_columns()), (2, 18));
    }
    let refused = http(&server, "GET", "/api/v4/threats/alerts", &[("Accept", "text/html")], b"");
    problem(&server, &refused, 406, "not-acceptable");
}

/// Below `/api/v4/`: a request, the problem that answers it, and the parameter that is named.
const REFUSED: &[(&str, u16, &str, &str)] = &[
    ("healing/incidents?colour=red", 400, "unknown-parameter", "?colour"),
    ("operations/status?x=1", 400, "unknown-parameter", "?x"),
    ("healing/incidents?limit=0", 400, "invalid-parameter-value", "?limit"),
    ("healing/incidents?limit=1001", 400, "invalid-parameter-value", "?limit"),
    ("healing/incidents?limit=1&limit=2", 400, "invalid-parameter-value", "?limit"),
    ("scaling/history?order=up", 400, "invalid-parameter-value", "?order"),
    ("scaling/history?from=yesterday", 400, "invalid-parameter-value", "?from"),
    ("scaling/history?from=now&to=now-1h", 400, "invalid-parameter-value", "?from"),
    ("healing/incidents?success=perhaps", 400, "invalid-parameter-value", "?success"),
    ("threats/alerts?min_confidence=much", 400, "invalid-parameter-value", "?min_confidence"),
    ("threats/alerts?since=soon", 400, "invalid-parameter-value", "?since"),
    ("threats/history?cursor=zzz", 400, "invalid-cursor", "?cursor"),
    ("threats/history?cursor=d1.x..y", 400, "invalid-cursor", "?cursor"),
    ("threats/history?cursor=d1...y", 400, "invalid-cursor", "?cursor"),
    ("threats/history?cursor=d1...9999999999999999.y&order=asc", 400, "invalid-cursor", "?cursor"),
    ("threats/history?cursor=d1...1.y", 410, "cursor-expired", "?cursor"),
    ("threats/history?count=many", 400, "invalid-parameter-value", "?count"),
    ("threats/history?from=now-401d", 422, "range-too-large", "?from"),
    ("threats/history?summary=yes", 400, "invalid-parameter-value", "?summary"),
    ("threats/history?summary=true&limit=5", 400, "unknown-parameter", "?limit"),
    ("threats/alerts?summary=true", 400, "unknown-parameter", "?summary"),
    ("operations/metrics", 400, "invalid-parameter-value", "?metric"),
    ("operations/metrics?metric=m", 404, "unknown-metric", "?metric"),
    ("operations/metrics?metric=m.nothing", 404, "unknown-metric", "?metric"),
    ("operations/metrics?metric=threat_events.confidence_score", 404, "unknown-metric", "?metric"),
    ("operations/metrics?metric=m.v&agg=median", 400, "invalid-parameter-value", "?agg"),
    ("operations/metrics?metric=m.v&step=0s", 400, "invalid-parameter-value", "?step"),
    ("operations/metrics?metric=m.v&fill=zero", 400, "invalid-parameter-value", "?fill"),
    ("operations/metrics?metric=m.v&group_by=v", 400, "invalid-parameter-value", "?group_by"),
    ("operations/metrics?metric=m.v&rack=1", 400, "unknown-parameter", "?rack"),
    ("operations/metrics?metric=m.v&from=now-24h&step=1s", 422, "range-too-large", "?step"),
];

#[test]
fn parameters_that_mean_nothing_are_refused_by_name() {
    let server = server();
    assert_eq!(http(&server, "POST", "/write", &[], b"m,host=a v=1 1").status, 204);
    for (path, status, slug, pointer) in REFUSED {
        let members = problem(&server, &get(&server, &format!("/api/v4/{path}")), *status, slug);
        assert_eq!(members["errors"][0]["pointer"], *pointer, "{path}");
    }
}

#[test]
fn threats_and_scaling_are_listed_and_status_counts_what_is_open() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let state = || get(&server, "/api/v4/operations/status").json();
    let fresh = state();
    assert_eq!((&fresh["phase"], &fresh["state"], &fresh["open_threats"]), (&json!(4), &json!("healthy"), &json!(0)));
    let door = &fresh["components"]["pgwire"];
    assert_eq!((&door["enabled"], &door["state"]), (&json!(true), &json!("running")), "{door}");
    assert!(door["last_run_at"].is_string() && door["lag_s"].is_number(), "a client came: {door}");
    assert!(fresh["components"]["governance"].get("last_error").is_some(), "{fresh}");
    let columns = "id, detected_at, threat_type, severity, indicators, confidence_score, resolved_at, false_positive";
    let threat = |n: u32, hours: u32, confidence: &str, rest: &str| {
        format!(
            "INSERT INTO threat_events ({columns}) VALUES ('00000000-0000-7000-8000-{n:012}', now() - INTERVAL '{hours} hours', \
             'scan', 'high', '{{\"entity\": \"e{n}\"}}', {confidence}, {rest})"
        )
    };
    for (n, hours, confidence, rest) in [
        (1, 48, "0.9", "NULL, false"),
        (2, 2, "0.75", "now(), false"),
        (3, 1, "0.4", "NULL, true"),
        (4, 3, "0.5", "NULL, NULL"),
    ] {
        postgres.rows(&threat(n, hours, confidence, rest));
    }
    for (path, expected) in [
        ("threats/alerts", vec![4, 1]),
        ("threats/alerts?min_confidence=0.6", vec![1]),
        ("threats/alerts?since=now-24h", vec![4]),
        ("threats/alerts?entity=e1&entity=e2", vec![1]),
        ("threats/history", vec![3, 2, 4]),
        ("threats/history?from=now-7d", vec![3, 2, 4, 1]),
        ("threats/history?from=now-7d&false_positive=true", vec![3]),
    ] {
        assert_eq!(numbers(&get(&server, &format!("/api/v4/{path}")).json()), expected, "{path}");
    }
    let alert = &get(&server, "/api/v4/threats/alerts?entity=e1").json()["items"][0];
    assert_eq!((&alert["mitre"], &alert["dedup_count"]), (&json!([]), &json!(1)));
    assert_eq!((&alert["first_seen"], &alert["last_seen"]), (&alert["detected_at"], &alert["detected_at"]));
    assert_eq!(alert["recommended_response"], json!({ "action": "notify", "target": "e1" }));
    let totals = get(&server, "/api/v4/threats/history?summary=true&from=now-7d").json()["summary"].clone();
    assert_eq!((&totals["threats"], &totals["severity"]), (&json!(4), &json!({ "high": 4 })));
    assert_eq!(totals["status"], json!({ "new": 2, "resolved": 1, "false_positive": 1 }));
    // One of two that people labelled was right.
    for rate in ["tpr", "fpr"] {
        let ends = totals[rate]["ci95"].as_array().expect("two ends").iter().filter_map(Value::as_f64);
        let near = ends.zip([0.0945, 0.9055]).all(|(end, expected)| (end - expected).abs() < 1e-3);
        assert!(near && totals[rate]["value"] == 0.5 && totals[rate]["n"] == 2, "{totals}");
    }
    let none = get(&server, "/api/v4/threats/history?summary=true&entity=nobody").json();
    assert!(none["from"].is_string() && none["summary"]["threats"] == 0 && none["summary"]["tpr"]["value"].is_null());
    let resolved = &get(&server, "/api/v4/threats/history?entity=e2").json()["items"][0];
    assert_eq!((&resolved["status"], &resolved["confidence_score"]), (&json!("resolved"), &json!(0.75)));
    postgres.rows(
        "INSERT INTO scaling_events (id, timestamp, scaling_type, resource_type, predicted_demand, scaling_action, cost_impact) \
         VALUES (gen_random_uuid(), now(), 'up', 'cpu', '{}', '{\"service\": \"api\", \"executed_by\": \"policy\"}', -1.50)",
    );
    let scaled = get(&server, "/api/v4/scaling/history?executed_by=policy&resource_type=cpu").json();
    assert_eq!((&scaled["items"][0]["cost_impact"], &scaled["items"][0]["service"]), (&json!(-1.5), &json!("api")));
    assert_eq!(scaled["items"][0]["cost_unit"], "unit.cost_per_hour", "nobody said in which currency");
    let totals = get(&server, "/api/v4/scaling/history?summary=true&service=api").json()["summary"].clone();
    assert_eq!((&totals["events"], &totals["cost_impact"], &totals["judged"]), (&json!(1), &json!(-1.5), &json!(0)));
    assert_eq!((&totals["scaling_type"], &totals["by_policy"]), (&json!({ "up": 1 }), &json!(1)));
    assert_eq!((&state()["state"], &state()["open_threats"]), (&json!("degraded"), &json!(2)));
    insert_incidents(&postgres, &[incident(1, "critical"), incident(2, "low")]);
    assert_eq!((&state()["state"], &state()["open_incidents"]), (&json!("critical"), &json!(2)));
    assert_eq!(state()["last_incident_at"], "2026-06-01T00:01:00.000000Z");
}

#[test]
fn telemetry_is_answered_as_series() {
    let server = server();
    let lines = "m,host=a v=1 1780272000\nm,host=a v=3 1780272030\nm,host=b v=10 1780272000\nm,host=a v=5 1780272180\n\
                 m,host=a v=99 1780272300";
    assert_eq!(http(&server, "POST", "/write?precision=s", &[], lines.as_bytes()).status, 204);
    let range = "from=2026-06-01T00:00:00Z&to=2026-06-01T00:05:00Z&step=1m";
    let series = |query: &str| {
        let answer = get(&server, &format!("/api/v4/operations/metrics?metric=m.v&{range}&{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let found = answer.json();
        assert_eq!(found["step"], "1m");
        found["series"].clone()
    };
    let at = |minute: u32, value: Value| json!([format!("2026-06-01T00:{minute:02}:00.000000Z"), value]);
    let one = |labels: Value, points: Value| json!({"metric": "m.v", "labels": labels, "points": points});
    for (query, points) in [
        ("agg=sum", json!([at(0, json!(14.0)), at(3, json!(5.0))])),
        ("agg=count&host=a&host=b", json!([at(0, json!(3.0)), at(3, json!(1.0))])),
        ("agg=max&host=b", json!([at(0, json!(10.0))])),
        ("host=a", json!([at(0, json!(2.0)), at(3, json!(5.0))])),
        ("agg=last&host=a", json!([at(0, json!(3.0)), at(3, json!(5.0))])),
        (
            "agg=sum&fill=linear",
            json!([at(0, json!(14.0)), at(1, json!(11.0)), at(2, json!(8.0)), at(3, json!(5.0)), at(4, json!(null))]),
        ),
    ] {
        assert_eq!(series(query), json!([one(json!({}), points)]), "{query}");
    }
    let groups = series("agg=min&group_by=host");
    let a = one(json!({"host": "a"}), json!([at(0, json!(1.0)), at(3, json!(5.0))]));
    assert_eq!(groups, json!([a, one(json!({"host": "b"}), json!([at(0, json!(10.0))]))]));
}

#[test]
fn learned_policies_tell_when_they_converged_and_how_soon_they_decided() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let id = "00000000-0000-7000-8000-0000000000a1";
    let none = get(&server, "/api/v4/rl/performance?from=2026-05-31T00:00:00Z&to=2026-06-12T00:00:00Z&step=1d").json();
    assert_eq!((&none["summary"]["ci95"], &none["summary"]["convergence_h"]), (&json!([null, null]), &Value::Null));
    postgres.rows(&format!(
        "INSERT INTO juno_rl_policies (id, name, version, algorithm, state, revision, features_schema_hash, action_space, \
         hyperparameters, reward, trained_at, trained_by, promoted_at, metrics, checksum, artefact) VALUES ('{id}', 'shop', 1, \
         'linucb', 'active', 1, 'x', '{{}}', '{{}}', '{{}}', '2026-05-31T00:00:00Z', 'ada', '2026-05-31T23:58:30Z', '{{}}', 'x', \
         '\\x00')"
    ));
    // Two poor hours and ten good days, beside a rule that began an hour before.
    for (policy, hours, reward) in [
        (format!("'{id}'::uuid"), "i", "CASE WHEN i < 2 THEN -1.0 ELSE -0.2 END"),
        ("NULL".to_owned(), "(i - 1)", "-0.4 - 0.001 * (i % 7)"),
    ] {
        postgres.rows(&format!(
            "INSERT INTO rl_experience (id, at, policy, policy_id, state, action, propensity, outcome, reward) SELECT \
             gen_random_uuid(), TIMESTAMPTZ '2026-06-01T00:00:00Z' + {hours} * INTERVAL '1 hour', 'shop', {policy}, \
             jsonb_build_object('k', 1), jsonb_build_object('k', 1), 1.0, jsonb_build_object('cost', 0.3), {reward} \
             FROM generate_series(0, 239) AS g (i)"
        ));
    }
    let told = get(&server, "/api/v4/rl/performance?from=2026-05-31T00:00:00Z&to=2026-06-12T00:00:00Z&step=1d").json();
    let summary = &told["summary"];
    assert_eq!(
        (summary["convergence_h"].as_f64(), summary["adaptation_s"].as_f64()),
        (Some(94.0), Some(90.0)),
        "{summary}"
    );
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number in {summary}"));
    let (low, high) = (number(&summary["ci95"][0]), number(&summary["ci95"][1]));
    assert!((low - number(&summary["improvement_pct_low"])).abs() < 1e-6 && low > 0.0, "{summary}");
    assert!((high - number(&summary["improvement_pct_high"])).abs() < 1e-6 && high > low, "{summary}");
}

#[test]
fn series_come_in_every_format_as_a_row_for_each_point() {
    let server = server();
    let lines = "m,host=a v=1 1780272000\nm,host=b v=10 1780272000\nm,host=a v=5 1780272180";
    assert_eq!(http(&server, "POST", "/write?precision=s", &[], lines.as_bytes()).status, 204);
    let range = "from=2026-06-01T00:00:00Z&to=2026-06-01T00:05:00Z&step=1m";
    let ask = |accept: &str| {
        let path = format!("/api/v4/operations/metrics?metric=m.v&{range}&agg=sum&group_by=host");
        let answer = http(&server, "GET", &path, &[("Accept", accept)], b"");
        assert!(answer.status == 200 && answer.content_type.starts_with(accept), "{accept}: {}", answer.text());
        answer
    };
    let lines = ask("application/x-ndjson").text();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let row = |minute: u32, host: &str, value: f64| json!({"t": format!("2026-06-01T00:{minute:02}:00.000000Z"), "metric": "m.v", "host": host, "value": value});
    assert_eq!(lines, [row(0, "a", 1.0), row(3, "a", 5.0), row(0, "b", 10.0)]);
    let csv = ask("text/csv").text();
    assert_eq!((csv.lines().next(), csv.lines().count()), (Some("t,metric,host,value"), 4));
    for batch in [arrow_rows(&ask(ARROW)), parquet_rows(&server, &ask(PARQUET))] {
        assert_eq!((batch.num_rows(), batch.num_columns()), (3, 4));
    }
    let fine = "/api/v4/operations/metrics?metric=m.v&from=2026-06-01T00:00:00Z&to=2026-06-01T10:00:00Z&step=1s";
    let refused = http(&server, "GET", fine, &[("Accept", "text/csv")], b"");
    problem(&server, &refused, 422, "range-too-large");
    let filled = http(&server, "GET", &format!("{fine}&fill=prev"), &[("Accept", ARROW)], b"");
    assert_eq!((filled.status, arrow_rows(&filled).num_rows()), (200, 36_000));
    let more =
        "/api/v4/operations/metrics?metric=m.v&from=2026-06-01T00:00:00Z&to=2026-06-02T00:00:00Z&step=100ms&fill=prev";
    problem(&server, &http(&server, "GET", more, &[("Accept", ARROW)], b""), 422, "range-too-large");
}

#[test]
fn steps_come_in_every_format() {
    let server = server();
    let columns = "t,decisions,reward,baseline_reward,cost,violation,exploration_share,recommendation_variance_pct";
    let csv = http(&server, "GET", "/api/v4/rl/performance", &[("Accept", "text/csv")], b"");
    assert_eq!((csv.status, csv.text().trim_end()), (200, columns));
    let arrow = http(&server, "GET", "/api/v4/rl/performance?step=1s", &[("Accept", ARROW)], b"");
    assert_eq!((arrow.status, arrow_rows(&arrow).num_columns()), (200, 8));
    let refused = http(&server, "GET", "/api/v4/rl/performance?step=1s", &[("Accept", PARQUET)], b"");
    problem(&server, &refused, 422, "range-too-large");
}
