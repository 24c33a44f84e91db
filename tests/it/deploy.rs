//! What is deployed beside juno: the dashboard's questions are answered, and the alerts name metrics that there are.
//!
//! **Invariant:** the files are taken as they lie in `deploy`.

use std::collections::BTreeSet;
use std::path::Path;

use juno_tests::Server;
use serde_json::Value;

use crate::client::{Postgres, get, http};
use crate::server;

/// A row of everything that the dashboard shows.
const ROWS: &[&str] = &[
    "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms, remediation_actions, resolved_at, \
     resolution_time_seconds, success) VALUES ('00000000-0000-7000-8000-000000000001', now(), 'performance', 'high', \
     '{\"service\": \"shop\", \"detection_s\": 2.5}', '{\"status\": \"resolved\", \"diagnosis_s\": 1, \"remediation_s\": 9}', now(), 9, true)",
    "INSERT INTO juno_remediations (id, incident_id, runbook, executor, target, actor, began_at, cooldown_until, state) VALUES \
     ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', 'restart', 'process', 'shop', 'ada', now(), now(), 'succeeded')",
    "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES \
     ('00000000-0000-7000-8000-000000000003', now(), 'brute_force', 'high', '{\"entity\": \"203.0.113.7\"}', 0.95)",
    "INSERT INTO scaling_events (id, timestamp, scaling_type, resource_type, predicted_demand, scaling_action) VALUES \
     ('00000000-0000-7000-8000-000000000004', now(), 'scale_up', 'cpu', '{}', '{\"service\": \"shop\", \"from\": 1, \"to\": 2}')",
    "INSERT INTO optimization_history (id, timestamp, optimization_type, parameters, baseline_metrics, optimized_metrics) VALUES \
     ('00000000-0000-7000-8000-000000000005', now(), 'cost', '{\"service\": \"shop\"}', '{}', '{}')",
    "INSERT INTO governance_adaptations (id, timestamp, policy_type, old_policy, new_policy, adaptation_reason) VALUES \
     ('00000000-0000-7000-8000-000000000006', now(), 'healing', '{}', '{}', 'a test')",
];

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    std::fs::read_to_string(path).expect(name)
}

/// The targets of a dashboard's panels.
fn targets(dashboard: &Value) -> Vec<Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten().cloned().collect()
}

/// As Grafana fills it in.
fn filled(sql: &str) -> String {
    let mut parts = sql.split("$__timeFilter(");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (column, rest) = part.split_once(')').expect("a column");
        out.push_str(&format!("{column} BETWEEN '2020-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'{rest}"));
    }
    assert!(!out.contains('$'), "{out}");
    out
}

/// The metrics that a text names.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|word| word.starts_with("juno_")).collect()
}

/// A server of which every metric was counted once.
fn counted() -> Server {
    let server = server();
    let written = http(&server, "POST", "/write", &[], b"cpu,host=a usage=1\nno line");
    assert_eq!(written.status, 400, "{}", written.text());
    let postgres = Postgres::connect(&server);
    postgres.error("SELECT nothing");
    postgres.rows("SELECT 1");
    server
}

#[test]
fn every_question_of_the_dashboard_is_answered() {
    let dashboard: Value = serde_json::from_str(&file("grafana/juno.json")).expect("JSON");
    let targets = targets(&dashboard);
    let server = counted();
    let postgres = Postgres::connect(&server);
    ROWS.iter().for_each(|row| drop(postgres.rows(row)));
    let mut asked = 0;
    for sql in targets.iter().filter_map(|target| target["rawSql"].as_str()) {
        assert!(!postgres.rows(&filled(sql)).is_empty(), "no rows: {sql}");
        asked += 1;
    }
    assert!(asked >= 15, "only {asked} questions were found");
    for target in targets.iter().filter(|target| target["format"] == "time_series") {
        let sql = target["rawSql"].as_str().expect("a question");
        assert!(sql.contains(" AS time, ") && sql.contains(" ORDER BY "), "Grafana wants times in order: {sql}");
    }
    let known = get(&server, "/metrics").text();
    let mut named = 0;
    for expression in targets.iter().filter_map(|target| target["expr"].as_str()) {
        let names = metrics(expression);
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(known.contains(&format!("\n{name}")), "{name} is not in\n{known}");
            named += 1;
        }
    }
    assert!(named >= 9, "only {named} metrics were found");
}

#[test]
fn alerts_name_metrics_that_there_are() {
    let rules = file("prometheus/juno.yml");
    let known = get(&counted(), "/metrics").text();
    let expressions: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(expressions.len(), rules.matches("- alert: ").count());
    for expression in expressions {
        let names = metrics(expression);
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(known.contains(&format!("\n{name}")), "{name} is not in\n{known}");
        }
    }
}
