//! The controllers of the cluster: pods follow what Deployments and StatefulSets want, one step at a time.

use serde_json::{Value, json};

use super::hash;
use super::store::Store;

const REVISION: &str = "deployment.kubernetes.io/revision";

/// One step for each workload.
pub(super) fn step(store: &mut Store) {
    let all = |store: &Store, plural: &str| store.all(plural).cloned().collect::<Vec<Value>>();
    for deployment in all(store, "deployments") {
        step_deployment(store, deployment);
    }
    for set in all(store, "statefulsets") {
        step_stateful_set(store, set);
    }
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

fn owned(store: &Store, plural: &str, owner: &Value) -> Vec<Value> {
    let uid = text(owner, "uid");
    store.all(plural).filter(|object| object["metadata"]["ownerReferences"][0]["uid"] == uid).cloned().collect()
}

fn owner(object: &Value) -> Value {
    json!([{ "apiVersion": object["apiVersion"], "kind": object["kind"], "name": text(object, "name"),
        "uid": text(object, "uid"), "controller": true }])
}

fn revision(set: &Value) -> u64 {
    set["metadata"]["annotations"][REVISION].as_str().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

/// Pods of an image that is called bad never get ready, and those that hang never again.
fn gets_ready(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["hangs"] != "true"
        && !pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().contains("bad")
}

fn create_pod(store: &mut Store, name: &str, parent: &Value, template: &Value, labels: &[(&str, &str)]) {
    let node = store.all("nodes").find(|node| node["spec"]["unschedulable"] != true);
    let mut spec = template["spec"].clone();
    if let Some(node) = node {
        spec["nodeName"] = text(node, "name").into();
    }
    let mut pod = json!({
        "metadata": {
            "name": name, "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"],
            "ownerReferences": owner(parent),
        },
        "spec": spec,
        "status": { "phase": "Pending", "conditions": [{ "type": "Ready", "status": "False" }] },
    });
    for (label, value) in labels {
        pod["metadata"]["labels"][*label] = (*value).into();
    }
    let made = store.create("pods", text(parent, "namespace"), pod);
    assert_eq!(made.0, 201, "{}", made.1);
}

fn make_ready(store: &mut Store, mut pod: Value) {
    let container = &pod["spec"]["containers"][0];
    let statuses = json!([{ "name": container["name"], "image": container["image"], "imageID": "", "ready": true,
        "restartCount": 0 }]);
    pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": statuses, "podIP": "127.0.0.1" });
    store.put("pods", pod);
}

fn delete(store: &mut Store, pod: &Value) {
    store.delete("pods", text(pod, "namespace"), text(pod, "name"));
}

fn step_deployment(store: &mut Store, mut deployment: Value) {
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
    let sets = owned(store, "replicasets", &deployment);
    let newest = sets.iter().map(revision).max().unwrap_or(0);
    let template = deployment["spec"]["template"].clone();
    let name = format!("{}-{}", text(&deployment, "name"), hash(&template));
    let is_paused = deployment["spec"]["paused"] == true;
    let fitting = sets.iter().find(|set| text(set, "name") == name);
    let current = match fitting {
        _ if is_paused => sets.iter().find(|set| revision(set) == newest).cloned(),
        Some(set) if revision(set) == newest => Some(set.clone()),
        Some(set) => {
            let mut set = set.clone();
            set["metadata"]["annotations"][REVISION] = (newest + 1).to_string().into();
            store.put("replicasets", set.clone());
            Some(set)
        }
        None => Some(create_replica_set(store, &deployment, &name, newest + 1)),
    };
    let Some(current) = current else { return };
    let mut all: Vec<Value> = Vec::new();
    for set in owned(store, "replicasets", &deployment) {
        all.extend(owned(store, "pods", &set));
    }
    let uid = text(&current, "uid").to_owned();
    let is_new = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"] == uid.as_str();
    let (new, old): (Vec<Value>, Vec<Value>) = all.into_iter().partition(is_new);
    let waiting = new.iter().find(|pod| !is_ready(pod) && gets_ready(pod));
    if new.len() < wanted {
        let pod = (0..).map(|n| format!("{}-{n}", text(&current, "name")));
        let mut free = pod.filter(|name| !new.iter().any(|pod| text(pod, "name") == name));
        let name = free.next().unwrap();
        create_pod(store, &name, &current, &current["spec"]["template"], &[]);
    } else if let Some(pod) = waiting {
        make_ready(store, pod.clone());
    } else if let Some(pod) = new.get(wanted) {
        delete(store, pod);
    } else if let Some(pod) = old.first().filter(|_| new.iter().all(is_ready)) {
        delete(store, pod);
    }
    let count = |pods: &[Value]| pods.iter().filter(|pod| is_ready(pod)).count();
    let (ready, pods) = (count(&new) + count(&old), new.len() + old.len());
    deployment["metadata"]["annotations"][REVISION] = revision(&current).to_string().into();
    deployment["status"] = json!({
        "observedGeneration": deployment["metadata"]["generation"], "replicas": pods, "updatedReplicas": new.len(),
        "readyReplicas": ready, "availableReplicas": ready,
    });
    store.put("deployments", deployment);
}

fn create_replica_set(store: &mut Store, deployment: &Value, name: &str, revision: u64) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    let hash = hash(&template);
    template["metadata"]["labels"]["pod-template-hash"] = hash.into();
    template["metadata"]["creationTimestamp"] = Value::Null;
    let set = json!({
        "metadata": { "name": name, "labels": template["metadata"]["labels"],
            "annotations": { REVISION: revision.to_string() }, "ownerReferences": owner(deployment) },
        "spec": { "selector": deployment["spec"]["selector"], "template": template },
    });
    store.create("replicasets", text(deployment, "namespace"), set).1
}

fn step_stateful_set(store: &mut Store, mut set: Value) {
    let wanted = set["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
    let update = controller_revision(store, &set);
    let mut pods = owned(store, "pods", &set);
    pods.sort_by_key(|pod| text(pod, "name").len());
    let name = |ordinal: usize| format!("{}-{ordinal}", text(&set, "name"));
    let is_new = |pod: &Value| pod["metadata"]["labels"]["controller-revision-hash"] == update.as_str();
    let missing = (0..wanted).map(name).find(|name| !pods.iter().any(|pod| text(pod, "name") == name));
    if let Some(name) = missing {
        create_pod(store, &name, &set, &set["spec"]["template"], &[("controller-revision-hash", &update)]);
    } else if let Some(pod) = pods.iter().find(|pod| !is_ready(pod)) {
        // One that never gets ready holds up everything, as it does in a cluster.
        if gets_ready(pod) {
            make_ready(store, pod.clone());
        }
    } else if pods.len() > wanted {
        let extra = pods.iter().find(|pod| !(0..wanted).map(name).any(|kept| kept == text(pod, "name")));
        delete(store, extra.unwrap());
    } else if let Some(pod) = pods.iter().rev().find(|pod| !is_new(pod)) {
        delete(store, pod);
    }
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let updated = pods.iter().filter(|pod| is_new(pod)).count();
    let is_whole = updated == wanted && ready == wanted && pods.len() == wanted;
    let before = set["status"]["currentRevision"].as_str().map(str::to_owned);
    let current = before.filter(|_| !is_whole).unwrap_or_else(|| update.clone());
    set["status"] = json!({
        "observedGeneration": set["metadata"]["generation"], "replicas": pods.len(), "updatedReplicas": updated,
        "readyReplicas": ready, "availableReplicas": ready, "currentRevision": current, "updateRevision": update,
    });
    store.put("statefulsets", set);
}

/// The name of the revision of a set's template, which is made or becomes the newest.
fn controller_revision(store: &mut Store, set: &Value) -> String {
    let all = owned(store, "controllerrevisions", set);
    let number = |one: &Value| one["revision"].as_u64().unwrap_or(0);
    let newest = all.iter().map(number).max().unwrap_or(0);
    let mut template = set["spec"]["template"].clone();
    let name = format!("{}-{}", text(set, "name"), hash(&template));
    match all.into_iter().find(|one| text(one, "name") == name) {
        Some(one) if number(&one) == newest => {}
        Some(mut one) => {
            one["revision"] = (newest + 1).into();
            store.put("controllerrevisions", one);
        }
        None => {
            template["$patch"] = "replace".into();
            let labels = set["spec"]["template"]["metadata"]["labels"].clone();
            let one = json!({
                "metadata": { "name": name, "labels": labels, "ownerReferences": owner(set) },
                "data": { "spec": { "template": template } }, "revision": newest + 1,
            });
            store.create("controllerrevisions", text(set, "namespace"), one);
        }
    }
    name
}
