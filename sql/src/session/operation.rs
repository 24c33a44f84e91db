//! Operations at work: who asks, what is in the way, what is decided, what is done, and what is written down about it.
//!
//! The order: role, arguments, idempotency key, gates (component, phase, kill switch, freeze windows), decision, audit row, work,
//! audit row. What lasts becomes a job; what must be approved becomes a job that waits.
//!
//! **Invariant:** nothing is done before its audit row is durable; a refusal does nothing and frees its key.

mod acting;
mod approval;
mod audit;
mod figures;
mod history;
mod hold;
mod idempotency;
mod job;
mod rows;
mod ruled;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, StringArray};
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};

pub(crate) use self::acting::{Found, Mandate, refused};
pub use self::figures::OperationFigures;
pub(crate) use self::history::VIEW as HISTORY;
pub(crate) use self::hold::Hold;
use self::idempotency::Claim;
use self::job::Jobs;
pub(crate) use self::rows::objects;
use super::{RefusedLogon, Session};
use crate::actuator::{Actuator, ActuatorError};
use crate::model::Models;
use crate::operation::{
    Answered, Component, DRY_RUN, Decision, Doing, Effect, KEY_CHARS_MAX, Lasts, Operation, OperationSettings, Quota,
    Refusal, Refused, Request, check, in_trace, time_us,
};
use crate::ops::operations::policy::{Freeze, Gates, gate};
use crate::ops::threats::sigma::AtRest;
use crate::{Error, Result, jsonb};

/// How long events of the stream are kept at least: a week; older ones go when the database is opened, and once an hour.
const EVENTS_KEPT_US: i64 = 7 * 86_400_000_000;

/// Refused logons that wait to be looked at.
const REFUSED_LOGONS_MAX: usize = 10_000;

/// What an error is to REST: decided in the server.
pub type Problems = fn(&Error) -> Value;

/// When a component ran last, and what came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastRun {
    pub(crate) at_us: Option<i64>,
    pub(crate) error: Option<String>,
}

/// What all sessions of a database share about operations.
pub(crate) struct Operations {
    settings: RwLock<Arc<OperationSettings>>,
    pub(crate) started_us: i64,
    runs: Mutex<BTreeMap<Component, LastRun>>,
    problems: OnceLock<Problems>,
    jobs: Jobs,
    chain: audit::Chain,
    claims: idempotency::Claims,
    actuators: RwLock<Arc<[Arc<dyn Actuator>]>>,
    /// The actuators that gave no answer when they were last asked, and why.
    silent: Mutex<BTreeMap<&'static str, String>>,
    pub(crate) history: Arc<history::History>,
    pub(crate) figures: figures::Figures,
    /// Rows of incidents are read and written again by one at a time.
    pub(crate) incidents: tokio::sync::Mutex<()>,
    /// Logons that doors refused and nobody has looked at yet.
    refused_logons: Mutex<Vec<RefusedLogon>>,
    holds: hold::Holds,
    /// Sigma rules that analyses share.
    pub(crate) rules: AtRest,
}

impl Operations {
    pub(crate) fn new(started_us: i64) -> Self {
        Self {
            settings: RwLock::default(),
            started_us,
            runs: Mutex::default(),
            problems: OnceLock::new(),
            jobs: Jobs::default(),
            chain: audit::Chain::default(),
            claims: idempotency::Claims::default(),
            actuators: RwLock::new(Vec::new().into()),
            silent: Mutex::default(),
            history: history::History::new(),
            figures: figures::Figures::default(),
            incidents: tokio::sync::Mutex::default(),
            refused_logons: Mutex::default(),
            holds: hold::Holds::default(),
            rules: AtRest::default(),
        }
    }

    pub(crate) fn settings(&self) -> Arc<OperationSettings> {
        Arc::clone(&self.settings.read())
    }

    pub(crate) fn last_run(&self, component: Component) -> LastRun {
        self.runs.lock().get(&component).cloned().unwrap_or_default()
    }

    /// Notes whether an actuator gives answers; what is new about it is logged.
    fn note_silence(&self, executor: &'static str, error: Option<&ActuatorError>) {
        let mut silent = self.silent.lock();
        match error.map(ToString::to_string) {
            Some(error) if silent.get(executor) != Some(&error) => {
                tracing::warn!(executor, error, "an actuator gives no answer: its targets cannot be acted on");
                silent.insert(executor, error);
            }
            Some(_) => {}
            None => {
                if silent.remove(executor).is_some() {
                    tracing::info!(executor, "an actuator gives answers again");
                }
            }
        }
    }

    /// Keeps a refused logon; beyond so many that nobody looked at, further ones are not kept.
    pub(crate) fn note_refused_logon(&self, logon: RefusedLogon) {
        let mut waiting = self.refused_logons.lock();
        if waiting.len() < REFUSED_LOGONS_MAX {
            waiting.push(logon);
        }
    }

    /// Takes the refused logons that nobody has looked at.
    pub(crate) fn take_refused_logons(&self) -> Vec<RefusedLogon> {
        std::mem::take(&mut *self.refused_logons.lock())
    }

    /// An error as a problem document.
    fn problem(&self, error: &Error) -> Value {
        match self.problems.get() {
            Some(problems) => problems(error),
            None => json!({ "detail": error.to_string() }),
        }
    }
}

/// One request for an operation under way: what its functions are given.
pub(crate) struct Invocation {
    /// A session of who asked: reads what that user may read.
    pub(crate) session: Session,
    /// A session of juno's own: reads and writes juno's tables.
    pub(crate) own: Session,
    pub(crate) operation: &'static Operation,
    /// Checked, with defaults in place.
    pub(crate) arguments: Map<String, Value>,
    pub(crate) settings: Arc<OperationSettings>,
    /// What was decided, where the operation decides.
    pub(crate) plan: Option<Value>,
    /// Who approved it, where it had to be approved.
    pub(crate) approved_by: Option<String>,
    if_match: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
    job: Option<Arc<job::Live>>,
    held: Mutex<Vec<Hold>>,
    /// The quota that it uses some of, once that is known.
    quota: Arc<Mutex<Option<Quota>>>,
}

impl Session {
    /// Sets what operators decide about operations, and how errors are shown in jobs.
    pub fn set_operations(&self, settings: OperationSettings, problems: Problems) {
        *self.shared.operations.settings.write() = Arc::new(settings);
        let _ = self.shared.operations.problems.set(problems);
    }

    /// The threat models in memory.
    pub(crate) fn models(&self) -> &Arc<Models> {
        self.shared.planner.public.models()
    }

    /// What all sessions share about operations.
    pub(crate) fn operations(&self) -> &Arc<Operations> {
        &self.shared.operations
    }

    /// The settings of operations.
    pub fn operation_settings(&self) -> Arc<OperationSettings> {
        self.shared.operations.settings()
    }

    /// Notes that the loop of a component ran, and what it failed with.
    pub fn component_ran(&self, component: Component, failed: Option<&Error>) {
        let at_us = Some(self.shared.db.system().clock().now_us());
        let run = LastRun { at_us, error: failed.map(ToString::to_string) };
        self.shared.operations.runs.lock().insert(component, run);
    }

    /// What a process that was killed had left running is marked so; keys, events and forecasts that are too old go.
    pub(super) async fn open_operations(&self) -> Result<()> {
        self.shared.operations.history.open(&self.shared)?;
        self.interrupt_jobs().await?;
        self.interrupt_orders().await?;
        self.open_claims().await?;
        self.open_figures().await?;
        self.purge_events().await?;
        self.purge_forecasts().await.map(drop)
    }

    /// Removes the events of the stream that are too old; how many there were.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn purge_events(&self) -> Result<u64> {
        let old = rfc3339(self.shared.db.system().clock().now_us() - EVENTS_KEPT_US);
        let some = "SELECT id FROM juno_events WHERE at < $1 LIMIT 1";
        match self.objects(some, &[old.clone().into()]).await?.is_empty() {
            true => Ok(0),
            false => self.changed_rows("DELETE FROM juno_events WHERE at < $1", &[old.into()]).await,
        }
    }

    /// Does what an operation is for, or makes a job of it.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Forbidden`] where nothing was done; else whatever it failed with.
    pub async fn operate(&self, operation: &'static Operation, request: Request) -> Result<Answered> {
        self.user.needs(operation.role, &format!("procedure {}", operation.name))?;
        let Request { arguments, key, wait_s, if_match, request_id, trace_id } = request;
        let invocation = Invocation {
            session: self.connect_as(self.user.clone()),
            own: self.connect(),
            operation,
            arguments: check(&operation.body(), arguments)?,
            settings: self.operation_settings(),
            plan: None,
            approved_by: None,
            if_match,
            request_id,
            trace_id,
            job: None,
            held: Mutex::default(),
            quota: Arc::default(),
        };
        let key = key.filter(|_| !invocation.dry_run());
        let Some(key) = key else {
            if operation.effect == Effect::Acts && !invocation.dry_run() {
                let text = format!("{} acts on other systems: give it an idempotency key, or dry_run", operation.name);
                return Err(Refusal::new(Refused::KeyRequired, text).into());
            }
            return Box::pin(invocation.traced(wait_s)).await;
        };
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
            let text = format!("an idempotency key has 1 to {KEY_CHARS_MAX} characters");
            return Err(Refusal::new(Refused::InvalidValue, text).into());
        }
        let claim = match Box::pin(invocation.claim(&key)).await? {
            Claim::Stored(answered) => return Ok(answered),
            Claim::New(claim) => claim,
        };
        let own = self.connect();
        let acts = operation.effect == Effect::Acts;
        let done = Box::pin(invocation.traced(wait_s)).await;
        own.settle_claim(&claim, &done, acts).await?;
        done
    }
}

impl Invocation {
    /// Whether only the decision is asked for.
    pub(crate) fn dry_run(&self) -> bool {
        self.flag(DRY_RUN)
    }

    /// Who asks.
    pub(crate) fn actor(&self) -> &str {
        &self.session.user().name
    }

    /// The trace that it belongs to.
    pub(crate) fn trace_id(&self) -> Option<&str> {
        self.trace_id.as_deref()
    }

    /// Microseconds since 1970.
    pub(crate) fn now_us(&self) -> i64 {
        self.own.db().system().clock().now_us()
    }

    /// Now, as tables and answers have it.
    pub(crate) fn now(&self) -> String {
        self.own.now()
    }

    /// A new id.
    pub(crate) fn new_id(&self) -> String {
        self.own.db().system().uuid_v7().to_string()
    }

    /// The job that it runs as, where it is one.
    pub(crate) fn job_id(&self) -> Option<&str> {
        self.job.as_ref().map(|job| job.id.as_str())
    }

    /// A text argument.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get(name).and_then(Value::as_str)
    }

    /// A text argument that is required or has a default.
    pub(crate) fn word(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// A truth; false where it was not given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.arguments.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A time in microseconds.
    pub(crate) fn time_us(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(time_us)
    }

    /// The elements of a list; none where it was not given.
    pub(crate) fn list(&self, name: &str) -> &[Value] {
        self.arguments.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Notes the quota that it will use one of, unless only the decision is asked for.
    pub(crate) fn uses(&self, quota: Quota) {
        *self.quota.lock() = Some(if self.dry_run() { quota } else { quota.less_one() });
    }

    /// Holds `If-Match` to the ETag of what is stored.
    pub(crate) fn match_etag(&self, etag: &str, what: &str) -> Result<()> {
        let bare = |text: &str| text.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        match &self.if_match {
            Some(given) if given.trim() == "*" || given.split(',').any(|one| bare(one) == bare(etag)) => Ok(()),
            Some(given) => {
                let text = format!("{what} is at {} and not at {}: read it again", bare(etag), bare(given));
                Err(Refusal::new(Refused::PreconditionFailed, text).into())
            }
            None => {
                let text = format!("{what} exists: say which version you read by If-Match: \"{}\"", bare(etag));
                Err(Refusal::new(Refused::PreconditionRequired, text).into())
            }
        }
    }

    /// Decides and does within the trace of the request, and tells of the quota that it used some of.
    async fn traced(self, wait_s: u64) -> Result<Answered> {
        let (trace_id, quota) = (self.trace_id.clone(), Arc::clone(&self.quota));
        let done = in_trace(trace_id, Box::pin(self.begin(wait_s))).await;
        let quota = *quota.lock();
        quoted(done, quota)
    }

    /// Decides and does, or makes a job of it.
    async fn begin(mut self, wait_s: u64) -> Result<Answered> {
        let decision = match self.decide().await {
            Ok(decision) => decision,
            Err(error) => {
                self.audit("refused", Some(&error), None).await?;
                return Err(error);
            }
        };
        if self.dry_run() {
            let plan = decision.map_or(Value::Null, |decision| decision.plan);
            self.audit("dry_run", None, Some(&plan)).await?;
            return Ok(Answered { value: plan, job: None, pending: false, replayed: false, quota: None });
        }
        let approval = decision.as_ref().and_then(|decision| decision.approval.clone());
        self.plan = decision.map(|decision| decision.plan);
        if let Some(reason) = approval {
            return self.await_approval(&reason).await;
        }
        let lasts = match self.operation.lasts {
            Lasts::Short => false,
            Lasts::Long => true,
            Lasts::Depends(on) => on(&self.arguments),
        };
        if lasts {
            return self.into_job(wait_s).await;
        }
        let value = self.perform().await?;
        Ok(Answered { value, job: None, pending: false, replayed: false, quota: None })
    }

    /// Gates first, then the operation's own decision, then the rules of the house.
    async fn decide(&self) -> Result<Option<Decision>> {
        gate(self.operation.effect, self.dry_run(), &self.gates().await?)?;
        let decision = match self.operation.decide {
            Some(decide) => Some(decide(self).await?),
            None => None,
        };
        self.ruled(decision)
    }

    /// Does it, with an audit row before and after.
    async fn perform(&self) -> Result<Value> {
        self.audit("before", None, self.plan.as_ref()).await?;
        let done = (self.operation.run)(self).await;
        let after = match &done {
            Ok(value) => self.audit("after", None, Some(value)).await,
            Err(error) => self.audit("after", Some(error), None).await,
        };
        let value = done?;
        after?;
        Ok(value)
    }

    /// What is in the way now.
    pub(crate) async fn gates(&self) -> Result<Gates> {
        let disabled = self.operation.component.filter(|component| !self.settings.enabled(*component));
        let mut gates = Gates { phase: self.settings.phase, disabled, killed: None, freezes: Vec::new(), target: None };
        if self.operation.effect != Effect::Acts {
            return Ok(gates);
        }
        gates.killed = self.own.kill_switch().await?.filter(|row| row["engaged"] == true).map(|row| {
            let reason = row.get("reason").and_then(Value::as_str).unwrap_or_default();
            reason.to_owned()
        });
        let target = self.arguments.get("target").and_then(|target| target["name"].as_str());
        gates.target = self.text("service").or(target).map(str::to_owned);
        let windows = "SELECT name, service, ends_at FROM juno_maintenance_windows WHERE freeze AND cancelled_at IS NULL \
                       AND starts_at <= $1 AND ends_at > $1";
        for row in self.own.objects(windows, &[self.now().into()]).await? {
            let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
            let left_us = text("ends_at").and_then(|ends| time_us(&ends)).unwrap_or_default() - self.now_us();
            gates.freezes.push(Freeze {
                name: text("name").unwrap_or_default(),
                service: text("service"),
                left_s: u64::try_from(left_us / 1_000_000).unwrap_or_default(),
            });
        }
        Ok(gates)
    }
}

impl Session {
    /// The last row of the kill switch; none where it was never touched.
    pub(crate) async fn kill_switch(&self) -> Result<Option<Map<String, Value>>> {
        let last = "SELECT id, changed_at, engaged, reason, actor FROM juno_kill_switch ORDER BY id DESC LIMIT 1";
        Ok(self.objects(last, &[]).await?.pop())
    }

    /// CALL of an operation: the answer as its one column.
    pub(super) async fn call_operation(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<Vec<ArrayRef>> {
        if operation.effect != Effect::Computes {
            self.check_writable("CALL")?;
        }
        let session = self.connect_as(self.user.clone());
        let work = asked(session, operation, request);
        let answered = match operation.effect {
            Effect::Computes => work.await?,
            // What changes something goes on when its client goes away or cancels.
            _ => tokio::spawn(work).await.map_err(|error| Error::Internal(format!("a worker failed: {error}")))??,
        };
        let text = jsonb::canonical(&answered.value.to_string())?;
        Ok(vec![Arc::new(StringArray::from(vec![text]))])
    }
}

/// What came of a request, with the quota that it used some of or lacks.
fn quoted(done: Result<Answered>, quota: Option<Quota>) -> Result<Answered> {
    match (done, quota) {
        (Ok(answered), quota) => Ok(Answered { quota, ..answered }),
        (Err(Error::Refused(refusal)), Some(quota))
            if refusal.kind == Refused::BudgetExhausted && refusal.quota.is_none() =>
        {
            Err(refusal.out_of(quota).into())
        }
        (done, _) => done,
    }
}

/// A request by CALL. What an operation does may CALL in turn: named here, the type of its future does not hold itself.
fn asked(session: Session, operation: &'static Operation, request: Request) -> Doing<'static, Answered> {
    Box::pin(async move { session.operate(operation, request).await })
}

/// A time as tables and answers have it: RFC 3339 with microseconds, UTC.
pub fn rfc3339(us: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(us).unwrap_or(chrono::DateTime::UNIX_EPOCH);
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests;
