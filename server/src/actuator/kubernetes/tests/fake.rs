//! An API server in memory: enough of Kubernetes for the actuator and for kubectl. Its controllers take one step before each
//! request, so that what is waited for comes by being looked at.

mod controller;
mod discovery;
mod store;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::store::{Answer, Asked, Store};
use super::super::view::{RESTARTED, digest_of};

/// The namespace that the tests use.
pub(crate) const NAMESPACE: &str = "market";

/// A cluster.
pub(crate) struct Fake {
    world: Mutex<World>,
    pub(crate) url: String,
}

#[derive(Default)]
struct World {
    store: Store,
    is_frozen: bool,
    troubles: Vec<Trouble>,
    /// Method and path of every request that changes something.
    changes: Vec<String>,
}

/// An answer that is given in place of the right one.
struct Trouble {
    method: Method,
    part: String,
    status: u16,
    reason: &'static str,
    times: usize,
    /// Whether what was asked is done all the same.
    is_lost: bool,
}

impl Fake {
    /// Starts a cluster with two nodes and no workload.
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Arc::new(Self { world: Mutex::default(), url });
        for name in ["node-1", "node-2"] {
            fake.add("nodes", json!({ "metadata": { "name": name }, "spec": {} }));
        }
        let router = Router::new().fallback(answer).with_state(Arc::clone(&fake));
        tokio::spawn(axum::serve(listener, router).into_future());
        fake
    }

    /// Adds an object.
    pub(crate) fn add(&self, plural: &str, object: Value) {
        let answer = self.world.lock().store.create(plural, NAMESPACE, object);
        assert_eq!(answer.0, 201, "{}", answer.1);
    }

    /// Adds a workload of one replica that juno may act on. Pods of an image that is called bad never get ready.
    pub(crate) fn add_workload(&self, plural: &str, name: &str, image: &str, annotations: Value) {
        self.add_with_pods(plural, name, (image, Value::Null), annotations);
    }

    /// The same, with annotations of its pods.
    pub(crate) fn add_with_pods(&self, plural: &str, name: &str, (image, of_pods): (&str, Value), annotations: Value) {
        let template = json!({
            "metadata": { "labels": { "app": name }, "annotations": of_pods },
            "spec": { "containers": [{ "name": name, "image": image }] },
        });
        let metadata = json!({ "name": name, "labels": { "juno.io/managed": "true" }, "annotations": annotations });
        let selector = json!({ "matchLabels": { "app": name } });
        let spec = json!({ "replicas": 1, "selector": selector, "template": template });
        self.add(plural, json!({ "metadata": metadata, "spec": spec }));
        self.settle();
    }

    /// An object as it is stored.
    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.world.lock().store.find(plural, NAMESPACE, name).cloned()
    }

    /// Changes an object, as other hands would.
    pub(crate) fn patch(&self, plural: &str, name: &str, patch: Value) {
        let answer = self.world.lock().store.patch(plural, NAMESPACE, name, &patch);
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// The names of the pods of an app.
    pub(crate) fn pods(&self, app: &str) -> Vec<String> {
        let world = self.world.lock();
        let pods = world.store.all("pods").filter(|pod| pod["metadata"]["labels"]["app"] == app);
        pods.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// Makes the pods of an app hang, until they are replaced.
    pub(crate) fn hang(&self, app: &str) {
        for pod in self.pods(app) {
            let conditions = json!([{ "type": "Ready", "status": "False" }]);
            let patch =
                json!({ "metadata": { "annotations": { "hangs": "true" } }, "status": { "conditions": conditions } });
            self.patch("pods", &pod, patch);
        }
    }

    /// Lets the controllers do all that there is to do.
    pub(crate) fn settle(&self) {
        let mut world = self.world.lock();
        (0..50).for_each(|_| controller::step(&mut world.store));
    }

    /// Stops the controllers, or lets them go on.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        self.world.lock().is_frozen = is_frozen;
    }

    /// Answers the next requests of a method whose path has this part with an error.
    pub(crate) fn trouble(&self, method: Method, part: &str, (status, reason): (u16, &'static str), times: usize) {
        let trouble = Trouble { method, part: part.to_owned(), status, reason, times, is_lost: false };
        self.world.lock().troubles.push(trouble);
    }

    /// Does what the next request of a method asks whose path has this part, and gives no proper answer.
    pub(crate) fn lose(&self, method: Method, part: &str) {
        let (status, reason) = (504, "Timeout");
        let trouble = Trouble { method, part: part.to_owned(), status, reason, times: 1, is_lost: true };
        self.world.lock().troubles.push(trouble);
    }

    /// How often something was changed whose path has this part.
    pub(crate) fn changed(&self, part: &str) -> usize {
        self.world.lock().changes.iter().filter(|change| change.contains(part)).count()
    }

    /// What marks a restart in the template of a deployment.
    pub(crate) fn restarted(&self, name: &str) -> Option<String> {
        let deployment = self.get("deployments", name)?;
        deployment["spec"]["template"]["metadata"]["annotations"][RESTARTED].as_str().map(str::to_owned)
    }
}

impl World {
    fn answer(&mut self, method: &Method, uri: &Uri, kind: &str, body: &[u8]) -> Answer {
        if !self.is_frozen {
            controller::step(&mut self.store);
        }
        let path = uri.path();
        if *method != Method::GET {
            self.changes.push(format!("{method} {path}"));
        }
        let is_meant =
            |trouble: &&mut Trouble| trouble.times > 0 && trouble.method == *method && path.contains(&trouble.part);
        let trouble = self.troubles.iter_mut().find(is_meant).map(|trouble| {
            trouble.times -= 1;
            (trouble.is_lost, store::failure(trouble.status, trouble.reason, "the test wants it"))
        });
        match trouble {
            Some((false, failure)) => failure,
            Some((true, failure)) => {
                self.truly(method, uri, kind, body);
                failure
            }
            None => self.truly(method, uri, kind, body),
        }
    }

    fn truly(&mut self, method: &Method, uri: &Uri, kind: &str, body: &[u8]) -> Answer {
        let path = uri.path();
        if let Some(document) = discovery::document(path) {
            return (200, document);
        }
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap_or_default() };
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        match Asked::parse(path) {
            Some(asked) => self.store.answer(method, &asked, &query, kind, body),
            None => store::failure(404, "NotFound", "there is no such path"),
        }
    }
}

async fn answer(State(fake): State<Arc<Fake>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (status, document) = fake.world.lock().answer(&method, &uri, kind, &body);
    (StatusCode::from_u16(status).unwrap(), axum::Json(document)).into_response()
}

/// A short name of a template.
fn hash(template: &Value) -> String {
    digest_of(template).chars().take(10).collect()
}
