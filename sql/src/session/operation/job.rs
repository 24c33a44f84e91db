//! Jobs: operations that outlast their request. A row in `juno_jobs` from the first moment on, a task while they run.
//!
//! **Invariant:** a job is never lost: one that ran when the process ended is marked as interrupted when the database is opened.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::Invocation;
use crate::operation::{Answered, Effect, Quota, Refusal, Refused, in_trace};
use crate::session::Session;
use crate::{Error, Result};

/// Jobs that run at a time; more are refused.
const RUNNING_MAX: usize = 64;
/// How long a cancelled job is waited for before its state is told as it is.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// Jobs that run now.
#[derive(Default)]
pub(super) struct Jobs(Mutex<HashMap<String, Arc<Live>>>);

impl Jobs {
    /// How many there are.
    pub(super) fn running(&self) -> usize {
        self.0.lock().len()
    }
}

/// A job that runs.
pub(super) struct Live {
    pub(super) id: String,
    cancelled: watch::Sender<bool>,
    done: watch::Sender<bool>,
}

impl Live {
    async fn ended(&self, patience: Duration) -> bool {
        let mut done = self.done.subscribe();
        tokio::time::timeout(patience, done.wait_for(|done| *done)).await.is_ok()
    }
}

/// Takes a job off the list and tells those who wait, however it ended.
struct Ending {
    own: Session,
    live: Arc<Live>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.own.shared.operations.jobs.0.lock().remove(&self.live.id);
        self.live.done.send_replace(true);
    }
}

impl Invocation {
    /// Makes a job of it, waits for it as long as asked, and answers with the job.
    pub(super) async fn into_job(self, wait_s: u64) -> Result<Answered> {
        let own = self.own.connect();
        if own.shared.operations.jobs.0.lock().len() >= RUNNING_MAX {
            let text = format!("{RUNNING_MAX} jobs run already: cancel one or wait");
            let quota = Quota { name: "jobs", most: RUNNING_MAX as u64, left: 0, window_s: None, reset_s: Some(5) };
            return Err(Refusal::new(Refused::BudgetExhausted, text).out_of(quota).into());
        }
        let id = self.new_id();
        self.insert_job(&id, "queued").await?;
        let live = self.start(id.clone());
        if wait_s > 0 {
            live.ended(Duration::from_secs(wait_s)).await;
        }
        own.job_answer(&id).await
    }

    /// Writes the row of a job.
    pub(super) async fn insert_job(&self, id: &str, state: &str) -> Result<()> {
        let insert = "INSERT INTO juno_jobs (id, kind, state, progress, created_at, arguments, plan, actor, role, if_match, \
                      request_id, trace_id) VALUES ($1, $2, $3, 0, $4, $5, $6, $7, $8, $9, $10, $11)";
        let values = [
            id.into(),
            self.operation.name.into(),
            state.into(),
            self.now().into(),
            Value::Object(self.arguments.clone()),
            self.plan.clone().unwrap_or_default(),
            self.actor().into(),
            self.session.user().role.map(|role| role.to_string()).into(),
            self.if_match.clone().into(),
            self.request_id.clone().into(),
            self.trace_id.clone().into(),
        ];
        self.own.changed_rows(insert, &values).await?;
        self.own.job_event(id, self.operation.name, state).await
    }

    /// Starts the task of a job whose row is there.
    pub(super) fn start(mut self, id: String) -> Arc<Live> {
        let live =
            Arc::new(Live { id: id.clone(), cancelled: watch::Sender::new(false), done: watch::Sender::new(false) });
        self.own.shared.operations.jobs.0.lock().insert(id, Arc::clone(&live));
        self.job = Some(Arc::clone(&live));
        let ending = Ending { own: self.own.connect(), live: Arc::clone(&live) };
        let trace_id = self.trace_id.clone();
        let work = async move {
            let ending = ending;
            if let Err(error) = Box::pin(self.run_job(&ending.live)).await {
                tracing::error!(job = ending.live.id, "the state of a job cannot be kept: {error}");
            }
        };
        tokio::spawn(in_trace(trace_id, work));
        live
    }

    /// Tells how much of a job is done, 0 to 1; an error where somebody asked it to end. What acts calls it between its steps.
    pub(crate) async fn progress(&self, share: f64) -> Result<()> {
        let Some(job) = &self.job else { return Ok(()) };
        if *job.cancelled.borrow() {
            return Err(Error::Cancelled);
        }
        let update = "UPDATE juno_jobs SET progress = $2 WHERE id = $1";
        self.own.changed_rows(update, &[job.id.as_str().into(), share.clamp(0.0, 1.0).into()]).await.map(drop)
    }

    async fn run_job(&self, live: &Live) -> Result<()> {
        let id = Value::from(live.id.as_str());
        let begin = "UPDATE juno_jobs SET state = 'running', started_at = $2 WHERE id = $1 AND state = 'queued'";
        if self.own.changed_rows(begin, &[id.clone(), self.now().into()]).await? == 0 {
            return Ok(());
        }
        let mut cancelled = live.cancelled.subscribe();
        let acts = self.operation.effect == Effect::Acts;
        let done = tokio::select! {
            done = Box::pin(self.perform()) => done,
            // What acts is never cut off in the middle: it looks for the wish between its steps.
            _ = cancelled.wait_for(|wish| *wish), if !acts => Err(Error::Cancelled),
        };
        // Whoever sees the job's end may ask again at once.
        self.held.lock().clear();
        let (state, result, error) = match done {
            Ok(value) => ("succeeded", value, Value::Null),
            Err(Error::Cancelled) => ("cancelled", Value::Null, self.own.shared.operations.problem(&Error::Cancelled)),
            Err(error) => ("failed", Value::Null, self.own.shared.operations.problem(&error)),
        };
        let end = "UPDATE juno_jobs SET state = $2, result = $3, error = $4, finished_at = $5, progress = greatest(progress, $6) WHERE id = $1";
        let progress = if state == "succeeded" { json!(1) } else { json!(0) };
        self.own.changed_rows(end, &[id, state.into(), result, error, self.now().into(), progress]).await?;
        self.own.job_event(&live.id, self.operation.name, state).await
    }
}

impl Session {
    /// Where a job stands; the columns of the view.
    pub(crate) async fn job(&self, id: &str) -> Result<Map<String, Value>> {
        let found = self.objects("SELECT * FROM operations_jobs WHERE id = $1", &[id.into()]).await?.pop();
        found.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no job {id}")).at("/id").into())
    }

    pub(super) async fn job_answer(&self, id: &str) -> Result<Answered> {
        let job = self.job(id).await?;
        let pending = !matches!(job["state"].as_str(), Some("succeeded" | "failed" | "cancelled"));
        Ok(Answered { value: job.into(), job: Some(id.to_owned()), pending, replayed: false, quota: None })
    }

    async fn job_event(&self, id: &str, kind: &str, state: &str) -> Result<()> {
        self.tell("job", id, json!({ "kind": kind, "state": state })).await
    }

    /// Adds an event for those who listen to the stream of events.
    pub(crate) async fn tell(&self, kind: &str, subject: &str, data: Value) -> Result<()> {
        let insert = "INSERT INTO juno_events (id, at, type, subject, data) VALUES ($1, $2, $3, $4, $5)";
        let system = self.shared.db.system();
        let (id, at) = (system.uuid_v7().to_string(), super::rfc3339(system.clock().now_us()));
        self.changed_rows(insert, &[id.into(), at.into(), kind.into(), subject.into(), data]).await.map(drop)
    }

    /// Asks a job to end.
    ///
    /// # Errors
    /// [`Error::Refused`] where it has ended already, or is not there.
    pub(crate) async fn cancel_job(&self, id: &str) -> Result<Map<String, Value>> {
        let live = self.shared.operations.jobs.0.lock().get(id).cloned();
        if let Some(live) = live {
            live.cancelled.send_replace(true);
            live.ended(CANCEL_WAIT).await;
            return self.job(id).await;
        }
        let job = self.job(id).await?;
        let now = self.now();
        let cancel = "UPDATE juno_jobs SET state = 'cancelled', finished_at = $2 WHERE id = $1 \
                      AND state IN ('queued', 'awaiting_approval')";
        if self.changed_rows(cancel, &[id.into(), now.into()]).await? == 0 {
            let state = job["state"].as_str().unwrap_or_default();
            return Err(Refusal::new(Refused::Conflict, format!("the job has ended already: it is {state}")).into());
        }
        let forget = "UPDATE juno_approvals SET state = 'cancelled' WHERE job_id = $1 AND state = 'pending'";
        self.changed_rows(forget, &[id.into()]).await?;
        if let Some(approval) = job["approval_id"].as_str() {
            self.operations().figures.decided(approval);
        }
        self.job_event(id, job["kind"].as_str().unwrap_or_default(), "cancelled").await?;
        self.job(id).await
    }

    /// When the database is opened: what ran is marked as interrupted.
    pub(super) async fn interrupt_jobs(&self) -> Result<()> {
        let cut = "SELECT id, kind FROM juno_jobs WHERE state IN ('queued', 'running')";
        for job in self.objects(cut, &[]).await? {
            let text = "the server ended while the job ran: the audit says what it had done";
            let error = json!({ "type": "/problems/interrupted", "detail": text });
            let now = self.now();
            let mark = "UPDATE juno_jobs SET state = 'failed', error = $2, finished_at = $3 WHERE id = $1";
            self.changed_rows(mark, &[job["id"].clone(), error, now.into()]).await?;
            let (id, kind) = (job["id"].as_str().unwrap_or_default(), job["kind"].as_str().unwrap_or_default());
            self.job_event(id, kind, "failed").await?;
        }
        Ok(())
    }
}
