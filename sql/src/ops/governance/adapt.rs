//! Adaptive governance: measures the last adaptation of each policy, takes back what made things worse, and proposes what the
//! outcomes since teach; which approvals are automated is in [`super::automate`]. Who calls it has a timer.
//!
//! **Invariant:** changes go by `governance_propose` and `governance_rollback`, under their guard rails and with their rows.

use serde_json::{Map, Value, json};

use super::lesson::{Outcomes, Share, effectiveness, learn};
use super::{propose, rollback, stored};
use crate::operation::{Request, time_us};
use crate::ops::healing::AUTOPILOT;
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// How far back outcomes count where there was no adaptation.
const WINDOW_US: i64 = 30 * 86_400_000_000;
/// After a change by anybody a policy is left alone for so long.
const REST_US: i64 = 86_400_000_000;

/// The outcomes of each policy that learns: good, all and the most in an hour, between two times.
const OUTCOMES: &[(&str, &str)] = &[
    (
        "healing",
        "SELECT count(*) FILTER (WHERE state = 'succeeded') AS good, count(*) AS all_of, \
         (SELECT max(n) FROM (SELECT count(*) AS n FROM juno_remediations WHERE began_at > $1 AND began_at <= $2 \
         GROUP BY date_trunc('hour', began_at)) AS hours) AS hour_max \
         FROM juno_remediations WHERE began_at > $1 AND began_at <= $2 AND state IN ('succeeded', 'failed')",
    ),
    (
        "threats",
        "SELECT count(*) FILTER (WHERE false_positive IS NOT TRUE) AS good, count(*) AS all_of, CAST(NULL AS BIGINT) AS hour_max \
         FROM threat_events WHERE detected_at > $1 AND detected_at <= $2 AND (false_positive OR resolved_at IS NOT NULL)",
    ),
    (
        "scaling",
        "SELECT count(*) FILTER (WHERE CAST(performance_impact ->> 'sla_during' AS DOUBLE PRECISION) >= 0.999) AS good, \
         count(*) AS all_of, CAST(NULL AS BIGINT) AS hour_max \
         FROM scaling_events WHERE timestamp > $1 AND timestamp <= $2 AND (performance_impact ->> 'sla_during') IS NOT NULL",
    ),
    (
        "rl",
        "SELECT count(*) FILTER (WHERE CAST(outcome ->> 'violation' AS DOUBLE PRECISION) <= (SELECT \
         max(CAST(policy ->> 'violation_max' AS DOUBLE PRECISION)) FROM juno_policies WHERE policy_type = 'rl')) AS good, \
         count(*) AS all_of, CAST(NULL AS BIGINT) AS hour_max \
         FROM rl_experience WHERE at > $1 AND at <= $2 AND outcome IS NOT NULL",
    ),
];

/// What was done about one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// The policy.
    pub policy_type: String,
    /// `measured`, `rolled_back`, `proposed` or `refused`.
    pub what: &'static str,
    /// Why.
    pub reason: String,
}

impl Session {
    /// Looks at every policy that learns; `autopilot` is a session of who changes them.
    ///
    /// # Errors
    /// As [`Session::query`]; a refusal of a guard rail is told in the result.
    pub async fn adapt(&self, autopilot: &Session) -> Result<Vec<Adapted>> {
        let mut done = Vec::new();
        for (policy_type, outcomes) in OUTCOMES {
            done.extend(self.adapt_one(autopilot, policy_type, outcomes).await?);
        }
        done.extend(self.adapt_approvals(autopilot).await?);
        Ok(done)
    }

    async fn adapt_one(&self, autopilot: &Session, policy_type: &str, sql: &str) -> Result<Option<Adapted>> {
        let now_us = self.db().system().clock().now_us();
        let policy = stored(self, policy_type).await?;
        // The policy itself says which adaptation is its newest: rows of adaptations are written by people, too.
        let last = "SELECT id, timestamp, effectiveness_score FROM governance_adaptations WHERE id = $1 AND rollback_at IS NULL";
        let last = match &policy.adaptation_id {
            Some(id) => self.objects(last, &[id.as_str().into()]).await?.pop(),
            None => None,
        };
        let told = |what, reason: String| Ok(Some(Adapted { policy_type: policy_type.to_owned(), what, reason }));
        if let Some(row) = last.filter(|row| row["effectiveness_score"].is_null()) {
            let at_us = row["timestamp"].as_str().and_then(time_us).unwrap_or(now_us);
            let before = self.outcomes(sql, at_us - WINDOW_US, at_us).await?.share;
            let after = self.outcomes(sql, at_us, now_us).await?.share;
            let Some((score, is_worse)) = effectiveness(before, after) else { return Ok(None) };
            let set = "UPDATE governance_adaptations SET effectiveness_score = $2 WHERE id = $1";
            self.changed_rows(set, &[row["id"].clone(), json!((score * 100.0).round() / 100.0)]).await?;
            let reason = format!(
                "{} of {} outcomes after it were good, {} of {} before",
                after.good, after.all, before.good, before.all
            );
            if !is_worse {
                return told("measured", reason);
            }
            let arguments = json!({ "id": row["id"], "reason": reason });
            return match autopilot.operate(&rollback::OPERATION, request(arguments, Some(policy.etag()))).await {
                // To go back to what is much looser people are asked about.
                Ok(answered) if answered.pending => told("proposed", reason),
                Ok(_) => told("rolled_back", reason),
                Err(Error::Refused(refusal)) => told("refused", refusal.detail),
                Err(error) => Err(error),
            };
        }
        if now_us - policy.changed_us < REST_US {
            return Ok(None);
        }
        let outcomes = self.outcomes(sql, policy.changed_us.max(now_us - WINDOW_US), now_us).await?;
        let Some(lesson) = learn(policy_type, &policy.policy, outcomes) else { return Ok(None) };
        if self.rests(policy_type).await? {
            return Ok(None);
        }
        let arguments = json!({ "policy_type": policy_type, "policy": lesson.policy, "reason": lesson.reason });
        match autopilot.operate(&propose::OPERATION, request(arguments, Some(policy.etag()))).await {
            Ok(_) => told("proposed", lesson.reason),
            Err(Error::Refused(refusal)) => told("refused", refusal.detail),
            Err(error) => Err(error),
        }
    }

    /// Whether people have yet to decide about what juno proposed for a policy, or it was denied or refused within a day: then
    /// nothing is proposed.
    pub(super) async fn rests(&self, policy_type: &str) -> Result<bool> {
        let now_us = self.db().system().clock().now_us();
        let (now, day) = (rfc3339(now_us), rfc3339(now_us - REST_US));
        let asked = "SELECT id FROM juno_approvals WHERE requested_by = $1 AND plan ->> 'policy_type' = $2 \
                     AND operation IN ('governance_propose', 'governance_rollback') \
                     AND ((state = 'pending' AND expires_at > $3) OR (state = 'denied' AND decided_at > $4)) LIMIT 1";
        let values = [AUTOPILOT.into(), policy_type.into(), now.into(), day.clone().into()];
        if !self.objects(asked, &values).await?.is_empty() {
            return Ok(true);
        }
        let refused = "SELECT record FROM juno_audit WHERE at > $1 AND record ->> 'stage' = 'refused' \
                       AND record ->> 'operation' = 'governance_propose' AND record ->> 'actor' = $2";
        let refused = self.objects(refused, &[day.into(), AUTOPILOT.into()]).await?;
        Ok(refused.iter().any(|row| row["record"]["arguments"]["policy_type"] == policy_type))
    }

    async fn outcomes(&self, sql: &str, from_us: i64, to_us: i64) -> Result<Outcomes> {
        let row = self.objects(sql, &[rfc3339(from_us).into(), rfc3339(to_us).into()]).await?.pop();
        let row: Map<String, Value> = row.unwrap_or_default();
        let number = |name: &str| row.get(name).and_then(Value::as_u64).unwrap_or_default();
        let share = Share { good: number("good"), all: number("all_of") };
        Ok(Outcomes { share, hour_max: number("hour_max") })
    }
}

pub(super) fn request(arguments: Value, if_match: Option<String>) -> Request {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    Request { arguments, if_match, ..Request::default() }
}

#[cfg(test)]
mod tests {
    use juno_kernels::Device;

    use super::*;
    use crate::role::{Role, User};

    /// A session of juno's own, and one of who adapts.
    async fn open(directory: &tempfile::TempDir) -> (Session, Session) {
        let db = juno_engine::Db::open(directory.path()).expect("a database");
        let own = Session::open(db, Device::cpu()).await.expect("migrations");
        let autopilot = own.connect_as(User { name: AUTOPILOT.into(), role: Some(Role::Responder) });
        (own, autopilot)
    }

    async fn remediations(own: &Session, from: usize, count: usize, ago_s: usize, state: &str) {
        for n in from..from + count {
            let row = format!(
                "INSERT INTO juno_remediations (id, incident_id, runbook, executor, target, actor, began_at, cooldown_until, state) \
                 VALUES ('00000000-0000-7000-8000-{n:012}', '00000000-0000-7000-8000-000000000000', 'restart', 'process', 'shop', \
                 'autopilot', now() - INTERVAL '{ago_s} seconds', now(), '{state}')"
            );
            own.query(&row).await.expect("a row");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn decisions_that_overspend_the_error_budget_end_exploration() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, autopilot) = open(&directory).await;
        own.query("UPDATE juno_policies SET changed_at = now() - INTERVAL '2 days'").await.expect("an update");
        for n in 0..30 {
            let violation = if n % 3 == 0 { "0.05" } else { "0.0" };
            let row = format!(
                "INSERT INTO rl_experience (id, at, policy, service, state, action, propensity, outcome) VALUES \
                 ('00000000-0000-7000-8000-{n:012}', now() - INTERVAL '1 hour', 'shop', 'shop', '{{}}', '{{}}', 1.0, \
                 '{{\"violation\": {violation}}}')"
            );
            own.query(&row).await.expect("a row");
        }
        let adapted = own.adapt(&autopilot).await.expect("it looks");
        assert_eq!((adapted[0].policy_type.as_str(), adapted[0].what), ("rl", "proposed"), "{adapted:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn missed_service_levels_ask_for_more_confidence() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, autopilot) = open(&directory).await;
        own.query("UPDATE juno_policies SET changed_at = now() - INTERVAL '2 days'").await.expect("an update");
        for n in 0..30 {
            let share = if n % 3 == 0 { "0.97" } else { "1.0" };
            let row = format!(
                "INSERT INTO scaling_events (id, timestamp, scaling_type, resource_type, predicted_demand, scaling_action, \
                 performance_impact) VALUES ('00000000-0000-7000-8000-{n:012}', now() - INTERVAL '1 hour', 'scale_up', 'cpu', '{{}}', \
                 '{{}}', '{{\"sla_during\": {share}}}')"
            );
            own.query(&row).await.expect("a row");
        }
        let adapted = own.adapt(&autopilot).await.expect("it looks");
        assert_eq!((adapted[0].policy_type.as_str(), adapted[0].what), ("scaling", "proposed"), "{adapted:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_succeeds_earns_more_and_what_made_it_worse_is_taken_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, autopilot) = open(&directory).await;
        let actions = async || {
            let row = own.objects("SELECT policy FROM juno_policies WHERE policy_type = 'healing'", &[]).await;
            row.expect("rows")[0]["policy"]["actions_per_hour"].as_f64()
        };
        assert_eq!(own.adapt(&autopilot).await.expect("it looks"), [], "nothing is known yet");
        own.query("UPDATE juno_policies SET changed_at = now() - INTERVAL '2 days'").await.expect("an update");
        remediations(&own, 1, 90, 7_200, "succeeded").await;
        let adapted = own.adapt(&autopilot).await.expect("it looks");
        assert_eq!((adapted[0].policy_type.as_str(), adapted[0].what), ("healing", "proposed"), "{adapted:?}");
        assert_eq!(actions().await, Some(12.0));
        assert_eq!(own.adapt(&autopilot).await.expect("it looks"), [], "one change at a time");
        own.query("UPDATE governance_adaptations SET timestamp = now() - INTERVAL '1 hour'").await.expect("an update");
        remediations(&own, 101, 30, 60, "failed").await;
        let adapted = own.adapt(&autopilot).await.expect("it looks");
        assert_eq!((adapted[0].what, actions().await), ("rolled_back", Some(10.0)), "{adapted:?}");
        let row = own.objects("SELECT effectiveness_score, rollback_at FROM governance_adaptations", &[]).await;
        let row = row.expect("rows").pop().expect("the adaptation");
        assert_eq!(row["effectiveness_score"], 0.0);
        assert!(!row["rollback_at"].is_null());
    }
}
