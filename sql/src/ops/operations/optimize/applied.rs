//! Recommended knobs in force: where they can be, and what they brought, a day later.
//!
//! The rule of a service under `scaling_autoscale` takes them up at its next decision, within a quarter of an hour, as long as no
//! learned policy is active there. What they brought is the mean reward of a day of its decisions beside that of the day before.
//!
//! **Invariant:** the improvement in the history is measured, never predicted; where too little was seen it stays empty, with the
//! reason in `parameters`.

use serde_json::{Map, Value, json};

use crate::operation::{Refusal, Refused, time_us};
use crate::ops::rl::policy::action::Knobs;
use crate::ops::rl::policy::comparison::DAY_EPOCHS;
use crate::ops::rl::policy::reward::{Components, Goal, Objective};
use crate::ops::rl::policy::stage::Stage;
use crate::ops::rl::request::weighed;
use crate::ops::rl::scene::knobs_json;
use crate::ops::rl::store;
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

const DAY_US: i64 = 86_400_000_000;
/// The last decision of a day ends, and is written down, so much later.
pub(super) const LATE_US: i64 = 1_800_000_000;
/// So much may lie between a proposal and its application, which a trial comes before.
const TRIED_US: i64 = 4 * DAY_US;
/// What was applied earlier is not measured any more.
const FORGOTTEN_US: i64 = 7 * DAY_US;
/// So many decisions of each of the two days must have an outcome.
const DECISIONS_MIN: usize = DAY_EPOCHS / 2;
/// What the column of the history can hold.
const PERCENT_MAX: f64 = 999.99;

/// Refuses where no rule of the service would take knobs up; `at` points to the argument that wants it to.
pub(super) async fn check(own: &Session, service: &str, at: &str) -> Result<()> {
    let refused = |text: String| -> Error { Refusal::new(Refused::Conflict, text).at(at).into() };
    let row = "SELECT request FROM juno_autoscaled WHERE service = $1 AND enabled";
    let row = own.objects(row, &[service.into()]).await?.pop();
    let Some(policy) = row.as_ref().and_then(|row| row["request"]["policy"].as_str()) else {
        let text = format!(
            "no rule scales \"{service}\" whose knobs could be set: call scaling_autoscale with a policy for it first"
        );
        return Err(refused(text));
    };
    match store::in_stage(own, policy, Stage::Active).await? {
        Some(active) => {
            let (name, version) = (&active.name, active.version);
            Err(refused(format!("policy \"{name}\" version {version} decides the knobs of \"{service}\" already")))
        }
        None => Ok(()),
    }
}

/// Puts knobs in force, as somebody had asked.
pub(super) async fn apply(own: &Session, id: &str, (service, knobs): (&str, &Knobs), actor: &str) -> Result<()> {
    let insert = "INSERT INTO juno_scaling_knobs (service, knobs, optimization_id, applied_at, applied_by) \
                  VALUES ($1, $2, $3, $4, $5) ON CONFLICT (service) DO UPDATE SET knobs = excluded.knobs, \
                  optimization_id = excluded.optimization_id, applied_at = excluded.applied_at, \
                  applied_by = excluded.applied_by";
    let values = [service.into(), knobs_json(knobs), id.into(), own.now().into(), actor.into()];
    own.changed_rows(insert, &values).await.map(drop)
}

/// Writes the improvement of the proposals that have been in force for a day; how many were looked at.
///
/// # Errors
/// Where juno's own tables cannot be read or written.
pub async fn measure_optimizations(own: &Session) -> Result<usize> {
    let now_us = own.db().system().clock().now_us();
    let due = "SELECT id, applied_at, parameters FROM (SELECT id, parameters, \
               COALESCE(TRY_CAST(parameters ->> 'applied_at' AS TIMESTAMPTZ), timestamp) AS applied_at FROM optimization_history \
               WHERE timestamp >= $3 AND parameters ->> 'applied' = 'true' AND parameters -> 'measured' IS NULL) AS applied \
               WHERE applied_at >= $1 AND applied_at < $2 ORDER BY applied_at LIMIT 100";
    // What was on trial was proposed days before it was applied.
    let times = [now_us - FORGOTTEN_US, now_us - DAY_US - LATE_US, now_us - FORGOTTEN_US - TRIED_US];
    let window = times.map(|at_us| rfc3339(at_us).into());
    let due = own.objects(due, &window).await?;
    for row in &due {
        measure(own, row).await?;
    }
    Ok(due.len())
}

async fn measure(own: &Session, row: &Map<String, Value>) -> Result<()> {
    let mut parameters = row["parameters"].clone();
    let applied_us = row["applied_at"].as_str().and_then(time_us).unwrap_or_default();
    let service = parameters["service"].as_str().unwrap_or_default().to_owned();
    let objective = objective(&parameters["objective"]);
    let price = parameters["price"].as_f64().unwrap_or_default();
    let mut means = [None; 2];
    for (mean, from_us) in means.iter_mut().zip([applied_us - DAY_US, applied_us]) {
        let rewards: Vec<f64> = outcomes(own, &service, (from_us, from_us + DAY_US))
            .await?
            .iter()
            .map(|outcome| objective.reward(outcome, price))
            .collect();
        let count = rewards.len();
        *mean = (count >= DECISIONS_MIN).then(|| rewards.iter().sum::<f64>() / count as f64);
    }
    let percent = match means {
        [Some(before), Some(since)] => Some(100.0 * (since - before) / before.abs().max(1e-9)),
        _ => None,
    };
    parameters["measured"] = match percent {
        Some(percent) => json!({ "reward_before": means[0], "reward": means[1], "improvement_pct": percent }),
        None => {
            json!({ "unknown": format!("fewer than {DECISIONS_MIN} decisions of the day before or after have an outcome") })
        }
    };
    let kept = percent.filter(|percent| percent.abs() <= PERCENT_MAX).map(|percent| format!("{percent:.2}"));
    let update = "UPDATE optimization_history SET parameters = $2, improvement_percentage = $3 WHERE id = $1";
    own.changed_rows(update, &[row["id"].clone(), parameters, kept.into()]).await.map(drop)
}

/// What the decisions of a time brought.
async fn outcomes(own: &Session, service: &str, (from_us, to_us): (i64, i64)) -> Result<Vec<Components>> {
    let sql = "SELECT outcome FROM rl_experience WHERE service = $1 AND at >= $2 AND at < $3 AND outcome IS NOT NULL \
               AND explored IS NOT TRUE";
    let rows = own.objects(sql, &[service.into(), rfc3339(from_us).into(), rfc3339(to_us).into()]).await?;
    Ok(rows.iter().filter_map(|row| components(&row["outcome"])).collect())
}

/// What a decision brought, as it is logged.
pub(super) fn components(outcome: &Value) -> Option<Components> {
    let number = |name: &str| outcome[name].as_f64();
    Some(Components {
        cost: number("cost")?,
        idle: number("idle")?,
        violation: number("violation")?,
        slow: number("slow")?,
        latency: number("latency")?,
        churn: number("churn")?,
    })
}

/// What was to be reached, as [`reward_json`](crate::ops::rl::train::reward_json) wrote it.
pub(super) fn objective(told: &Value) -> Objective {
    let goal = told["type"].as_str().and_then(|name| Goal::parse(name).ok()).unwrap_or(Goal::Balanced);
    let violation_max = told["constraint"]["max"].as_f64().unwrap_or(Objective::new(goal).violation_max);
    Objective { goal, weights: weighed(goal, &told["weights"]), violation_max }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ops::actuator::fake::{World, refusal};
    use crate::ops::operations::optimize::OPERATION;
    use crate::ops::rl::policy::reward::Weights;
    use crate::ops::rl::train::reward_json;
    use crate::ops::scaling::autoscale;
    use crate::role::Role;

    #[test]
    fn an_objective_is_read_as_it_was_written() {
        let odd = Objective {
            weights: Weights { performance: 0.5, cost: 3.0, reliability: 1.5 },
            violation_max: 0.002,
            ..Objective::new(Goal::Cost)
        };
        assert_eq!(objective(&reward_json(&odd)), odd);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_applied_is_measured_a_day_later_against_the_day_before() {
        let world = World::open().await;
        let now_us = world.own.db().system().clock().now_us();
        let applied_us = now_us - DAY_US - 2 * LATE_US;
        let goal = Objective::new(Goal::Cost);
        let parameters = |service: &str| json!({ "service": service, "applied": true, "objective": reward_json(&goal), "price": 10.0 });
        for (number, service, applied) in [(1, "shop", true), (2, "mail", true), (3, "shop", false)] {
            let mut parameters = parameters(service);
            parameters["applied"] = applied.into();
            let insert = "INSERT INTO optimization_history (id, timestamp, optimization_type, parameters, baseline_metrics, \
                          optimized_metrics) VALUES ($1, $2, 'cost', $3, '{}', '{}')";
            let id = format!("00000000-0000-7000-8000-00000000000{number}");
            let values = [id.into(), rfc3339(applied_us).into(), parameters];
            world.own.changed_rows(insert, &values).await.unwrap();
        }
        for epoch in -96..96i64 {
            let cost = if epoch < 0 { 0.4 } else { 0.1 };
            let outcome =
                json!({ "cost": cost, "idle": 0.0, "violation": 0.0, "slow": 0.0, "latency": 0.0, "churn": 0.0 });
            let insert = "INSERT INTO rl_experience (id, at, policy, service, state, action, propensity, explored, outcome) \
                          VALUES ($1, $2, 'shop', 'shop', '{}', '{}', 1, false, $3)";
            let id = format!("00000000-0000-7000-8000-000000001{:03}", epoch + 96);
            let at = rfc3339(applied_us + epoch * 900_000_000);
            world.own.changed_rows(insert, &[id.into(), at.into(), outcome]).await.unwrap();
        }
        assert_eq!(measure_optimizations(&world.own).await.unwrap(), 2);
        assert_eq!(measure_optimizations(&world.own).await.unwrap(), 0, "each once");
        let rows = "SELECT CAST(improvement_percentage AS DOUBLE PRECISION) AS percent, parameters FROM optimization_history \
                    ORDER BY id";
        let rows = world.own.objects(rows, &[]).await.unwrap();
        let percents: Vec<Option<f64>> = rows.iter().map(|row| row["percent"].as_f64()).collect();
        assert_eq!(percents, [Some(75.0), None, None]);
        assert!(rows[1]["parameters"]["measured"]["unknown"].is_string(), "{rows:?}");
        assert!(rows[2]["parameters"]["measured"].is_null());
    }

    /// A world where a rule scales the service `shop`, once it was declared as [`scaled`].
    pub(in super::super) async fn world() -> World {
        let world = World::open().await;
        for sql in [
            "CREATE TABLE traffic (time TIMESTAMPTZ, service TEXT, requests DOUBLE PRECISION) WITH (tags = 'service')",
            "INSERT INTO traffic SELECT now() - INTERVAL '5 minutes' * (1440 - i), 'shop', 60000 + 40000 * sin(i * 2 * pi() / 288) \
             FROM generate_series(0, 1439) AS g (i)",
        ] {
            world.own.query(sql).await.unwrap();
        }
        world
    }

    pub(in super::super) fn scaled() -> Value {
        json!({
            "service": "shop", "policy": "shop", "bounds": { "min": 1, "max": 40 },
            "demand": [{ "resource": "requests", "metric": "traffic.requests", "capacity": 10 }],
        })
    }

    /// Asks for an optimisation and waits for it.
    pub(in super::super) async fn optimized(world: &World, body: Value) -> Value {
        let mut job = world.ask(&OPERATION, ("ada", Role::Responder), body).await.unwrap().value;
        while job["state"] == "queued" || job["state"] == "running" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            job = world.own.job(job["id"].as_str().unwrap()).await.unwrap().into();
        }
        job["result"].take()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_scope_is_told_and_what_it_names_must_be_a_tag() {
        let world = world().await;
        let ada = ("ada", Role::Responder);
        let body =
            |scope: &Value| json!({ "type": "cost", "scope": scope, "metric": "traffic.requests", "dry_run": true });
        let scope = json!({ "service": "shop", "labels": { "service": "shop" } });
        let plan = world.ask(&OPERATION, ada, body(&scope)).await.unwrap().value;
        assert_eq!(plan["scope"], scope, "{plan:#}");
        let scope = json!({ "service": "shop", "namespace": "live" });
        assert_eq!(refusal(world.ask(&OPERATION, ada, body(&scope)).await), Refused::InvalidValue);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn better_knobs_are_put_in_force_where_a_rule_takes_them_up() {
        let world = world().await;
        let ada = ("ada", Role::Responder);
        let body =
            json!({ "type": "cost", "scope": { "service": "shop" }, "metric": "traffic.requests", "apply": true });
        let alone = world.ask(&OPERATION, ada, body.clone()).await;
        assert_eq!(refusal(alone), Refused::Conflict, "nothing scales it");
        world.ask(&autoscale::OPERATION, ada, scaled()).await.unwrap();
        let told = optimized(&world, body).await;
        assert_eq!((&told["verdict"], &told["applied"]), (&json!("better"), &json!(true)), "{told:#}");
        let set = world.row("SELECT * FROM juno_scaling_knobs").await;
        assert_eq!((&set["service"], &set["applied_by"]), (&json!("shop"), &json!("ada")));
        assert_eq!(set["optimization_id"], told["optimization_id"]);
        let k = told["recommended"].as_array().unwrap().iter().find(|one| one["knob"] == "k").unwrap();
        assert_eq!(set["knobs"]["k"], k["new"]);
        world.ask(&autoscale::OPERATION, ada, scaled()).await.unwrap();
        assert!(world.rows("SELECT * FROM juno_scaling_knobs").await.is_empty(), "it was declared anew");
    }
}
