//! A fleet in memory, and a database that acts on it: for tests.
//!
//! **Invariant:** does what it is told at once, or fails or lies as it is told to; every order is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use juno_kernels::Device;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{Action, Actuator, ActuatorError, Effect, Observation, Order, Replica, Target};
use crate::operation::{Answered, Operation, Refused, Request};
use crate::role::{Role, User};
use crate::session::Session;
use crate::{Error, Result};

/// The fleet.
#[derive(Default)]
pub(crate) struct Fake {
    targets: Mutex<BTreeMap<String, (Target, Observation)>>,
    pub(crate) orders: Mutex<Vec<Order>>,
    /// What the next orders fail with.
    pub(crate) fails: Mutex<Option<ActuatorError>>,
    /// Whether orders are answered as done and nothing is done.
    pub(crate) lies: Mutex<bool>,
    /// What happens elsewhere while all targets are asked for: one statement a time, none where it is empty.
    pub(crate) meanwhile: Mutex<Vec<(Session, String)>>,
}

impl Fake {
    fn add(&self, name: &str, is_protected: bool, actions: &[Action], units: usize) {
        let target = Target { name: name.into(), kind: "process".into(), is_protected, actions: actions.to_vec() };
        self.targets.lock().insert(name.into(), (target, observed(units)));
    }

    /// Adds a target that can fail over to its standby, and nothing else.
    pub(crate) fn add_with_standby(&self, name: &str) {
        self.add(name, false, &[Action::Failover], 1);
        if let Some((_, observed)) = self.targets.lock().get_mut(name) {
            observed.has_standby = true;
        }
    }

    /// A target as it is now.
    pub(crate) fn now(&self, target: &str) -> Observation {
        self.targets.lock()[target].1.clone()
    }
}

fn observed(units: usize) -> Observation {
    let replica = |index| Replica {
        index,
        state: "running".into(),
        is_healthy: Some(true),
        started: Some(format!("{index}")),
        ..Replica::default()
    };
    Observation { wanted: units, replicas: (0..units).map(replica).collect(), ..Observation::default() }
}

/// The same with every replica started anew.
fn restarted(before: &Observation) -> Observation {
    let anew = |replica: &Replica| Replica {
        started: replica.started.as_ref().map(|started| format!("{started} again")),
        ..replica.clone()
    };
    Observation { replicas: before.replicas.iter().map(anew).collect(), ..before.clone() }
}

#[async_trait]
impl Actuator for Fake {
    fn executor(&self) -> &'static str {
        "fake"
    }

    fn namespace(&self) -> Option<&str> {
        Some("east")
    }

    async fn targets(&self) -> Result<Vec<Target>, ActuatorError> {
        let next = self.meanwhile.lock().pop();
        if let Some((session, sql)) = next.filter(|(_, sql)| !sql.is_empty()) {
            session.changed_rows(&sql, &[]).await.expect("a change");
        }
        Ok(self.targets.lock().values().map(|(target, _)| target.clone()).collect())
    }

    async fn observe(&self, target: &str) -> Result<Observation, ActuatorError> {
        let unknown = || ActuatorError::UnknownTarget(target.to_owned());
        self.targets.lock().get(target).map(|(_, observed)| observed.clone()).ok_or_else(unknown)
    }

    async fn act(&self, order: &Order) -> Result<Effect, ActuatorError> {
        let before = self.observe(&order.target).await?;
        if let Some(error) = self.fails.lock().clone() {
            return Err(error);
        }
        self.orders.lock().push(order.clone());
        let after = match order.action {
            Action::Scale => observed(order.params["replicas"].as_u64().unwrap_or_default() as usize),
            Action::Stop => Observation { replicas: Vec::new(), ..before.clone() },
            Action::Start => observed(before.wanted),
            Action::Isolate => Observation { is_isolated: true, ..before.clone() },
            Action::Resume => Observation { is_isolated: false, ..before.clone() },
            Action::Restart => restarted(&before),
            _ => before.clone(),
        };
        if *self.lies.lock() {
            return Ok(Effect { before, after, is_repetition: false });
        }
        if let Some((_, observed)) = self.targets.lock().get_mut(&order.target) {
            *observed = after.clone();
        }
        Ok(Effect { before, after, is_repetition: false })
    }
}

/// A database with a fleet: `shop` of two units that takes everything, `vault` that is protected, `lamp` that only starts.
pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) fake: Arc<Fake>,
    pub(crate) own: Session,
}

impl World {
    pub(crate) async fn open() -> World {
        let all = [Action::Scale, Action::Stop, Action::Start, Action::Restart, Action::Isolate, Action::Resume];
        let fake = Arc::new(Fake::default());
        fake.add("shop", false, &all, 2);
        fake.add("vault", true, &all, 1);
        fake.add("lamp", false, &[Action::Start], 1);
        let directory = tempfile::tempdir().expect("a directory");
        let own = session(&directory, &fake).await;
        World { directory, fake, own }
    }

    /// The same database, opened again.
    pub(crate) async fn reopened(self) -> World {
        let World { directory, fake, own } = self;
        own.db().close().expect("a clean end");
        drop(own);
        let own = session(&directory, &fake).await;
        World { directory, fake, own }
    }

    /// Asks for an operation, with a key of its own unless it is a dry run.
    pub(crate) async fn ask(
        &self,
        operation: &'static Operation,
        (name, role): (&str, Role),
        arguments: Value,
    ) -> Result<Answered> {
        self.ask_matching(operation, (name, role), arguments, None).await
    }

    /// The same with an If-Match.
    pub(crate) async fn ask_matching(
        &self,
        operation: &'static Operation,
        (name, role): (&str, Role),
        arguments: Value,
        if_match: Option<&str>,
    ) -> Result<Answered> {
        let session = self.own.connect_as(User { name: name.into(), role: Some(role) });
        let arguments = arguments.as_object().expect("an object").clone();
        let key = Some(self.own.db().system().uuid_v7().to_string());
        let if_match = if_match.map(str::to_owned);
        session.operate(operation, Request { arguments, key, wait_s: 30, if_match, ..Request::default() }).await
    }

    /// The rows of a query.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Map<String, Value>> {
        self.own.objects(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The only row of a query.
    pub(crate) async fn row(&self, sql: &str) -> Map<String, Value> {
        let mut rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.remove(0)
    }
}

async fn session(directory: &tempfile::TempDir, fake: &Arc<Fake>) -> Session {
    let db = juno_engine::Db::open(directory.path()).expect("a database");
    let session = Session::open(db, Device::cpu()).await.expect("migrations");
    session.set_actuators(vec![Arc::clone(fake) as Arc<dyn Actuator>]);
    session
}

/// The result of a job that succeeded.
pub(crate) fn result(answered: Result<Answered>) -> Value {
    let answered = answered.expect("a job");
    assert_eq!(answered.value["state"], "succeeded", "{:#}", answered.value);
    answered.value["result"].clone()
}

/// What a request was refused with before anything was done.
pub(crate) fn refusal(answered: Result<Answered>) -> Refused {
    match answered {
        Err(Error::Refused(refusal)) => refusal.kind,
        other => panic!("{other:?}"),
    }
}
