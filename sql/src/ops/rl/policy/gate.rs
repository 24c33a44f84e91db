//! What a candidate may do: whether it is promoted, and how much it may explore where.
//!
//! **Invariant:** nothing here explores on a live service unless canaries are allowed and error budget is left.

use super::comparison::Improvement;
use super::evaluation::{Evaluation, Method};

/// The most that recommendations may vary, in percent.
pub const STABILITY_MAX_PERCENT: f64 = 5.0;
/// The share of live decisions that may ever explore.
pub const EXPLORATION_MAX: f64 = 0.2;
/// Below this share of the error budget nothing live explores.
const BUDGET_MIN: f64 = 0.1;

/// Whether a candidate replaces the active policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Promotion {
    /// It does.
    Promote,
    /// It does not, for these reasons.
    Keep(Vec<String>),
}

/// Judges a candidate: the lower bound of its doubly robust value must be above the active policy's value, and so must that of
/// their difference; its recommendations must be steady.
///
/// `evaluation` is the candidate against the active policy, `stability_pct` what [`super::stability::stability`] measured.
#[must_use]
pub fn promotion(evaluation: &Evaluation, stability_pct: f64) -> Promotion {
    let mut reasons = Vec::new();
    let low = evaluation.estimate(Method::Dr).ci95[0];
    // What is not a number is above nothing.
    let (above, leads) = (low > evaluation.baseline.value, evaluation.difference.ci95[0] > 0.0);
    if !above {
        reasons.push(format!(
            "the lower bound of its value, {low:.4}, is not above the active policy's {:.4}",
            evaluation.baseline.value
        ));
    }
    if !leads {
        reasons.push(format!("its lead over the active policy may be {:.4}", evaluation.difference.ci95[0]));
    }
    reasons.extend(unsteady(stability_pct));
    if reasons.is_empty() { Promotion::Promote } else { Promotion::Keep(reasons) }
}

/// Judges a candidate that no logged decisions speak of, by what it did in the simulator on days that it was not trained on: the
/// lower bound of its lead must be above 0, and its recommendations steady.
#[must_use]
pub fn simulated(lead: &Improvement, stability_pct: f64) -> Promotion {
    let mut reasons = Vec::new();
    let is_ahead = lead.ci95[0] > 0.0;
    if !is_ahead {
        reasons.push(format!("its lead in the simulator may be {:.1} %", lead.ci95[0]));
    }
    reasons.extend(unsteady(stability_pct));
    if reasons.is_empty() { Promotion::Promote } else { Promotion::Keep(reasons) }
}

/// What is against a policy whose recommendations vary too much, or by nobody knows how much.
#[must_use]
pub fn unsteady(stability_pct: f64) -> Option<String> {
    if stability_pct < STABILITY_MAX_PERCENT {
        return None;
    }
    let known = if stability_pct.is_finite() { format!("by {stability_pct:.1} %") } else { "unmeasured".to_owned() };
    Some(format!("its recommendations vary {known}, {STABILITY_MAX_PERCENT} % is the most"))
}

/// Where decisions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the simulator.
    Simulator,
    /// Beside the service: computed and logged, not carried out.
    Shadow,
    /// On a part of the service.
    Canary,
    /// On the whole service.
    Active,
}

/// The share of decisions that may explore, of `asked`.
///
/// Simulator and shadow explore as asked. A canary does only where `canaries_allowed`, at most [`EXPLORATION_MAX`], in proportion to
/// the share of the error budget that is left, and not at all below a tenth of it. The active policy never explores.
#[must_use]
pub fn exploration(place: Place, asked: f64, canaries_allowed: bool, budget_left: f64) -> f64 {
    let asked = if asked.is_finite() { asked.clamp(0.0, 1.0) } else { 0.0 };
    match place {
        Place::Simulator | Place::Shadow => asked,
        Place::Canary if canaries_allowed && budget_left >= BUDGET_MIN => {
            asked.min(EXPLORATION_MAX) * budget_left.min(1.0)
        }
        Place::Canary | Place::Active => 0.0,
    }
}

/// Chances that explore: `rate` of all decisions take any arm, the others follow the recommendation. The chance of the arm that is
/// drawn is the propensity to log.
#[must_use]
pub fn explored(recommended: &[f64], rate: f64) -> Vec<f64> {
    let even = rate / recommended.len().max(1) as f64;
    recommended.iter().map(|chance| (1.0 - rate) * chance + even).collect()
}

/// The arm that a number from 0 up to below 1 draws from chances.
#[must_use]
pub fn drawn(chances: &[f64], unit: f64) -> usize {
    let mut left = unit * chances.iter().sum::<f64>();
    for (arm, chance) in chances.iter().enumerate() {
        left -= chance;
        if left < 0.0 {
            return arm;
        }
    }
    chances.iter().rposition(|chance| *chance > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rl::policy::evaluation::{Estimate, Verdict};

    fn evaluation(low: f64, difference: f64) -> Evaluation {
        let estimate = |value: f64| Estimate { value, ci95: [value - 0.01, value + 0.01] };
        Evaluation {
            estimates: [Estimate { value: low + 0.01, ci95: [low, low + 0.02] }; 4],
            baseline: estimate(-0.3),
            difference: Estimate { value: difference + 0.01, ci95: [difference, difference + 0.02] },
            improvement_pct: 1.0,
            p_better: 0.9,
            effective_decisions: 500.0,
            weight_max: 3.0,
            verdict: Verdict::Better,
            overlap_warning: None,
        }
    }

    #[test]
    fn only_a_steady_policy_with_a_certain_lead_is_promoted() {
        assert_eq!(promotion(&evaluation(-0.2, 0.05), 3.0), Promotion::Promote);
        let kept = |evaluation: &Evaluation, stability| match promotion(evaluation, stability) {
            Promotion::Keep(reasons) => reasons.join("; "),
            Promotion::Promote => String::new(),
        };
        assert!(kept(&evaluation(-0.35, 0.05), 3.0).contains("lower bound"));
        assert!(kept(&evaluation(-0.2, -0.01), 3.0).contains("lead"));
        assert!(kept(&evaluation(-0.2, 0.05), 5.0).contains("vary"));
        assert!(kept(&evaluation(f64::NAN, f64::NAN), f64::NAN).matches(';').count() == 2);
    }

    #[test]
    fn without_a_log_a_certain_lead_in_the_simulator_speaks_for_a_policy() {
        let lead = |low: f64| Improvement { percent: low + 5.0, ci95: [low, low + 10.0] };
        assert_eq!(simulated(&lead(0.1), 3.0), Promotion::Promote);
        for (lead, stability) in [(lead(-0.1), 3.0), (lead(0.1), 5.0), (lead(0.1), f64::NAN), (lead(f64::NAN), 3.0)] {
            assert!(matches!(simulated(&lead, stability), Promotion::Keep(reasons) if reasons.len() == 1));
        }
    }

    #[test]
    fn exploration_is_capped_by_the_error_budget_and_never_active() {
        assert_eq!(exploration(Place::Simulator, 0.5, false, 0.0), 0.5);
        assert_eq!(exploration(Place::Shadow, 0.3, false, 0.0), 0.3);
        assert_eq!(exploration(Place::Canary, 0.5, false, 1.0), 0.0);
        assert_eq!(exploration(Place::Canary, 0.5, true, 0.5), 0.1);
        assert_eq!(exploration(Place::Canary, 0.5, true, 0.05), 0.0);
        assert_eq!(exploration(Place::Canary, 0.5, true, f64::NAN), 0.0);
        assert_eq!(exploration(Place::Active, 0.5, true, 1.0), 0.0);
        assert_eq!(exploration(Place::Simulator, f64::NAN, true, 1.0), 0.0);
    }

    #[test]
    fn arms_are_drawn_by_their_chances_and_every_arm_can_be() {
        let chances = explored(&[0.0, 1.0, 0.0], 0.3);
        assert!((chances[0] - 0.1).abs() < 1e-12 && (chances[1] - 0.8).abs() < 1e-12);
        let count = |arm| (0..1_000).filter(|i| drawn(&chances, (f64::from(*i) + 0.5) / 1e3) == arm).count();
        assert_eq!((count(0), count(1), count(2)), (100, 800, 100));
        assert_eq!(drawn(&[0.5, 0.5, 0.0], 0.999_999_999_999_999_9), 1);
    }
}
