//! `approvals_approve`, `approvals_deny`: what another person asked for is allowed or not.
//!
//! **Invariant:** who asked cannot decide.

use crate::operation::{Effect, Form, Kind, Lasts, Operation, Parameter, Refused};
use crate::role::Role;

const PARAMETERS: &[Parameter] = &[
    Parameter::new("id", Kind::Id, "The approval.").required(),
    Parameter::new("comment", Kind::Text, "What is to be said of it."),
];

const REFUSES: &[Refused] = &[Refused::NotFound, Refused::Conflict, Refused::OwnRequest];

/// `POST /approvals/{id}:approve`.
pub(crate) const APPROVE: Operation = Operation {
    name: "approvals_approve",
    does: "Allows what another person asked for; it is decided anew and then done.",
    parameters: PARAMETERS,
    role: Role::Approver,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("approvals"),
    plans: &[],
    refuses: REFUSES,
    decide: None,
    run: |invocation| Box::pin(invocation.decide_approval(true)),
};

/// `POST /approvals/{id}:deny`.
pub(crate) const DENY: Operation = Operation {
    name: "approvals_deny",
    does: "Refuses what another person asked for.",
    parameters: PARAMETERS,
    role: Role::Approver,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("approvals"),
    plans: &[],
    refuses: REFUSES,
    decide: None,
    run: |invocation| Box::pin(invocation.decide_approval(false)),
};
