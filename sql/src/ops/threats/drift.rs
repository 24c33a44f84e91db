//! Whether threat models still fit: new rows of their sources beside what they were calibrated on.
//!
//! The p-values of the newest rows of each active model are kept in `juno_model_drift`; once there are [`ROWS_MIN`] of them, the model is
//! steady or has drifted. Another version that becomes active begins anew: calibrating on new ordinary rows, and promoting that, ends
//! a drift, and so does dropping the model.
//!
//! **Invariant:** nothing is told of fewer than [`ROWS_MIN`] rows; a drift is told once, when it begins and when it ends.

use std::collections::{BTreeSet, HashSet};

use juno_kernels::conformal::Drift;
use serde_json::{Map, Value, json};

use crate::operation::time_us;
use crate::session::{Session, WATCHED, Watched, rfc3339};
use crate::{Error, Result};

/// Rows without which nothing is told.
const ROWS_MIN: usize = 1_000;
/// Rows that are kept of each model: the newest.
const ROWS_KEPT: usize = 2_000;
/// How long the addresses of threats are left out: seven days.
const ATTACKERS_US: i64 = 7 * 86_400_000_000;
/// Addresses that are left out.
const ATTACKERS_MAX: usize = 10_000;
/// p-values are kept as whole numbers of millionths.
const MILLION: f64 = 1e6;

/// Looks at the new rows of every active model whose source has times.
///
/// # Errors
/// Where a model or the rows of its source cannot be read; the others are looked at all the same.
pub async fn watch_models(own: &Session) -> Result<()> {
    let now_us = own.db().system().clock().now_us();
    let active = "SELECT name, version, promoted_at, metrics FROM models WHERE active ORDER BY name";
    let mut models = own.objects(active, &[]).await?;
    models.retain(|model| !model["metrics"][WATCHED].is_null());
    forget(own, &models).await?;
    if models.is_empty() {
        return Ok(());
    }
    let attackers = attackers(own, now_us).await?;
    let mut failed: Option<Error> = None;
    for model in &models {
        if let Err(error) = watch(own, model, &attackers, now_us).await {
            failed = failed.or(Some(error));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Forgets models that are not watched any more.
async fn forget(own: &Session, models: &[Map<String, Value>]) -> Result<()> {
    let watched: BTreeSet<&str> = models.iter().filter_map(|model| model["name"].as_str()).collect();
    for row in own.objects("SELECT name, version, drifted_at FROM juno_model_drift", &[]).await? {
        let name = row["name"].as_str().unwrap_or_default();
        if !watched.contains(name) {
            own.changed_rows("DELETE FROM juno_model_drift WHERE name = $1", &[name.into()]).await?;
            if !row["drifted_at"].is_null() {
                tell_left(own, name, &row["version"], "it is watched no more").await?;
            }
        }
    }
    Ok(())
}

/// Whom threats of the last days are about.
async fn attackers(own: &Session, now_us: i64) -> Result<HashSet<String>> {
    let entities = format!(
        "SELECT DISTINCT entity FROM threats_history WHERE detected_at > $1 AND entity IS NOT NULL \
         AND false_positive IS NOT TRUE LIMIT {ATTACKERS_MAX}"
    );
    let rows = own.objects(&entities, &[rfc3339(now_us - ATTACKERS_US).into()]).await?;
    Ok(rows.iter().filter_map(|row| row["entity"].as_str()).map(str::to_owned).collect())
}

/// Looks at one model.
async fn watch(own: &Session, model: &Map<String, Value>, attackers: &HashSet<String>, now_us: i64) -> Result<()> {
    let watched = serde_json::from_value::<Watched>(model["metrics"][WATCHED].clone());
    let name = model["name"].as_str().unwrap_or_default();
    let watched = watched.map_err(|error| Error::Corrupt(format!("the metrics of model \"{name}\": {error}")))?;
    let stored = own.models().find(&format!("{name}@{}", model["version"]))?;
    let since_us = model["promoted_at"].as_str().and_then(time_us).unwrap_or(now_us);
    let mut record = Record::of(own, name, stored.version, since_us).await?;
    let recent = own.recent_p_values(&stored, &watched, (record.until_us, now_us), attackers).await?;
    if recent.until_us.is_none() && record.is_kept {
        return Ok(());
    }
    record.until_us = recent.until_us.unwrap_or(record.until_us);
    record.add(&recent.p_values);
    let p_values: Vec<f64> = record.p_values.iter().map(|p_value| f64::from(*p_value) / MILLION).collect();
    let found = if p_values.len() < ROWS_MIN { None } else { stored.model()?.drift_of(&p_values) };
    let is_over = record.judge(found.as_ref(), now_us);
    let told = record.told(found.as_ref());
    record.keep(own, &told).await?;
    if let Some(version) = &record.left {
        tell_left(own, name, version, "another version became the active one, or it was promoted again").await?;
    }
    match is_over {
        None => Ok(()),
        Some(is_over) => tell(own, &record, is_over, told).await,
    }
}

/// Says that a drift has begun, or is over.
async fn tell(own: &Session, record: &Record, is_over: bool, drift: Value) -> Result<()> {
    let (name, version) = (record.name.as_str(), record.version);
    match is_over {
        true => {
            tracing::info!(model = name, version, "new rows of a threat model score as those of its calibration again")
        }
        false => tracing::warn!(
            model = name,
            version,
            %drift,
            "new rows of a threat model score otherwise than those of its calibration: calibrate it anew"
        ),
    }
    let data = json!({ "status": drift["state"], "model": { "name": name, "version": version }, "drift": drift });
    own.tell("threat", name, data).await
}

/// Says that the drift of a version is over as nobody looks at that version any more.
async fn tell_left(own: &Session, name: &str, version: &Value, reason: &str) -> Result<()> {
    tracing::info!(model = name, %version, reason, "the drift of a threat model is over");
    let model = json!({ "name": name, "version": version });
    own.tell("threat", name, json!({ "status": "over", "model": model, "drift": null, "reason": reason })).await
}

/// What is kept of a model.
#[derive(Debug)]
struct Record {
    name: String,
    version: i32,
    /// When the version became the active one.
    since_us: i64,
    /// The time of the newest row that was seen.
    until_us: i64,
    /// In millionths, oldest first.
    p_values: Vec<u32>,
    drifted_us: Option<i64>,
    /// The version that its row was of, where that had drifted and the row is not of this one.
    left: Option<Value>,
    /// Whether there is a row of it.
    is_kept: bool,
}

impl Record {
    /// What is on record of a version; nothing where it became the active one since.
    async fn of(own: &Session, name: &str, version: i32, since_us: i64) -> Result<Record> {
        let mut record = Record {
            name: name.to_owned(),
            version,
            since_us,
            until_us: since_us,
            p_values: Vec::new(),
            drifted_us: None,
            left: None,
            is_kept: false,
        };
        let kept = own.objects("SELECT * FROM juno_model_drift WHERE name = $1", &[name.into()]).await?.pop();
        let Some(row) = kept else { return Ok(record) };
        let time = |name: &str| row[name].as_str().and_then(time_us);
        if row["version"] == version && time("since") == Some(since_us) {
            let p_values = row["p_values"].as_array().into_iter().flatten();
            record.p_values = p_values.filter_map(Value::as_u64).map(|p_value| p_value as u32).collect();
            record.until_us = time("seen_until").unwrap_or(since_us);
            record.drifted_us = time("drifted_at");
            record.is_kept = true;
        } else if !row["drifted_at"].is_null() {
            record.left = Some(row["version"].clone());
        }
        Ok(record)
    }

    fn add(&mut self, p_values: &[f64]) {
        // Rounded up, a p-value is at most a level where it was.
        self.p_values.extend(p_values.iter().map(|p_value| (p_value * MILLION).ceil() as u32));
        let surplus = self.p_values.len().saturating_sub(ROWS_KEPT);
        self.p_values.drain(..surplus);
    }

    /// Notes whether it has drifted; says where that changed whether a drift is over.
    fn judge(&mut self, found: Option<&Drift>, now_us: i64) -> Option<bool> {
        let alarm = found.is_some_and(|drift| drift.alarm);
        match (self.drifted_us, alarm) {
            (None, true) => {
                self.drifted_us = Some(now_us);
                Some(false)
            }
            (Some(_), false) => {
                self.drifted_us = None;
                Some(true)
            }
            _ => None,
        }
    }

    /// What is told of it.
    fn told(&self, found: Option<&Drift>) -> Value {
        let state = match found {
            None => "collecting",
            Some(drift) if drift.alarm => "drifted",
            Some(_) => "steady",
        };
        let warning = found.filter(|drift| drift.alarm).map(|drift| {
            let (share, level, expected) = (100.0 * drift.share, drift.level, 100.0 * drift.expected);
            format!(
                "{share:.1} % of new rows have a p-value of at most {level}, where {expected:.1} % of those of its calibration had: CALL \
                 calibrate_threat_model('{}', …) on new ordinary rows, and promote that version",
                self.name
            )
        });
        json!({
            "state": state,
            "n": self.p_values.len(),
            "n_min": ROWS_MIN,
            "p_value": found.map(Drift::p_value),
            "level": found.map(|drift| drift.level),
            "share": found.map(|drift| drift.share),
            "expected": found.map(|drift| drift.expected),
            "since": self.drifted_us.map(rfc3339),
            "watched_since": rfc3339(self.since_us),
            "warning": warning,
        })
    }

    async fn keep(&self, own: &Session, told: &Value) -> Result<()> {
        let insert = "INSERT INTO juno_model_drift (name, version, since, seen_until, p_values, drift, drifted_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET version = excluded.version, \
                      since = excluded.since, seen_until = excluded.seen_until, p_values = excluded.p_values, \
                      drift = excluded.drift, drifted_at = excluded.drifted_at";
        let values = [
            self.name.as_str().into(),
            self.version.into(),
            rfc3339(self.since_us).into(),
            rfc3339(self.until_us).into(),
            json!(self.p_values),
            told.clone(),
            self.drifted_us.map(rfc3339).into(),
        ];
        own.changed_rows(insert, &values).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
