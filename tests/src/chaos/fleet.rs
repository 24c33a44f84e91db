//! A fleet that is broken: the demo's five services, with a database of its own and the autopilot that heals them.
//!
//! **Invariant:** whatever ends the run ends the processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use juno_server::actuator::process::ProcessActuator;
use juno_server::autopilot::{self, Pulse};
use juno_server::demo::fleet::fleet;
use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use juno_sql::{Automation, OperationSettings, Session};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::task::JoinHandle;

/// A fleet is broken every twenty seconds, which needs more actions in an hour than the policy that is shipped allows.
const POLICY: &str = "UPDATE juno_policies SET policy = '{\"actions_per_hour\": 10000, \"blast_radius_pct\": 20, \
                      \"cooldown_s\": 300, \"circuit_failures\": 1000}' WHERE policy_type = 'healing'";

/// A row of a table.
pub(super) type Row = Map<String, Value>;

/// A fleet that runs.
pub(super) struct Demo {
    pub(super) actuator: Arc<ProcessActuator>,
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) session: Session,
    pulse: Arc<Mutex<Pulse>>,
    healing: JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.healing.abort();
        self.session.set_actuators(Vec::new());
    }
}

impl Demo {
    /// The directory of a service.
    pub(super) fn dir(&self, service: &str) -> PathBuf {
        self.dir.path().join("fleet").join(service)
    }

    /// How the loop goes.
    pub(super) fn pulse(&self) -> Pulse {
        *self.pulse.lock()
    }

    /// Now, by the clock of the database.
    pub(super) fn now_us(&self) -> i64 {
        self.session.db().system().clock().now_us()
    }

    /// Rows since a time, oldest first.
    async fn since(&self, sql: &str, from_us: i64) -> Result<Vec<Row>> {
        let from = chrono::DateTime::from_timestamp_micros(from_us).unwrap_or_default().to_rfc3339();
        Ok(self.session.objects(sql, &[from.into()]).await?)
    }

    /// The incidents that were detected since.
    pub(super) async fn incidents(&self, from_us: i64) -> Result<Vec<Row>> {
        self.since("SELECT * FROM healing_incidents_list WHERE detected_at >= $1 ORDER BY detected_at", from_us).await
    }

    /// The remediations that began since.
    pub(super) async fn remediations(&self, from_us: i64) -> Result<Vec<Row>> {
        self.since("SELECT * FROM juno_remediations WHERE began_at >= $1 ORDER BY began_at", from_us).await
    }

    /// The services that rest after a remediation.
    pub(super) async fn resting(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT target FROM juno_remediations WHERE cooldown_until > $1";
        let rows = self.since(sql, self.now_us()).await?;
        Ok(rows.iter().filter_map(|row| row["target"].as_str().map(str::to_owned)).collect())
    }
}

/// Starts a fleet, and what heals it: everything that the guards let is done without asking.
pub(super) async fn start(number: u16) -> Result<Demo> {
    let dir = tempfile::Builder::new().prefix("juno-chaos-").tempdir()?;
    let command = crate::juno(&[]);
    let program: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let fleet = fleet(&program, Some(21_000 + 16 * number))?;
    let ports = fleet.services.iter().filter_map(|service| Some((service.name.clone(), service.port?))).collect();
    let actuator = Arc::new(ProcessActuator::open(&fleet, dir.path().join("fleet")).await?);
    let session = Session::open(Db::open(dir.path().join("data"))?, Device::cpu()).await?;
    let settings = OperationSettings { healing: Automation::Full, ..OperationSettings::default() };
    session.set_operations(settings, |error| Value::String(error.to_string()));
    session.set_actuators(vec![Arc::<ProcessActuator>::clone(&actuator)]);
    session.query(POLICY).await?;
    let pulse = Arc::new(Mutex::new(Pulse::default()));
    let (own, watched, beat) = (session.connect(), Arc::clone(&actuator), Arc::clone(&pulse));
    let healing = tokio::spawn(async move {
        if let Err(error) = autopilot::heal(own, watched, beat).await {
            eprintln!("a fleet is not watched: {error}");
        }
    });
    Ok(Demo { actuator, ports, session, pulse, healing, dir })
}
