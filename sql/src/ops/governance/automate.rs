//! Approvals that are automated: a runbook that people have always approved, and that has always healed, is not asked about any
//! more at one level of risk above what the loop may do alone.
//!
//! **Formula.** Of what the loop asked for by `healing_remediate`, each request that was approved and whose run healed is a
//! success; a denial, and a remediation of the loop that failed, is a failure. Automation is earned where Wilson's 95 % interval of
//! the successes in a row since the last failure, and since the policy last said something else of the runbook, lies above 0.95:
//! after 73 of them. One failure ends it, and so does taking the change back; then they count anew.
//!
//! What fails counts since the policy was changed last, as `juno_policies` has it; each change sets those to 0 that had failed by
//! then ([`settle`]), so that none is forgotten. What earns counts since the policy said something else, as the audit has it.
//!
//! **Invariant:** what people asked for themselves, what nobody decided, and what never ran teaches nothing; rows that people may
//! write decide nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::adapt::{Adapted, request};
use super::policy::APPROVALS;
use super::{Stored, propose, rollback, stored};
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

/// An adaptation of the policy that is in force, as its row has it.
struct Change {
    id: String,
    old: Map<String, Value>,
    new: Map<String, Value>,
    at_us: i64,
    is_measured: bool,
}

impl Change {
    /// Whether it said something else of a runbook.
    fn touches(&self, runbook: &str) -> bool {
        says(&self.old, runbook) != says(&self.new, runbook)
    }
}

/// What the policy was from a time on.
struct Since {
    at_us: i64,
    policy: Map<String, Value>,
}

/// Whether a policy lets a runbook run without asking.
fn says(policy: &Map<String, Value>, runbook: &str) -> bool {
    policy.get(runbook).and_then(Value::as_f64).is_some_and(|steps| steps >= 1.0)
}

/// The runbooks that may run at one level of risk more without asking: the policy says so, and nothing has happened since.
pub(crate) async fn automated(own: &Session) -> Result<BTreeSet<String>> {
    let policy = stored(own, APPROVALS).await?;
    let lost = lost(own, &policy).await?;
    let said = policy.policy.keys().filter(|runbook| says(&policy.policy, runbook) && !lost.contains(*runbook));
    Ok(said.cloned().collect())
}

/// The runbooks that the policy lets run and that were denied or have failed since it was changed.
async fn lost(own: &Session, policy: &Stored) -> Result<BTreeSet<String>> {
    let mut lost = BTreeSet::new();
    if !policy.policy.keys().any(|runbook| says(&policy.policy, runbook)) {
        return Ok(lost);
    }
    let denied = "SELECT DISTINCT plan ->> 'runbook' AS runbook FROM juno_approvals WHERE operation = 'healing_remediate' \
                  AND requested_by = $1 AND state = 'denied' AND decided_at > $2";
    let failed =
        "SELECT DISTINCT runbook FROM juno_remediations WHERE actor = $1 AND state = 'failed' AND ended_at > $2";
    for sql in [denied, failed] {
        let rows = own.objects(sql, &[AUTOPILOT.into(), rfc3339(policy.changed_us).into()]).await?;
        let runbooks = rows.iter().filter_map(|row| row["runbook"].as_str());
        lost.extend(runbooks.filter(|runbook| says(&policy.policy, runbook)).map(str::to_owned));
    }
    Ok(lost)
}

/// Before a policy is changed: those runbooks are 0 in the new one that have failed under the old one, as what fails counts since
/// the last change.
pub(super) async fn settle(
    own: &Session,
    (policy_type, old): (&str, &Stored),
    new: &mut Map<String, Value>,
) -> Result<()> {
    if policy_type == APPROVALS {
        for runbook in lost(own, old).await? {
            if says(new, &runbook) {
                new.insert(runbook, 0.into());
            }
        }
    }
    Ok(())
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

/// The adaptations of the policy that are in force, oldest first.
async fn changes(own: &Session) -> Result<Vec<Change>> {
    let all = "SELECT id, timestamp, old_policy, new_policy, effectiveness_score FROM governance_adaptations \
               WHERE policy_type = $1 AND rollback_at IS NULL ORDER BY timestamp, id";
    let one = |row: Map<String, Value>| {
        let policy = |name: &str| row[name].as_object().cloned().unwrap_or_default();
        Change {
            id: row["id"].as_str().unwrap_or_default().to_owned(),
            old: policy("old_policy"),
            new: policy("new_policy"),
            at_us: row["timestamp"].as_str().and_then(time_us).unwrap_or_default(),
            is_measured: !row["effectiveness_score"].is_null(),
        }
    };
    Ok(own.objects(all, &[APPROVALS.into()]).await?.into_iter().map(one).collect())
}

/// What the policy was from each of its changes on, oldest first.
async fn audited(own: &Session) -> Result<Vec<Since>> {
    let all = "SELECT at, record FROM juno_audit WHERE record ->> 'stage' = 'after' \
               AND record ->> 'operation' IN ('governance_propose', 'governance_rollback') ORDER BY seq";
    let one = |row: Map<String, Value>| {
        let result = row["record"]["result"]
            .as_object()
            .filter(|result| result.get("policy_type").is_some_and(|kind| kind == APPROVALS))?;
        // A proposal tells the new policy, a rollback the policy.
        let policy = result.get("new_policy").or(result.get("policy"))?.as_object().cloned()?;
        Some(Since { at_us: row["at"].as_str().and_then(time_us)?, policy })
    };
    Ok(own.objects(all, &[]).await?.into_iter().filter_map(one).collect())
}

/// When the policy last came to say something else of a runbook.
fn changed_us(audited: &[Since], runbook: &str) -> i64 {
    let (mut changed_us, mut said) = (i64::MIN, false);
    for since in audited {
        let says = says(&since.policy, runbook);
        if says != said {
            (changed_us, said) = (since.at_us, says);
        }
    }
    changed_us
}

/// The runbooks that have earned it and that the policy does not let run, with how often in a row they were approved and healed.
pub(super) async fn earned(own: &Session, policy: &Stored) -> Result<BTreeMap<String, u64>> {
    let mut known = known(own).await?;
    known.retain(|runbook, known| !says(&policy.policy, runbook) && is_earned(in_a_row(known, i64::MIN)));
    if known.is_empty() {
        return Ok(BTreeMap::new());
    }
    let audited = audited(own).await?;
    let counted = known.into_iter().map(|(runbook, known)| {
        let count = in_a_row(&known, changed_us(&audited, &runbook));
        (runbook, count)
    });
    Ok(counted.filter(|(_, count)| is_earned(*count)).collect())
}

impl Session {
    /// Automates what has earned it and takes back what has lost it; at most one of them at a time.
    pub(super) async fn adapt_approvals(&self, autopilot: &Session) -> Result<Vec<Adapted>> {
        let policy = stored(self, APPROVALS).await?;
        let mut done = Vec::new();
        if policy.policy.keys().any(|runbook| says(&policy.policy, runbook))
            && self.keep(autopilot, &policy, &mut done).await?
        {
            return Ok(done);
        }
        let Some((runbook, count)) = earned(self, &policy).await?.into_iter().next() else { return Ok(done) };
        if !self.rests(APPROVALS).await? {
            let reason = format!("{runbook} was approved and healed {count} times in a row");
            done.push(proposed(autopilot, change_of(&runbook, 1, &reason, policy.etag()), reason).await?);
        }
        Ok(done)
    }

    /// Measures what is automated, and takes back the first that has lost it; whether there is one.
    async fn keep(&self, autopilot: &Session, policy: &Stored, done: &mut Vec<Adapted>) -> Result<bool> {
        let (lost, changes) = (lost(self, policy).await?, changes(self).await?);
        for runbook in policy.policy.keys().filter(|runbook| says(&policy.policy, runbook)) {
            let is_over = lost.contains(runbook);
            let change = changes.iter().rfind(|change| change.touches(runbook));
            if let Some(change) = change.filter(|change| !change.is_measured)
                && let Some(reason) = self.measure_automation(change, runbook, is_over).await?
            {
                done.push(told("measured", reason));
            }
            if !is_over {
                continue;
            }
            if self.rests(APPROVALS).await? {
                return Ok(true);
            }
            let reason = format!("{runbook} was denied or failed since it runs without asking");
            let own = change
                .filter(|change| policy.adaptation_id.as_ref() == Some(&change.id) && !says(&change.old, runbook));
            let is_taken_back = match own {
                Some(change) => taken_back(autopilot, &change.id, &reason, policy.etag()).await?,
                None => false,
            };
            done.push(match is_taken_back {
                true => told("rolled_back", reason),
                false => proposed(autopilot, change_of(runbook, 0, &reason, policy.etag()), reason).await?,
            });
            return Ok(true);
        }
        Ok(false)
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
        self.changed_rows(set, &[change.id.as_str().into(), score.into()]).await?;
        Ok(Some(format!("{good} of {all} remediations by {runbook} healed since it runs without asking")))
    }
}

/// The proposal to say something of a runbook.
fn change_of(runbook: &str, steps: u32, reason: &str, etag: String) -> Request {
    let policy = Map::from_iter([(runbook.to_owned(), steps.into())]);
    request(json!({ "policy_type": APPROVALS, "policy": policy, "reason": reason }), Some(etag))
}

fn told(what: &'static str, reason: String) -> Adapted {
    Adapted { policy_type: APPROVALS.to_owned(), what, reason }
}

/// Takes an adaptation back as anybody could; whether it is, and not refused or asked about.
async fn taken_back(autopilot: &Session, id: &str, reason: &str, etag: String) -> Result<bool> {
    let arguments = json!({ "id": id, "reason": reason });
    match autopilot.operate(&rollback::OPERATION, request(arguments, Some(etag))).await {
        Ok(answered) => Ok(!answered.pending),
        Err(Error::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Proposes it as anybody could; what guard rails say against it is told.
async fn proposed(autopilot: &Session, change: Request, reason: String) -> Result<Adapted> {
    match autopilot.operate(&propose::OPERATION, change).await {
        Ok(_) => Ok(told("proposed", reason)),
        Err(Error::Refused(refusal)) => Ok(told("refused", refusal.detail)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
