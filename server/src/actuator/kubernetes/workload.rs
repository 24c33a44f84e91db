//! A Deployment or a StatefulSet as the API server has it.
//!
//! **Invariant:** pure: asks nobody. The template of its pods stays JSON, so that fields that are not known here survive a rollback.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use juno_sql::actuator::{Action, Target, Watched};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{ApiResource, Object, Selector};
use serde::Deserialize;
use serde_json::Value;

use super::view::is_active;

/// The annotation of a target that no autopilot may act on: `"true"`.
const PROTECTED: &str = "juno.io/protected";
/// The annotation with the most replicas that a target may be scaled to.
const REPLICAS_MAX: &str = "juno.io/replicas-max";
/// The annotation with the URL that is asked as a client would, to see whether a target serves and how fast.
const PROBE: &str = "juno.io/probe";
/// The annotation with the seconds that a pod may take until it is ready for the first time, and what holds where it is no number.
const START: &str = "juno.io/start-seconds";
const START_S_DEFAULT: u32 = 120;
/// The annotation with the targets that a target calls, by comma.
const CALLS: &str = "juno.io/calls";
/// The annotations of a pod that has counters, as Prometheus is usually set up to find them: `"true"`, the port, and the path.
const SCRAPE: &str = "prometheus.io/scrape";
const SCRAPE_PORT: &str = "prometheus.io/port";
const SCRAPE_PATH: &str = "prometheus.io/path";
/// The most replicas where nothing is annotated.
const REPLICAS_MAX_DEFAULT: usize = 100;

/// The actions that every target takes.
const ACTIONS: [Action; 9] = [
    Action::Start,
    Action::Stop,
    Action::Restart,
    Action::Scale,
    Action::Rollback,
    Action::Cordon,
    Action::Uncordon,
    Action::Isolate,
    Action::Resume,
];

/// What runs the pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
}

impl Kind {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Deployment, Self::StatefulSet];

    /// Where the API server has it.
    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        }
    }

    /// Its name among the kinds of targets.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
        }
    }
}

/// The part of a specification that is of use here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) replicas: Option<u32>,
    pub(super) selector: LabelSelector,
    #[serde(default)]
    pub(super) template: Value,
    /// Of a Deployment: no change of the template is rolled out.
    #[serde(default)]
    pub(super) paused: bool,
    /// Of a StatefulSet.
    #[serde(default)]
    update_strategy: UpdateStrategy,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: Option<String>,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RollingUpdate {
    partition: Option<u32>,
}

/// The part of a status that is of use here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    observed_generation: i64,
    replicas: u32,
    updated_replicas: u32,
    ready_replicas: u32,
    available_replicas: u32,
    current_revision: Option<String>,
    pub(super) update_revision: Option<String>,
}

/// One as it is stored.
pub(super) type Stored = Object<Spec, Status>;

/// A Deployment or a StatefulSet.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) kind: Kind,
    pub(super) object: Stored,
}

impl Workload {
    /// Its name in its namespace.
    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.object.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// It as a target of this name.
    pub(super) fn target(&self, name: String) -> Target {
        let is_protected = self.annotation(PROTECTED) == Some("true");
        Target { name, kind: self.kind.name().to_owned(), is_protected, actions: ACTIONS.to_vec() }
    }

    /// It as a target of this name is watched, by counters that its pods have.
    pub(super) fn watched(&self, name: String, pods: &[Pod]) -> Watched {
        let metrics = pods.iter().filter(|pod| is_active(pod)).filter_map(scraped).collect();
        let calls = self.annotation(CALLS).unwrap_or_default().split(',').map(str::trim);
        let calls = calls.filter(|callee| !callee.is_empty()).map(str::to_owned).collect();
        Watched { name, calls, probe: self.annotation(PROBE).map(str::to_owned), metrics }
    }

    /// Whether its pods say that they have counters.
    pub(super) fn is_scraped(&self) -> bool {
        self.object.spec.template["metadata"]["annotations"][SCRAPE] == "true"
    }

    /// How long a pod may take until it is ready for the first time.
    pub(super) fn start_s(&self) -> u32 {
        self.annotation(START).and_then(|text| text.parse().ok()).unwrap_or(START_S_DEFAULT)
    }

    /// How many replicas there should be.
    pub(super) fn wanted(&self) -> usize {
        self.object.spec.replicas.map_or(1, |replicas| replicas as usize)
    }

    /// The most replicas that it may be scaled to.
    ///
    /// # Errors
    /// A text that says what to do, where the annotation is no number.
    pub(super) fn replicas_max(&self) -> Result<usize, String> {
        let Some(text) = self.annotation(REPLICAS_MAX) else { return Ok(REPLICAS_MAX_DEFAULT) };
        text.parse().map_err(|_| format!("its annotation {REPLICAS_MAX} is \"{text}\": make it a number"))
    }

    /// What chooses its pods.
    ///
    /// # Errors
    /// A text, where it cannot be understood or would choose all pods.
    pub(super) fn selector(&self) -> Result<Selector, String> {
        let selector = Selector::try_from(self.object.spec.selector.clone()).map_err(|error| error.to_string())?;
        if selector.selects_all() { Err("its selector chooses all pods".into()) } else { Ok(selector) }
    }

    /// The labels of its pods.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.object.spec.template["metadata"]["labels"].as_object().into_iter().flatten();
        labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// Whether a change of the template is rolled out by deleting pods by hand only.
    pub(super) fn is_updated_by_hand(&self) -> bool {
        self.object.spec.update_strategy.kind.as_deref() == Some("OnDelete")
    }

    /// Whether its controller has seen the last change of what it should be.
    pub(super) fn is_seen(&self) -> bool {
        let observed = self.object.status.as_ref().map_or(0, |status| status.observed_generation);
        observed >= self.object.metadata.generation.unwrap_or(0)
    }

    /// Whether its controller, a StatefulSet's, is about to replace every pod of another template.
    pub(super) fn replaces_all(&self) -> bool {
        self.kind == Kind::StatefulSet && self.is_seen() && !self.is_updated_by_hand() && self.kept() == 0
    }

    /// How many replicas of a StatefulSet keep an older template.
    fn kept(&self) -> u32 {
        let rolling = self.object.spec.update_strategy.rolling_update.as_ref();
        rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
    }

    /// Whether as many replicas as there should be run what they should, and no other.
    pub(super) fn is_rolled_out(&self) -> bool {
        let status = self.object.status.clone().unwrap_or_default();
        let wanted = self.object.spec.replicas.unwrap_or(1);
        if !self.is_seen() || status.replicas != wanted {
            return false;
        }
        match self.kind {
            Kind::Deployment => status.updated_replicas == wanted && status.available_replicas == wanted,
            Kind::StatefulSet if self.is_updated_by_hand() => status.ready_replicas == wanted,
            Kind::StatefulSet => {
                let kept = self.kept().min(wanted);
                let is_whole = kept > 0 || status.current_revision == status.update_revision;
                status.ready_replicas == wanted && status.updated_replicas >= wanted - kept && is_whole
            }
        }
    }
}

/// The address of a pod's counters.
fn scraped(pod: &Pod) -> Option<String> {
    let annotations = pod.metadata.annotations.as_ref().filter(|all| all.get(SCRAPE).is_some_and(|is| is == "true"))?;
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let port: u16 = annotations.get(SCRAPE_PORT)?.parse().ok()?;
    let path = annotations.get(SCRAPE_PATH).map_or("/metrics", String::as_str);
    Some(format!("http://{}/{}", SocketAddr::new(address, port), path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(kind: Kind, replicas: u32, status: Value) -> Workload {
        let object = json!({
            "metadata": { "name": "shop", "generation": 3 },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "shop" } } }, "status": status,
        });
        Workload { kind, object: serde_json::from_value(object).unwrap() }
    }

    #[test]
    fn a_rollout_is_over_when_the_controller_saw_it_and_only_new_pods_are_there() {
        let status = |seen: i64, replicas: u32, updated: u32, available: u32| {
            let status = json!({ "observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available });
            workload(Kind::Deployment, 2, status).is_rolled_out()
        };
        assert!(status(3, 2, 2, 2));
        assert!(!status(2, 2, 2, 2), "the controller has not seen the change");
        assert!(!status(3, 3, 2, 3), "an old pod is left");
        assert!(!status(3, 2, 2, 1), "one is not ready");
        assert!(!status(3, 5, 5, 5), "there are too many yet");
        assert!(!workload(Kind::Deployment, 2, Value::Null).is_rolled_out());
    }

    #[test]
    fn a_stateful_set_is_rolled_out_when_both_revisions_are_one() {
        let status = |current: &str| {
            let status = json!({
                "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
                "currentRevision": current, "updateRevision": "b",
            });
            workload(Kind::StatefulSet, 2, status).is_rolled_out()
        };
        assert!(status("b") && !status("a"));
    }

    #[test]
    fn a_selector_that_chooses_everything_is_an_error_and_so_is_a_limit_that_is_no_number() {
        let mut all = workload(Kind::Deployment, 1, Value::Null);
        assert_eq!(all.selector().unwrap().to_string(), "app=shop");
        assert_eq!(all.replicas_max(), Ok(REPLICAS_MAX_DEFAULT));
        all.object.spec.selector = LabelSelector::default();
        assert!(all.selector().unwrap_err().contains("all pods"));
        all.object.metadata.annotations = Some([(REPLICAS_MAX.to_owned(), "many".to_owned())].into());
        assert!(all.replicas_max().unwrap_err().contains("make it a number"));
    }
}
