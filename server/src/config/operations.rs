//! Settings of operations: the phase, the components, how much is done without asking.
//!
//! **Invariant:** values are checked here; what they do is decided in the operations.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use juno_sql::{Automation, Component, OperationSettings, Shown};
use url::Url;

use super::Setting;

/// What operations may do.
#[derive(Debug, Clone, Args)]
pub struct OperationArgs {
    /// Feature level, 1 to 4: below 4 juno reads and plans and does not act
    #[arg(long, env = "JUNO_PHASE", value_name = "LEVEL", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub phase: u8,
    /// Whether loops may act; without it they detect, diagnose and plan
    #[arg(long, env = "AI_NATIVE_OPERATIONS", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub ai_native_operations: bool,
    /// Whether incidents are diagnosed and remediated
    #[arg(long, env = "SELF_HEALING_ENABLED", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub self_healing_enabled: bool,
    /// Whether policies are trained
    #[arg(long, env = "RL_OPTIMIZATION_ENABLED", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub rl_optimization_enabled: bool,
    /// Whether capacity is planned ahead
    #[arg(long, env = "PREDICTIVE_SCALING_ENABLED", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub predictive_scaling_enabled: bool,
    /// Whether threats are looked for
    #[arg(long, env = "THREAT_DETECTION_ENABLED", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub threat_detection_enabled: bool,
    /// How surely an anomaly must be one, 0 to 1: about 10^(1-5s) false alarms per series and day
    #[arg(long, env = "ANOMALY_DETECTION_SENSITIVITY", value_name = "SHARE", default_value_t = 0.8, value_parser = share)]
    pub anomaly_detection_sensitivity: f64,
    /// What healing does without asking: off, low, medium, high or full
    #[arg(long, env = "HEALING_AUTOMATION_LEVEL", value_name = "LEVEL", default_value = "medium", value_parser = automation)]
    pub healing_automation_level: Automation,
    /// Seconds after which an open incident is escalated
    #[arg(long, env = "INCIDENT_ESCALATION_TIMEOUT", value_name = "SECONDS", default_value_t = 1800, value_parser = seconds)]
    pub incident_escalation_timeout: u64,
    /// Learning rate of trainings
    #[arg(long, env = "RL_LEARNING_RATE", value_name = "RATE", default_value_t = 0.001, value_parser = positive_share)]
    pub rl_learning_rate: f64,
    /// Share of decisions that explore, in simulation and shadow
    #[arg(long, env = "RL_EXPLORATION_RATE", value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    pub rl_exploration_rate: f64,
    /// What a reward is worth one step later
    #[arg(long, env = "RL_REWARD_DISCOUNT", value_name = "SHARE", default_value_t = 0.95, value_parser = share)]
    pub rl_reward_discount: f64,
    /// Seconds between two trainings
    #[arg(long, env = "RL_TRAINING_INTERVAL", value_name = "SECONDS", default_value_t = 3600, value_parser = seconds)]
    pub rl_training_interval: u64,
    /// Hours that forecasts and plans look ahead
    #[arg(long, env = "SCALING_FORECAST_HORIZON", value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
    pub scaling_forecast_horizon: u32,
    /// What forecasts must have reached before a plan runs unattended
    #[arg(long, env = "SCALING_CONFIDENCE_THRESHOLD", value_name = "SHARE", default_value_t = 0.8, value_parser = share)]
    pub scaling_confidence_threshold: f64,
    /// Least seconds between two scale-downs of a target
    #[arg(long, env = "SCALING_COOLDOWN_PERIOD", value_name = "SECONDS", default_value_t = 300, value_parser = seconds)]
    pub scaling_cooldown_period: u64,
    /// How surely an event must be a threat, 0 to 1: 0.9 lets 2 % of ordinary events alarm
    #[arg(long, env = "THREAT_DETECTION_SENSITIVITY", value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    pub threat_detection_sensitivity: f64,
    /// Whether threats are responded to without asking
    #[arg(long, env = "THREAT_RESPONSE_AUTOMATION", value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    pub threat_response_automation: bool,
    /// Whether indicators are read from feeds
    #[arg(long, env = "THREAT_INTELLIGENCE_FEEDS", value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    pub threat_intelligence_feeds: bool,
    /// Directory of indicator feeds
    #[arg(long, env = "JUNO_FEEDS_DIR", value_name = "DIR")]
    pub feeds_dir: Option<PathBuf>,
    /// Addresses of indicator feeds, by comma
    #[arg(long, env = "JUNO_FEEDS_URLS", value_name = "URLS", value_delimiter = ',', value_parser = feed_url)]
    pub feeds_urls: Vec<String>,
    /// Seconds between two looks at feeds and Sigma rules that may have changed
    #[arg(long, env = "JUNO_FEEDS_INTERVAL", value_name = "SECONDS", default_value_t = 3600, value_parser = seconds)]
    pub feeds_interval: u64,
    /// Directory of Sigma rules that security events are held against
    #[arg(long, env = "JUNO_SIGMA_RULES_DIR", value_name = "DIR")]
    pub sigma_rules_dir: Option<PathBuf>,
}

/// The settings of this section: the id, the flag and the variable.
pub(super) const SETTINGS: &[Setting] = &[
    ("phase", "--phase", "JUNO_PHASE"),
    ("ai_native_operations", "--ai-native-operations", "AI_NATIVE_OPERATIONS"),
    ("self_healing_enabled", "--self-healing-enabled", "SELF_HEALING_ENABLED"),
    ("rl_optimization_enabled", "--rl-optimization-enabled", "RL_OPTIMIZATION_ENABLED"),
    ("predictive_scaling_enabled", "--predictive-scaling-enabled", "PREDICTIVE_SCALING_ENABLED"),
    ("threat_detection_enabled", "--threat-detection-enabled", "THREAT_DETECTION_ENABLED"),
    ("anomaly_detection_sensitivity", "--anomaly-detection-sensitivity", "ANOMALY_DETECTION_SENSITIVITY"),
    ("healing_automation_level", "--healing-automation-level", "HEALING_AUTOMATION_LEVEL"),
    ("incident_escalation_timeout", "--incident-escalation-timeout", "INCIDENT_ESCALATION_TIMEOUT"),
    ("rl_learning_rate", "--rl-learning-rate", "RL_LEARNING_RATE"),
    ("rl_exploration_rate", "--rl-exploration-rate", "RL_EXPLORATION_RATE"),
    ("rl_reward_discount", "--rl-reward-discount", "RL_REWARD_DISCOUNT"),
    ("rl_training_interval", "--rl-training-interval", "RL_TRAINING_INTERVAL"),
    ("scaling_forecast_horizon", "--scaling-forecast-horizon", "SCALING_FORECAST_HORIZON"),
    ("scaling_confidence_threshold", "--scaling-confidence-threshold", "SCALING_CONFIDENCE_THRESHOLD"),
    ("scaling_cooldown_period", "--scaling-cooldown-period", "SCALING_COOLDOWN_PERIOD"),
    ("threat_detection_sensitivity", "--threat-detection-sensitivity", "THREAT_DETECTION_SENSITIVITY"),
    ("threat_response_automation", "--threat-response-automation", "THREAT_RESPONSE_AUTOMATION"),
    ("threat_intelligence_feeds", "--threat-intelligence-feeds", "THREAT_INTELLIGENCE_FEEDS"),
    ("feeds_dir", "--feeds-dir", "JUNO_FEEDS_DIR"),
    ("feeds_urls", "--feeds-urls", "JUNO_FEEDS_URLS"),
    ("feeds_interval", "--feeds-interval", "JUNO_FEEDS_INTERVAL"),
    ("sigma_rules_dir", "--sigma-rules-dir", "JUNO_SIGMA_RULES_DIR"),
];

impl OperationArgs {
    /// What the operations are given.
    pub fn settings(&self, shown: Vec<Shown>) -> OperationSettings {
        let switches = [
            (Component::SelfHealing, self.self_healing_enabled),
            (Component::Rl, self.rl_optimization_enabled),
            (Component::Scaling, self.predictive_scaling_enabled),
            (Component::Threats, self.threat_detection_enabled),
        ];
        OperationSettings {
            phase: self.phase,
            ai_native: self.ai_native_operations,
            disabled: switches.into_iter().filter(|(_, enabled)| !enabled).map(|(component, _)| component).collect(),
            anomaly_sensitivity: self.anomaly_detection_sensitivity,
            healing: self.healing_automation_level,
            escalation_timeout_s: self.incident_escalation_timeout,
            rl_learning_rate: self.rl_learning_rate,
            rl_exploration_rate: self.rl_exploration_rate,
            rl_reward_discount: self.rl_reward_discount,
            rl_training_interval_s: self.rl_training_interval,
            scaling_horizon_h: self.scaling_forecast_horizon,
            scaling_confidence: self.scaling_confidence_threshold,
            scaling_cooldown_s: self.scaling_cooldown_period,
            threat_sensitivity: self.threat_detection_sensitivity,
            threat_response: self.threat_response_automation,
            threat_feeds: self.threat_intelligence_feeds,
            feeds_dir: self.feeds_dir.clone(),
            feeds_urls: self.feeds_urls.clone(),
            feeds_interval_s: self.feeds_interval,
            sigma_rules_dir: self.sigma_rules_dir.clone(),
            rules: None,
            shown,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a number from 0 to 1".into())
}

fn positive_share(text: &str) -> Result<f64, String> {
    share(text).ok().filter(|share| *share > 0.0).ok_or_else(|| "write a number above 0 and up to 1".into())
}

fn seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse::<u64>().ok().filter(|seconds| (1..=31_536_000).contains(seconds));
    seconds.ok_or_else(|| "write whole seconds, from 1 to 31536000".into())
}

fn feed_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text.trim()).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let url = url.ok_or("write addresses as https://HOST/PATH, separated by commas")?;
    // The name of a feed is as long as the table of indicators lets it be.
    match url.as_str().len() <= 253 {
        true => Ok(url.into()),
        false => Err("an address has at most 253 characters".into()),
    }
}

fn automation(text: &str) -> Result<Automation, String> {
    text.parse()
}
