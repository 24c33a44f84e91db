//! `rl_policies_promote`: moves a policy on, as far as what is known of it allows.
//!
//! A shadow needs nothing, as it decides beside the service. A canary needs steady recommendations. To become active, logged decisions
//! must show that a policy is better; where there are too few of them, a lead in the simulator is put before another person.
//!
//! **Invariant:** decides by [`super::policy::gate`] alone; what that denies is never promoted, whoever asks.

use serde_json::{Value, json};

use super::evaluate::{EVALUATION, evaluation_json};
use super::log::{self, Decisions};
use super::policy::comparison::Improvement;
use super::policy::evaluation::{Against, Method, Question, evaluate};
use super::policy::gate::{Promotion, promotion, simulated, unsteady};
use super::policy::refusal::Refusal as Judged;
use super::policy::stage::Stage;
use super::request::{WINDOW, window};
use super::store::{self, Stored};
use super::train::LOG_DAYS;
use super::train::answer::STAGES;
use super::work::{refused, work};
use crate::operation::answer::CI95;
use crate::operation::{
    Component, Decision, Doing, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused,
};
use crate::role::Role;
use crate::session::Invocation;
use crate::{Error, Result};

/// Resamples, and the seed that draws them: the same log gives the same verdict.
const BOOTSTRAP: usize = 1_000;
const SEED: u64 = 0;

/// What a judgement follows from; a shadow needs nothing.
const EVIDENCE: &[Member] = &[
    Member::new("by", Form::Text, "What speaks: logged decisions, or the simulator.").sometimes(),
    Member::new("against", AGAINST, "What it is compared with.").sometimes(),
    Member::new("evaluation", Form::Object(EVALUATION), "What the logged decisions say.").sometimes(),
    Member::new("improvement_pct", Form::Number, "The lead in the simulator, in percent.").or_null().sometimes(),
    Member::new("ci95", CI95, "Where 95 % of the resamples of that lie.").or_null().sometimes(),
    Member::new("tuned_static", Form::Map(&Form::Any), "The best fixed rule beside it.").or_null().sometimes(),
    Member::new("stability_pct", Form::Number, "How much its members differ, in percent.").or_null(),
];
const AGAINST: Form = Form::Either(&[Form::Text, Form::Object(store::TOLD), Form::Null]);
const SAYS: Member = Member::new("evidence", Form::Object(EVIDENCE), "What it follows from.").or_null();
const REASONS: Member = Member::new("reasons", Form::List(&Form::Text), "What stood against it.");
const PLAN: &[Member] = &[
    Member::new("policy", Form::Object(store::TOLD), "The policy."),
    Member::new("from", STAGES, "What it is."),
    Member::new("to", STAGES, "What it shall be."),
    Member::new("replaces", Form::Object(store::TOLD), "What is active and would be no more.").or_null(),
    Member::new("etag", Form::Text, "The version that it is decided on."),
    SAYS,
    REASONS,
];
const ANSWER: &[Member] = &[
    Member::new("policy_id", Form::Id, "The policy."),
    Member::new("policy", Form::Text, "Its name."),
    Member::new("version", Form::Integer, "Its version."),
    Member::new("state", STAGES, "What it is now."),
    Member::new("replaced", Form::Object(store::TOLD), "What was active before.").or_null(),
    SAYS,
    REASONS,
    Member::new("etag", Form::Text, "The ETag that it has now."),
];

/// `POST /rl/policies/{id}:promote`.
pub(crate) const OPERATION: Operation = Operation {
    name: "rl_policies_promote",
    does: "Moves a policy to shadow, canary or active: at once where logged decisions speak for it, after an approval where only the simulator does.",
    parameters: &[
        Parameter::new("id", Kind::Id, "The policy.").required(),
        Parameter::new("to", Kind::Choice(&["shadow", "canary", "active"]), "What it shall be.").or("\"active\""),
        Parameter::new("window", Kind::Object(WINDOW), "Which logged decisions count; the last 30 days."),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: Some(Component::Rl),
    lasts: Lasts::Short,
    matched: true,
    answers: Form::Object(ANSWER),
    plans: PLAN,
    refuses: &[Refused::InvalidValue, Refused::NotFound, Refused::Conflict, Refused::PolicyDenied, Refused::Concurrent],
    decide: Some(decide),
    run: |invocation| Box::pin(run(invocation)),
};

/// What may be done about a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    Ask,
    Deny,
}

/// The verdict, what stood against a better one, and what it follows from.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) reasons: Vec<String>,
    evidence: Value,
}

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(decided(invocation))
}

async fn decided(invocation: &Invocation) -> Result<Decision> {
    let stored = store::found(&invocation.own, invocation.word("id"), "/id").await?;
    invocation.match_etag(&stored.etag(), &format!("policy \"{}\"", stored.name))?;
    let to = Stage::parse(invocation.word("to")).unwrap_or(Stage::Active);
    stored.stage.may_become(to).map_err(|refusal| Refusal::new(Refused::Conflict, refusal.to_string()).at("/to"))?;
    let active = store::active(&invocation.own, &stored.name).await?;
    let judgement = match to {
        Stage::Active => judge(invocation, &stored, active.as_ref()).await?,
        Stage::Canary => canary(&stored),
        _ => Judgement { verdict: Verdict::Allow, reasons: Vec::new(), evidence: Value::Null },
    };
    if judgement.verdict == Verdict::Deny {
        return Err(Refusal::new(Refused::PolicyDenied, judgement.reasons.join("; ")).at("/to").into());
    }
    let replaces = active.filter(|_| to == Stage::Active).map(|active| active.told());
    let asks = judgement.verdict == Verdict::Ask && invocation.approved_by.is_none();
    let plan = json!({
        "policy": stored.told(),
        "from": stored.stage.name(),
        "to": to.name(),
        "replaces": replaces,
        "etag": stored.etag(),
        "evidence": judgement.evidence,
        "reasons": judgement.reasons,
    });
    Ok(Decision { plan, approval: asks.then(|| judgement.reasons.join("; ")) })
}

/// Whether a policy may decide for a part of the service.
fn canary(stored: &Stored) -> Judgement {
    let reasons: Vec<String> = unsteady(stability(stored)).into_iter().collect();
    let verdict = if reasons.is_empty() { Verdict::Allow } else { Verdict::Deny };
    Judgement { verdict, reasons, evidence: json!({ "stability_pct": stored.metrics["stability_pct"] }) }
}

fn stability(stored: &Stored) -> f64 {
    stored.metrics["stability_pct"].as_f64().unwrap_or(f64::NAN)
}

/// Whether a policy may become the active one: by the decisions that were logged, or where they say too little by the simulator.
pub(crate) async fn judge(invocation: &Invocation, stored: &Stored, active: Option<&Stored>) -> Result<Judgement> {
    // The window of a training is that of what it learned from.
    let (from_us, to_us) = match invocation.operation.name == OPERATION.name {
        true => window(invocation, LOG_DAYS)?,
        false => (invocation.now_us() - LOG_DAYS * 86_400_000_000, invocation.now_us()),
    };
    let which = Decisions {
        policy: stored.name.clone(),
        service: stored.scope.clone(),
        window_us: (from_us.max(stored.learned_until_us()), to_us),
    };
    let policy = stored.policy.clone();
    let other = active.map(|active| active.policy.clone()).filter(|other| other.space() == policy.space());
    let question = Question { objective: *policy.objective(), price: policy.price(), bootstrap: BOOTSTRAP, seed: SEED };
    let evaluated = match log::read(&invocation.own, &which, policy.space()).await? {
        Err(refusal) => Err(refusal),
        Ok(log) => {
            work(invocation, None, move |_| {
                let against = other.as_ref().map_or(Against::Logged, Against::Policy);
                Ok(evaluate(&log.experience, &policy, against, &question))
            })
            .await?
        }
    };
    let silent = match evaluated {
        Ok(evaluation) => {
            let evidence = json!({
                "by": "logged decisions",
                "against": active.map_or(json!("logged"), Stored::told),
                "evaluation": evaluation_json(&evaluation, &Method::ALL),
                "stability_pct": stored.metrics["stability_pct"],
            });
            return Ok(match promotion(&evaluation, stability(stored)) {
                Promotion::Promote => Judgement { verdict: Verdict::Allow, reasons: Vec::new(), evidence },
                Promotion::Keep(reasons) => Judgement { verdict: Verdict::Deny, reasons, evidence },
            });
        }
        Err(Judged::InsufficientExperience(text) | Judged::NoPropensities(text) | Judged::LowOverlap(text)) => text,
        Err(other) => return Err(refused(other)),
    };
    Ok(by_simulator(stored, active, silent))
}

/// What the simulator says of a policy where the log is silent.
fn by_simulator(stored: &Stored, active: Option<&Stored>, silent: String) -> Judgement {
    let metrics = &stored.metrics;
    let (lead, over) = match active {
        Some(active) if metrics["active"]["id"] == active.id.as_str() => (&metrics["active"], active.told()),
        Some(_) => (&Value::Null, Value::Null),
        None => (metrics, json!("default rule")),
    };
    let bound = |at: usize| lead["ci95"][at].as_f64();
    let mut reasons = vec![silent];
    let evidence = json!({
        "by": "simulator",
        "against": over,
        "improvement_pct": lead["improvement_pct"],
        "ci95": lead["ci95"],
        "tuned_static": metrics["tuned_static"],
        "stability_pct": metrics["stability_pct"],
    });
    let known = (metrics["judged_by"] == "simulator")
        .then_some(())
        .and_then(|()| Some(Improvement { percent: lead["improvement_pct"].as_f64()?, ci95: [bound(0)?, bound(1)?] }));
    let verdict = match known.map(|lead| simulated(&lead, stability(stored))) {
        Some(Promotion::Promote) => {
            reasons.push("only the simulator speaks for it".to_owned());
            Verdict::Ask
        }
        Some(Promotion::Keep(more)) => {
            reasons.extend(more);
            Verdict::Deny
        }
        None => {
            reasons.push("the simulator has not compared it with what decides now: train it again".to_owned());
            Verdict::Deny
        }
    };
    Judgement { verdict, reasons, evidence }
}

async fn run(invocation: &Invocation) -> Result<Value> {
    let plan = invocation.plan.clone().unwrap_or_default();
    let stored = store::found(&invocation.own, invocation.word("id"), "/id").await?;
    let changed = || -> Error {
        let text = format!("policy \"{}\" was changed meanwhile: read it again", stored.name);
        Refusal::new(Refused::PreconditionFailed, text).into()
    };
    if plan["etag"] != stored.etag() {
        return Err(changed());
    }
    let to = Stage::parse(invocation.word("to")).unwrap_or(Stage::Active);
    let active = store::active(&invocation.own, &stored.name).await?.filter(|_| to == Stage::Active);
    if active.as_ref().map(|active| active.id.as_str()) != plan["replaces"]["id"].as_str() {
        return Err(changed());
    }
    let mut moves: Vec<(&Stored, Stage)> = active.iter().map(|active| (active, Stage::Retired)).collect();
    moves.push((&stored, to));
    store::restage(invocation, &moves, active.as_ref().map(|active| active.id.as_str())).await?;
    let stored = store::found(&invocation.own, &stored.id, "/id").await?;
    Ok(json!({
        "policy_id": stored.id,
        "policy": stored.name,
        "version": stored.version,
        "state": stored.stage.name(),
        "replaced": active.map(|active| active.told()),
        "evidence": plan["evidence"],
        "reasons": plan["reasons"],
        "etag": stored.etag(),
    }))
}
