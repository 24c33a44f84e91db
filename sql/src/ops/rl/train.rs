//! `rl_train`: learns a policy in the simulator or from logged decisions, judges it by what it was not trained on, and stores it.
//!
//! **Invariant:** a policy follows from its arguments and from the rows that it reads, bit by bit: no clock and no load of the
//! machine has a part in it.

pub(crate) mod answer;
mod lesson;

use serde_json::{Value, json};

use self::lesson::{Learned, Lesson, learn};
use super::load::{AGG, METRIC, STEP, load};
use super::log::{self, Decisions};
use super::policy::Algorithm;
use super::policy::experience::DECISIONS_MIN;
use super::policy::reward::Objective;
use super::policy::stage::Stage;
use super::policy::train::Settings;
use super::promote::{Verdict, judge};
use super::request::{GOALS, WEIGHTS, WINDOW, objective, window};
use super::scene::{UNIT, Unit};
use super::store::{self, Fresh, Stored};
use super::work::{refused, work};
use crate::operation::{Component, Decision, Doing, Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused};
use crate::role::Role;
use crate::session::Invocation;
use crate::{Error, Result};

/// The longest name of a policy, in characters.
const NAME_CHARS_MAX: usize = 63;
/// The days of telemetry and of logged decisions that are read where no window is given.
const LOAD_DAYS: i64 = 15;
pub(crate) const LOG_DAYS: i64 = 30;

const ALGORITHMS: &[&str] = &["ppo", "a2c", "linucb", "thompson", "es"];
const BUDGET: &[Parameter] = &[
    Parameter::new("steps", Kind::Integer(1, 100_000_000), "Decisions to try for each member; by algorithm."),
    Parameter::new("wall_s", Kind::Integer(1, 86_400), "The training is given up after so many seconds.").or("3600"),
];
const HYPERPARAMETERS: &[Parameter] = &[
    Parameter::new("learning_rate", Kind::Number(1e-9, 1.0), "Of ppo and a2c; RL_LEARNING_RATE where it is left out."),
    Parameter::new(
        "discount",
        Kind::Number(0.0, 0.999_999),
        "What a reward counts an epoch later, of ppo and a2c; RL_REWARD_DISCOUNT where it is left out.",
    ),
    Parameter::new(
        "exploration_rate",
        Kind::Number(0.0, 1.0),
        "How much is tried; RL_EXPLORATION_RATE where it is left out.",
    ),
    Parameter::new("members", Kind::Integer(1, 32), "Networks, each of its own seed, whose mean is the policy.")
        .or("5"),
    Parameter::new("divergence_max", Kind::Number(1e-6, 100.0), "With warm_start: how far it may go, in nats.")
        .or("0.5"),
];
const CONSTRAINT: &[Parameter] = &[
    Parameter::new(
        "metric",
        Kind::Choice(&["sla_violation"]),
        "What is bounded: the share of requests without capacity.",
    )
    .or("\"sla_violation\""),
    Parameter::new("max", Kind::Number(1e-6, 0.5), "The most of it; that of the policy rl where it is left out."),
];
const REWARD: &[Parameter] = &[
    Parameter::new("type", Kind::Choice(GOALS), "Which measures count.").or("\"balanced\""),
    Parameter::new("weights", Kind::Object(WEIGHTS), "How much each aim counts.").or("{}"),
    Parameter::new("constraint", Kind::Object(CONSTRAINT), "What must be kept.").or("{}"),
];

/// `POST /rl/train`.
pub(crate) const OPERATION: Operation = Operation {
    name: "rl_train",
    does: "Trains a policy for the knobs of the scaling rule, judges it by what it was not trained on, and stores it.",
    parameters: &[
        Parameter::new("policy", Kind::Text, "The name; each training adds a version.").required(),
        Parameter::new("algorithm", Kind::Choice(ALGORITHMS), "How it learns.").or("\"es\""),
        Parameter::new(
            "environment",
            Kind::Choice(&["simulator", "replay"]),
            "What it learns from: a simulated service, or logged decisions.",
        )
        .or("\"simulator\""),
        Parameter::new("service", Kind::Text, "Whose policy it is and whose load is simulated; a made load without."),
        METRIC,
        AGG.or("\"sum\""),
        STEP.or("\"5m\""),
        Parameter::new("days", Kind::Integer(4, 60), "Days of the made load, where no service is named.").or("12"),
        Parameter::new("unit", Kind::Object(UNIT), "What is added and taken away.").or("{}"),
        Parameter::new("window", Kind::Object(WINDOW), "Which telemetry or decisions; the last 15 or 30 days."),
        Parameter::new("seed", Kind::Integer(0, i64::MAX), "Decides all that is drawn.").or("0"),
        Parameter::new("budget", Kind::Object(BUDGET), "How much is tried.").or("{}"),
        Parameter::new("hyperparameters", Kind::Object(HYPERPARAMETERS), "How it learns.").or("{}"),
        Parameter::new("reward", Kind::Object(REWARD), "What is to be reached.").or("{}"),
        Parameter::new("warm_start", Kind::Boolean, "Whether it starts from the active version, where there is one.")
            .or("false"),
        Parameter::new(
            "promote",
            Kind::Choice(&["never", "shadow", "if_better"]),
            "What becomes of it: a candidate, a shadow, or active where logged decisions show that it is better.",
        )
        .or("\"never\""),
    ],
    role: Role::Operator,
    effect: Effect::Changes,
    component: Some(Component::Rl),
    lasts: Lasts::Long,
    matched: false,
    answers: Form::Object(answer::ANSWER),
    plans: answer::PLAN,
    refuses: &[
        Refused::InvalidValue,
        Refused::PolicyDenied,
        Refused::Concurrent,
        Refused::NotFound,
        Refused::NoTelemetry,
        Refused::InsufficientHistory,
        Refused::InsufficientExperience,
    ],
    decide: Some(decide),
    run: |invocation| Box::pin(run(invocation)),
};

/// How it was asked to train.
struct Ask {
    name: String,
    is_replay: bool,
    settings: Settings,
    wall_s: u64,
    window_us: (i64, i64),
}

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(async move {
        let ask = ask(invocation).await?;
        invocation.hold("training", &ask.name)?;
        let Settings { algorithm, objective, seed, .. } = ask.settings;
        let mut plan = json!({
            "policy": ask.name,
            "algorithm": algorithm.name(),
            "environment": invocation.word("environment"),
            "seed": seed,
            "hyperparameters": hyperparameters(&ask.settings),
            "reward": reward_json(&objective),
        });
        let told = match (ask.is_replay, invocation.text("service")) {
            (true, _) => {
                let decisions = log::count(&invocation.own, &decisions(invocation, &ask)).await?;
                if decisions < DECISIONS_MIN {
                    let text = format!(
                        "policy \"{}\" has {decisions} logged decisions with outcomes in the window and needs {} more",
                        ask.name,
                        DECISIONS_MIN - decisions
                    );
                    return Err(Refusal::new(Refused::InsufficientExperience, text).at("/window").into());
                }
                json!({ "decisions": decisions })
            }
            (false, Some(service)) => load(invocation, service, ask.window_us, "/service").await?.told(),
            (false, None) => json!({ "made_days": invocation.arguments["days"] }),
        };
        plan["learns_from"] = told;
        Ok(Decision { plan, approval: None })
    })
}

async fn ask(invocation: &Invocation) -> Result<Ask> {
    let refuse = |text: String, at: &str| -> Error { Refusal::new(Refused::InvalidValue, text).at(at).into() };
    let name = invocation.word("policy").to_owned();
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(refuse(format!("a policy's name has {NAME_CHARS_MAX} characters at most"), "/policy"));
    }
    let algorithm = Algorithm::parse(invocation.word("algorithm")).map_err(refused)?;
    let is_replay = invocation.word("environment") == "replay";
    if is_replay && !matches!(algorithm, Algorithm::LinUcb | Algorithm::Thompson) {
        let text = format!(
            "{} has to try what it learns and cannot learn from a log: use linucb or thompson, or the simulator",
            algorithm.name()
        );
        return Err(refuse(text, "/algorithm"));
    }
    let reward = &invocation.arguments["reward"];
    let max = (reward["constraint"]["max"].as_f64(), "/reward/constraint/max");
    let aim = objective(invocation, reward["type"].as_str().unwrap_or("balanced"), &reward["weights"], max).await?;
    let number = |name: &str, or: f64| invocation.arguments["hyperparameters"][name].as_f64().unwrap_or(or);
    let whole = |object: &str, name: &str| {
        invocation.arguments[object][name].as_u64().and_then(|number| usize::try_from(number).ok())
    };
    let seed = invocation.arguments["seed"].as_u64().unwrap_or_default();
    let usual = Settings::new(algorithm, aim, seed);
    let settings = Settings {
        members: whole("hyperparameters", "members").unwrap_or(usual.members),
        steps: whole("budget", "steps").unwrap_or(usual.steps),
        learning_rate: number("learning_rate", invocation.settings.rl_learning_rate),
        discount: number("discount", invocation.settings.rl_reward_discount),
        exploration_rate: number("exploration_rate", invocation.settings.rl_exploration_rate),
        divergence_max: number("divergence_max", usual.divergence_max),
        ..usual
    };
    settings.check().map_err(refused)?;
    let window_us = window(invocation, if is_replay { LOG_DAYS } else { LOAD_DAYS })?;
    let wall_s = invocation.arguments["budget"]["wall_s"].as_u64().unwrap_or_default();
    Ok(Ask { name, is_replay, settings, wall_s, window_us })
}

fn decisions(invocation: &Invocation, ask: &Ask) -> Decisions {
    let service = invocation.text("service").map(str::to_owned);
    Decisions { policy: ask.name.clone(), service, window_us: ask.window_us }
}

fn hyperparameters(settings: &Settings) -> Value {
    json!({
        "seed": settings.seed,
        "steps": settings.steps,
        "members": settings.members,
        "learning_rate": settings.learning_rate,
        "discount": settings.discount,
        "exploration_rate": settings.exploration_rate,
        "divergence_max": settings.divergence_max,
    })
}

/// What a policy is to reach, as answers have it.
pub(crate) fn reward_json(objective: &Objective) -> Value {
    json!({
        "type": objective.goal.name(),
        "weights": {
            "performance": objective.weights.performance,
            "cost": objective.weights.cost,
            "reliability": objective.weights.reliability,
        },
        "constraint": { "metric": "sla_violation", "max": objective.violation_max },
    })
}

async fn run(invocation: &Invocation) -> Result<Value> {
    let clock = invocation.own.db().system().clock();
    let began_us = clock.monotonic_us();
    let ask = ask(invocation).await?;
    let active = store::active(&invocation.own, &ask.name).await?;
    let lesson = lesson(invocation, &ask, active.as_ref()).await?;
    invocation.progress(0.1).await?;
    let (settings, current) = (ask.settings.clone(), active.as_ref().map(|active| active.policy.clone()));
    let warm_start = invocation.flag("warm_start");
    let learned = work(invocation, Some(ask.wall_s), move |wanted| {
        learn(&lesson, &settings, current.as_ref(), warm_start, wanted)
    })
    .await?;
    invocation.progress(0.9).await?;
    let parent = active.as_ref().filter(|_| warm_start);
    let mut metrics = learned.metrics.clone();
    if let Some(active) = &active
        && metrics["active"].is_object()
    {
        metrics["active"]["id"] = active.id.as_str().into();
    }
    let fresh = Fresh {
        name: &ask.name,
        scope: invocation.text("service"),
        policy: &learned.policy,
        hyperparameters: hyperparameters(&ask.settings),
        reward: reward_json(&ask.settings.objective),
        parent: parent.map(|parent| parent.id.as_str()),
        metrics,
    };
    let id = store::insert(invocation, fresh).await?;
    let reasons = promote(invocation, &id, active.as_ref()).await?;
    let stored = store::found(&invocation.own, &id, "/policy").await?;
    let took_s = (clock.monotonic_us() - began_us) as f64 / 1e6;
    Ok(answer(&ask, &stored, &learned, (reasons, took_s)))
}

/// What is learned from.
async fn lesson(invocation: &Invocation, ask: &Ask, active: Option<&Stored>) -> Result<Lesson> {
    if ask.is_replay {
        let space = match active {
            Some(active) if invocation.flag("warm_start") => active.policy.space(),
            _ => &ask.settings.space,
        };
        let log = log::read(&invocation.own, &decisions(invocation, ask), space).await?.map_err(refused)?;
        return Ok(Lesson::Log(log));
    }
    let unit = Unit::of(&invocation.arguments["unit"]);
    match invocation.text("service") {
        Some(service) => Ok(Lesson::Service(load(invocation, service, ask.window_us, "/service").await?, unit)),
        None => {
            let days = invocation.arguments["days"].as_u64().unwrap_or_default();
            Ok(Lesson::Made(usize::try_from(days).unwrap_or_default(), unit))
        }
    }
}

/// Promotes a new version as far as was asked for and is deserved; what stood against more.
async fn promote(invocation: &Invocation, id: &str, active: Option<&Stored>) -> Result<Vec<String>> {
    let wish = invocation.word("promote");
    if wish == "never" {
        return Ok(Vec::new());
    }
    let stored = store::found(&invocation.own, id, "/policy").await?;
    if wish == "shadow" {
        store::restage(invocation, &[(&stored, Stage::Shadow)], None).await?;
        return Ok(Vec::new());
    }
    let judgement = judge(invocation, &stored, active).await?;
    match (judgement.verdict, active) {
        (Verdict::Allow, Some(old)) => {
            let moves = [(old, Stage::Retired), (&stored, Stage::Active)];
            store::restage(invocation, &moves, Some(&old.id)).await?;
        }
        (Verdict::Allow, None) => store::restage(invocation, &[(&stored, Stage::Active)], None).await?,
        // Only the simulator speaks for it: it may decide beside the service.
        (Verdict::Ask, _) => store::restage(invocation, &[(&stored, Stage::Shadow)], None).await?,
        (Verdict::Deny, _) => {}
    }
    Ok(judgement.reasons)
}

fn answer(ask: &Ask, stored: &Stored, learned: &Learned, (reasons, took_s): (Vec<String>, f64)) -> Value {
    let curve = learned
        .curve
        .iter()
        .map(|step| json!({ "step": step.step, "reward": step.reward, "violation": step.violation }));
    let mut answer = stored.metrics.as_object().cloned().unwrap_or_default();
    let more = json!({
        "policy_id": stored.id,
        "policy": stored.name,
        "version": stored.version,
        "state": stored.stage.name(),
        "etag": stored.etag(),
        "checksum": store::checksum(&stored.policy.to_bytes()),
        "algorithm": ask.settings.algorithm.name(),
        "environment": if ask.is_replay { "replay" } else { "simulator" },
        "learning_curve": curve.collect::<Vec<_>>(),
        "seeds": ask.settings.members,
        "promotion": { "state": stored.stage.name(), "reasons": reasons },
        "took_s": took_s,
        "backend": "cpu",
    });
    if let Value::Object(more) = more {
        answer.extend(more);
    }
    answer.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algorithms_are_those_of_judgement() {
        assert_eq!(ALGORITHMS.to_vec(), Algorithm::ALL.map(Algorithm::name).to_vec());
    }
}
