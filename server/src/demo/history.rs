//! The operations history of the demo: what would have been written while its telemetry was measured.
//!
//! **Invariant:** plain INSERT statements, as a client would send them; the ids are UUIDv7 of the rows' own times.

use std::net::IpAddr;

use serde_json::{Value, json};
use uuid::Builder;

use super::incident::{Incident, Kind};
use super::noise::uniform;

const HOUR_US: i64 = 3_600_000_000;
const MINUTE_US: i64 = 60_000_000;
const DAYS: i64 = 28;

/// One INSERT for each of the five history tables.
pub(super) fn inserts(now_us: i64, incidents: &[Incident]) -> Vec<String> {
    vec![
        insert(
            "healing_incidents",
            &incidents.iter().enumerate().map(|(at, incident)| healing(at, incident)).collect::<Vec<_>>(),
        ),
        insert("scaling_events", &scaling(now_us)),
        insert("threat_events", &threats(now_us)),
        insert("optimization_history", &optimizations(now_us)),
        insert("governance_adaptations", &adaptations(now_us)),
    ]
}

/// A column's name and its SQL literal.
type Row = Vec<(&'static str, String)>;

fn healing(at: usize, incident: &Incident) -> Row {
    let detected_us = incident.from_us + 2 * MINUTE_US;
    let (severity, cause, action) = match incident.kind {
        Kind::Spike => ("high", "connection pool exhausted", "restart"),
        Kind::Leak => ("high", "memory leak since the last release", "rolling restart planned"),
        Kind::LevelShift => ("medium", "slow query in the new release", "rollback"),
        Kind::Outage => ("critical", "expired certificate at the gateway", "failover"),
    };
    let symptoms = json!({"service": incident.service, "region": incident.region, "metric": incident.kind.metric()});
    let mut row = vec![
        ("id", id(detected_us, at as u64)),
        ("detected_at", time(detected_us)),
        ("incident_type", text(incident.kind.name())),
        ("severity", text(severity)),
        ("symptoms", object(&symptoms)),
        ("diagnosis", object(&json!({"cause": cause, "confidence": 0.9}))),
    ];
    let resolved = incident.to_us.map(|to| to + MINUTE_US);
    row.push(("remediation_actions", object(&json!([{"action": action, "service": incident.service}]))));
    row.push(("resolved_at", resolved.map_or_else(null, time)));
    row.push((
        "resolution_time_seconds",
        resolved.map_or_else(null, |us| ((us - detected_us) / 1_000_000).to_string()),
    ));
    row.push(("success", if resolved.is_some() { "TRUE".into() } else { null() }));
    row
}

/// Every day search grows in the morning and shrinks at night.
fn scaling(now_us: i64) -> Vec<Row> {
    let midnight = now_us.div_euclid(24 * HOUR_US) * 24 * HOUR_US;
    let mut rows = vec![];
    for day in (0..DAYS).rev() {
        for (hour, kind, from, to) in [(6, "scale_up", 4, 9), (21, "scale_down", 9, 4)] {
            let at_us = midnight - day * 24 * HOUR_US + hour * HOUR_US;
            if at_us > now_us {
                continue;
            }
            let predicted = 12_000.0 + 150.0 * (DAYS - day) as f64;
            let actual = predicted * (0.95 + 0.1 * uniform(1, day, hour as u64));
            let (cost, action) = (
                f64::from(to - from) * 0.42 * 15.0,
                json!({"service": "search", "executed_by": "policy", "from": from, "to": to}),
            );
            rows.push(vec![
                ("id", id(at_us, hour as u64)),
                ("timestamp", time(at_us)),
                ("scaling_type", text(kind)),
                ("resource_type", text("replicas")),
                ("predicted_demand", object(&json!({"requests": predicted.round()}))),
                ("actual_demand", object(&json!({"requests": actual.round()}))),
                ("scaling_action", object(&action)),
                ("cost_impact", format!("{cost:.2}")),
                ("performance_impact", object(&json!({"sla": 0.9995}))),
            ]);
        }
    }
    rows
}

struct Threat {
    hours_ago: i64,
    kind: &'static str,
    severity: &'static str,
    entity: &'static str,
    confidence: f64,
    resolved_after_hours: Option<i64>,
    false_positive: bool,
}

fn threats(now_us: i64) -> Vec<Row> {
    let threat = |hours_ago, kind, severity, entity, confidence, resolved_after_hours, false_positive| Threat {
        hours_ago,
        kind,
        severity,
        entity,
        confidence,
        resolved_after_hours,
        false_positive,
    };
    let all = [
        threat(1, "credential_stuffing", "high", "203.0.113.7", 0.96, None, false),
        threat(9, "data_exfiltration", "medium", "svc-reports", 0.81, None, false),
        threat(30, "port_scan", "low", "198.51.100.23", 0.74, Some(2), false),
        threat(75, "credential_stuffing", "high", "203.0.113.99", 0.93, Some(1), false),
        threat(140, "privilege_escalation", "critical", "svc-batch", 0.88, Some(3), true),
        threat(400, "port_scan", "low", "192.0.2.11", 0.71, Some(1), false),
    ];
    all.iter().enumerate().map(|(at, threat)| threat_row(now_us, at, threat)).collect()
}

fn threat_row(now_us: i64, at: usize, threat: &Threat) -> Row {
    let at_us = now_us - threat.hours_ago * HOUR_US;
    let resolved = threat.resolved_after_hours.map(|hours| at_us + hours * HOUR_US);
    let action = if threat.entity.parse::<IpAddr>().is_ok() { "block_ip" } else { "revoke_token" };
    let response = json!({
        "state": "acknowledged",
        "actions": [{"action": action, "target": threat.entity, "state": "expired"}],
    });
    let indicators = json!({"entity": threat.entity, "source": "gateway log", "mitre": [technique(threat.kind)]});
    vec![
        ("id", id(at_us, at as u64)),
        ("detected_at", time(at_us)),
        ("threat_type", text(threat.kind)),
        ("severity", text(threat.severity)),
        ("indicators", object(&indicators)),
        ("confidence_score", format!("{:.2}", threat.confidence)),
        ("response_actions", resolved.map_or_else(null, |_| object(&response))),
        ("resolved_at", resolved.map_or_else(null, time)),
        ("false_positive", if threat.false_positive { "TRUE" } else { "FALSE" }.to_owned()),
    ]
}

/// The technique of ATT&CK.
fn technique(kind: &str) -> &'static str {
    match kind {
        "credential_stuffing" => "T1110.004",
        "data_exfiltration" => "T1041",
        "privilege_escalation" => "T1068",
        _ => "T1046",
    }
}

fn optimizations(now_us: i64) -> Vec<Row> {
    let row = |day: i64| {
        let at_us = now_us - day * 24 * HOUR_US;
        let gain = 3.0 + 9.0 * uniform(2, day, 0);
        vec![
            ("id", id(at_us, 0)),
            ("timestamp", time(at_us)),
            ("optimization_type", text("resource_utilization")),
            ("parameters", object(&json!({"service": "search", "replicas_min": 4}))),
            ("baseline_metrics", object(&json!({"cpu": 38.0}))),
            ("optimized_metrics", object(&json!({"cpu": ((38.0 + gain) * 10.0).round() / 10.0}))),
            ("improvement_percentage", format!("{gain:.2}")),
            ("rl_reward", format!("{:.4}", gain / 10.0)),
        ]
    };
    [26, 19, 12, 5].map(row).into()
}

fn adaptations(now_us: i64) -> Vec<Row> {
    let row = |(day, reason): (i64, &str)| {
        let at_us = now_us - day * 24 * HOUR_US;
        vec![
            ("id", id(at_us, 0)),
            ("timestamp", time(at_us)),
            ("policy_type", text("scaling_cooldown")),
            ("old_policy", object(&json!({"cooldown_seconds": 300}))),
            ("new_policy", object(&json!({"cooldown_seconds": 180}))),
            ("adaptation_reason", text(reason)),
            ("effectiveness_score", "0.82".to_owned()),
            ("rollback_at", null()),
        ]
    };
    [(18, "morning peaks came faster than the cool-down allowed"), (4, "scale-ups were late twice in a week")]
        .map(row)
        .into()
}

fn insert(table: &str, rows: &[Row]) -> String {
    let names: Vec<&str> = rows.first().into_iter().flatten().map(|(name, _)| *name).collect();
    let values = rows.iter().map(|row| row.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", "));
    let values = values.map(|row| format!("({row})")).collect::<Vec<_>>().join(",\n");
    format!("INSERT INTO {table} ({}) VALUES\n{values}", names.join(", "))
}

fn id(time_us: i64, salt: u64) -> String {
    let mut bytes = [0; 10];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (uniform(salt + 1, time_us, at as u64) * 256.0) as u8;
    }
    let millis = u64::try_from(time_us / 1000).unwrap_or(0);
    text(&Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid().to_string())
}

fn time(us: i64) -> String {
    text(&chrono::DateTime::from_timestamp_micros(us).unwrap_or_default().to_rfc3339())
}

fn object(value: &Value) -> String {
    text(&value.to_string())
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn null() -> String {
    "NULL".into()
}

#[cfg(test)]
mod tests {
    use super::super::incident::plan;
    use super::*;

    const NOW_US: i64 = 1_700_000_000_000_000;

    #[test]
    fn every_table_gets_rows_and_nothing_lies_in_the_future() {
        let all = inserts(NOW_US, &plan(NOW_US));
        assert_eq!(all.len(), 5);
        assert!(all.iter().all(|sql| sql.lines().count() > 2), "{all:?}");
        assert!(scaling(NOW_US).len() >= 50);
    }

    #[test]
    fn responses_are_such_as_juno_can_give() {
        let respond = juno_sql::OPERATIONS.iter().find(|one| one.name == "threats_respond").expect("an operation");
        let action = respond.parameters.iter().find(|one| one.name == "action").expect("a parameter");
        let juno_sql::Kind::Choice(names) = &action.kind else { panic!("{action:?}") };
        let given = |row: &Row| row.iter().find(|(name, _)| *name == "response_actions").map(|(_, sql)| sql.clone());
        let all: Vec<String> = threats(NOW_US).iter().filter_map(given).filter(|sql| *sql != null()).collect();
        assert!(!all.is_empty());
        for sql in all {
            assert!(names.iter().any(|name| sql.contains(&format!("\"action\":\"{name}\""))), "{sql}");
        }
    }

    #[test]
    fn ids_are_unique_and_quotes_are_doubled() {
        let ids: std::collections::BTreeSet<String> = scaling(NOW_US).into_iter().map(|row| row[0].1.clone()).collect();
        assert_eq!(ids.len(), scaling(NOW_US).len());
        assert_eq!(text("it's"), "'it''s'");
    }
}
