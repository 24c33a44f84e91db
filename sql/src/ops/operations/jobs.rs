//! `operations_jobs_cancel`: asks a job to end.
//!
//! **Invariant:** a job that acts on other systems ends between two of its steps and never within one.

use serde_json::Value;

use crate::Result;
use crate::operation::{Effect, Form, Kind, Lasts, Operation, Parameter, Refused};
use crate::role::Role;
use crate::session::Invocation;

/// `DELETE /operations/jobs/{id}`.
pub(crate) const CANCEL: Operation = Operation {
    name: "operations_jobs_cancel",
    does: "Asks a job to end; one that has ended already is a conflict.",
    parameters: &[Parameter::new("id", Kind::Id, "The job.").required()],
    role: Role::Operator,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("operations_jobs"),
    plans: &[],
    refuses: &[Refused::NotFound, Refused::Conflict],
    decide: None,
    run: |invocation| Box::pin(cancel(invocation)),
};

async fn cancel(invocation: &Invocation) -> Result<Value> {
    invocation.own.cancel_job(invocation.word("id")).await.map(Value::Object)
}
