//! Calls for people: one for each incident that was escalated, kept until it is delivered.
//!
//! **Invariant:** a call is written down together with the escalation, or neither is; it is made once per incident.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::policy::escalation::gives_up;
use crate::operation::{is_trace, time_us, trace_of};
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// Calls that are due at a time.
const CALLS_MAX: usize = 10;

/// A call that is to be delivered.
#[derive(Clone, Debug)]
pub struct EscalationCall {
    /// The incident that it is about.
    pub incident_id: String,
    /// How often it was tried.
    pub tries: u32,
    /// What is told: an object.
    pub message: Value,
    /// The trace that the incident was reported in, else its own.
    pub trace_id: String,
    escalated_us: i64,
}

impl Session {
    /// Writes down that people are to be called; once per incident.
    pub(super) async fn call_people(&self, incident_id: &str, at_us: i64, reason: Option<&str>) -> Result<()> {
        let insert = "INSERT INTO juno_escalations (incident_id, escalated_at, reason, state, tries, next_try_at) \
                      VALUES ($1, $2, $3, 'waiting', 0, $4) ON CONFLICT (incident_id) DO NOTHING";
        let at = Value::from(rfc3339(at_us));
        self.changed_rows(insert, &[incident_id.into(), at.clone(), reason.into(), at]).await.map(drop)
    }

    /// The calls that are due, oldest first.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn calls_due(&self) -> Result<Vec<EscalationCall>> {
        let due = format!(
            "SELECT incident_id, escalated_at, reason, tries FROM juno_escalations WHERE state = 'waiting' \
             AND next_try_at <= $1 ORDER BY escalated_at, incident_id LIMIT {CALLS_MAX}"
        );
        let mut calls = Vec::new();
        for row in self.objects(&due, &[self.now().into()]).await? {
            let about = "SELECT incident_type, severity, service, symptoms, detected_at FROM healing_incidents_list \
                         WHERE id = $1";
            let incident = self.objects(about, &[row["incident_id"].clone()]).await?.pop().unwrap_or_default();
            calls.push(EscalationCall::of(&row, &incident)?);
        }
        Ok(calls)
    }

    /// A call was delivered to a receiver of this name, which the incident keeps.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn call_delivered(&self, call: &EscalationCall, to: &str) -> Result<()> {
        let update = "UPDATE juno_escalations SET state = 'delivered', tries = $2, delivered_at = $3, error = NULL \
                      WHERE incident_id = $1";
        let (id, tries) = (call.incident_id.as_str(), call.tries + 1);
        self.changed_rows(update, &[id.into(), tries.into(), self.now().into()]).await?;
        self.note_called(id, to).await
    }

    /// A call could not be delivered and is tried again after a wait; false where it was tried for long enough.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn call_failed(&self, call: &EscalationCall, error: &str, wait: Duration) -> Result<bool> {
        let now_us = self.db().system().clock().now_us();
        let is_over = gives_up(call.escalated_us, now_us);
        let state = if is_over { "failed" } else { "waiting" };
        let next_us = now_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
        let update =
            "UPDATE juno_escalations SET state = $2, tries = $3, next_try_at = $4, error = $5 WHERE incident_id = $1";
        let values = [
            call.incident_id.as_str().into(),
            state.into(),
            (call.tries + 1).into(),
            rfc3339(next_us).into(),
            error.into(),
        ];
        self.changed_rows(update, &values).await?;
        Ok(!is_over)
    }
}

impl EscalationCall {
    fn of(row: &Map<String, Value>, incident: &Map<String, Value>) -> Result<Self> {
        let about = |name: &str| incident.get(name).cloned().unwrap_or_default();
        let id = row["incident_id"].as_str().unwrap_or_default();
        let escalated_us = row["escalated_at"].as_str().and_then(time_us);
        let symptoms = about("symptoms");
        let reported = symptoms["trace_id"].as_str().filter(|trace_id| is_trace(trace_id));
        let trace_id = reported.map_or_else(|| trace_of(id), str::to_owned);
        Ok(Self {
            incident_id: id.to_owned(),
            trace_id,
            tries: row["tries"].as_u64().and_then(|tries| u32::try_from(tries).ok()).unwrap_or_default(),
            message: json!({
                "type": "escalation",
                "incident_id": id,
                "incident_type": about("incident_type"),
                "severity": about("severity"),
                "service": about("service"),
                "reason": row["reason"],
                "symptoms": about("symptoms"),
                "detected_at": about("detected_at"),
                "escalated_at": row["escalated_at"],
                "path": format!("/api/v4/healing/incidents/{id}"),
            }),
            escalated_us: escalated_us.ok_or_else(|| Error::Corrupt("a call for people has no time".into()))?,
        })
    }
}
