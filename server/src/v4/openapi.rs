//! `/openapi.json` (OpenAPI 3.1) and `/docs`, both out of the endpoint table and the operations' declarations.
//!
//! **Invariant:** nothing is described that does not stand in the table, and nothing of the table is left out.

mod answer;
mod page;
mod refusal;
mod schema;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::steps;
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

/// What a row selects.
enum Selected {
    /// Nothing: what it answers is declared.
    Nothing,
    /// Rows of a view.
    Rows(&'static str, SchemaRef),
    /// Steps of time, and their summary.
    Steps(SchemaRef, SchemaRef),
}

async fn document(gate: &Gate) -> Result<Value, Problem> {
    let mut paths: Map<String, Value> = Map::new();
    let mut schemas = Map::from_iter([("Problem".to_owned(), schema::problem())]);
    for row in ENDPOINTS {
        let selected = selected(gate, row).await?;
        if let Selected::Rows(view, columns) = &selected {
            schemas.entry(answer::component(view)).or_insert_with(|| schema::row(view, columns));
        }
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        path[row.method.to_lowercase()] = described(row, &selected);
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
            "schemas": schemas,
        },
    }))
}

async fn selected(gate: &Gate, row: &Endpoint) -> Result<Selected, Problem> {
    let Some(view) = row.view() else { return Ok(Selected::Nothing) };
    if let Shape::Steps(steps) = row.shape {
        let rows = format!("({})", row.sql);
        let filled = |template| steps::filled(template, &rows, steps::STEP_DEFAULT_US);
        let series = columns(gate, filled(steps.series)).await?;
        return Ok(Selected::Steps(series, columns(gate, filled(steps.summary)).await?));
    }
    Ok(Selected::Rows(view, columns(gate, row.sql.to_owned()).await?))
}

/// The columns that a statement gives.
async fn columns(gate: &Gate, sql: String) -> Result<SchemaRef, Problem> {
    let doors = gate.doors()?;
    let session = doors.session.connect();
    let planned = doors.query.spawn(async move {
        let statement = session.parse(&sql)?.pop();
        let statement = statement.ok_or_else(|| juno_sql::Error::Internal("a row selects nothing".into()))?;
        Ok::<_, juno_sql::Error>(session.prepare(statement, &[]).await?.schema)
    });
    let columns = planned.await.map_err(|error| Problem::new("internal-error", error.to_string()))??;
    columns.ok_or_else(|| Problem::new("internal-error", "a row selects no columns"))
}

/// The name of a row in generated clients: `POST /api/v4/kill-switch` is `post_kill_switch`.
fn identifier(row: &Endpoint) -> String {
    let path = row.path.trim_start_matches("/api/v4/").replace(['/', '-', ':'], "_").replace(['{', '}'], "");
    format!("{}_{path}", row.method.to_lowercase())
}

fn described(row: &Endpoint, selected: &Selected) -> Value {
    let operation = row.operation();
    let summary = operation.map_or_else(|| row.sql.to_owned(), |operation| operation.does.to_owned());
    let area = row.path.trim_start_matches("/api/v4/").split('/').next().unwrap_or_default();
    let mut parameters = match row.shape {
        Shape::List { filters, .. } => schema::list_parameters(filters),
        Shape::History { filters, .. } => schema::history_parameters(filters),
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
    let mut responses = answer::responses(row, operation, selected);
    responses.extend(refusal::responses(row, operation));
    described["responses"] = responses.into();
    described
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
            let described = described(row, &Selected::Nothing);
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

    #[test]
    fn every_answer_is_described_and_every_view_that_is_named_is_selected() {
        let views: BTreeSet<&str> = ENDPOINTS.iter().filter_map(Endpoint::view).collect();
        for (view, _) in juno_sql::COLUMNS {
            assert!(views.contains(view), "{view}");
        }
        for row in ENDPOINTS {
            let Some(operation) = row.operation() else { continue };
            if let juno_sql::Form::Row(view) = operation.answers {
                assert!(views.contains(view), "{view} of {}", operation.name);
            }
            let described = described(row, &Selected::Nothing);
            let responses = described["responses"].as_object().unwrap();
            let good = responses.iter().filter(|(status, _)| status.starts_with('2')).collect::<Vec<_>>();
            assert!(!good.is_empty() && responses.contains_key("default"), "{}", row.path);
            for (status, response) in good {
                let schema = &response["content"]["application/json"]["schema"];
                let says = ["properties", "$ref", "anyOf", "allOf"].iter().any(|part| schema.get(part).is_some());
                assert!(says, "{} {status}: {schema}", row.path);
            }
        }
    }
}
