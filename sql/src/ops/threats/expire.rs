//! Responses to threats taken back: when their time is over, or when somebody says so.
//!
//! **Invariant:** what was cut off in the middle is taken back too when its time is over; while the kill switch is engaged,
//! actuators are left alone and the response stays.

use serde_json::{Map, Value, json};

use super::policy::Action;
use super::respond::note;
use crate::actuator::{Effect as Done, Observation, Order};
use crate::operation::{Decision, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::{Invocation, Mandate, Session, rfc3339};
use crate::{Error, Result};

/// So often it is tried to take a response back.
const UNDO_ATTEMPTS_MAX: i64 = 5;
/// Responses that are taken back at a time.
const RESPONSES_MAX: usize = 100;
/// How long an actuator may take, in ms.
const LIMIT_MS: u64 = 60_000;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Responses that were taken back.
    pub undone: usize,
    /// Those that must wait: for the kill switch, or for another operation at the target.
    pub waiting: usize,
    /// Those that could not be taken back.
    pub failed: usize,
}

/// Takes back the responses whose time is over.
///
/// # Errors
/// Where juno's own tables cannot be read or written.
pub async fn expire_responses(own: &Session) -> Result<Swept> {
    // What an admin changed by SQL counts from here on.
    own.load_blocks().await?;
    let due = format!(
        "SELECT * FROM juno_threat_responses WHERE state IN ('active', 'ordered', 'uncertain') AND expires_at <= $1 \
         ORDER BY expires_at LIMIT {RESPONSES_MAX}"
    );
    let now_us = own.db().system().clock().now_us();
    let due = own.objects(&due, &[rfc3339(now_us).into()]).await?;
    let mut swept = Swept::default();
    if due.is_empty() {
        return Ok(swept);
    }
    let killed = own.kill_switch().await?.is_some_and(|row| row["engaged"] == true);
    for row in &due {
        let acts = action(row).is_some_and(|action| action.ordered().is_some());
        if killed && acts {
            swept.waiting += 1;
            continue;
        }
        let id = row["id"].as_str().unwrap_or_default();
        let mandate = Mandate {
            operation: "expire_responses",
            actor: "juno",
            job: None,
            subject: row["threat_event_id"].as_str(),
        };
        match take_back(own, mandate, row, "expired").await {
            Ok(()) => swept.undone += 1,
            Err(Error::Refused(refusal)) if refusal.kind == Refused::Concurrent => swept.waiting += 1,
            Err(error) => {
                tracing::warn!(response = id, "a response to a threat could not be taken back: {error}");
                swept.failed += 1;
            }
        }
    }
    Ok(swept)
}

fn action(row: &Map<String, Value>) -> Option<Action> {
    row["action"].as_str().and_then(Action::named)
}

/// Takes one response back and writes the state that it has then; after too many failures that it is left as it is.
async fn take_back(own: &Session, mandate: Mandate<'_>, row: &Map<String, Value>, state: &str) -> Result<()> {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let (id, threat_id) = (text("id"), text("threat_event_id"));
    let blocked = action(row).and_then(Action::blocked).unwrap_or_default();
    let _turn = own.turn(text("executor"), blocked, text("target"))?;
    let undone = match action(row) {
        Some(action) if action.ordered().is_some() => reversed(own, mandate, row, action).await,
        _ => own.unblock(id).await,
    };
    let attempts = row["undo_attempts"].as_i64().unwrap_or_default() + 1;
    let (state, error) = match &undone {
        Ok(()) => (state, None),
        Err(error) if attempts >= UNDO_ATTEMPTS_MAX => ("undo_failed", Some(error.to_string())),
        Err(error) => (text("state"), Some(error.to_string())),
    };
    let update =
        "UPDATE juno_threat_responses SET state = $2, undone_at = $3, undo_attempts = $4, error = $5 WHERE id = $1";
    let undone_at = undone.is_ok().then(|| own.now());
    own.changed_rows(update, &[id.into(), state.into(), undone_at.into(), attempts.into(), error.into()]).await?;
    let status = note(own, threat_id, None).await?;
    if state != text("state") {
        let data = json!({ "status": status, "response_id": id, "response": state, "target": row["target"] });
        own.tell("threat", threat_id, data).await?;
    }
    undone
}

/// Gives the actuator the order that takes the response's own back.
async fn reversed(own: &Session, mandate: Mandate<'_>, row: &Map<String, Value>, action: Action) -> Result<()> {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let Some(ordered) = action.ordered() else { return Ok(()) };
    let found = own.target(row["executor"].as_str(), text("target")).await?;
    // An order that was cut off has no row of what it did; its reverse needs none.
    let order = serde_json::from_value::<Order>(row["given"].clone()).unwrap_or_else(|_| Order {
        target: text("target").to_owned(),
        action: ordered,
        params: Value::Null,
        key: text("id").to_owned(),
        limit_ms: LIMIT_MS,
    });
    let nothing = || Done { before: Observation::default(), after: found.observed.clone(), is_repetition: false };
    let done = serde_json::from_value::<Done>(row["effect"].clone()).unwrap_or_else(|_| nothing());
    own.take_back(mandate, &found, (&order, &done)).await.map(drop)
}

const RESPONSE: Member = Member::new("response_id", Form::Id, "The response.");
const ACTION: Member = Member::new("action", Form::Choice(Action::NAMES), "What was done.");
const TARGET: Member = Member::new("target", Form::Text, "On what.").or_null();
const PLAN: &[Member] =
    &[RESPONSE, ACTION, TARGET, Member::new("take_back", Form::Boolean, "Whether it is taken back.")];
const ANSWER: &[Member] = &[
    RESPONSE,
    Member::new("threat_event_id", Form::Id, "The threat."),
    ACTION,
    TARGET,
    Member::new("state", Form::Choice(&["undone"]), "What it is now."),
    Member::new("undone_at", Form::Time, "When."),
    Member::new("reason", Form::Text, "Why."),
];

/// `POST /threats/responses/{id}:undo`.
pub(crate) const UNDO: Operation = Operation {
    name: "threats_undo",
    does: "Takes a response to a threat back before its time is over.",
    parameters: &[
        Parameter::new("id", Kind::Id, "The response.").required(),
        Parameter::new("reason", Kind::Text, "Why.").required(),
    ],
    role: Role::Responder,
    effect: Effect::Acts,
    component: None,
    lasts: Lasts::Long,
    matched: false,
    answers: Form::Object(ANSWER),
    plans: PLAN,
    refuses: &[Refused::NotFound, Refused::Conflict],
    decide: Some(decide),
    run,
};

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(async move {
        let row = in_force(invocation).await?;
        let plan =
            json!({ "response_id": row["id"], "action": row["action"], "target": row["target"], "take_back": true });
        Ok(Decision { plan, approval: None })
    })
}

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(async move {
        let row = in_force(invocation).await?;
        let mandate = invocation.mandate(row["threat_event_id"].as_str());
        take_back(&invocation.own, mandate, &row, "undone").await?;
        Ok(json!({
            "response_id": row["id"], "threat_event_id": row["threat_event_id"], "action": row["action"],
            "target": row["target"], "state": "undone", "undone_at": invocation.now(), "reason": invocation.word("reason"),
        }))
    })
}

/// The response, which must be in force.
async fn in_force(invocation: &Invocation) -> Result<Map<String, Value>> {
    let id = invocation.word("id");
    let row = invocation.own.objects("SELECT * FROM juno_threat_responses WHERE id = $1", &[id.into()]).await?.pop();
    let row = row.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no response {id}")).at("/id"))?;
    match row["state"].as_str() {
        Some("active" | "uncertain" | "undo_failed") => Ok(row),
        state => {
            let text = format!("it is {} and not in force: there is nothing to take back", state.unwrap_or_default());
            Err(Refusal::new(Refused::Conflict, text).into())
        }
    }
}
