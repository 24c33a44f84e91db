//! What a request to change units means: which target, how many units, by which step of which plan, and what the policy says of it.
//!
//! **Invariant:** reads only.

use serde_json::{Map, Value, json};

use crate::actuator::Action;
use crate::operation::{Refusal, Refused, duration_us, time_us};
use crate::ops::scaling::limits::Limits;
use crate::ops::scaling::policy::execution::{Planned, step};
use crate::ops::scaling::policy::verdict::{self, Ask, Permit, PlanTrust, verdict};
use crate::ops::scaling::policy::{Bounds, UNITS_MAX};
use crate::role::Role;
use crate::session::{Found, Invocation, Session, rfc3339};
use crate::{Error, Result};

/// The step of forecasts where no plan says it: five minutes.
const STEP_US: i64 = 300_000_000;

/// What is asked for.
pub(super) struct Asked {
    pub(super) found: Found,
    pub(super) service: String,
    pub(super) resource: String,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) reason: String,
    pub(super) step_us: i64,
    pub(super) plan: Option<Plan>,
}

/// A stored plan with the step that is asked for.
pub(super) struct Plan {
    pub(super) id: String,
    pub(super) step: usize,
    /// When the step after it is due, in seconds since 1970.
    pub(super) next_s: Option<i64>,
    /// The arguments that it was made from.
    pub(super) request: Map<String, Value>,
    expires_at_s: i64,
    confidence: f64,
}

/// What the policy says.
pub(super) struct Ruled {
    pub(super) permit: Permit,
    pub(super) approval: Option<String>,
    pub(super) policy: Value,
}

impl Asked {
    pub(super) async fn of(invocation: &Invocation) -> Result<Self> {
        match invocation.text("plan_id") {
            Some(id) => planned(invocation, id).await,
            None => bare(invocation).await,
        }
    }

    /// Judges it.
    pub(super) async fn ruled(&self, invocation: &Invocation) -> Result<Ruled> {
        let Limits { rails, cooldown_s, confidence: threshold } =
            Limits::of(&invocation.own, &invocation.settings).await?;
        if self.to < self.from {
            invocation.session.user().needs(Role::Responder, "fewer units")?;
        }
        let bounds = self.plan.as_ref().map(Plan::bounds).transpose()?;
        let force = invocation.flag("force");
        let ask = Ask {
            now_s: invocation.now_us().div_euclid(1_000_000),
            from: self.from,
            to: self.to,
            bounds: rails.bounds(bounds),
            reduced_at_s: self.reduced_at_s(&invocation.own).await?,
            cooldown_s,
            plan: self.plan.as_ref().map(|plan| PlanTrust {
                expires_at_s: plan.expires_at_s,
                confidence: plan.confidence,
                confidence_threshold: threshold,
                approved: force,
            }),
        };
        let permit = verdict(&ask).map_err(|refusal| refusal_of(&refusal, ask.now_s))?;
        let doubtful = ask.plan.filter(|plan| plan.confidence < plan.confidence_threshold);
        let doubt = doubtful.map(|plan| {
            format!(
                "the confidence of the plan is {:.2}, {:.2} is required",
                plan.confidence, plan.confidence_threshold
            )
        });
        let most = rails.step_max(self.from);
        let wide = (self.from.abs_diff(self.to) > most)
            .then(|| format!("{} to {} units is more than {most} at a time", self.from, self.to));
        let reasons: Vec<String> = [doubt, wide].into_iter().flatten().collect();
        let asks = !reasons.is_empty() && invocation.approved_by.is_none();
        let decision = if asks { "needs_approval" } else { "allow" };
        let policy = json!({
            "decision": decision,
            "rules": {
                "units": [ask.bounds.min, ask.bounds.max], "units_at_a_time": most, "cooldown_s": cooldown_s,
                "confidence": threshold, "exceptions": reasons,
            },
        });
        Ok(Ruled { permit, approval: asks.then(|| reasons.join("; ")), policy })
    }

    /// What would be done.
    pub(super) fn plan(&self, ruled: &Ruled) -> Value {
        json!({
            "plan_id": self.plan.as_ref().map(|plan| plan.id.clone()),
            "step": self.plan.as_ref().map(|plan| plan.step),
            "target": self.target(),
            "service": self.service,
            "resource": self.resource,
            "from": self.from,
            "to": self.to,
            "reason": self.reason,
            "policy": ruled.policy,
            "cooldown_until": ruled.cooldown_until(),
            "blast_radius": { "targets": 1, "units": self.from.abs_diff(self.to) },
        })
    }

    /// The target, as answers have it.
    pub(super) fn target(&self) -> Value {
        let Found { actuator, target, .. } = &self.found;
        json!({ "executor": actuator.executor(), "kind": target.kind, "name": target.name })
    }

    /// When the target last had fewer units, in seconds since 1970.
    async fn reduced_at_s(&self, own: &Session) -> Result<Option<i64>> {
        let last = "SELECT max(applied_at) AS at FROM juno_scaling_executions WHERE executor = $1 AND target = $2 \
                    AND to_units < from_units";
        let Found { actuator, target, .. } = &self.found;
        let row = own.objects(last, &[actuator.executor().into(), target.name.as_str().into()]).await?.pop();
        let at = row.as_ref().and_then(|row| row["at"].as_str()).and_then(time_us);
        Ok(at.map(|us| us.div_euclid(1_000_000)))
    }
}

impl Ruled {
    /// Until when there may not be fewer units again.
    pub(super) fn cooldown_until(&self) -> Value {
        self.permit.cooldown_until_s.map_or(Value::Null, |s| rfc3339(s.saturating_mul(1_000_000)).into())
    }
}

impl Plan {
    async fn stored(invocation: &Invocation, id: &str) -> Result<(Self, Map<String, Value>)> {
        let found = "SELECT * FROM scaling_plans WHERE id = $1";
        let row = invocation.own.objects(found, &[id.into()]).await?.pop();
        let row =
            row.ok_or_else(|| Refusal::new(Refused::NotFound, format!("there is no plan {id}")).at("/plan_id"))?;
        invocation.match_etag(row["etag"].as_str().unwrap_or_default(), &format!("plan {id}"))?;
        let steps: Vec<Planned> = row["steps"].as_array().into_iter().flatten().map(planned_step).collect();
        let now_s = invocation.now_us().div_euclid(1_000_000);
        let none = |error: crate::ops::scaling::policy::execution::NoStep| -> Error {
            Refusal::new(Refused::InvalidValue, error.to_string()).at("/step").into()
        };
        let number = step(&steps, asked_step(invocation)?, now_s).map_err(none)?;
        let plan = Self {
            id: id.to_owned(),
            step: number,
            next_s: steps.get(number + 1).map(|step| step.at_s),
            request: row["request"].as_object().cloned().unwrap_or_default(),
            expires_at_s: seconds(&row["expires_at"]),
            confidence: row["confidence"].as_f64().unwrap_or_default(),
        };
        Ok((plan, row))
    }

    fn bounds(&self) -> Result<Bounds> {
        let read = |error: serde_json::Error| Error::Corrupt(format!("the bounds of plan {}: {error}", self.id));
        serde_json::from_value(self.request.get("bounds").cloned().unwrap_or_default()).map_err(read)
    }
}

fn seconds(time: &Value) -> i64 {
    time.as_str().and_then(time_us).unwrap_or_default().div_euclid(1_000_000)
}

fn planned_step(step: &Value) -> Planned {
    let target = step["target"].as_str().unwrap_or_default().to_owned();
    Planned { at_s: seconds(&step["at"]), target, to: step["to"].as_f64().unwrap_or_default() }
}

/// The number of the step that is asked for; none for now.
fn asked_step(invocation: &Invocation) -> Result<Option<usize>> {
    match invocation.arguments.get("step") {
        None => Ok(None),
        Some(Value::String(word)) if word == "now" => Ok(None),
        Some(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()).map(Some).ok_or_else(|| {
            let text = format!("{number} is no step: give the number of one, from 0, or \"now\"");
            Refusal::new(Refused::InvalidValue, text).at("/step").into()
        }),
    }
}

async fn planned(invocation: &Invocation, id: &str) -> Result<Asked> {
    for name in ["to", "resource"] {
        if invocation.arguments.contains_key(name) {
            let text = format!("the plan says {name}: leave it out, or leave plan_id out");
            return Err(Refusal::new(Refused::InvalidValue, text).at(&format!("/{name}")).into());
        }
    }
    let (plan, row) = Plan::stored(invocation, id).await?;
    let (service, step) = (row["service"].as_str().unwrap_or_default().to_owned(), &row["steps"][plan.step]);
    let (found, from) = scalable(invocation, Some(&service)).await?;
    let given = |name: &str| plan.request.get(name).and_then(Value::as_str);
    let reason = invocation.text("reason").or(step["reason"].as_str()).unwrap_or("plan").to_owned();
    let to = step["to"].as_f64().unwrap_or_default();
    Ok(Asked {
        found,
        service,
        resource: step["resource"].as_str().unwrap_or_default().to_owned(),
        from,
        to: to.clamp(0.0, f64::from(UNITS_MAX)).round() as u32,
        reason,
        step_us: given("step").and_then(duration_us).unwrap_or(STEP_US),
        plan: Some(plan),
    })
}

async fn bare(invocation: &Invocation) -> Result<Asked> {
    let missing = |name: &str| -> Error {
        let text = format!("without plan_id, give target, to and reason: \"{name}\" is missing");
        Refusal::new(Refused::MissingField, text).at(&format!("/{name}")).into()
    };
    if invocation.arguments.contains_key("step") {
        let text = "a step is of a plan: give plan_id, or leave step out";
        return Err(Refusal::new(Refused::InvalidValue, text).at("/step").into());
    }
    let to = invocation.arguments.get("to").and_then(Value::as_u64).ok_or_else(|| missing("to"))?;
    let reason = invocation.text("reason").ok_or_else(|| missing("reason"))?.to_owned();
    if !invocation.arguments.contains_key("target") {
        return Err(missing("target"));
    }
    let (found, from) = scalable(invocation, None).await?;
    Ok(Asked {
        service: found.target.name.clone(),
        found,
        resource: invocation.text("resource").unwrap_or("replicas").to_owned(),
        from,
        to: u32::try_from(to).unwrap_or(UNITS_MAX),
        reason,
        step_us: STEP_US,
        plan: None,
    })
}

/// The target that is named, or else the service; with the units that it has.
pub(in crate::ops::scaling) async fn scalable(invocation: &Invocation, service: Option<&str>) -> Result<(Found, u32)> {
    let target = invocation.arguments.get("target");
    let name = target.and_then(|target| target["name"].as_str()).or(service).unwrap_or_default();
    let found = invocation.own.target(target.and_then(|target| target["executor"].as_str()), name).await?;
    if !found.target.actions.contains(&Action::Scale) {
        let text = format!("\"{name}\" cannot be scaled: its actuator takes no scale for it");
        return Err(Refusal::new(Refused::UnknownTarget, text).at("/target").into());
    }
    let from = u32::try_from(found.observed.wanted).unwrap_or(UNITS_MAX);
    Ok((found, from))
}

/// An objection as a refusal.
fn refusal_of(refusal: &verdict::Refusal, now_s: i64) -> Refusal {
    let at = |seconds: i64| rfc3339(seconds.saturating_mul(1_000_000));
    match refusal {
        verdict::Refusal::PlanExpired { expires_at_s } => {
            Refusal::new(Refused::PlanExpired, format!("the plan expired at {}: make a new one", at(*expires_at_s)))
        }
        verdict::Refusal::OutOfBounds { .. } => Refusal::new(Refused::InvalidValue, refusal.to_string()).at("/to"),
        verdict::Refusal::AlreadyAtTarget { .. } => Refusal::new(Refused::AlreadyAtTarget, refusal.to_string()),
        verdict::Refusal::LowConfidence { .. } => Refusal::new(Refused::LowConfidence, refusal.to_string()),
        verdict::Refusal::CooldownActive { until_s } => {
            let text = format!("there were made fewer units less than the cool-down ago: wait until {}", at(*until_s));
            let left_s = u64::try_from(until_s - now_s).unwrap_or(1);
            Refusal::new(Refused::CooldownActive, text).retry_after(left_s)
        }
    }
}
