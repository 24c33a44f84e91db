//! What a request for a remediation means: which incident, which runbook, on which target, and what the guards say.
//!
//! **Invariant:** reads only.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::past;
use crate::actuator::Action;
use crate::operation::{Form, Member, Quota, Refusal, Refused, answer};
use crate::ops::governance;
use crate::ops::healing::AUTOPILOT;
use crate::ops::healing::incident::Incident;
use crate::ops::healing::policy::cause::{CAUSE_NAMES, Cause};
use crate::ops::healing::policy::circuit::Breaker;
use crate::ops::healing::policy::guard::{Origin, Proposal, Situation, Verdict, verdict};
use crate::ops::healing::policy::runbook::{Risk, Runbook, Step, built_in};
use crate::ops::healing::policy::status::Status;
use crate::ops::healing::policy::verification::{Comparison, Condition, Verification};
use crate::session::{Found, Invocation, Session};
use crate::{Error, Result};

/// What counts for the budget of actions.
pub(super) const HOUR_US: i64 = 3_600_000_000;
const STEP: &[Member] = &[Member::new("action", Form::Text, "What is done."), Member::new("params", Form::Any, "How.")];
const CONDITION: &[Member] = &[
    Member::new("metric", Form::Text, "What is looked at."),
    Member::new("is", Form::Text, "How it is compared."),
    Member::new("value", Form::Number, "With what."),
    Member::new("if_known", Form::Boolean, "Whether it passes where it is not known."),
];
const VERIFY: &[Member] = &[
    Member::new("all", Form::List(&Form::Object(CONDITION)), "What must hold."),
    Member::new("hold", Form::Integer, "By how many looks in a row."),
    Member::new("within_s", Form::Integer, "How soon, in seconds."),
    Member::new("in_vain_s", Form::Integer, "When it is given up where nothing moves, in seconds.").or_null(),
];
const RULING: &[Member] = &[
    Member::new("rule", Form::Text, "The guard."),
    Member::new("passed", Form::Boolean, "Whether it lets pass."),
    Member::new("reason", Form::Text, "Why."),
];
const VERDICT: &[Member] = &[
    Member::new("decision", Form::Choice(&["allow", "needs_approval", "deny", "dry_run"]), "What they say together."),
    Member::new("rules", Form::List(&Form::Object(RULING)), "What each guard says."),
];
/// What is told of what would be done.
pub(super) const PLAN: &[Member] = &[
    Member::new("incident_id", Form::Id, "The incident."),
    Member::new("runbook", Form::Text, "The runbook."),
    Member::new("cause", Form::Choice(&CAUSE_NAMES), "What it is done against.").or_null(),
    Member::new("risk", Form::Choice(&["low", "medium", "high"]), "Its risk."),
    Member::new("target", Form::Object(answer::TARGET), "On what."),
    Member::new("steps", Form::List(&Form::Object(STEP)), "The steps."),
    Member::new("verify", Form::Object(VERIFY), "How it is seen that it healed."),
    Member::new("policy", Form::Object(VERDICT), "What the guards say."),
    Member::new("blast_radius", Form::Object(answer::BLAST_RADIUS), "How much it touches."),
];

/// What is asked for.
pub(super) struct Asked {
    pub(super) incident: Incident,
    pub(super) runbook: Runbook,
    pub(super) cause: Option<Cause>,
    pub(super) found: Found,
    /// A SELECT that verifies in place of the runbook's metrics.
    pub(super) sql: Option<String>,
}

impl Asked {
    pub(super) async fn of(invocation: &Invocation) -> Result<Self> {
        let own = &invocation.own;
        let incident = own.incident(invocation.word("incident_id")).await?;
        if incident.status == Status::Resolved {
            return Err(Refusal::new(Refused::AlreadyResolved, "the incident is resolved").at("/incident_id").into());
        }
        let target = invocation.arguments.get("target");
        let name = target.and_then(|target| target["name"].as_str()).or(incident.service.as_deref());
        let name = name.ok_or_else(|| {
            Refusal::new(Refused::MissingField, "the incident names no service: name the target").at("/target")
        })?;
        let found = own.target(target.and_then(|target| target["executor"].as_str()), name).await?;
        if let Some(target) = target {
            meant(target, &found)?;
        }
        let cause = invocation.text("cause").map(str::to_owned).or_else(|| incident.cause(name));
        let mut runbook = runbook(invocation)?;
        if !runbook.fits(&found.target, &found.observed) {
            let text = format!("{} is not possible at {name} as it is now", runbook.name);
            return Err(Refusal::new(Refused::UnknownTarget, text).at("/action").into());
        }
        let sql = verification(invocation, &mut runbook)?;
        let cause = cause.and_then(|cause| serde_json::from_value(Value::String(cause)).ok());
        Ok(Self { incident, runbook, cause, found, sql })
    }

    /// How long the target is left alone after it: as the runbook says, and no longer than the policy does.
    pub(super) async fn cooldown_s(&self, own: &Session) -> Result<i64> {
        let policy = governance::stored(own, "healing").await?.policy;
        let most = policy.get("cooldown_s").and_then(Value::as_f64).unwrap_or(f64::MAX);
        Ok(f64::from(self.runbook.cooldown_s).min(most) as i64)
    }

    /// Asks every guard.
    pub(super) async fn verdict(&self, invocation: &Invocation) -> Result<Verdict> {
        let own = &invocation.own;
        let (past, now_us) = (past::of(own).await?, invocation.now_us());
        let policy = governance::stored(own, "healing").await?.policy;
        let number = |key: &str| number(&policy, key);
        let gates = invocation.gates().await?;
        let name = self.found.target.name.as_str();
        let tries = past.tries(&self.runbook.name);
        let settings = &invocation.settings;
        let by_autopilot = invocation.actor() == AUTOPILOT;
        let is_automated = by_autopilot && governance::automate::automated(own).await?.contains(&self.runbook.name);
        let proposal = Proposal {
            origin: if by_autopilot { Origin::Autopilot } else { Origin::Person(invocation.actor()) },
            risk: self.runbook.risk,
            is_autonomous: self.cause.is_some_and(|cause| past.record(&self.runbook.name, cause).is_autonomous()),
            is_automated,
            targets: 1,
            dry_run: invocation.dry_run(),
            wants_approval: invocation.word("approval") == "required",
            approved_by: invocation.approved_by.as_deref(),
        };
        let situation = Situation {
            now_us,
            is_enabled: settings.ai_native || !by_autopilot,
            level: settings.healing,
            kill_switch: gates.killed.is_some(),
            frozen: gates.frozen().map(|freeze| freeze.name.as_str()),
            is_protected: self.found.target.is_protected && by_autopilot,
            locked_by: past.running(name),
            cooldown_until_us: past.cooldown_until_us(name, &self.incident.id, now_us),
            fleet: self.found.fleet,
            acted_on: past.acted_on(name),
            blast_radius: number("blast_radius_pct") / 100.0,
            actions: past.since(now_us - HOUR_US),
            actions_max: number("actions_per_hour") as usize,
            circuit: breaker(&policy).state(&tries, now_us),
            is_trying: past.is_trying(&self.runbook.name),
        };
        let used = (situation.actions_max as u64, situation.actions as u64);
        invocation.uses(Quota::hourly("healing-actions", used, past.first_since(now_us - HOUR_US), now_us));
        Ok(verdict(&proposal, &situation))
    }

    /// What would be done.
    pub(super) fn plan(&self, verdict: &Verdict) -> Value {
        let steps: Vec<Value> = self.runbook.steps.iter().map(|step| json!(step)).collect();
        json!({
            "incident_id": self.incident.id,
            "runbook": self.runbook.name,
            "cause": self.cause,
            "risk": self.runbook.risk,
            "target": { "executor": self.found.actuator.executor(), "kind": self.found.target.kind, "name": self.found.target.name },
            "steps": steps,
            "verify": self.runbook.verify,
            "policy": verdict,
            "blast_radius": self.found.blast_radius(),
        })
    }
}

/// Holds what was found to the kind and the namespace that it was taken to have.
fn meant(target: &Value, found: &Found) -> Result<()> {
    let (name, executor) = (&found.target.name, found.actuator.executor());
    let refused = |text: String, at: &str| -> Error { Refusal::new(Refused::UnknownTarget, text).at(at).into() };
    let kind = found.target.kind.as_str();
    if let Some(asked) = target["kind"].as_str().filter(|asked| !asked.eq_ignore_ascii_case(kind)) {
        let text =
            format!("\"{name}\" of {executor} is a {kind} and not a {asked}: name the executor of the one meant");
        return Err(refused(text, "/target/kind"));
    }
    let namespace = found.actuator.namespace();
    if let Some(asked) = target["namespace"].as_str().filter(|asked| namespace != Some(*asked)) {
        let own = namespace.map_or("in no namespace".to_owned(), |namespace| format!("in the namespace {namespace}"));
        let text = format!("\"{name}\" of {executor} is {own} and not in {asked}: name the executor of the one meant");
        return Err(refused(text, "/target/namespace"));
    }
    Ok(())
}

/// A number of the policy `healing`.
pub(super) fn number(policy: &Map<String, Value>, key: &str) -> f64 {
    policy.get(key).and_then(Value::as_f64).unwrap_or_default()
}

/// The circuit breaker of runbooks, as the policy has it.
pub(super) fn breaker(policy: &Map<String, Value>) -> Breaker {
    Breaker { failures: (number(policy, "circuit_failures") as usize).max(1), ..Breaker::default() }
}

/// The runbook that an action names: a built-in one, or the single step of that name.
fn runbook(invocation: &Invocation) -> Result<Runbook> {
    let action = invocation.word("action");
    let params = invocation.arguments.get("params").cloned().unwrap_or_default();
    let all = built_in();
    let mut runbook = match action.strip_prefix("runbook:") {
        Some(name) => all.into_iter().find(|runbook| runbook.name == name).ok_or_else(|| unknown(action))?,
        None => match all.into_iter().find(|runbook| runbook.name == action) {
            Some(runbook) => runbook,
            None => single(action).ok_or_else(|| unknown(action))?,
        },
    };
    if params.is_object() {
        let [step] = runbook.steps.as_mut_slice() else {
            let text = format!("{action} has several steps and takes no params");
            return Err(Refusal::new(Refused::InvalidValue, text).at("/params").into());
        };
        step.params = params;
    }
    runbook.timeout_s = u32::try_from(invocation.arguments["timeout_s"].as_i64().unwrap_or(300)).unwrap_or(300);
    Ok(runbook)
}

fn unknown(action: &str) -> Error {
    let names: Vec<String> = built_in().into_iter().map(|runbook| runbook.name).collect();
    let text =
        format!("there is no action {action}; there is scale, cordon, uncordon and the runbooks {}", names.join(", "));
    Refusal::new(Refused::InvalidValue, text).at("/action").into()
}

/// What is no runbook of its own: one step, verified by the health check.
fn single(action: &str) -> Option<Runbook> {
    let (action, risk, does) = match action {
        "scale" => (Action::Scale, Risk::Low, "Changes the replicas of the target."),
        "cordon" => (Action::Cordon, Risk::Medium, "Starts nothing of the target any more."),
        "uncordon" => (Action::Uncordon, Risk::Low, "Lifts a cordon of the target."),
        _ => return None,
    };
    let healthy = Condition { metric: "healthy".into(), is: Comparison::AtLeast, value: 1.0, if_known: false };
    Some(Runbook {
        name: action.name().to_owned(),
        does: does.to_owned(),
        version: 1,
        risk,
        causes: BTreeMap::new(),
        needs: <_>::default(),
        steps: vec![Step { action, params: Value::Null }],
        verify: Verification { all: vec![healthy], hold: 1, within_s: 60, in_vain_s: None },
        timeout_s: 60,
        cooldown_s: 30,
    })
}

/// Puts the caller's own verification in place; gives its SELECT where it has one.
fn verification(invocation: &Invocation, runbook: &mut Runbook) -> Result<Option<String>> {
    let Some(verify) = invocation.arguments.get("verify") else { return Ok(None) };
    let (metric, sql) = (verify["metric"].as_str(), verify["sql"].as_str());
    let metric = match (metric, sql) {
        (Some(metric), None) => metric,
        (None, Some(_)) => "sql",
        _ => {
            let text = "verify takes a metric or sql, and not both";
            return Err(Refusal::new(Refused::InvalidValue, text).at("/verify").into());
        }
    };
    let (is, value) = compared(verify)?;
    let number =
        |name: &str, or: u32| verify[name].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(or);
    runbook.verify = Verification {
        all: vec![Condition { metric: metric.to_owned(), is, value, if_known: false }],
        hold: number("hold", 3),
        within_s: number("within_s", 120),
        in_vain_s: None,
    };
    Ok(sql.map(str::to_owned))
}

/// How it is compared, and with what: by `condition`, or by `is` and `value`.
fn compared(verify: &Value) -> Result<(Comparison, f64)> {
    let refused = |kind, text: &str, at: &str| -> Error { Refusal::new(kind, text).at(at).into() };
    let Some(condition) = verify["condition"].as_str() else {
        let is = if verify["is"] == "at_least" { Comparison::AtLeast } else { Comparison::AtMost };
        let missing = || refused(Refused::MissingField, "verify needs a condition, or a value", "/verify/value");
        return Ok((is, verify["value"].as_f64().ok_or_else(missing)?));
    };
    if !(verify["is"].is_null() && verify["value"].is_null()) {
        let text = "verify takes a condition, or is and value, and not both";
        return Err(refused(Refused::InvalidValue, text, "/verify/condition"));
    }
    Comparison::parse(condition).ok_or_else(|| {
        let text = "a condition is <= or >= and a number, such as \"<= 0.05\"";
        refused(Refused::InvalidValue, text, "/verify/condition")
    })
}
