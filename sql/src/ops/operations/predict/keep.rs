//! Forecasts that are kept: a row of `juno_forecasts` for each series of a request.
//!
//! **Invariant:** all series of a request are kept, or none.

use serde_json::{Map, Value};

use super::Ask;
use crate::Result;
use crate::session::{Invocation, rfc3339};

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
