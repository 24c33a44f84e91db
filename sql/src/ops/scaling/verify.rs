//! What changes of units brought, once the time in which they are watched is over: actual demand, cost and performance.
//!
//! **Invariant:** a change is verified once; where nothing was seen of it, that is what its row says.

use serde_json::{Map, Value, json};

use super::demand::{Ask, SHARE, Source, Subject, seen, sources};
use super::execute::event::next_order;
use super::policy::execution::{Impact, Seen, cost, impact};
use crate::operation::time_us;
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// Rows come late: so long after its time a change is looked at, in microseconds.
const LATE_US: i64 = 30_000_000;
/// An order of which nobody heard for so long was cut off, in microseconds.
const CUT_OFF_US: i64 = 1_800_000_000;
/// Changes that are verified at a time.
const CHANGES_MAX: usize = 100;

/// Writes `actual_demand`, `cost_impact` and `performance_impact` of the changes whose time is over; how many it was.
///
/// # Errors
/// Where juno's own tables cannot be read or written.
pub async fn verify_scaling(own: &Session) -> Result<usize> {
    let now_us = own.db().system().clock().now_us();
    let cut_off = "UPDATE juno_scaling_executions SET state = 'interrupted' WHERE state IN ('ordered', 'applied') \
                   AND ordered_at < $1";
    own.changed_rows(cut_off, &[rfc3339(now_us - CUT_OFF_US).into()]).await?;
    let due = format!(
        "SELECT * FROM juno_scaling_executions WHERE state IN ('ready', 'not_ready', 'superseded', 'interrupted') AND watched_until <= $1 \
         ORDER BY watched_until LIMIT {CHANGES_MAX}"
    );
    let due = own.objects(&due, &[rfc3339(now_us - LATE_US).into()]).await?;
    for row in &due {
        verify(own, row).await?;
    }
    Ok(due.len())
}

async fn verify(own: &Session, row: &Map<String, Value>) -> Result<()> {
    let id = row["event_id"].as_str().unwrap_or_default();
    let row = &until_the_next(own, row).await?;
    let found = impacts(own, row).await;
    let found = match found {
        Ok(found) => found,
        // The telemetry is not there any more: nothing will ever be seen.
        Err(Error::Refused(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let units = |name: &str| row[name].as_u64().and_then(|units| u32::try_from(units).ok()).unwrap_or_default();
    let at = |name: &str| row[name].as_str().and_then(time_us).unwrap_or_default();
    let watched_s = (at("watched_until") - at("watched_from")) as f64 / 1e6;
    let cost = row["cost_per_hour"].as_f64().map(|per_hour| {
        let cost = cost(units("from_units"), units("to_units"), per_hour, watched_s);
        (cost * 100.0).round() / 100.0
    });
    let member = |of: &dyn Fn(&Impact) -> Value| -> Value {
        found.iter().map(|(name, impact)| (name.clone(), of(impact))).collect::<Map<_, _>>().into()
    };
    let actual = match found.is_empty() {
        true => json!({ "unknown": "no telemetry came before the next change, or the end of the watch" }),
        false => member(&|impact| json!({ "mean": impact.mean, "max": impact.max, "steps": impact.steps })),
    };
    let worst = found.iter().map(|(_, impact)| impact).min_by(|a, b| a.sla_during.total_cmp(&b.sla_during));
    let performance = worst.map_or(Value::Null, |worst| {
        json!({
            "sla_during": worst.sla_during, "sla_without": worst.sla_without, "utilisation": worst.utilisation,
            "forecast_error_pct": worst.forecast_error_pct, "saving_vs_reactive_pct": worst.saving_vs_reactive_pct,
            "watched_from": row["watched_from"], "watched_until": row["watched_until"],
        })
    });
    let event = "UPDATE scaling_events SET actual_demand = $2, cost_impact = $3, performance_impact = $4 WHERE id = $1";
    own.changed_rows(event, &[id.into(), actual, cost.into(), performance.clone()]).await?;
    let state = if worst.is_some() { "verified" } else { "unseen" };
    let done = "UPDATE juno_scaling_executions SET state = $2 WHERE event_id = $1";
    own.changed_rows(done, &[id.into(), state.into()]).await?;
    own.tell("scaling", id, json!({ "status": state, "service": row["service"], "performance": performance })).await
}

/// The row with an end of its watch that lies before the next change of the same target, in whole steps.
async fn until_the_next(own: &Session, row: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut row = row.clone();
    let target = (&row["executor"], &row["target"]);
    let next = next_order(own, target, row["ordered_at"].as_str().unwrap_or_default()).await?;
    let step_us = row["step_s"].as_i64().unwrap_or(300).max(1) * 1_000_000;
    if let Some(next_us) = next.as_deref().and_then(time_us).map(|us| us.div_euclid(step_us) * step_us)
        && row["watched_until"].as_str().and_then(time_us).is_some_and(|until_us| until_us > next_us)
    {
        let from_us = row["watched_from"].as_str().and_then(time_us).unwrap_or_default();
        row.insert("watched_until".into(), rfc3339(next_us.max(from_us)).into());
    }
    Ok(row)
}

/// What was seen of each resource.
async fn impacts(own: &Session, row: &Map<String, Value>) -> Result<Vec<(String, Impact)>> {
    let demand = row["demand"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    if demand.is_empty() || row["watched_from"] == row["watched_until"] {
        return Ok(Vec::new());
    }
    let at = |name: &str| row[name].as_str().and_then(time_us).unwrap_or_default();
    let subject =
        Subject { session: own, service: row["service"].as_str().unwrap_or_default(), demand, capacity: SHARE };
    let step_us = row["step_s"].as_i64().unwrap_or(300).max(1) * 1_000_000;
    let ask = Ask { since_us: Some(at("watched_from")), until_us: at("watched_until"), step_us, steps: 1 };
    let mut found = Vec::new();
    for source in sources(subject, &ask)? {
        let units = |name: &str| row[name].as_u64().and_then(|units| u32::try_from(units).ok()).unwrap_or_default();
        let seen = Seen {
            from: units("from_units"),
            to: units("to_units"),
            capacity: source.capacity,
            demand: seen(subject, &source).await?,
            predicted: row["predicted"][source.name()]["q50"].as_f64(),
        };
        found.extend(impact(&seen).map(|impact| (Source::name(&source).to_owned(), impact)));
    }
    Ok(found)
}
