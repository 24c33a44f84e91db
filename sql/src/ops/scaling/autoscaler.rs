//! What scales services by itself: each step it reads the demand that came, lets the planner of the service decide, and orders
//! another number of units by `scaling_execute`, as the user `autopilot`.
//!
//! A planner is not stored: it is made anew from the demand of the last two weeks when juno starts, and when settings change. Where
//! a learned policy is named, the rule whose knobs it turns decides instead, as soon as two days of demand are known.
//!
//! **Invariant:** decides by [`super::policy::Planner`] or by [`Rule`], and within [`Limits`]; units change by `scaling_execute` under its guards, and by
//! nothing else. A step without demand that anybody measured changes nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::autoscale::{options, step_us};
use super::demand::{Ask, Source, Subject, capacity, measured, sources};
use super::execute;
use super::execute::units_ready;
use super::limits::Limits;
use super::policy::{Decision, Observation, Options, Planner};
use crate::actuator;
use crate::operation::{Refusal, Refused, Request};
use crate::ops::rl::policy::simulator::Service;
use crate::ops::rl::rule::{Asks, Rule, Seen};
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// Rows come late: a step is decided about so long after its end, in microseconds.
const LATE_US: i64 = 5_000_000;
/// The demand that a planner is made from, in microseconds: two weeks.
const HISTORY_US: i64 = 14 * 86_400_000_000;
/// Where nothing was measured for so many steps, nothing is changed.
const SILENT_STEPS: usize = 5;

/// The services that are scaled, as far as they were looked at.
#[derive(Default)]
pub struct Autoscaler {
    services: BTreeMap<String, Scaled>,
}

/// One service.
struct Scaled {
    planners: Vec<Planner>,
    rule: Option<Rule>,
    /// The demand that the rule goes by, by when each step began.
    points: BTreeMap<i64, f64>,
    /// Steps up to here were seen.
    until_us: i64,
    /// Steps since demand was last measured.
    silent: usize,
    /// The job of the last order.
    job: Option<String>,
}

/// One service as it is declared.
struct Declared {
    service: String,
    executor: String,
    target: String,
    request: Map<String, Value>,
}

impl Declared {
    fn of(row: &Map<String, Value>) -> Self {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let request = row["request"].as_object().cloned().unwrap_or_default();
        Self { service: text("service"), executor: text("executor"), target: text("target"), request }
    }
}

/// What was decided, and what it means now.
struct Decided {
    decision: Decision,
    resource: &'static str,
    units: u32,
    /// Units within guard rails.
    to: u32,
    /// What the rule of a learned policy asks for, where one decides.
    rule: Option<Asks>,
}

impl Autoscaler {
    /// Looks at each service that is scaled automatically; `autopilot` is a session of who orders. How many services were decided about.
    ///
    /// # Errors
    /// Where juno's own tables cannot be read or written; what is in the way of one service stands in its row and stops no other.
    pub async fn look(&mut self, own: &Session, autopilot: &Session) -> Result<usize> {
        let rows = "SELECT service, executor, target, request FROM juno_autoscaled WHERE enabled ORDER BY service";
        let rows = own.objects(rows, &[]).await?;
        let declared: Vec<Declared> = rows.iter().map(Declared::of).collect();
        self.services.retain(|service, _| declared.iter().any(|declared| declared.service == *service));
        let mut decided = 0;
        for one in &declared {
            let now_us = own.db().system().clock().now_us();
            let step_us = step_us(&one.request);
            let until_us = (now_us - LATE_US).div_euclid(step_us) * step_us;
            if self.services.get(&one.service).is_some_and(|scaled| scaled.until_us >= until_us) {
                continue;
            }
            decided += 1;
            let told = match self.step(own, autopilot, one, (step_us, until_us)).await {
                Ok(told) => told,
                Err(Error::Refused(refusal)) => json!({ "state": "stopped", "reason": refusal.detail }),
                Err(error) => return Err(error),
            };
            let update = "UPDATE juno_autoscaled SET decided_at = $2, decision = $3 WHERE service = $1 AND enabled";
            own.changed_rows(update, &[one.service.as_str().into(), rfc3339(until_us).into(), told]).await?;
        }
        Ok(decided)
    }

    async fn step(
        &mut self,
        own: &Session,
        autopilot: &Session,
        declared: &Declared,
        (step_us, until_us): (i64, i64),
    ) -> Result<Value> {
        let limits = Limits::of(own, &own.operation_settings()).await?;
        let found = own.target(Some(&declared.executor), &declared.target).await?;
        let demand = declared.request.get("demand").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
        let capacity = capacity(&declared.request);
        let subject = Subject { session: own, service: &declared.service, demand, capacity };
        let ask = |since_us| Ask { since_us: Some(since_us), until_us, step_us, steps: 1 };
        let capacities = sources(subject, &ask(until_us))?.into_iter().map(|source| source.capacity);
        let options: Vec<Options> =
            capacities.map(|capacity| options(&declared.request, capacity, &limits)).collect::<Result<_>>()?;
        let is_same = |scaled: &Scaled| scaled.planners.iter().map(Planner::options).eq(&options);
        let scaled = match self.services.remove(&declared.service).filter(is_same) {
            Some(scaled) => scaled,
            None => Scaled {
                planners: options
                    .iter()
                    .map(|options| Planner::new(*options).map_err(unplannable))
                    .collect::<Result<_>>()?,
                rule: None,
                points: BTreeMap::new(),
                until_us: until_us - HISTORY_US,
                silent: 0,
                job: None,
            },
        };
        let scaled = self.services.entry(declared.service.clone()).or_insert(scaled);
        let units = u32::try_from(found.observed.wanted).unwrap_or(u32::MAX);
        let sources = sources(subject, &ask(scaled.until_us))?;
        let decided = scaled.observe(subject, &sources, (step_us, until_us), units).await?;
        let Some((decision, resource)) = decided else {
            let text = format!("no demand of \"{}\" was measured: nothing is changed", declared.service);
            return Err(Refusal::new(Refused::NoTelemetry, text).into());
        };
        let rule = scaled.by_rule(own, declared, (step_us, until_us), &found.observed).await?;
        let wanted = rule.as_ref().map_or(decision.to, |asks| asks.replicas);
        let within = limits.rails.bounds(None);
        let most = limits.rails.step_max(units);
        let to = wanted.clamp(units.saturating_sub(most), units.saturating_add(most)).clamp(within.min, within.max);
        let decided = Decided { decision, resource, units, to, rule };
        let outcome = scaled.carry_out(own, autopilot, declared, (&decided, until_us)).await?;
        Ok(told(&decided, outcome))
    }
}

impl Scaled {
    /// Takes the demand that came since the last look; the decision that asks for most units, and the resource that it is for. None
    /// where nothing was measured for long.
    async fn observe(
        &mut self,
        subject: Subject<'_>,
        sources: &[Source],
        (step_us, until_us): (i64, i64),
        units: u32,
    ) -> Result<Option<(Decision, &'static str)>> {
        let mut chosen: Option<(Decision, &'static str)> = None;
        let mut silent = usize::MAX;
        for (place, (source, planner)) in sources.iter().zip(&mut self.planners).enumerate() {
            let points = measured(subject, source).await?;
            if place == 0 {
                self.points.extend(&points);
                self.points = self.points.split_off(&(until_us - HISTORY_US));
            }
            let first_us = if planner.has_seen() { Some(self.until_us) } else { points.keys().next().copied() };
            let Some(first_us) = first_us else { continue };
            let mut quiet = self.silent;
            let mut last = None;
            for at_us in (first_us..until_us).step_by(usize::try_from(step_us).unwrap_or(usize::MAX)) {
                let demand = points.get(&at_us).copied();
                quiet = if demand.is_some() { 0 } else { quiet + 1 };
                let is_last = at_us + step_us >= until_us;
                let seen = Observation {
                    at_s: (at_us + step_us).div_euclid(1_000_000),
                    demand: demand.unwrap_or(f64::NAN),
                    units: is_last.then_some(units),
                    lost: None,
                };
                last = Some(planner.observe(&seen).map_err(unplannable)?);
            }
            silent = silent.min(quiet);
            if let Some(decision) = last.filter(|last| chosen.is_none_or(|(chosen, _)| last.to > chosen.to)) {
                chosen = Some((decision, source.name()));
            }
        }
        self.until_us = until_us;
        self.silent = if silent == usize::MAX { self.silent } else { silent };
        Ok(chosen.filter(|_| self.silent < SILENT_STEPS))
    }

    /// What the rule of the learned policy asks for that is named, by the demand of the first resource; none where none is named,
    /// or where too little of the demand is known.
    async fn by_rule(
        &mut self,
        own: &Session,
        declared: &Declared,
        (step_us, until_us): (i64, i64),
        observed: &actuator::Observation,
    ) -> Result<Option<Asks>> {
        let Some(policy) = declared.request.get("policy").and_then(Value::as_str) else { return Ok(None) };
        if self.rule.as_ref().is_none_or(|rule| rule.policy() != policy) {
            self.rule = Some(Rule::open(own, policy, &declared.service).await?);
        }
        let (Some(rule), Some(first_us)) = (&mut self.rule, self.points.keys().next().copied()) else {
            return Ok(None);
        };
        let mut last = 0.0;
        let steps = (first_us..until_us).step_by(usize::try_from(step_us).unwrap_or(usize::MAX));
        let samples: Vec<f64> = steps
            .map(|at_us| {
                last = self.points.get(&at_us).copied().unwrap_or(last);
                last
            })
            .collect();
        let Some(options) = self.planners.first().map(Planner::options) else { return Ok(None) };
        let seen = Seen {
            samples: &samples,
            step_s: step_us as f64 / 1e6,
            now_us: until_us,
            service: Service {
                capacity_rps: options.unit.capacity,
                startup_s: f64::from(options.unit.startup_s),
                replicas_min: f64::from(options.bounds.min.max(1)),
                replicas_max: f64::from(options.bounds.max),
                violation_max: 1.0 - options.capacity_share,
            },
            ready: units_ready(observed) as f64,
            billed: observed.wanted as f64,
        };
        rule.ask(own, &seen).await
    }

    /// Orders what was decided, where it is something else than there is and nobody is in the way.
    async fn carry_out(
        &mut self,
        own: &Session,
        autopilot: &Session,
        declared: &Declared,
        (decided, until_us): (&Decided, i64),
    ) -> Result<Value> {
        if decided.to == decided.units {
            return Ok(json!({ "state": "steady" }));
        }
        if !own.operation_settings().ai_native {
            return Ok(json!({ "state": "advised", "reason": "AI_NATIVE_OPERATIONS is off" }));
        }
        if let Some(job) = &self.job {
            let row = own.objects("SELECT state FROM juno_jobs WHERE id = $1", &[job.as_str().into()]).await?.pop();
            if row.is_some_and(|row| row["state"] == "awaiting_approval" || row["state"] == "queued") {
                return Ok(json!({ "state": "waiting", "reason": "the last order waits for an approval", "job": job }));
            }
        }
        let Decision { reason, needed, .. } = decided.decision;
        let reason = serde_json::to_value(reason).ok().and_then(|reason| reason.as_str().map(str::to_owned));
        let why = match &decided.rule {
            Some(asks) => format!("rule of policy {}, {}", self.rule.as_ref().map_or("", Rule::policy), asks.by()),
            None => format!("{}: {needed:.3} of {} is needed", reason.unwrap_or_default(), decided.resource),
        };
        let startup_s = declared.request.get("unit").and_then(|unit| unit["startup_s"].as_u64()).unwrap_or(90);
        let arguments = json!({
            "target": { "executor": declared.executor, "name": declared.target },
            "resource": decided.resource,
            "to": decided.to,
            "reason": why,
            "timeout_s": (2 * startup_s + 30).min(600),
        });
        let request = Request {
            arguments: arguments.as_object().cloned().unwrap_or_default(),
            key: Some(format!("autoscale {} {}", declared.service, until_us / 1_000_000)),
            ..Request::default()
        };
        match autopilot.operate(&execute::OPERATION, request).await {
            Ok(answered) => {
                self.job = answered.job.clone();
                Ok(json!({ "state": if answered.pending { "ordered" } else { "done" }, "job": answered.job }))
            }
            Err(Error::Refused(refusal)) => {
                tracing::info!(service = declared.service, reason = refusal.detail, "units are not changed");
                Ok(json!({ "state": "refused", "reason": refusal.detail }))
            }
            Err(error) => Err(error),
        }
    }
}

/// A decision as its row has it.
fn told(decided: &Decided, outcome: Value) -> Value {
    let Decision { planned, reason, level, needed, quantiles: [q50, q95, q99], confidence, .. } = decided.decision;
    let mut told = json!({
        "resource": decided.resource, "from": decided.units, "to": decided.to, "planned": planned, "reason": reason,
        "demand": level, "needed": needed, "q50": q50, "q95": q95, "q99": q99, "confidence": confidence,
    });
    if let (Some(told), Value::Object(outcome)) = (told.as_object_mut(), outcome) {
        told.extend(outcome);
        told.insert("rule".to_owned(), decided.rule.as_ref().map_or(Value::Null, Asks::told));
    }
    told
}

fn unplannable(error: super::policy::PolicyError) -> Error {
    Refusal::new(Refused::InvalidValue, error.to_string()).into()
}

#[cfg(test)]
mod tests;
