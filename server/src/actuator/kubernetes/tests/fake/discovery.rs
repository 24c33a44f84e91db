//! What there is, as clients ask for it before anything else.

use serde_json::{Value, json};

/// A kind of objects.
pub(super) struct Resource {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) is_namespaced: bool,
    short: &'static str,
    is_scaled: bool,
}

const fn resource(group: &'static str, plural: &'static str, kind: &'static str, short: &'static str) -> Resource {
    Resource { group, plural, kind, is_namespaced: true, short, is_scaled: false }
}

/// All of them.
pub(super) const RESOURCES: &[Resource] = &[
    resource("", "pods", "Pod", "po"),
    Resource { is_namespaced: false, ..resource("", "nodes", "Node", "no") },
    Resource { is_scaled: true, ..resource("apps", "deployments", "Deployment", "deploy") },
    Resource { is_scaled: true, ..resource("apps", "statefulsets", "StatefulSet", "sts") },
    resource("apps", "replicasets", "ReplicaSet", "rs"),
    resource("apps", "controllerrevisions", "ControllerRevision", ""),
    resource("networking.k8s.io", "networkpolicies", "NetworkPolicy", "netpol"),
];

impl Resource {
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".into() } else { format!("{}/v1", self.group) }
    }
}

/// The document of a path that tells what there is.
pub(super) fn document(path: &str) -> Option<Value> {
    let group = |name: &str| {
        let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
        json!({ "name": name, "versions": [version], "preferredVersion": version })
    };
    Some(match path.trim_end_matches('/') {
        "/version" => json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "",
        }),
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        "/apis" => json!({
            "kind": "APIGroupList", "apiVersion": "v1", "groups": [group("apps"), group("networking.k8s.io")],
        }),
        "/api/v1" => list(""),
        "/apis/apps/v1" => list("apps"),
        "/apis/networking.k8s.io/v1" => list("networking.k8s.io"),
        _ => return None,
    })
}

fn list(group: &str) -> Value {
    let mut resources = Vec::new();
    let mut version = String::new();
    for resource in RESOURCES.iter().filter(|resource| resource.group == group) {
        version = resource.api_version();
        let short: Vec<&str> = Some(resource.short).into_iter().filter(|short| !short.is_empty()).collect();
        resources.push(json!({
            "name": resource.plural, "singularName": resource.kind.to_lowercase(), "namespaced": resource.is_namespaced,
            "kind": resource.kind, "verbs": ["create", "delete", "get", "list", "patch"], "shortNames": short,
        }));
        if resource.is_scaled {
            resources.push(json!({
                "name": format!("{}/scale", resource.plural), "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch"],
            }));
        }
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources })
}
