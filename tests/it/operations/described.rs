//! Answers held to the description of the interface: `/openapi.json`.
//!
//! **Invariant:** what must hold comes from the server; nothing of it stands here again.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use juno_server::v4::{ENDPOINTS, Endpoint, Shape};
use juno_tests::Server;
use serde_json::{Value, json};

use crate::client::{Answer, get};

/// Operations whose answers and statuses are those that are described and no others. What others answer may have more members
/// than that, and may be refused with more.
const CLOSED: &[&str] = &[
    "approvals_approve",
    "approvals_deny",
    "audit_verify",
    "governance_propose",
    "governance_rollback",
    "kill_switch",
    "maintenance_windows_cancel",
    "maintenance_windows_create",
    "operations_jobs_cancel",
    "rl_evaluate",
    "rl_policies_promote",
    "rl_policies_rollback",
    "rl_train",
    "scaling_autoscale",
    "scaling_execute",
    "scaling_forecast",
    "scaling_plan",
    "threats_undo",
];

/// The description; the same for every server.
static DOCUMENT: OnceLock<Value> = OnceLock::new();

fn document(server: &Server) -> &'static Value {
    DOCUMENT.get_or_init(|| {
        let answer = get(server, "/openapi.json");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    })
}

/// The row that a request meets: one without an id before one with it.
fn row(method: &str, path: &str) -> Option<&'static Endpoint> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| match template.split_once("{id}") {
        None => template == path,
        Some((before, after)) => {
            let id = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            id.is_some_and(|id| !id.is_empty() && !id.contains(['/', ':']))
        }
    };
    let met = ENDPOINTS.iter().filter(|row| row.method == method && fits(row.path));
    met.min_by_key(|row| row.path.contains("{id}"))
}

fn is_closed(row: &Endpoint) -> bool {
    row.operation().is_some_and(|operation| CLOSED.contains(&operation.name))
}

fn responses(document: &'static Value, row: &Endpoint) -> &'static Value {
    &document["paths"][row.path][row.method.to_lowercase()]["responses"]
}

/// Fails where the answer to a request is not as described.
pub(super) fn hold(server: &Server, method: &str, path: &str, answer: &Answer) {
    let Some(row) = row(method, path) else { return };
    let (document, closed) = (document(server), is_closed(row));
    let all = responses(document, row);
    let known = all.get(answer.status.to_string()).filter(|response| response.is_object());
    let known = known.or_else(|| all.get("default").filter(|_| answer.status >= 400 && !closed));
    let text = answer.text();
    let known = known.unwrap_or_else(|| panic!("{method} {path}: {} is not described: {text}", answer.status));
    let media = answer.content_type.split(';').next().unwrap_or_default();
    let content = known["content"].get(media);
    let content = content.unwrap_or_else(|| panic!("{method} {path}: {media} is not described: {text}"));
    if matches!(media, "application/json" | "application/problem+json") {
        Description { document, closed }.check(&content["schema"], &answer.json(), &format!("{method} {path}"));
    }
}

/// Fails where what a CALL gave is not as any good answer of its endpoint is described.
pub(super) fn hold_call(server: &Server, name: &str, value: &Value) {
    let row = ENDPOINTS.iter().find(|row| row.sql == format!("CALL {name}")).expect(name);
    let (document, closed) = (document(server), is_closed(row));
    let good = responses(document, row).as_object().expect("responses").iter();
    let good = good.filter(|(status, _)| status.starts_with('2'));
    let schemas: Vec<&Value> = good.map(|(_, response)| &response["content"]["application/json"]["schema"]).collect();
    Description { document, closed }.check(&json!({ "anyOf": schemas }), value, &format!("CALL {name}"));
}

/// Reads every list, and what one of its rows is by itself, on a server that has rows, and holds each to its description.
pub(super) fn hold_rows(server: &Server) {
    let read = |path: &str| {
        let answer = get(server, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        hold(server, "GET", path, &answer);
        answer.json()
    };
    for row in ENDPOINTS.iter().filter(|row| row.method == "GET" && !row.path.contains("{id}")) {
        let listed = match row.shape {
            Shape::One | Shape::All => read(row.path),
            Shape::List { .. } | Shape::History { .. } => read(&format!("{}?from=now-390d", row.path)),
            Shape::Steps(_) => read(&format!("{}?from=now-3d", row.path)),
            Shape::Series => read(&format!("{}?metric=load.cpu&from=now-390d&step=1d&group_by=service", row.path)),
            Shape::Item | Shape::Events | Shape::Computed | Shape::Call { .. } => continue,
        };
        let item = format!("{}/{{id}}", row.path);
        let id = listed["items"][0]["id"].as_str();
        if let Some(id) = id.filter(|_| ENDPOINTS.iter().any(|row| row.path == item && row.method == "GET")) {
            read(&item.replace("{id}", id));
        }
    }
}

/// Schemas as the description has them: what is checked is what it uses of JSON Schema.
struct Description<'a> {
    document: &'a Value,
    /// Whether members that are not described are faults.
    closed: bool,
}

impl Description<'_> {
    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let faults = self.faults(schema, value, "", self.closed);
        assert!(faults.is_empty(), "{what} is not as described:\n{}\n{value:#}", faults.join("\n"));
    }

    fn target(&self, reference: &str) -> &Value {
        let found = self.document.pointer(reference.trim_start_matches('#'));
        found.unwrap_or_else(|| panic!("{reference} is not in the description"))
    }

    /// What is wrong with a value; `own` says whether a member that the schema does not name is a fault.
    fn faults(&self, schema: &Value, value: &Value, at: &str, own: bool) -> Vec<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.faults(self.target(reference), value, at, own);
        }
        if !has_type(&schema["type"], value) {
            return vec![format!("{at}: is no {}: {value}", schema["type"])];
        }
        let mut all = Vec::new();
        if let Some(schemas) = schema["anyOf"].as_array() {
            all.extend(self.nearest(schemas, value, at, own));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            all.extend(self.faults(part, value, at, false));
        }
        if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
            all.push(format!("{at}: is none of {}: {value}", schema["enum"]));
        }
        if schema.get("const").is_some_and(|only| only != value) {
            all.push(format!("{at}: is not {}: {value}", schema["const"]));
        }
        if let (Some(format), Some(text)) = (schema["format"].as_str(), value.as_str())
            && !has_format(format, text)
        {
            all.push(format!("{at}: is no {format}: {text}"));
        }
        for (number, item) in value.as_array().into_iter().flatten().enumerate() {
            if let Some(schema) = schema.get("items") {
                all.extend(self.faults(schema, item, &format!("{at}/{number}"), self.closed));
            }
        }
        all.extend(self.of_members(schema, value, at, own));
        all
    }

    fn of_members(&self, schema: &Value, value: &Value, at: &str, own: bool) -> Vec<String> {
        let Some(members) = value.as_object() else { return Vec::new() };
        let mut all = Vec::new();
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                all.push(format!("{at}/{name}: is missing"));
            }
        }
        let (named, rest) = (self.names(schema), schema.get("additionalProperties"));
        for (name, value) in members {
            let at = format!("{at}/{name}");
            match schema["properties"].get(name).or(rest) {
                Some(schema) => all.extend(self.faults(schema, value, &at, self.closed)),
                None if own && !named.is_empty() && !named.contains(name.as_str()) => {
                    all.push(format!("{at}: is not described"));
                }
                None => {}
            }
        }
        all
    }

    /// The names of the members that a schema and its parts describe.
    fn names<'a>(&'a self, schema: &'a Value) -> BTreeSet<&'a str> {
        let mut all: BTreeSet<&str> =
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if let Some(reference) = schema["$ref"].as_str() {
            all.extend(self.names(self.target(reference)));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            all.extend(self.names(part));
        }
        all
    }

    /// What is wrong by the schema that fits best: one of the right type, with the fewest faults.
    fn nearest(&self, schemas: &[Value], value: &Value, at: &str, own: bool) -> Vec<String> {
        let other = format!("{at}: is no ");
        let tried = schemas.iter().map(|schema| self.faults(schema, value, at, own));
        let nearest = tried.min_by_key(|faults| (faults.iter().any(|fault| fault.starts_with(&other)), faults.len()));
        nearest.unwrap_or_default()
    }
}

fn has_type(kind: &Value, value: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| has_type(kind, value)),
        Value::String(kind) => match kind.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other} is no type"),
        },
        _ => true,
    }
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        "date-time" => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        other => panic!("{other} is no format"),
    }
}

#[test]
fn what_is_not_as_described_is_found() {
    let document = json!({ "components": { "schemas": {
        "Row": { "type": "object", "required": ["id"], "properties": { "id": { "type": "string", "format": "uuid" } } },
    } } });
    let schema = json!({
        "allOf": [{ "$ref": "#/components/schemas/Row" }, { "properties": { "kind": { "const": "a" } } }],
    });
    let faults = |schema: &Value, value: Value| {
        let description = Description { document: &document, closed: true };
        description.faults(schema, &value, "", true).join("; ")
    };
    let id = "00000000-0000-7000-8000-000000000001";
    assert_eq!(faults(&schema, json!({ "id": id, "kind": "a" })), "");
    assert!(faults(&schema, json!({ "kind": "a" })).contains("/id: is missing"));
    assert!(faults(&schema, json!({ "id": "1", "kind": "a" })).contains("/id: is no uuid"));
    assert!(faults(&schema, json!({ "id": id, "kind": "b" })).contains("/kind: is not"));
    assert_eq!(faults(&schema, json!({ "id": id, "more": 1 })), "/more: is not described");
    let item = json!({ "anyOf": [{ "type": "null" }, { "type": "integer" }, { "enum": ["x"] }] });
    let list = json!({ "type": "array", "items": item });
    assert_eq!(faults(&list, json!([1, 2.0, null, "x"])), "");
    assert!(faults(&list, json!([1, 2.5])).starts_with("/1: is none of"), "{}", faults(&list, json!([1, 2.5])));
    assert!(faults(&list, json!({})).contains("is no \"array\""));
    let map = json!({ "type": "object", "additionalProperties": { "type": ["string", "null"] } });
    assert_eq!((faults(&map, json!({ "a": null })).as_str(), faults(&map, json!({ "a": 1 })).is_empty()), ("", false));
}
