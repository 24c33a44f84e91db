//! `governance_rollback`: puts a policy back to what it was before an adaptation.
//!
//! **Invariant:** only the newest adaptation of a policy can be rolled back, and once.

use serde_json::{Value, json};

use super::{etag, replace, stored};
use crate::Result;
use crate::operation::{Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::Invocation;

const ANSWER: &[Member] = &[
    Member::new("adaptation_id", Form::Id, "The adaptation."),
    Member::new("policy_type", Form::Text, "Which policy."),
    Member::new("version", Form::Integer, "The version that it has now."),
    Member::new("etag", Form::Text, "The ETag that it has now."),
    Member::new("policy", Form::Map(&Form::Any), "Its members now."),
    Member::new("rollback_at", Form::Time, "When."),
    Member::new("reason", Form::Text, "Why."),
];

/// `POST /governance/rollback`.
pub(crate) const OPERATION: Operation = Operation {
    name: "governance_rollback",
    does: "Puts a policy back to what it was before its newest adaptation.",
    parameters: &[
        Parameter::new("id", Kind::Id, "The adaptation.").required(),
        Parameter::new("reason", Kind::Text, "Why.").required(),
    ],
    role: Role::Responder,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: true,
    answers: Form::Object(ANSWER),
    plans: &[],
    refuses: &[Refused::NotFound, Refused::Conflict, Refused::PreconditionFailed],
    decide: None,
    run,
};

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(rollback(invocation))
}

async fn rollback(invocation: &Invocation) -> Result<Value> {
    let (own, id) = (&invocation.own, invocation.word("id"));
    let found = "SELECT policy_type, old_policy, rollback_at FROM governance_adaptations WHERE id = $1";
    let row = own.objects(found, &[id.into()]).await?.pop();
    let row = row.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no adaptation {id}")).at("/id"))?;
    let policy_type = row["policy_type"].as_str().unwrap_or_default();
    let old = stored(own, policy_type).await?;
    invocation.match_etag(&old.etag(), &format!("policy {policy_type}"))?;
    if !row["rollback_at"].is_null() {
        let text = format!("it was rolled back at {}", row["rollback_at"].as_str().unwrap_or_default());
        return Err(Refusal::new(Refused::Conflict, text).into());
    }
    let newest = "SELECT id FROM governance_adaptations WHERE policy_type = $1 AND rollback_at IS NULL ORDER BY timestamp DESC, \
                  id DESC LIMIT 1";
    let newest = own.objects(newest, &[policy_type.into()]).await?.pop();
    if newest.is_none_or(|row| row["id"] != id) {
        let text = format!("policy {policy_type} was adapted again since: roll the newest adaptation back first");
        return Err(Refusal::new(Refused::Conflict, text).into());
    }
    let before = row["old_policy"].as_object().cloned().unwrap_or_default();
    let now = invocation.now();
    let mark = "UPDATE governance_adaptations SET rollback_at = $2 WHERE id = $1";
    let with = (mark, vec![id.into(), now.clone().into()]);
    replace(own, policy_type, &old, &before, (invocation.actor(), &now, id), with).await?;
    Ok(json!({
        "adaptation_id": id,
        "policy_type": policy_type,
        "version": old.version + 1,
        "etag": etag(old.version + 1),
        "policy": before,
        "rollback_at": now,
        "reason": invocation.word("reason"),
    }))
}
