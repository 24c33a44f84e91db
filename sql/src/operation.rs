//! Operations: procedures with named arguments that REST posts to and CALL calls, declared once.
//!
//! To add one: a file with an [`Operation`] and its functions, its name in [`crate::ops::OPERATIONS`], and a row in the server's
//! table of endpoints. The declaration serves CALL, the check of REST bodies and the OpenAPI document.
//!
//! **Invariant:** declarations and checks only; what an operation does is in its own file, and what surrounds it in the session.

pub(crate) mod answer;
mod parameter;
mod quota;
mod refusal;
mod rules;
mod settings;
mod trace;

use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Map, Value};

pub use self::answer::{Form, Member};
pub use self::parameter::{Kind, Parameter, check};
pub(crate) use self::parameter::{duration_us, time_us};
pub use self::quota::Quota;
pub use self::refusal::{Refusal, Refused};
pub use self::rules::HouseRules;
pub use self::settings::{Automation, Component, OperationSettings, Shown};
pub(crate) use self::trace::{in_trace, is_trace};
pub use self::trace::{trace_id, trace_of};
use crate::role::Role;
use crate::session::Invocation;
use crate::types::TYPE_KEY;
use crate::{Error, Result};

/// The one column that an operation answers CALL with.
pub(crate) const RESULT: &str = "result";
/// CALL's argument for what REST has in the header Idempotency-Key.
pub(crate) const KEY: &str = "idempotency_key";
/// CALL's argument for what REST has in the header If-Match.
pub(crate) const IF_MATCH: &str = "if_match";
/// CALL's argument for what REST has in the header `Prefer: wait=N`.
pub(crate) const WAIT: &str = "wait_s";
/// The argument of operations that can be asked what they would do.
pub const DRY_RUN: &str = "dry_run";
/// The longest wait for a job, in seconds.
pub const WAIT_S_MAX: i64 = 30;
/// The longest idempotency key, in characters.
pub const KEY_CHARS_MAX: usize = 255;

/// What an operation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing, or rows that it may make again: no audit.
    Computes,
    /// What juno itself holds: audited.
    Changes,
    /// Other systems: audited, under the kill switch and the freeze windows, with an idempotency key.
    Acts,
}

/// Whether an operation is done while the caller waits.
#[derive(Debug, Clone, Copy)]
pub enum Lasts {
    /// It is.
    Short,
    /// It becomes a job.
    Long,
    /// It becomes a job where its arguments ask for much.
    Depends(fn(&Map<String, Value>) -> bool),
}

/// A future of an operation.
pub(crate) type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;
/// What an operation does; gives its result.
pub(crate) type Run = for<'a> fn(&'a Invocation) -> Doing<'a, Value>;
/// What an operation decides before it does anything.
pub(crate) type Decide = for<'a> fn(&'a Invocation) -> Doing<'a, Decision>;

/// What was decided before anything is done. A refusal is an error instead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    /// What would be done: the answer to a dry run, and kept with the job.
    pub(crate) plan: Value,
    /// Why another person must approve it first, where one must.
    pub(crate) approval: Option<String>,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// The name that CALL knows it by.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub does: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// Who may ask for it.
    pub role: Role,
    /// What it changes.
    pub effect: Effect,
    /// The component without which it is refused.
    pub component: Option<Component>,
    /// Whether it becomes a job.
    pub lasts: Lasts,
    /// Whether it changes something that has an ETag.
    pub matched: bool,
    /// What it answers with; a job has it as `result`.
    pub answers: Form,
    /// What its decision says: the answer to a dry run, and `plan` of its jobs. None where it decides nothing.
    pub plans: &'static [Member],
    /// What it is refused with before it begins, beside what stops every operation.
    pub refuses: &'static [Refused],
    /// Decides before anything is done, so that refusals are immediate; what has it takes `dry_run`.
    pub(crate) decide: Option<Decide>,
    /// Does it.
    pub(crate) run: Run,
}

const DRY: Parameter =
    Parameter::new(DRY_RUN, Kind::Boolean, "Whether only to say what would be decided and done.").or("false");

impl Operation {
    /// Whether it takes `dry_run`.
    pub fn has_dry_run(&self) -> bool {
        self.decide.is_some()
    }

    /// Whether it may become a job.
    pub fn may_last(&self) -> bool {
        !matches!(self.lasts, Lasts::Short) || self.decide.is_some()
    }

    /// All that a body may hold.
    pub fn body(&self) -> Vec<Parameter> {
        let dry_run = self.has_dry_run().then_some(DRY);
        self.parameters.iter().copied().chain(dry_run).collect()
    }

    /// The names of CALL's arguments, in order.
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.body().iter().map(|parameter| parameter.name).collect();
        names.push(KEY);
        if self.may_last() {
            names.push(WAIT);
        }
        if self.matched {
            names.push(IF_MATCH);
        }
        names
    }

    /// The columns that CALL answers with: one JSON document.
    pub(crate) fn schema() -> SchemaRef {
        let field = Field::new(RESULT, DataType::Utf8, true);
        Arc::new(Schema::new(vec![field.with_metadata([(TYPE_KEY.to_owned(), "jsonb".to_owned())].into())]))
    }
}

/// A request for an operation.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// The idempotency key.
    pub key: Option<String>,
    /// How long to wait for a job, in seconds.
    pub wait_s: u64,
    /// What the stored thing must be.
    pub if_match: Option<String>,
    /// The id that the client or the server gave the request.
    pub request_id: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The result, or the job.
    pub value: Value,
    /// The job, where the operation became one.
    pub job: Option<String>,
    /// Whether it still waits or runs.
    pub pending: bool,
    /// Whether it is the stored answer of an earlier request with the same key.
    pub replayed: bool,
    /// The quota that it used some of, where that is known.
    pub quota: Option<Quota>,
}

/// The arguments of a CALL as JSON, and what REST has in headers.
pub(crate) fn request(operation: &Operation, given: Vec<(&'static str, Value)>) -> Result<Request> {
    let mut request = Request::default();
    for (name, value) in given {
        match name {
            KEY => request.key = value.as_str().map(str::to_owned),
            IF_MATCH => request.if_match = value.as_str().map(str::to_owned),
            WAIT => {
                let wait = value.as_i64().filter(|wait| (0..=WAIT_S_MAX).contains(wait)).ok_or_else(|| {
                    Error::InvalidArgument(format!("{WAIT} of {} must be from 0 to {WAIT_S_MAX}", operation.name))
                })?;
                request.wait_s = wait.unsigned_abs();
            }
            name => {
                request.arguments.insert(name.to_owned(), value);
            }
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::OPERATIONS;

    fn walk(parameters: &[Parameter], at: &str) {
        for parameter in parameters {
            assert!(parameter.does.ends_with('.'), "{at}: {}", parameter.name);
            assert!(!(parameter.required && parameter.default.is_some()), "{at}: {}", parameter.name);
            if let Some(default) = parameter.default {
                let one = [Parameter { required: true, default: None, ..*parameter }];
                let value: Value = serde_json::from_str(default).expect(default);
                let given = Map::from_iter([(parameter.name.to_owned(), value)]);
                check(&one, given).unwrap_or_else(|error| panic!("{at}: {error}"));
            }
            match parameter.kind {
                Kind::Object(members) => walk(members, at),
                Kind::List(Kind::Object(members), _) => walk(members, at),
                _ => {}
            }
        }
    }

    fn within(form: &Form, at: &str) {
        match form {
            Form::Object(members) => answered(members, at),
            Form::Extended(members, rest) => {
                answered(members, at);
                within(rest, at);
            }
            Form::Map(item) | Form::List(item) => within(item, at),
            Form::Either(forms) => {
                assert!(forms.len() > 1, "{at} has no choice");
                forms.iter().for_each(|form| within(form, at));
            }
            _ => {}
        }
    }

    fn answered(members: &[Member], at: &str) {
        let names: BTreeSet<&str> = members.iter().map(|member| member.name).collect();
        assert_eq!(names.len(), members.len(), "{at} has a member twice");
        for member in members {
            assert!(member.says.ends_with('.'), "{at}: {}", member.name);
            within(&member.form, &format!("{at}/{}", member.name));
        }
    }

    #[test]
    fn declarations_are_whole() {
        let mut names = BTreeSet::new();
        for operation in OPERATIONS {
            assert!(names.insert(operation.name), "{} stands twice", operation.name);
            assert!(operation.does.ends_with('.'), "{}", operation.name);
            let reads = operation.effect == Effect::Computes && operation.decide.is_none();
            assert!(operation.role >= Role::Operator || reads, "{} changes something", operation.name);
            assert!(operation.effect != Effect::Acts || operation.decide.is_some(), "{} must decide", operation.name);
            let arguments = operation.arguments();
            assert_eq!(arguments.iter().collect::<BTreeSet<_>>().len(), arguments.len(), "{}", operation.name);
            walk(operation.parameters, operation.name);
            within(&operation.answers, operation.name);
            answered(operation.plans, operation.name);
            assert_eq!(operation.decide.is_some(), !operation.plans.is_empty(), "{}", operation.name);
        }
    }
}
