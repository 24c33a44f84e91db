//! REST v4: the table of endpoints, and the handlers that every row of it shares.
//!
//! A GET is a SELECT on a view; its query parameters become bound parameters of that SELECT. To add an endpoint, add a row.
//!
//! **Invariant:** what a client sends is never pasted into SQL; a parameter that the row does not declare is refused.

mod filter;
mod metrics;
mod page;
mod range;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::http::Gate;
use crate::http::accept::{Format, negotiate};
use crate::http::answer::{self, Job};
use crate::http::problem::Problem;
use crate::json::{self, RowShape};
use filter::{Filter, Kind};
use juno_sql::Role;

/// The form of an endpoint's answer.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// One row, as one object.
    One,
    /// Pages of rows, newest first, by (time column, id).
    List {
        /// The time column that from and to bound.
        time: &'static str,
        /// Whether a request without from and to means the last 24 hours, or everything.
        last_day: bool,
        /// The parameters beside from, to, limit, order and cursor.
        filters: &'static [Filter],
    },
    /// Time series of telemetry columns; the SELECT is on the table that the metric names.
    Series,
}

/// One row of the endpoint table.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// The HTTP method.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// What it selects.
    pub sql: &'static str,
    /// Who may call it.
    pub role: Role,
    /// What it answers with.
    pub shape: Shape,
}

const SEVERITY: Filter = Filter::new("severity", "severity = {}", Kind::Text);

/// The endpoints.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/api/v4/operations/status",
        sql: "SELECT * FROM operations_status",
        role: Role::Viewer,
        shape: Shape::One,
    },
    Endpoint {
        method: "GET",
        path: "/api/v4/operations/metrics",
        sql: "SELECT time_bucket(step, time), agg(column) FROM table GROUP BY 1",
        role: Role::Viewer,
        shape: Shape::Series,
    },
    Endpoint {
        method: "GET",
        path: "/api/v4/healing/incidents",
        sql: "SELECT * FROM healing_incidents_list",
        role: Role::Viewer,
        shape: Shape::List {
            time: "detected_at",
            last_day: true,
            filters: &[
                SEVERITY,
                Filter::new("status", "status = {}", Kind::Text),
                Filter::new("type", "incident_type = {}", Kind::Text),
                Filter::new("service", "service = {}", Kind::Text),
                Filter::new("success", "success = {}", Kind::Boolean),
                Filter::new("q", "strpos(lower(incident_type || ' ' || symptoms), lower({})) > 0", Kind::Text),
            ],
        },
    },
    Endpoint {
        method: "GET",
        path: "/api/v4/scaling/history",
        sql: "SELECT * FROM scaling_history",
        role: Role::Viewer,
        shape: Shape::List {
            time: "timestamp",
            last_day: true,
            filters: &[
                Filter::new("service", "service = {}", Kind::Text),
                Filter::new("scaling_type", "scaling_type = {}", Kind::Text),
                Filter::new("resource_type", "resource_type = {}", Kind::Text),
                Filter::new("executed_by", "executed_by = {}", Kind::Text),
            ],
        },
    },
    Endpoint {
        method: "GET",
        path: "/api/v4/threats/alerts",
        sql: "SELECT * FROM threats_alerts",
        role: Role::Viewer,
        shape: Shape::List {
            time: "detected_at",
            last_day: false,
            filters: &[
                SEVERITY,
                Filter::new("type", "threat_type = {}", Kind::Text),
                Filter::new("min_confidence", "CAST(confidence_score AS DOUBLE PRECISION) >= {}", Kind::Number),
                Filter::new("entity", "entity = {}", Kind::Text),
                Filter::new("since", "detected_at >= {}", Kind::Time),
            ],
        },
    },
    Endpoint {
        method: "GET",
        path: "/api/v4/threats/history",
        sql: "SELECT * FROM threats_history",
        role: Role::Viewer,
        shape: Shape::List {
            time: "detected_at",
            last_day: true,
            filters: &[
                SEVERITY,
                Filter::new("type", "threat_type = {}", Kind::Text),
                Filter::new("min_confidence", "CAST(confidence_score AS DOUBLE PRECISION) >= {}", Kind::Number),
                Filter::new("entity", "entity = {}", Kind::Text),
                Filter::new("false_positive", "false_positive = {}", Kind::Boolean),
            ],
        },
    },
];

/// A request's query parameters in order; names may repeat.
type Pairs = Vec<(String, String)>;

/// Adds a route for each endpoint.
pub(crate) fn routes(router: Router<Arc<Gate>>) -> Router<Arc<Gate>> {
    ENDPOINTS.iter().fold(router, |router, endpoint| {
        router.route(
            endpoint.path,
            get(move |gate: State<Arc<Gate>>, uri: Uri, query: Query<Pairs>, headers: HeaderMap| {
                answer(gate.0, endpoint, uri, query.0, headers)
            }),
        )
    })
}

async fn answer(
    gate: Arc<Gate>,
    endpoint: &Endpoint,
    uri: Uri,
    pairs: Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now_us = gate.now_us();
    match endpoint.shape {
        Shape::One => one(&gate, endpoint, &pairs, &headers).await,
        Shape::List { time, last_day, filters } => {
            let list = page::List { path: uri.path(), sql: endpoint.sql, time, last_day, filters };
            page::page(&gate, &list, pairs, &headers, now_us).await
        }
        Shape::Series => metrics::series(&gate, pairs, &headers, now_us).await,
    }
}

async fn one(gate: &Gate, endpoint: &Endpoint, pairs: &Pairs, headers: &HeaderMap) -> Result<Response, Problem> {
    negotiate(headers, &[Format::Json])?;
    if let Some((name, _)) = pairs.first() {
        return Err(Problem::unknown_parameter(name, &[]));
    }
    let table = answer::collect(gate, Job { sql: endpoint.sql.into(), values: vec![], types: vec![] }).await?;
    let (mut out, mut first) = (String::new(), true);
    for batch in &table.batches {
        json::rows(&table.schema, batch, RowShape::Object, (",", &mut first, ""), &mut out)
            .map_err(juno_sql::Error::from)?;
    }
    out.push('\n');
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=1")], out).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_select_under_the_prefix_with_parameters_of_its_own_names() {
        for (at, row) in ENDPOINTS.iter().enumerate() {
            assert!(
                row.path.starts_with("/api/v4/") && row.sql.starts_with("SELECT ") && row.method == "GET",
                "{row:?}"
            );
            assert!(!ENDPOINTS[..at].iter().any(|other| other.path == row.path), "{} stands twice", row.path);
            if let Shape::List { filters, .. } = row.shape {
                let names: Vec<_> =
                    filters.iter().map(|filter| filter.name).chain(page::PARAMETERS.iter().copied()).collect();
                let unique: std::collections::BTreeSet<_> = names.iter().collect();
                assert_eq!(unique.len(), names.len(), "{}", row.path);
            }
        }
    }
}
