//! Calling people: every incident that was escalated is posted to an address until it is delivered, for a day at most.
//!
//! **Message.** JSON: `{"type": "escalation", "incident_id", "incident_type", "severity", "service", "reason", "symptoms",
//! "detected_at", "escalated_at", "path"}`, signed like the messages of the [webhook](crate::actuator::webhook), with the incident's
//! id as `Idempotency-Key` and the incident's trace in `traceparent`, the same in each try. Any answer of 2xx is a delivery; others, no connection and no answer in time are
//! tried again after a growing, scattered wait, or after `Retry-After`, also by the next process.
//!
//! **Invariant:** what is to be delivered is in a table, and nobody waits for a receiver.

use std::time::Duration;

use futures::future::join_all;
use juno_sql::{Error, EscalationCall, Session};
use tokio::time::{MissedTickBehavior, interval};

use crate::actuator::webhook::hook::{Hook, Posted};

/// Between two looks whether somebody is to be called.
const LOOK: Duration = Duration::from_secs(2);
/// The first wait before another try, which doubles each time, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Calls people, for ever.
pub(crate) async fn call(session: Session, hook: Hook) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        let failed = round(&session, &hook).await.err().map(|error| error.to_string());
        if let Some(error) = failed.as_ref().filter(|_| failed != told) {
            tracing::error!(error, "nobody can be called to incidents that were escalated");
        }
        told = failed;
    }
}

/// Posts what is due, all at once, and writes down what came of it.
async fn round(session: &Session, hook: &Hook) -> Result<(), Error> {
    let due = session.calls_due().await?;
    let mut posts = Vec::with_capacity(due.len());
    for call in &due {
        posts.push(hook.post(call.message.to_string(), Some(&call.incident_id), &call.trace_id));
    }
    for (call, posted) in due.iter().zip(join_all(posts).await) {
        settle(session, hook, call, posted).await?;
    }
    Ok(())
}

async fn settle(
    session: &Session,
    hook: &Hook,
    call: &EscalationCall,
    posted: Result<Posted, String>,
) -> Result<(), Error> {
    let incident = &call.incident_id;
    let (reason, asked_for) = match posted {
        Ok(posted) if posted.status.is_success() => {
            tracing::info!(incident, "people were called to an incident");
            return session.call_delivered(call, hook.host()).await;
        }
        Ok(posted) => (format!("it answers {}", posted.status), posted.retry_after()),
        Err(reason) => (reason, None),
    };
    let wait = hook.wait(WAITS, call.tries).max(asked_for.unwrap_or_default().min(WAITS.1));
    if session.call_failed(call, &reason, wait).await? {
        tracing::warn!(incident, reason, "people could not be called yet to an incident");
    } else {
        tracing::error!(incident, reason, "people could not be called to an incident for a day: look after it");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
