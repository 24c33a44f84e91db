//! `kill_switch`: stops everything that acts on other systems, and lets it go on.
//!
//! **Invariant:** to stop is easier than to go on: that takes an approver.

use serde_json::{Value, json};

use crate::Result;
use crate::operation::{Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter};
use crate::role::Role;
use crate::session::Invocation;

const ANSWER: &[Member] = &[
    Member::new("id", Form::Id, "The change."),
    Member::new("changed_at", Form::Time, "When."),
    Member::new("engaged", Form::Boolean, "Whether everything stops."),
    Member::new("reason", Form::Text, "Why."),
    Member::new("actor", Form::Text, "Who."),
];

/// `POST /kill-switch`.
pub(crate) const OPERATION: Operation = Operation {
    name: "kill_switch",
    does: "Stops everything that acts on other systems (responder), or lets it go on (approver).",
    parameters: &[
        Parameter::new("engaged", Kind::Boolean, "Whether everything stops.").required(),
        Parameter::new("reason", Kind::Text, "Why.").required(),
    ],
    role: Role::Responder,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Object(ANSWER),
    plans: &[],
    refuses: &[],
    decide: None,
    run,
};

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(switch(invocation))
}

async fn switch(invocation: &Invocation) -> Result<Value> {
    let engaged = invocation.flag("engaged");
    if !engaged {
        invocation.session.user().needs(Role::Approver, "releasing the kill switch")?;
    }
    let (id, now, reason) = (invocation.new_id(), invocation.now(), invocation.word("reason"));
    let insert = "INSERT INTO juno_kill_switch (id, changed_at, engaged, reason, actor) VALUES ($1, $2, $3, $4, $5)";
    let values = [id.clone().into(), now.clone().into(), engaged.into(), reason.into(), invocation.actor().into()];
    invocation.own.changed_rows(insert, &values).await?;
    invocation.own.operations().figures.switched(&id, engaged);
    let row = json!({ "id": id, "changed_at": now, "engaged": engaged, "reason": reason, "actor": invocation.actor() });
    invocation.own.tell("policy", "kill_switch", row.clone()).await?;
    Ok(row)
}
