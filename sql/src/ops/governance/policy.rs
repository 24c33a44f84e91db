//! Guard rails: which changes of which policies are allowed, which must be approved, and which are never made.
//!
//! Every number of a policy has hard bounds. A change that makes a policy stricter is allowed; one that makes it looser by no more
//! than the step of the policy `governance` is allowed too; a larger one must be approved by another person; one beyond the bounds
//! is denied, and so is one more than a day may see. Members of the policy `approvals` are runbooks: 1 lets one run at one level of
//! risk more without asking, which must be approved unless it was earned ([`super::automate`]).
//!
//! **Invariant:** pure: no clock, no table; the same change gets the same verdict.

use serde_json::{Map, Value, json};

use crate::operation::{Form, Member};
use crate::ops::healing::policy::runbook::built_in;

/// Which way a number makes a policy looser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looser {
    Higher,
    Lower,
}

/// One number of a policy.
struct Rail {
    policy: &'static str,
    key: &'static str,
    least: f64,
    most: f64,
    looser: Looser,
}

const fn rail(policy: &'static str, key: &'static str, least: f64, most: f64, looser: Looser) -> Rail {
    Rail { policy, key, least, most, looser }
}

/// Every number of every policy.
const RAILS: &[Rail] = &[
    rail("healing", "actions_per_hour", 0.0, 100.0, Looser::Higher),
    rail("healing", "blast_radius_pct", 0.0, 50.0, Looser::Higher),
    rail("healing", "cooldown_s", 30.0, 86_400.0, Looser::Lower),
    rail("healing", "circuit_failures", 1.0, 10.0, Looser::Higher),
    rail("scaling", "step_pct", 1.0, 200.0, Looser::Higher),
    rail("scaling", "replicas_min", 0.0, 10_000.0, Looser::Lower),
    rail("scaling", "replicas_max", 1.0, 10_000.0, Looser::Higher),
    rail("scaling", "cooldown_s", 30.0, 86_400.0, Looser::Lower),
    rail("scaling", "confidence_min", 0.5, 1.0, Looser::Lower),
    rail("threats", "actions_per_hour", 0.0, 200.0, Looser::Higher),
    rail("threats", "confidence_min", 0.5, 1.0, Looser::Lower),
    rail("threats", "response_ttl_s", 60.0, 86_400.0, Looser::Higher),
    rail("rl", "change_pct", 1.0, 50.0, Looser::Higher),
    rail("rl", "exploration_max", 0.0, 0.3, Looser::Higher),
    rail("rl", "violation_max", 0.0, 0.05, Looser::Higher),
    rail("governance", "changes_per_day", 1.0, 50.0, Looser::Higher),
    rail("governance", "step_pct", 1.0, 50.0, Looser::Higher),
];

/// The policy of approvals that are automated.
pub(crate) const APPROVALS: &str = "approvals";
/// Every member of it: by how many levels of risk more a runbook runs without asking.
const AUTOMATED: Rail = rail(APPROVALS, "", 0.0, 1.0, Looser::Higher);

/// The policies that there are.
pub(crate) const POLICIES: &[&str] = &["healing", "scaling", "threats", "rl", "governance", APPROVALS];

/// The members that a policy can have.
fn members(policy: &str) -> Vec<String> {
    if policy == APPROVALS {
        return built_in().into_iter().map(|runbook| runbook.name).collect();
    }
    RAILS.iter().filter(|rail| rail.policy == policy).map(|rail| rail.key.to_owned()).collect()
}

/// The bounds of a member, where the policy can have it.
fn rail_of(policy: &str, key: &str) -> Option<&'static Rail> {
    if policy == APPROVALS {
        return members(policy).iter().any(|name| name == key).then_some(&AUTOMATED);
    }
    RAILS.iter().find(|rail| rail.policy == policy && rail.key == key)
}

/// What guard rails say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decision {
    Allow,
    NeedsApproval,
    Deny,
}

impl Decision {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::NeedsApproval => "needs_approval",
            Decision::Deny => "deny",
        }
    }
}

const SAYS: Form = Form::Choice(&["allow", "needs_approval", "deny"]);
const SAID: &[Member] = &[
    Member::new("key", Form::Text, "The member that it is about."),
    Member::new("decision", SAYS, "What it says."),
    Member::new("detail", Form::Text, "Why."),
];
/// What is told of a [`Verdict`].
pub(crate) const VERDICT: &[Member] = &[
    Member::new("decision", SAYS, "What they say together."),
    Member::new("rules", Form::List(&Form::Object(SAID)), "What each rule says."),
];

/// What one rule says of one member.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) key: String,
    pub(crate) decision: Decision,
    pub(crate) detail: String,
}

/// The decision and the rules that it follows from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    pub(crate) rules: Vec<Said>,
}

impl Verdict {
    pub(crate) fn json(&self) -> Value {
        let rules = self
            .rules
            .iter()
            .map(|said| json!({ "key": said.key, "decision": said.decision.name(), "detail": said.detail }));
        json!({ "decision": self.decision.name(), "rules": rules.collect::<Vec<_>>() })
    }

    /// Allows a member what it was to be approved for, as it was earned.
    pub(crate) fn earn(&mut self, key: &str, detail: &str) {
        let asked = |said: &&mut Said| said.key == key && said.decision == Decision::NeedsApproval;
        for said in self.rules.iter_mut().filter(asked) {
            said.decision = Decision::Allow;
            said.detail = detail.to_owned();
        }
        self.decision = self.rules.iter().map(|said| said.decision).max().unwrap_or(Decision::Allow);
    }

    /// The words of those rules that decided.
    pub(crate) fn reason(&self) -> String {
        let decided = self.rules.iter().filter(|said| said.decision == self.decision);
        decided.map(|said| format!("{}: {}", said.key, said.detail)).collect::<Vec<_>>().join("; ")
    }
}

/// How much may change without asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// Changes in 24 hours.
    pub(crate) changes_per_day: f64,
    /// How far a member may be loosened at a time, in percent of what it was.
    pub(crate) step_pct: f64,
}

/// Judges a change of one policy: `changes` are the members that are to be other than in `old`; `made` were made today.
pub(crate) fn judge(
    policy: &str,
    old: &Map<String, Value>,
    changes: &Map<String, Value>,
    limits: Limits,
    made: u64,
) -> Verdict {
    let mut rules: Vec<Said> =
        changes.iter().map(|(key, new)| member(policy, key, old.get(key), new, limits)).collect();
    if made as f64 >= limits.changes_per_day {
        let detail = format!("{made} changes in 24 hours are all that may be made");
        rules.push(Said { key: "changes_per_day".into(), decision: Decision::Deny, detail });
    }
    let decision = rules.iter().map(|said| said.decision).max().unwrap_or(Decision::Allow);
    Verdict { decision, rules }
}

/// Judges going back to `before`: what is other there, and what is missing there. A day sees as many of these as it needs.
pub(crate) fn judge_back(
    policy: &str,
    now: &Map<String, Value>,
    before: &Map<String, Value>,
    limits: Limits,
) -> Verdict {
    let is_same = |one: &Value, other: &Value| one == other || (one.is_number() && one.as_f64() == other.as_f64());
    let changed = before.iter().filter(|&(key, value)| !now.get(key).is_some_and(|now| is_same(now, value)));
    let changes: Map<String, Value> = changed.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut verdict = judge(policy, now, &changes, Limits { changes_per_day: f64::INFINITY, ..limits }, 0);
    // A runbook that is not named asks, as one does that is 0.
    for key in now.keys().filter(|key| policy != APPROVALS && !before.contains_key(*key)) {
        let detail = "there would be no such limit any more".into();
        verdict.rules.push(Said { key: key.clone(), decision: Decision::NeedsApproval, detail });
    }
    verdict.decision = verdict.rules.iter().map(|said| said.decision).max().unwrap_or(Decision::Allow);
    verdict
}

fn member(policy: &str, key: &str, old: Option<&Value>, new: &Value, limits: Limits) -> Said {
    let said = |decision, detail: String| Said { key: key.to_owned(), decision, detail };
    let Some(rail) = rail_of(policy, key) else {
        let known = members(policy).join(", ");
        return said(Decision::Deny, format!("policy {policy} has no such member; it has {known}"));
    };
    let Some(number) = new.as_f64() else { return said(Decision::Deny, format!("{new} is no number")) };
    if !(rail.least..=rail.most).contains(&number) {
        return said(Decision::Deny, format!("{number} is outside of {} to {}", rail.least, rail.most));
    }
    let is_switch = policy == APPROVALS;
    if is_switch && number.fract() != 0.0 {
        return said(Decision::Deny, format!("{number} is neither 0 nor 1"));
    }
    let Some(was) = old.and_then(Value::as_f64).or(is_switch.then_some(0.0)) else {
        return said(Decision::NeedsApproval, "there was no such limit before".into());
    };
    let looser = match rail.looser {
        Looser::Higher => number - was,
        Looser::Lower => was - number,
    };
    let pct = if was == 0.0 { f64::INFINITY } else { 100.0 * looser / was.abs() };
    match looser {
        _ if looser <= 0.0 => said(Decision::Allow, format!("{was} to {number} is no looser")),
        _ if pct <= limits.step_pct => said(Decision::Allow, format!("{was} to {number} is looser by {pct:.0} %")),
        _ => {
            let detail = format!("{was} to {number} is looser by more than {} %", limits.step_pct);
            said(Decision::NeedsApproval, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { changes_per_day: 3.0, step_pct: 25.0 };

    fn judged(policy: &str, old: Value, changes: Value, made: u64) -> Decision {
        judge(policy, old.as_object().unwrap(), changes.as_object().unwrap(), LIMITS, made).decision
    }

    #[test]
    fn stricter_is_allowed_looser_is_asked_for_and_beyond_the_bounds_is_denied() {
        let old = json!({"actions_per_hour": 10, "cooldown_s": 300});
        for (changes, expected) in [
            (json!({"actions_per_hour": 5}), Decision::Allow),
            (json!({"actions_per_hour": 12}), Decision::Allow),
            (json!({"actions_per_hour": 13}), Decision::NeedsApproval),
            (json!({"cooldown_s": 600}), Decision::Allow),
            (json!({"cooldown_s": 100}), Decision::NeedsApproval),
            (json!({"cooldown_s": 1}), Decision::Deny),
            (json!({"actions_per_hour": 5, "cooldown_s": 1}), Decision::Deny),
            (json!({"blast_radius_pct": 10}), Decision::NeedsApproval),
            (json!({"magic": 1}), Decision::Deny),
            (json!({"cooldown_s": "soon"}), Decision::Deny),
            (json!({}), Decision::Allow),
        ] {
            assert_eq!(judged("healing", old.clone(), changes.clone(), 0), expected, "{changes}");
        }
        assert_eq!(
            judged("healing", json!({"actions_per_hour": 0}), json!({"actions_per_hour": 1}), 0),
            Decision::NeedsApproval
        );
    }

    #[test]
    fn a_day_sees_so_many_changes_and_no_more() {
        let old = json!({"step_pct": 50});
        assert_eq!(judged("scaling", old.clone(), json!({"step_pct": 40}), 2), Decision::Allow);
        assert_eq!(judged("scaling", old, json!({"step_pct": 40}), 3), Decision::Deny);
    }

    #[test]
    fn a_runbook_runs_without_asking_where_that_was_earned_or_approved() {
        let changes = json!({ "failover": 1 });
        let judged = |changes: &Value, made| judge(APPROVALS, &Map::new(), changes.as_object().unwrap(), LIMITS, made);
        let mut verdict = judged(&changes, 0);
        assert_eq!(verdict.decision, Decision::NeedsApproval);
        verdict.earn("restart", "another one");
        assert_eq!(verdict.decision, Decision::NeedsApproval);
        verdict.earn("failover", "it always healed");
        assert_eq!((verdict.decision, verdict.reason().as_str()), (Decision::Allow, "failover: it always healed"));
        let mut many = judged(&changes, 3);
        many.earn("failover", "it always healed");
        assert_eq!(many.decision, Decision::Deny, "a day sees no more");
        for (changes, expected) in [
            (json!({ "failover": 0 }), Decision::Allow),
            (json!({ "failover": 0.5 }), Decision::Deny),
            (json!({ "failover": 2 }), Decision::Deny),
            (json!({ "magic": 1 }), Decision::Deny),
        ] {
            assert_eq!(judged(&changes, 0).decision, expected, "{changes}");
        }
        let old = json!({ "failover": 1 });
        let back = json!({ "failover": 0 });
        let back = judge(APPROVALS, old.as_object().unwrap(), back.as_object().unwrap(), LIMITS, 0);
        assert_eq!(back.decision, Decision::Allow, "less is never asked about");
    }

    #[test]
    fn going_back_is_judged_as_a_change_is_and_a_limit_that_goes_is_asked_about() {
        let now = json!({"actions_per_hour": 10, "cooldown_s": 300});
        for (before, expected) in [
            (json!({"actions_per_hour": 10.0, "cooldown_s": 300}), Decision::Allow),
            (json!({"actions_per_hour": 8, "cooldown_s": 600}), Decision::Allow),
            (json!({"actions_per_hour": 12, "cooldown_s": 300}), Decision::Allow),
            (json!({"actions_per_hour": 13, "cooldown_s": 300}), Decision::NeedsApproval),
            (json!({"actions_per_hour": 10}), Decision::NeedsApproval),
            (json!({"actions_per_hour": 8, "cooldown_s": 1}), Decision::Deny),
            (json!({"actions_per_hour": "all", "cooldown_s": 300}), Decision::Deny),
        ] {
            let verdict = judge_back("healing", now.as_object().unwrap(), before.as_object().unwrap(), LIMITS);
            assert_eq!(verdict.decision, expected, "{before}");
        }
        for (now, before, expected) in [
            (json!({"failover": 1}), json!({}), Decision::Allow),
            (json!({"failover": 0}), json!({"failover": 1}), Decision::NeedsApproval),
            (json!({}), json!({"failover": 1}), Decision::NeedsApproval),
        ] {
            let verdict = judge_back(APPROVALS, now.as_object().unwrap(), before.as_object().unwrap(), LIMITS);
            assert_eq!(verdict.decision, expected, "{now} to {before}");
        }
    }

    #[test]
    fn the_shipped_policies_are_within_their_rails() {
        let migration = include_str!("../../../../migrations/0005_operations.sql");
        for policy in POLICIES.iter().filter(|policy| **policy != APPROVALS) {
            let line = migration.lines().find(|line| line.contains(&format!("('{policy}', 1"))).expect(policy);
            let text = &line[line.find('{').unwrap()..=line.find('}').unwrap()];
            let shipped: Map<String, Value> = serde_json::from_str(text).unwrap();
            let rails: Vec<&Rail> = RAILS.iter().filter(|rail| rail.policy == *policy).collect();
            assert_eq!(shipped.len(), rails.len(), "{policy}");
            for rail in rails {
                let number = shipped[rail.key].as_f64().unwrap();
                assert!((rail.least..=rail.most).contains(&number), "{policy}.{}", rail.key);
            }
        }
    }
}
