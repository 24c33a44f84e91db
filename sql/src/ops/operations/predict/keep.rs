//! Forecasts that are kept: a row of `juno_forecasts` for each series of a request, for 30 days.
//!
//! **Invariant:** all series of a request are kept, or none.

use serde_json::{Map, Value};

use super::Ask;
use crate::Result;
use crate::session::{Invocation, Session, rfc3339};

/// How long they are kept.
const KEPT_US: i64 = 30 * 86_400_000_000;

/// Keeps the answers, each with the id of its row from then on.
pub(super) async fn keep(
    invocation: &Invocation,
    ask: &Ask,
    targets: &[Value],
    answers: &mut [Map<String, Value>],
) -> Result<()> {
    let insert = "INSERT INTO juno_forecasts (id, created_at, created_by, target, as_of, step_s, horizon_s, model, result) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let (own, now) = (invocation.own.connect(), invocation.now());
    let seconds = |us: i64| us as f64 / 1e6;
    for answer in answers.iter_mut() {
        answer.insert("forecast_id".into(), invocation.new_id().into());
    }
    let kept = async {
        for (target, answer) in targets.iter().zip(answers.iter()) {
            let values = [
                answer["forecast_id"].clone(),
                now.clone().into(),
                invocation.actor().into(),
                target.clone(),
                rfc3339(ask.until_us).into(),
                seconds(ask.step_us).into(),
                seconds(ask.step_us * ask.steps).into(),
                answer["model"].clone(),
                Value::Object(answer.clone()),
            ];
            own.changed_rows(insert, &values).await?;
        }
        Ok::<(), crate::Error>(())
    };
    own.atomically(kept).await
}

impl Session {
    /// Removes the forecasts that are too old; how many there were.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn purge_forecasts(&self) -> Result<u64> {
        let old = rfc3339(self.db().system().clock().now_us() - KEPT_US);
        let some = "SELECT id FROM juno_forecasts WHERE created_at < $1 LIMIT 1";
        match self.objects(some, &[old.clone().into()]).await?.is_empty() {
            true => Ok(0),
            false => self.changed_rows("DELETE FROM juno_forecasts WHERE created_at < $1", &[old.into()]).await,
        }
    }
}
