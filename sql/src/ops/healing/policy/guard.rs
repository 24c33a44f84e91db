//! Whether a runbook may act now: every guard is asked, and each gives its reason.
//!
//! The level of automation lets the autopilot act alone up to a risk: low never, medium on low risk, high on medium, full
//! always. Earned autonomy ([`TrackRecord::is_autonomous`](super::track_record::TrackRecord::is_autonomous)), or an approval that
//! governance has automated, lifts that by one at medium and high; both together lift it no further. What a person asks for needs another person's approval at high risk only. An approval stands for the
//! level, and for no other guard.
//!
//! **Invariant:** every guard passes or the decision is not [`Decision::Allow`]; who asked never approves.

use serde::{Deserialize, Serialize};

use super::circuit::Circuit;
use super::runbook::Risk;
use crate::operation::Automation;

/// Whether the autopilot acts alone at a risk.
fn acts_alone(level: Automation, risk: Risk, is_autonomous: bool) -> bool {
    let reach = match (level, is_autonomous) {
        (Automation::Off | Automation::Low, _) => return false,
        (Automation::Medium, false) => Risk::Low,
        (Automation::Medium, true) | (Automation::High, false) => Risk::Medium,
        (Automation::High, true) | (Automation::Full, _) => Risk::High,
    };
    risk <= reach
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin<'a> {
    /// The loop.
    Autopilot,
    /// A person.
    Person(&'a str),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal<'a> {
    /// Who asks.
    pub origin: Origin<'a>,
    /// The risk of the runbook.
    pub risk: Risk,
    /// Whether it has earned to act alone.
    pub is_autonomous: bool,
    /// Whether governance has automated its approval.
    pub is_automated: bool,
    /// How many targets it acts on.
    pub targets: usize,
    /// Whether nothing is to be done really.
    pub dry_run: bool,
    /// Whether approval was asked for whatever the level says.
    pub wants_approval: bool,
    /// Who approved.
    pub approved_by: Option<&'a str>,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation<'a> {
    /// Now.
    pub now_us: i64,
    /// Whether self-healing is on, and acting at all (`SELF_HEALING_ENABLED`, `AI_NATIVE_OPERATIONS`).
    pub is_enabled: bool,
    /// How much is done without asking.
    pub level: Automation,
    /// Whether the kill switch is pulled.
    pub kill_switch: bool,
    /// The freeze or maintenance window that it is in.
    pub frozen: Option<&'a str>,
    /// Whether the target is protected.
    pub is_protected: bool,
    /// The remediation that works on the target.
    pub locked_by: Option<&'a str>,
    /// When the target is left alone until.
    pub cooldown_until_us: Option<i64>,
    /// Targets that there are.
    pub fleet: usize,
    /// Targets that are acted on now.
    pub acted_on: usize,
    /// The share of the fleet that may be acted on at once; one target always may.
    pub blast_radius: f64,
    /// Actions of the last hour.
    pub actions: usize,
    /// How many an hour may have.
    pub actions_max: usize,
    /// The runbook's circuit.
    pub circuit: Circuit,
    /// Whether a try of a half-open circuit is under way.
    pub is_trying: bool,
}

/// A guard.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// The component is on.
    Enabled,
    /// The kill switch is not pulled.
    KillSwitch,
    /// No freeze window.
    FreezeWindow,
    /// The target is not protected.
    ProtectedTarget,
    /// Nobody else works on the target.
    TargetLock,
    /// The target has had its rest.
    CoolDown,
    /// Few enough targets at once.
    BlastRadius,
    /// Few enough actions in an hour.
    ActionBudget,
    /// The runbook has not failed too often.
    CircuitBreaker,
    /// The level allows it, or someone else approved.
    Approval,
}

impl Guard {
    /// The problem of the REST contract that it is refused with.
    pub fn problem(self) -> &'static str {
        match self {
            Self::Enabled => "component-disabled",
            Self::KillSwitch | Self::ProtectedTarget | Self::BlastRadius => "policy-denied",
            Self::FreezeWindow => "freeze-window",
            Self::TargetLock => "concurrent-remediation",
            Self::CoolDown => "cooldown-active",
            Self::ActionBudget => "action-budget",
            Self::CircuitBreaker => "circuit-open",
            Self::Approval => "approval-required",
        }
    }
}

/// What a guard says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ruling {
    /// The guard.
    pub rule: Guard,
    /// Whether it lets pass.
    pub passed: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// What all of them say.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may act.
    Allow,
    /// It may act when someone else approves.
    NeedsApproval,
    /// It may not.
    Deny,
    /// It would be allowed, but nothing is to be done.
    DryRun,
}

/// The decision with all rulings.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// What each guard said, in the order in which they are asked.
    pub rules: Vec<Ruling>,
}

impl Verdict {
    /// The first guard that did not let pass.
    pub fn refusal(&self) -> Option<&Ruling> {
        self.rules.iter().find(|ruling| !ruling.passed)
    }
}

/// Asks every guard.
pub fn verdict(proposal: &Proposal, situation: &Situation) -> Verdict {
    let rules = vec![
        enabled(situation),
        ruling(Guard::KillSwitch, !situation.kill_switch, "it is not pulled", "it is pulled: release it first"),
        frozen(situation),
        ruling(
            Guard::ProtectedTarget,
            !situation.is_protected,
            "it is not protected",
            "only people act on this target",
        ),
        locked(situation),
        cool_down(situation),
        blast_radius(proposal, situation),
        action_budget(situation),
        circuit(situation),
        approval(proposal, situation),
    ];
    let refused: Vec<Guard> = rules.iter().filter(|ruling| !ruling.passed).map(|ruling| ruling.rule).collect();
    let decision = match refused[..] {
        [] if proposal.dry_run => Decision::DryRun,
        [] => Decision::Allow,
        [Guard::Approval] => Decision::NeedsApproval,
        _ => Decision::Deny,
    };
    Verdict { decision, rules }
}

fn ruling(rule: Guard, passed: bool, yes: &str, no: &str) -> Ruling {
    Ruling { rule, passed, reason: if passed { yes } else { no }.to_owned() }
}

fn enabled(situation: &Situation) -> Ruling {
    let on = situation.is_enabled && situation.level != Automation::Off;
    ruling(Guard::Enabled, on, "self-healing is on", "self-healing is off, or only advises")
}

fn frozen(situation: &Situation) -> Ruling {
    let reason = match situation.frozen {
        Some(window) => format!("\"{window}\" is on: wait for its end, or end it"),
        None => "no window is on".to_owned(),
    };
    Ruling { rule: Guard::FreezeWindow, passed: situation.frozen.is_none(), reason }
}

fn locked(situation: &Situation) -> Ruling {
    let reason = match situation.locked_by {
        Some(other) => format!("remediation {other} works on this target"),
        None => "nobody works on this target".to_owned(),
    };
    Ruling { rule: Guard::TargetLock, passed: situation.locked_by.is_none(), reason }
}

fn cool_down(situation: &Situation) -> Ruling {
    let left_us = situation.cooldown_until_us.map_or(0, |until_us| until_us.saturating_sub(situation.now_us));
    let reason = if left_us > 0 {
        format!("the target rests for another {:.1} s", left_us as f64 / 1e6)
    } else {
        "the target has had its rest".to_owned()
    };
    Ruling { rule: Guard::CoolDown, passed: left_us <= 0, reason }
}

fn blast_radius(proposal: &Proposal, situation: &Situation) -> Ruling {
    let allowed = ((situation.fleet as f64 * situation.blast_radius).floor() as usize).max(1);
    let wanted = situation.acted_on + proposal.targets;
    let reason = format!("{wanted} of {} targets at once, {allowed} may be", situation.fleet);
    Ruling { rule: Guard::BlastRadius, passed: wanted <= allowed, reason }
}

fn action_budget(situation: &Situation) -> Ruling {
    let reason = format!("{} of {} actions of this hour are used", situation.actions, situation.actions_max);
    Ruling { rule: Guard::ActionBudget, passed: situation.actions < situation.actions_max, reason }
}

fn circuit(situation: &Situation) -> Ruling {
    let (passed, reason) = match situation.circuit {
        Circuit::Closed => (true, "it is closed".to_owned()),
        Circuit::HalfOpen if situation.is_trying => (false, "it is half open, and a try is under way".to_owned()),
        Circuit::HalfOpen => (true, "it is half open: this is the try".to_owned()),
        Circuit::Open { until_us } => {
            let left_s = until_us.saturating_sub(situation.now_us) as f64 / 1e6;
            (false, format!("the runbook failed too often: it is open for another {left_s:.0} s"))
        }
    };
    Ruling { rule: Guard::CircuitBreaker, passed, reason }
}

fn approval(proposal: &Proposal, situation: &Situation) -> Ruling {
    let by_other = proposal.approved_by.is_some_and(|approver| proposal.origin != Origin::Person(approver));
    let alone = match proposal.origin {
        Origin::Autopilot => {
            acts_alone(situation.level, proposal.risk, proposal.is_autonomous || proposal.is_automated)
        }
        Origin::Person(_) => proposal.risk < Risk::High,
    };
    let reason = match (by_other, alone && !proposal.wants_approval) {
        (true, _) => "someone else approved",
        (false, true) => "the level and the risk allow it",
        (false, false) if proposal.approved_by.is_some() => "who asked cannot approve: ask another person",
        (false, false) if proposal.wants_approval => "approval was asked for",
        (false, false) => "the risk is too high for the level: another person must approve",
    };
    let passed = by_other || (alone && !proposal.wants_approval);
    Ruling { rule: Guard::Approval, passed, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
