//! `governance_propose`: changes members of a policy, as far as guard rails let it.
//!
//! **Invariant:** decides by [`policy::judge`], and by what was earned, alone; what it does not allow waits for another person or is refused.

use serde_json::{Value, json};

use super::policy::{self, Decision as Rails};
use super::{automate, etag, limits, replace, stored};
use crate::Result;
use crate::operation::{Decision, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::{Invocation, rfc3339};

const TYPE: Member = Member::new("policy_type", Form::Choice(policy::POLICIES), "Which policy.");
const OLD: Member = Member::new("old_policy", Form::Map(&Form::Any), "Its members before.");
const NEW: Member = Member::new("new_policy", Form::Map(&Form::Any), "Its members afterwards.");
const SAID: Member = Member::new("policy", Form::Object(policy::VERDICT), "What guard rails say of it.");
const PLAN: &[Member] = &[TYPE, OLD, NEW, Member::new("etag", Form::Text, "The version that it is decided on."), SAID];
const ANSWER: &[Member] = &[
    Member::new("adaptation_id", Form::Id, "The adaptation, which can be rolled back."),
    TYPE,
    Member::new("version", Form::Integer, "The version that it has now."),
    Member::new("etag", Form::Text, "The ETag that it has now."),
    OLD,
    NEW,
    SAID,
    Member::new("applied", Form::Boolean, "Whether it is in force."),
];

/// `POST /governance/propose`.
pub(crate) const OPERATION: Operation = Operation {
    name: "governance_propose",
    does: "Changes members of a policy: at once where guard rails allow it, after an approval where they ask for one.",
    parameters: &[
        Parameter::new("policy_type", Kind::Choice(policy::POLICIES), "Which policy.").required(),
        Parameter::new("policy", Kind::Map, "The members that are to change, with their new values.").required(),
        Parameter::new("reason", Kind::Text, "Why.").required(),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: true,
    answers: Form::Object(ANSWER),
    plans: PLAN,
    refuses: &[Refused::InvalidValue, Refused::PolicyDenied],
    decide: Some(decide),
    run,
};

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(decided(invocation))
}

async fn decided(invocation: &Invocation) -> Result<Decision> {
    let policy_type = invocation.word("policy_type");
    let old = stored(&invocation.own, policy_type).await?;
    invocation.match_etag(&old.etag(), &format!("policy {policy_type}"))?;
    let changes = invocation.arguments["policy"].as_object().cloned().unwrap_or_default();
    if changes
        .iter()
        .all(|(key, value)| old.policy.get(key).and_then(Value::as_f64) == value.as_f64() && value.is_number())
    {
        let text = "nothing would change: name members with other values than they have";
        return Err(Refusal::new(Refused::InvalidValue, text).at("/policy").into());
    }
    let day = rfc3339(invocation.now_us() - 86_400_000_000);
    let made = "SELECT count(*) AS made FROM governance_adaptations WHERE timestamp > $1";
    let made = invocation.own.objects(made, &[day.into()]).await?;
    let made = made.first().and_then(|row| row["made"].as_u64()).unwrap_or_default();
    let limits = limits(&invocation.own).await?;
    let mut verdict = policy::judge(policy_type, &old.policy, &changes, limits, made);
    if policy_type == policy::APPROVALS {
        for (runbook, count) in automate::earned(&invocation.own, &old).await? {
            verdict.earn(&runbook, &format!("people have approved it, and it has healed, {count} times in a row"));
        }
    }
    if verdict.decision == Rails::Deny {
        let denied = verdict.rules.iter().filter(|said| said.decision == Rails::Deny);
        let mut refusal = Refusal::new(Refused::PolicyDenied, verdict.reason());
        refusal.faults = denied.map(|said| (format!("/policy/{}", said.key), said.detail.clone())).collect();
        return Err(refusal.into());
    }
    let mut new = old.policy.clone();
    new.extend(changes);
    automate::settle(&invocation.own, (policy_type, &old), &mut new).await?;
    let plan = json!({
        "policy_type": policy_type,
        "old_policy": old.policy,
        "new_policy": new,
        "etag": old.etag(),
        "policy": verdict.json(),
    });
    let asks = verdict.decision == Rails::NeedsApproval && invocation.approved_by.is_none();
    Ok(Decision { plan, approval: asks.then(|| verdict.reason()) })
}

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(propose(invocation))
}

async fn propose(invocation: &Invocation) -> Result<Value> {
    let plan = invocation.plan.clone().unwrap_or_default();
    let policy_type = invocation.word("policy_type");
    let old = stored(&invocation.own, policy_type).await?;
    if plan["etag"] != old.etag() {
        let text = format!("policy {policy_type} was changed meanwhile: read it again");
        return Err(Refusal::new(Refused::PreconditionFailed, text).into());
    }
    let (id, now) = (invocation.new_id(), invocation.now());
    let mut new = plan["new_policy"].as_object().cloned().unwrap_or_default();
    automate::settle(&invocation.own, (policy_type, &old), &mut new).await?;
    let insert = "INSERT INTO governance_adaptations (id, timestamp, policy_type, old_policy, new_policy, adaptation_reason) \
                  VALUES ($1, $2, $3, $4, $5, $6)";
    let values = vec![
        id.clone().into(),
        now.clone().into(),
        policy_type.into(),
        Value::Object(old.policy.clone()),
        Value::Object(new.clone()),
        invocation.word("reason").into(),
    ];
    let by = (invocation.actor(), now.as_str(), Some(id.as_str()));
    replace(&invocation.own, policy_type, &old, &new, by, (insert, values)).await?;
    Ok(json!({
        "adaptation_id": id,
        "policy_type": policy_type,
        "version": old.version + 1,
        "etag": etag(old.version + 1),
        "old_policy": old.policy,
        "new_policy": new,
        "policy": plan["policy"],
        "applied": true,
    }))
}
