//! The API server of a cluster: what is asked of it and told to it, all in one namespace.
//!
//! The connection is made when it is first needed, as `kubectl` finds it: by `KUBECONFIG`, by `~/.kube/config`, or as a pod.
//!
//! **Invariant:** every call has a limit; a target is only ever found by the selector, so that nothing else is touched.

use std::time::Duration;

use juno_sql::actuator::ActuatorError;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, NamespaceResourceScope, NotUsed, Object};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::isolation;
use super::view::{Revision, View, is_active, is_owned_by, revision_of};
use super::workload::{Kind, Stored, Workload};
use crate::answer::with_causes;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// So many objects are asked for at a time,
const PAGE: u32 = 500;
/// and so many pages of them at most.
const PAGES_MAX: usize = 20;
/// The name that the API server notes for what is changed.
const MANAGER: &str = "juno";
/// Before the name of a StatefulSet whose own name a Deployment has too.
const STATEFUL: &str = "statefulset/";
/// The longest name of an object.
const NAME_BYTES_MAX: usize = 253;

/// The part of a ReplicaSet that is of use here.
#[derive(Clone, Debug, Default, Deserialize)]
struct Templated {
    #[serde(default)]
    template: Value,
}

/// The namespace of a cluster.
pub(super) struct Cluster {
    namespace: String,
    selector: String,
    client: OnceCell<Client>,
}

impl Cluster {
    /// The objects of a namespace that a label selector chooses, by a client that is there already, or that is made later.
    pub(super) fn new(namespace: &str, selector: &str, client: Option<Client>) -> Self {
        Self { namespace: namespace.to_owned(), selector: selector.to_owned(), client: OnceCell::new_with(client) }
    }

    /// Its name.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A client, connected on behalf of a target.
    async fn client(&self, target: &str) -> Result<Client, ActuatorError> {
        let connected = async { self.client.get_or_try_init(Client::try_default).await.cloned() };
        ask(target, connected).await
    }

    async fn stored<P, U>(&self, target: &str, resource: &ApiResource) -> Result<Api<Object<P, U>>, ActuatorError>
    where
        P: Clone,
        U: Clone,
    {
        Ok(Api::namespaced_with(self.client(target).await?, &self.namespace, resource))
    }

    async fn own<K>(&self, target: &str) -> Result<Api<K>, ActuatorError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Ok(Api::namespaced(self.client(target).await?, &self.namespace))
    }

    async fn nodes(&self, target: &str) -> Result<Api<Node>, ActuatorError> {
        Ok(Api::all(self.client(target).await?))
    }

    /// The workloads of a kind that the selector chooses, or only the one of a name.
    async fn workloads(&self, target: &str, kind: Kind, name: Option<&str>) -> Result<Vec<Workload>, ActuatorError> {
        let mut params = ListParams::default().labels(&self.selector);
        if let Some(name) = name {
            params = params.fields(&format!("metadata.name={name}"));
        }
        let resource = kind.resource();
        let found: Vec<Stored> = list(target, self.stored(target, &resource).await?, params).await?;
        Ok(found.into_iter().map(|object| Workload { kind, object }).collect())
    }

    /// All workloads, each with its name among the targets.
    pub(super) async fn all(&self) -> Result<Vec<(String, Workload)>, ActuatorError> {
        let whole = &self.namespace;
        let deployments = self.workloads(whole, Kind::Deployment, None).await?;
        let stateful = self.workloads(whole, Kind::StatefulSet, None).await?;
        let is_taken = |name: &str| deployments.iter().any(|deployment| deployment.name() == name);
        let called = |workload: &Workload| match workload.kind {
            Kind::StatefulSet if is_taken(workload.name()) => format!("{STATEFUL}{}", workload.name()),
            _ => workload.name().to_owned(),
        };
        let stateful: Vec<(String, Workload)> =
            stateful.into_iter().map(|workload| (called(&workload), workload)).collect();
        let named = deployments.into_iter().map(|workload| (workload.name().to_owned(), workload));
        Ok(named.chain(stateful).collect())
    }

    /// The pods that a workload chooses.
    pub(super) async fn pods(&self, workload: &Workload) -> Result<Vec<Pod>, ActuatorError> {
        let target = workload.name();
        let refused = |reason| ActuatorError::Refused { target: target.to_owned(), reason };
        let chosen = ListParams::default().labels_from(&workload.selector().map_err(refused)?);
        list(target, self.own(target).await?, chosen).await
    }

    /// The workload of a target.
    pub(super) async fn find(&self, target: &str) -> Result<Workload, ActuatorError> {
        let (kinds, name): (&[Kind], &str) = match target.strip_prefix(STATEFUL) {
            Some(name) => (&[Kind::StatefulSet], name),
            None => (&Kind::ALL, target),
        };
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
        if is_name {
            for kind in kinds {
                if let Some(workload) = self.workloads(target, *kind, Some(name)).await?.pop() {
                    return Ok(workload);
                }
            }
        }
        Err(ActuatorError::UnknownTarget(target.to_owned()))
    }

    /// A target with all that belongs to it.
    pub(super) async fn view(&self, target: &str) -> Result<View, ActuatorError> {
        let workload = self.find(target).await?;
        let refused = |reason| ActuatorError::Refused { target: target.to_owned(), reason };
        let chosen = ListParams::default().labels_from(&workload.selector().map_err(refused)?);
        let uid = workload.uid();
        let (revisions, owners) = match workload.kind {
            Kind::Deployment => self.replica_sets(target, uid, chosen.clone()).await?,
            Kind::StatefulSet => (self.controller_revisions(target, uid, chosen.clone()).await?, vec![uid.to_owned()]),
        };
        let pods: Vec<Pod> = list(target, self.own(target).await?, chosen).await?;
        let belongs = |pod: &Pod| is_active(pod) && owners.iter().any(|owner| is_owned_by(&pod.metadata, owner));
        let pods = pods.into_iter().filter(belongs).collect();
        let policies: Vec<NetworkPolicy> = list(target, self.own(target).await?, ListParams::default()).await?;
        Ok(View { workload, revisions, pods, policies })
    }

    /// The revisions of a Deployment, and the uids of its ReplicaSets.
    async fn replica_sets(
        &self,
        target: &str,
        uid: &str,
        chosen: ListParams,
    ) -> Result<(Vec<Revision>, Vec<String>), ActuatorError> {
        let resource = ApiResource::erase::<ReplicaSet>(&());
        let mut sets: Vec<Object<Templated, NotUsed>> =
            list(target, self.stored(target, &resource).await?, chosen).await?;
        sets.retain(|set| is_owned_by(&set.metadata, uid));
        let owners = sets.iter().filter_map(|set| set.metadata.uid.clone()).collect();
        let revision = |set: Object<Templated, NotUsed>| {
            let number = revision_of(&set.metadata)?;
            Some(Revision { name: set.metadata.name.unwrap_or_default(), number, template: set.spec.template })
        };
        Ok((sets.into_iter().filter_map(revision).collect(), owners))
    }

    /// The revisions of a StatefulSet.
    async fn controller_revisions(
        &self,
        target: &str,
        uid: &str,
        chosen: ListParams,
    ) -> Result<Vec<Revision>, ActuatorError> {
        let stored: Vec<ControllerRevision> = list(target, self.own(target).await?, chosen).await?;
        let revision = |stored: ControllerRevision| {
            let template = stored.data?.0.pointer("/spec/template")?.clone();
            let number = u64::try_from(stored.revision).ok()?;
            Some(Revision { name: stored.metadata.name.unwrap_or_default(), number, template })
        };
        Ok(stored.into_iter().filter(|stored| is_owned_by(&stored.metadata, uid)).filter_map(revision).collect())
    }

    /// Patches a workload as it was seen; false where others changed it meanwhile.
    pub(super) async fn patch(&self, target: &str, workload: &Workload, patch: Value) -> Result<bool, ActuatorError> {
        let api: Api<Stored> = self.stored(target, &workload.kind.resource()).await?;
        let patched = async {
            match api.patch(workload.name(), &changing(), &Patch::Merge(&patch)).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
                Err(error) => Err(error),
            }
        };
        ask(target, patched).await
    }

    /// Deletes this very pod, where it is there.
    pub(super) async fn delete_pod(&self, target: &str, pod: &Pod) -> Result<(), ActuatorError> {
        let pods: Api<Pod> = self.own(target).await?;
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = async {
            match pods.delete(pod.metadata.name.as_deref().unwrap_or_default(), &params).await {
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                other => other.map(drop),
            }
        };
        ask(target, deleted).await
    }

    /// A node; None where there is none.
    pub(super) async fn node(&self, target: &str, name: &str) -> Result<Option<Node>, ActuatorError> {
        let nodes = self.nodes(target).await?;
        ask(target, nodes.get_opt(name)).await
    }

    /// Patches a node.
    pub(super) async fn patch_node(&self, target: &str, name: &str, patch: Value) -> Result<(), ActuatorError> {
        let nodes = self.nodes(target).await?;
        ask(target, nodes.patch(name, &changing(), &Patch::Merge(&patch))).await.map(drop)
    }

    /// Makes the network policy that isolates a workload; one that is there stays.
    pub(super) async fn isolate(&self, target: &str, workload: &Workload) -> Result<(), ActuatorError> {
        let policies: Api<NetworkPolicy> = self.own(target).await?;
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let made = async {
            match policies.create(&params, &isolation::policy(workload)).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                other => other.map(drop),
            }
        };
        ask(target, made).await
    }

    /// Deletes that policy, where it is there.
    pub(super) async fn resume(&self, target: &str, workload: &Workload) -> Result<(), ActuatorError> {
        let policies: Api<NetworkPolicy> = self.own(target).await?;
        let deleted = async {
            match policies.delete(&isolation::name(workload), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                other => other.map(drop),
            }
        };
        ask(target, deleted).await
    }
}

/// Waits for a call within its limit, on behalf of a target.
async fn ask<T>(target: &str, call: impl Future<Output = kube::Result<T>> + Send) -> Result<T, ActuatorError> {
    match timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| meaning(target, &error)),
        Err(_) => {
            let reason = format!("the API server gives no answer within {} s", CALL_LIMIT.as_secs());
            Err(ActuatorError::Unreachable { target: target.to_owned(), reason })
        }
    }
}

/// All objects, page by page.
async fn list<K>(target: &str, api: Api<K>, params: ListParams) -> Result<Vec<K>, ActuatorError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug + Send + Sync,
{
    let (mut all, mut params) = (Vec::new(), params.limit(PAGE));
    for _ in 0..PAGES_MAX {
        let page = ask(target, api.list(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
    let reason = format!("there are more than {} of its objects", all.len());
    Err(ActuatorError::Refused { target: target.to_owned(), reason })
}

fn changing() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

/// What an error of a call means.
fn meaning(target: &str, error: &kube::Error) -> ActuatorError {
    let target = target.to_owned();
    let kube::Error::Api(status) = error else {
        return ActuatorError::Unreachable { target, reason: with_causes(error) };
    };
    let message = &status.message;
    let reason = match status.code {
        404 => return ActuatorError::UnknownTarget(target),
        429 | 500.. => {
            let reason = format!("the API server answers {}: {message}", status.code);
            return ActuatorError::Unreachable { target, reason };
        }
        401 => format!("the API server does not know juno: give its account a valid token: {message}"),
        403 => format!(
            "the API server forbids it: grant it to juno's account, as deploy/kubernetes/rbac.yaml does: {message}"
        ),
        409 => format!("others change the same object: order it again: {message}"),
        _ => format!("the API server refuses it: {message}"),
    };
    ActuatorError::Refused { target, reason }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_the_api_server_answers_is_told_apart() {
        let answered = |code| {
            let status = Status::failure("because", "Reason").with_code(code);
            meaning("shop", &kube::Error::Api(status.boxed()))
        };
        assert_eq!(answered(404), ActuatorError::UnknownTarget("shop".into()));
        let says = |code, what: &str| {
            let answer = answered(code);
            assert!(matches!(&answer, ActuatorError::Refused { reason, .. } if reason.contains(what)), "{answer:?}");
        };
        says(401, "valid token");
        says(403, "rbac.yaml");
        says(409, "order it again");
        says(422, "because");
        for code in [429, 500, 503] {
            assert!(matches!(answered(code), ActuatorError::Unreachable { .. }), "{code}");
        }
    }
}
