//! What can be wrong with a service, and how much its evidence speaks for it.
//!
//! **Formula.** Each cause has a score, the logarithm of how much more probable the evidence is with it than without any, as
//! far as the evidence goes: what the operating system says outright counts most, a ratio counts by how far it is from
//! usual. A cause that implies another (a full disk makes errors) is worth more than what it implies, and errors and slowness
//! "for a reason of its own" lose 3 where a cause that explains them is at least as probable.
//!
//! **Invariant:** a cause without evidence has a score below 0.

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Process, ramp};

/// What can be wrong.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its process does not exist.
    ProcessDown,
    /// Its process exists and answers nobody.
    Hang,
    /// Its disk is full.
    DiskFull,
    /// Its memory grows without need.
    MemoryLeak,
    /// A change of its configuration or release made it ill.
    BadConfiguration,
    /// What it depends on does not serve it.
    DependencyDown,
    /// It has more to do than it can.
    Saturation,
    /// It fails for a reason of its own.
    Errors,
    /// It is slow for a reason of its own.
    Slow,
}

/// All causes.
pub const CAUSES: [Cause; 9] = [
    Cause::ProcessDown,
    Cause::Hang,
    Cause::DiskFull,
    Cause::MemoryLeak,
    Cause::BadConfiguration,
    Cause::DependencyDown,
    Cause::Saturation,
    Cause::Errors,
    Cause::Slow,
];
/// Their names.
pub const CAUSE_NAMES: [&str; CAUSES.len()] = {
    let mut names = [""; CAUSES.len()];
    let mut at = 0;
    while at < CAUSES.len() {
        names[at] = CAUSES[at].name();
        at += 1;
    }
    names
};
/// The score of a cause that nothing speaks for.
const NOTHING: f64 = -6.0;
/// How long a change is suspected, in seconds.
const SUSPECTED_S: f64 = 600.0;
/// What an explanation takes off errors and slowness.
const EXPLAINED: f64 = 3.0;

impl Cause {
    /// Its name in `healing_incidents.incident_type` and in runbooks.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessDown => "process_down",
            Self::Hang => "hang",
            Self::DiskFull => "disk_full",
            Self::MemoryLeak => "memory_leak",
            Self::BadConfiguration => "bad_configuration",
            Self::DependencyDown => "dependency_down",
            Self::Saturation => "saturation",
            Self::Errors => "errors",
            Self::Slow => "slow",
        }
    }

    /// Whether a service whose callees are ill may show it without being ill itself.
    pub fn travels(self) -> bool {
        matches!(self, Self::DependencyDown | Self::Errors | Self::Slow | Self::Saturation)
    }

    /// How much the evidence speaks for it.
    pub fn score(self, evidence: &Evidence) -> f64 {
        let own = self.unexplained(evidence);
        let is_rest = matches!(self, Self::Errors | Self::Slow);
        let explains = |other: Self| !matches!(other, Self::Errors | Self::Slow) && other.unexplained(evidence) >= own;
        if is_rest && own > NOTHING && CAUSES.into_iter().any(explains) { own - EXPLAINED } else { own }
    }

    /// How much the evidence speaks for it, whatever else it speaks for.
    fn unexplained(self, evidence: &Evidence) -> f64 {
        let weighed = |share: f64, weight: f64| NOTHING + (weight - NOTHING) * share;
        let of = |value: Option<f64>, low, high| value.map_or(0.0, |value| ramp(value, low, high));
        match self {
            Self::ProcessDown => weighed(f64::from(u8::from(evidence.process == Process::Gone)), 9.0),
            Self::Hang => {
                let silent = match evidence.process {
                    Process::Halted => 1.0,
                    Process::Gone => 0.0,
                    Process::Running | Process::Unknown => 0.85 * evidence.silence(),
                };
                weighed(silent, 7.0)
            }
            Self::DiskFull => weighed(of(evidence.disk_share, 0.85, 0.98), 7.0),
            Self::MemoryLeak => {
                let growth = of(evidence.memory_growth, 0.2, 1.0) * of(evidence.memory_ratio, 1.15, 1.5);
                weighed(growth, 6.0)
            }
            Self::BadConfiguration => {
                let drifted = if evidence.has_drifted { 1.0 } else { 0.0 };
                let within = |low, high| evidence.changed_s.map_or(0.0, |age_s| 1.0 - ramp(age_s, low, high));
                let changed = f64::max(drifted, within(0.5 * SUSPECTED_S, SUSPECTED_S));
                // What does not even start after a change was killed by it.
                let killed =
                    if evidence.process == Process::Gone { f64::max(drifted, within(30.0, 120.0)) } else { 0.0 };
                weighed(changed * evidence.illness(), 6.5).max(weighed(killed, 11.0))
            }
            Self::DependencyDown => weighed(of(evidence.call_error_share, 0.05, 0.4) * evidence.illness(), 5.5),
            Self::Saturation => {
                let strained = evidence.slowness().max(of(evidence.cpu_share, 0.7, 0.95));
                weighed(of(evidence.traffic_ratio, 1.3, 2.0) * strained, 6.0)
            }
            Self::Errors => weighed(evidence.errors(), 5.0),
            Self::Slow => weighed(evidence.slowness(), 4.5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(evidence: &Evidence) -> Cause {
        CAUSES.into_iter().max_by(|a, b| a.score(evidence).total_cmp(&b.score(evidence))).unwrap()
    }

    #[test]
    fn each_cause_has_evidence_that_names_it() {
        let calm = Evidence { process: Process::Running, ..Evidence::default() };
        let failing = Evidence { error_share: Some(0.6), ..calm.clone() };
        let slow = Evidence { latency_ratio: Some(9.0), ..calm.clone() };
        let cases = [
            (Cause::ProcessDown, Evidence { process: Process::Gone, checks_failed: 3, ..calm.clone() }),
            (Cause::Hang, Evidence { process: Process::Halted, ..calm.clone() }),
            (Cause::Hang, Evidence { checks_failed: 3, ..calm.clone() }),
            (Cause::Hang, Evidence { checks_failed: 2, unanswered: 2, ..calm.clone() }),
            (Cause::DiskFull, Evidence { disk_share: Some(1.0), ..failing.clone() }),
            (Cause::MemoryLeak, Evidence { memory_growth: Some(3.0), memory_ratio: Some(2.0), ..calm.clone() }),
            (Cause::BadConfiguration, Evidence { changed_s: Some(20.0), ..failing.clone() }),
            (Cause::BadConfiguration, Evidence { has_drifted: true, ..slow.clone() }),
            (Cause::BadConfiguration, Evidence { process: Process::Gone, changed_s: Some(3.0), ..calm.clone() }),
            (Cause::DependencyDown, Evidence { call_error_share: Some(0.9), ..failing.clone() }),
            (Cause::Saturation, Evidence { traffic_ratio: Some(3.0), ..slow.clone() }),
            (Cause::Errors, failing),
            (Cause::Slow, slow),
        ];
        for (cause, evidence) in cases {
            assert_eq!(top(&evidence), cause, "{evidence:?}");
            assert!(cause.score(&evidence) > 2.0, "{cause:?} {}", cause.score(&evidence));
        }
    }

    #[test]
    fn calm_evidence_names_nothing() {
        let calm =
            Evidence { process: Process::Running, changed_s: Some(5.0), disk_share: Some(0.5), ..Evidence::default() };
        assert!(CAUSES.iter().all(|cause| cause.score(&calm) < 0.0));
        assert!(CAUSES.iter().all(|cause| cause.score(&Evidence::default()) < 0.0));
    }

    #[test]
    fn a_name_is_what_serde_writes() {
        for cause in CAUSES {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }
}
