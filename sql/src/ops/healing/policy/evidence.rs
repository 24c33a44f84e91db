//! What is known of one service while an incident lasts.
//!
//! **Invariant:** what is not known is None, and no test of a cause takes it for calm or for ill.

use serde::{Deserialize, Serialize};

/// What the operating system or the orchestrator says of a service's processes; the worst of several.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// Nobody can say.
    #[default]
    Unknown,
    /// Scheduled or asleep.
    Running,
    /// Stopped, traced or in an uninterruptible wait: it exists and does nothing.
    Halted,
    /// It does not exist.
    Gone,
}

/// What is known of one service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Evidence {
    /// The state of its processes.
    pub process: Process,
    /// How often in a row its health check got no good answer.
    pub checks_failed: u32,
    /// In how many looks in a row it answered none of several questions.
    pub unanswered: u32,
    /// Latency now by usual latency.
    pub latency_ratio: Option<f64>,
    /// The share of its requests that fail.
    pub error_share: Option<f64>,
    /// The share that usually fails.
    pub error_usual: Option<f64>,
    /// The share of its own calls to others that fail.
    pub call_error_share: Option<f64>,
    /// Requests now by usual requests.
    pub traffic_ratio: Option<f64>,
    /// The share of its processors that it uses.
    pub cpu_share: Option<f64>,
    /// Memory now by usual memory.
    pub memory_ratio: Option<f64>,
    /// How much of its usual memory it gains in a minute.
    pub memory_growth: Option<f64>,
    /// The share of its disk that is used.
    pub disk_share: Option<f64>,
    /// Seconds since its configuration or release was changed.
    pub changed_s: Option<f64>,
    /// Whether its configuration is not what was last applied.
    pub has_drifted: bool,
    /// The share of the probability of the root cause that the ranking of metrics (`diagnose`) gives it.
    pub rank_share: Option<f64>,
}

impl Evidence {
    /// The share of requests that fails above the usual one.
    pub fn failing(&self) -> Option<f64> {
        self.error_share.map(|share| share - self.error_usual.unwrap_or(0.0))
    }

    /// How much a failing share is above the usual one, from 0 to 1.
    pub fn errors(&self) -> f64 {
        self.failing().map_or(0.0, |failing| ramp(failing, 0.03, 0.25))
    }

    /// How much its latency is above the usual one, from 0 to 1: from twice to five times.
    pub fn slowness(&self) -> f64 {
        self.latency_ratio.map_or(0.0, |ratio| ramp(ratio.max(1e-9).ln(), 2f64.ln(), 5f64.ln()))
    }

    /// How much it fails to answer, from 0 to 1: one failed health check may be chance, three are not, and neither are two
    /// looks in which it answered nothing at all.
    pub fn silence(&self) -> f64 {
        ramp(f64::from(self.checks_failed), 0.5, 2.5).max(ramp(f64::from(self.unanswered), 0.5, 1.75))
    }

    /// Whether anything that its callers notice is wrong.
    pub fn illness(&self) -> f64 {
        self.errors().max(self.slowness()).max(self.silence())
    }
}

/// 0 up to `low`, 1 from `high`, straight between; 0 for what is no number.
pub(super) fn ramp(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() { 0.0 } else { ((value - low) / (high - low)).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_rises_between_its_ends() {
        assert_eq!([0.0, 1.0, 2.0, 3.0, f64::NAN].map(|value| ramp(value, 1.0, 3.0)), [0.0, 0.0, 0.5, 1.0, 0.0]);
    }

    #[test]
    fn what_is_unknown_is_not_ill() {
        assert_eq!(Evidence::default().illness(), 0.0);
        let failing = Evidence { error_share: Some(0.5), error_usual: Some(0.5), ..Evidence::default() };
        assert_eq!(failing.illness(), 0.0, "as many fail as usual");
        let slow = Evidence { latency_ratio: Some(10.0), ..Evidence::default() };
        assert_eq!(slow.illness(), 1.0);
        let silence =
            |checks_failed, unanswered| Evidence { checks_failed, unanswered, ..Evidence::default() }.silence();
        assert!(silence(1, 1) < 0.5 && silence(2, 0) < 0.8, "may be chance");
        assert_eq!([silence(3, 0), silence(2, 2)], [1.0, 1.0]);
    }
}
