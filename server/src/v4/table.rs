//! The table of endpoints.
//!
//! **Invariant:** data only; every path stands here and nowhere else.

use juno_sql::{OPERATIONS, Operation, Role};

use super::filter::{Filter, Kind};
use super::steps::{self, Steps};
use super::summary;

/// The form of an endpoint's answer.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// One row, as one object.
    One,
    /// The row with this id, as one object.
    Item,
    /// All rows, in the order of the view.
    All,
    /// Pages of rows, newest first, by (time column, id).
    List {
        /// The time column that from and to bound.
        time: &'static str,
        /// Whether a request without from and to means the last 24 hours, or everything.
        last_day: bool,
        /// The parameters beside from, to, limit, order and cursor.
        filters: &'static [Filter],
    },
    /// Pages as of a list, of the last day where from and to are not given; with `summary=true` one object about all its rows.
    History {
        /// The time column that from and to bound.
        time: &'static str,
        /// The parameters beside from, to, limit, order, cursor and summary.
        filters: &'static [Filter],
        /// What is selected from the rows, which `{rows}` stands for.
        summary: &'static str,
    },
    /// Time series of telemetry columns; the SELECT is on the table that the metric names.
    Series,
    /// Rows of a view by steps of time, with a summary.
    Steps(Steps),
    /// Events as they come.
    Events,
    /// What an operation that only reads answers; its arguments are the query parameters.
    Computed,
    /// What an operation answers, with the status of success.
    Call {
        /// 200, or 202 where it only begins something.
        status: u16,
        /// The member of the answer that says that something was made: then the status is 201.
        made: Option<&'static str>,
    },
}

/// One row of the endpoint table.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// The HTTP method.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// What it selects or calls.
    pub sql: &'static str,
    /// Who may call it.
    pub role: Role,
    /// What it answers with.
    pub shape: Shape,
}

impl Endpoint {
    const fn get(path: &'static str, sql: &'static str, shape: Shape) -> Endpoint {
        Endpoint { method: "GET", path, sql, role: Role::Viewer, shape }
    }

    const fn call(method: &'static str, path: &'static str, sql: &'static str, role: Role) -> Endpoint {
        Endpoint { method, path, sql, role, shape: Shape::Call { status: 200, made: None } }
    }

    const fn computed(path: &'static str, sql: &'static str) -> Endpoint {
        Endpoint::get(path, sql, Shape::Computed)
    }

    const fn post(path: &'static str, sql: &'static str, role: Role) -> Endpoint {
        Endpoint::call("POST", path, sql, role)
    }

    const fn made(mut self, member: &'static str) -> Endpoint {
        self.shape = Shape::Call { status: 200, made: Some(member) };
        self
    }

    const fn status(mut self, status: u16) -> Endpoint {
        self.shape = Shape::Call { status, made: None };
        self
    }

    const fn role(mut self, role: Role) -> Endpoint {
        self.role = role;
        self
    }

    /// The view that it selects from; none where it calls an operation, or selects from what the request names.
    pub fn view(&self) -> Option<&'static str> {
        let view = self.sql.strip_prefix("SELECT * FROM ")?;
        view.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(view)
    }

    /// The operation that it calls.
    pub fn operation(&self) -> Option<&'static Operation> {
        let name = self.sql.strip_prefix("CALL ")?;
        OPERATIONS.iter().find(|operation| operation.name == name).copied()
    }
}

const SEVERITY: Filter = Filter::new("severity", "severity = {}", Kind::Text);
const STATE: Filter = Filter::new("state", "state = {}", Kind::Text);
const CONFIDENCE: Filter =
    Filter::new("min_confidence", "CAST(confidence_score AS DOUBLE PRECISION) >= {}", Kind::Number);
const ENTITY: Filter = Filter::new("entity", "entity = {}", Kind::Text);
const SERVICE: Filter = Filter::new("service", "service = {}", Kind::Text);

/// The endpoints.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/api/v4/operations/status", "SELECT * FROM operations_status", Shape::One),
    Endpoint::get(
        "/api/v4/operations/metrics",
        "SELECT time_bucket(step, time), agg(column) FROM table GROUP BY 1",
        Shape::Series,
    ),
    Endpoint::post("/api/v4/operations/predict", "CALL operations_predict", Role::Operator),
    Endpoint::post("/api/v4/operations/optimize", "CALL operations_optimize", Role::Operator),
    Endpoint::get("/api/v4/operations/config", "SELECT * FROM operations_config", Shape::All).role(Role::Admin),
    Endpoint::get(
        "/api/v4/operations/jobs",
        "SELECT * FROM operations_jobs",
        Shape::List {
            time: "created_at",
            last_day: false,
            filters: &[
                STATE,
                Filter::new("kind", "kind = {}", Kind::Text),
                Filter::new("actor", "actor = {}", Kind::Text),
            ],
        },
    ),
    Endpoint::get("/api/v4/operations/jobs/{id}", "SELECT * FROM operations_jobs", Shape::Item),
    Endpoint::call("DELETE", "/api/v4/operations/jobs/{id}", "CALL operations_jobs_cancel", Role::Operator).status(202),
    Endpoint::get(
        "/api/v4/healing/incidents",
        "SELECT * FROM healing_incidents_list",
        Shape::List {
            time: "detected_at",
            last_day: true,
            filters: &[
                SEVERITY,
                Filter::new("status", "status = {}", Kind::Text),
                Filter::new("type", "incident_type = {}", Kind::Text),
                SERVICE,
                Filter::new("success", "success = {}", Kind::Boolean),
                Filter::new("q", "strpos(lower(incident_type || ' ' || symptoms), lower({})) > 0", Kind::Text),
            ],
        },
    ),
    Endpoint::get("/api/v4/healing/incidents/{id}", "SELECT * FROM healing_incidents_list", Shape::Item),
    Endpoint::call("PATCH", "/api/v4/healing/incidents/{id}", "CALL healing_resolve", Role::Operator),
    Endpoint::post("/api/v4/healing/diagnose", "CALL healing_diagnose", Role::Operator).made("created"),
    Endpoint::post("/api/v4/healing/remediate", "CALL healing_remediate", Role::Responder),
    Endpoint::get("/api/v4/healing/status", "SELECT * FROM healing_status", Shape::One),
    Endpoint::computed("/api/v4/scaling/forecast", "CALL scaling_forecast"),
    Endpoint::get(
        "/api/v4/rl/policies",
        "SELECT * FROM rl_policies",
        Shape::List {
            time: "trained_at",
            last_day: false,
            filters: &[
                STATE,
                Filter::new("name", "name = {}", Kind::Text),
                Filter::new("scope", "scope = {}", Kind::Text),
                Filter::new("algorithm", "algorithm = {}", Kind::Text),
            ],
        },
    ),
    Endpoint::get("/api/v4/rl/policies/{id}", "SELECT * FROM rl_policies", Shape::Item),
    Endpoint::post("/api/v4/rl/policies/{id}:promote", "CALL rl_policies_promote", Role::Operator),
    Endpoint::post("/api/v4/rl/policies/{id}:rollback", "CALL rl_policies_rollback", Role::Operator),
    Endpoint::get(
        "/api/v4/rl/performance",
        "SELECT * FROM rl_performance",
        Shape::Steps(Steps {
            time: "at",
            series: steps::RL_SERIES,
            summary: steps::RL_SUMMARY,
            filters: &[Filter::new("policy", "policy = {}", Kind::Text), SERVICE],
        }),
    ),
    Endpoint::post("/api/v4/rl/train", "CALL rl_train", Role::Operator),
    Endpoint::post("/api/v4/rl/evaluate", "CALL rl_evaluate", Role::Operator),
    Endpoint::get(
        "/api/v4/scaling/history",
        "SELECT * FROM scaling_history",
        Shape::History {
            time: "timestamp",
            filters: &[
                SERVICE,
                Filter::new("scaling_type", "scaling_type = {}", Kind::Text),
                Filter::new("resource_type", "resource_type = {}", Kind::Text),
                Filter::new("executed_by", "executed_by = {}", Kind::Text),
            ],
            summary: summary::SCALING,
        },
    ),
    Endpoint::post("/api/v4/scaling/plan", "CALL scaling_plan", Role::Operator).made("plan_id"),
    Endpoint::post("/api/v4/scaling/execute", "CALL scaling_execute", Role::Operator),
    Endpoint::post("/api/v4/scaling/autoscale", "CALL scaling_autoscale", Role::Responder),
    Endpoint::get("/api/v4/scaling/autoscale", "SELECT * FROM scaling_autoscaled", Shape::All),
    Endpoint::get(
        "/api/v4/scaling/plans",
        "SELECT * FROM scaling_plans",
        Shape::List { time: "created_at", last_day: false, filters: &[STATE, SERVICE] },
    ),
    Endpoint::get("/api/v4/scaling/plans/{id}", "SELECT * FROM scaling_plans", Shape::Item),
    Endpoint::get(
        "/api/v4/threats/alerts",
        "SELECT * FROM threats_alerts",
        Shape::List {
            time: "detected_at",
            last_day: false,
            filters: &[
                SEVERITY,
                Filter::new("type", "threat_type = {}", Kind::Text),
                CONFIDENCE,
                ENTITY,
                Filter::new("since", "detected_at >= {}", Kind::Time),
            ],
        },
    ),
    Endpoint::get(
        "/api/v4/threats/history",
        "SELECT * FROM threats_history",
        Shape::History {
            time: "detected_at",
            filters: &[
                SEVERITY,
                Filter::new("type", "threat_type = {}", Kind::Text),
                CONFIDENCE,
                ENTITY,
                Filter::new("false_positive", "false_positive = {}", Kind::Boolean),
            ],
            summary: summary::THREATS,
        },
    ),
    Endpoint::get("/api/v4/threats/status", "SELECT * FROM threats_status", Shape::One),
    Endpoint::post("/api/v4/threats/analyze", "CALL threats_analyze", Role::Operator),
    Endpoint::post("/api/v4/threats/respond", "CALL threats_respond", Role::Responder),
    Endpoint::get(
        "/api/v4/threats/responses",
        "SELECT * FROM threats_responses",
        Shape::List {
            time: "at",
            last_day: false,
            filters: &[
                STATE,
                Filter::new("action", "action = {}", Kind::Text),
                Filter::new("target", "target = {}", Kind::Text),
                Filter::new("threat_event_id", "CAST(threat_event_id AS TEXT) = {}", Kind::Text),
            ],
        },
    ),
    Endpoint::get("/api/v4/threats/responses/{id}", "SELECT * FROM threats_responses", Shape::Item),
    Endpoint::post("/api/v4/threats/responses/{id}:undo", "CALL threats_undo", Role::Responder),
    Endpoint::get("/api/v4/threats/{id}", "SELECT * FROM threats_history", Shape::Item),
    Endpoint::call("PATCH", "/api/v4/threats/{id}", "CALL threats_label", Role::Operator),
    Endpoint::get(
        "/api/v4/approvals",
        "SELECT * FROM approvals",
        Shape::List {
            time: "requested_at",
            last_day: false,
            filters: &[STATE, Filter::new("operation", "operation = {}", Kind::Text)],
        },
    ),
    Endpoint::get("/api/v4/approvals/{id}", "SELECT * FROM approvals", Shape::Item),
    Endpoint::post("/api/v4/approvals/{id}:approve", "CALL approvals_approve", Role::Approver),
    Endpoint::post("/api/v4/approvals/{id}:deny", "CALL approvals_deny", Role::Approver),
    Endpoint::get(
        "/api/v4/audit",
        "SELECT * FROM audit",
        Shape::List {
            time: "at",
            last_day: true,
            filters: &[
                Filter::new("operation", "operation = {}", Kind::Text),
                Filter::new("actor", "actor = {}", Kind::Text),
                Filter::new("stage", "stage = {}", Kind::Text),
                Filter::new("outcome", "outcome = {}", Kind::Text),
            ],
        },
    ),
    Endpoint::post("/api/v4/audit/verify", "CALL audit_verify", Role::Operator),
    Endpoint::get("/api/v4/events", "SELECT * FROM operations_events", Shape::Events),
    Endpoint::get(
        "/api/v4/governance/adaptations",
        "SELECT * FROM governance_adaptations_list",
        Shape::List {
            time: "timestamp",
            last_day: false,
            filters: &[
                Filter::new("policy_type", "policy_type = {}", Kind::Text),
                Filter::new("status", "status = {}", Kind::Text),
            ],
        },
    ),
    Endpoint::get("/api/v4/governance/policies", "SELECT * FROM governance_policies", Shape::All),
    Endpoint::get("/api/v4/governance/policies/{id}", "SELECT * FROM governance_policies", Shape::Item),
    Endpoint::post("/api/v4/governance/propose", "CALL governance_propose", Role::Operator),
    Endpoint::post("/api/v4/governance/rollback", "CALL governance_rollback", Role::Responder),
    Endpoint::get(
        "/api/v4/kill-switch",
        "SELECT * FROM kill_switch",
        Shape::List { time: "changed_at", last_day: false, filters: &[] },
    ),
    Endpoint::post("/api/v4/kill-switch", "CALL kill_switch", Role::Responder),
    Endpoint::get(
        "/api/v4/maintenance-windows",
        "SELECT * FROM maintenance_windows",
        Shape::List { time: "starts_at", last_day: false, filters: &[STATE, SERVICE] },
    ),
    Endpoint::post("/api/v4/maintenance-windows", "CALL maintenance_windows_create", Role::Operator).made("id"),
    Endpoint::get("/api/v4/maintenance-windows/{id}", "SELECT * FROM maintenance_windows", Shape::Item),
    Endpoint::call("DELETE", "/api/v4/maintenance-windows/{id}", "CALL maintenance_windows_cancel", Role::Operator),
    Endpoint::get("/api/v4/runbooks", "SELECT * FROM runbooks", Shape::All),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::v4::page;

    #[test]
    fn every_row_is_a_select_or_a_call_with_parameters_of_its_own_names() {
        for (at, row) in ENDPOINTS.iter().enumerate() {
            assert!(row.path.starts_with("/api/v4/"), "{row:?}");
            match row.shape {
                Shape::Call { .. } => {
                    let operation = row.operation().unwrap_or_else(|| panic!("{row:?} names no operation"));
                    assert_eq!(row.role, operation.role, "{row:?}");
                    assert_ne!(row.method, "GET");
                    let takes_id = operation.parameters.iter().any(|parameter| parameter.name == "id");
                    assert!(!row.path.contains("{id}") || takes_id, "{row:?}");
                }
                Shape::Computed => {
                    let operation = row.operation().unwrap_or_else(|| panic!("{row:?} names no operation"));
                    assert_eq!((row.role, row.method), (operation.role, "GET"), "{row:?}");
                    assert_eq!(operation.effect, juno_sql::Effect::Computes, "{row:?} must change nothing");
                }
                _ => assert!(row.sql.starts_with("SELECT ") && row.method == "GET", "{row:?}"),
            }
            let same = |other: &Endpoint| (other.method, other.path) == (row.method, row.path);
            assert!(!ENDPOINTS[..at].iter().any(same), "{} {} stands twice", row.method, row.path);
            if let Shape::List { filters, .. } | Shape::History { filters, .. } = row.shape {
                let own = page::PARAMETERS.iter().copied().chain([summary::PARAMETER]);
                let names: Vec<_> = filters.iter().map(|filter| filter.name).chain(own).collect();
                let unique: BTreeSet<_> = names.iter().collect();
                assert_eq!(unique.len(), names.len(), "{}", row.path);
            }
        }
    }

    #[test]
    fn every_operation_has_an_endpoint() {
        for operation in OPERATIONS {
            let called = ENDPOINTS.iter().any(|row| row.operation().is_some_and(|found| found.name == operation.name));
            assert!(called, "{}", operation.name);
        }
    }
}
