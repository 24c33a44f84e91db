//! Runbooks: what can be done against a cause, and which to take.
//!
//! The built-in ones stand in `runbooks.json`; others of the same form can be added.
//!
//! **Formula.** A runbook's chance against a cause is (4·prior + s)/(4 + s + f), with the prior of the table and the successes
//! and failures on record; the largest chance less a price of the risk (low 0, medium 0.02, high 0.1) is taken.
//!
//! **Invariant:** what was tried in an incident against a cause is not tried again, and a runbook whose needs are not met is
//! never chosen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cause::Cause;
use super::track_record::TrackRecord;
use super::verification::Verification;
use crate::ops::actuator::{Action, Observation, Target};

/// What the prior of the table is worth.
const PRIOR_TRIES: f64 = 4.0;

/// How much harm a runbook can do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// A moment without service.
    Low,
    /// Another version, or another machine.
    Medium,
    /// It needs a hand to undo.
    High,
}

impl Risk {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    fn price(self) -> f64 {
        match self {
            Self::Low => 0.0,
            Self::Medium => 0.02,
            Self::High => 0.1,
        }
    }
}

/// What a target must have for a runbook.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// A configuration that other hands changed.
    Drift,
    /// An earlier configuration.
    Previous,
    /// A standby that has not taken over.
    Standby,
    /// It can be scaled.
    Scale,
    /// Its priority can be set.
    Rebalance,
    /// It can be cordoned.
    Cordon,
}

/// One step of a runbook.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// How.
    #[serde(default)]
    pub params: Value,
}

/// What can be done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Runbook {
    /// Its name.
    pub name: String,
    /// What it does, in a sentence.
    pub does: String,
    /// Its version.
    pub version: u32,
    /// How much harm it can do.
    pub risk: Risk,
    /// The causes that it is for, with the chance of success that is assumed before the first try.
    pub causes: BTreeMap<Cause, f64>,
    /// What its target must have.
    #[serde(default)]
    pub needs: BTreeSet<Need>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// How to see that it healed.
    pub verify: Verification,
    /// How long all of it may take.
    pub timeout_s: u32,
    /// How long a target is left alone after it.
    pub cooldown_s: u32,
}

impl Runbook {
    /// Its chance of success against a cause; None where it is not for it.
    pub fn chance(&self, cause: Cause, record: &TrackRecord) -> Option<f64> {
        let (won, lost) = (record.successes as f64, record.failures as f64);
        self.causes.get(&cause).map(|prior| (PRIOR_TRIES * prior + won) / (PRIOR_TRIES + won + lost))
    }

    /// Whether a target has what it needs.
    pub fn fits(&self, target: &Target, observed: &Observation) -> bool {
        let takes = |action| target.actions.contains(&action);
        self.steps.iter().all(|step| takes(step.action))
            && self.needs.iter().all(|need| match need {
                Need::Drift => observed.has_drifted,
                Need::Previous => observed.has_previous,
                Need::Standby => observed.has_standby && !observed.is_failed_over,
                Need::Scale => takes(Action::Scale),
                Need::Rebalance => takes(Action::Rebalance),
                Need::Cordon => takes(Action::Cordon) && !observed.is_cordoned,
            })
    }

    fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("runbook \"{}\": {what}", self.name));
        if self.steps.is_empty() {
            return wrong("it has no step: give one at least");
        }
        if self.causes.is_empty() || self.causes.values().any(|prior| !(0.0..=1.0).contains(prior)) {
            return wrong("causes must name one at least, each with a chance from 0 to 1");
        }
        if self.timeout_s == 0 || self.verify.hold == 0 || self.verify.all.is_empty() {
            return wrong("timeout_s, verify.hold and verify.all must not be empty or 0");
        }
        Ok(())
    }
}

/// The runbooks that juno brings.
pub fn built_in() -> Vec<Runbook> {
    parse(include_str!("runbooks.json")).expect("a test reads the built-in runbooks")
}

/// Runbooks of a JSON text.
///
/// # Errors
/// A text that names the runbook and says what to do.
pub fn parse(text: &str) -> Result<Vec<Runbook>, String> {
    let runbooks: Vec<Runbook> = serde_json::from_str(text).map_err(|error| format!("runbooks: {error}"))?;
    let mut names = BTreeSet::new();
    for runbook in &runbooks {
        runbook.check()?;
        if !names.insert(&runbook.name) {
            return Err(format!("runbook \"{}\" is there twice: give each its own name", runbook.name));
        }
    }
    Ok(runbooks)
}

/// What a choice is made from.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// What there is.
    pub runbooks: &'a [Runbook],
    /// What they have achieved, by name and cause.
    pub records: &'a BTreeMap<(String, Cause), TrackRecord>,
}

impl<'a> Choice<'a> {
    /// The record of a runbook against a cause.
    pub fn record(&self, runbook: &str, cause: Cause) -> TrackRecord {
        self.records.get(&(runbook.to_owned(), cause)).copied().unwrap_or_default()
    }

    /// The runbook to take against a cause at a target, with its chance; the first of equal ones, and none of those `tried`.
    pub fn choose(
        &self,
        cause: Cause,
        (target, observed): &(Target, Observation),
        tried: &BTreeSet<&str>,
    ) -> Option<(&'a Runbook, f64)> {
        let mut best: Option<(&Runbook, f64)> = None;
        for runbook in self.runbooks.iter().filter(|runbook| !tried.contains(runbook.name.as_str())) {
            let Some(chance) = runbook.chance(cause, &self.record(&runbook.name, cause)) else { continue };
            let better = best.is_none_or(|(other, other_chance)| {
                chance - runbook.risk.price() > other_chance - other.risk.price() + 1e-12
            });
            if better && runbook.fits(target, observed) {
                best = Some((runbook, chance));
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::super::cause::CAUSES;
    use super::*;

    fn target() -> Target {
        let actions = vec![
            Action::Restart,
            Action::Scale,
            Action::Failover,
            Action::Rollback,
            Action::ConfigCorrect,
            Action::CleanDisk,
        ];
        Target { name: "shop".into(), kind: "process".into(), is_protected: false, actions }
    }

    fn name(cause: Cause, observed: &Observation, records: &[(&str, TrackRecord)], tried: &[&str]) -> Option<String> {
        let runbooks = built_in();
        let records = records.iter().map(|(name, record)| (((*name).to_owned(), cause), *record)).collect();
        let tried = tried.iter().copied().collect();
        let choice = Choice { runbooks: &runbooks, records: &records };
        choice.choose(cause, &(target(), observed.clone()), &tried).map(|(runbook, _)| runbook.name.clone())
    }

    #[test]
    fn each_cause_has_a_built_in_runbook() {
        let all = Observation { has_drifted: true, has_previous: true, has_standby: true, ..Observation::default() };
        for cause in CAUSES {
            assert!(name(cause, &all, &[], &[]).is_some(), "{cause:?}");
        }
    }

    #[test]
    fn what_the_target_has_decides() {
        let bare = Observation::default();
        let changed = Observation { has_previous: true, ..bare.clone() };
        let drifted = Observation { has_drifted: true, ..bare.clone() };
        assert_eq!(name(Cause::BadConfiguration, &bare, &[], &[]), None);
        assert_eq!(name(Cause::BadConfiguration, &changed, &[], &[]).unwrap(), "rollback");
        assert_eq!(name(Cause::BadConfiguration, &drifted, &[], &[]).unwrap(), "config_correct");
        assert_eq!(name(Cause::DependencyDown, &bare, &[], &[]).unwrap(), "restart");
        let standby = Observation { has_standby: true, ..bare };
        assert_eq!(name(Cause::DependencyDown, &standby, &[], &[]).unwrap(), "failover");
        let used = Observation { is_failed_over: true, ..standby };
        assert_eq!(name(Cause::DependencyDown, &used, &[], &[]).unwrap(), "restart");
    }

    #[test]
    fn what_was_tried_or_keeps_failing_gives_way() {
        let standby = Observation { has_standby: true, ..Observation::default() };
        assert_eq!(name(Cause::Errors, &standby, &[], &[]).unwrap(), "restart");
        assert_eq!(name(Cause::Errors, &standby, &[], &["restart"]).unwrap(), "failover");
        let failing = TrackRecord { successes: 0, failures: 4, in_a_row: 0 };
        assert_eq!(name(Cause::Errors, &standby, &[("restart", failing)], &[]).unwrap(), "failover");
    }

    #[test]
    fn wrong_runbooks_are_refused_by_name() {
        let mut runbook = serde_json::to_value(&built_in()[0]).unwrap();
        runbook["steps"] = serde_json::json!([]);
        let error = parse(&serde_json::json!([runbook]).to_string()).unwrap_err();
        assert!(error.contains("restart") && error.contains("no step"), "{error}");
        let twice = serde_json::to_string(&[&built_in()[0], &built_in()[0]]).unwrap();
        assert!(parse(&twice).unwrap_err().contains("twice"));
        assert!(parse("[{\"nam\": 1}]").is_err());
    }
}
