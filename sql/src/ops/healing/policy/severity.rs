//! How bad an incident is.
//!
//! **Invariant:** stronger evidence, more services and a failing check never lower a severity.

use serde::{Deserialize, Serialize};

/// How bad.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Look at it some day.
    Low,
    /// Look at it today.
    Medium,
    /// Someone is affected.
    High,
    /// Many are affected.
    Critical,
}

impl Severity {
    /// Its name in `healing_incidents.severity`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The next worse one.
    pub fn raised(self) -> Self {
        match self {
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }
}

/// What a severity is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impact {
    /// Decades by which the group is rarer than the budget allows.
    pub decades: f64,
    /// Services that gave alarms.
    pub services: usize,
    /// Services that there are.
    pub fleet: usize,
    /// Whether a check failed: someone who asked got no answer.
    pub has_check: bool,
}

/// The severity of an impact: one step each for three decades, for six, for a second service, for half of the fleet, and
/// two for a failing check.
pub fn severity(impact: &Impact) -> Severity {
    let steps = usize::from(impact.decades >= 3.0)
        + usize::from(impact.decades >= 6.0)
        + usize::from(impact.services >= 2)
        + usize::from(impact.services >= 2 && 2 * impact.services >= impact.fleet)
        + 2 * usize::from(impact.has_check);
    match steps {
        0 => Severity::Low,
        1 => Severity::Medium,
        2 | 3 => Severity::High,
        _ => Severity::Critical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_grows_with_evidence_and_breadth() {
        let impact = |decades, services, has_check| Impact { decades, services, fleet: 5, has_check };
        assert_eq!(severity(&impact(0.5, 1, false)), Severity::Low);
        assert_eq!(severity(&impact(4.0, 1, false)), Severity::Medium);
        assert_eq!(severity(&impact(1.0, 1, true)), Severity::High);
        assert_eq!(severity(&impact(7.0, 3, true)), Severity::Critical);
        assert!(Severity::Low < Severity::Critical && Severity::Critical.raised() == Severity::Critical);
    }
}
