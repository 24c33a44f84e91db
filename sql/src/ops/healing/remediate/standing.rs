//! The view `healing_standing`: how the runbooks stand, what is left of the budget of actions, and how far the detectors are.
//!
//! **Invariant:** tells what the guards go by; what is not known is left out.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use serde_json::{Value, json};

use super::asked::{HOUR_US, breaker, number};
use super::past::{self, Past};
use crate::operation::{Component, OperationSettings, time_us};
use crate::ops::governance;
use crate::ops::healing::AUTOPILOT;
use crate::ops::healing::policy::circuit::{Breaker, Circuit};
use crate::ops::healing::policy::guard::{Decision, Origin, Proposal, Situation, verdict};
use crate::ops::healing::policy::runbook::{Risk, Runbook, built_in};
use crate::ops::healing::policy::track_record::TrackRecord;
use crate::session::{Operations, Session, rfc3339};
use crate::types::TYPE_KEY;
use crate::{Result, computed};

/// The view.
pub(crate) const VIEW: &str = "healing_standing";

/// The view: one row.
pub(crate) fn view(operations: &Arc<Operations>) -> Result<Arc<dyn TableProvider>> {
    let json =
        |name| Field::new(name, DataType::Utf8, true).with_metadata([(TYPE_KEY.to_owned(), "jsonb".to_owned())].into());
    let schema = Arc::new(Schema::new(vec![json("detectors"), json("runbooks"), json("budget")]));
    let operations = Arc::clone(operations);
    computed::asked(schema, move |schema| Box::pin(rows(operations.history.session(), schema)))
}

async fn rows(own: Result<Session>, schema: SchemaRef) -> Result<RecordBatch> {
    let own = own?;
    let columns = standing(&own).await?.map(|told| -> ArrayRef { Arc::new(StringArray::from(vec![told.to_string()])) });
    Ok(RecordBatch::try_new(schema, columns.to_vec())?)
}

async fn standing(own: &Session) -> Result<[Value; 3]> {
    let (past, now_us) = (past::of(own).await?, own.db().system().clock().now_us());
    let policy = governance::stored(own, "healing").await?.policy;
    let (settings, breaker) = (own.operation_settings(), breaker(&policy));
    let automated = governance::automate::automated(own).await?;
    let mut runbooks = Vec::new();
    for runbook in built_in() {
        let is_automated = automated.contains(&runbook.name);
        let acts = |is_autonomous| acts_alone(runbook.risk, (is_autonomous, is_automated), &settings, now_us);
        runbooks.push(told(&runbook, &past, breaker, acts, now_us));
    }
    let limit = number(&policy, "actions_per_hour") as usize;
    let budget = json!({ "actions_used_1h": past.since(now_us - HOUR_US), "limit": limit });
    Ok([detectors(own, now_us).await?.into(), runbooks.into(), budget])
}

/// How a runbook stands, over all causes.
fn told(runbook: &Runbook, past: &Past, breaker: Breaker, acts_alone: impl Fn(bool) -> bool, now_us: i64) -> Value {
    let tries = past.tries(&runbook.name);
    let record = tries.iter().fold(TrackRecord::default(), |record, one| record.after(one.success));
    let (a, b) = record.beta();
    let circuit = match breaker.state(&tries, now_us) {
        Circuit::Closed => "closed",
        Circuit::Open { .. } => "open",
        Circuit::HalfOpen => "half_open",
    };
    let alone = runbook.causes.keys().filter(|cause| acts_alone(past.record(&runbook.name, **cause).is_autonomous()));
    let alone: Vec<&str> = alone.map(|cause| cause.name()).collect();
    json!({
        "name": runbook.name,
        "version": runbook.version,
        "risk": runbook.risk,
        "success_rate": (!tries.is_empty()).then(|| record.successes as f64 / tries.len() as f64),
        "beta": { "a": a, "b": b },
        "auto_approved": !alone.is_empty(),
        "auto_approved_for": alone,
        "circuit": circuit,
        "cooldown_until": past.rests_until_us(&runbook.name, now_us).map(rfc3339),
    })
}

/// Whether the autopilot asks nobody, where no other guard stands in its way, given whether that was earned or automated.
fn acts_alone(
    risk: Risk,
    (is_autonomous, is_automated): (bool, bool),
    settings: &OperationSettings,
    now_us: i64,
) -> bool {
    let proposal = Proposal {
        origin: Origin::Autopilot,
        risk,
        is_autonomous,
        is_automated,
        targets: 1,
        dry_run: false,
        wants_approval: false,
        approved_by: None,
    };
    let situation = Situation {
        now_us,
        is_enabled: settings.ai_native && settings.enabled(Component::SelfHealing),
        level: settings.healing,
        kill_switch: false,
        frozen: None,
        is_protected: false,
        locked_by: None,
        cooldown_until_us: None,
        fleet: 1,
        acted_on: 0,
        blast_radius: 1.0,
        actions: 0,
        actions_max: 1,
        circuit: Circuit::Closed,
        is_trying: false,
    };
    verdict(&proposal, &situation).decision == Decision::Allow
}

/// The loops of self-healing, of which the last run is known, and the detectors that people have made, of which the newest point is.
async fn detectors(own: &Session, now_us: i64) -> Result<Vec<Value>> {
    let lag_s = |at_us: i64| (now_us - at_us) as f64 / 1e6;
    let run = own.operations().last_run(Component::SelfHealing);
    let loops = run.at_us.map(|at| json!({ "name": AUTOPILOT, "last_run_at": rfc3339(at), "lag_s": lag_s(at) }));
    let mut all: Vec<Value> = loops.into_iter().collect();
    for row in own.objects("SELECT name, stage, series, newest_time FROM detectors ORDER BY name", &[]).await? {
        let mut one = json!({ "name": row["name"], "stage": row["stage"], "series": row["series"] });
        if let Some(newest_us) = row["newest_time"].as_str().and_then(time_us) {
            one["newest_at"] = rfc3339(newest_us).into();
            one["lag_s"] = lag_s(newest_us).into();
        }
        all.push(one);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::actuator::fake::World;
    use crate::operation::Automation;

    fn near(value: &Value, expected: f64) -> bool {
        value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-3)
    }

    /// Remediations against a cause that ended so long ago.
    async fn tried(world: &World, runbook: &str, (cause, state): (&str, &str), many: u32, ago: &str) {
        let insert = format!(
            "INSERT INTO juno_remediations (id, incident_id, runbook, cause, executor, target, actor, began_at, \
             cooldown_until, ended_at, state) SELECT gen_random_uuid(), gen_random_uuid(), '{runbook}', '{cause}', \
             'fake', 'shop', 'autopilot', now() - INTERVAL '{ago}', now() + INTERVAL '60 seconds', \
             now() - INTERVAL '{ago}', '{state}' FROM generate_series(1, {many}) AS g (i)"
        );
        world.own.changed_rows(&insert, &[]).await.expect("rows");
    }

    async fn status(world: &World) -> Map<String, Value> {
        world.row("SELECT * FROM healing_status").await
    }

    fn runbook<'a>(status: &'a Map<String, Value>, name: &str) -> &'a Value {
        let all = status["runbooks"].as_array().expect("runbooks");
        all.iter().find(|one| one["name"] == name).expect("the runbook")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn status_tells_what_the_guards_go_by() {
        let world = World::open().await;
        let fresh = status(&world).await;
        let restart = runbook(&fresh, "restart");
        assert_eq!((&restart["beta"], &restart["circuit"]), (&json!({ "a": 1.0, "b": 1.0 }), &json!("closed")));
        assert_eq!((&restart["success_rate"], &restart["cooldown_until"]), (&Value::Null, &Value::Null));
        assert_eq!(fresh["budget"], json!({ "actions_used_1h": 0, "limit": 10 }));
        let rate = &fresh["stats"]["success_rate"];
        assert!(rate["value"].is_null() && near(&rate["ci95"][0], 0.0) && near(&rate["ci95"][1], 1.0), "{rate}");
        assert_eq!(fresh["detectors"], json!([]));

        tried(&world, "restart", ("hang", "succeeded"), 1, "2 hours").await;
        tried(&world, "restart", ("hang", "failed"), 3, "1 minute").await;
        tried(&world, "restart", ("hang", "interrupted"), 1, "1 minute").await;
        tried(&world, "failover", ("hang", "failed"), 3, "30 minutes").await;
        world.own.component_ran(Component::SelfHealing, None);
        let now = status(&world).await;
        let (restart, failover) = (runbook(&now, "restart"), runbook(&now, "failover"));
        assert_eq!((&restart["beta"], &restart["success_rate"]), (&json!({ "a": 2.0, "b": 4.0 }), &json!(0.25)));
        assert_eq!((&restart["circuit"], &failover["circuit"]), (&json!("open"), &json!("half_open")));
        assert!(restart["cooldown_until"].is_string(), "{restart}");
        assert_eq!(now["budget"]["actions_used_1h"], 7);
        let looked = &now["detectors"][0];
        assert!(looked["name"] == AUTOPILOT && looked["last_run_at"].is_string(), "{looked}");
        assert!(looked["lag_s"].is_number() && looked.get("series").is_none(), "{looked}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn autonomy_that_was_earned_shows_for_its_cause() {
        let world = World::open().await;
        let alone = async |healing: Automation, name: &str| {
            let settings = OperationSettings { healing, ..OperationSettings::default() };
            world.own.set_operations(settings, |_| Value::Null);
            let now = status(&world).await;
            let one = runbook(&now, name);
            (one["auto_approved"].clone(), one["auto_approved_for"].clone())
        };
        assert_eq!(alone(Automation::Medium, "rollback").await, (json!(false), json!([])));
        assert_eq!(alone(Automation::Medium, "clean_disk").await, (json!(true), json!(["disk_full"])));
        assert_eq!(alone(Automation::Low, "clean_disk").await, (json!(false), json!([])));
        tried(&world, "rollback", ("bad_configuration", "succeeded"), 58, "2 hours").await;
        assert_eq!(alone(Automation::Medium, "rollback").await, (json!(true), json!(["bad_configuration"])));
        assert_eq!(alone(Automation::Low, "rollback").await, (json!(false), json!([])));
        tried(&world, "rollback", ("bad_configuration", "failed"), 1, "1 hour").await;
        assert_eq!(alone(Automation::Medium, "rollback").await, (json!(false), json!([])));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_rate_of_success_has_its_interval_and_counts_what_was_given_up() {
        let world = World::open().await;
        let insert = "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms, \
                      remediation_actions, resolved_at, success) SELECT gen_random_uuid(), now(), 'crash', 'low', '{}', \
                      jsonb_build_object('status', CASE WHEN i <= 81 THEN 'resolved' ELSE 'escalated' END), \
                      CASE WHEN i <= 81 THEN now() END, CASE WHEN i <= 81 THEN true END \
                      FROM generate_series(1, 263) AS g (i)";
        world.own.changed_rows(insert, &[]).await.expect("rows");
        let rate = status(&world).await["stats"]["success_rate"].clone();
        assert!(near(&rate["value"], 81.0 / 263.0), "{rate}");
        assert!(near(&rate["ci95"][0], 0.255) && near(&rate["ci95"][1], 0.366), "{rate}");
    }
}
