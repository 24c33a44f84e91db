//! Recommended knobs on trial for two days: in the shadow of the service, where they decide nothing, or as a canary.
//!
//! A shadow is judged by the load that came after it had begun, simulated with its knobs and with those in force. A canary decides a share of
//! the service's quarters of an hour, as `scaling_autoscale` draws them; each is held against the mean of the decisions next to it on
//! both sides, as their load is alike.
//!
//! **Invariant:** what judges came after the proposal, so nothing of it was tuned on; a trial is judged once.

use serde_json::{Map, Value, json};

use super::applied;
use super::{Ask, Found, LOAD_DAYS, SEED, verdict};
use crate::operation::{Refusal, Refused, duration_us, time_us};
use crate::ops::rl::load::read;
use crate::ops::rl::policy::action::Knobs;
use crate::ops::rl::policy::comparison::{Improvement, of_pairs};
use crate::ops::rl::policy::reward::Objective;
use crate::ops::rl::policy::simulator::Control;
use crate::ops::rl::scene::{Scene, Unit, knobs_json, knobs_of, lead};
use crate::ops::rl::work::refused;
use crate::session::{Invocation, Session, blocking, rfc3339};
use crate::{Error, Result};

const DAY_US: i64 = 86_400_000_000;
/// How long a trial takes.
const TRIAL_US: i64 = 2 * DAY_US;
/// A canary must have decided so often.
const DECISIONS_MIN: usize = 8;
/// Decisions of others this near to one of a canary are held against it.
const NEAR_US: i64 = 2 * 900_000_000;

/// What a request may ask for.
pub(super) const EVALUATIONS: &[&str] = &["offline", "shadow", "canary"];

/// Whether a request asks for a trial.
pub(super) fn is_wanted(invocation: &Invocation) -> bool {
    invocation.word("evaluation") != "offline"
}

/// Refuses what would begin a trial, or put knobs in force, where one of the service is under way; and a canary that nothing would
/// let decide.
pub(super) async fn check(invocation: &Invocation, service: &str) -> Result<()> {
    if !is_wanted(invocation) && !invocation.flag("apply") {
        return Ok(());
    }
    let running = "SELECT evaluation, ends_at FROM juno_optimization_trials WHERE service = $1 AND state = 'running'";
    if let Some(row) = invocation.own.objects(running, &[service.into()]).await?.pop() {
        let (evaluation, ends_at) = (row["evaluation"].as_str(), row["ends_at"].as_str());
        let text = format!(
            "knobs of \"{service}\" are on trial ({}) until {}: wait for it, or end it by calling scaling_autoscale anew",
            evaluation.unwrap_or_default(),
            ends_at.unwrap_or_default()
        );
        let at = if is_wanted(invocation) { "/evaluation" } else { "/apply" };
        return Err(Refusal::new(Refused::Conflict, text).at(at).into());
    }
    match invocation.word("evaluation") {
        "canary" => applied::check(&invocation.own, service, "/evaluation").await,
        _ => Ok(()),
    }
}

/// Begins one; what is told of it.
pub(super) async fn begin(invocation: &Invocation, id: &str, ask: &Ask, found: &Found) -> Result<()> {
    let insert = "INSERT INTO juno_optimization_trials (optimization_id, service, evaluation, state, knobs, in_force, \
                  request, requested_by, began_at, ends_at) VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8, $9)";
    let values = [
        id.into(),
        ask.service.as_str().into(),
        invocation.word("evaluation").into(),
        knobs_json(&found.new),
        ask.in_force.as_ref().map_or(Value::Null, knobs_json),
        Value::Object(invocation.arguments.clone()),
        invocation.actor().into(),
        invocation.now().into(),
        rfc3339(invocation.now_us() + TRIAL_US).into(),
    ];
    invocation.own.changed_rows(insert, &values).await.map(drop)
}

/// A trial, for answers.
pub(super) fn told(invocation: &Invocation) -> Value {
    match is_wanted(invocation) {
        true => json!({
            "evaluation": invocation.word("evaluation"),
            "state": "running",
            "began_at": invocation.now(),
            "ends_at": rfc3339(invocation.now_us() + TRIAL_US),
        }),
        false => Value::Null,
    }
}

/// The knobs that a canary of the service decides with, where one is under way.
pub(crate) async fn canary(own: &Session, service: &str, now_us: i64) -> Result<Option<Knobs>> {
    let sql = "SELECT knobs FROM juno_optimization_trials WHERE service = $1 AND evaluation = 'canary' \
               AND state = 'running' AND ends_at > $2";
    let row = own.objects(sql, &[service.into(), rfc3339(now_us).into()]).await?.pop();
    Ok(row.and_then(|row| knobs_of(&row["knobs"])))
}

/// Ends the trials of a service.
pub(crate) async fn end(own: &Session, service: &str) -> Result<()> {
    let update = "UPDATE juno_optimization_trials SET state = 'ended' WHERE service = $1 AND state = 'running'";
    own.changed_rows(update, &[service.into()]).await.map(drop)
}

/// Judges the trials that are over, and puts in force what was to be applied if it is better; how many were judged.
///
/// # Errors
/// Where juno's own tables cannot be read or written.
pub async fn conclude_trials(own: &Session) -> Result<usize> {
    let now_us = own.db().system().clock().now_us();
    let due = "SELECT t.*, h.parameters FROM juno_optimization_trials t LEFT JOIN optimization_history h ON h.id = t.optimization_id \
               WHERE t.state = 'running' AND t.ends_at < $1 ORDER BY t.ends_at LIMIT 100";
    let due = own.objects(due, &[rfc3339(now_us - 3 * applied::LATE_US).into()]).await?;
    let mut failed = None;
    for row in &due {
        let concluded = match Trial::of(row) {
            Ok(trial) => trial.conclude(own).await,
            Err(error) => Err(error),
        };
        if let Err(error) = concluded {
            // One that cannot be judged keeps no other from it, and its service from no other trial.
            if let Some(id) = row["optimization_id"].as_str() {
                claim(own, id, "unknown").await?;
            }
            failed = failed.or(Some(error));
        }
    }
    failed.map_or(Ok(due.len()), Err)
}

/// Ends a running trial; whether it was still running.
async fn claim(own: &Session, id: &str, state: &str) -> Result<bool> {
    let update = "UPDATE juno_optimization_trials SET state = $2 WHERE optimization_id = $1 AND state = 'running'";
    Ok(own.changed_rows(update, &[id.into(), state.into()]).await? > 0)
}

/// One that is over.
struct Trial<'a> {
    id: &'a str,
    service: &'a str,
    evaluation: &'a str,
    requested_by: &'a str,
    knobs: Knobs,
    in_force: Option<Knobs>,
    request: &'a Map<String, Value>,
    parameters: &'a Value,
    objective: Objective,
    price: f64,
    began_us: i64,
    ends_us: i64,
}

impl<'a> Trial<'a> {
    fn of(row: &'a Map<String, Value>) -> Result<Self> {
        let text = |name: &str| row[name].as_str();
        let read = || {
            let parameters = &row["parameters"];
            Some(Self {
                id: text("optimization_id")?,
                service: text("service")?,
                evaluation: text("evaluation")?,
                requested_by: text("requested_by")?,
                knobs: knobs_of(&row["knobs"])?,
                in_force: knobs_of(&row["in_force"]),
                request: row["request"].as_object()?,
                objective: applied::objective(&parameters["objective"]),
                price: parameters["price"].as_f64()?,
                parameters,
                began_us: text("began_at").and_then(time_us)?,
                ends_us: text("ends_at").and_then(time_us)?,
            })
        };
        read().ok_or_else(|| Error::Corrupt("a row of juno_optimization_trials cannot be read".to_owned()))
    }

    async fn conclude(&self, own: &Session) -> Result<()> {
        let judged = match self.evaluation {
            "canary" => self.decided(own).await,
            _ => self.shadowed(own).await,
        };
        let mut told = json!({ "evaluation": self.evaluation, "began_at": rfc3339(self.began_us), "ended_at": rfc3339(self.ends_us) });
        let state = match judged {
            Ok(lead) => {
                told["improvement_pct"] = lead.percent.into();
                told["ci95"] = json!(lead.ci95);
                verdict(lead.ci95)
            }
            Err(Error::Refused(refusal)) => {
                told["unknown"] = refusal.detail.into();
                "unknown"
            }
            Err(error) => return Err(error),
        };
        told["state"] = state.into();
        // Whoever declared the service anew meanwhile has ended it.
        if !claim(own, self.id, state).await? {
            return Ok(());
        }
        let mut parameters = self.parameters.clone();
        if state == "better" && self.request.get("apply") == Some(&Value::Bool(true)) {
            match applied::check(own, self.service, "/apply").await {
                Ok(()) => {
                    applied::apply(own, self.id, (self.service, &self.knobs), self.requested_by).await?;
                    parameters["applied"] = true.into();
                    parameters["applied_at"] = own.now().into();
                }
                Err(Error::Refused(refusal)) => told["not_applied"] = refusal.detail.into(),
                Err(error) => return Err(error),
            }
        }
        tracing::info!(service = self.service, evaluation = self.evaluation, state, "a trial of knobs is over");
        parameters["trial"] = told;
        let update = "UPDATE optimization_history SET parameters = $2 WHERE id = $1";
        own.changed_rows(update, &[self.id.into(), parameters]).await.map(drop)
    }

    /// What the load since the begin would have been worth.
    async fn shadowed(&self, own: &Session) -> Result<Improvement> {
        // What begins within the last step is not whole yet.
        let step_us = self.request.get("step").and_then(Value::as_str).and_then(duration_us).unwrap_or_default();
        let window = (self.ends_us - LOAD_DAYS * DAY_US, self.ends_us + applied::LATE_US.max(step_us));
        let load = read(own, self.request, self.service, window, "/scope/service").await?;
        let constraint = |name: &str| self.request.get("constraints").and_then(|all| all[name].as_f64());
        let bounds = constraint("min_replicas").unwrap_or(1.0).max(1.0);
        let bounds = Some((bounds, constraint("max_replicas").unwrap_or(1_000.0)));
        let unit = Unit { bounds, ..Unit::of(self.request.get("unit").unwrap_or(&Value::Null)) };
        let (objective, price, began_us) = (self.objective, self.price, self.began_us);
        let (knobs, usual) = (self.knobs, self.in_force.map_or(Control::DEFAULT, Control::Knobs));
        blocking(move || {
            let judge = || {
                let scene = Scene::since(&load, unit, objective.violation_max, SEED, began_us)?;
                lead(&scene.fixed(Control::Knobs(knobs))?, &scene.fixed(usual)?, &objective, price, SEED)
            };
            judge().map_err(refused)
        })
        .await
    }

    /// What its decisions brought.
    async fn decided(&self, own: &Session) -> Result<Improvement> {
        let sql = "SELECT at, explored, outcome FROM rl_experience WHERE service = $1 AND policy_id IS NULL AND at >= $2 \
                   AND at < $3 AND outcome IS NOT NULL ORDER BY at";
        let values = [self.service.into(), rfc3339(self.began_us).into(), rfc3339(self.ends_us).into()];
        let rows = own.objects(sql, &values).await?;
        let decision = |row: &Map<String, Value>| {
            let reward = self.objective.reward(&applied::components(&row["outcome"])?, self.price);
            Some((row["at"].as_str().and_then(time_us)?, row["explored"] == true, reward))
        };
        let decisions: Vec<(i64, bool, f64)> = rows.iter().filter_map(decision).collect();
        against_neighbours(&decisions).ok_or_else(|| {
            let own = decisions.iter().filter(|(_, explored, _)| *explored).count();
            let text = format!(
                "{own} decisions of the canary have an outcome, and it needs {DECISIONS_MIN} with others beside them"
            );
            Refusal::new(Refused::InsufficientExperience, text).into()
        })
    }
}

/// How much more the explored decisions brought than those next to them, in percent of these; none where they are too few. A decision
/// is its time, whether it is an explored one, and its reward.
fn against_neighbours(decisions: &[(i64, bool, f64)]) -> Option<Improvement> {
    let near =
        |(at_us, ..): &(i64, bool, f64), other: &&(i64, bool, f64)| !other.1 && (other.0 - at_us).abs() <= NEAR_US;
    let pair = |(place, own): (usize, &(i64, bool, f64))| {
        let before = decisions[..place].iter().rev().find(|other| near(own, other)).map(|other| other.2);
        let after = decisions[place + 1..].iter().find(|other| near(own, other)).map(|other| other.2);
        let usual = match (before, after) {
            (Some(before), Some(after)) => (before + after) / 2.0,
            (one, other) => one.or(other)?,
        };
        Some((own.2, usual))
    };
    let pairs: Vec<(f64, f64)> =
        decisions.iter().enumerate().filter(|(_, decision)| decision.1).filter_map(pair).collect();
    if pairs.len() < DECISIONS_MIN {
        return None;
    }
    Some(of_pairs(&pairs, SEED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::actuator::fake::{World, refusal};
    use crate::ops::operations::optimize::OPERATION;
    use crate::ops::operations::optimize::applied::tests::{optimized, scaled, world};
    use crate::ops::rl::rule::Rule;
    use crate::ops::scaling::autoscale;
    use crate::role::Role;

    const ADA: (&str, Role) = ("ada", Role::Responder);

    fn body(evaluation: &str) -> Value {
        json!({
            "type": "cost", "scope": { "service": "shop" }, "metric": "traffic.requests", "apply": true, "evaluation": evaluation,
        })
    }

    /// Lets a trial have begun so long ago that it is over.
    async fn let_pass(world: &World) -> (i64, i64) {
        let ends_us = world.own.db().system().clock().now_us() - 4 * applied::LATE_US;
        let update = "UPDATE juno_optimization_trials SET began_at = $1, ends_at = $2";
        let (began, ends) = (rfc3339(ends_us - TRIAL_US), rfc3339(ends_us));
        world.own.changed_rows(update, &[began.into(), ends.into()]).await.unwrap();
        (ends_us - TRIAL_US, ends_us)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_shadow_is_judged_by_later_days_and_then_put_in_force() {
        let world = world().await;
        world.ask(&autoscale::OPERATION, ADA, scaled()).await.unwrap();
        let told = optimized(&world, body("shadow")).await;
        assert_eq!((&told["applied"], &told["trial"]["state"]), (&json!(false), &json!("running")), "{told:#}");
        assert_eq!(conclude_trials(&world.own).await.unwrap(), 0, "it has only begun");
        assert_eq!(refusal(world.ask(&OPERATION, ADA, body("canary")).await), Refused::Conflict, "one at a time");
        assert_eq!(
            refusal(world.ask(&OPERATION, ADA, body("offline")).await),
            Refused::Conflict,
            "it would be applied"
        );
        let mut part = body("canary");
        part["scope"]["labels"] = json!({ "service": "shop" });
        assert_eq!(refusal(world.ask(&OPERATION, ADA, part).await), Refused::InvalidValue, "a part of the service");
        assert_eq!(canary(&world.own, "shop", 0).await.unwrap(), None, "it decides nothing");
        let_pass(&world).await;
        assert_eq!(conclude_trials(&world.own).await.unwrap(), 1);
        assert_eq!(conclude_trials(&world.own).await.unwrap(), 0, "once");
        let row = world.row("SELECT parameters FROM optimization_history").await;
        let trial = &row["parameters"]["trial"];
        assert_eq!(trial["state"], "better", "{row:#?}");
        assert!(trial["ci95"][0].as_f64().unwrap() > 0.0 && trial["improvement_pct"].as_f64().unwrap() > 0.0);
        assert_eq!(row["parameters"]["applied"], true);
        let set = world.row("SELECT * FROM juno_scaling_knobs").await;
        assert_eq!((&set["optimization_id"], &set["applied_by"]), (&told["optimization_id"], &json!("ada")));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_canary_decides_a_share_and_is_judged_by_it() {
        let world = world().await;
        assert_eq!(refusal(world.ask(&OPERATION, ADA, body("canary")).await), Refused::Conflict, "nothing scales it");
        world.ask(&autoscale::OPERATION, ADA, scaled()).await.unwrap();
        let told = optimized(&world, body("canary")).await;
        assert_eq!(told["trial"]["evaluation"], "canary", "{told:#}");
        let now_us = world.own.db().system().clock().now_us();
        let knobs = canary(&world.own, "shop", now_us).await.unwrap().expect("it decides");
        let first = &told["recommended"][0];
        assert_eq!(knobs_json(&knobs)[first["knob"].as_str().unwrap()], first["new"]);
        assert_eq!(canary(&world.own, "shop", now_us + 2 * TRIAL_US).await.unwrap(), None, "not for ever");
        let (began_us, _) = let_pass(&world).await;
        for epoch in 0..192i64 {
            let explored = epoch % 10 == 3;
            let cost = if explored { 0.3 } else { 0.2 } + 0.001 * epoch as f64;
            let outcome =
                json!({ "cost": cost, "idle": 0.0, "violation": 0.0, "slow": 0.0, "latency": 0.0, "churn": 0.0 });
            let insert = "INSERT INTO rl_experience (id, at, policy, service, state, action, propensity, explored, outcome) \
                          VALUES ($1, $2, 'shop', 'shop', '{}', '{}', 1, $3, $4)";
            let id = format!("00000000-0000-7000-8000-000000001{epoch:03}");
            let at = rfc3339(began_us + epoch * 900_000_000);
            world.own.changed_rows(insert, &[id.into(), at.into(), explored.into(), outcome]).await.unwrap();
        }
        assert_eq!(conclude_trials(&world.own).await.unwrap(), 1);
        let row = world.row("SELECT parameters FROM optimization_history").await;
        assert_eq!(row["parameters"]["trial"]["state"], "worse", "{row:#?}");
        assert_eq!(row["parameters"]["applied"], false);
        assert!(world.rows("SELECT * FROM juno_scaling_knobs").await.is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_canary_that_never_decided_and_one_that_was_ended_are_no_success() {
        let world = world().await;
        world.ask(&autoscale::OPERATION, ADA, scaled()).await.unwrap();
        optimized(&world, body("canary")).await;
        let_pass(&world).await;
        assert_eq!(conclude_trials(&world.own).await.unwrap(), 1);
        let row = world.row("SELECT parameters FROM optimization_history").await;
        assert_eq!(row["parameters"]["trial"]["state"], "unknown");
        assert!(row["parameters"]["trial"]["unknown"].as_str().unwrap().starts_with("0 decisions"), "{row:#?}");
        optimized(&world, body("shadow")).await;
        world.ask(&autoscale::OPERATION, ADA, scaled()).await.unwrap();
        let_pass(&world).await;
        assert_eq!(conclude_trials(&world.own).await.unwrap(), 0, "what it was found for is no more");
    }

    #[test]
    fn decisions_are_held_against_their_neighbours() {
        let quarter_us = 900_000_000;
        let day = |own: f64| -> Vec<(i64, bool, f64)> {
            let reward = |epoch: i64| -1.0 - 0.01 * epoch as f64;
            (0..96)
                .map(|epoch| {
                    let explored = epoch % 8 == 4;
                    (epoch * quarter_us, explored, if explored { own * reward(epoch) } else { reward(epoch) })
                })
                .collect()
        };
        let found = against_neighbours(&day(0.9)).unwrap();
        assert!((found.percent - 10.0).abs() < 1e-6 && found.ci95[0] > 9.9 && found.ci95[1] < 10.1, "{found:?}");
        assert!((against_neighbours(&day(1.0)).unwrap().percent).abs() < 1e-9, "the load's course is no difference");
        assert!(against_neighbours(&day(0.9)[..40]).is_none(), "too few");
        let alone: Vec<(i64, bool, f64)> = day(0.9).into_iter().filter(|decision| decision.1).collect();
        assert!(against_neighbours(&alone).is_none(), "nothing to hold it against");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_rule_draws_what_is_on_trial() {
        use crate::operation::OperationSettings;
        use crate::ops::rl::policy::simulator::Service;
        use crate::ops::rl::rule::Seen;
        let world = World::open().await;
        world
            .own
            .query("UPDATE juno_policies SET policy = '{\"exploration_max\": 1}' WHERE policy_type = 'rl'")
            .await
            .unwrap();
        let settings = OperationSettings { rl_exploration_rate: 0.5, ..OperationSettings::default() };
        world.own.set_operations(settings, |_| Value::Null);
        let now_us = world.own.db().system().clock().now_us();
        let insert = "INSERT INTO juno_optimization_trials (optimization_id, service, evaluation, state, knobs, request, \
                      requested_by, began_at, ends_at) VALUES ('00000000-0000-7000-8000-000000000001', 'shop', 'canary', \
                      'running', $1, '{}', 'ada', $2, $3)";
        let knobs = json!({ "k": 0.0, "hold_s": 60.0, "guard": 1.0 });
        let values = [knobs.clone(), rfc3339(now_us).into(), rfc3339(now_us + TRIAL_US).into()];
        world.own.changed_rows(insert, &values).await.unwrap();
        let samples: Vec<f64> = (0..3 * 1_440).map(|minute| 40.0 + 10.0 * (f64::from(minute) / 229.0).sin()).collect();
        let service = Service { replicas_min: 1.0, replicas_max: 100.0, ..Service::sized(40.0, 4.0, 60.0) };
        let mut rule = Rule::open(&world.own, "shop", "shop").await.unwrap();
        for epoch in 0..40 {
            let at_us = now_us + epoch * 900_000_000;
            let seen = Seen { samples: &samples, step_s: 60.0, now_us: at_us, service, ready: 100.0, billed: 100.0 };
            rule.ask(&world.own, &seen).await.unwrap();
        }
        let drawn = world.rows("SELECT action, propensity FROM rl_experience WHERE explored").await;
        assert!((5..=35).contains(&drawn.len()), "a share of a half: {}", drawn.len());
        assert!(drawn.iter().all(|row| row["action"] == knobs), "{drawn:?}");
    }
}
