//! Scaling: services that are scaled automatically are looked at, and their units changed.
//!
//! **Invariant:** what is decided, `juno_sql` decides; every change is `scaling_execute` under its rules.

use std::time::Duration;

use juno_sql::{Autoscaler, Component, Session};

use super::{Runs, as_autopilot};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Scales for ever; failures are told in `operations_status` and, once each, in the log.
pub async fn scale(session: Session) {
    let autopilot = as_autopilot(&session);
    let (mut autoscaler, mut runs) = (Autoscaler::default(), Runs::new(&session, Component::Scaling, LOOK));
    loop {
        runs.wait().await;
        runs.ran(autoscaler.look(&session, &autopilot).await.map(drop));
    }
}
