//! `rl_policies_rollback`: takes a policy out of use; where it was active, what it replaced decides again.
//!
//! **Invariant:** needs no evidence: to go back is always allowed.

use serde_json::{Value, json};

use super::policy::stage::Stage;
use super::store;
use super::train::answer::STAGES;
use crate::Result;
use crate::operation::{Component, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::Invocation;

const ANSWER: &[Member] = &[
    Member::new("policy_id", Form::Id, "The policy."),
    Member::new("policy", Form::Text, "Its name."),
    Member::new("version", Form::Integer, "Its version."),
    Member::new("state", STAGES, "What it is now."),
    Member::new("active", Form::Object(store::TOLD), "What decides again.").or_null(),
    Member::new("reason", Form::Text, "Why."),
    Member::new("etag", Form::Text, "The ETag that it has now."),
];

/// `POST /rl/policies/{id}:rollback`.
pub(crate) const OPERATION: Operation = Operation {
    name: "rl_policies_rollback",
    does: "Takes a policy out of use: what an active one replaced decides again, or the fixed rule; others become candidates.",
    parameters: &[
        Parameter::new("id", Kind::Id, "The policy.").required(),
        Parameter::new("reason", Kind::Text, "Why.").required(),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: Some(Component::Rl),
    lasts: Lasts::Short,
    matched: true,
    answers: Form::Object(ANSWER),
    plans: &[],
    refuses: &[Refused::NotFound, Refused::Conflict, Refused::Concurrent],
    decide: None,
    run: |invocation| Box::pin(run(invocation)),
};

async fn run(invocation: &Invocation) -> Result<Value> {
    let stored = store::found(&invocation.own, invocation.word("id"), "/id").await?;
    invocation.match_etag(&stored.etag(), &format!("policy \"{}\"", stored.name))?;
    let to = stored.stage.taken_back().map_err(|refusal| Refusal::new(Refused::Conflict, refusal.to_string()))?;
    let before = match (&stored.replaced, stored.stage) {
        (Some(before), Stage::Active) => Some(store::found(&invocation.own, before, "/id").await?),
        _ => None,
    };
    let mut moves = vec![(&stored, to)];
    moves.extend(before.as_ref().map(|before| (before, Stage::Active)));
    store::restage(invocation, &moves, None).await?;
    let stored = store::found(&invocation.own, &stored.id, "/id").await?;
    Ok(json!({
        "policy_id": stored.id,
        "policy": stored.name,
        "version": stored.version,
        "state": stored.stage.name(),
        "active": before.map(|before| before.told()),
        "reason": invocation.word("reason"),
        "etag": stored.etag(),
    }))
}
