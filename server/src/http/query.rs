//! `POST /api/v4/query`: one SQL statement with parameters in; JSON, Arrow stream, CSV, NDJSON or Parquet out.
//!
//! Body: `{"sql": "SELECT … WHERE host = $1", "params": ["a"]}`. A JSON array or object is bound as JSON text.
//!
//! **Invariant:** the statement's text is not looked at; values are bound.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query as Parameters, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::accept::{Format, negotiate};
use super::answer::{self, Job};
use super::problem::Problem;
use super::{Gate, body};

/// The longest request body.
const BODY_BYTES_MAX: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    sql: String,
    #[serde(default)]
    params: Vec<Value>,
}

/// The handler.
pub(super) async fn query(
    State(gate): State<Arc<Gate>>,
    Parameters(pairs): Parameters<Vec<(String, String)>>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    if let Some((name, _)) = pairs.first() {
        return Err(Problem::unknown_parameter(name, &[]));
    }
    let format = negotiate(&headers, Format::ROWS)?;
    let bytes = body::read(request, &headers, BODY_BYTES_MAX).await?;
    let query: Query = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::new("bad-request", format!("the body must be {{\"sql\": \"…\", \"params\": […]}}: {error}"))
    })?;
    let job = Job { sql: query.sql, values: query.params, types: vec![] };
    answer::stream(&gate, job, format).await
}
