//! The autopilot: loops that look, and call operations. What is judged is judged in `juno_sql`; state is in tables.
//!
//! **Invariant:** whatever it does to other systems it asks for by an operation, as the user `autopilot`, under every guard.

mod healing;
mod scale;
mod sweep;
mod threats;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use juno_sql::actuator::Actuator;
use juno_sql::healing::alarm::Alarm;
use juno_sql::healing::escalation::escalate;
use juno_sql::healing::group::Group;
use juno_sql::healing::severity::Severity;
use juno_sql::healing::status::Status;
use juno_sql::{
    AUTOPILOT, Component, Error, IncidentChange, IncidentOpening, OPERATIONS, Operation, Role, Session, User,
    conclude_trials, measure_optimizations,
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::healing::Healing;
pub use self::healing::{Pulse, WARM_UP};
pub use self::scale::scale;
pub use self::sweep::sweep;
pub use self::threats::{guard, models};
use self::watch::Watching;

/// Between two looks at telemetry.
const SURVEY: Duration = Duration::from_secs(5);
/// Between two looks at what is to be trained again.
const LEARN: Duration = Duration::from_secs(30);
/// Between two looks at policies.
const ADAPT: Duration = Duration::from_secs(600);
/// Alarms that an incident tells of.
const ALARMS_TOLD: usize = 50;

type Result<T> = std::result::Result<T, Error>;

/// Watches the targets of an actuator and heals them, for ever; `pulse` says how it goes. One whose targets are not to be
/// watched is left alone.
///
/// # Errors
/// Where the database or the HTTP client cannot be had; later failures are told in `operations_status` and in the log.
pub async fn heal(session: Session, actuator: Arc<dyn Actuator>, pulse: Arc<Mutex<Pulse>>) -> Result<()> {
    let Some(pace) = actuator.pace() else { return Ok(()) };
    let mut healing = Healing::open(session.connect(), (actuator, pace), pulse).await?;
    let mut runs = Runs::new(&session, Component::SelfHealing, Duration::from_secs(pace.look_s.into()));
    loop {
        runs.wait().await;
        runs.ran(healing.tick().await);
    }
}

/// Watches all telemetry that names a service but those of the fleet, for ever.
///
/// # Errors
/// Where the database cannot be had; later failures are told in `operations_status` and in the log.
pub async fn watch(session: Session, fleet: BTreeSet<String>) -> Result<()> {
    let mut watching = Watching::open(session.connect(), fleet).await?;
    let mut runs = Runs::new(&session, Component::SelfHealing, SURVEY);
    loop {
        runs.wait().await;
        runs.ran(watching.tick().await);
    }
}

/// Measures what optimisations brought, and adapts policies to what comes of them, for ever.
pub async fn govern(session: Session) {
    let autopilot = as_autopilot(&session);
    let mut runs = Runs::new(&session, Component::Governance, ADAPT);
    loop {
        runs.due().await;
        let judged = conclude_trials(&session).await.map(drop);
        let measured = measure_optimizations(&session).await.map(drop);
        let adapted = if session.operation_settings().ai_native { adapt(&session, &autopilot).await } else { Ok(()) };
        runs.ran(judged.and(measured).and(adapted));
    }
}

/// Looks at every policy that learns.
async fn adapt(session: &Session, autopilot: &Session) -> Result<()> {
    for one in session.adapt(autopilot).await? {
        tracing::info!(policy = one.policy_type, what = one.what, reason = one.reason, "a policy was looked at");
    }
    Ok(())
}

/// Trains policies again when that is due, for ever.
pub async fn learn(session: Session) {
    let autopilot = as_autopilot(&session);
    let mut runs = Runs::new(&session, Component::Rl, LEARN);
    loop {
        runs.wait().await;
        let begun = if session.operation_settings().ai_native { session.retrain(&autopilot).await } else { Ok(vec![]) };
        runs.ran(
            begun.map(|begun| begun.iter().for_each(|policy| tracing::info!(policy, "a policy is trained again"))),
        );
    }
}

/// The runs of a loop: when the next one is due, and what the last one failed with.
struct Runs {
    session: Session,
    component: Component,
    ticks: Interval,
    told: Option<String>,
}

impl Runs {
    fn new(session: &Session, component: Component, every: Duration) -> Self {
        Self { session: session.connect(), component, ticks: ticks(every), told: None }
    }

    /// Waits until the next one is due, and the component is switched on.
    async fn wait(&mut self) {
        loop {
            self.due().await;
            if self.session.operation_settings().enabled(self.component) {
                return;
            }
        }
    }

    /// Waits until the next one is due, also while the component is switched off.
    async fn due(&mut self) {
        self.ticks.tick().await;
    }

    /// Tells how one went.
    fn ran(&mut self, done: Result<()>) {
        self.session.component_ran(self.component, done.as_ref().err());
        self.failed(done);
    }

    /// Logs a failure; the same one is logged once.
    fn failed(&mut self, done: Result<()>) {
        let failed = done.err().map(|error| error.to_string());
        if let Some(error) = failed.as_ref().filter(|_| failed != self.told) {
            tracing::warn!(component = self.component.name(), error, "a loop cannot do its work");
        }
        self.told = failed;
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A session of the autopilot.
fn as_autopilot(session: &Session) -> Session {
    session.connect_as(User { name: AUTOPILOT.into(), role: Some(Role::Responder) })
}

/// An operation by its name.
fn operation(name: &str) -> Result<&'static Operation> {
    let found = OPERATIONS.iter().find(|operation| operation.name == name);
    found.copied().ok_or_else(|| Error::Internal(format!("there is no operation {name}")))
}

/// The end that an incident comes to where people must look.
fn escalated(severity: Severity, reason: String) -> IncidentChange {
    IncidentChange {
        status: Some(Status::Escalated),
        severity: Some(severity),
        reason: Some(reason),
        ..IncidentChange::default()
    }
}

/// The escalation of an incident that lasts too long.
fn overdue(session: &Session, severity: Severity, opened_us: i64, now_us: i64) -> Option<IncidentChange> {
    let timeout_us = session.operation_settings().escalation_timeout_s.saturating_mul(1_000_000);
    let timeout_us = i64::try_from(timeout_us).unwrap_or(i64::MAX);
    let call = escalate(Status::Diagnosing, severity, opened_us, now_us, timeout_us)?;
    Some(escalated(call.severity, call.reason))
}

/// The id, the severity and the time of an incident that an earlier process left.
fn stored(row: &Map<String, Value>) -> Result<(String, Severity, i64)> {
    let detected = row["detected_at"].as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let opened_us = detected.ok_or_else(|| Error::Corrupt("an incident has no time".into()))?.timestamp_micros();
    let severity = serde_json::from_value(row["severity"].clone()).unwrap_or(Severity::High);
    Ok((row["id"].as_str().unwrap_or_default().to_owned(), severity, opened_us))
}

/// What is written down about a new incident.
fn opening(group: &Group, alarms: &[Alarm], severity: Severity, now_us: i64, source: &str) -> IncidentOpening {
    let own = alarms.iter().filter(|alarm| group.services.contains(&alarm.service));
    let first = own.clone().min_by(|a, b| a.p_value.total_cmp(&b.p_value));
    let told: Vec<Value> = own
        .take(ALARMS_TOLD)
        .map(|alarm| {
            json!({
                "service": alarm.service, "metric": alarm.metric, "labels": alarm.labels, "p_value": alarm.p_value,
                "kind": alarm.kind,
            })
        })
        .collect();
    IncidentOpening {
        incident_type: if group.has_check { "availability" } else { "performance" }.to_owned(),
        severity,
        symptoms: json!({
            "service": first.map(|alarm| alarm.service.as_str()),
            "services": group.services,
            "alarms": told,
            "repetitions": group.repetitions(),
            "detection_s": (now_us - group.first_us) as f64 / 1e6,
            "reported_by": AUTOPILOT,
            "source": source,
        }),
    }
}

#[cfg(test)]
mod tests;
