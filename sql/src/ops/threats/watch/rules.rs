//! Sigma rules over what is new in `security_events`.
//!
//! Events come as they are committed. Those of the last hours are read from the table when rules are there for the first time, and when
//! more has come than can wait; a look judges so many events and leaves the rest to the next.
//!
//! **Invariant:** an event is judged once, whether it waited, was read from the table, or is sent again; what an error lets go of is
//! judged again.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::record_batch::RecordBatch;
use juno_engine::Followed;
use serde_json::{Map, Value, json};

use super::{EVENTS, FOUND_MAX, Finding};
use crate::Result;
use crate::ops::threats::sigma;
use crate::ops::threats::sigma::event::Subject;
use crate::ops::threats::sigma::judge::{Judge, Match};
use crate::session::{Session, blocking, objects, rfc3339};

/// Events of one look.
const JUDGED_MAX: usize = 5_000;
/// Events that wait.
const WAITING_MAX: usize = 100_000;
/// How far back the table is read.
const READ_US: i64 = 6 * 3_600_000_000;
/// Events that are known to have been judged.
const SEEN_MAX: usize = 200_000;
/// Events that a finding names.
const NAMED_MAX: usize = 10;

/// What rules have seen and shall see.
#[derive(Default)]
pub(super) struct Rules {
    judge: Option<Judge>,
    /// Which rules it has.
    edition: Option<String>,
    waiting: VecDeque<RecordBatch>,
    /// Whether the table must be read: what waits is not all that is new.
    must_read: bool,
    /// Whether all of it is new: there was none when it was last looked for.
    all_is_new: bool,
    seen: Seen,
}

/// Events by the hash of what names them; the oldest are forgotten.
#[derive(Default)]
struct Seen {
    all: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    /// Whether an event is seen for the first time.
    fn is_new(&mut self, row: &Map<String, Value>) -> bool {
        let mut hasher = DefaultHasher::new();
        match row.get("event_uid").and_then(Value::as_str) {
            Some(uid) => (uid, row.get("source_name").and_then(Value::as_str), text(row, "time")).hash(&mut hasher),
            None => Value::Object(row.clone()).to_string().hash(&mut hasher),
        }
        let hash = hasher.finish();
        if !self.all.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
        true
    }
}

/// What a rule found about an entity.
struct Found {
    first: Match,
    events: usize,
    from_us: i64,
    until_us: i64,
    uids: Vec<String>,
}

impl Rules {
    /// Where there is no table of events yet: all that it will have is new.
    pub(super) fn of_no_table() -> Self {
        Self { all_is_new: true, ..Self::default() }
    }

    /// Takes what was committed.
    pub(super) fn hear(&mut self, followed: Followed) {
        self.waiting.extend(followed.rows);
        self.must_read |= followed.lost;
        if self.waiting.iter().map(RecordBatch::num_rows).sum::<usize>() > WAITING_MAX {
            tracing::warn!(
                "more than {WAITING_MAX} security events wait for rules: the newest of the last hours are judged"
            );
            self.waiting.clear();
            self.must_read = true;
        }
    }

    /// Whether there is more to judge.
    pub(super) fn is_behind(&self) -> bool {
        self.edition.is_some() && (self.must_read || !self.waiting.is_empty())
    }

    /// Judges what is new, up to [`JUDGED_MAX`] events.
    pub(super) async fn find(&mut self, own: &Session, now_us: i64) -> Result<Vec<Finding>> {
        self.renew(own).await?;
        if self.judge.is_none() {
            self.waiting.clear();
            self.all_is_new = false;
            return Ok(Vec::new());
        }
        if std::mem::take(&mut self.must_read) {
            let from_us = if std::mem::take(&mut self.all_is_new) { 0 } else { now_us - READ_US };
            let recent = format!(
                "SELECT * FROM (SELECT * FROM {EVENTS} WHERE time > TIMESTAMPTZ '{}' ORDER BY time DESC LIMIT {WAITING_MAX}) \
                 ORDER BY time",
                rfc3339(from_us)
            );
            let mut all = VecDeque::from(own.collect(&recent).await?);
            all.append(&mut self.waiting);
            self.waiting = all;
        }
        let mut rows = objects(&self.next())?;
        rows.retain(|row| self.seen.is_new(row));
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let Some(mut judge) = self.judge.take() else { return Ok(Vec::new()) };
        let (judge, found) = blocking(move || {
            let found = judged(&mut judge, &rows);
            Ok((judge, found))
        })
        .await?;
        self.judge = Some(judge);
        if found.len() > FOUND_MAX {
            tracing::warn!("rules found {} threats in one look: {FOUND_MAX} are told", found.len());
        }
        Ok(found.into_iter().take(FOUND_MAX).map(|((_, entity), found)| found.finding(entity)).collect())
    }

    /// Compiles the rules where they were loaded anew.
    async fn renew(&mut self, own: &Session) -> Result<()> {
        let edition = sigma::edition(own).await?;
        if edition == self.edition && (self.judge.is_some() || edition.is_none()) {
            return Ok(());
        }
        let before = self.judge.take();
        self.must_read |= before.is_none();
        if edition.is_some() {
            let mut judge = sigma::judge(own).await?;
            if let Some(before) = before {
                judge.go_on(before.counted());
            }
            self.judge = Some(judge);
        }
        self.edition = edition;
        Ok(())
    }

    /// The next rows that wait, as many as one look may judge.
    fn next(&mut self) -> Vec<RecordBatch> {
        let mut some = Vec::new();
        let mut left = JUDGED_MAX;
        while left > 0
            && let Some(batch) = self.waiting.pop_front()
        {
            let count = batch.num_rows().min(left);
            if count < batch.num_rows() {
                self.waiting.push_front(batch.slice(count, batch.num_rows() - count));
            }
            some.push(batch.slice(0, count));
            left -= count;
        }
        some
    }
}

fn text<'a>(row: &'a Map<String, Value>, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What rules find in these events, by rule and entity.
fn judged(judge: &mut Judge, rows: &[Map<String, Value>]) -> BTreeMap<(String, String), Found> {
    let mut events: Vec<(Subject, &Map<String, Value>)> =
        rows.iter().filter_map(|row| Some((Subject::of(row)?, row))).collect();
    events.sort_by_key(|(subject, _)| subject.time_us);
    let mut found: BTreeMap<(String, String), Found> = BTreeMap::new();
    for (subject, row) in events {
        for one in judge.judge(row, subject.time_us) {
            let counted =
                one.group.iter().find(|value| value.parse::<std::net::IpAddr>().is_ok()).or(one.group.first());
            let entity = counted.or(subject.entity.as_ref()).unwrap_or(&one.title).clone();
            let key = (one.rule.clone(), entity);
            let fresh = || Found {
                first: one,
                events: 0,
                from_us: subject.time_us,
                until_us: subject.time_us,
                uids: Vec::new(),
            };
            let entry = found.entry(key).or_insert_with(fresh);
            entry.events += 1;
            entry.until_us = subject.time_us;
            if entry.uids.len() < NAMED_MAX {
                entry.uids.extend(subject.uid.clone());
            }
        }
    }
    found
}

impl Found {
    fn finding(self, entity: String) -> Finding {
        let Found { first, events, from_us, until_us, uids } = self;
        let indicators = json!({
            "entity": entity,
            "rule_id": first.rule,
            "rule": first.title,
            "mitre": first.techniques,
            "tags": first.tags,
            "window": { "from": rfc3339(from_us), "to": rfc3339(until_us) },
            "events": events,
            "event_uids": uids,
            "evidence": first.evidence,
        });
        Finding {
            until_us,
            threat_type: "sigma".to_owned(),
            rule: Some(first.rule),
            entity,
            severity: first.severity,
            confidence: first.confidence,
            host: None,
            indicators,
        }
    }
}
