//! Approvals: what another person must allow before it is done.
//!
//! **Invariant:** who asked cannot approve; what was approved is decided anew before it is done; what nobody decides in time ends.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Invocation, rfc3339};
use crate::operation::{Answered, Refusal, Refused, time_us};
use crate::ops::{OPERATIONS, operations};
use crate::role::User;
use crate::session::Session;
use crate::{Error, Result};

/// How long an approval is waited for: a day.
const KEPT_US: i64 = 86_400_000_000;
/// How long a job may be decided anew at most: one that still waits then was left behind when the process ended.
const RESUMING_US: i64 = 3_600_000_000;

impl Invocation {
    /// Makes a job that waits for an approval, and answers with it.
    pub(super) async fn await_approval(&self, reason: &str) -> Result<Answered> {
        self.audit("awaiting_approval", None, self.plan.as_ref()).await?;
        let (job, approval) = (self.new_id(), self.new_id());
        self.insert_job(&job, "awaiting_approval").await?;
        let expires_us = self.now_us() + KEPT_US;
        let insert = "INSERT INTO juno_approvals (id, requested_at, requested_by, operation, arguments, plan, reason, state, \
                      expires_at, job_id) VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9)";
        let values = [
            approval.clone().into(),
            self.now().into(),
            self.actor().into(),
            self.operation.name.into(),
            Value::Object(self.arguments.clone()),
            self.plan.clone().unwrap_or_default(),
            reason.into(),
            rfc3339(expires_us).into(),
            job.clone().into(),
        ];
        self.own.changed_rows(insert, &values).await?;
        self.own.operations().figures.awaits(&approval, expires_us);
        let link = "UPDATE juno_jobs SET approval_id = $2 WHERE id = $1";
        self.own.changed_rows(link, &[job.clone().into(), approval.clone().into()]).await?;
        let data = json!({ "operation": self.operation.name, "state": "pending", "reason": reason });
        self.own.tell("approval", &approval, data).await?;
        self.own.job_answer(&job).await
    }

    /// Approves or denies; the approval as it is then.
    pub(crate) async fn decide_approval(&self, approve: bool) -> Result<Value> {
        let id = self.word("id");
        let found = "SELECT * FROM approvals WHERE id = $1";
        let row = self.own.objects(found, &[id.into()]).await?.pop();
        let row = row.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no approval {id}")).at("/id"))?;
        operations::policy::may_decide(
            self.actor(),
            row["requested_by"].as_str().unwrap_or_default(),
            row["state"].as_str().unwrap_or_default(),
            row["expires_at"].as_str().and_then(time_us).is_some_and(|at| at <= self.now_us()),
        )?;
        let state = if approve { "approved" } else { "denied" };
        let decide = "UPDATE juno_approvals SET state = $2, decided_at = $3, decided_by = $4, comment = $5 \
                      WHERE id = $1 AND state = 'pending'";
        let comment = self.text("comment").map(str::to_owned);
        let values = [id.into(), state.into(), self.now().into(), self.actor().into(), comment.into()];
        if self.own.changed_rows(decide, &values).await? == 0 {
            return Err(Refusal::new(Refused::Conflict, "somebody else has just decided").into());
        }
        self.own.operations().figures.decided(row["id"].as_str().unwrap_or(id));
        self.own.tell("approval", id, json!({ "operation": row["operation"], "state": state })).await?;
        if let Some(job) = row["job_id"].as_str() {
            match approve {
                true => self.own.resume(job, self.actor()).await?,
                false => self.own.deny(job, self.actor()).await?,
            }
        }
        let row = self.own.objects(found, &[id.into()]).await?.pop();
        Ok(row.map_or(Value::Null, Value::Object))
    }
}

impl Session {
    /// Ends the jobs whose approval nobody gave in time, where one expired since the last time; how many there were.
    ///
    /// # Errors
    /// As [`Session::expire_approvals`].
    pub async fn expire_due_approvals(&self) -> Result<usize> {
        let now_us = self.shared.db.system().clock().now_us();
        if self.operations().figures.is_due(now_us) { self.expire_approvals().await } else { Ok(0) }
    }

    /// Ends the jobs whose approval nobody gave in time; how many there were. One whose approval was lost with the process waits no
    /// longer than the others, one that was approved when the process ended an hour longer at most.
    ///
    /// # Errors
    /// Where juno's own tables cannot be read or written.
    pub async fn expire_approvals(&self) -> Result<usize> {
        let due = "SELECT j.id AS job, a.id AS approval FROM juno_jobs AS j LEFT JOIN juno_approvals AS a ON a.job_id = j.id \
                   WHERE j.state = 'awaiting_approval' AND ((a.id IS NULL AND j.created_at <= $2) OR (a.expires_at <= $1 \
                   AND (a.state = 'pending' OR a.decided_at IS NULL OR a.decided_at <= $3)))";
        let now_us = self.shared.db.system().clock().now_us();
        let mut ended = 0;
        let values: [Value; 3] = [now_us, now_us - KEPT_US, now_us - RESUMING_US].map(|us| rfc3339(us).into());
        for row in self.objects(due, &values).await? {
            let job = row["job"].as_str().unwrap_or_default();
            ended += usize::from(self.expire(job, row["approval"].as_str()).await?);
        }
        self.operations().figures.swept(now_us);
        Ok(ended)
    }

    /// Ends a job that waits, and its approval with it; whether it still waited.
    async fn expire(&self, job: &str, approval: Option<&str>) -> Result<bool> {
        let Some(row) = self.waiting(job).await? else { return Ok(false) };
        let text = "nobody approved it within a day: ask for the operation anew";
        let error = Error::from(Refusal::new(Refused::ApprovalExpired, text));
        let (problem, now) = (self.shared.operations.problem(&error), self.now());
        // Whoever approves at the same moment is first, or is told that it is too late.
        let own = self.connect();
        let ended = async {
            let cancel = "UPDATE juno_jobs SET state = 'cancelled', error = $2, finished_at = $3 WHERE id = $1 \
                          AND state = 'awaiting_approval'";
            let ended = own.changed_rows(cancel, &[job.into(), problem, now.into()]).await? == 1;
            if ended && let Some(approval) = approval {
                let expire = "UPDATE juno_approvals SET state = 'expired' WHERE id = $1 AND state = 'pending'";
                own.changed_rows(expire, &[approval.into()]).await?;
            }
            Ok::<bool, Error>(ended)
        };
        if !own.atomically(ended).await? {
            return Ok(false);
        }
        if let Some(approval) = approval {
            self.tell("approval", approval, json!({ "operation": row["kind"], "state": "expired" })).await?;
        }
        self.tell("job", job, json!({ "kind": row["kind"], "state": "cancelled" })).await?;
        self.stored_invocation(&row)?.audit("refused", Some(&error), None).await?;
        Ok(true)
    }

    /// The request of a job that waits for its approval; none where it does not wait any more.
    async fn waiting(&self, job: &str) -> Result<Option<Map<String, Value>>> {
        let stored = "SELECT kind, arguments, actor, role, if_match, request_id, trace_id FROM juno_jobs WHERE id = $1 \
                      AND state = 'awaiting_approval'";
        Ok(self.objects(stored, &[job.into()]).await?.pop())
    }

    /// Begins a job that waited: it is decided anew, and then runs as who asked for it.
    async fn resume(&self, job: &str, approver: &str) -> Result<()> {
        let over = || Error::from(Refusal::new(Refused::Conflict, "the job does not wait any more"));
        let row = self.waiting(job).await?.ok_or_else(over)?;
        let mut invocation = self.stored_invocation(&row)?;
        invocation.approved_by = Some(approver.to_owned());
        match Box::pin(invocation.decide()).await {
            Ok(decision) => invocation.plan = decision.map(|decision| decision.plan),
            Err(error) => {
                invocation.audit("refused", Some(&error), None).await?;
                let fail = "UPDATE juno_jobs SET state = 'failed', error = $2, finished_at = $3 WHERE id = $1 \
                            AND state = 'awaiting_approval'";
                let problem = self.shared.operations.problem(&error);
                let failed = self.changed_rows(fail, &[job.into(), problem, invocation.now().into()]).await?;
                return if failed == 1 { Ok(()) } else { Err(over()) };
            }
        }
        let queue = "UPDATE juno_jobs SET state = 'queued', plan = $2 WHERE id = $1 AND state = 'awaiting_approval'";
        let plan = invocation.plan.clone().unwrap_or_default();
        if self.changed_rows(queue, &[job.into(), plan]).await? == 0 {
            return Err(over());
        }
        invocation.start(job.to_owned());
        Ok(())
    }

    async fn deny(&self, job: &str, by: &str) -> Result<()> {
        let refusal = Refusal::new(Refused::PolicyDenied, format!("{by} denied it"));
        let problem = self.shared.operations.problem(&refusal.into());
        let now = self.now();
        let cancel = "UPDATE juno_jobs SET state = 'cancelled', error = $2, finished_at = $3 WHERE id = $1 \
                      AND state = 'awaiting_approval'";
        self.changed_rows(cancel, &[job.into(), problem, now.into()]).await?;
        self.tell("job", job, json!({ "state": "cancelled" })).await
    }

    /// The request that a job was made for.
    fn stored_invocation(&self, row: &Map<String, Value>) -> Result<Invocation> {
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let kind = text("kind").unwrap_or_default();
        let operation = OPERATIONS.iter().find(|operation| operation.name == kind).copied();
        let operation = operation.ok_or_else(|| Error::Internal(format!("there is no operation {kind} any more")))?;
        let role = text("role").and_then(|role| role.parse().ok());
        let user = User { name: text("actor").unwrap_or_default(), role };
        Ok(Invocation {
            session: self.connect_as(user),
            own: self.connect(),
            operation,
            arguments: row["arguments"].as_object().cloned().unwrap_or_default(),
            settings: Arc::clone(&self.operation_settings()),
            plan: None,
            approved_by: None,
            if_match: text("if_match"),
            request_id: text("request_id"),
            trace_id: text("trace_id"),
            job: None,
            held: Default::default(),
            quota: Arc::default(),
        })
    }
}
