//! Local processes as targets: starts, stops, watches and heals the services of a [`Fleet`].
//!
//! Each service has a directory with its configuration, its log, its record and its data. A replica that dies is not started
//! again by itself: that it died is for the loop to see, and to judge. Starts of one service that follow each other wait
//! longer each time. When juno ends, its processes end with it; when it is killed, they live on, and the next juno adopts
//! those that still run by number and time of start, and starts the others anew.
//!
//! **Invariant:** one order at a time acts on a service; looking at it never waits for one.

mod child;
mod orders;
mod procfs;
mod record;
mod spec;
mod unit;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use juno_sql::actuator::{Action, Actuator, ActuatorError, Effect, Observation, Order, Pace, Target, Watched};
use parking_lot::Mutex;
use tokio::time::timeout;

pub use self::spec::{Fleet, Program, Service};
use self::unit::Unit;
use super::ledger::Ledger;
use super::log;

/// The name of a service's configuration in its directory.
const CONFIG: &str = "config";
/// How long a health check may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);

/// A fleet of local processes.
#[derive(Debug)]
pub struct ProcessActuator {
    units: BTreeMap<String, Unit>,
    ledger: Mutex<Ledger>,
}

impl ProcessActuator {
    /// Takes over what still runs of a fleet whose directories are below `root`, and starts the rest.
    ///
    /// # Errors
    /// A fleet that cannot be run, a directory that cannot be written.
    pub async fn open(fleet: &Fleet, root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fleet.check().map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        std::fs::create_dir_all(&root)?;
        // Programs get absolute paths: they run in directories of their own.
        let root = root.canonicalize()?;
        let http = reqwest::Client::builder().no_proxy().timeout(HEALTH_LIMIT).build().map_err(io::Error::other)?;
        let mut units = BTreeMap::new();
        for service in &fleet.services {
            let unit = Unit::open(service.clone(), root.join(&service.name), http.clone())?;
            units.insert(service.name.clone(), unit);
        }
        let actuator = Self { units, ledger: Mutex::new(Ledger::open(root.join("orders.json"))?) };
        for unit in actuator.units.values() {
            let _turn = unit.turn.lock().await;
            // One that does not start must not keep the others from it: it shows as gone, and can be healed.
            if let Err(error) = unit.start_missing().await {
                tracing::warn!(target = unit.service.name, %error, "a service did not start");
            }
        }
        Ok(actuator)
    }

    fn unit(&self, target: &str) -> Result<&Unit, ActuatorError> {
        self.units.get(target).ok_or_else(|| ActuatorError::UnknownTarget(target.to_owned()))
    }

    /// Carries out an order that no other one disturbs.
    async fn carry_out(&self, unit: &Unit, order: &Order) -> Result<Effect, ActuatorError> {
        let unwritten = |error: io::Error| unit.refused(format!("its order cannot be written down: {error}"));
        if let Some(answer) = self.ledger.lock().begin(order).map_err(unwritten)? {
            return answer;
        }
        let before = Observation { is_busy: false, ..unit.glance() };
        let outcome = match timeout(Duration::from_millis(order.limit_ms), orders::carry_out(unit, order)).await {
            Ok(Ok(())) => {
                let after = Observation { is_busy: false, ..unit.observe().await };
                Ok(Effect { before, after, is_repetition: false })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(order.late()),
        };
        self.ledger.lock().end(&order.key, &outcome).map_err(unwritten)?;
        outcome
    }
}

#[async_trait]
impl Actuator for ProcessActuator {
    fn executor(&self) -> &'static str {
        "process"
    }

    async fn targets(&self) -> Result<Vec<Target>, ActuatorError> {
        Ok(self.units.values().map(Unit::target).collect())
    }

    async fn observe(&self, target: &str) -> Result<Observation, ActuatorError> {
        Ok(self.unit(target)?.observe().await)
    }

    async fn glance(&self, target: &str) -> Result<Observation, ActuatorError> {
        Ok(self.unit(target)?.glance())
    }

    /// Nobody but juno starts again what died.
    fn pace(&self) -> Option<Pace> {
        Some(Pace { look_s: 1, replaces: false })
    }

    /// Each service, with the addresses of its first replica.
    async fn watched(&self) -> Result<Vec<Watched>, ActuatorError> {
        Ok(self.units.values().map(Unit::watched).collect())
    }

    async fn act(&self, order: &Order) -> Result<Effect, ActuatorError> {
        let unit = self.unit(&order.target)?;
        order.check()?;
        let limit = Duration::from_millis(order.limit_ms);
        let _turn = timeout(limit, unit.turn.lock()).await.map_err(|_| order.late())?;
        let outcome = self.carry_out(unit, order).await;
        log(order, &outcome);
        outcome
    }
}

/// The actions that every service takes.
const ACTIONS: [Action; 10] = [
    Action::Start,
    Action::Stop,
    Action::Restart,
    Action::Rebalance,
    Action::Cordon,
    Action::Uncordon,
    Action::Isolate,
    Action::Resume,
    Action::Rollback,
    Action::ConfigCorrect,
];

#[cfg(test)]
pub(super) mod tests;
