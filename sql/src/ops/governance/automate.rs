//! Approvals that are automated: a runbook that people have always approved, and that has always healed, is not asked about any
//! more at one level of risk above what the loop may do alone.
//!
//! **Formula.** Of what the loop asked for by `healing_remediate`, each request that was approved and whose run healed is a
//! success; a denial, and a remediation of the loop that failed, is a failure. Automation is earned where Wilson's 95 % interval of
//! the successes in a row since the last failure, and since the policy last said something else of the runbook, lies above 0.95:
//! after 73 of them. One failure ends it, and so does taking the change back; then they count anew.
//!
//! **Invariant:** what people asked for themselves, what nobody decided, and what never ran teaches nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::adapt::{Adapted, request};
use super::policy::APPROVALS;
use super::{propose, rollback, stored};
use crate::operation::{Request, time_us};
use crate::ops::healing::AUTOPILOT;
use crate::ops::healing::policy::track_record::{AUTONOMY_MIN, wilson_lower};
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// So many remediations measure a change.
const OUTCOMES_MIN: u64 = 20;

/// Something that was learnt of a runbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    at_us: i64,
    is_good: bool,
}

/// A change of the policy.
struct Change {
    id: Value,
    old: Map<String, Value>,
    new: Map<String, Value>,
    at_us: i64,
    rolled_back_us: Option<i64>,
    is_measured: bool,
}

impl Change {
    /// Whether it said something else of a runbook.
    fn touches(&self, runbook: &str) -> bool {
        says(&self.old, runbook) != says(&self.new, runbook)
    }
}

/// Whether a policy lets a runbook run without asking.
fn says(policy: &Map<String, Value>, runbook: &str) -> bool {
    policy.get(runbook).and_then(Value::as_f64).is_some_and(|steps| steps >= 1.0)
}

/// Whether a runbook may run at one level of risk more without asking: the policy says so, and nothing has happened since.
pub(crate) async fn is_automated(own: &Session, runbook: &str) -> Result<bool> {
    if !says(&stored(own, APPROVALS).await?.policy, runbook) {
        return Ok(false);
    }
    let since_us = changed_us(&changes(own).await?, runbook);
    Ok(!known(own).await?.get(runbook).is_some_and(|known| has_failed(known, since_us)))
}

/// Whether it was denied or has failed since a time.
fn has_failed(known: &[Known], since_us: i64) -> bool {
    known.iter().any(|one| !one.is_good && one.at_us > since_us)
}

/// Successes in a row, up to the newest, since a time.
fn in_a_row(known: &[Known], since_us: i64) -> u64 {
    let since = known.iter().rev().take_while(|one| one.at_us > since_us);
    since.take_while(|one| one.is_good).count() as u64
}

/// Whether so many in a row earn it.
fn is_earned(in_a_row: u64) -> bool {
    wilson_lower(in_a_row, in_a_row) > AUTONOMY_MIN
}

/// What is known of each runbook, oldest first.
async fn known(own: &Session) -> Result<BTreeMap<String, Vec<Known>>> {
    let decided = "SELECT a.plan ->> 'runbook' AS runbook, a.decided_at AS at, a.state AS decision, \
                   j.state = 'succeeded' AND j.result ->> 'success' = 'true' AS healed \
                   FROM juno_approvals AS a LEFT JOIN juno_jobs AS j ON j.id = a.job_id \
                   WHERE a.operation = 'healing_remediate' AND a.requested_by = $1 AND a.state IN ('approved', 'denied')";
    let failed = "SELECT runbook, ended_at AS at, state AS decision, false AS healed FROM juno_remediations \
                  WHERE actor = $1 AND state = 'failed'";
    let mut all: BTreeMap<String, Vec<Known>> = BTreeMap::new();
    for sql in [decided, failed] {
        for row in own.objects(sql, &[AUTOPILOT.into()]).await? {
            let (is_good, is_approved) = (row["healed"] == true, row["decision"] == "approved");
            // What was approved and did not heal is counted as the remediation that failed, if it came to one.
            let Some(at_us) = row["at"].as_str().and_then(time_us).filter(|_| is_good || !is_approved) else {
                continue;
            };
            let runbook = row["runbook"].as_str().unwrap_or_default().to_owned();
            all.entry(runbook).or_default().push(Known { at_us, is_good });
        }
    }
    all.values_mut().for_each(|known| known.sort_unstable());
    Ok(all)
}

/// The changes of the policy, oldest first.
async fn changes(own: &Session) -> Result<Vec<Change>> {
    let all = "SELECT id, timestamp, old_policy, new_policy, effectiveness_score, rollback_at FROM governance_adaptations \
               WHERE policy_type = $1 ORDER BY timestamp, id";
    let one = |row: Map<String, Value>| {
        let policy = |name: &str| row[name].as_object().cloned().unwrap_or_default();
        let us = |name: &str| row[name].as_str().and_then(time_us);
        Change {
            id: row["id"].clone(),
            old: policy("old_policy"),
            new: policy("new_policy"),
            at_us: us("timestamp").unwrap_or_default(),
            rolled_back_us: us("rollback_at"),
            is_measured: !row["effectiveness_score"].is_null(),
        }
    };
    Ok(own.objects(all, &[APPROVALS.into()]).await?.into_iter().map(one).collect())
}

/// When the policy last came to say something else of a runbook.
fn changed_us(changes: &[Change], runbook: &str) -> i64 {
    let own = changes.iter().filter(|change| change.touches(runbook));
    own.map(|change| change.rolled_back_us.unwrap_or(change.at_us)).max().unwrap_or(i64::MIN)
}

/// The runbooks that have earned it, with how often in a row they were approved and healed.
pub(super) async fn earned(own: &Session) -> Result<BTreeMap<String, u64>> {
    let (known, changes) = (known(own).await?, changes(own).await?);
    let counted = known.iter().map(|(runbook, known)| {
        let count = in_a_row(known, changed_us(&changes, runbook));
        (runbook.clone(), count)
    });
    Ok(counted.filter(|(_, count)| is_earned(*count)).collect())
}

impl Session {
    /// Automates what has earned it and takes back what has lost it; at most one of them at a time.
    pub(super) async fn adapt_approvals(&self, autopilot: &Session) -> Result<Vec<Adapted>> {
        let (known, changes) = (known(self).await?, changes(self).await?);
        let policy = stored(self, APPROVALS).await?;
        let told = |what, reason: String| Adapted { policy_type: APPROVALS.to_owned(), what, reason };
        let mut done = Vec::new();
        for runbook in policy.policy.keys().filter(|runbook| says(&policy.policy, runbook)) {
            let since_us = changed_us(&changes, runbook);
            let is_over = known.get(runbook).is_some_and(|known| has_failed(known, since_us));
            let change = changes.iter().rfind(|change| change.rolled_back_us.is_none() && change.touches(runbook));
            if let Some(change) = change.filter(|change| !change.is_measured)
                && let Some(reason) = self.measure_automation(change, runbook, is_over).await?
            {
                done.push(told("measured", reason));
            }
            if is_over {
                let reason = format!("{runbook} was denied or failed since it runs without asking");
                let is_newest = changes.iter().rfind(|change| change.rolled_back_us.is_none()).map(|newest| &newest.id);
                let own = change.map(|change| &change.id).filter(|id| is_newest == Some(*id));
                let etag = policy.etag();
                match own {
                    Some(id) => {
                        let arguments = json!({ "id": id, "reason": reason });
                        autopilot.operate(&rollback::OPERATION, request(arguments, Some(etag))).await?;
                        done.push(told("rolled_back", reason));
                    }
                    None => done.push(proposed(autopilot, change_of(runbook, 0, &reason, etag), told, reason).await?),
                }
                return Ok(done);
            }
        }
        let mut earned = earned(self).await?.into_iter();
        if let Some((runbook, count)) = earned.find(|(runbook, _)| !says(&policy.policy, runbook)) {
            let reason = format!("{runbook} was approved and healed {count} times in a row");
            let change = change_of(&runbook, 1, &reason, policy.etag());
            done.push(proposed(autopilot, change, told, reason).await?);
        }
        Ok(done)
    }

    /// Writes down how remediations went since a change, once there are enough of them, or one failed; none before.
    async fn measure_automation(&self, change: &Change, runbook: &str, is_over: bool) -> Result<Option<String>> {
        let since = "SELECT count(*) FILTER (WHERE state = 'succeeded') AS good, count(*) AS all_of FROM juno_remediations \
                     WHERE runbook = $1 AND actor = $2 AND began_at > $3 AND state IN ('succeeded', 'failed')";
        let values = [runbook.into(), AUTOPILOT.into(), rfc3339(change.at_us).into()];
        let row = self.objects(since, &values).await?.pop().unwrap_or_default();
        let number = |name: &str| row.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (good, all) = (number("good"), number("all_of"));
        if all == 0 || (all < OUTCOMES_MIN && !is_over) {
            return Ok(None);
        }
        let score = (100.0 * good as f64 / all as f64).round() / 100.0;
        let set = "UPDATE governance_adaptations SET effectiveness_score = $2 WHERE id = $1";
        self.changed_rows(set, &[change.id.clone(), score.into()]).await?;
        Ok(Some(format!("{good} of {all} remediations by {runbook} healed since it runs without asking")))
    }
}

/// The proposal to say something of a runbook.
fn change_of(runbook: &str, steps: u32, reason: &str, etag: String) -> Request {
    let policy = Map::from_iter([(runbook.to_owned(), steps.into())]);
    request(json!({ "policy_type": APPROVALS, "policy": policy, "reason": reason }), Some(etag))
}

/// Proposes it as anybody could; what guard rails say against it is told.
async fn proposed(
    autopilot: &Session,
    change: Request,
    told: impl Fn(&'static str, String) -> Adapted,
    reason: String,
) -> Result<Adapted> {
    match autopilot.operate(&propose::OPERATION, change).await {
        Ok(_) => Ok(told("proposed", reason)),
        Err(Error::Refused(refusal)) => Ok(told("refused", refusal.detail)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
