//! Remediations so far: what guards count, and what runbooks have achieved.
//!
//! **Invariant:** what was cut off counts as neither a success nor a failure; what was so before it did anything counts nowhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::asked::Asked;
use crate::Result;
use crate::operation::time_us;
use crate::ops::healing::policy::cause::Cause;
use crate::ops::healing::policy::circuit::Try;
use crate::ops::healing::policy::track_record::TrackRecord;
use crate::session::{Invocation, Session, rfc3339};

/// One remediation.
struct One {
    id: String,
    incident: String,
    runbook: String,
    cause: Option<Cause>,
    target: String,
    began_us: i64,
    cooldown_until_us: i64,
    ended_us: Option<i64>,
    state: String,
}

impl One {
    fn of(row: &Map<String, Value>) -> Self {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let time = |name: &str| row[name].as_str().and_then(time_us);
        Self {
            id: text("id"),
            incident: text("incident_id"),
            runbook: text("runbook"),
            cause: serde_json::from_value(row["cause"].clone()).ok(),
            target: text("target"),
            began_us: time("began_at").unwrap_or_default(),
            cooldown_until_us: time("cooldown_until").unwrap_or_default(),
            ended_us: time("ended_at"),
            state: text("state"),
        }
    }

    /// Whether it was cut off before it did anything.
    fn is_nothing(&self) -> bool {
        self.state == "interrupted" && self.cooldown_until_us <= self.began_us
    }

    fn success(&self) -> Option<bool> {
        match self.state.as_str() {
            "succeeded" => Some(true),
            "failed" => Some(false),
            _ => None,
        }
    }
}

/// All remediations, oldest first.
pub(crate) struct Past(Vec<One>);

/// Reads them.
pub(super) async fn of(own: &Session) -> Result<Past> {
    let all = "SELECT id, incident_id, runbook, cause, target, began_at, cooldown_until, ended_at, state FROM juno_remediations \
               ORDER BY began_at, id";
    Ok(Past(own.objects(all, &[]).await?.iter().map(One::of).collect()))
}

impl Past {
    fn now(&self) -> impl Iterator<Item = &One> {
        self.0.iter().filter(|one| one.state == "running")
    }

    /// The remediation that works on a target.
    pub(super) fn running(&self, target: &str) -> Option<&str> {
        self.now().find(|one| one.target == target).map(|one| one.id.as_str())
    }

    /// How many other targets are acted on.
    pub(super) fn acted_on(&self, target: &str) -> usize {
        self.now().filter(|one| one.target != target).count()
    }

    /// Whether a try of this runbook is under way.
    pub(super) fn is_trying(&self, runbook: &str) -> bool {
        self.now().any(|one| one.runbook == runbook)
    }

    /// Until when a target is left alone; a failed attempt of the same incident does not keep the next one waiting.
    pub(super) fn cooldown_until_us(&self, target: &str, incident: &str, now_us: i64) -> Option<i64> {
        let rests = |one: &&One| one.target == target && !(one.incident == incident && one.success() == Some(false));
        self.0.iter().filter(rests).map(|one| one.cooldown_until_us).filter(|until_us| *until_us > now_us).max()
    }

    /// Until when a target rests after a runbook, at the latest; none where all have had their rest.
    pub(super) fn rests_until_us(&self, runbook: &str, now_us: i64) -> Option<i64> {
        let own = self.0.iter().filter(|one| one.runbook == runbook);
        own.map(|one| one.cooldown_until_us).filter(|until_us| *until_us > now_us).max()
    }

    /// How many began since, and did something.
    pub(super) fn since(&self, from_us: i64) -> usize {
        self.all_since(from_us).count()
    }

    /// When the first of those began.
    pub(super) fn first_since(&self, from_us: i64) -> Option<i64> {
        self.all_since(from_us).map(|one| one.began_us).min()
    }

    fn all_since(&self, from_us: i64) -> impl Iterator<Item = &One> {
        self.0.iter().filter(move |one| one.began_us > from_us && !one.is_nothing())
    }

    /// How a runbook's tries ended.
    pub(super) fn tries(&self, runbook: &str) -> Vec<Try> {
        let own = self.0.iter().filter(|one| one.runbook == runbook);
        own.filter_map(|one| Some(Try { at_us: one.ended_us?, success: one.success()? })).collect()
    }

    /// What a runbook has achieved against a cause.
    pub(super) fn record(&self, runbook: &str, cause: Cause) -> TrackRecord {
        self.records().get(&(runbook.to_owned(), cause)).copied().unwrap_or_default()
    }

    /// What all have achieved.
    fn records(&self) -> BTreeMap<(String, Cause), TrackRecord> {
        let mut records: BTreeMap<(String, Cause), TrackRecord> = BTreeMap::new();
        for one in &self.0 {
            if let (Some(cause), Some(success)) = (one.cause, one.success()) {
                let record = records.entry((one.runbook.clone(), cause)).or_default();
                *record = record.after(success);
            }
        }
        records
    }
}

impl Session {
    /// What runbooks have achieved, by name and cause.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn runbook_records(&self) -> Result<BTreeMap<(String, Cause), TrackRecord>> {
        Ok(of(self).await?.records())
    }
}

/// Writes down that one begins.
pub(super) async fn begin(invocation: &Invocation, asked: &Asked, id: &str, cooldown_s: i64) -> Result<()> {
    let insert = "INSERT INTO juno_remediations (id, incident_id, runbook, cause, executor, target, actor, began_at, \
                  cooldown_until, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'running')";
    let now_us = invocation.now_us();
    let values = [
        id.into(),
        asked.incident.id.as_str().into(),
        asked.runbook.name.as_str().into(),
        asked.cause.map(Cause::name).into(),
        asked.found.actuator.executor().into(),
        asked.found.target.name.as_str().into(),
        invocation.actor().into(),
        rfc3339(now_us).into(),
        rfc3339(now_us + cooldown_s * 1_000_000).into(),
    ];
    invocation.own.changed_rows(insert, &values).await.map(drop)
}

/// Writes down how one ended.
pub(super) async fn end(own: &Session, id: &str, success: bool) -> Result<()> {
    let state = if success { "succeeded" } else { "failed" };
    let update = "UPDATE juno_remediations SET state = $2, ended_at = $3 WHERE id = $1";
    own.changed_rows(update, &[id.into(), state.into(), own.now().into()]).await.map(drop)
}

/// Writes down that one was cut off before it did anything: its target needs no rest.
pub(super) async fn cut_off(own: &Session, id: &str) -> Result<()> {
    let update =
        "UPDATE juno_remediations SET state = 'interrupted', ended_at = $2, cooldown_until = began_at WHERE id = $1";
    own.changed_rows(update, &[id.into(), own.now().into()]).await.map(drop)
}
