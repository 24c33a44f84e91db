//! `operations_optimize`: what the knobs of a service's scaling rule should be, and what that brings on days that nothing was tuned on.
//!
//! The service is simulated under its own load; the newest third of the days judges. What decides is the active policy for it, or
//! where there is none the fixed rule tuned on the older days; it is held against the knobs that were logged last, or where none
//! were against Kubernetes' autoscaler at 70 %.
//!
//! **Invariant:** applies what it was asked to apply, and only what is better; the improvement of a proposal is not known before it
//! was measured, and is left empty.

mod answer;
pub(crate) mod applied;
pub(crate) mod trial;

use serde_json::{Value, json};

use crate::operation::{Component, Decision, Doing, Effect, Form, Kind, Lasts, Operation, Parameter, Refusal, Refused};
use crate::ops::governance::stored;
use crate::ops::rl::load::{AGG, Load, METRIC, ROWS, STEP, load};
use crate::ops::rl::policy::Policy;
use crate::ops::rl::policy::action::{ActionSpace, KNOB_NAMES, Knobs};
use crate::ops::rl::policy::comparison::Improvement;
use crate::ops::rl::policy::refusal as judged;
use crate::ops::rl::policy::reward::{COMPONENT_NAMES, Objective};
use crate::ops::rl::policy::simulator::{Control, Run};
use crate::ops::rl::policy::train::fixed::tuned;
use crate::ops::rl::request::{GOALS, WEIGHTS, WINDOW, objective, window};
use crate::ops::rl::scene::{Scene, UNIT, Unit, knobs_of, lead};
use crate::ops::rl::store::{self, Stored};
use crate::ops::rl::train::reward_json;
use crate::ops::rl::work::work;
use crate::role::Role;
use crate::session::Invocation;
use crate::{Error, Result};

/// The days of telemetry that are read where no window is given.
const LOAD_DAYS: i64 = 15;
/// Decides the noise of counting within a step of telemetry, and the resamples of days.
const SEED: u64 = 0;

const SCOPE: &[Parameter] =
    &[Parameter::new("service", Kind::Text, "The service: the value of the tag service.").required(), ROWS[0], ROWS[1]];
const CONSTRAINTS: &[Parameter] = &[
    Parameter::new(
        "slo",
        Kind::Number(0.5, 0.999_999),
        "The share of requests within capacity; that of the policy rl.",
    ),
    Parameter::new("min_replicas", Kind::Integer(1, 1_000_000), "The fewest replicas.").or("1"),
    Parameter::new("max_replicas", Kind::Integer(1, 1_000_000), "The most replicas.").or("1000"),
    Parameter::new(
        "max_change_pct",
        Kind::Number(0.1, 100.0),
        "How far one decision may move a knob, in percent of its range; change_pct of the policy rl.",
    ),
];

/// `POST /operations/optimize`.
pub(crate) const OPERATION: Operation = Operation {
    name: "operations_optimize",
    does: "Recommends knobs for the scaling rule of a service, with what they bring in a simulation of its own load.",
    parameters: &[
        Parameter::new("type", Kind::Choice(GOALS), "What is to be better.").required(),
        Parameter::new("scope", Kind::Object(SCOPE), "Of what.").required(),
        Parameter::new("objective_weights", Kind::Object(WEIGHTS), "How much each aim counts.").or("{}"),
        Parameter::new("constraints", Kind::Object(CONSTRAINTS), "What must be kept.").or("{}"),
        Parameter::new("window", Kind::Object(WINDOW), "Which telemetry; the last 15 days."),
        METRIC,
        AGG.or("\"sum\""),
        STEP.or("\"5m\""),
        Parameter::new("unit", Kind::Object(UNIT), "What is added and taken away.").or("{}"),
        Parameter::new(
            "evaluation",
            Kind::Choice(trial::EVALUATIONS),
            "How a proposal is judged: by a simulation of the days there are, in the shadow of the service by those of the next two days, or as a canary by what its share of the decisions of two days brings.",
        )
        .or("\"offline\""),
        Parameter::new(
            "apply",
            Kind::Boolean,
            "Whether knobs that are better are put in force, where a rule of scaling_autoscale takes them up; after the trial where there is one.",
        )
        .or("false"),
        Parameter::new("max_duration_s", Kind::Integer(1, 86_400), "It is given up after so many seconds.").or("600"),
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
        Refused::NotFound,
        Refused::NoTelemetry,
        Refused::InsufficientHistory,
        Refused::Concurrent,
        Refused::Conflict,
    ],
    decide: Some(decide),
    run: |invocation| Box::pin(run(invocation)),
};

/// What was asked, and what is in force.
struct Ask {
    service: String,
    objective: Objective,
    unit: Unit,
    change_pct: f64,
    load: Load,
    policy: Option<Stored>,
    in_force: Option<Knobs>,
}

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(async move {
        let service = invocation.arguments["scope"]["service"].as_str().unwrap_or_default();
        invocation.hold("optimization", service)?;
        whole(invocation)?;
        if invocation.flag("apply") {
            applied::check(&invocation.own, service, "/apply").await?;
        }
        trial::check(invocation, service).await?;
        let ask = ask(invocation).await?;
        let plan = json!({
            "scope": invocation.arguments["scope"],
            "objective": reward_json(&ask.objective),
            "max_change_pct": ask.change_pct,
            "telemetry": ask.load.told(),
            "decides": decides(&ask),
            "baseline": baseline(&ask),
            "apply": invocation.flag("apply"),
            "trial": trial::told(invocation),
        });
        Ok(Decision { plan, approval: None })
    })
}

/// Refuses to let knobs decide for a whole service that are found for a part of it.
fn whole(invocation: &Invocation) -> Result<()> {
    let scope = &invocation.arguments["scope"];
    let is_part =
        scope["namespace"].is_string() || scope["labels"].as_object().is_some_and(|labels| !labels.is_empty());
    let decides = invocation.flag("apply") || invocation.word("evaluation") == "canary";
    if is_part && decides {
        let text = "knobs are a whole service's: leave out namespace and labels, or neither apply them nor try them as a canary";
        return Err(Refusal::new(Refused::InvalidValue, text).at("/scope").into());
    }
    Ok(())
}

async fn ask(invocation: &Invocation) -> Result<Ask> {
    let arguments = &invocation.arguments;
    let constraints = &arguments["constraints"];
    let service = arguments["scope"]["service"].as_str().unwrap_or_default().to_owned();
    let violation = (constraints["slo"].as_f64().map(|slo| 1.0 - slo), "/constraints/slo");
    let objective = objective(invocation, invocation.word("type"), &arguments["objective_weights"], violation).await?;
    let rails = stored(&invocation.own, "rl").await?.policy;
    let most = rails.get("change_pct").and_then(Value::as_f64).unwrap_or_default();
    let change_pct = constraints["max_change_pct"].as_f64().unwrap_or(most);
    let refuse = |kind, text: String, at: &str| -> Error { Refusal::new(kind, text).at(at).into() };
    if change_pct > most {
        let text = format!("a change of {change_pct} % is more than the policy rl allows, {most} %: ask for less");
        return Err(refuse(Refused::PolicyDenied, text, "/constraints/max_change_pct"));
    }
    let count = |name: &str| constraints[name].as_f64().unwrap_or(1.0);
    let (min, max) = (count("min_replicas"), count("max_replicas"));
    if min > max {
        let text = format!("{min} replicas at least and {max} at most is none: raise max_replicas");
        return Err(refuse(Refused::InvalidValue, text, "/constraints/max_replicas"));
    }
    let unit = Unit { bounds: Some((min, max)), ..Unit::of(&arguments["unit"]) };
    let load = load(invocation, &service, window(invocation, LOAD_DAYS)?, "/scope/service").await?;
    let policy = store::active_for(&invocation.own, &service).await?;
    let last = "SELECT action FROM rl_experience WHERE service = $1 AND explored IS NOT TRUE ORDER BY at DESC, id DESC LIMIT 1";
    let last = invocation.own.objects(last, &[service.as_str().into()]).await?.pop();
    let in_force = last.and_then(|row| knobs_of(&row["action"]));
    Ok(Ask { service, objective, unit, change_pct, load, policy, in_force })
}

/// What decides, for answers.
fn decides(ask: &Ask) -> Value {
    match &ask.policy {
        Some(policy) => json!({ "by": "policy", "policy": policy.told() }),
        None => json!({
            "by": "tuned static rule",
            "reason": format!("no policy is active for \"{}\": train one and promote it", ask.service),
        }),
    }
}

/// What it is held against, for answers.
fn baseline(ask: &Ask) -> &'static str {
    match ask.in_force {
        Some(_) => "the knobs that were logged last",
        None => "an autoscaler at 70 %",
    }
}

/// What a simulation found.
struct Found {
    baseline: Run,
    proposed: Run,
    price: f64,
    lead: Improvement,
    new: Knobs,
    told: Value,
    /// When the days to judge by begin, in microseconds.
    from_us: i64,
}

/// Simulates what is in force and what is proposed, on the newer days.
fn simulated(
    (load, unit, objective, change_pct): (&Load, Unit, Objective, f64),
    policy: Option<&Policy>,
    in_force: Option<Knobs>,
) -> judged::Result<Found> {
    let scene = Scene::of(load, unit, objective.violation_max, SEED)?;
    let usual = ActionSpace::default();
    let space = policy.map_or(&usual, Policy::space);
    let fixed = tuned(&scene.service, &scene.track, scene.training.clone(), space, &objective)?;
    let baseline = scene.fixed(in_force.map_or(Control::DEFAULT, Control::Knobs))?;
    let moved = |old: &Knobs, new: Knobs| space.moved(old, new, change_pct);
    let (proposed, new) = match policy {
        Some(policy) => {
            let (run, last) = scene.follow(policy, in_force, moved)?;
            let next = in_force.map_or_else(|| policy.recommend(&last), |old| policy.recommend_after(&old, &last));
            (run, next)
        }
        None => {
            let knobs = in_force.map_or(fixed.knobs, |old| moved(&old, fixed.knobs));
            (scene.fixed(Control::Knobs(knobs))?, knobs)
        }
    };
    let lead = lead(&proposed, &baseline, &objective, fixed.price, SEED)?;
    let new = in_force.map_or(new, |old| moved(&old, new));
    let from_us = load.epoch_us(scene.held_out.start);
    Ok(Found { baseline, proposed, price: fixed.price, lead, new, told: scene.told(), from_us })
}

/// The measures of a run, means over its epochs.
fn metrics(run: &Run, objective: &Objective, price: f64) -> Value {
    let count = run.outcomes.len().max(1) as f64;
    let mean = |place: usize| run.outcomes.iter().map(|outcome| outcome.array()[place]).sum::<f64>() / count;
    let mut all: serde_json::Map<String, Value> =
        COMPONENT_NAMES.iter().enumerate().map(|(place, name)| ((*name).to_owned(), mean(place).into())).collect();
    // Over all requests and replicas, and not the mean of epochs.
    all.insert("cost".to_owned(), run.cost.into());
    all.insert("violation".to_owned(), run.violation.into());
    all.insert("reward".to_owned(), run.reward(objective, price).into());
    all.into()
}

async fn run(invocation: &Invocation) -> Result<Value> {
    let ask = ask(invocation).await?;
    invocation.progress(0.1).await?;
    let (load, policy) = (ask.load.clone(), ask.policy.as_ref().map(|stored| stored.policy.clone()));
    let (unit, objective, change_pct, in_force) = (ask.unit, ask.objective, ask.change_pct, ask.in_force);
    let limit_s = invocation.arguments["max_duration_s"].as_u64();
    let found = work(invocation, limit_s, move |wanted| {
        let found = simulated((&load, unit, objective, change_pct), policy.as_ref(), in_force)?;
        if wanted() { Ok(found) } else { Err(judged::Refusal::Stopped) }
    })
    .await?;
    invocation.progress(0.9).await?;
    let verdict = verdict(found.lead.ci95);
    // What a simulation leaves open a trial may settle.
    let is_tried = trial::is_wanted(invocation) && verdict != "worse";
    let recommended = if is_tried || verdict == "better" { recommended(&ask, &found) } else { Vec::new() };
    let is_tried = is_tried && !recommended.is_empty();
    // Somebody may have promoted a policy, or ended the scaling, while this was simulated.
    let is_applied = invocation.flag("apply") && !is_tried && !recommended.is_empty();
    if is_applied {
        applied::check(&invocation.own, &ask.service, "/apply").await?;
    }
    if is_applied || is_tried {
        trial::check(invocation, &ask.service).await?;
    }
    let mut answer = json!({
        "optimization_id": null,
        "scope": invocation.arguments["scope"],
        "decides": decides(&ask),
        "baseline": baseline(&ask),
        "telemetry": ask.load.told(),
        "simulated": found.told,
        "baseline_metrics": metrics(&found.baseline, &ask.objective, found.price),
        "proposed_metrics": metrics(&found.proposed, &ask.objective, found.price),
        "improvement_pct": found.lead.percent,
        "ci95": found.lead.ci95,
        "verdict": verdict,
        "rl_reward": found.proposed.reward(&ask.objective, found.price),
        "recommended": recommended,
        "warnings": warnings(&ask, found.from_us),
        "applied": is_applied,
        "trial": if is_tried { trial::told(invocation) } else { Value::Null },
    });
    if answer["recommended"].as_array().is_some_and(|knobs| !knobs.is_empty()) {
        let id = keep(invocation, &ask, found.price, &answer).await?;
        if is_applied {
            applied::apply(&invocation.own, &id, (&ask.service, &found.new), invocation.actor()).await?;
        }
        if is_tried {
            trial::begin(invocation, &id, &ask, &found).await?;
        }
        answer["optimization_id"] = id.into();
    }
    Ok(answer)
}

/// What an interval of an improvement says.
fn verdict([low, high]: [f64; 2]) -> &'static str {
    match (low > 0.0, high < 0.0) {
        (true, _) => "better",
        (_, true) => "worse",
        _ => "inconclusive",
    }
}

fn recommended(ask: &Ask, found: &Found) -> Vec<Value> {
    let by = ask.policy.as_ref().map_or_else(
        || "the fixed rule tuned on the older days".to_owned(),
        |policy| format!("policy \"{}\" version {}", policy.name, policy.version),
    );
    let evidence = format!(
        "{by}: {:+.1} % reward, 95 % within {:+.1} and {:+.1}, over {} on {:.1} days of its load",
        found.lead.percent,
        found.lead.ci95[0],
        found.lead.ci95[1],
        baseline(ask),
        found.told["held_out_days"].as_f64().unwrap_or_default()
    );
    let old = ask.in_force.map(|knobs| knobs.array());
    let one = |(knob, (name, new)): (usize, (&&str, f64))| {
        let old = old.map(|old| old[knob]);
        let is_new = old.is_none_or(|old| (old - new).abs() > 1e-9);
        is_new.then(|| json!({ "knob": name, "old": old, "new": new, "evidence": evidence }))
    };
    KNOB_NAMES.iter().zip(found.new.array()).enumerate().filter_map(one).collect()
}

/// What deserves caution about the policy that decides.
fn warnings(ask: &Ask, from_us: i64) -> Vec<String> {
    let Some(stored) = &ask.policy else { return Vec::new() };
    let (name, own) = (&stored.name, stored.policy.objective());
    let mut all = Vec::new();
    if *own != ask.objective {
        let goal = own.goal.name();
        all.push(format!("policy \"{name}\" was trained for another objective, of type {goal}"));
    }
    if stored.learned_until_us() > from_us {
        all.push(format!("policy \"{name}\" has learned from some of the days that it is judged by"));
    }
    all
}

/// Keeps a proposal in the history; its improvement is measured where it was applied, a day later.
async fn keep(invocation: &Invocation, ask: &Ask, price: f64, answer: &Value) -> Result<String> {
    let id = invocation.new_id();
    let parameters = json!({
        "service": ask.service,
        "scope": answer["scope"],
        "objective": reward_json(&ask.objective),
        "decides": answer["decides"],
        "baseline": answer["baseline"],
        "recommended": answer["recommended"],
        "expected": { "improvement_pct": answer["improvement_pct"], "ci95": answer["ci95"] },
        "price": price,
        "applied": answer["applied"],
        "trial": answer["trial"],
        "requested_by": invocation.actor(),
    });
    let insert = "INSERT INTO optimization_history (id, timestamp, optimization_type, parameters, baseline_metrics, \
                  optimized_metrics, rl_reward) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = [
        id.clone().into(),
        invocation.now().into(),
        invocation.word("type").into(),
        parameters,
        answer["baseline_metrics"].clone(),
        answer["proposed_metrics"].clone(),
        format!("{:.4}", answer["rl_reward"].as_f64().unwrap_or_default()).into(),
    ];
    invocation.own.changed_rows(insert, &values).await?;
    Ok(id)
}
