//! The steps of a runbook, its verification, and its way back.
//!
//! Samples are what [`HEALTH`] has of the target since the action, where the autopilot watches it; else whether its health check
//! answers, asked once a second. A caller's own SELECT is asked once a second. Whatever they say, what is seen of the target in the
//! end must not contradict that the steps were taken.
//!
//! **Invariant:** steps are taken back in reverse order, and only those that were answered as done.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::asked::Asked;
use crate::actuator::shown::contradiction;
use crate::actuator::{Effect, Order};
use crate::operation::{Form, Member, time_us};
use crate::ops::healing::HEALTH;
use crate::ops::healing::incident::IncidentChange;
use crate::ops::healing::policy::cause::CAUSE_NAMES;
use crate::ops::healing::policy::status::Status;
use crate::ops::healing::policy::verification::{Outcome, Sample};
use crate::session::{Found, Invocation, refused, rfc3339};
use crate::{Error, Result};

/// Between two looks.
const STEP: Duration = Duration::from_secs(1);

/// What a verification goes by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Evidence {
    /// A caller's own SELECT.
    Select,
    /// What juno sees of the target itself.
    #[default]
    Seen,
    /// What whoever carries out the orders says of it.
    Told,
}

impl Evidence {
    fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Seen => "seen",
            Self::Told => "told",
        }
    }
}

const DONE: &[Member] = &[
    Member::new("name", Form::Text, "The step."),
    Member::new("started_at", Form::Time, "When it began."),
    Member::new("finished_at", Form::Time, "When it ended."),
    Member::new("outcome", Form::Text, "done, or what went wrong."),
    Member::new("before", Form::Map(&Form::Any), "The target before.").or_null().sometimes(),
    Member::new("after", Form::Map(&Form::Any), "The target afterwards.").or_null().sometimes(),
];
const VERIFICATION: &[Member] = &[
    Member::new("passed", Form::Boolean, "Whether it healed."),
    Member::new("observed", Form::Map(&Form::Number), "What was seen last.").or_null(),
    Member::new("looks", Form::Integer, "How often was looked."),
    Member::new("evidence", Form::Choice(&["select", "seen", "told"]), "What it goes by."),
    Member::new("contradiction", Form::Text, "What is to be seen and speaks against the order.").sometimes().or_null(),
];
/// What is told of what was done.
pub(super) const ANSWER: &[Member] = &[
    Member::new("remediation_id", Form::Id, "The remediation."),
    Member::new("incident_id", Form::Id, "The incident."),
    Member::new("runbook", Form::Text, "The runbook."),
    Member::new("cause", Form::Choice(&CAUSE_NAMES), "What it was done against.").or_null(),
    Member::new("probability", Form::Number, "How probable the diagnosis called that cause.").or_null(),
    Member::new("target", Form::Text, "The name of the target."),
    Member::new("steps", Form::List(&Form::Object(DONE)), "What was done, and what was taken back."),
    Member::new("verification", Form::Object(VERIFICATION), "Whether it healed.").or_null(),
    Member::new("rolled_back", Form::Boolean, "Whether it was taken back."),
    Member::new("success", Form::Boolean, "Whether it healed."),
    Member::new("status", Form::Text, "How the incident stands then."),
    Member::new("resolution_time_seconds", Form::Integer, "From its detection until it was resolved; null before.")
        .or_null(),
];

/// What was done so far.
#[derive(Default)]
pub(super) struct Work {
    steps: Vec<Value>,
    done: Vec<(Order, Effect)>,
    verification: Value,
    evidence: Evidence,
    rolled_back: bool,
}

impl Work {
    /// Takes the steps and verifies; whether it healed.
    pub(super) async fn carry_out(&mut self, invocation: &Invocation, asked: &Asked, moves: bool) -> Result<bool> {
        let mandate = invocation.mandate(Some(&asked.incident.id));
        let limit_ms = u64::from(asked.runbook.timeout_s) * 1_000;
        let count = asked.runbook.steps.len() as f64;
        for (number, step) in asked.runbook.steps.iter().enumerate() {
            invocation.progress(0.5 * number as f64 / count).await?;
            let began = invocation.now();
            let what = (step.action, step.params.clone(), limit_ms);
            let given = invocation.own.give_order(mandate, &asked.found, what).await;
            let (before, after, outcome) = match &given {
                Ok((_, effect)) => (json!(effect.before), json!(effect.after), "done".to_owned()),
                Err(error) => (Value::Null, Value::Null, error.to_string()),
            };
            self.steps.push(json!({
                "name": step.action.name(), "started_at": began, "finished_at": invocation.now(), "outcome": outcome,
                "before": before, "after": after,
            }));
            self.done.push(given?);
        }
        invocation.progress(0.5).await?;
        if moves {
            let verifying = IncidentChange { status: Some(Status::Verifying), ..IncidentChange::default() };
            invocation.own.change_incident(&asked.incident.id, verifying).await?;
        }
        self.verify(invocation, asked).await
    }

    async fn verify(&mut self, invocation: &Invocation, asked: &Asked) -> Result<bool> {
        let acted_us = invocation.now_us();
        let mut samples: Vec<Sample> = Vec::new();
        loop {
            tokio::time::sleep(STEP).await;
            invocation.progress(0.75).await?;
            self.evidence = look(invocation, asked, acted_us, &mut samples).await?;
            let passed = match asked.runbook.verify.outcome(&samples, acted_us, invocation.now_us()) {
                Outcome::Pending => continue,
                Outcome::Passed { .. } => true,
                Outcome::Failed { .. } => false,
            };
            let contradiction = if passed { self.contradiction(asked).await } else { None };
            let passed = passed && contradiction.is_none();
            let observed = samples.last().map(|sample| &sample.values);
            self.verification = json!({
                "passed": passed, "observed": observed, "looks": samples.len(), "evidence": self.evidence.name(),
                "contradiction": contradiction,
            });
            return Ok(passed);
        }
    }

    /// How the target, as it is seen now, contradicts that the steps were taken; None where it does not show itself either.
    async fn contradiction(&self, asked: &Asked) -> Option<String> {
        let Found { actuator, target, observed: before, .. } = &asked.found;
        let now = actuator.glance(&target.name).await.ok()?;
        self.done.iter().find_map(|(order, effect)| contradiction(order, (before, &effect.after), &now))
    }

    /// Whether nothing but the word of whoever carried out the orders says that it healed.
    pub(super) fn is_hearsay(&self) -> bool {
        self.evidence == Evidence::Told
    }

    /// Takes back what was done; what cannot be taken back is told.
    pub(super) async fn take_back(&mut self, invocation: &Invocation, asked: &Asked) {
        let mandate = invocation.mandate(Some(&asked.incident.id));
        for (order, effect) in self.done.iter().rev() {
            let began = invocation.now();
            let taken = invocation.own.take_back(mandate, &asked.found, (order, effect)).await;
            let outcome = match taken {
                Ok(None) => continue,
                Ok(Some(_)) => "done".to_owned(),
                Err(error) => error.to_string(),
            };
            self.rolled_back |= outcome == "done";
            self.steps.push(json!({
                "name": format!("undo of {}", order.action.name()), "started_at": began,
                "finished_at": invocation.now(), "outcome": outcome,
            }));
        }
    }

    /// The result.
    pub(super) fn told(&self, id: &str, asked: &Asked, success: bool) -> Value {
        json!({
            "remediation_id": id,
            "incident_id": asked.incident.id,
            "runbook": asked.runbook.name,
            "cause": asked.cause,
            "probability": asked.cause.and_then(|cause| asked.incident.probability(&asked.found.target.name, cause)),
            "target": asked.found.target.name,
            "steps": self.steps,
            "verification": self.verification,
            "rolled_back": self.rolled_back,
            "success": success,
        })
    }
}

/// Adds what is new about the target; says what that is.
async fn look(invocation: &Invocation, asked: &Asked, acted_us: i64, samples: &mut Vec<Sample>) -> Result<Evidence> {
    let now_us = invocation.now_us();
    if let Some(sql) = &asked.sql {
        let row = invocation.session.objects(sql, &[]).await?.pop().unwrap_or_default();
        let value = row.values().next().and_then(Value::as_f64);
        let values = value.map(|value| ("sql".to_owned(), value)).into_iter().collect();
        samples.push(Sample { at_us: now_us, values });
        return Ok(Evidence::Select);
    }
    let name = asked.found.target.name.as_str();
    if invocation.own.db().catalog().table(HEALTH).is_some() {
        let since = samples.last().map_or(acted_us, |sample| sample.at_us);
        let new = format!("SELECT * FROM {HEALTH} WHERE service = $1 AND time > $2 ORDER BY time");
        let rows = invocation.own.objects(&new, &[name.into(), rfc3339(since).into()]).await?;
        let is_watched = !rows.is_empty() || !samples.is_empty();
        for row in rows {
            let at_us = row["time"].as_str().and_then(time_us).ok_or_else(|| no_time(HEALTH))?;
            let values = row.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
            samples.push(Sample { at_us, values });
        }
        if is_watched || now_us < acted_us + 3 * 1_000_000 {
            return Ok(Evidence::Seen);
        }
    }
    let observed = asked.found.actuator.observe(name).await.map_err(refused)?;
    let is_well = !observed.replicas.is_empty()
        && observed.replicas.iter().all(|replica| replica.is_healthy.unwrap_or(replica.state == "running"));
    let values = BTreeMap::from([("healthy".to_owned(), f64::from(u8::from(is_well)))]);
    samples.push(Sample { at_us: now_us, values });
    // Those that have no pace are not watched: what they say of a target is all there is.
    Ok(if asked.found.actuator.pace().is_some() { Evidence::Seen } else { Evidence::Told })
}

fn no_time(table: &str) -> Error {
    Error::Corrupt(format!("a row of {table} has no time"))
}
