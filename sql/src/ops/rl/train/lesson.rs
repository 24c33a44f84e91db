//! One training with its judgement: what is learned from, what it gave, and how that did on what it was not trained on.
//!
//! **Invariant:** pure: the same lesson, settings and seed give the same policy and the same figures, bit for bit.

use serde_json::{Map, Value, json};

use crate::ops::rl::load::Load;
use crate::ops::rl::log::Log;
use crate::ops::rl::policy::Policy;
use crate::ops::rl::policy::evaluation::{Against, Method, Question, evaluate};
use crate::ops::rl::policy::experience::{DECISIONS_MIN, Experience};
use crate::ops::rl::policy::refusal::{Refusal, Result};
use crate::ops::rl::policy::simulator::Control;
use crate::ops::rl::policy::stability::of_members;
use crate::ops::rl::policy::train::{Environment, Settings, Step, Training, train};
use crate::ops::rl::scene::{Scene, Unit, knobs_json, lead};
use crate::session::rfc3339;

/// What is learned from.
#[derive(Debug)]
pub(super) enum Lesson {
    /// The load of a service that is simulated.
    Service(Load, Unit),
    /// So many days of a made load.
    Made(usize, Unit),
    /// Logged decisions.
    Log(Log),
}

/// What was learned.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) policy: Policy,
    pub(super) curve: Vec<Step>,
    /// How it was judged.
    pub(super) metrics: Value,
}

/// Learns and judges. The active policy is what a warm start begins with, and what the new one is compared with.
pub(super) fn learn(
    lesson: &Lesson,
    settings: &Settings,
    active: Option<&Policy>,
    warm_start: bool,
    wanted: &dyn Fn() -> bool,
) -> Result<Learned> {
    let first = active.filter(|_| warm_start);
    let max = settings.objective.violation_max;
    match lesson {
        Lesson::Service(load, unit) => {
            let scene = Scene::of(load, *unit, max, settings.seed)?;
            let mut learned = in_scene(&scene, settings, (first, active), wanted)?;
            learned.metrics["learned_until"] = rfc3339(load.epoch_us(scene.training.end)).into();
            Ok(learned)
        }
        Lesson::Made(days, unit) => {
            in_scene(&Scene::made(*days, *unit, max, settings.seed)?, settings, (first, active), wanted)
        }
        Lesson::Log(log) => from_log(log, settings, (first, active), wanted),
    }
}

/// What is known of a training before it is judged.
fn known(training: &Training, active: Option<&Policy>, seed: u64) -> Map<String, Value> {
    let steady = of_members(&training.policy, &training.states, seed).ok();
    let moved = active.and_then(|active| training.policy.divergence(active, &training.states).ok());
    let known = json!({
        "converged": training.converged,
        "stability_pct": steady.map(|steady| steady.percent),
        "kl_to_active": moved,
        "price": training.policy.price(),
    });
    known.as_object().cloned().unwrap_or_default()
}

fn in_scene(
    scene: &Scene,
    settings: &Settings,
    (first, active): (Option<&Policy>, Option<&Policy>),
    wanted: &dyn Fn() -> bool,
) -> Result<Learned> {
    let Scene { service, track, training, .. } = scene;
    let environment = Environment::Simulator { service, track, epochs: training.clone() };
    let training = train(&environment, settings, first, wanted)?;
    let (policy, objective, seed) = (&training.policy, &settings.objective, settings.seed);
    let missing = || Refusal::Parameter("the simulator tuned no fixed rule".to_owned());
    let fixed = training.tuned.ok_or_else(missing)?;
    // All are judged at the price at which the fixed rule is the best one within the budget.
    let price = fixed.price;
    let run = scene.follow(policy, None, |_, knobs| knobs)?.0;
    let (usual, tuned) = (scene.fixed(Control::DEFAULT)?, scene.fixed(Control::Knobs(fixed.knobs))?);
    let (over_usual, over_tuned) =
        (lead(&run, &usual, objective, price, seed)?, lead(&run, &tuned, objective, price, seed)?);
    let over_active = match active {
        Some(active) => {
            let base = scene.follow(active, None, |_, knobs| knobs)?.0;
            let lead = lead(&run, &base, objective, price, seed)?;
            json!({ "reward": base.reward(objective, price), "improvement_pct": lead.percent, "ci95": lead.ci95 })
        }
        None => Value::Null,
    };
    let mut metrics = known(&training, active, seed);
    let judged = json!({
        "judged_by": "simulator",
        "offline_value": run.reward(objective, price),
        "violation": run.violation,
        "baseline_reward": usual.reward(objective, price),
        "baseline_violation": usual.violation,
        "improvement_pct": over_usual.percent,
        "ci95": over_usual.ci95,
        "tuned_static": {
            "knobs": knobs_json(&fixed.knobs),
            "reward": tuned.reward(objective, price),
            "violation": tuned.violation,
            "improvement_pct": over_tuned.percent,
            "ci95": over_tuned.ci95,
        },
        "active": over_active,
        "simulated": scene.told(),
    });
    metrics.extend(judged.as_object().cloned().unwrap_or_default());
    Ok(finished(training, metrics))
}

/// The older two thirds of the log to learn from, and the rest to judge by, where both are long enough.
fn from_log(
    log: &Log,
    settings: &Settings,
    (first, active): (Option<&Policy>, Option<&Policy>),
    wanted: &dyn Fn() -> bool,
) -> Result<Learned> {
    let all = log.experience.decisions();
    let cut = all.len() - all.len() / 3;
    let is_judged = all.len() - cut >= DECISIONS_MIN;
    let space = first.map_or(&settings.space, Policy::space);
    let older = if is_judged { Experience::new(all[..cut].to_vec(), space)? } else { log.experience.clone() };
    let training = train(&Environment::Replay(&older), settings, first, wanted)?;
    let mut metrics = known(&training, active, settings.seed);
    let judged = match is_judged {
        false => Err(Refusal::InsufficientExperience(format!(
            "{} decisions are too few to keep some apart: nothing judges the policy",
            all.len()
        ))),
        true => Experience::new(all[cut..].to_vec(), space).and_then(|newer| {
            let objective = settings.objective;
            let question =
                Question { objective, price: training.policy.price(), bootstrap: 1_000, seed: settings.seed };
            evaluate(&newer, &training.policy, Against::Logged, &question)
        }),
    };
    let judged = match judged {
        Ok(evaluation) => {
            let value = evaluation.estimate(Method::Dr);
            let base = evaluation.baseline.value.abs().max(1e-9);
            json!({
                "judged_by": "dr",
                "offline_value": value.value,
                "baseline_reward": evaluation.baseline.value,
                "improvement_pct": evaluation.improvement_pct,
                "ci95": evaluation.difference.ci95.map(|bound| 100.0 * bound / base),
                "decisions": { "learned_from": cut, "judged_by": all.len() - cut },
            })
        }
        Err(refusal) => json!({
            "judged_by": null,
            "not_judged": refusal.to_string(),
            "decisions": { "learned_from": older.decisions().len(), "judged_by": 0 },
        }),
    };
    metrics.extend(judged.as_object().cloned().unwrap_or_default());
    // What judges the policy later leaves out what it has learned from.
    let last = log.at_us.get(older.decisions().len() - 1);
    metrics.insert("learned_until".to_owned(), last.map(|at_us| rfc3339(*at_us)).into());
    Ok(finished(training, metrics))
}

fn finished(training: Training, metrics: Map<String, Value>) -> Learned {
    Learned { policy: training.policy, curve: training.learning_curve, metrics: metrics.into() }
}
