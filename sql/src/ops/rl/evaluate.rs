//! `rl_evaluate`: what a policy would have earned, from decisions that were logged with their propensities.
//!
//! **Invariant:** reads and writes nothing else; the same log and seed give the same figures.

use serde_json::{Map, Value, json};

use super::log::{self, Decisions};
use super::policy::action::Knobs;
use super::policy::evaluation::{Against, BOOTSTRAP_MAX, Evaluation, Method, Question, evaluate};
use super::request::{WINDOW, window};
use super::scene::knobs_of;
use super::store::{self, Stored};
use super::train::LOG_DAYS;
use super::work::{refused, work};
use crate::operation::answer::{self, CI95};
use crate::operation::{Component, Effect, Form, Kind, Lasts, Member, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::{Invocation, rfc3339};
use crate::{Error, Result};

const METHODS: &[&str] = &["dm", "ips", "snips", "dr"];

const VALUE: &[Member] = &[
    Member::new("value", Form::Number, "The estimate."),
    Member::new("ci95", CI95, "Where 95 % of the resamples lie."),
];
const ESTIMATE: &[Member] = &[
    Member::new("value", Form::Number, "The estimate."),
    Member::new("ci95", CI95, "Where 95 % of the resamples lie."),
    Member::new("ess", Form::Number, "How many decisions the weighted ones are worth.").or_null(),
    Member::new("max_weight", Form::Number, "The largest weight.").or_null(),
];
const ESTIMATES: Member =
    Member::new("estimates", Form::Map(&Form::Object(ESTIMATE)), "What the policy would have earned, by method.");
const BASELINE: Member = Member::new("baseline", Form::Object(VALUE), "What it is compared with.");
const DIFFERENCE: Member = Member::new("difference", Form::Object(VALUE), "The policy less the baseline.");
const IMPROVEMENT: Member = Member::new("improvement_pct", Form::Number, "The same in percent of the baseline.");
const P_BETTER: Member = Member::new("p_better", Form::Number, "The share of resamples in which the policy is better.");
const VERDICT: Member =
    Member::new("verdict", Form::Choice(&["better", "worse", "inconclusive"]), "What the interval says.");
const OVERLAP: Member = Member::new("overlap_warning", Form::Text, "Why the numbers deserve caution.").or_null();
/// What is told of an evaluation.
pub(crate) const EVALUATION: &[Member] = &[ESTIMATES, BASELINE, DIFFERENCE, IMPROVEMENT, P_BETTER, VERDICT, OVERLAP];
const OTHER: Form = Form::Either(&[Form::Choice(&["logged", "static"]), Form::Object(store::TOLD)]);
const ANSWER: &[Member] = &[
    Member::new("policy", Form::Object(store::TOLD), "The policy."),
    Member::new("against", OTHER, "What it is compared with."),
    Member::new("window", Form::Object(answer::WINDOW), "Which decisions."),
    Member::new("decisions", Form::Integer, "How many decisions."),
    Member::new("has_learned_of_them", Form::Boolean, "Whether the policy learned from some of them."),
    ESTIMATES,
    BASELINE,
    DIFFERENCE,
    IMPROVEMENT,
    P_BETTER,
    VERDICT,
    OVERLAP,
];

/// `POST /rl/evaluate`.
pub(crate) const OPERATION: Operation = Operation {
    name: "rl_evaluate",
    does: "Estimates from logged decisions what a policy would have earned, and whether that is more than another one.",
    parameters: &[
        Parameter::new("policy_id", Kind::Id, "The policy.").required(),
        Parameter::new(
            "against",
            Kind::Text,
            "What it is compared with: active, static (its tuned fixed rule), logged (what was done), or a policy's id.",
        )
        .or("\"active\""),
        Parameter::new("method", Kind::List(&Kind::Choice(METHODS), 4), "Which estimates.")
            .or("[\"dm\", \"ips\", \"snips\", \"dr\"]"),
        Parameter::new("window", Kind::Object(WINDOW), "Which decisions; the last 30 days, without those that it learned from."),
        Parameter::new("bootstrap", Kind::Integer(100, BOOTSTRAP_MAX as i64), "Resamples of the intervals.").or("1000"),
        Parameter::new("seed", Kind::Integer(0, i64::MAX), "Decides the resamples.").or("0"),
    ],
    role: Role::Operator,
    effect: Effect::Computes,
    component: Some(Component::Rl),
    lasts: Lasts::Short,
    matched: false,
    answers: Form::Object(ANSWER),
    plans: &[],
    refuses: &[
        Refused::InvalidValue,
        Refused::NotFound,
        Refused::InsufficientExperience,
        Refused::NoPropensities,
        Refused::LowOverlap,
    ],
    decide: None,
    run: |invocation| Box::pin(run(invocation)),
};

/// What it is compared with.
enum Other {
    Logged,
    Static(Knobs),
    Stored(Box<Stored>),
}

async fn run(invocation: &Invocation) -> Result<Value> {
    let stored = store::found(&invocation.own, invocation.word("policy_id"), "/policy_id").await?;
    let mut window_us = window(invocation, LOG_DAYS)?;
    let is_open = invocation.arguments.get("window").is_none_or(|window| window["from"].is_null());
    if is_open {
        window_us.0 = window_us.0.max(stored.learned_until_us().min(window_us.1));
    }
    let has_learned_of = window_us.0 < stored.learned_until_us();
    let other = other(invocation, &stored).await?;
    let methods: Vec<Method> = invocation
        .list("method")
        .iter()
        .map(|name| Method::parse(name.as_str().unwrap_or_default()).map_err(refused))
        .collect::<Result<_>>()?;
    let which = Decisions { policy: stored.name.clone(), service: stored.scope.clone(), window_us };
    let log = log::read(&invocation.own, &which, stored.policy.space()).await?.map_err(refused)?;
    let number = |name: &str| invocation.arguments[name].as_u64().unwrap_or_default();
    let question = Question {
        objective: *stored.policy.objective(),
        price: stored.policy.price(),
        bootstrap: usize::try_from(number("bootstrap")).unwrap_or_default(),
        seed: number("seed"),
    };
    let against = match &other {
        Other::Logged => json!("logged"),
        Other::Static(_) => json!("static"),
        Other::Stored(other) => other.told(),
    };
    let (told, decisions) = (stored.told(), log.at_us.len());
    let evaluation = work(invocation, None, move |_| {
        let against = match &other {
            Other::Logged => Against::Logged,
            Other::Static(knobs) => Against::Static(*knobs),
            Other::Stored(other) => Against::Policy(&other.policy),
        };
        evaluate(&log.experience, &stored.policy, against, &question)
    })
    .await?;
    let mut answer = json!({
        "policy": told,
        "against": against,
        "window": { "from": rfc3339(window_us.0), "to": rfc3339(window_us.1) },
        "decisions": decisions,
        "has_learned_of_them": has_learned_of,
    });
    if let (Some(answer), Value::Object(found)) = (answer.as_object_mut(), evaluation_json(&evaluation, &methods)) {
        answer.extend(found);
    }
    Ok(answer)
}

async fn other(invocation: &Invocation, stored: &Stored) -> Result<Other> {
    let missing = |text: String| -> Error { Refusal::new(Refused::NotFound, text).at("/against").into() };
    match invocation.word("against") {
        "logged" => Ok(Other::Logged),
        "static" => {
            let knobs = knobs_of(&stored.metrics["tuned_static"]["knobs"]);
            let text = "the policy was trained from a log and has no tuned fixed rule: compare it with logged";
            knobs.map(Other::Static).ok_or_else(|| missing(text.to_owned()))
        }
        "active" => {
            let active = store::active(&invocation.own, &stored.name).await?;
            let text = format!("no version of policy \"{}\" is active: compare it with logged or static", stored.name);
            active.map(|active| Other::Stored(Box::new(active))).ok_or_else(|| missing(text))
        }
        id => Ok(Other::Stored(Box::new(store::found(&invocation.own, id, "/against").await?))),
    }
}

/// An evaluation as answers have it.
pub(crate) fn evaluation_json(evaluation: &Evaluation, methods: &[Method]) -> Value {
    let one = |method: &Method| {
        let estimate = evaluation.estimate(*method);
        // The direct method weighs nothing.
        let weighed = *method != Method::Dm;
        let told = json!({
            "value": estimate.value,
            "ci95": estimate.ci95,
            "ess": weighed.then_some(evaluation.effective_decisions),
            "max_weight": weighed.then_some(evaluation.weight_max),
        });
        (method.name().to_owned(), told)
    };
    json!({
        "estimates": methods.iter().map(one).collect::<Map<String, Value>>(),
        "baseline": { "value": evaluation.baseline.value, "ci95": evaluation.baseline.ci95 },
        "difference": { "value": evaluation.difference.value, "ci95": evaluation.difference.ci95 },
        "improvement_pct": evaluation.improvement_pct,
        "p_better": evaluation.p_better,
        "verdict": evaluation.verdict.name(),
        "overlap_warning": evaluation.overlap_warning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_are_those_of_judgement() {
        assert_eq!(METHODS.to_vec(), Method::ALL.map(Method::name).to_vec());
    }
}
