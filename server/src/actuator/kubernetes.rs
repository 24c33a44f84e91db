//! Deployments and StatefulSets of a Kubernetes namespace as targets.
//!
//! A label selector says which. Each order is one merge patch of the object, bound to the version that was looked at
//! (`resourceVersion`), and carries its own [`record`]: whoever gives it again, also after a crash, waits for the rest and answers
//! as the first one did. Then it is waited until the controllers have done what was ordered: the rollout is over, its pods are
//! ready and no other is left. Isolation is a network policy, cordon pauses rollouts ([`change`]).
//!
//! **Invariant:** one order at a time acts on a target; looking at it never waits for one.

mod change;
mod cluster;
mod isolation;
mod record;
mod view;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use juno_sql::actuator::{Action, Actuator, ActuatorError, Effect, Observation, Order, Pace, Target, Watched};
use juno_sql::rfc3339;
use kube::Client;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::change::{change, node_of, node_patch};
use self::cluster::Cluster;
use self::record::{Earlier, ORDERS, Orders};
use self::view::View;
use super::log;
use super::outside::Outside;

/// The label selector of targets where none is set.
pub const SELECTOR: &str = "juno.io/managed=true";
/// So often an order is tried where others change its target at the same time.
const CONFLICTS_MAX: u32 = 6;
/// The first wait after such a conflict, which doubles each time.
const CONFLICT_WAIT: Duration = Duration::from_millis(50);
/// The first wait between two looks at a rollout, which doubles up to the last.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// So many looks in a row may fail before an order that is waited for counts as unreachable.
const FAILED_LOOKS_MAX: u32 = 3;
/// How long it may take to write down how an order ended.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The workloads of a namespace.
pub struct KubernetesActuator {
    cluster: Cluster,
    outside: Outside,
    /// Held by the order that acts, by target.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl std::fmt::Debug for KubernetesActuator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubernetesActuator")
    }
}

/// How an order begins.
enum Begun {
    /// It is answered already.
    Answered(Result<Effect, ActuatorError>),
    /// It is under way; the target was so before. Whether it had been begun by an earlier call.
    UnderWay(Observation, bool),
}

impl KubernetesActuator {
    /// The workloads of a namespace that a label selector chooses. The cluster is found when it is first asked, as kubectl finds it.
    pub fn new(namespace: &str, selector: &str, outside: Outside) -> Self {
        Self::over(Cluster::new(namespace, selector, None), outside)
    }

    /// The same, asked through a client.
    pub fn with_client(namespace: &str, selector: &str, client: Client, outside: Outside) -> Self {
        Self::over(Cluster::new(namespace, selector, Some(client)), outside)
    }

    fn over(cluster: Cluster, outside: Outside) -> Self {
        Self { cluster, outside, turns: Mutex::default() }
    }

    fn turn(&self, target: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.turns.lock().entry(target.to_owned()).or_default())
    }

    fn is_busy(&self, target: &str) -> bool {
        self.turns.lock().get(target).is_some_and(|turn| turn.try_lock().is_err())
    }

    /// Carries out an order that no other one of this process disturbs.
    async fn carry_out(&self, order: &Order, until: Instant) -> Result<Effect, ActuatorError> {
        let begun = timeout_at(until, self.begin(order)).await.map_err(|_| order.late())??;
        let (before, is_repetition) = match begun {
            Begun::Answered(answer) => return answer,
            Begun::UnderWay(before, is_repetition) => (before, is_repetition),
        };
        let outcome = match timeout_at(until, self.finish(order)).await {
            // How it ended is not known: the same order again will see.
            Ok(Err(error @ ActuatorError::Unreachable { .. })) => return Err(error),
            Ok(outcome) => outcome,
            Err(_) => Err(order.late()),
        };
        let written = timeout(END_LIMIT, self.end(order, &outcome)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(target = order.target, key = order.key, "how an order ended could not be written down");
        }
        outcome.map(|after| Effect { before, after, is_repetition })
    }

    /// Patches the target, with the order's record, unless that is there already.
    async fn begin(&self, order: &Order) -> Result<Begun, ActuatorError> {
        let (mut wait, mut was_sent) = (CONFLICT_WAIT, false);
        for _ in 0..CONFLICTS_MAX {
            let view = self.cluster.view(&order.target).await?;
            let mut orders = Orders::read(view.workload.annotation(ORDERS));
            match orders.earlier(order) {
                Some(Earlier::Ended(answer)) => return Ok(Begun::Answered(answer)),
                // Where it was sent by this very call, an answer was lost and the patch was not.
                Some(Earlier::Begun(before)) => return Ok(Begun::UnderWay(before, !was_sent)),
                None => {}
            }
            let node = match node_of(order).map_err(|reason| order.refused(reason))? {
                Some(name) => self.cluster.node(&order.target, name).await?,
                None => None,
            };
            let now = self.now();
            let change = change(&view, node.as_ref(), order, &now).map_err(|reason| order.refused(reason))?;
            let before = view.observation();
            orders.begin(order, &before);
            let patch = change.patch(&view.workload, &orders);
            was_sent = true;
            if self.cluster.patch(&order.target, &view.workload, patch).await? {
                return Ok(Begun::UnderWay(before, false));
            }
            sleep(wait).await;
            wait *= 2;
        }
        Err(order.refused(format!("others changed it {CONFLICTS_MAX} times at the same moment: order it again")))
    }

    /// Does what is beside the patch, and waits until all is as it was ordered. May be done again.
    async fn finish(&self, order: &Order) -> Result<Observation, ActuatorError> {
        let (target, workload) = (&order.target, self.cluster.find(&order.target).await?);
        match (order.action, node_of(order)) {
            (Action::Isolate, _) => self.cluster.isolate(target, &workload).await?,
            (Action::Resume, _) => self.cluster.resume(target, &workload).await?,
            (_, Ok(Some(node))) => self.cluster.patch_node(target, node, node_patch(order)).await?,
            _ => {}
        }
        let (mut wait, mut failed) = (LOOK, 0);
        loop {
            match self.cluster.view(target).await {
                Ok(view) if is_done(&view, order.action) => return Ok(view.observation()),
                Ok(view) => {
                    failed = 0;
                    self.make_way(&view, order).await?;
                }
                Err(ActuatorError::Unreachable { .. }) if failed < FAILED_LOOKS_MAX => failed += 1,
                Err(error) => return Err(error),
            }
            sleep(wait).await;
            wait = LOOK_MAX.min(wait * 2);
        }
    }

    /// Deletes the pods that hold up the rollout that an order began.
    async fn make_way(&self, view: &View, order: &Order) -> Result<(), ActuatorError> {
        if matches!(order.action, Action::Restart | Action::Rollback) {
            for pod in view.stuck() {
                self.cluster.delete_pod(&order.target, pod).await?;
            }
        }
        Ok(())
    }

    /// Writes down how an order ended.
    async fn end(&self, order: &Order, outcome: &Result<Observation, ActuatorError>) -> Result<(), ActuatorError> {
        for _ in 0..CONFLICTS_MAX {
            let workload = self.cluster.find(&order.target).await?;
            let mut orders = Orders::read(workload.annotation(ORDERS));
            if !orders.end(&order.key, outcome) {
                return Ok(());
            }
            let version = &workload.object.metadata.resource_version;
            let patch =
                json!({ "metadata": { "resourceVersion": version, "annotations": { ORDERS: orders.written() } } });
            if self.cluster.patch(&order.target, &workload, patch).await? {
                return Ok(());
            }
        }
        Err(order.refused("others change it all the time"))
    }

    /// Now, as annotations have it.
    fn now(&self) -> String {
        rfc3339((self.outside.now_us)())
    }
}

/// Whether a target is as an order wanted it.
fn is_done(view: &View, action: Action) -> bool {
    match action {
        Action::Cordon | Action::Uncordon => view.workload.is_seen(),
        Action::Isolate => view.is_isolated(),
        Action::Resume => !view.is_isolated(),
        _ => view.workload.is_rolled_out() && view.is_ready(),
    }
}

#[async_trait]
impl Actuator for KubernetesActuator {
    fn executor(&self) -> &'static str {
        "kubernetes"
    }

    fn namespace(&self) -> Option<&str> {
        Some(self.cluster.namespace())
    }

    async fn targets(&self) -> Result<Vec<Target>, ActuatorError> {
        Ok(self.cluster.all().await?.into_iter().map(|(name, workload)| workload.target(name)).collect())
    }

    async fn observe(&self, target: &str) -> Result<Observation, ActuatorError> {
        let view = self.cluster.view(target).await?;
        let is_busy = self.is_busy(target) || view.is_settling((self.outside.now_us)());
        Ok(Observation { is_busy, ..view.observation() })
    }

    /// A look takes several calls of the API server, and its controllers replace what is gone.
    fn pace(&self) -> Option<Pace> {
        Some(Pace { look_s: 5, replaces: true })
    }

    async fn watched(&self) -> Result<Vec<Watched>, ActuatorError> {
        let mut watched = Vec::new();
        for (name, workload) in self.cluster.all().await? {
            // Without its pods it is watched all the same.
            let pods =
                if workload.is_scraped() { self.cluster.pods(&workload).await.unwrap_or_default() } else { Vec::new() };
            watched.push(workload.watched(name, &pods));
        }
        Ok(watched)
    }

    async fn act(&self, order: &Order) -> Result<Effect, ActuatorError> {
        // Nobody takes turns at what is not there.
        self.cluster.find(&order.target).await?;
        order.check()?;
        let until = Instant::now() + Duration::from_millis(order.limit_ms);
        let turn = self.turn(&order.target);
        let outcome = match timeout_at(until, turn.lock()).await {
            Ok(_turn) => self.carry_out(order, until).await,
            Err(_) => Err(order.late()),
        };
        log(order, &outcome);
        outcome
    }
}

#[cfg(test)]
pub(crate) mod tests;
