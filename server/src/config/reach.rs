//! Settings of what is reached beyond this machine: a cluster, and addresses that messages are posted to.
//!
//! **Invariant:** the secret that signs what is posted comes from a variable alone: a process list would show a flag.

use clap::Args;

use crate::actuator::kubernetes::SELECTOR;
use crate::reach::{Reach, Workloads};

/// The variable with the secret that signs what is posted.
pub const WEBHOOK_SECRET: &str = "JUNO_WEBHOOK_SECRET";

/// What is reached beyond this machine.
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// Kubernetes namespace whose workloads may be acted on; the cluster is found as kubectl finds it
    #[arg(long, env = "JUNO_KUBERNETES_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub kubernetes_namespace: Option<String>,
    /// Label selector of the Deployments and StatefulSets that may be acted on
    #[arg(long, env = "JUNO_KUBERNETES_SELECTOR", value_name = "SELECTOR", default_value = SELECTOR)]
    pub kubernetes_selector: String,
    /// Address of a webhook that carries out orders; signed with JUNO_WEBHOOK_SECRET
    #[arg(long, env = "JUNO_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<String>,
    /// Address that escalated incidents are posted to; signed with JUNO_WEBHOOK_SECRET
    #[arg(long, env = "JUNO_ESCALATION_URL", value_name = "URL")]
    pub escalation_url: Option<String>,
}

/// The settings of this section: the id, the flag and the variable.
pub(super) const SETTINGS: &[(&str, &str, &str)] = &[
    ("kubernetes_namespace", "--kubernetes-namespace", "JUNO_KUBERNETES_NAMESPACE"),
    ("kubernetes_selector", "--kubernetes-selector", "JUNO_KUBERNETES_SELECTOR"),
    ("webhook_url", "--webhook-url", "JUNO_WEBHOOK_URL"),
    ("escalation_url", "--escalation-url", "JUNO_ESCALATION_URL"),
];

impl ReachArgs {
    /// What is reached, with the secret of the environment.
    pub fn reach(self, webhook_secret: Option<String>) -> Reach {
        let Self { kubernetes_namespace, kubernetes_selector: selector, webhook_url, escalation_url } = self;
        let kubernetes = kubernetes_namespace.map(|namespace| Workloads { namespace, selector });
        Reach { kubernetes, webhook_url, escalation_url, webhook_secret }
    }
}

/// A namespace's name is a DNS label.
fn namespace(text: &str) -> Result<String, String> {
    let is_name = (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_name { Ok(text.to_owned()) } else { Err("write the name of a namespace, for instance default".into()) }
}
