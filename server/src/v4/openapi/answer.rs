//! What is answered where all went well: JSON Schemas of forms, rows, jobs and plans, by status.
//!
//! Objects are open: they may get members that a client does not know. Those that are required are always there.
//!
//! **Invariant:** derived from declarations and from the columns that statements give; no endpoint is named here.

use juno_sql::{Form, Lasts, Member, Operation};
use serde_json::{Map, Value, json};

use super::{Selected, schema};
use crate::v4::metrics;
use crate::v4::table::{Endpoint, Shape};

/// The view of jobs; a row of it is the component `Job`.
const JOBS: &str = "operations_jobs";
/// The forms besides JSON that rows can be written in.
const ROWS: [&str; 4] =
    ["text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"];
/// The forms besides JSON of the server's own metrics.
const EXPOSITIONS: [&str; 2] = ["text/plain", "application/openmetrics-text"];

/// The name of the component that a view's rows are.
pub(super) fn component(view: &str) -> &str {
    if view == JOBS { "Job" } else { view }
}

fn reference(view: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", component(view)) })
}

/// The schema of a form.
pub(super) fn form(form: &Form) -> Value {
    match form {
        Form::Text => json!({ "type": "string" }),
        Form::Choice(all) => json!({ "type": "string", "enum": all }),
        Form::Id => json!({ "type": "string", "format": "uuid" }),
        Form::Time => json!({ "type": "string", "format": "date-time" }),
        Form::Boolean => json!({ "type": "boolean" }),
        Form::Integer => json!({ "type": "integer" }),
        Form::Number => json!({ "type": "number" }),
        Form::Null => json!({ "type": "null" }),
        Form::Object(members) => object(members),
        Form::Extended(members, rest) => {
            let mut schema = object(members);
            schema["additionalProperties"] = self::form(rest);
            schema
        }
        Form::Map(item) => json!({ "type": "object", "additionalProperties": self::form(item) }),
        Form::List(item) => json!({ "type": "array", "items": self::form(item) }),
        Form::Row(view) => reference(view),
        Form::Either(forms) => any(forms.iter().map(self::form).collect()),
        Form::Any => json!({}),
    }
}

/// The schema of a member, without its name.
pub(super) fn member(member: &Member) -> Value {
    let own = form(&member.form);
    let mut schema = if member.nullable { or_null(own) } else { own };
    schema["description"] = member.says.into();
    schema
}

fn object(members: &[Member]) -> Value {
    let properties: Map<String, Value> = members.iter().map(|one| (one.name.to_owned(), member(one))).collect();
    let required: Vec<&str> = members.iter().filter(|one| one.always).map(|one| one.name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn or_null(mut schema: Value) -> Value {
    let kind = schema["type"].as_str().filter(|_| schema.get("enum").is_none()).map(str::to_owned);
    match kind {
        Some(kind) => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        None => any(vec![schema, json!({ "type": "null" })]),
    }
}

fn any(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({ "anyOf": schemas }),
    }
}

/// A job of an operation: the plan and the result are the operation's own.
fn job(operation: &Operation) -> Value {
    let mut own = json!({ "kind": { "const": operation.name }, "result": or_null(form(&operation.answers)) });
    if operation.has_dry_run() {
        own["plan"] = or_null(object(operation.plans));
    }
    json!({ "allOf": [reference(JOBS), { "type": "object", "properties": own }] })
}

/// An event of a stream as it is sent: the row is the text of its data.
fn event(row: &Value) -> Value {
    let data = json!({ "type": "string", "contentMediaType": "application/json", "contentSchema": row });
    let properties = json!({
        "id": { "type": "string", "format": "uuid", "description": "What Last-Event-ID takes up from." },
        "event": { "type": "string", "description": "The type of the event." },
        "data": data,
    });
    json!({ "type": "object", "required": ["id", "event", "data"], "properties": properties })
}

/// The answers of a row where all went well, by status.
pub(super) fn responses(row: &Endpoint, operation: Option<&Operation>, selected: &Selected) -> Map<String, Value> {
    let own = match selected {
        Selected::Rows(view, _) => reference(view),
        Selected::Steps(series, summary) => schema::steps(series, summary),
        Selected::Nothing => operation.map_or_else(|| object(metrics::ANSWER), |operation| form(&operation.answers)),
    };
    let mut all = Map::new();
    let mut add = |status: u16, text: &str, content: Value| {
        all.insert(status.to_string(), json!({ "description": text, "content": content }));
    };
    let json_of = |schema: &Value| json!({ "application/json": { "schema": schema } });
    match row.shape {
        Shape::List { .. } | Shape::All => add(200, "A page of rows.", with(json_of(&schema::page(&own)), &ROWS)),
        Shape::History { .. } => {
            let page = any(vec![schema::page(&own), schema::summary()]);
            add(200, "A page of rows, or their summary.", with(json_of(&page), &ROWS));
        }
        Shape::Events => add(200, "Events as they come.", json!({ "text/event-stream": { "schema": event(&own) } })),
        Shape::Series => add(200, "The answer.", with(with(json_of(&own), &ROWS), &EXPOSITIONS)),
        Shape::Steps(_) => add(200, "The answer, or its steps as rows.", with(json_of(&own), &ROWS)),
        Shape::One | Shape::Item | Shape::Computed => add(200, "The answer.", json_of(&own)),
        Shape::Call { status, made } => {
            add(status, "Done.", json_of(&operation.map_or_else(|| own.clone(), done)));
            if made.is_some() {
                add(201, "Made.", json_of(&own));
            }
            if let Some(operation) = operation.filter(|operation| operation.may_last()) {
                add(202, "A job that waits or runs; Location says where.", json_of(&job(operation)));
            }
        }
    }
    all
}

/// What an operation answers at once: the result, the job that ended in time, or the plan of a dry run.
fn done(operation: &Operation) -> Value {
    let result = (!matches!(operation.lasts, Lasts::Long)).then(|| form(&operation.answers));
    let job = (!matches!(operation.lasts, Lasts::Short)).then(|| job(operation));
    let plan = operation.has_dry_run().then(|| object(operation.plans));
    any([result, job, plan].into_iter().flatten().collect())
}

fn with(mut content: Value, media: &[&str]) -> Value {
    for media in media {
        content[*media] = json!({});
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_null_says_so_in_whatever_form() {
        let schema = |form, nullable: bool| {
            let one = Member::new("a", form, "A.");
            member(&if nullable { one.or_null() } else { one })
        };
        assert_eq!(schema(Form::Text, true)["type"], json!(["string", "null"]));
        assert_eq!(schema(Form::Text, false)["type"], "string");
        let choice = schema(Form::Choice(&["x"]), true);
        assert_eq!(choice["anyOf"], json!([{ "type": "string", "enum": ["x"] }, { "type": "null" }]));
    }

    #[test]
    fn what_is_not_always_there_is_not_required() {
        const MEMBERS: &[Member] =
            &[Member::new("a", Form::Integer, "A."), Member::new("b", Form::Time, "B.").sometimes()];
        let schema = form(&Form::Extended(MEMBERS, &Form::Number));
        assert_eq!(
            (&schema["required"], &schema["additionalProperties"]),
            (&json!(["a"]), &json!({ "type": "number" }))
        );
        assert!(schema["properties"]["b"].is_object(), "{schema}");
    }
}
