//! Healing: looks at the targets of an actuator at its pace, opens incidents, diagnoses them, asks for remediations, and ends
//! them. What it decides, `juno_sql::healing` decides; what it sees it writes to the table `fleet_health`.
//!
//! **Invariant:** one incident of an actuator at a time, and one remediation.

mod counters;
mod detector;
mod evidence;
mod row;
mod scrape;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use juno_sql::actuator::{Actuator, ActuatorError, Pace, Watched};
use juno_sql::healing::alarm::Alarm;
use juno_sql::healing::budget::Budget;
use juno_sql::healing::cause::Cause;
use juno_sql::healing::course::{Attempt, Next, Patience, Progress, Targets, next};
use juno_sql::healing::diagnosis::{Candidate, Diagnosis, diagnose, is_ill};
use juno_sql::healing::evidence::Evidence;
use juno_sql::healing::graph::Graph;
use juno_sql::healing::group::{Watch, groups};
use juno_sql::healing::runbook::{Choice, Runbook, built_in};
use juno_sql::healing::severity::{Impact, Severity, severity};
use juno_sql::healing::status::Status;
use juno_sql::{Error, IncidentChange, Operation, Refused, Request, Session, trace_of};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::detector::Detector;
pub use self::detector::WARM_UP;
use self::evidence::Sight;
use self::scrape::{Looks, Scraper};
use super::{Result, as_autopilot, escalated, opening, operation, overdue, stored};

/// Alarms may be so many looks apart to belong together.
const GAP_LOOKS: i64 = 5;
/// So many looks are kept while an incident lasts.
const LOOKS_MAX: usize = 60;
/// Looks after an incident that are not judged: what it stirred up settles.
const SETTLE: u32 = 3;
/// After a refusal that passes by itself it asks again so much later, and after another one.
const REFUSED_US: i64 = 2_000_000;
const DENIED_US: i64 = 60_000_000;
/// Evidence below this is calm.
const CALM: f64 = 0.2;

/// How the loop goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    /// Looks so far.
    pub looks: u64,
    /// Looks since anything was wrong.
    pub calm_looks: u32,
}

/// A remediation that was asked for.
struct AtWork {
    job: String,
    candidate: Candidate,
    runbook: String,
}

struct Incident {
    id: String,
    opened_us: i64,
    severity: Severity,
    calm_since_us: Option<i64>,
    attempts: Vec<Attempt>,
    at_work: Option<AtWork>,
    /// Nothing is asked for before: a guard refused.
    refused_until_us: i64,
    /// The causes that its row names.
    told: Vec<(String, Cause)>,
}

impl Incident {
    fn new(id: String, opened_us: i64, severity: Severity) -> Self {
        Self {
            id,
            opened_us,
            severity,
            calm_since_us: None,
            attempts: Vec::new(),
            at_work: None,
            refused_until_us: 0,
            told: Vec::new(),
        }
    }
}

/// Where an incident of an actuator's targets comes from, as its row says.
fn source(actuator: &dyn Actuator) -> &'static str {
    match actuator.executor() {
        "process" => "fleet",
        other => other,
    }
}

/// The loop of one actuator.
pub(super) struct Healing {
    session: Session,
    autopilot: Session,
    remediate: &'static Operation,
    actuator: Arc<dyn Actuator>,
    watched: Vec<Watched>,
    graph: Graph,
    runbooks: Vec<Runbook>,
    detector: Detector,
    scraper: Scraper,
    looks: VecDeque<Looks>,
    /// Looks since a remediation was last asked for.
    fresh: usize,
    incident: Option<Incident>,
    /// What was tried in the incidents before.
    earlier: Vec<Attempt>,
    settle: u32,
    /// Versions of configurations, and when other hands changed them.
    versions: BTreeMap<String, u64>,
    changes: BTreeMap<String, i64>,
    pulse: Arc<Mutex<Pulse>>,
}

impl Healing {
    /// Takes up an incident that an earlier process left.
    pub(super) async fn open(
        session: Session,
        (actuator, pace): (Arc<dyn Actuator>, Pace),
        pulse: Arc<Mutex<Pulse>>,
    ) -> Result<Self> {
        let no_client = |error: reqwest::Error| Error::Internal(error.to_string());
        Ok(Self {
            autopilot: as_autopilot(&session),
            remediate: operation("healing_remediate")?,
            watched: Vec::new(),
            graph: Graph::default(),
            runbooks: built_in(),
            detector: Detector::new(pace)?,
            scraper: Scraper::new(Arc::clone(&actuator), pace).map_err(no_client)?,
            incident: row::left_open(&session, source(&*actuator)).await?,
            actuator,
            looks: VecDeque::new(),
            fresh: 0,
            session,
            earlier: Vec::new(),
            settle: 0,
            versions: BTreeMap::new(),
            changes: BTreeMap::new(),
            pulse,
        })
    }

    /// Learns what there is to be watched; what was known stays while nobody says.
    async fn refresh(&mut self) -> Result<()> {
        let unknown = |error: ActuatorError| Error::Internal(format!("what is to be watched is not known: {error}"));
        let watched = self.actuator.watched().await.map_err(unknown)?;
        if watched != self.watched {
            let calls = watched
                .iter()
                .flat_map(|target| target.calls.iter().map(|callee| (target.name.clone(), callee.clone())));
            self.graph = Graph::new(calls);
            self.watched = watched;
        }
        Ok(())
    }

    fn look_us(&self) -> i64 {
        i64::from(self.detector.pace().look_s) * 1_000_000
    }

    fn now_us(&self) -> i64 {
        self.session.db().system().clock().now_us()
    }

    /// One look, and what follows from it.
    pub(super) async fn tick(&mut self) -> Result<()> {
        // What is seen is true for the moment at which it was begun to look.
        let began_us = self.now_us();
        let refreshed = self.refresh().await;
        let looks = self.scraper.look(&self.watched).await;
        self.looks.push_back(looks);
        self.fresh += 1;
        if self.looks.len() > LOOKS_MAX {
            self.looks.pop_front();
        }
        // They are looked at as one slice.
        self.looks.make_contiguous();
        self.note_changes(began_us);
        self.write(began_us).await?;
        let done = self.judge().await;
        let mut pulse = self.pulse.lock();
        pulse.looks += 1;
        pulse.calm_looks = if self.incident.is_none() && self.settle == 0 { pulse.calm_looks + 1 } else { 0 };
        done.and(refreshed)
    }

    async fn judge(&mut self) -> Result<()> {
        let now_us = self.now_us();
        let looks = self.looks.back().cloned().unwrap_or_default();
        if self.incident.is_some() {
            self.detector.push_checks(&looks, now_us);
            return self.step(now_us).await;
        }
        if self.settle > 0 {
            self.settle -= 1;
            self.detector.push_checks(&looks, now_us);
            if self.settle == 0 {
                looks.iter().for_each(|(service, look)| self.detector.rebase(service, look));
            }
            return Ok(());
        }
        let alarms = self.detector.push(&looks, now_us);
        self.watch(&alarms, now_us).await
    }

    /// What can be told of the targets.
    fn sight(&self, now_us: i64) -> Sight<'_> {
        let looks = self.looks.as_slices().0;
        Sight { detector: &self.detector, looks, fresh: self.fresh, changes: &self.changes, now_us }
    }

    /// Notes configurations that other hands changed.
    fn note_changes(&mut self, now_us: i64) {
        let own = self.incident.as_ref().and_then(|incident| incident.at_work.as_ref());
        let own = own.map(|at_work| at_work.candidate.service.as_str());
        for (service, look) in self.looks.back().into_iter().flatten() {
            let Some(version) = look.observed.config_version else { continue };
            let before = self.versions.insert(service.clone(), version);
            if before.is_some_and(|before| before != version) && own != Some(service.as_str()) {
                self.changes.insert(service.clone(), now_us);
            }
        }
    }

    /// Writes what was seen. What an ill callee may explain says nothing of a service, and verifies nothing.
    async fn write(&mut self, at_us: i64) -> Result<()> {
        let is_incident = self.incident.is_some();
        let mut shown = self.sight(at_us).shown();
        let ill = shown.iter().filter(|(_, shown)| is_incident && is_ill(shown));
        let ill: BTreeSet<String> = ill.map(|(name, _)| name.clone()).collect();
        let Some(last) = self.looks.back().filter(|looks| !looks.is_empty()) else { return Ok(()) };
        let mut health = |service: &String| {
            let seen = shown.remove(service).unwrap_or_default();
            match self.graph.reached(service).into_iter().any(|callee| ill.contains(callee)) {
                true => Evidence { error_share: None, latency_ratio: None, ..seen },
                false => seen,
            }
        };
        let rows = last.iter().map(|(service, look)| (service.as_str(), look, health(service)));
        let incoming = row::health_rows(at_us, rows)?;
        self.session.ingest(vec![incoming]).await.map(drop)
    }

    /// Opens an incident where calm days do not explain the alarms.
    async fn watch(&mut self, alarms: &[Alarm], now_us: i64) -> Result<()> {
        let budget = Budget::of(self.session.operation_settings().anomaly_sensitivity);
        let budget = budget.map_err(Error::InvalidArgument)?;
        let watch = Watch { series: self.detector.series(), step_us: self.look_us() };
        let mut found = groups(alarms, &self.graph, GAP_LOOKS * self.look_us());
        found.retain(|group| group.is_incident(&watch, &budget));
        let Some(group) = found.first() else { return Ok(()) };
        let decades = group.decades(&watch, &budget);
        let (fleet, services) = (watch.series.len(), group.services.len());
        let severity = severity(&Impact { decades, services, fleet, has_check: group.has_check });
        let opening = opening(group, alarms, severity, now_us, source(&*self.actuator));
        let id = self.session.open_incident(&opening).await?;
        tracing::warn!(incident = id, severity = severity.name(), services = ?group.services, "an incident");
        let ticks = usize::try_from((now_us - group.first_us) / self.look_us() + 2).unwrap_or(1);
        self.detector.go_back(ticks);
        while self.looks.len() > ticks {
            self.looks.pop_front();
        }
        self.incident = Some(Incident::new(id, now_us, severity));
        self.step(now_us).await
    }

    /// One step of the incident; what failed is tried again at the next look.
    async fn step(&mut self, now_us: i64) -> Result<()> {
        let Some(mut incident) = self.incident.take() else { return Ok(()) };
        let goes_on = self.go_on(&mut incident, now_us).await;
        if *goes_on.as_ref().unwrap_or(&true) {
            self.incident = Some(incident);
        }
        goes_on.map(drop)
    }

    /// What follows for an incident from a look; whether it goes on.
    async fn go_on(&mut self, incident: &mut Incident, now_us: i64) -> Result<bool> {
        if self.is_at_work(incident).await? {
            return Ok(true);
        }
        let known = self.sight(now_us).evidence(&self.graph);
        let diagnosis = diagnose(&known, &self.graph);
        let is_calm = known.values().all(|evidence: &Evidence| evidence.illness() < CALM);
        incident.calm_since_us = is_calm.then_some(incident.calm_since_us.unwrap_or(now_us));
        self.decide(incident, &diagnosis, now_us).await
    }

    async fn decide(&mut self, incident: &mut Incident, diagnosis: &Diagnosis, now_us: i64) -> Result<bool> {
        let (targets, records) = (self.targets().await, self.session.runbook_records().await?);
        let choice = Choice { runbooks: &self.runbooks, records: &records };
        let progress = Progress {
            attempts: &incident.attempts,
            earlier: &self.earlier,
            calm_since_us: incident.calm_since_us,
            detected_us: incident.opened_us,
            now_us,
        };
        let step = next(&progress, diagnosis, &targets, &choice, &Patience::default());
        let is_waiting = incident.at_work.is_some() || now_us < incident.refused_until_us;
        let change = match step {
            Next::Run { candidate, runbook, .. } if !is_waiting => {
                let runbook = runbook.name.clone();
                self.tell_diagnosis(incident, diagnosis).await?;
                return self.ask(incident, candidate, runbook, now_us).await;
            }
            // What waits for an approval, or for a guard, waits no longer than everything else.
            Next::Run { .. } | Next::Wait => {
                match overdue(&self.session, incident.severity, incident.opened_us, now_us) {
                    Some(change) => change,
                    None => return Ok(true),
                }
            }
            Next::Resolve { success } => {
                IncidentChange { status: Some(Status::Resolved), success, ..IncidentChange::default() }
            }
            Next::Fail { reason } => IncidentChange {
                status: Some(Status::Failed),
                success: Some(false),
                reason: Some(reason),
                ..IncidentChange::default()
            },
            Next::Escalate { reason } => escalated(incident.severity.raised(), reason),
        };
        if change.status != Some(Status::Resolved) {
            self.tell_diagnosis(incident, diagnosis).await?;
        }
        self.end(incident, change).await
    }

    /// Ends an incident; false, as it does not go on.
    async fn end(&mut self, incident: &Incident, change: IncidentChange) -> Result<bool> {
        let (status, reason) = (change.status, change.reason.clone());
        match self.session.change_incident(&incident.id, change).await {
            Ok(_) => tracing::info!(incident = incident.id, ?status, reason, "an incident is over"),
            // People have ended it meanwhile.
            Err(Error::Refused(refusal)) if refusal.kind == Refused::Conflict => {}
            Err(error) => return Err(error),
        }
        let now_us = self.now_us();
        self.earlier.retain(|attempt| now_us - attempt.ended_us < Patience::default().holds_us);
        self.earlier.extend(incident.attempts.iter().cloned());
        self.settle = SETTLE;
        Ok(false)
    }

    /// Keeps the diagnosis with the incident, where it names other causes than before.
    async fn tell_diagnosis(&self, incident: &mut Incident, diagnosis: &Diagnosis) -> Result<()> {
        let named: Vec<(String, Cause)> =
            diagnosis.candidates.iter().map(|candidate| (candidate.service.clone(), candidate.cause)).collect();
        let is_first = incident.told.is_empty() && incident.attempts.is_empty();
        if named == incident.told && !is_first {
            return Ok(());
        }
        let told = json!({
            "diagnosis_id": self.session.db().system().uuid_v7().to_string(),
            "method": "evidence",
            "candidates": diagnosis.candidates,
            "inconclusive": diagnosis.inconclusive,
        });
        let status = is_first.then_some(Status::Diagnosing);
        let change = IncidentChange { status, diagnosis: Some(told), ..IncidentChange::default() };
        self.session.change_incident(&incident.id, change).await?;
        incident.told = named;
        Ok(())
    }

    async fn targets(&self) -> Targets {
        let mut targets = Targets::new();
        for target in self.actuator.targets().await.unwrap_or_default() {
            let look = self.looks.back().and_then(|looks| looks.get(&target.name));
            // What is contained on purpose is not healed.
            if let Some(look) = look.filter(|look| !look.observed.is_isolated) {
                targets.insert(target.name.clone(), (target, look.observed.clone()));
            }
        }
        targets
    }

    /// Asks for a runbook; whether the incident goes on.
    async fn ask(
        &mut self,
        incident: &mut Incident,
        candidate: Candidate,
        runbook: String,
        now_us: i64,
    ) -> Result<bool> {
        let arguments = json!({
            "incident_id": incident.id,
            "action": format!("runbook:{runbook}"),
            "cause": candidate.cause,
            "target": { "executor": self.actuator.executor(), "name": candidate.service },
        });
        let Value::Object(arguments) = arguments else { return Ok(true) };
        let key = Some(self.session.db().system().uuid_v7().to_string());
        let trace_id = Some(trace_of(&incident.id));
        let request = Request { arguments, key, trace_id, ..Request::default() };
        let asked = self.autopilot.operate(self.remediate, request).await;
        match asked {
            Ok(answered) => {
                incident.at_work = answered.job.map(|job| AtWork { job, candidate, runbook });
                self.fresh = 0;
                Ok(true)
            }
            Err(Error::Refused(refusal)) if refusal.kind == Refused::AlreadyResolved => {
                self.settle = SETTLE;
                Ok(false)
            }
            Err(Error::Refused(refusal)) => {
                let least_us = match refusal.kind {
                    Refused::CooldownActive | Refused::Concurrent => REFUSED_US,
                    _ => DENIED_US,
                };
                // A budget may become larger before some of it is back.
                let told_s = refusal.retry_after_s.filter(|_| refusal.quota.is_none());
                let told_us = told_s.and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
                incident.refused_until_us = now_us + (told_us * 1_000_000).max(least_us);
                tracing::info!(incident = incident.id, runbook, reason = refusal.detail, "a remediation was refused");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a remediation is under way; what came of one that is over is an attempt. One that waits for its approval is not
    /// under way: people may heal meanwhile.
    async fn is_at_work(&mut self, incident: &mut Incident) -> Result<bool> {
        let Some(at_work) = &incident.at_work else { return Ok(false) };
        let found = "SELECT state, result FROM operations_jobs WHERE id = $1";
        let job = self.session.objects(found, &[at_work.job.as_str().into()]).await?.pop().unwrap_or_default();
        match job.get("state").and_then(Value::as_str) {
            Some("queued" | "running") => return Ok(true),
            Some("awaiting_approval") => {
                // Nothing was done yet.
                self.fresh = 0;
                return Ok(false);
            }
            _ => {}
        }
        let success = job.get("result").is_some_and(|result| result["success"] == true);
        if let Some(AtWork { candidate: Candidate { service, cause, .. }, runbook, .. }) = incident.at_work.take() {
            if success && cause == Cause::BadConfiguration {
                self.changes.remove(&service);
            }
            let ended_us = self.now_us();
            incident.attempts.push(Attempt { service, cause, runbook, success, ended_us });
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
