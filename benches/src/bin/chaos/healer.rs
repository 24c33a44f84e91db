//! The loop: looks every second, opens incidents, diagnoses, acts, verifies. What it decides, `juno_sql::healing` decides.
//!
//! **Invariant:** one incident of a fleet at a time, and one order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use juno_sql::actuator::{Actuator, Order};
use juno_sql::healing::alarm::Alarm;
use juno_sql::healing::budget::Budget;
use juno_sql::healing::cause::Cause;
use juno_sql::healing::circuit::{Breaker, Try};
use juno_sql::healing::course::{Attempt, Next, Patience, Progress, Targets, next};
use juno_sql::healing::diagnosis::{Candidate, Diagnosis, diagnose};
use juno_sql::healing::evidence::Evidence;
use juno_sql::healing::graph::Graph;
use juno_sql::healing::group::{Watch, groups};
use juno_sql::healing::guard::{Decision, Level, Origin, Proposal, Situation, verdict};
use juno_sql::healing::runbook::{Choice, Runbook, built_in};
use juno_sql::healing::severity::{Impact, severity};
use juno_sql::healing::status::Status;
use juno_sql::healing::track_record::TrackRecord;
use juno_sql::healing::verification::{Outcome, Sample};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::detector::Detector;
use crate::evidence::{evidence, sample};
use crate::fleet::{Demo, SERVICES, graph};
use crate::scrape::{Look, Scraper};

/// Time between two looks.
const STEP: Duration = Duration::from_secs(1);
/// Alarms may be so far apart to belong together.
const GAP_US: i64 = 5_000_000;
/// The sensitivity that is shipped.
const SENSITIVITY: f64 = 0.8;
/// So many looks are kept while an incident lasts.
const LOOKS_MAX: usize = 30;
/// Looks after an incident that are not judged: what it stirred up settles.
const SETTLE: u32 = 3;
/// The share of the fleet that may be acted on at once.
const BLAST_RADIUS: f64 = 0.25;
/// Actions of a fleet in an hour; a fleet that is broken every twenty seconds needs more than one that runs.
const ACTIONS_MAX: usize = 600;

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An incident was opened, with the severity and what told.
    Opened(String),
    /// A runbook was chosen, with the cause, its service and its probability.
    Chosen { service: String, cause: Cause, runbook: String, probability: f64 },
    /// An order was given.
    Acted { service: String },
    /// It was verified, or not.
    Verified(bool),
    /// The incident was over, with how it ended.
    Over(Status, String),
}

/// What the loop and the one who breaks share.
#[derive(Default)]
pub(crate) struct Board {
    pub(crate) events: Mutex<Vec<(i64, Event)>>,
    /// When configurations were changed, by service.
    pub(crate) changes: Mutex<BTreeMap<String, i64>>,
    /// Until when targets rest.
    pub(crate) resting: Mutex<BTreeMap<String, i64>>,
    /// Looks since anything was wrong.
    pub(crate) calm_looks: Mutex<u32>,
}

/// The records of runbooks, shared by all fleets.
pub(crate) type Records = Arc<Mutex<BTreeMap<(String, Cause), TrackRecord>>>;

struct Attempted {
    candidate: Candidate,
    runbook: Runbook,
    acting: Option<JoinHandle<Result<(), String>>>,
    acted_us: i64,
    samples: Vec<Sample>,
}

struct Incident {
    status: Status,
    opened_us: i64,
    calm_since_us: Option<i64>,
    attempts: Vec<Attempt>,
    attempted: Option<Attempted>,
}

/// The loop of one fleet.
pub(crate) struct Healer {
    demo: Arc<Demo>,
    board: Arc<Board>,
    records: Records,
    graph: Graph,
    runbooks: Vec<Runbook>,
    detector: Detector,
    scraper: Scraper,
    looks: VecDeque<BTreeMap<String, Look>>,
    incident: Option<Incident>,
    tries: BTreeMap<String, Vec<Try>>,
    settle: u32,
    orders: u64,
    began: Instant,
    budget: Budget,
    verbose: bool,
}

impl Healer {
    pub(crate) fn new(
        demo: Arc<Demo>,
        board: Arc<Board>,
        records: Records,
        began: Instant,
        verbose: bool,
    ) -> Result<Self> {
        Ok(Self {
            demo,
            board,
            records,
            graph: graph(),
            runbooks: built_in(),
            detector: Detector::new()?,
            scraper: Scraper::new()?,
            looks: VecDeque::new(),
            incident: None,
            tries: BTreeMap::new(),
            settle: 0,
            orders: 0,
            began,
            budget: Budget::of(SENSITIVITY).map_err(anyhow::Error::msg)?,
            verbose,
        })
    }

    fn now_us(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn tell(&self, event: Event) {
        let now_us = self.now_us();
        if self.verbose {
            println!("{:9.2} {event:?}", now_us as f64 / 1e6);
        }
        self.board.events.lock().expect("no panic while locked").push((now_us, event));
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looks = self.scraper.look(&self.demo).await;
            self.looks.push_back(looks);
            if self.looks.len() > LOOKS_MAX {
                self.looks.pop_front();
            }
            self.tick().await;
        }
    }

    async fn tick(&mut self) {
        let now_us = self.now_us();
        let looks = self.looks.back().cloned().unwrap_or_default();
        if let Some(incident) = self.incident.take() {
            self.detector.push_checks(&looks, now_us);
            self.incident = self.go_on(incident, now_us).await;
        } else if self.settle > 0 {
            self.settle -= 1;
            self.detector.push_checks(&looks, now_us);
            if self.settle == 0 {
                looks.iter().for_each(|(service, look)| self.detector.rebase(service, look));
            }
        } else {
            let alarms = self.detector.push(&looks, now_us);
            self.watch(&alarms, now_us).await;
        }
        let mut calm = self.board.calm_looks.lock().expect("no panic while locked");
        *calm = if self.incident.is_none() && self.settle == 0 { *calm + 1 } else { 0 };
    }

    /// Opens an incident where calm days do not explain the alarms.
    async fn watch(&mut self, alarms: &[Alarm], now_us: i64) {
        let watch = Watch { series: self.detector.series(), step_us: 1_000_000 };
        let mut found = groups(alarms, &self.graph, GAP_US);
        found.retain(|group| group.is_incident(&watch, &self.budget));
        let Some(group) = found.first() else { return };
        let decades = group.decades(&watch, &self.budget);
        let impact =
            Impact { decades, services: group.services.len(), fleet: SERVICES.len(), has_check: group.has_check };
        let told: Vec<String> =
            alarms.iter().map(|a| format!("{} {} {:.0e}", a.service, a.metric, a.p_value)).collect();
        self.tell(Event::Opened(format!("{} {:.1}: {}", severity(&impact).name(), decades, told.join(", "))));
        let ticks = usize::try_from((now_us - group.first_us) / 1_000_000 + 2).unwrap_or(1);
        self.detector.go_back(ticks);
        while self.looks.len() > ticks {
            self.looks.pop_front();
        }
        let incident = Incident {
            status: Status::Open,
            opened_us: now_us,
            calm_since_us: None,
            attempts: vec![],
            attempted: None,
        };
        let mut incident = incident;
        become_status(&mut incident, Status::Diagnosing);
        self.incident = self.go_on(incident, now_us).await;
    }

    /// One step of an incident.
    async fn go_on(&mut self, mut incident: Incident, now_us: i64) -> Option<Incident> {
        let changes = self.board.changes.lock().expect("no panic while locked").clone();
        let known = evidence(&self.detector, self.looks.make_contiguous(), &changes, now_us);
        if let Some(attempted) = incident.attempted.take() {
            incident.attempted = self.follow(&mut incident, attempted, &known, now_us).await;
        }
        if incident.attempted.is_some() {
            return Some(incident);
        }
        let diagnosis = diagnose(&known, &self.graph);
        let is_calm = known.values().all(|evidence| evidence.illness() < 0.2);
        incident.calm_since_us = is_calm.then_some(incident.calm_since_us.unwrap_or(now_us));
        self.decide(incident, &diagnosis, now_us).await
    }

    async fn decide(&mut self, mut incident: Incident, diagnosis: &Diagnosis, now_us: i64) -> Option<Incident> {
        let targets = self.targets().await;
        let records = self.records.lock().expect("no panic while locked").clone();
        let choice = Choice { runbooks: &self.runbooks, records: &records };
        let progress = Progress {
            attempts: &incident.attempts,
            calm_since_us: incident.calm_since_us,
            detected_us: incident.opened_us,
            now_us,
        };
        let step = next(&progress, diagnosis, &targets, &choice, &Patience::default());
        let (status, reason) = match step {
            Next::Wait => return Some(incident),
            Next::Run { candidate, runbook, record, .. } => {
                let runbook = runbook.clone();
                self.run_one(&mut incident, candidate, runbook, record, &targets, now_us);
                return Some(incident);
            }
            Next::Resolve { success } => (Status::Resolved, format!("{success:?}")),
            Next::Fail { reason } => (Status::Failed, reason),
            Next::Escalate { reason } => (Status::Escalated, reason),
        };
        become_status(&mut incident, status);
        let reason = if status == Status::Resolved { reason } else { format!("{reason}; {:?}", diagnosis.candidates) };
        self.tell(Event::Over(status, reason));
        self.settle = SETTLE;
        None
    }

    async fn targets(&self) -> Targets {
        let mut targets = Targets::new();
        for target in self.demo.actuator.targets().await.unwrap_or_default() {
            let observed =
                self.looks.back().and_then(|looks| looks.get(&target.name)).map(|look| look.observed.clone());
            targets.insert(target.name.clone(), (target, observed.unwrap_or_default()));
        }
        targets
    }

    /// Gives the order of a runbook where every guard lets it.
    fn run_one(
        &mut self,
        incident: &mut Incident,
        candidate: Candidate,
        runbook: Runbook,
        record: TrackRecord,
        targets: &Targets,
        now_us: i64,
    ) {
        let service = candidate.service.clone();
        let is_protected = targets.get(&service).is_some_and(|(target, _)| target.is_protected);
        if !self.may(&service, &runbook, &record, is_protected, now_us) {
            return;
        }
        become_status(incident, Status::Remediating);
        let (cause, probability) = (candidate.cause, candidate.probability);
        self.tell(Event::Chosen { service: service.clone(), cause, runbook: runbook.name.clone(), probability });
        self.tell(Event::Acted { service: service.clone() });
        self.board
            .resting
            .lock()
            .expect("no panic while locked")
            .insert(service.clone(), now_us + i64::from(runbook.cooldown_s) * 1_000_000);
        let (actuator, steps) = (Arc::clone(&self.demo.actuator), runbook.steps.clone());
        let limit_ms = u64::from(runbook.timeout_s) * 1_000;
        self.orders += 1;
        let key = format!("{service}-{now_us}");
        let acting = tokio::spawn(async move {
            for (number, step) in steps.into_iter().enumerate() {
                let (target, key) = (service.clone(), format!("{key}-{number}"));
                let order = Order { target, action: step.action, params: step.params, key, limit_ms };
                actuator.act(&order).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        incident.attempted =
            Some(Attempted { candidate, runbook, acting: Some(acting), acted_us: now_us, samples: Vec::new() });
    }

    /// Asks the guards.
    fn may(&self, service: &str, runbook: &Runbook, record: &TrackRecord, is_protected: bool, now_us: i64) -> bool {
        let tries = self.tries.get(&runbook.name).map_or(&[][..], Vec::as_slice);
        let proposal = Proposal {
            origin: Origin::Autopilot,
            risk: runbook.risk,
            is_autonomous: record.is_autonomous(),
            targets: 1,
            dry_run: false,
            wants_approval: false,
            approved_by: None,
        };
        let situation = Situation {
            now_us,
            is_enabled: true,
            level: Level::High,
            kill_switch: false,
            frozen: None,
            is_protected,
            locked_by: None,
            cooldown_until_us: self.board.resting.lock().expect("no panic while locked").get(service).copied(),
            fleet: SERVICES.len(),
            acted_on: 0,
            blast_radius: BLAST_RADIUS,
            actions: usize::try_from(self.orders).unwrap_or(usize::MAX),
            actions_max: ACTIONS_MAX,
            circuit: Breaker::default().state(tries, now_us),
            is_trying: false,
        };
        verdict(&proposal, &situation).decision == Decision::Allow
    }

    /// Waits for an order, then for its verification; None when both are over.
    async fn follow(
        &mut self,
        incident: &mut Incident,
        mut attempted: Attempted,
        known: &BTreeMap<String, Evidence>,
        now_us: i64,
    ) -> Option<Attempted> {
        let service = attempted.candidate.service.clone();
        let mut success = None;
        if let Some(acting) = attempted.acting.take() {
            if !acting.is_finished() {
                return Some(Attempted { acting: Some(acting), ..attempted });
            }
            match acting.await {
                Ok(Ok(())) => {
                    become_status(incident, Status::Verifying);
                    // This look was begun while the order may have run.
                    attempted.acted_us = now_us;
                    return Some(attempted);
                }
                Ok(Err(error)) => {
                    println!("{:9.2} {service}: {error}", now_us as f64 / 1e6);
                    success = Some(false);
                }
                Err(_) => success = Some(false),
            }
        }
        if success.is_none() {
            if let Some(look) = self.looks.back().and_then(|looks| looks.get(&service)) {
                attempted.samples.push(sample(&known[&service], look, now_us));
            }
            match attempted.runbook.verify.outcome(&attempted.samples, attempted.acted_us, now_us) {
                Outcome::Pending => return Some(attempted),
                Outcome::Passed { .. } => success = Some(true),
                Outcome::Failed { unmet } => {
                    println!("{:9.2} {service}: not verified: {unmet:?}", now_us as f64 / 1e6);
                    success = Some(false);
                }
            }
        }
        let success = success.unwrap_or(false);
        let (cause, runbook) = (attempted.candidate.cause, attempted.runbook.name);
        self.tell(Event::Verified(success));
        self.tries.entry(runbook.clone()).or_default().push(Try { at_us: now_us, success });
        let mut records = self.records.lock().expect("no panic while locked");
        let record = records.entry((runbook.clone(), cause)).or_default();
        *record = record.after(success);
        if success && matches!(cause, Cause::BadConfiguration) {
            self.board.changes.lock().expect("no panic while locked").remove(&service);
        }
        incident.attempts.push(Attempt { service, cause, runbook, success });
        become_status(incident, Status::Diagnosing);
        None
    }
}

fn become_status(incident: &mut Incident, next: Status) {
    incident.status = incident.status.becoming(next).expect("the loop makes legal moves only");
}
