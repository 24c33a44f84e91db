//! `governance_rollback`: puts a policy back to what it was before an adaptation.
//!
//! **Invariant:** only the adaptation that the policy itself names as its newest can be rolled back, and once; what is looser than
//! the policy is now is judged as a proposal's is.

use serde_json::{Value, json};

use super::policy::{self, Decision as Rails, Limits};
use super::{automate, etag, limits, replace, stored};
use crate::Result;
use crate::operation::{Decision, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::Invocation;

const PLAN: &[Member] = &[
    Member::new("adaptation_id", Form::Id, "The adaptation."),
    Member::new("policy_type", Form::Text, "Which policy."),
    Member::new("old_policy", Form::Map(&Form::Any), "Its members now."),
    Member::new("new_policy", Form::Map(&Form::Any), "Its members afterwards."),
    Member::new("etag", Form::Text, "The version that it is decided on."),
    Member::new("looser", Form::Boolean, "Whether anything is looser afterwards."),
    Member::new("policy", Form::Object(policy::VERDICT), "What guard rails say of it."),
];
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
    does: "Puts a policy back to what it was before its newest adaptation; what is much looser must be approved.",
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
    plans: PLAN,
    refuses: &[Refused::NotFound, Refused::Conflict, Refused::PolicyDenied, Refused::PreconditionFailed],
    decide: Some(decide),
    run,
};

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(decided(invocation))
}

async fn decided(invocation: &Invocation) -> Result<Decision> {
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
    // People may write rows of adaptations: which is the newest, the policy says, which they may not write.
    if old.adaptation_id.as_deref() != Some(id) {
        let text = format!("it is not the newest change of policy {policy_type}: propose what the policy should be");
        return Err(Refusal::new(Refused::Conflict, text).into());
    }
    let mut new = row["old_policy"].as_object().cloned().unwrap_or_default();
    automate::settle(own, (policy_type, &old), &mut new).await?;
    let limits = limits(own).await?;
    let verdict = policy::judge_back(policy_type, &old.policy, &new, limits);
    if verdict.decision == Rails::Deny {
        return Err(Refusal::new(Refused::PolicyDenied, verdict.reason()).into());
    }
    let strict = policy::judge_back(policy_type, &old.policy, &new, Limits { step_pct: 0.0, ..limits });
    let plan = json!({
        "adaptation_id": id,
        "policy_type": policy_type,
        "old_policy": old.policy,
        "new_policy": new,
        "etag": old.etag(),
        "looser": strict.decision != Rails::Allow,
        "policy": verdict.json(),
    });
    let asks = verdict.decision == Rails::NeedsApproval && invocation.approved_by.is_none();
    Ok(Decision { plan, approval: asks.then(|| verdict.reason()) })
}

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(rollback(invocation))
}

async fn rollback(invocation: &Invocation) -> Result<Value> {
    let (own, id) = (&invocation.own, invocation.word("id"));
    let plan = invocation.plan.clone().unwrap_or_default();
    let policy_type = plan["policy_type"].as_str().unwrap_or_default();
    let old = stored(own, policy_type).await?;
    if plan["etag"] != old.etag() {
        let text = format!("policy {policy_type} was changed meanwhile: read it again");
        return Err(Refusal::new(Refused::PreconditionFailed, text).into());
    }
    let now = invocation.now();
    let mut before = plan["new_policy"].as_object().cloned().unwrap_or_default();
    automate::settle(own, (policy_type, &old), &mut before).await?;
    let mark = "UPDATE governance_adaptations SET rollback_at = $2 WHERE id = $1";
    let with = (mark, vec![id.into(), now.clone().into()]);
    // Nothing is left that could be rolled back.
    replace(own, policy_type, &old, &before, (invocation.actor(), &now, None), with).await?;
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

#[cfg(test)]
mod tests;
