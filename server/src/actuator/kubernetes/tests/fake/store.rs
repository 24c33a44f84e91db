//! The objects of the cluster, and the verbs on them.

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::discovery::{RESOURCES, Resource};

/// Status and document.
pub(super) type Answer = (u16, Value);

/// Plural, namespace, name.
type Place = (&'static str, String, String);

/// What a path names.
pub(super) struct Asked {
    resource: &'static Resource,
    namespace: String,
    name: Option<String>,
    part: Option<String>,
}

impl Asked {
    /// `/api/v1/…` and `/apis/GROUP/v1/…`.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        if parts.next()? != "v1" {
            return None;
        }
        let mut next = parts.next()?;
        let mut namespace = String::new();
        if next == "namespaces" {
            namespace = parts.next()?.to_owned();
            next = parts.next()?;
        }
        let resource = RESOURCES.iter().find(|resource| resource.group == group && resource.plural == next)?;
        let (name, part) = (parts.next().map(str::to_owned), parts.next().map(str::to_owned));
        Some(Self { resource, namespace, name, part })
    }
}

/// All objects.
#[derive(Default)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<Place, Value>,
}

impl Store {
    pub(super) fn answer(
        &mut self,
        method: &Method,
        asked: &Asked,
        query: &[(String, String)],
        kind: &str,
        body: Value,
    ) -> Answer {
        let (plural, namespace) = (asked.resource.plural, asked.namespace.as_str());
        match (method.as_str(), &asked.name, asked.part.as_deref()) {
            ("GET", None, None) => self.list(asked, query),
            ("POST", None, None) => self.create(plural, namespace, body),
            ("GET", Some(name), None) => match self.find(plural, namespace, name) {
                Some(object) => (200, object.clone()),
                None => missing(plural, name),
            },
            ("GET", Some(name), Some("scale")) => match self.find(plural, namespace, name) {
                Some(object) => (200, scale(object)),
                None => missing(plural, name),
            },
            ("PATCH", Some(name), part @ (None | Some("scale"))) => {
                if !["application/merge-patch+json", "application/strategic-merge-patch+json"].contains(&kind) {
                    return failure(415, "UnsupportedMediaType", "a patch is a merge patch here");
                }
                let (status, object) = self.patch(plural, namespace, name, &body);
                (status, if status == 200 && part.is_some() { scale(&object) } else { object })
            }
            ("DELETE", Some(name), None) => match self.delete(plural, namespace, name) {
                true => (200, json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" })),
                false => missing(plural, name),
            },
            _ => failure(405, "MethodNotAllowed", "that is not possible here"),
        }
    }

    fn list(&self, asked: &Asked, query: &[(String, String)]) -> Answer {
        let given = |name: &str| query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let mut items: Vec<Value> = self.all(asked.resource.plural).cloned().collect();
        items.retain(|item| asked.namespace.is_empty() || item["metadata"]["namespace"] == asked.namespace.as_str());
        for field in given("fieldSelector").into_iter().filter(|selector| !selector.is_empty()) {
            let Some(name) = field.strip_prefix("metadata.name=") else {
                return failure(400, "BadRequest", "that field chooses nothing");
            };
            items.retain(|item| item["metadata"]["name"] == name);
        }
        for selector in given("labelSelector").unwrap_or_default().split(',').filter(|one| !one.is_empty()) {
            let is_chosen = |item: &Value| {
                let label = |name: &str| item["metadata"]["labels"][name].as_str().map(str::to_owned);
                match selector.split_once("!=") {
                    Some((name, value)) => label(name).as_deref() != Some(value),
                    None => match selector.split_once('=') {
                        Some((name, value)) => label(name).as_deref() == Some(value.trim_start_matches('=')),
                        None => label(selector).is_some(),
                    },
                }
            };
            items.retain(is_chosen);
        }
        let number = |name: &str| given(name).and_then(|number| number.parse::<usize>().ok());
        let (from, most) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let rest = items.split_off(from.min(items.len()));
        let next = (rest.len() > most).then(|| (from + most).to_string());
        let metadata = json!({ "resourceVersion": self.version.to_string(), "continue": next.unwrap_or_default() });
        let page: Vec<Value> = rest.into_iter().take(most).collect();
        let (kind, version) = (format!("{}List", asked.resource.kind), asked.resource.api_version());
        (200, json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": page }))
    }

    pub(super) fn all(&self, plural: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((own, ..), _)| *own == plural).map(|(_, object)| object)
    }

    pub(super) fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&place(plural, namespace, name))
    }

    pub(super) fn create(&mut self, plural: &str, namespace: &str, mut object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let place = place(plural, namespace, &name);
        if self.objects.contains_key(&place) {
            return failure(409, "AlreadyExists", &format!("{plural} \"{name}\" already exists"));
        }
        self.version += 1;
        let resource = resource(plural);
        object["kind"] = resource.kind.into();
        object["apiVersion"] = resource.api_version().into();
        let metadata = &mut object["metadata"];
        metadata["uid"] = format!("uid-{}", self.version).into();
        metadata["resourceVersion"] = self.version.to_string().into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        if resource.is_namespaced {
            metadata["namespace"] = namespace.into();
        }
        self.objects.insert(place, object.clone());
        (201, object)
    }

    /// Writes an object as it should be; its version stays where nothing is changed.
    pub(super) fn put(&mut self, plural: &str, mut object: Value) {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let place = place(plural, &text("namespace"), &text("name"));
        if self.objects.get(&place) != Some(&object) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.objects.insert(place, object);
        }
    }

    pub(super) fn patch(&mut self, plural: &str, namespace: &str, name: &str, patch: &Value) -> Answer {
        let Some(object) = self.find(plural, namespace, name) else { return missing(plural, name) };
        let (given, version) = (&patch["metadata"]["resourceVersion"], &object["metadata"]["resourceVersion"]);
        if !given.is_null() && given != version {
            let text =
                format!("{plural} \"{name}\": the object has been modified; apply your changes to the latest version");
            return failure(409, "Conflict", &text);
        }
        let mut merged = merge(object.clone(), patch);
        let replicas = &merged["spec"]["replicas"];
        if !replicas.is_null() && replicas.as_u64().is_none() {
            return failure(422, "Invalid", &format!("spec.replicas: Invalid value: {replicas}"));
        }
        if merged["spec"] != object["spec"] {
            merged["metadata"]["generation"] = (object["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
        }
        self.put(plural, merged);
        (200, self.find(plural, namespace, name).cloned().unwrap_or_default())
    }

    pub(super) fn delete(&mut self, plural: &str, namespace: &str, name: &str) -> bool {
        self.version += 1;
        self.objects.remove(&place(plural, namespace, name)).is_some()
    }
}

fn resource(plural: &str) -> &'static Resource {
    RESOURCES.iter().find(|resource| resource.plural == plural).unwrap_or_else(|| panic!("no resource {plural}"))
}

fn place(plural: &str, namespace: &str, name: &str) -> Place {
    let resource = resource(plural);
    let namespace = if resource.is_namespaced { namespace } else { "" };
    (resource.plural, namespace.to_owned(), name.to_owned())
}

/// A merge patch (RFC 7396); a strategic one of objects alone is the same.
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut merged = match target {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, value) in patch {
        match value {
            Value::Null => drop(merged.remove(name)),
            value => {
                let before = merged.get(name).cloned().unwrap_or_default();
                merged.insert(name.clone(), merge(before, value));
            }
        }
    }
    Value::Object(merged)
}

/// An object as its scale subresource shows it.
fn scale(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": { "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"] },
        "spec": { "replicas": object["spec"]["replicas"] }, "status": { "replicas": object["status"]["replicas"] },
    })
}

fn missing(plural: &str, name: &str) -> Answer {
    failure(404, "NotFound", &format!("{plural} \"{name}\" not found"))
}

/// A failure as the API server tells it.
pub(super) fn failure(status: u16, reason: &str, message: &str) -> Answer {
    let told = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": status,
    });
    (status, told)
}
