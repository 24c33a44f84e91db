//! JSON Schemas of parameters, rows and problems.
//!
//! **Invariant:** derived from declarations and Arrow types; no endpoint is named here.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use juno_sql::{COLUMNS, KEY_CHARS_MAX, Kind, Operation, Parameter, TYPE_KEY};
use serde_json::{Map, Value, json};

use super::answer;
use crate::v4::filter::{self, Filter};

/// The schema of what a parameter takes.
fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Choice(all) => json!({ "type": "string", "enum": all }),
        Kind::Id => json!({ "type": "string", "format": "uuid" }),
        Kind::Time => json!({ "type": "string", "format": "date-time" }),
        Kind::Duration => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d|w)$" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
        Kind::Object(members) => object(members.iter()),
        Kind::Map => json!({ "type": "object" }),
        Kind::List(item, most) => json!({ "type": "array", "items": self::kind(item), "maxItems": most }),
        Kind::Any => json!({}),
    }
}

fn object<'a>(members: impl Iterator<Item = &'a Parameter>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for member in members {
        let mut schema = kind(&member.kind);
        schema["description"] = member.does.into();
        if let Some(default) = member.default {
            schema["default"] = serde_json::from_str(default).unwrap_or_default();
        }
        properties.insert(member.name.into(), schema);
        if member.required {
            required.push(member.name);
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// The body of an operation; an id that stands in the path is left out.
pub(super) fn body(operation: &Operation, id_in_path: bool) -> Value {
    let body = operation.body();
    object(body.iter().filter(|parameter| !(id_in_path && parameter.name == "id")))
}

/// The headers that an operation takes.
pub(super) fn headers(operation: &Operation) -> Vec<Value> {
    let header = |name: &str, schema: Value, text: &str| json!({ "name": name, "in": "header", "required": false, "schema": schema, "description": text });
    let key = json!({ "type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX });
    let mut all = vec![header("Idempotency-Key", key, "The same key is done once and answered again for 24 hours.")];
    if operation.may_last() {
        all.push(header("Prefer", json!({ "type": "string" }), "wait=N waits up to 30 seconds for a job."));
    }
    if operation.matched {
        all.push(header("If-Match", json!({ "type": "string" }), "The ETag of what is changed."));
    }
    all
}

/// A query parameter.
pub(super) fn query(name: &str, schema: Value, text: &str) -> Value {
    json!({ "name": name, "in": "query", "required": false, "schema": schema, "description": text })
}

/// The query parameters that are an operation's arguments: lists by comma, objects as JSON.
pub(super) fn arguments(parameters: &[Parameter]) -> Vec<Value> {
    let one = |parameter: &Parameter| {
        let mut schema = kind(&parameter.kind);
        if let Some(default) = parameter.default {
            schema["default"] = serde_json::from_str(default).unwrap_or_default();
        }
        let mut described = query(parameter.name, schema, parameter.does);
        described["required"] = parameter.required.into();
        match parameter.kind {
            Kind::List(Kind::Object(_) | Kind::Map | Kind::List(..) | Kind::Any, _)
            | Kind::Object(_)
            | Kind::Map
            | Kind::Any => {
                let schema = described["schema"].take();
                described["content"] = json!({ "application/json": { "schema": schema } });
                if let Some(members) = described.as_object_mut() {
                    members.remove("schema");
                }
            }
            Kind::List(..) => {
                described["style"] = "form".into();
                described["explode"] = false.into();
            }
            _ => {}
        }
        described
    };
    parameters.iter().map(one).collect()
}

/// The parameters of a list.
pub(super) fn list_parameters(filters: &[Filter]) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let mut all = vec![
        query("limit", json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 }), "Rows of a page."),
        query("cursor", text.clone(), "next_cursor of the page before, for 24 hours."),
        query(
            "order",
            json!({ "type": "string", "enum": ["desc", "asc"], "default": "desc" }),
            "Newest or oldest first.",
        ),
        query("from", text.clone(), "From this time on: RFC 3339, Unix milliseconds, or now-24h."),
        query("to", text, "Before this time."),
        query(
            "count",
            json!({ "type": "string", "enum": ["estimate", "exact"] }),
            "Whether to count the rows of all pages.",
        ),
    ];
    all.extend(filters.iter().map(filter_parameter));
    all
}

/// The parameters of a list that has a summary.
pub(super) fn history_parameters(filters: &[Filter]) -> Vec<Value> {
    let mut all = list_parameters(filters);
    let does = "Totals in the place of a page; with from, to and filters only.";
    all.push(query("summary", json!({ "type": "boolean", "default": false }), does));
    all
}

fn filter_parameter(filter: &Filter) -> Value {
    let schema = match filter.kind {
        filter::Kind::Boolean => json!({ "type": "boolean" }),
        filter::Kind::Number => json!({ "type": "number" }),
        filter::Kind::Text | filter::Kind::Time => json!({ "type": "string" }),
    };
    query(filter.name, schema, "A filter; given several times, any will do.")
}

/// The parameters of steps with a summary.
pub(super) fn steps_parameters(filters: &[Filter]) -> Vec<Value> {
    let own = [
        ("from", "From this time on: RFC 3339, Unix milliseconds, or now-24h."),
        ("to", "Before this time."),
        ("step", "Such as 15m, 1h or 1d; 1h where it is left out."),
    ];
    let own = own.map(|(name, does)| query(name, json!({ "type": "string" }), does));
    own.into_iter().chain(filters.iter().map(filter_parameter)).collect()
}

/// The parameters of series.
pub(super) fn series_parameters() -> Vec<Value> {
    let text = || json!({ "type": "string" });
    [
        ("metric", "table.column; may be repeated."),
        ("agg", "avg, min, max, sum, count, p50, p95, p99 or last."),
        ("step", "Such as 30s, 5m or 1h."),
        ("group_by", "Tags, by comma."),
        ("fill", "null, prev or linear."),
        ("from", "From this time on."),
        ("to", "Before this time."),
    ]
    .map(|(name, does)| query(name, text(), does))
    .into()
}

/// A row of a view; every column is always there.
pub(super) fn row(view: &str, columns: &SchemaRef) -> Value {
    let known = COLUMNS.iter().find(|(named, _)| *named == view).map(|(_, members)| *members);
    let known = known.unwrap_or_default();
    let one = |field: &Arc<Field>| {
        let member = known.iter().find(|member| member.name == field.name());
        (field.name().clone(), member.map_or_else(|| column(field), answer::member))
    };
    rows(columns.fields().iter().map(one).collect())
}

fn rows(properties: Map<String, Value>) -> Value {
    let required: Vec<String> = properties.keys().cloned().collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn column(field: &Arc<Field>) -> Value {
    match field.metadata().get(TYPE_KEY).map(String::as_str) {
        Some("jsonb" | "json") => return json!({}),
        Some("uuid") => return json!({ "type": ["string", "null"], "format": "uuid" }),
        _ => {}
    }
    match field.data_type() {
        DataType::Boolean => json!({ "type": ["boolean", "null"] }),
        kind if kind.is_integer() => json!({ "type": ["integer", "null"] }),
        kind if kind.is_numeric() => json!({ "type": ["number", "null"] }),
        DataType::Timestamp(..) => json!({ "type": ["string", "null"], "format": "date-time" }),
        _ => json!({ "type": ["string", "null"] }),
    }
}

/// Rows by steps of time, with their summary.
pub(super) fn steps(series: &SchemaRef, summary: &SchemaRef) -> Value {
    let of = |columns: &SchemaRef| {
        rows(columns.fields().iter().map(|field| (field.name().clone(), column(field))).collect())
    };
    json!({
        "type": "object",
        "required": ["step", "series", "summary"],
        "properties": {
            "step": { "type": "string" },
            "series": { "type": "array", "items": of(series) },
            "summary": { "anyOf": [of(summary), { "type": "null" }] },
        },
    })
}

/// A page of rows.
pub(super) fn page(row: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["items", "next_cursor", "has_more"],
        "properties": {
            "items": { "type": "array", "items": row },
            "next_cursor": { "type": ["string", "null"] },
            "has_more": { "type": "boolean" },
            "count": { "type": "integer" },
            "count_is": { "type": "string", "enum": ["exact", "estimate", "at_least"] },
        },
    })
}

/// Totals over the rows of a history.
pub(super) fn summary() -> Value {
    json!({
        "type": "object",
        "required": ["from", "to", "summary"],
        "properties": {
            "from": { "type": ["string", "null"], "format": "date-time" },
            "to": { "type": "string", "format": "date-time" },
            "summary": { "type": "object" },
        },
    })
}

/// A problem (RFC 9457).
pub(super) fn problem() -> Value {
    let text = json!({ "type": "string" });
    let fault = json!({
        "type": "object",
        "required": ["pointer", "detail"],
        "properties": {
            "pointer": { "type": "string", "description": "A query parameter as ?name, or a JSON pointer into the body." },
            "detail": { "type": "string", "description": "What is wrong with it." },
        },
    });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "description": "A page of this server that explains it: /problems/ and its slug." },
            "title": { "type": "string", "description": "The same for every problem of this type." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status." },
            "detail": { "type": "string", "description": "What happened this time, and what to do." },
            "instance": { "type": "string", "description": "The path that was asked for." },
            "trace_id": { "type": "string", "description": "The id of the request's trace: to be quoted when asking for help." },
            "sqlstate": text,
            "errors": { "type": "array", "items": fault, "description": "Which parts of the request are at fault." },
        },
    })
}
