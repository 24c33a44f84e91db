//! `audit_verify`: whether the audit is as it was written.
//!
//! **Invariant:** reads and changes nothing.

use serde_json::{Value, json};

use crate::Result;
use crate::operation::{Effect, Form, Lasts, Member, Operation};
use crate::role::Role;
use crate::session::{Invocation, Session};

const BROKEN: &[Member] = &[
    Member::new("seq", Form::Integer, "The number of the row."),
    Member::new("reason", Form::Text, "What is wrong with it."),
];
const ANSWER: &[Member] = &[
    Member::new("whole", Form::Boolean, "Whether every row follows the one before."),
    Member::new("rows", Form::Integer, "How many rows were read."),
    Member::new("head", Form::Text, "The hash of the last of them."),
    Member::new("broken", Form::Object(BROKEN), "The first row that does not follow.").or_null(),
];

/// `POST /audit/verify`.
pub(crate) const VERIFY: Operation = Operation {
    name: "audit_verify",
    does: "Reads the audit from its first row on and says whether each follows the one before, unchanged.",
    parameters: &[],
    role: Role::Operator,
    effect: Effect::Computes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Object(ANSWER),
    plans: &[],
    refuses: &[],
    decide: None,
    run: |invocation| Box::pin(verify(invocation)),
};

async fn verify(invocation: &Invocation) -> Result<Value> {
    report(&invocation.own).await
}

/// What a verification says.
pub(crate) async fn report(own: &Session) -> Result<Value> {
    let found = own.verify_audit().await?;
    let broken = found.broken.map(|(seq, reason)| json!({ "seq": seq, "reason": reason }));
    Ok(json!({ "whole": broken.is_none(), "rows": found.rows, "head": found.head, "broken": broken }))
}
