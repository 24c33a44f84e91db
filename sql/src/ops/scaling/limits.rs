//! What limits every change of units: guard rails, cool-down and the confidence that is required.
//!
//! **Invariant:** settings and what governance made of them hold both, the stricter of them.

use serde_json::Value;

use super::policy::UNITS_MAX;
use super::policy::execution::Rails;
use crate::Result;
use crate::operation::OperationSettings;
use crate::ops::governance;
use crate::session::Session;

/// What the policy `scaling` is shipped with.
const SHIPPED: [(&str, f64); 2] = [("cooldown_s", 300.0), ("confidence_min", 0.8)];

/// The limits that hold now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) rails: Rails,
    pub(super) cooldown_s: u32,
    pub(super) confidence: f64,
}

impl Limits {
    /// SCALING_COOLDOWN_PERIOD and SCALING_CONFIDENCE_THRESHOLD hold; what governance made of them since is kept too, where it is
    /// stricter.
    pub(super) async fn of(own: &Session, settings: &OperationSettings) -> Result<Self> {
        let policy = governance::stored(own, "scaling").await?.policy;
        let number = |key: &str| policy.get(key).and_then(Value::as_f64).unwrap_or_default();
        let [cooldown_s, confidence] = SHIPPED.map(|(key, shipped)| {
            let adapted = number(key);
            if (adapted - shipped).abs() < f64::EPSILON { 0.0 } else { adapted }
        });
        let units = |key: &str| number(key).clamp(0.0, f64::from(UNITS_MAX)) as u32;
        let rails =
            Rails { units_min: units("replicas_min"), units_max: units("replicas_max"), step_pct: number("step_pct") };
        let set_s = u32::try_from(settings.scaling_cooldown_s).unwrap_or(u32::MAX);
        Ok(Self {
            rails,
            cooldown_s: set_s.max(cooldown_s as u32),
            confidence: settings.scaling_confidence.max(confidence),
        })
    }
}
