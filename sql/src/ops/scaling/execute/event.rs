//! The rows of a change of units: the event in `scaling_events`, and what its verifier needs beside it.
//!
//! **Invariant:** both rows are written together, before the order is given; a state is set and never taken back.

use serde_json::{Map, Value, json};

use super::asked::{Asked, Ruled};
use crate::Result;
use crate::ops::scaling::demand::{Ask, SHARE, Source, Subject, capacity, quantiles, sources};
use crate::ops::scaling::policy::execution::watched_until_s;
use crate::session::{Invocation, Session, rfc3339};

/// The quantiles that are kept of the forecast.
const QUANTILES: [(&str, f64); 3] = [("q50", 0.5), ("q95", 0.95), ("q99", 0.99)];

/// An event under way.
pub(super) struct Event {
    pub(super) id: String,
    ordered_at: String,
    applied_at: Option<String>,
    ready_at: Option<String>,
    watched_us: (i64, i64),
    step_us: i64,
    predicted: Value,
    demand: Vec<Value>,
    cost_per_hour: Option<f64>,
    plan_id: Option<String>,
    /// What `scaling_action` holds.
    action: Value,
    resource: String,
}

impl Event {
    /// With the forecast of the time in which it will be watched.
    pub(super) async fn new(invocation: &Invocation, asked: &Asked, policy: &Value) -> Result<Self> {
        let (now_us, step_us) = (invocation.now_us(), asked.step_us);
        let next_s = asked.plan.as_ref().and_then(|plan| plan.next_s);
        let watched_s = watched_until_s(now_us.div_euclid(1_000_000), next_s) - now_us.div_euclid(1_000_000);
        // Whole steps only: the one that is under way saw both numbers of units.
        let from_us = (now_us.div_euclid(step_us) + 1) * step_us;
        let steps = (watched_s * 1_000_000 / step_us).max(1);
        let watched_us = (from_us, from_us + steps * step_us);
        let request = asked.plan.as_ref().map(|plan| &plan.request);
        let named = request.and_then(|request| request.get("demand")).and_then(Value::as_array);
        let subject = Subject {
            session: &invocation.session,
            service: &asked.service,
            demand: named.map_or(&[], Vec::as_slice),
            capacity: request.map_or(SHARE, capacity),
        };
        let ask = Ask { since_us: None, until_us: now_us, step_us, steps: usize::try_from(steps).unwrap_or(1) };
        let (predicted, demand) = predicted(subject, &ask, &asked.resource).await;
        let unit = request.and_then(|request| request.get("unit"));
        Ok(Self {
            id: invocation.new_id(),
            ordered_at: rfc3339(now_us),
            applied_at: None,
            ready_at: None,
            watched_us,
            step_us,
            predicted,
            demand,
            cost_per_hour: unit.and_then(|unit| unit["cost_per_hour"].as_f64()),
            plan_id: asked.plan.as_ref().map(|plan| plan.id.clone()),
            action: json!({
                "service": asked.service, "target": asked.target(), "from": asked.from, "to": asked.to,
                "reason": asked.reason, "plan_id": asked.plan.as_ref().map(|plan| plan.id.clone()),
                "step": asked.plan.as_ref().map(|plan| plan.step), "policy": policy,
                "executed_by": executed_by(invocation), "actor": invocation.actor(),
                "approved_by": invocation.approved_by, "state": "ordered",
                "cost_unit": unit.and_then(|unit| unit["currency"].as_str()),
            }),
            resource: asked.resource.clone(),
        })
    }

    /// Writes both rows.
    pub(super) async fn begin(&self, own: &Session) -> Result<()> {
        own.atomically(self.insert(own)).await
    }

    async fn insert(&self, own: &Session) -> Result<()> {
        let (from, to) = (self.action["from"].clone(), self.action["to"].clone());
        let kind = if to.as_u64() > from.as_u64() { "scale_up" } else { "scale_down" };
        let event = "INSERT INTO scaling_events (id, timestamp, scaling_type, resource_type, predicted_demand, scaling_action) \
                     VALUES ($1, $2, $3, $4, $5, $6)";
        let values = [
            self.id.as_str().into(),
            self.ordered_at.as_str().into(),
            kind.into(),
            self.resource.as_str().into(),
            self.predicted.clone(),
            self.action.clone(),
        ];
        own.changed_rows(event, &values).await?;
        let execution = "INSERT INTO juno_scaling_executions (event_id, plan_id, executor, target, service, from_units, to_units, \
                         state, ordered_at, watched_from, watched_until, step_s, demand, predicted, cost_per_hour) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7, 'ordered', $8, $9, $10, $11, $12, $13, $14)";
        let values = [
            self.id.as_str().into(),
            self.plan_id.clone().into(),
            self.action["target"]["executor"].clone(),
            self.action["target"]["name"].clone(),
            self.action["service"].clone(),
            from,
            to,
            self.ordered_at.as_str().into(),
            rfc3339(self.watched_us.0).into(),
            rfc3339(self.watched_us.1).into(),
            (self.step_us / 1_000_000).into(),
            Value::Array(self.demand.clone()),
            self.predicted.clone(),
            self.cost_per_hour.into(),
        ];
        own.changed_rows(execution, &values).await.map(drop)
    }

    /// The order was carried out.
    pub(super) async fn applied(&mut self, own: &Session) -> Result<()> {
        self.applied_at = Some(own.now());
        self.state(own, "applied").await
    }

    /// Whether another change of the same target came after it.
    pub(super) async fn is_superseded(&self, own: &Session) -> Result<bool> {
        let target = &self.action["target"];
        Ok(next_order(own, (&target["executor"], &target["name"]), &self.ordered_at).await?.is_some())
    }

    /// It ended in this state.
    pub(super) async fn end(&mut self, own: &Session, state: &str) -> Result<()> {
        if state == "ready" {
            self.ready_at = Some(own.now());
        }
        self.state(own, state).await?;
        let data = json!({ "status": state, "service": self.action["service"], "from": self.action["from"], "to": self.action["to"] });
        own.tell("scaling", &self.id, data).await
    }

    async fn state(&mut self, own: &Session, state: &str) -> Result<()> {
        self.action["state"] = state.into();
        self.action["applied_at"] = self.applied_at.clone().into();
        self.action["observed_ready_at"] = self.ready_at.clone().into();
        let execution = "UPDATE juno_scaling_executions SET state = $2, applied_at = $3 WHERE event_id = $1";
        let id = Value::from(self.id.as_str());
        own.changed_rows(execution, &[id.clone(), state.into(), self.applied_at.clone().into()]).await?;
        let event = "UPDATE scaling_events SET scaling_action = $2 WHERE id = $1";
        own.changed_rows(event, &[id, self.action.clone()]).await.map(drop)
    }

    /// The answer.
    pub(super) fn told(&self, asked: &Asked, ruled: &Ruled) -> Value {
        json!({
            "event_id": self.id,
            "plan_id": self.plan_id,
            "step": self.action["step"],
            "target": self.action["target"],
            "service": self.action["service"],
            "resource": self.resource,
            "from": asked.from,
            "to": asked.to,
            "applied_at": self.applied_at,
            "observed_ready_at": self.ready_at,
            "policy": ruled.policy,
            "cooldown_until": ruled.cooldown_until(),
            "verified_after": rfc3339(self.watched_us.1),
        })
    }
}

/// When the change after one that was ordered then was ordered, of the same target.
pub(crate) async fn next_order(
    own: &Session,
    (executor, target): (&Value, &Value),
    ordered_at: &str,
) -> Result<Option<String>> {
    let next = "SELECT min(ordered_at) AS at FROM juno_scaling_executions WHERE executor = $1 AND target = $2 AND ordered_at > $3";
    let row = own.objects(next, &[executor.clone(), target.clone(), ordered_at.into()]).await?.pop();
    Ok(row.and_then(|row| row["at"].as_str().map(str::to_owned)))
}

fn executed_by(invocation: &Invocation) -> &'static str {
    if invocation.actor() == crate::ops::healing::AUTOPILOT { "policy" } else { "human" }
}

/// The forecast over the time in which a change is watched, and where the demand is found; what is not known is told, and keeps
/// nothing from being done.
async fn predicted(subject: Subject<'_>, ask: &Ask, resource: &str) -> (Value, Vec<Value>) {
    let known = match sources(subject, ask) {
        Ok(known) => known,
        Err(error) => return (json!({ "unknown": error.to_string() }), Vec::new()),
    };
    let is_meant = |source: &&Source| source.name() == resource;
    let chosen: Vec<&Source> = if known.iter().any(|source| is_meant(&source)) {
        known.iter().filter(is_meant).collect()
    } else {
        known.iter().collect()
    };
    let mut all = Map::new();
    for source in &chosen {
        let one = forecast(subject, ask, source).await;
        let one = one.unwrap_or_else(|error| json!({ "unknown": error.to_string() }));
        all.insert(source.name().into(), one);
    }
    (Value::Object(all), chosen.into_iter().map(Source::stated).collect())
}

/// The mean of the medians, and the largest of the others.
async fn forecast(subject: Subject<'_>, ask: &Ask, source: &Source) -> Result<Value> {
    crate::ops::scaling::demand::known(subject, source).await?;
    let mut one = Map::from_iter([("metric".to_owned(), Value::from(source.metric.as_str()))]);
    let points = quantiles(subject, ask, source, &QUANTILES.map(|(_, share)| share)).await?;
    for (at, (name, _)) in QUANTILES.into_iter().enumerate() {
        let values = points.iter().map(|(_, values)| values[at]);
        let value = match name {
            "q50" => values.sum::<f64>() / points.len().max(1) as f64,
            _ => values.fold(0.0, f64::max),
        };
        one.insert(name.into(), value.into());
    }
    Ok(one.into())
}
