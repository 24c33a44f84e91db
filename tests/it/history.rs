//! The five history tables: their DDL as written runs, and what they declare is enforced with PostgreSQL's SQLSTATEs.
//!
//! **Invariant:** each refused statement leaves the table as it was.

use crate::client::Postgres;
use crate::server;

/// A statement, the SQLSTATE it must fail with, and a word of the message.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "INSERT INTO healing_incidents VALUES (NULL, now(), 'crash', 'low', '{}', NULL, NULL, NULL, NULL, NULL)",
        "23502",
        "id",
    ),
    (
        "INSERT INTO healing_incidents (id, detected_at, incident_type, severity) VALUES (gen_random_uuid(), now(), 'crash', 'low')",
        "23502",
        "symptoms",
    ),
    (
        "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES (gen_random_uuid(), now(), 'crash', 'much too severe to be a severity', '{}')",
        "22001",
        "20",
    ),
    (
        "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES (gen_random_uuid(), now(), 'scan', 'low', '{}', 10)",
        "22003",
        "precision 3",
    ),
    (
        "INSERT INTO scaling_events (id, timestamp, scaling_type, resource_type, predicted_demand, scaling_action) VALUES (gen_random_uuid(), now(), 'up', 'cpu', '{bad', '{}')",
        "22P02",
        "json",
    ),
    ("INSERT INTO governance_adaptations VALUES ('7', now(), 'p', '{}', '{}', 'why', NULL, NULL)", "22P02", "uuid"),
    ("INSERT INTO nowhere VALUES (1)", "42P01", "nowhere"),
    ("SELECT nothing FROM threat_events", "42703", "nothing"),
    ("SELECT nofunction(1)", "42883", "nofunction"),
    ("SELEC 1", "42601", "syntax"),
    ("SELECT 1 / 0", "22012", "zero"),
    ("CREATE TABLE threat_events (a INT)", "42P07", "threat_events"),
    ("CREATE TABLE t (a NOSUCHTYPE)", "42704", "NOSUCHTYPE"),
    ("CREATE TABLE t (a INT, a INT)", "42701", "more than once"),
    ("INSERT INTO threat_events (nothing) VALUES (1)", "42703", "nothing"),
    ("CALL nothing()", "42883", "nothing"),
    ("SET TimeZone = 'Europe/Berlin'", "0A000", "UTC"),
];

#[test]
fn what_is_refused_names_the_reason_and_the_sqlstate() {
    let server = server();
    let postgres = Postgres::connect(&server);
    for (sql, state, word) in REFUSED {
        let (found, message) = postgres.error(sql);
        assert_eq!((found.as_str(), message.contains(word)), (*state, true), "{sql}: {found} {message}");
    }
    for table in
        ["healing_incidents", "threat_events", "scaling_events", "governance_adaptations", "optimization_history"]
    {
        assert_eq!(postgres.value(&format!("SELECT count(*) FROM {table}")), "0");
    }
}

#[test]
fn rows_change_later_and_keys_stay_unique() {
    let server = server();
    let postgres = Postgres::connect(&server);
    let insert = "INSERT INTO scaling_events (id, timestamp, scaling_type, resource_type, predicted_demand, scaling_action, cost_impact) \
                  VALUES ('0192f0c1-7b4e-7c3a-8d5e-0123456789ab', '2026-01-01T00:00:00Z', 'horizontal', 'cpu', '{\"units\": 3}', '{\"service\": \"api\"}', 99999999.99)";
    postgres.rows(insert);
    assert_eq!(postgres.error(insert).0, "23505");
    postgres.rows("CALL flush()");
    assert_eq!(postgres.error(insert).0, "23505", "a key in a part is found too");
    postgres.rows("UPDATE scaling_events SET actual_demand = '{\"units\": 4}', cost_impact = -12.5 WHERE scaling_action ->> 'service' = 'api'");
    assert_eq!(postgres.rows("SELECT actual_demand ->> 'units', cost_impact FROM scaling_history"), ["4|-12.50"]);
    assert_eq!(postgres.error("UPDATE scaling_events SET cost_impact = 1e9").0, "22003");
    assert_eq!(postgres.error("UPDATE scaling_events SET scaling_type = NULL").0, "23502");
    postgres.rows("DELETE FROM scaling_events");
    assert_eq!(postgres.value("SELECT count(*) FROM scaling_events"), "0");
    postgres.rows(insert);
    assert_eq!(postgres.value("SELECT cost_impact FROM scaling_events"), "99999999.99");
}
