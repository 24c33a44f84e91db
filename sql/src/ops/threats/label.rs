//! `threats_label`: what people say of a threat: a false positive or not, resolved or not.
//!
//! **Invariant:** a label changes what it names and nothing else; the time of resolution is set once.

use serde_json::{Value, json};

use crate::Result;
use crate::operation::{Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::Invocation;

/// `PATCH /threats/{id}`.
pub(crate) const OPERATION: Operation = Operation {
    name: "threats_label",
    does: "Says of a threat whether it is a false positive and whether it is resolved.",
    parameters: &[
        Parameter::new("id", Kind::Id, "The threat.").required(),
        Parameter::new("false_positive", Kind::Boolean, "Whether it is none."),
        Parameter::new("resolved", Kind::Boolean, "Whether it is dealt with."),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: None,
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Row("threats_history"),
    plans: &[],
    refuses: &[Refused::MissingField, Refused::NotFound],
    decide: None,
    run: |invocation| Box::pin(label(invocation)),
};

async fn label(invocation: &Invocation) -> Result<Value> {
    let (own, id) = (&invocation.own, invocation.word("id"));
    let truth = |name: &str| invocation.arguments.get(name).and_then(Value::as_bool);
    let (false_positive, resolved) = (truth("false_positive"), truth("resolved"));
    if false_positive.is_none() && resolved.is_none() {
        let text = "say false_positive or resolved, or both";
        return Err(Refusal::new(Refused::MissingField, text).at("/false_positive").into());
    }
    let found = "SELECT * FROM threats_history WHERE id = $1";
    let row = own.objects(found, &[id.into()]).await?.pop();
    let row = row.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no threat {id}")).at("/id"))?;
    let resolved_at = match resolved {
        Some(true) if row["resolved_at"].is_null() => invocation.now().into(),
        Some(false) => Value::Null,
        _ => row["resolved_at"].clone(),
    };
    let false_positive = false_positive.map_or(row["false_positive"].clone(), Value::from);
    let update = "UPDATE threat_events SET false_positive = $2, resolved_at = $3 WHERE id = $1";
    own.changed_rows(update, &[id.into(), false_positive, resolved_at]).await?;
    let row = own.objects(found, &[id.into()]).await?.pop().unwrap_or_default();
    let data = json!({ "status": row.get("status"), "threat_type": row.get("threat_type") });
    own.tell("threat", id, data).await?;
    Ok(row.into())
}
