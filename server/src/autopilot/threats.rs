//! Threats: looks at security events, and responds where that may be done without asking; looks whether models still fit.
//!
//! **Invariant:** every response is `threats_respond` under its rules; without `THREAT_RESPONSE_AUTOMATION` there are alerts only.

use std::time::Duration;

use juno_sql::{Component, Error, Operation, Request, Session, Threat, ThreatWatch, trace_of, watch_models};
use serde_json::{Value, json};

use super::{Result, Runs, as_autopilot, operation};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at models.
const MODELS: Duration = Duration::from_secs(300);

/// Watches security events for ever.
///
/// # Errors
/// Where the operation is not there; later failures are told in `operations_status` and in the log.
pub async fn guard(session: Session) -> Result<()> {
    let (autopilot, respond) = (as_autopilot(&session), operation("threats_respond")?);
    let (mut watch, mut runs) = (ThreatWatch::default(), Runs::new(&session, Component::Threats, LOOK));
    loop {
        let is_on = session.operation_settings().enabled(Component::Threats);
        if !(is_on && watch.is_behind()) {
            runs.wait().await;
        }
        let looked = watch.look(&session).await;
        runs.ran(match looked {
            Ok(threats) => respond_to(&session, &autopilot, respond, &threats).await,
            Err(error) => Err(error),
        });
    }
}

/// Looks for ever whether threat models still fit; failures are told in the log, once each.
pub async fn models(session: Session) {
    let mut runs = Runs::new(&session, Component::Threats, MODELS);
    loop {
        runs.wait().await;
        runs.failed(watch_models(&session).await);
    }
}

pub(super) async fn respond_to(
    session: &Session,
    autopilot: &Session,
    respond: &'static Operation,
    threats: &[Threat],
) -> Result<()> {
    let settings = session.operation_settings();
    for threat in threats {
        tracing::warn!(threat = threat.id, "a threat was found");
        if !settings.threat_response || !settings.ai_native {
            continue;
        }
        for (action, target) in &threat.responses {
            let arguments = json!({ "threat_event_id": threat.id, "action": action, "target": { "name": target } });
            let Value::Object(arguments) = arguments else { continue };
            let key = Some(format!("{}-{action}", threat.id));
            let trace_id = Some(trace_of(&threat.id));
            match autopilot.operate(respond, Request { arguments, key, trace_id, ..Request::default() }).await {
                Ok(_) => {}
                Err(Error::Refused(refusal)) => {
                    tracing::info!(threat = threat.id, action, target, reason = refusal.detail, "no response");
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
