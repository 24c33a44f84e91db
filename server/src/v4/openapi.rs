//! `/openapi.json` (OpenAPI 3.1) and `/docs`, both out of the endpoint table and the operations' declarations.
//!
//! **Invariant:** nothing is described that does not stand in the table, and nothing of the table is left out.

mod page;
mod schema;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use juno_sql::{Effect, Operation};
use serde_json::{Map, Value, json};

use super::table::{ENDPOINTS, Endpoint, Shape};
use crate::http::Gate;
use crate::http::problem::Problem;

/// `GET /openapi.json`.
pub(crate) async fn openapi(State(gate): State<Arc<Gate>>) -> Result<Response, Problem> {
    let text = match gate.openapi.get() {
        Some(text) => text.clone(),
        None => {
            let text = document(&gate).await?.to_string();
            gate.openapi.get_or_init(|| text).clone()
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// `GET /docs`.
pub(crate) async fn docs() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page::html()).into_response()
}

async fn document(gate: &Gate) -> Result<Value, Problem> {
    let mut paths: Map<String, Value> = Map::new();
    for row in ENDPOINTS {
        let columns = columns(gate, row).await?;
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        path[row.method.to_lowercase()] = described(row, columns.as_ref());
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "juno",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A time-series database with machine learning and operations inside it.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "basic": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic" },
            },
            "schemas": { "Problem": schema::problem() },
        },
    }))
}

/// The columns of what a row selects; none where it selects from what the request names.
async fn columns(gate: &Gate, row: &Endpoint) -> Result<Option<SchemaRef>, Problem> {
    if matches!(row.shape, Shape::Call { .. } | Shape::Computed | Shape::Series | Shape::Steps(_)) {
        return Ok(None);
    }
    let doors = gate.doors()?;
    let (session, sql) = (doors.session.connect(), row.sql);
    let planned = doors.query.spawn(async move {
        let statement = session.parse(sql)?.pop();
        let statement = statement.ok_or_else(|| juno_sql::Error::Internal("a row selects nothing".into()))?;
        Ok::<_, juno_sql::Error>(session.prepare(statement, &[]).await?.schema)
    });
    Ok(planned.await.map_err(|error| Problem::new("internal-error", error.to_string()))??)
}

/// The name of a row in generated clients: `POST /api/v4/kill-switch` is `post_kill_switch`.
fn identifier(row: &Endpoint) -> String {
    let path = row.path.trim_start_matches("/api/v4/").replace(['/', '-', ':'], "_").replace(['{', '}'], "");
    format!("{}_{path}", row.method.to_lowercase())
}

fn described(row: &Endpoint, columns: Option<&SchemaRef>) -> Value {
    let operation = row.operation();
    let summary = operation.map_or_else(|| row.sql.to_owned(), |operation| operation.does.to_owned());
    let area = row.path.trim_start_matches("/api/v4/").split('/').next().unwrap_or_default();
    let mut parameters = match row.shape {
        Shape::List { filters, .. } => schema::list_parameters(filters),
        Shape::Series => schema::series_parameters(),
        Shape::Computed => operation.map(|operation| schema::arguments(&operation.body())).unwrap_or_default(),
        Shape::Steps(steps) => schema::steps_parameters(steps.filters),
        Shape::Events => vec![schema::query("type", json!({ "type": "string" }), "Which events; may be repeated.")],
        _ => vec![],
    };
    if row.path.contains("{id}") {
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    let mut described = json!({
        "operationId": identifier(row),
        "summary": summary,
        "description": format!("As SQL: `{}`. Role: {}.", row.sql, row.role),
        "tags": [area],
        "x-juno-role": row.role.to_string(),
        "x-juno-sql": row.sql,
    });
    if let (Some(operation), Shape::Call { .. }) = (operation, row.shape) {
        parameters.extend(schema::headers(operation));
        if row.method != "DELETE" {
            let body = schema::body(operation, row.path.contains("{id}"));
            let required = body.get("required").is_some();
            described["requestBody"] =
                json!({ "required": required, "content": { "application/json": { "schema": body } } });
        }
    }
    described["parameters"] = parameters.into();
    described["responses"] = responses(row, operation, columns);
    described
}

fn responses(row: &Endpoint, operation: Option<&Operation>, columns: Option<&SchemaRef>) -> Value {
    let object = columns.map_or_else(|| json!({ "type": "object" }), schema::row);
    let mut all = Map::new();
    let json_of = |schema: Value, text: &str| json!({ "description": text, "content": { "application/json": { "schema": schema } } });
    match row.shape {
        Shape::List { .. } | Shape::All => {
            let content = formats(schema::page(&object));
            all.insert("200".into(), json!({ "description": "A page of rows.", "content": content }));
        }
        Shape::Series | Shape::Steps(_) => {
            all.insert("200".into(), json!({ "description": "The answer.", "content": formats(object) }));
        }
        Shape::Events => {
            let content = json!({ "text/event-stream": { "schema": object } });
            all.insert("200".into(), json!({ "description": "Events as they come.", "content": content }));
        }
        Shape::Call { status, made } => {
            all.insert(status.to_string(), json_of(object.clone(), "Done."));
            if made.is_some() {
                all.insert("201".into(), json_of(object.clone(), "Made."));
            }
            if operation.is_some_and(Operation::may_last) {
                all.insert("202".into(), json_of(object, "A job that waits or runs; Location says where."));
            }
        }
        Shape::One | Shape::Item | Shape::Computed => drop(all.insert("200".into(), json_of(object, "The answer."))),
    }
    let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
    let refused = json!({ "description": "A problem.", "content": { "application/problem+json": problem } });
    let acts = operation.is_some_and(|operation| operation.effect == Effect::Acts);
    let statuses: &[&str] = if acts { &["4XX", "423", "429", "5XX"] } else { &["4XX", "5XX"] };
    all.extend(statuses.iter().map(|status| ((*status).to_owned(), refused.clone())));
    all.into()
}

/// JSON of a schema, and the formats for rows.
fn formats(schema: Value) -> Map<String, Value> {
    let mut content = Map::new();
    content.insert("application/json".into(), json!({ "schema": schema }));
    for media in
        ["text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"]
    {
        content.insert(media.into(), json!({}));
    }
    content
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_for_clients_are_unique() {
        let names: BTreeSet<String> = ENDPOINTS.iter().map(identifier).collect();
        assert_eq!(names.len(), ENDPOINTS.len());
        assert!(names.contains("post_approvals_id_approve"), "{names:?}");
    }

    #[test]
    fn what_an_operation_takes_is_what_is_described() {
        for row in ENDPOINTS {
            let Some(operation) = row.operation() else { continue };
            let described = described(row, None);
            if let Shape::Computed = row.shape {
                let names: Vec<_> =
                    described["parameters"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
                assert_eq!(names, operation.body().iter().map(|parameter| parameter.name).collect::<Vec<_>>());
                continue;
            }
            let schema = &described["requestBody"]["content"]["application/json"]["schema"];
            for parameter in operation.body() {
                let in_path = parameter.name == "id" && row.path.contains("{id}");
                let there = schema["properties"].get(parameter.name).is_some();
                assert!(there != in_path || row.method == "DELETE", "{} {}", row.path, parameter.name);
            }
        }
    }
}
