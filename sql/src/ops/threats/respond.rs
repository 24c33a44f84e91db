//! `threats_respond`: does something about a threat: contains it, keeps what is known of it, or tells of it.
//!
//! What contains expires by itself and is taken back then ([`super::expire`]).
//!
//! **Invariant:** what may be done, [`super::policy`] says; evidence and the response's row are there before anything is done.

mod asked;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use self::asked::{Asked, On};
use super::policy::{Action, VERDICT};
use crate::actuator::{Effect as Done, Order};
use crate::operation::{
    Component, Decision, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused, answer,
    time_us,
};
use crate::role::Role;
use crate::session::{Invocation, Session, rfc3339};
use crate::text::hex;
use crate::{Error, Result, jsonb};

const TARGET: &[Parameter] = &[
    Parameter::new("executor", Kind::Text, "Its actuator; any that knows the name where it is left out."),
    Parameter::new("name", Kind::Text, "The service, the address, or the user.").required(),
];

const ANSWER: &[Member] = &[
    Member::new("response_id", Form::Id, "The response, which can be taken back."),
    Member::new("threat_event_id", Form::Id, "The threat."),
    Member::new("threat_status", Form::Text, "How the threat stands now."),
    Member::new("action", Form::Choice(Action::NAMES), "What was done."),
    Member::new("target", Form::Object(asked::ON), "On what.").or_null(),
    Member::new("state", Form::Choice(&["active", "done"]), "Whether it is in force, or over."),
    Member::new("policy", Form::Object(VERDICT), "What the rules say of it."),
    Member::new("blast_radius", Form::Object(answer::BLAST_RADIUS), "How much it touches."),
    Member::new("contained_at", Form::Time, "When it contained the threat.").or_null(),
    Member::new("containment_s", Form::Number, "How long after its detection, in seconds.").or_null(),
    Member::new("expires_at", Form::Time, "When it is taken back.").or_null(),
    Member::new("evidence_ref", Form::Text, "Where the evidence is."),
    Member::new("evidence_sha256", Form::Text, "The SHA-256 of it."),
];

/// `POST /threats/respond`.
pub(crate) const OPERATION: Operation = Operation {
    name: "threats_respond",
    does: "Responds to a threat: isolates or stops a target, blocks an address or a user at juno's doors, keeps evidence, or tells.",
    parameters: &[
        Parameter::new("threat_event_id", Kind::Id, "The threat.").required(),
        Parameter::new("action", Kind::Choice(Action::NAMES), "What is done.").required(),
        Parameter::new("target", Kind::Object(TARGET), "On what; the threat's entity where it is left out."),
        Parameter::new("ttl_s", Kind::Integer(1, 86_400), "After so many seconds it is taken back.").or("3600"),
        Parameter::new("approval", Kind::Choice(&["auto", "required"]), "Whether another person must agree anyway.")
            .or("\"auto\""),
        Parameter::new("resolve", Kind::Boolean, "Whether the threat is resolved once it is contained.").or("false"),
        Parameter::new("timeout_s", Kind::Integer(1, 600), "How long an actuator may take.").or("60"),
    ],
    role: Role::Responder,
    effect: Effect::Acts,
    component: Some(Component::Threats),
    lasts: Lasts::Long,
    matched: false,
    answers: Form::Object(ANSWER),
    plans: asked::PLAN,
    refuses: &[
        Refused::InvalidValue,
        Refused::MissingField,
        Refused::NotFound,
        Refused::UnknownTarget,
        Refused::ProtectedTarget,
        Refused::AlreadyContained,
        Refused::AlreadyResolved,
        Refused::BudgetExhausted,
        Refused::Conflict,
        Refused::Interrupted,
        Refused::TargetTimeout,
    ],
    decide: Some(decide),
    run,
};

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(async move {
        let asked = Asked::of(invocation).await?;
        let verdict = asked.verdict(invocation).await?;
        let approval = verdict.approval()?;
        Ok(Decision { plan: asked.plan(&verdict), approval })
    })
}

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(respond(invocation))
}

async fn respond(invocation: &Invocation) -> Result<Value> {
    let own = &invocation.own;
    let _turn = Asked::of(invocation).await?.turn(own)?;
    // Nobody else acts on it from here on: what is there now is judged once more.
    let asked = Asked::of(invocation).await?;
    let verdict = asked.verdict(invocation).await?;
    if verdict.approval()?.is_some() {
        return Err(Refusal::new(Refused::Conflict, "things changed meanwhile, and it must be approved now").into());
    }
    invocation.progress(0.1).await?;
    let response = Response::begin(invocation, &asked).await?;
    if let Err(error) = response.act(invocation, &asked).await {
        let failed = "UPDATE juno_threat_responses SET state = $2, error = $3 WHERE id = $1";
        let state = if may_have_effect(&error) { "uncertain" } else { "failed" };
        own.changed_rows(failed, &[response.id.as_str().into(), state.into(), error.to_string().into()]).await?;
        note(own, &asked.threat_id, None).await?;
        return Err(error);
    }
    let contained_at = asked.action.contains().then(|| own.now());
    let state = if asked.action.contains() { "active" } else { "done" };
    let done = "UPDATE juno_threat_responses SET state = $2, contained_at = $3 WHERE id = $1";
    own.changed_rows(done, &[response.id.as_str().into(), state.into(), contained_at.clone().into()]).await?;
    let resolved_at = contained_at.clone().filter(|_| invocation.flag("resolve"));
    let status = note(own, &asked.threat_id, resolved_at.as_deref()).await?;
    let data =
        json!({ "status": status, "action": asked.action.name(), "target": asked.name, "response_id": response.id });
    own.tell("threat", &asked.threat_id, data).await?;
    Ok(response.told(&asked, &verdict.json(), (state, status, contained_at)))
}

/// Whether what failed may have been done all the same: then it is taken back in time like what was done.
fn may_have_effect(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if matches!(refusal.kind, Refused::TargetTimeout | Refused::Interrupted))
}

/// A response under way.
struct Response {
    id: String,
    expires_us: Option<i64>,
    sha256: String,
}

impl Response {
    /// Writes down what is known and what is about to be done.
    async fn begin(invocation: &Invocation, asked: &Asked) -> Result<Self> {
        let (own, now_us) = (&invocation.own, invocation.now_us());
        let ttl_us = invocation.arguments["ttl_s"].as_i64().unwrap_or(3_600) * 1_000_000;
        let expires_us = asked.action.contains().then(|| now_us + ttl_us);
        let evidence = jsonb::canonical(&asked.evidence(now_us).to_string())?;
        let sha256 = hex(digest(&SHA256, evidence.as_bytes()).as_ref());
        let response = Self { id: invocation.new_id(), expires_us, sha256 };
        let insert = "INSERT INTO juno_threat_responses (id, threat_event_id, at, action, executor, target, state, actor, \
                      approved_by, expires_at, undo_attempts, evidence, evidence_sha256) \
                      VALUES ($1, $2, $3, $4, $5, $6, 'ordered', $7, $8, $9, 0, $10, $11)";
        let values = [
            response.id.as_str().into(),
            asked.threat_id.as_str().into(),
            rfc3339(now_us).into(),
            asked.action.name().into(),
            asked.executor().into(),
            asked.name.as_str().into(),
            invocation.actor().into(),
            invocation.approved_by.clone().into(),
            expires_us.map(rfc3339).into(),
            serde_json::from_str(&evidence).unwrap_or_default(),
            response.sha256.as_str().into(),
        ];
        own.changed_rows(insert, &values).await?;
        Ok(response)
    }

    async fn act(&self, invocation: &Invocation, asked: &Asked) -> Result<()> {
        let own = &invocation.own;
        if let (Some(action), On::Target(found)) = (asked.action.ordered(), &asked.on) {
            let limit_ms = invocation.arguments["timeout_s"].as_u64().unwrap_or(60) * 1_000;
            let mandate = invocation.mandate(Some(&asked.threat_id));
            let (order, done): (Order, Done) = own.give_order(mandate, found, (action, Value::Null, limit_ms)).await?;
            let keep = "UPDATE juno_threat_responses SET given = $2, effect = $3 WHERE id = $1";
            own.changed_rows(keep, &[self.id.as_str().into(), json!(order), json!(done)]).await?;
            own.see_done(found, &order, &done).await?;
        }
        if let (Some(kind), Some(expires_us)) = (asked.action.blocked(), self.expires_us) {
            own.block(&self.id, (kind, &asked.name), invocation.actor(), expires_us).await?;
        }
        Ok(())
    }

    /// The answer.
    fn told(
        &self,
        asked: &Asked,
        policy: &Value,
        (state, status, contained_at): (&str, &str, Option<String>),
    ) -> Value {
        let us = |at: &str| time_us(at).unwrap_or_default();
        let containment_s = contained_at.as_deref().map(|at| (us(at) - us(&asked.detected_at)) as f64 / 1e6);
        json!({
            "response_id": self.id,
            "threat_event_id": asked.threat_id,
            "threat_status": status,
            "action": asked.action.name(),
            "target": asked.target(),
            "state": state,
            "policy": policy,
            "blast_radius": asked.blast_radius(),
            "contained_at": contained_at,
            "containment_s": containment_s,
            "expires_at": self.expires_us.map(rfc3339),
            "evidence_ref": format!("/api/v4/threats/responses/{}", self.id),
            "evidence_sha256": self.sha256,
        })
    }
}

/// Writes the responses of a threat into its row, and the time of its resolution where it is given; the status that it has then.
pub(super) async fn note(own: &Session, threat_id: &str, resolved_at: Option<&str>) -> Result<&'static str> {
    let all = "SELECT id, at, action, executor, target, state, actor, contained_at, expires_at, undone_at \
               FROM juno_threat_responses WHERE threat_event_id = $1 ORDER BY at, id";
    let actions = own.objects(all, &[threat_id.into()]).await?;
    let before = "SELECT response_actions, resolved_at FROM threat_events WHERE id = $1";
    let mut before = own.objects(before, &[threat_id.into()]).await?.pop().unwrap_or_default();
    let resolved = before.remove("resolved_at").filter(|at| !at.is_null()).unwrap_or_else(|| resolved_at.into());
    let before = before.remove("response_actions").unwrap_or_default();
    let is_in_force = |row: &Map<String, Value>| row["state"] == "active" || row["state"] == "undo_failed";
    let status = if actions.iter().any(is_in_force) { "contained" } else { "acknowledged" };
    let mut noted = json!({ "state": status, "actions": actions });
    // What others wrote there before is a list.
    let earlier = if before.is_array() { before } else { before["earlier"].clone() };
    if earlier.is_array() {
        noted["earlier"] = earlier;
    }
    let update = "UPDATE threat_events SET response_actions = $2, resolved_at = $3 WHERE id = $1";
    let changed = own.changed_rows(update, &[threat_id.into(), noted, resolved]).await?;
    match changed {
        0 => Err(Error::Corrupt(format!("threat {threat_id} has responses and is not there"))),
        _ => Ok(if resolved_at.is_some() { "resolved" } else { status }),
    }
}

#[cfg(test)]
mod tests;
