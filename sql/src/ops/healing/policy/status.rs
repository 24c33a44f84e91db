//! The status of an incident, and which may follow which.
//!
//! **Invariant:** what is resolved, failed or escalated to people never goes back to the machine.

use serde::{Deserialize, Serialize};

/// Where an incident stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was noticed.
    Open,
    /// Its cause is looked for.
    Diagnosing,
    /// A runbook runs.
    Remediating,
    /// It is watched whether that healed.
    Verifying,
    /// It is over.
    Resolved,
    /// All was tried and nothing healed.
    Failed,
    /// People were called.
    Escalated,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Diagnosing => "diagnosing",
            Self::Remediating => "remediating",
            Self::Verifying => "verifying",
            Self::Resolved => "resolved",
            Self::Failed => "failed",
            Self::Escalated => "escalated",
        }
    }

    /// Whether the machine still works on it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Open | Self::Diagnosing | Self::Remediating | Self::Verifying)
    }

    /// Whether `next` may follow. From verifying it goes back to diagnosing where something is left to do. What failed may be
    /// escalated, and what was escalated may be resolved or found to have failed, by people.
    pub fn may_become(self, next: Self) -> bool {
        use Status::{Diagnosing, Escalated, Failed, Open, Remediating, Resolved, Verifying};
        matches!(
            (self, next),
            (Open, Diagnosing | Resolved | Escalated)
                | (Diagnosing, Remediating | Resolved | Failed | Escalated)
                | (Remediating, Verifying | Diagnosing | Failed | Escalated)
                | (Verifying, Resolved | Diagnosing | Failed | Escalated)
                | (Failed, Escalated | Resolved)
                | (Escalated, Resolved | Failed)
        )
    }

    /// The status after this one.
    ///
    /// # Errors
    /// A text that says what may follow, where `next` may not.
    pub fn becoming(self, next: Self) -> Result<Self, String> {
        if self.may_become(next) {
            return Ok(next);
        }
        let all = [Self::Diagnosing, Self::Remediating, Self::Verifying, Self::Resolved, Self::Failed, Self::Escalated];
        let may: Vec<&str> = all.into_iter().filter(|next| self.may_become(*next)).map(Self::name).collect();
        let may = if may.is_empty() { "it is over".to_owned() } else { format!("it may become {}", may.join(", ")) };
        Err(format!("an incident that is {} cannot become {}: {may}", self.name(), next.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_goes_through_and_may_go_round() {
        let course = [Status::Diagnosing, Status::Remediating, Status::Verifying, Status::Diagnosing, Status::Resolved];
        let mut status = Status::Open;
        for next in course {
            status = status.becoming(next).unwrap();
        }
        assert!(!status.is_under_way());
    }

    #[test]
    fn illegal_moves_are_refused_and_say_what_is_legal() {
        assert!(Status::Resolved.becoming(Status::Remediating).unwrap_err().contains("it is over"));
        let error = Status::Open.becoming(Status::Verifying).unwrap_err();
        assert!(error.contains("may become diagnosing, resolved, escalated"), "{error}");
        for status in [Status::Resolved, Status::Failed, Status::Escalated] {
            for machine in [Status::Open, Status::Diagnosing, Status::Remediating, Status::Verifying] {
                assert!(!status.may_become(machine));
            }
        }
    }
}
