//! What outcomes teach about a policy: which change to propose, and whether the last one was any good.
//!
//! **Formula.** Shares of success are judged by Wilson's 95 % interval, so that few outcomes teach nothing. Healing that succeeds
//! in at least 95 % of the cases and uses its budget of actions gets a larger one; where it succeeds in less than 80 % it gets a
//! smaller one and a shorter fuse. Threats of which more than 10 % are labelled false need more confidence, less than 2 % a little
//! less. Scaling that breaks its service level more often than once in a thousand needs more confidence. Learned policies of whose
//! quarters of an hour less than 90 % stay within the error budget explore half as much and move knobs less far; above 98 % they may
//! explore a little more. An adaptation is worse when the interval after it lies below the one before.
//!
//! **Invariant:** pure; proposals are held to the rails of [`super::policy`] like everybody's.

use serde_json::{Map, Value, json};

use crate::ops::healing::policy::track_record::wilson_lower;

/// So many outcomes after an adaptation measure it.
pub(crate) const OUTCOMES_MIN: u64 = 20;

/// Exploration is never raised beyond this by itself.
const EXPLORATION_MAX: f64 = 0.1;

/// How often something went well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) good: u64,
    pub(crate) all: u64,
}

impl Share {
    fn lower(self) -> f64 {
        wilson_lower(self.good, self.all)
    }

    fn upper(self) -> f64 {
        if self.all == 0 { 1.0 } else { 1.0 - wilson_lower(self.all - self.good, self.all) }
    }

    fn of(self) -> f64 {
        self.good as f64 / self.all.max(1) as f64
    }
}

/// What came of what a policy allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcomes {
    pub(crate) share: Share,
    /// The most actions that an hour saw.
    pub(crate) hour_max: u64,
}

/// A change to propose, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lesson {
    pub(crate) policy: Map<String, Value>,
    pub(crate) reason: String,
}

/// What the outcomes since the last change teach about a policy.
pub(crate) fn learn(policy_type: &str, policy: &Map<String, Value>, outcomes: Outcomes) -> Option<Lesson> {
    let (share, number) = (outcomes.share, |key: &str| policy.get(key).and_then(Value::as_f64));
    if share.all < OUTCOMES_MIN {
        return None;
    }
    let told = format!("{} of {} outcomes were good", share.good, share.all);
    let lesson = |change: Value, why: &str| {
        let policy = change.as_object().cloned().unwrap_or_default();
        Some(Lesson { policy, reason: format!("{told}: {why}") })
    };
    match policy_type {
        "healing" => {
            let (actions, failures) = (number("actions_per_hour")?, number("circuit_failures")?);
            if share.upper() < 0.8 {
                let change = json!({
                    "actions_per_hour": (0.75 * actions).floor(), "circuit_failures": (failures - 1.0).max(1.0)
                });
                return lesson(change, "fewer actions, and runbooks rest sooner");
            }
            let is_used = outcomes.hour_max as f64 >= 0.8 * actions;
            if share.lower() >= 0.95 && is_used {
                let more = (1.2 * actions).floor().max(actions + 1.0);
                return lesson(json!({ "actions_per_hour": more }), "it may act more often, as it needs to");
            }
            None
        }
        "threats" => {
            let confidence = number("confidence_min")?;
            let changed = |by: f64| json!({ "confidence_min": ((confidence + by) * 1e4).round() / 1e4 });
            if share.upper() < 0.9 && confidence < 0.99 {
                return lesson(changed(0.02), "too many alerts are false, so that they need more confidence");
            }
            if share.lower() > 0.98 && confidence > 0.6 {
                return lesson(changed(-0.01), "hardly any alert is false, so that they may need less confidence");
            }
            None
        }
        "scaling" => {
            let confidence = number("confidence_min")?;
            let is_short = share.upper() < 0.999 && confidence < 0.98;
            let change = json!({ "confidence_min": ((confidence + 0.02) * 1e4).round() / 1e4 });
            if is_short {
                lesson(change, "the service level was missed, so that plans need more confidence")
            } else {
                None
            }
        }
        "rl" => {
            let (exploration, change_pct) = (number("exploration_max")?, number("change_pct")?);
            let rounded = |value: f64| (value * 1e4).round() / 1e4;
            if share.upper() < 0.9 && exploration > 0.001 {
                let change = json!({
                    "exploration_max": rounded(exploration / 2.0), "change_pct": rounded((0.8 * change_pct).max(1.0))
                });
                return lesson(change, "the error budget is overspent too often, so that less is tried");
            }
            if share.lower() > 0.98 && (0.001..EXPLORATION_MAX).contains(&exploration) {
                let more = rounded((1.2 * exploration).min(EXPLORATION_MAX));
                return lesson(
                    json!({ "exploration_max": more }),
                    "the error budget is kept, so that more may be tried",
                );
            }
            None
        }
        _ => None,
    }
}

/// How good an adaptation was, 0 to 1, and whether it made things worse; None while there are too few outcomes after it.
pub(crate) fn effectiveness(before: Share, after: Share) -> Option<(f64, bool)> {
    let is_worse = before.all >= OUTCOMES_MIN && after.upper() < before.lower();
    (after.all >= OUTCOMES_MIN).then(|| (after.of(), is_worse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::governance::policy::{Decision, Limits, judge};

    fn policy(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    fn share(good: u64, all: u64) -> Share {
        Share { good, all }
    }

    #[test]
    fn few_outcomes_teach_nothing() {
        let healing = policy(r#"{"actions_per_hour": 10, "circuit_failures": 3}"#);
        assert_eq!(learn("healing", &healing, Outcomes { share: share(0, 19), hour_max: 10 }), None);
        assert_eq!(effectiveness(share(50, 50), share(0, 19)), None);
    }

    #[test]
    fn healing_earns_and_loses_its_budget_within_the_rails() {
        let healing =
            policy(r#"{"actions_per_hour": 10, "blast_radius_pct": 20, "cooldown_s": 300, "circuit_failures": 3}"#);
        let good = Outcomes { share: share(100, 100), hour_max: 9 };
        let more = learn("healing", &healing, good).unwrap();
        assert_eq!(more.policy["actions_per_hour"], 12.0);
        assert_eq!(learn("healing", &healing, Outcomes { hour_max: 3, ..good }), None, "it has enough");
        let bad = learn("healing", &healing, Outcomes { share: share(20, 40), hour_max: 9 }).unwrap();
        assert_eq!((&bad.policy["actions_per_hour"], &bad.policy["circuit_failures"]), (&json!(7.0), &json!(2.0)));
        let limits = Limits { changes_per_day: 10.0, step_pct: 25.0 };
        for lesson in [more, bad] {
            let verdict = judge("healing", &healing, &lesson.policy, limits, 0);
            assert_eq!(verdict.decision, Decision::Allow, "{}", verdict.reason());
        }
    }

    #[test]
    fn labels_and_missed_service_levels_move_confidence() {
        let threats = policy(r#"{"confidence_min": 0.9}"#);
        let moved = |policy_type: &str, good, all| {
            let lesson = learn(policy_type, &threats, Outcomes { share: share(good, all), hour_max: 0 })?;
            lesson.policy["confidence_min"].as_f64()
        };
        assert_eq!(moved("threats", 30, 60), Some(0.92));
        assert_eq!(moved("threats", 400, 400), Some(0.89));
        assert_eq!(moved("threats", 57, 60), None);
        assert_eq!(moved("scaling", 900, 1000), Some(0.92));
        assert_eq!(moved("scaling", 1000, 1000), None);
    }

    #[test]
    fn learned_policies_explore_as_far_as_the_error_budget_goes() {
        let rl = policy(r#"{"change_pct": 25, "exploration_max": 0.05, "violation_max": 0.001}"#);
        let learned =
            |rl: &Map<String, Value>, good, all| learn("rl", rl, Outcomes { share: share(good, all), hour_max: 0 });
        let less = learned(&rl, 40, 60).unwrap().policy;
        assert_eq!((&less["exploration_max"], &less["change_pct"]), (&json!(0.025), &json!(20.0)));
        assert_eq!(learned(&rl, 400, 400).unwrap().policy, policy(r#"{"exploration_max": 0.06}"#));
        assert_eq!(learned(&rl, 57, 60), None);
        assert_eq!(learned(&policy(r#"{"change_pct": 25, "exploration_max": 0.1}"#), 400, 400), None, "it is enough");
    }

    #[test]
    fn an_adaptation_after_which_less_succeeds_is_worse() {
        assert_eq!(effectiveness(share(98, 100), share(40, 60)), Some((40.0 / 60.0, true)));
        assert_eq!(effectiveness(share(98, 100), share(58, 60)), Some((58.0 / 60.0, false)));
        assert_eq!(effectiveness(share(3, 3), share(10, 30)), Some((10.0 / 30.0, false)), "nothing to compare with");
    }
}
