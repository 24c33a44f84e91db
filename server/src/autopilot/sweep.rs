//! What falls due: responses to threats whose time is over are taken back, changes of units are verified.
//!
//! **Invariant:** goes on while components are switched off, so that what contains a threat never stays for longer than was said.

use std::time::Duration;

use juno_sql::{Component, Error, Session, expire_responses, verify_scaling};
use tokio::time::{MissedTickBehavior, interval};

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(5);

/// Sweeps for ever; failures are told in `operations_status` and, once each, in the log.
pub async fn sweep(session: Session) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = [None, None];
    loop {
        ticks.tick().await;
        let expired = expire_responses(&session).await.map(drop);
        let verified = verify_scaling(&session).await.map(drop);
        for (done, (component, told)) in
            [expired, verified].into_iter().zip([Component::Threats, Component::Scaling].into_iter().zip(&mut told))
        {
            ran(&session, component, done, told);
        }
    }
}

fn ran(session: &Session, component: Component, done: Result<(), Error>, told: &mut Option<String>) {
    session.component_ran(component, done.as_ref().err());
    let failed = done.err().map(|error| error.to_string());
    if let Some(error) = failed.as_ref().filter(|_| failed != *told) {
        tracing::warn!(component = component.name(), error, "what fell due cannot be done");
    }
    *told = failed;
}
