//! The network policy that isolates the pods of a target: it chooses them and allows nothing.
//!
//! Network policies only ever allow: what one of them lets through, no other one can keep out. Whether they are enforced at all
//! is a matter of the cluster's network.
//!
//! **Invariant:** pure: asks nobody.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::{Selector, SelectorExt};

use super::workload::Workload;

/// The name of the policy of a target.
pub(super) fn name(workload: &Workload) -> String {
    format!("juno-isolates-{}-{}", workload.kind.name(), workload.name())
}

/// The policy of a target; it goes when the target goes.
pub(super) fn policy(workload: &Workload) -> NetworkPolicy {
    let resource = workload.kind.resource();
    let owner = OwnerReference {
        api_version: resource.api_version,
        kind: resource.kind,
        name: workload.name().to_owned(),
        uid: workload.uid().to_owned(),
        ..OwnerReference::default()
    };
    let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "juno".to_owned())]);
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name(workload)),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(workload.object.spec.selector.clone()),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// The first policy that lets something through to pods with these labels, or from them.
pub(super) fn opening<'a>(policies: &'a [NetworkPolicy], labels: &BTreeMap<String, String>) -> Option<&'a str> {
    let opens = |policy: &&NetworkPolicy| {
        let Some(spec) = &policy.spec else { return false };
        let chooses = match spec.pod_selector.clone().map(Selector::try_from) {
            None => true,
            // What cannot be understood may choose them.
            Some(selector) => selector.map_or(true, |selector| selector.matches(labels)),
        };
        let allows = spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty())
            || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        chooses && allows
    };
    policies.iter().find(opens).and_then(|policy| policy.metadata.name.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::actuator::kubernetes::workload::Kind;

    #[test]
    fn the_policy_allows_nothing_and_one_that_allows_something_is_found() {
        let object = json!({
            "metadata": { "name": "shop", "uid": "u" },
            "spec": { "selector": { "matchLabels": { "app": "shop" } } },
        });
        let workload = Workload { kind: Kind::Deployment, object: serde_json::from_value(object).unwrap() };
        let own = policy(&workload);
        let spec = serde_json::to_value(&own).unwrap()["spec"].clone();
        let wanted =
            json!({ "podSelector": { "matchLabels": { "app": "shop" } }, "policyTypes": ["Ingress", "Egress"] });
        assert_eq!(spec, wanted);
        let labels = BTreeMap::from([("app".to_owned(), "shop".to_owned())]);
        let other = |name: &str, spec: Value| -> NetworkPolicy {
            serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
        };
        let harmless = [
            own,
            other("others", json!({ "podSelector": { "matchLabels": { "app": "till" } }, "ingress": [{}] })),
            other("denies", json!({ "podSelector": {}, "policyTypes": ["Ingress"] })),
        ];
        assert_eq!(opening(&harmless, &labels), None);
        let allowing = [other("allows", json!({ "podSelector": {}, "egress": [{}], "policyTypes": ["Egress"] }))];
        assert_eq!(opening(&allowing, &labels), Some("allows"));
    }
}
