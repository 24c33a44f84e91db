//! When people are called.
//!
//! **Invariant:** an incident is escalated once, and what is over never is.

use super::severity::Severity;
use super::status::Status;

/// So long a call is tried to be delivered: a day.
const CALL_US: i64 = 86_400_000_000;

/// A call for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Escalation {
    /// The severity from now on.
    pub severity: Severity,
    /// Why, in a sentence.
    pub reason: String,
}

/// Whether an incident is to be escalated: when it failed, or is not over after the timeout.
pub fn escalate(
    status: Status,
    severity: Severity,
    detected_us: i64,
    now_us: i64,
    timeout_us: i64,
) -> Option<Escalation> {
    let age_us = now_us.saturating_sub(detected_us);
    let reason = match status {
        Status::Resolved | Status::Escalated => return None,
        Status::Failed => "everything that was tried against it failed".to_owned(),
        _ if age_us >= timeout_us => format!("it is {} after {} s", status.name(), age_us / 1_000_000),
        _ => return None,
    };
    Some(Escalation { severity: severity.raised(), reason })
}

/// Whether a call that cannot be delivered is tried no more.
pub fn gives_up(escalated_us: i64, now_us: i64) -> bool {
    now_us.saturating_sub(escalated_us) >= CALL_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_or_failed_calls_people_once() {
        let at = |status, now_us| escalate(status, Severity::Medium, 0, now_us, 300_000_000);
        assert_eq!(at(Status::Verifying, 299_999_999), None);
        let late = at(Status::Verifying, 300_000_000).unwrap();
        assert_eq!((late.severity, late.reason.as_str()), (Severity::High, "it is verifying after 300 s"));
        assert!(at(Status::Failed, 1).is_some());
        assert!(at(Status::Escalated, i64::MAX).is_none() && at(Status::Resolved, i64::MAX).is_none());
    }
}
