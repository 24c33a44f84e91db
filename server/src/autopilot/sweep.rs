//! What falls due: responses to threats whose time is over are taken back, changes of units are verified, jobs that nobody approved
//! end, old events and forecasts go.
//!
//! **Invariant:** goes on while components are switched off, so that what contains a threat never stays for longer than was said.

use std::time::Duration;

use juno_sql::{Component, Session, expire_responses, verify_scaling};

use super::Runs;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(5);
/// Sweeps from one in which old events and forecasts go to the next: an hour of them. They went when the database was opened, too.
/// As often all jobs are looked at that wait for an approval, the first time at once.
const PURGE: u64 = 720;

/// Sweeps for ever; failures are told in `operations_status` and, once each, in the log.
pub async fn sweep(session: Session) {
    let mut threats = Runs::new(&session, Component::Threats, SWEEP);
    let mut scaling = Runs::new(&session, Component::Scaling, SWEEP);
    let mut approvals = Runs::new(&session, Component::Governance, SWEEP);
    for sweep in 1_u64.. {
        threats.due().await;
        threats.failed(expire_responses(&session).await.map(drop));
        scaling.failed(verify_scaling(&session).await.map(drop));
        let expired = match sweep % PURGE {
            1 => session.expire_approvals().await,
            _ => session.expire_due_approvals().await,
        };
        approvals.failed(expired.map(drop));
        if sweep.is_multiple_of(PURGE) {
            purge(&session).await;
        }
    }
}

async fn purge(session: &Session) {
    match session.purge_events().await {
        Ok(0) => {}
        Ok(events) => tracing::info!(events, "old events were removed from the stream"),
        Err(error) => tracing::warn!(%error, "old events cannot be removed from the stream"),
    }
    match session.purge_forecasts().await {
        Ok(0) => {}
        Ok(forecasts) => tracing::info!(forecasts, "old forecasts were removed"),
        Err(error) => tracing::warn!(%error, "old forecasts cannot be removed"),
    }
}
