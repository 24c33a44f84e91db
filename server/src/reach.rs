//! What juno reaches beyond this machine: the workloads of a cluster, whoever answers a webhook, whom escalations are told to.
//!
//! **Invariant:** nothing here keeps a database from starting because somebody else is not there; settings that mean nothing do.

use std::sync::Arc;
use std::time::Duration;

use juno_sql::actuator::Actuator;
use juno_sql::engine::system::System;

use crate::actuator::kubernetes::KubernetesActuator;
use crate::actuator::outside::Outside;
use crate::actuator::webhook::WebhookActuator;
use crate::actuator::webhook::hook::Hook;
use crate::config::WEBHOOK_SECRET;
use crate::serve::Error;

/// How long one try of an order may take: its receiver answers when it is carried out.
const ORDER_LIMIT: Duration = Duration::from_secs(60);
/// How long one try of a call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What is reached.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The cluster's workloads that may be acted on.
    pub kubernetes: Option<Workloads>,
    /// Where orders are posted to.
    pub webhook_url: Option<String>,
    /// Where escalations are posted to.
    pub escalation_url: Option<String>,
    /// What both are signed with.
    pub webhook_secret: Option<String>,
}

/// The workloads of a namespace.
#[derive(Debug, Clone)]
pub struct Workloads {
    /// The namespace.
    pub namespace: String,
    /// The label selector that chooses them.
    pub selector: String,
}

impl Reach {
    /// What acts beyond this machine.
    pub(crate) fn actuators(&self, system: &System) -> Result<Vec<Arc<dyn Actuator>>, Error> {
        let mut all: Vec<Arc<dyn Actuator>> = Vec::new();
        if let Some(Workloads { namespace, selector }) = &self.kubernetes {
            all.push(Arc::new(KubernetesActuator::new(namespace, selector, Outside::of(system))));
        }
        if let Some(url) = &self.webhook_url {
            let secret = self.secret()?;
            let webhook = WebhookActuator::new(url, secret, ORDER_LIMIT, Outside::of(system));
            all.push(Arc::new(webhook.map_err(|text| refused("--webhook-url", "JUNO_WEBHOOK_URL", text))?));
        }
        Ok(all)
    }

    /// Where escalations are posted to.
    pub(crate) fn escalations(&self, system: &System) -> Result<Option<Hook>, Error> {
        let Some(url) = &self.escalation_url else { return Ok(None) };
        let hook = Hook::new(url, self.secret()?, CALL_LIMIT, Outside::of(system));
        hook.map(Some).map_err(|text| refused("--escalation-url", "JUNO_ESCALATION_URL", text))
    }

    fn secret(&self) -> Result<&[u8], Error> {
        let missing = "what is posted must be signed: set the variable to a secret that the receiver knows too";
        let secret = self.webhook_secret.as_ref().map(String::as_bytes);
        secret.ok_or_else(|| refused("--webhook-url, --escalation-url", WEBHOOK_SECRET, missing.to_owned()))
    }
}

fn refused(flag: &'static str, variable: &'static str, text: String) -> Error {
    Error::Setting { flag, variable, text }
}

/// Says at the start whether an actuator answers; it is asked again whenever it is needed.
pub(crate) async fn greet(actuators: Vec<Arc<dyn Actuator>>) {
    for actuator in actuators {
        let executor = actuator.executor();
        match actuator.targets().await {
            Ok(targets) => tracing::info!(executor, targets = targets.len(), "an actuator is attached"),
            Err(error) => {
                tracing::warn!(executor, %error, "an actuator gives no answer yet: it is asked when it is needed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_needs_an_address_and_a_secret() {
        let system = System::real();
        let url = |url: &str| Some(url.to_owned());
        let bare = Reach { webhook_url: url("https://example.org/act"), ..Reach::default() };
        let text = bare.actuators(&system).err().map(|error| error.to_string()).unwrap();
        assert!(text.contains("JUNO_WEBHOOK_SECRET"), "{text}");
        let short = Reach { webhook_secret: Some("short".into()), ..bare.clone() };
        let text = short.actuators(&system).err().map(|error| error.to_string()).unwrap();
        assert!(text.contains("JUNO_WEBHOOK_URL") && text.contains("too short"), "{text}");
        let secret = Some("a secret of some length".to_owned());
        let odd = Reach { escalation_url: url("mailto:me"), webhook_secret: secret.clone(), ..Reach::default() };
        let text = odd.escalations(&system).err().map(|error| error.to_string()).unwrap();
        assert!(text.contains("JUNO_ESCALATION_URL") && text.contains("use http"), "{text}");
        let both = Reach { webhook_secret: secret, escalation_url: url("http://localhost/call"), ..bare };
        let names: Vec<&str> = both.actuators(&system).unwrap().iter().map(|actuator| actuator.executor()).collect();
        assert_eq!((names, both.escalations(&system).unwrap().is_some()), (vec!["webhook"], true));
        assert!(Reach::default().escalations(&system).unwrap().is_none());
    }
}
