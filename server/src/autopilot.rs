//! The autopilot: loops that look, and call operations. What is judged is judged in `juno_sql`; state is in tables.
//!
//! **Invariant:** whatever it does to other systems it asks for by an operation, as the user `autopilot`, under every guard.

mod healing;

use std::sync::Arc;
use std::time::Duration;

use juno_sql::{Component, Session};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use self::healing::Healing;
pub use self::healing::{Pulse, WARM_UP};
use crate::actuator::process::ProcessActuator;

/// Between two looks at a fleet.
const LOOK: Duration = Duration::from_secs(1);

/// Watches a fleet and heals it, for ever; `pulse` says how it goes.
///
/// # Errors
/// Where the database or the HTTP client cannot be had; later failures are told in `operations_status` and in the log.
pub async fn heal(
    session: Session,
    fleet: Arc<ProcessActuator>,
    pulse: Arc<Mutex<Pulse>>,
) -> Result<(), juno_sql::Error> {
    let mut healing = Healing::open(session.connect(), fleet, pulse).await?;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        ticks.tick().await;
        if !session.operation_settings().enabled(Component::SelfHealing) {
            continue;
        }
        let ran = healing.tick().await;
        session.component_ran(Component::SelfHealing, ran.as_ref().err());
        let error = ran.err().map(|error| error.to_string()).unwrap_or_default();
        if !error.is_empty() && error != told {
            tracing::warn!(%error, "healing cannot do its work");
        }
        told = error;
    }
}
