//! All that is looked at of a target, and what an observation says of it.
//!
//! A template counts as the configuration of its pods; a restart, which changes an annotation of the template, is no new one.
//!
//! **Invariant:** pure: asks nobody.

use juno_sql::actuator::{Observation, Replica};
use juno_sql::hex;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::isolation;
use super::workload::{Kind, Workload};

/// The annotation of a template that a restart changes, as `kubectl rollout restart` does.
pub(super) const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// The annotation with the digest of the template that the target was rolled back to.
pub(super) const ROLLED_BACK: &str = "juno.io/rolled-back-to";
/// The annotation of Deployments and ReplicaSets with the number of their revision.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The label that a Deployment's controller adds.
const HASH: &str = "pod-template-hash";
/// The label of a StatefulSet's pods with the name of their revision.
const POD_REVISION: &str = "controller-revision-hash";
/// Why a container waits that will not start by waiting.
const FAILING: [&str; 6] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// One revision of a target's template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Revision {
    /// Its name, where its number is found by it.
    pub(super) name: String,
    pub(super) number: u64,
    pub(super) template: Value,
}

/// A target, with what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) workload: Workload,
    pub(super) revisions: Vec<Revision>,
    /// Its pods that neither ended nor end.
    pub(super) pods: Vec<Pod>,
    /// The network policies of its namespace.
    pub(super) policies: Vec<NetworkPolicy>,
}

impl View {
    /// The number of the revision that its pods should have.
    pub(super) fn revision(&self) -> Option<u64> {
        match self.workload.kind {
            Kind::Deployment => revision_of(&self.workload.object.metadata),
            Kind::StatefulSet => {
                let name = self.workload.object.status.as_ref()?.update_revision.as_deref()?;
                self.revisions.iter().find(|revision| revision.name == name).map(|revision| revision.number)
            }
        }
    }

    /// The newest revision before this one that has another template.
    pub(super) fn previous(&self) -> Option<&Revision> {
        let (current, now) = (self.revision()?, plain(&self.workload.object.spec.template));
        let older = self.revisions.iter().filter(|revision| revision.number < current);
        older.filter(|revision| plain(&revision.template) != now).max_by_key(|revision| revision.number)
    }

    /// Whether its template is the one that it was rolled back to.
    pub(super) fn is_rolled_back(&self) -> bool {
        let now = fingerprint(&self.workload.object.spec.template);
        self.workload.annotation(ROLLED_BACK).is_some_and(|digest| digest == now)
    }

    pub(super) fn is_isolated(&self) -> bool {
        let name = isolation::name(&self.workload);
        self.policies.iter().any(|policy| policy.metadata.name.as_deref() == Some(&name))
    }

    /// Whether every pod that there should be is there and ready, and no other.
    pub(super) fn is_ready(&self) -> bool {
        self.pods.len() == self.workload.wanted() && self.pods.iter().all(is_ready)
    }

    /// The pods of an older revision that are not ready: the controller of a StatefulSet would wait for them for ever before it
    /// replaces any. There are none as long as it has not seen what it should be.
    pub(super) fn stuck(&self) -> impl Iterator<Item = &Pod> {
        let status = self.workload.object.status.as_ref().filter(|_| self.workload.replaces_all());
        let newest = status.and_then(|status| status.update_revision.as_deref());
        self.pods.iter().filter(move |pod| {
            let own = pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION));
            newest.is_some_and(|newest| own.is_some_and(|own| own != newest)) && !is_ready(pod)
        })
    }

    /// Whether its controller is at work on what was ordered, and nothing says yet that it will not get there: pods start, and old
    /// ones make way.
    pub(super) fn is_settling(&self, now_us: i64) -> bool {
        let start_us = i64::from(self.workload.start_s()) * 1_000_000;
        let starts = |pod: &Pod| {
            let created = pod.metadata.creation_timestamp.as_ref();
            created.is_some_and(|created| now_us - created.0.as_microsecond() < start_us)
        };
        let mut waits = self.pods.iter().filter(|pod| !is_ready(pod)).peekable();
        let has_waiting = waits.peek().is_some();
        let may_come = waits.all(|pod| starts(pod) && !is_failing(pod));
        may_come && (has_waiting || !self.workload.is_seen() || self.pods.len() > self.workload.wanted())
    }

    /// The nodes that its pods run on.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref())
    }

    /// How it is.
    pub(super) fn observation(&self) -> Observation {
        let wanted = self.workload.wanted();
        let mut pods: Vec<&Pod> = self.pods.iter().collect();
        pods.sort_by_key(|pod| place(self.workload.kind, &pod.metadata));
        let mut replicas: Vec<Replica> = pods.into_iter().enumerate().map(|(index, pod)| replica(index, pod)).collect();
        let missing = replicas.len()..wanted.max(replicas.len());
        let gone = |index| Replica { index, state: "gone".into(), is_healthy: Some(false), ..Replica::default() };
        replicas.extend(missing.map(gone));
        Observation {
            wanted,
            replicas,
            config_version: self.revision().map(|_| self.previous().map_or(1, |before| before.number + 1)),
            has_previous: self.previous().is_some() && !self.is_rolled_back(),
            is_cordoned: self.workload.object.spec.paused,
            is_isolated: self.is_isolated(),
            ..Observation::default()
        }
    }
}

/// The number of a revision, as a Deployment and its ReplicaSets have it.
pub(super) fn revision_of(metadata: &ObjectMeta) -> Option<u64> {
    metadata.annotations.as_ref()?.get(REVISION)?.parse().ok()
}

/// Where a replica stands among the others: by its number, or by its name.
fn place(kind: Kind, metadata: &ObjectMeta) -> (Option<u32>, String) {
    let name = metadata.name.clone().unwrap_or_default();
    let number = name.rsplit('-').next().and_then(|number| number.parse().ok());
    (number.filter(|_| kind == Kind::StatefulSet), name)
}

/// A pod that waits to be started counts as gone.
fn replica(index: usize, pod: &Pod) -> Replica {
    let status = pod.status.as_ref();
    let runs = status.and_then(|status| status.phase.as_deref()) == Some("Running");
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let restarts: i64 = containers.iter().map(|container| i64::from(container.restart_count)).sum();
    Replica {
        index,
        state: if runs { "running" } else { "gone" }.into(),
        is_healthy: Some(is_ready(pod)),
        started: pod.metadata.uid.as_ref().map(|uid| format!("{uid}/{restarts}")),
        ..Replica::default()
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a container of a pod waits for what will not come by waiting, or has died already.
fn is_failing(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    containers.iter().any(|container| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        container.restart_count > 0 || reason.is_some_and(|reason| FAILING.contains(&reason))
    })
}

/// Whether a pod neither ended nor ends: those that do are no replicas any more.
pub(super) fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether an object belongs to the one with this uid.
pub(super) fn is_owned_by(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// A template as it was given: without what controllers and restarts add.
fn plain(template: &Value) -> Value {
    let mut plain = without_hash(template);
    let Some(metadata) = plain["metadata"].as_object_mut() else { return plain };
    metadata.retain(|_, value| !value.is_null());
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return plain };
    annotations.remove(RESTARTED);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    plain
}

/// A stored template as a target may have it.
pub(super) fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(members) = template.as_object_mut() {
        // How revisions of StatefulSets say that the template is meant as a whole.
        members.remove("$patch");
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template
}

/// What tells templates apart that are not the same when they were given.
pub(super) fn fingerprint(template: &Value) -> String {
    digest_of(&plain(template))
}

/// The SHA-256 of a value, whatever the order of its members, in hexadecimal.
pub(super) fn digest_of(value: &Value) -> String {
    hex(digest(&SHA256, sorted(value).to_string().as_bytes()).as_ref())
}

/// A value whose members are in the order of their names.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> =
                members.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use juno_sql::rfc3339;
    use serde_json::json;

    use super::*;

    fn view(template: &Value, annotations: &Value, revisions: Vec<Revision>) -> View {
        let object = json!({
            "metadata": { "name": "shop", "uid": "1", "annotations": annotations },
            "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "shop" } }, "template": template },
        });
        let workload = Workload { kind: Kind::Deployment, object: serde_json::from_value(object).unwrap() };
        View { workload, revisions, pods: vec![], policies: vec![] }
    }

    fn template(image: &str, restarted: Option<&str>, hash: Option<&str>) -> Value {
        let mut template =
            json!({ "metadata": { "labels": { "app": "shop" } }, "spec": { "containers": [{ "image": image }] } });
        if let Some(at) = restarted {
            template["metadata"]["annotations"] = json!({ RESTARTED: at });
        }
        if let Some(hash) = hash {
            template["metadata"]["labels"][HASH] = hash.into();
            template["metadata"]["creationTimestamp"] = Value::Null;
        }
        template
    }

    fn revision(number: u64, template: Value) -> Revision {
        Revision { name: number.to_string(), number, template }
    }

    #[test]
    fn a_restart_makes_no_configuration_to_go_back_to() {
        let revisions = vec![
            revision(1, template("shop:1", None, Some("a"))),
            revision(2, template("shop:2", None, Some("b"))),
            revision(3, template("shop:2", Some("noon"), Some("c"))),
        ];
        let now = view(&template("shop:2", Some("noon"), None), &json!({ REVISION: "3" }), revisions);
        assert_eq!(now.previous().unwrap().number, 1);
        assert!(now.observation().has_previous);
        let only =
            view(&template("shop:2", Some("noon"), None), &json!({ REVISION: "3" }), now.revisions[1..].to_vec());
        assert!(only.previous().is_none() && !only.observation().has_previous);
    }

    #[test]
    fn a_rollback_is_known_by_the_template_also_after_a_restart() {
        let good = template("shop:1", None, None);
        let annotations = json!({ REVISION: "3", ROLLED_BACK: fingerprint(&good) });
        let revisions = vec![revision(2, template("shop:2", None, Some("b")))];
        let restarted = view(&template("shop:1", Some("noon"), None), &annotations, revisions.clone());
        assert!(restarted.is_rolled_back() && !restarted.observation().has_previous);
        let changed = view(&template("shop:3", None, None), &annotations, revisions);
        assert!(!changed.is_rolled_back() && changed.observation().has_previous);
    }

    #[test]
    fn what_starts_or_makes_way_is_settling_and_what_fails_is_not() {
        let now_us = 1_770_000_000_000_000;
        let pod = |age_s: i64, ready: bool, status: Value| -> Pod {
            let created = rfc3339(now_us - age_s * 1_000_000);
            let ready = if ready { "True" } else { "False" };
            let mut pod = json!({
                "metadata": { "name": format!("shop-{age_s}"), "creationTimestamp": created },
                "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
            });
            if !status.is_null() {
                let container =
                    json!({ "name": "shop", "image": "", "imageID": "", "ready": false, "restartCount": 0 });
                pod["status"]["containerStatuses"] = json!([container]);
                for (name, value) in status.as_object().unwrap() {
                    pod["status"]["containerStatuses"][0][name] = value.clone();
                }
            }
            serde_json::from_value(pod).unwrap()
        };
        let settles_with = |annotations: Value, pods: &[Pod]| {
            let mut view = view(&template("shop:1", None, None), &annotations, vec![]);
            view.pods = pods.to_vec();
            view.is_settling(now_us)
        };
        let settles = |pods: &[Pod]| settles_with(json!({}), pods);
        let old = || pod(9_000, true, Value::Null);
        let waiting = |reason: &str| json!({ "state": { "waiting": { "reason": reason } } });
        assert!(!settles(&[old(), old()]), "two are wanted and there");
        assert!(settles(&[old(), pod(20, false, Value::Null)]), "one starts");
        assert!(settles(&[old(), pod(20, false, waiting("ContainerCreating"))]));
        assert!(settles(&[old(), old(), old()]), "one makes way");
        assert!(!settles(&[old()]), "one is missing, and nobody makes it");
        assert!(!settles(&[old(), pod(300, false, Value::Null)]), "it has had its time");
        let patient = json!({ "juno.io/start-seconds": "600" });
        assert!(settles_with(patient, &[old(), pod(300, false, Value::Null)]), "it may take longer");
        assert!(!settles(&[old(), old(), pod(20, false, waiting("ImagePullBackOff"))]), "it will never start");
        assert!(!settles(&[old(), pod(20, false, json!({ "restartCount": 2 }))]), "it dies");
    }

    #[test]
    fn pods_that_are_missing_are_gone_and_numbered_ones_are_in_order() {
        let mut view = view(&template("shop:1", None, None), &json!({}), vec![]);
        let pod = |name: &str, phase: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": name, "uid": name },
                "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap()
        };
        view.pods = vec![pod("shop-x", "Running", "True")];
        let observed = view.observation();
        let seen: Vec<(&str, Option<bool>)> =
            observed.replicas.iter().map(|replica| (replica.state.as_str(), replica.is_healthy)).collect();
        assert_eq!(seen, [("running", Some(true)), ("gone", Some(false))]);
        assert!(!view.is_ready());
        view.workload.kind = Kind::StatefulSet;
        view.pods = vec![pod("shop-10", "Running", "True"), pod("shop-9", "Pending", "False")];
        let started = |index: usize| view.observation().replicas[index].started.clone();
        assert_eq!((started(0).as_deref(), started(1).as_deref()), (Some("shop-9/0"), Some("shop-10/0")));
    }
}
