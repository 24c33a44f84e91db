//! `maintenance_windows_create`, `maintenance_windows_cancel`: times in which nothing is acted on.
//!
//! **Invariant:** a window is never changed but to be cancelled.

use serde_json::{Map, Value};

use crate::Result;
use crate::operation::{Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused, duration_us};
use crate::role::Role;
use crate::session::{Invocation, rfc3339};

/// The longest window: 90 days.
const LENGTH_US_MAX: i64 = 90 * 86_400_000_000;

/// `POST /maintenance-windows`.
pub(crate) const CREATE: Operation = Operation {
    name: "maintenance_windows_create",
    does: "Announces a time of maintenance, in which nothing is acted on unless freeze is false.",
    parameters: &[
        Parameter::new("name", Kind::Text, "What is done.").required(),
        Parameter::new("service", Kind::Text, "Whose it is; everybody's where none is named."),
        Parameter::new("freeze", Kind::Boolean, "Whether nothing is acted on meanwhile.").or("true"),
        Parameter::new("starts_at", Kind::Time, "When it begins; now where it is left out."),
        Parameter::new("ends_at", Kind::Time, "When it ends."),
        Parameter::new("duration", Kind::Duration, "How long it is, in place of ends_at."),
        Parameter::new("reason", Kind::Text, "Why."),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("maintenance_windows"),
    plans: &[],
    refuses: &[Refused::InvalidValue],
    decide: None,
    run: |invocation| Box::pin(create(invocation)),
};

/// `DELETE /maintenance-windows/{id}`.
pub(crate) const CANCEL: Operation = Operation {
    name: "maintenance_windows_cancel",
    does: "Ends a maintenance window now, or takes one back that has not begun.",
    parameters: &[Parameter::new("id", Kind::Id, "The window.").required()],
    role: Role::Operator,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("maintenance_windows"),
    plans: &[],
    refuses: &[Refused::NotFound, Refused::Conflict],
    decide: None,
    run: |invocation| Box::pin(cancel(invocation)),
};

async fn create(invocation: &Invocation) -> Result<Value> {
    let invalid = |text: &str, at: &str| Err(Refusal::new(Refused::InvalidValue, text).at(at).into());
    let starts_us = invocation.time_us("starts_at").unwrap_or_else(|| invocation.now_us());
    let length = invocation.text("duration").and_then(duration_us);
    let ends_us = match (invocation.time_us("ends_at"), length) {
        (Some(ends), None) => ends,
        (None, Some(length)) => starts_us.saturating_add(length),
        _ => return invalid("give one of ends_at and duration", "/ends_at"),
    };
    if ends_us <= starts_us.max(invocation.now_us()) {
        return invalid("a window must end after it begins, and after now", "/ends_at");
    }
    if ends_us - starts_us > LENGTH_US_MAX {
        return invalid("a window may have 90 days at most", "/ends_at");
    }
    if invocation.word("name").chars().count() > 100 {
        return invalid("a name may have 100 characters at most", "/name");
    }
    let id = invocation.new_id();
    let insert = "INSERT INTO juno_maintenance_windows (id, name, service, freeze, starts_at, ends_at, reason, created_by, \
                  created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let optional = |name: &str| invocation.text(name).map(str::to_owned);
    let values = [
        id.clone().into(),
        invocation.word("name").into(),
        optional("service").into(),
        invocation.flag("freeze").into(),
        rfc3339(starts_us).into(),
        rfc3339(ends_us).into(),
        optional("reason").into(),
        invocation.actor().into(),
        invocation.now().into(),
    ];
    invocation.own.changed_rows(insert, &values).await?;
    Ok(window(invocation, &id).await?.map_or(Value::Null, Value::Object))
}

async fn cancel(invocation: &Invocation) -> Result<Value> {
    let id = invocation.word("id");
    let Some(row) = window(invocation, id).await? else {
        return Err(Refusal::new(Refused::NotFound, format!("there is no maintenance window {id}")).at("/id").into());
    };
    let state = row["state"].as_str().unwrap_or_default();
    if !matches!(state, "announced" | "active") {
        return Err(Refusal::new(Refused::Conflict, format!("the window is {state}")).into());
    }
    let update = "UPDATE juno_maintenance_windows SET cancelled_at = $2, cancelled_by = $3 WHERE id = $1";
    invocation.own.changed_rows(update, &[id.into(), invocation.now().into(), invocation.actor().into()]).await?;
    Ok(window(invocation, id).await?.map_or(Value::Null, Value::Object))
}

async fn window(invocation: &Invocation, id: &str) -> Result<Option<Map<String, Value>>> {
    Ok(invocation.own.objects("SELECT * FROM maintenance_windows WHERE id = $1", &[id.into()]).await?.pop())
}
