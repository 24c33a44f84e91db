//! What operators set about operations: the phase, which components run, how much may be done without asking.
//!
//! **Invariant:** values only; where they come from is the server's business.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::HouseRules;

/// A part of juno whose runs are told; those of [`Component::ALL`] can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Incidents: detection, diagnosis, remediation.
    SelfHealing,
    /// Reinforcement learning.
    Rl,
    /// Predictive scaling.
    Scaling,
    /// Threat detection.
    Threats,
    /// What learns from outcomes, and ends what nobody approves.
    Governance,
    /// The door for PostgreSQL's clients: each that comes is a run.
    Pgwire,
}

impl Component {
    /// All that can be switched off.
    pub const ALL: [Component; 4] = [Component::SelfHealing, Component::Rl, Component::Scaling, Component::Threats];

    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Component::SelfHealing => "self_healing",
            Component::Rl => "rl",
            Component::Scaling => "scaling",
            Component::Threats => "threats",
            Component::Governance => "governance",
            Component::Pgwire => "pgwire",
        }
    }

    /// The variable that switches it, or without which there is nothing to do for it.
    pub fn variable(self) -> &'static str {
        match self {
            Component::SelfHealing => "SELF_HEALING_ENABLED",
            Component::Rl => "RL_OPTIMIZATION_ENABLED",
            Component::Scaling => "PREDICTIVE_SCALING_ENABLED",
            Component::Threats => "THREAT_DETECTION_ENABLED",
            Component::Governance => "AI_NATIVE_OPERATIONS",
            Component::Pgwire => "JUNO_PG_ADDR",
        }
    }
}

/// How much healing does without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Automation {
    /// Nothing, and recommends nothing.
    Off,
    /// Recommends.
    Low,
    /// What is of low risk; asks for the rest.
    Medium,
    /// What is of low and medium risk; asks for the rest.
    High,
    /// Everything that guard rails allow.
    Full,
}

impl fmt::Display for Automation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Automation::Off => "off",
            Automation::Low => "low",
            Automation::Medium => "medium",
            Automation::High => "high",
            Automation::Full => "full",
        })
    }
}

impl FromStr for Automation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Automation::Off, Automation::Low, Automation::Medium, Automation::High, Automation::Full];
        let found = all.into_iter().find(|level| level.to_string() == text);
        found.ok_or_else(|| "it is off, low, medium, high or full".into())
    }
}

/// A setting as the view `operations_config` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// The effective value.
    pub value: String,
    /// Where it came from.
    pub source: String,
}

/// The settings.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationSettings {
    /// 1 to 4; below 4 nothing acts.
    pub phase: u8,
    /// Whether loops may act: without it they detect, diagnose and plan.
    pub ai_native: bool,
    /// Components that are switched off.
    pub disabled: Vec<Component>,
    /// 0 to 1: how readily anomalies alarm.
    pub anomaly_sensitivity: f64,
    /// How much healing does without asking.
    pub healing: Automation,
    /// After so long an incident is escalated, in seconds.
    pub escalation_timeout_s: u64,
    /// Default of training.
    pub rl_learning_rate: f64,
    /// Default of training.
    pub rl_exploration_rate: f64,
    /// Default of training.
    pub rl_reward_discount: f64,
    /// Between two trainings, in seconds.
    pub rl_training_interval_s: u64,
    /// Default horizon of forecasts and plans, in hours.
    pub scaling_horizon_h: u32,
    /// What the forecaster must have reached before a plan runs unattended.
    pub scaling_confidence: f64,
    /// Between two scale-downs of a target, in seconds.
    pub scaling_cooldown_s: u64,
    /// 0 to 1: how readily threats alarm.
    pub threat_sensitivity: f64,
    /// Whether threats are responded to without asking.
    pub threat_response: bool,
    /// Whether indicators are read from feeds.
    pub threat_feeds: bool,
    /// Where feeds lie.
    pub feeds_dir: Option<PathBuf>,
    /// Addresses of feeds.
    pub feeds_urls: Vec<String>,
    /// Between two looks at feeds and rules, in seconds.
    pub feeds_interval_s: u64,
    /// Where Sigma rules lie.
    pub sigma_rules_dir: Option<PathBuf>,
    /// Guard rails of the operator's own.
    pub rules: Option<Arc<HouseRules>>,
    /// All settings of the server with their sources.
    pub shown: Vec<Shown>,
}

impl Default for OperationSettings {
    fn default() -> Self {
        Self {
            phase: 4,
            ai_native: true,
            disabled: Vec::new(),
            anomaly_sensitivity: 0.8,
            healing: Automation::Medium,
            escalation_timeout_s: 1_800,
            rl_learning_rate: 0.001,
            rl_exploration_rate: 0.1,
            rl_reward_discount: 0.95,
            rl_training_interval_s: 3_600,
            scaling_horizon_h: 24,
            scaling_confidence: 0.8,
            scaling_cooldown_s: 300,
            threat_sensitivity: 0.9,
            threat_response: false,
            threat_feeds: false,
            feeds_dir: None,
            feeds_urls: Vec::new(),
            feeds_interval_s: 3_600,
            sigma_rules_dir: None,
            rules: None,
            shown: Vec::new(),
        }
    }
}

impl OperationSettings {
    /// Whether a component runs.
    pub fn enabled(&self, component: Component) -> bool {
        !self.disabled.contains(&component)
    }

    /// The share of ordinary events that may alarm: 1 − sensitivity, a fifth of it at the usual 0.9.
    pub fn threat_false_alarms(&self) -> f64 {
        ((1.0 - self.threat_sensitivity) / 5.0).max(1e-4)
    }
}

#[cfg(test)]
mod tests;
