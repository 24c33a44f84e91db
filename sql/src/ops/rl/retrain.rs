//! Retraining by the clock: the policies for which `policy/schedule.rs` says that it is due.
//!
//! **Invariant:** every training is `rl_train` as anybody could ask for it, from logged decisions where its algorithm learns from
//! them, and from the telemetry of its service else.

use serde_json::{Map, Value, json};

use super::policy::schedule::{Retraining, retraining};
use super::train;
use crate::operation::{Request, time_us};
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// The newest version of each policy.
const NEWEST: &str = "SELECT name, algorithm, scope, trained_at FROM juno_rl_policies AS p WHERE version = \
                      (SELECT max(version) FROM juno_rl_policies AS q WHERE q.name = p.name) ORDER BY name";

impl Session {
    /// Begins the trainings that are due, as `autopilot`; gives the names of their policies.
    ///
    /// # Errors
    /// As [`Session::query`]; what a training refuses is told in the log.
    pub async fn retrain(&self, autopilot: &Session) -> Result<Vec<String>> {
        let (mut begun, now_us) = (Vec::new(), self.db().system().clock().now_us());
        for row in self.objects(NEWEST, &[]).await? {
            let name = row["name"].as_str().unwrap_or_default();
            let trained_us = row["trained_at"].as_str().and_then(time_us);
            let since = "SELECT count(*) AS n FROM rl_experience WHERE policy = $1 AND at > $2 AND outcome IS NOT NULL";
            let values = [name.into(), rfc3339(trained_us.unwrap_or_default()).into()];
            let since = self.objects(since, &values).await?;
            let since = since.first().and_then(|row| row["n"].as_u64()).unwrap_or_default();
            let interval_s = self.operation_settings().rl_training_interval_s;
            let trained_s = trained_us.map(|us| us / 1_000_000);
            if retraining(now_us / 1_000_000, trained_s, interval_s, since) != Retraining::Due {
                continue;
            }
            let request = Request { arguments: arguments(name, &row), ..Request::default() };
            match autopilot.operate(&train::OPERATION, request).await {
                Ok(_) => begun.push(name.to_owned()),
                Err(Error::Refused(refusal)) => tracing::info!(policy = name, reason = refusal.detail, "no training"),
                Err(error) => return Err(error),
            }
        }
        Ok(begun)
    }
}

fn arguments(name: &str, row: &Map<String, Value>) -> Map<String, Value> {
    let algorithm = row["algorithm"].as_str().unwrap_or_default();
    let replays = matches!(algorithm, "linucb" | "thompson");
    let mut arguments = json!({
        "policy": name,
        "algorithm": algorithm,
        "environment": if replays { "replay" } else { "simulator" },
        "promote": "if_better",
    });
    if let (false, Some(service)) = (replays, row["scope"].as_str()) {
        arguments["service"] = service.into();
    }
    arguments.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_learns_from_decisions_replays_them_and_the_rest_has_its_service() {
        let row = |algorithm: &str| json!({ "algorithm": algorithm, "scope": "shop" }).as_object().cloned().unwrap();
        let bandit = arguments("a", &row("linucb"));
        assert_eq!((&bandit["environment"], bandit.get("service")), (&json!("replay"), None));
        let other = arguments("a", &row("es"));
        assert_eq!((&other["environment"], &other["service"]), (&json!("simulator"), &json!("shop")));
    }
}
