//! Training, evaluation and promotion as operations on a database.

use std::time::Duration;

use juno_kernels::{Device, SplitMix};
use serde_json::{Value, json};

use super::policy::action::ActionSpace;
use super::policy::gate::drawn;
use super::policy::simulator::Service;
use super::policy::state::FEATURE_NAMES;
use super::rule::{Rule, Seen};
use super::scene::knobs_json;
use crate::operation::{Answered, Component, OperationSettings, Refused, Request};
use crate::ops::OPERATIONS;
use crate::role::{Role, User};
use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// Decisions of a log, a minute apart.
const DECISIONS: usize = 4_500;

async fn open(directory: &tempfile::TempDir) -> Session {
    let db = juno_engine::Db::open(directory.path()).expect("a database");
    let session = Session::open(db, Device::cpu()).await.expect("migrations");
    session.connect_as(User { name: "ada".into(), role: Some(Role::Operator) })
}

async fn ask(session: &Session, name: &str, arguments: Value, if_match: Option<&str>) -> Result<Answered> {
    let operation = OPERATIONS.iter().find(|operation| operation.name == name).expect(name);
    let arguments = arguments.as_object().expect("an object").clone();
    let request = Request { arguments, wait_s: 30, if_match: if_match.map(str::to_owned), ..Request::default() };
    session.operate(operation, request).await
}

fn refused(asked: Result<Answered>) -> (Refused, String) {
    match asked {
        Err(Error::Refused(refusal)) => (refusal.kind, refusal.detail.clone()),
        other => panic!("{other:?}"),
    }
}

/// The result of a training that ended well.
async fn trained(session: &Session, more: Value) -> Value {
    let mut arguments = json!({
        "policy": "shop", "algorithm": "linucb", "days": 4, "budget": { "steps": 200 }, "hyperparameters": { "members": 2 },
    });
    arguments.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let begun = ask(session, "rl_train", arguments, None).await.expect("a job");
    let job = ended(session, begun).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job["result"].clone()
}

/// A job as it is when it has ended, however long that takes.
async fn ended(session: &Session, begun: Answered) -> Value {
    let mut job = begun.value;
    while job["state"] == "queued" || job["state"] == "running" {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let id = job["id"].as_str().expect("an id").to_owned();
        job = session.job(&id).await.expect("the job").into();
    }
    job
}

/// Logs decisions on all arms alike, up to so long ago. More k costs more where the first feature has this sign, and less where it
/// has the other one; propensities may be left out.
async fn log(session: &Session, name: &str, count: usize, (until_ago_s, sign): (i64, f64), propensities: bool) {
    let own = session.connect();
    let (space, mut random) = (ActionSpace::default(), SplitMix::new(6, 0));
    let even = vec![1.0 / space.arms() as f64; space.arms()];
    let until_us = own.db().system().clock().now_us() - until_ago_s * 1_000_000;
    let mut rows = Vec::new();
    for number in 0..count {
        let state: Vec<f64> = FEATURE_NAMES.iter().map(|_| random.normal()).collect();
        let arm = drawn(&even, random.unit());
        let knobs = space.knobs(arm);
        let cost = 0.5 + sign * 0.1 * (knobs.k - 2.0) * state[0] + 0.02 * random.normal();
        let outcome = json!({ "cost": cost, "idle": 0.1, "violation": 0.0, "slow": 0.0, "latency": 0.5, "churn": 0.0 });
        let state: Value =
            FEATURE_NAMES.iter().map(|name| (*name).to_owned()).zip(state.into_iter().map(Value::from)).collect();
        let at_us = until_us - (count - number) as i64 * 60_000_000;
        let propensity = if propensities { format!("{}", even[arm]) } else { "NULL".to_owned() };
        rows.push(format!(
            "('{}', '{}', '{name}', '{state}', '{}', {propensity}, '{outcome}', {})",
            own.db().system().uuid_v7(),
            rfc3339(at_us),
            knobs_json(&knobs),
            -cost
        ));
    }
    for part in rows.chunks(1_000) {
        let columns = "id, at, policy, state, action, propensity, outcome, reward";
        own.query(&format!("INSERT INTO rl_experience ({columns}) VALUES {}", part.join(", "))).await.expect("a log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_seed_gives_one_artefact_and_another_seed_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let first = trained(&session, json!({ "seed": 3 })).await;
    let again = trained(&session, json!({ "seed": 3 })).await;
    let other = trained(&session, json!({ "seed": 4, "promote": "shadow" })).await;
    assert_eq!(first["checksum"], again["checksum"]);
    assert_eq!(first["learning_curve"], again["learning_curve"]);
    assert_ne!(first["checksum"], other["checksum"]);
    assert!(first["learning_curve"].as_array().is_some_and(|curve| !curve.is_empty()), "{first}");
    for number in ["offline_value", "baseline_reward", "improvement_pct", "stability_pct"] {
        assert!(first[number].is_number(), "{number} of {first}");
    }
    assert!(first["tuned_static"]["knobs"]["k"].is_number() && first["active"].is_null(), "{first}");
    let sql = "SELECT name, version, state, checksum, metrics, etag FROM rl_policies ORDER BY version";
    let rows = session.objects(sql, &[]).await.expect("rows");
    let states: Vec<&str> = rows.iter().filter_map(|row| row["state"].as_str()).collect();
    assert_eq!(states, ["candidate", "candidate", "shadow"]);
    assert_eq!((&rows[1]["checksum"], &rows[2]["etag"]), (&first["checksum"], &json!("r2")));
    assert_eq!(rows[0]["metrics"]["offline_value"], first["offline_value"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_active_version_decides_and_a_canary_its_share_while_the_error_budget_is_kept() {
    const BEGAN_US: i64 = 1_767_225_600_000_000;
    const EPOCH_US: i64 = 900_000_000;
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    trained(&session, json!({ "seed": 3 })).await;
    trained(&session, json!({ "seed": 4 })).await;
    let own = session.connect();
    own.query("UPDATE juno_rl_policies SET state = 'active' WHERE version = 1").await.expect("an update");
    let samples: Vec<f64> = (0..3 * 1_440).map(|minute| 40.0 + 10.0 * (f64::from(minute) / 229.0).sin()).collect();
    let service = Service { replicas_min: 1.0, replicas_max: 100.0, ..Service::sized(40.0, 4.0, 60.0) };
    let seen = |epoch: i64, replicas: f64| Seen {
        samples: &samples,
        step_s: 60.0,
        now_us: BEGAN_US + epoch * EPOCH_US,
        service,
        ready: replicas,
        billed: replicas,
    };
    let mut rule = Rule::open(&own, "shop", "shop").await.expect("a rule");
    let version = async |rule: &mut Rule, epoch: i64, replicas: f64| {
        rule.ask(&own, &seen(epoch, replicas)).await.expect("it asks").expect("two days are known").version
    };
    assert_eq!(version(&mut rule, 0, 8.0).await, Some(1));
    own.query("UPDATE juno_rl_policies SET state = 'canary' WHERE version = 2").await.expect("an update");
    // As much as people allow at all: every decision is the canary's.
    own.query(
        "UPDATE juno_policies SET policy = '{\"exploration_max\": 1, \"change_pct\": 25}' WHERE policy_type = 'rl'",
    )
    .await
    .expect("an update");
    let all = OperationSettings { rl_exploration_rate: 1.0, ..OperationSettings::default() };
    own.set_operations(all, |_| Value::Null);
    assert_eq!(version(&mut rule, 1, 8.0).await, Some(2));
    assert_eq!(version(&mut rule, 2, 1.0).await, Some(2), "the quarter of an hour before was good");
    assert_eq!(version(&mut rule, 3, 1.0).await, Some(1), "one replica overspent the error budget");
    let rows = "SELECT policy_version, explored, propensity, reward, outcome FROM rl_experience ORDER BY at";
    let rows = own.objects(rows, &[]).await.expect("rows");
    let explored: Vec<&Value> = rows.iter().map(|row| &row["explored"]).collect();
    assert_eq!(explored, [&json!(false), &json!(true), &json!(true), &json!(false)]);
    let is_chance =
        |row: &serde_json::Map<String, Value>| row["propensity"].as_f64().is_some_and(|p| p > 0.0 && p <= 1.0);
    assert!(rows.iter().all(is_chance), "{rows:?}");
    assert!(rows[..3].iter().all(|row| row["reward"].is_number()) && rows[3]["reward"].is_null(), "{rows:?}");
    let off = OperationSettings { disabled: vec![Component::Rl], ..OperationSettings::default() };
    own.set_operations(off, |_| Value::Null);
    assert_eq!(version(&mut rule, 4, 8.0).await, None, "the fixed rule decides where learning is off");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_trained_is_refused_before_anything_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    session
        .connect()
        .query(
            "CREATE TABLE traffic (time TIMESTAMPTZ, service TEXT, requests DOUBLE PRECISION) WITH (tags = 'service')",
        )
        .await
        .expect("a table");
    session
        .connect()
        .query("INSERT INTO traffic SELECT now() - i * INTERVAL '5 minutes', 'cart', 100 FROM generate_series(1, 300) AS g (i)")
        .await
        .expect("rows");
    for (more, kind, told) in [
        (json!({ "algorithm": "q_learning" }), Refused::InvalidValue, "ppo, a2c, linucb, thompson, es"),
        (json!({ "algorithm": "ppo", "environment": "replay" }), Refused::InvalidValue, "linucb or thompson"),
        (json!({ "environment": "replay", "algorithm": "linucb" }), Refused::InsufficientExperience, "50 more"),
        (json!({ "service": "shop" }), Refused::NotFound, "no points of service \"shop\""),
        (json!({ "service": "cart" }), Refused::InsufficientHistory, "1.0 days"),
        (json!({ "service": "cart", "metric": "traffic.x" }), Refused::NotFound, "traffic.x"),
        (json!({ "reward": { "constraint": { "max": 0.01 } } }), Refused::PolicyDenied, "0.001"),
        (
            json!({ "reward": { "weights": { "performance": 0, "cost": 0, "reliability": 0 } } }),
            Refused::InvalidValue,
            "0",
        ),
        (json!({ "hyperparameters": { "members": 0 } }), Refused::InvalidValue, "1 to 32"),
        (json!({ "policy": "x".repeat(64) }), Refused::InvalidValue, "63"),
        (
            json!({ "window": { "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z" } }),
            Refused::InvalidValue,
            "end",
        ),
    ] {
        let mut arguments = json!({ "policy": "shop" });
        arguments.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (found, detail) = refused(ask(&session, "rl_train", arguments, None).await);
        assert!(found == kind && detail.contains(told), "{more}: {found:?} {detail}");
    }
    let jobs = session.objects("SELECT id FROM operations_jobs", &[]).await.expect("rows");
    assert!(jobs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_trained_once_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let operation = OPERATIONS.iter().find(|operation| operation.name == "rl_train").expect("rl_train");
    let request = |name: &str| {
        let arguments = json!({ "policy": name, "days": 4 });
        Request { arguments: arguments.as_object().expect("an object").clone(), ..Request::default() }
    };
    let job = session.operate(operation, request("shop")).await.expect("a job").job.expect("an id");
    let (kind, detail) = refused(session.operate(operation, request("shop")).await);
    assert!(kind == Refused::Concurrent && detail.contains("shop"), "{detail}");
    let other = session.operate(operation, request("cart")).await.expect("another name").job.expect("an id");
    for job in [other, job] {
        let cancelled = ask(&session, "operations_jobs_cancel", json!({ "id": job }), None).await.expect("cancelled");
        assert_eq!(cancelled.value["state"], "cancelled");
    }
    trained(&session, json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_says_which_policy_is_better_or_that_it_cannot() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    log(&session, "shop", DECISIONS, (60, 1.0), true).await;
    let replay = json!({ "environment": "replay", "hyperparameters": { "members": 5 } });
    let policy = trained(&session, replay).await;
    assert_eq!((&policy["judged_by"], &policy["decisions"]["learned_from"]), (&json!("dr"), &json!(3_000)));
    let evaluate = |more: Value| {
        let mut arguments = json!({ "policy_id": policy["policy_id"], "against": "logged" });
        arguments.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        ask(&session, "rl_evaluate", arguments, None)
    };
    let found = evaluate(json!({})).await.expect("an evaluation").value;
    assert_eq!((&found["verdict"], &found["decisions"]), (&json!("better"), &json!(1_500)), "{found}");
    assert!(found["estimates"]["dr"]["ess"].as_f64().is_some_and(|ess| ess >= 100.0), "{found}");
    assert!(found["estimates"]["dm"]["ess"].is_null() && found["has_learned_of_them"] == false);
    let again = evaluate(json!({})).await.expect("the same").value;
    assert_eq!((&found["estimates"], &found["difference"]), (&again["estimates"], &again["difference"]));
    let some = evaluate(json!({ "method": ["snips"] })).await.expect("one method").value;
    assert_eq!(some["estimates"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(refused(evaluate(json!({ "against": "active" })).await).0, Refused::NotFound);
    assert_eq!(refused(evaluate(json!({ "against": "static" })).await).0, Refused::NotFound);
    let now_us = session.db().system().clock().now_us();
    let window = |from_s: i64| json!({ "window": { "from": rfc3339(now_us - from_s * 1_000_000) } });
    assert_eq!(refused(evaluate(window(60 * 61)).await).0, Refused::LowOverlap);
    assert_eq!(refused(evaluate(window(60 * 20)).await).0, Refused::InsufficientExperience);
    let all = evaluate(window(86_400 * 10)).await.expect("all decisions").value;
    assert_eq!((&all["decisions"], &all["has_learned_of_them"]), (&json!(DECISIONS), &json!(true)));
    log(&session, "shop", 60, (0, 1.0), false).await;
    assert_eq!(refused(evaluate(json!({})).await).0, Refused::NoPropensities);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_promotes_and_a_rollback_brings_back_what_decided_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let replay = |more: Value| {
        let mut all = json!({ "environment": "replay", "hyperparameters": { "members": 5 }, "promote": "if_better" });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    log(&session, "shop", DECISIONS, (86_400 * 5, -1.0), true).await;
    let old = trained(&session, replay(json!({}))).await;
    assert_eq!(old["state"], "active", "{old}");
    // What is no better than the active one stays a candidate.
    let same = trained(&session, replay(json!({ "seed": 7 }))).await;
    assert_eq!(same["state"], "candidate", "{same}");
    let id = |policy: &Value| json!({ "id": policy["policy_id"] });
    let (kind, _) = refused(ask(&session, "rl_policies_promote", id(&same), None).await);
    assert_eq!(kind, Refused::PreconditionRequired);
    let (kind, _) = refused(ask(&session, "rl_policies_promote", id(&same), Some("r9")).await);
    assert_eq!(kind, Refused::PreconditionFailed);
    let (kind, detail) = refused(ask(&session, "rl_policies_promote", id(&same), Some("r1")).await);
    assert!(kind == Refused::PolicyDenied && detail.contains("lead over the active policy"), "{detail}");
    // The world turns round.
    log(&session, "shop", DECISIONS, (60, 1.0), true).await;
    let from = rfc3339(session.db().system().clock().now_us() - 86_400_000_000 * 4);
    let new = trained(&session, replay(json!({ "promote": "never", "window": { "from": from } }))).await;
    let dry = json!({ "id": new["policy_id"], "dry_run": true });
    let plan = ask(&session, "rl_policies_promote", dry, Some("r1")).await.expect("a plan").value;
    assert_eq!((&plan["to"], &plan["replaces"]["id"]), (&json!("active"), &old["policy_id"]), "{plan}");
    let promoted = ask(&session, "rl_policies_promote", id(&new), Some("r1")).await.expect("promoted").value;
    assert_eq!((&promoted["state"], &promoted["etag"]), (&json!("active"), &json!("r2")), "{promoted}");
    let states = async || {
        let rows = session.objects("SELECT state FROM rl_policies ORDER BY version", &[]).await.expect("rows");
        rows.iter().filter_map(|row| row["state"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["retired", "candidate", "active"]);
    let back = json!({ "id": new["policy_id"], "reason": "a drill" });
    let undone = ask(&session, "rl_policies_rollback", back.clone(), Some("r2")).await.expect("rolled back").value;
    assert_eq!((&undone["state"], &undone["active"]["id"]), (&json!("retired"), &old["policy_id"]));
    assert_eq!(states().await, ["active", "candidate", "retired"]);
    assert_eq!(refused(ask(&session, "rl_policies_rollback", back, Some("r3")).await).0, Refused::Conflict);
    assert_eq!(refused(ask(&session, "rl_policies_promote", id(&new), Some("r3")).await).0, Refused::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_log_another_person_decides_on_what_the_simulator_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    // An evolved policy starts from the tuned rule, and its members agree.
    let es = json!({ "algorithm": "es", "budget": { "steps": 24 * 96 }, "promote": "if_better" });
    let policy = trained(&session, es).await;
    let says = policy["ci95"][0].as_f64().expect("a bound") > 0.0;
    assert!(says && policy["state"] == "shadow", "{policy}");
    assert!(policy["promotion"]["reasons"].to_string().contains("only the simulator"), "{policy}");
    let id = json!({ "id": policy["policy_id"] });
    let waits = ask(&session, "rl_policies_promote", id, Some("r2")).await.expect("a job").value;
    assert_eq!(waits["state"], "awaiting_approval", "{waits}");
    let bob = session.connect_as(User { name: "bob".into(), role: Some(Role::Approver) });
    let approval = json!({ "id": waits["approval_id"] });
    let approved = ask(&bob, "approvals_approve", approval, None).await.expect("approved").value;
    let job = session.job(approved["job_id"].as_str().expect("an id")).await.expect("the job");
    let begun = Answered { value: job.into(), job: None, pending: true, replayed: false, quota: None };
    assert_eq!(ended(&session, begun).await["state"], "succeeded");
    let rows = session.objects("SELECT state FROM rl_policies", &[]).await.expect("rows");
    assert_eq!(rows[0]["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn trainings_learn_as_it_is_set_where_they_are_not_told_otherwise() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let settings = OperationSettings {
        rl_learning_rate: 0.02,
        rl_exploration_rate: 0.3,
        rl_reward_discount: 0.5,
        ..OperationSettings::default()
    };
    session.set_operations(settings, |_| Value::Null);
    trained(&session, json!({})).await;
    trained(&session, json!({ "hyperparameters": { "members": 2, "discount": 0.75, "learning_rate": 0.03, "exploration_rate": 0.2 } })).await;
    let rows =
        session.objects("SELECT hyperparameters AS h FROM rl_policies ORDER BY version", &[]).await.expect("rows");
    let numbers =
        |row: usize| ["learning_rate", "exploration_rate", "discount"].map(|name| rows[row]["h"][name].as_f64());
    assert_eq!((numbers(0), numbers(1)), ([Some(0.02), Some(0.3), Some(0.5)], [Some(0.03), Some(0.2), Some(0.75)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_trained_again_after_the_interval_and_not_for_too_little_that_is_new() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let set = |rl_training_interval_s: u64| {
        let settings = OperationSettings { rl_training_interval_s, ..OperationSettings::default() };
        session.set_operations(settings, |_| Value::Null);
    };
    trained(&session, json!({})).await;
    let own = session.connect();
    own.query("UPDATE juno_rl_policies SET trained_at = now() - INTERVAL '2 hours'").await.expect("an update");
    set(3_600);
    assert!(own.retrain(&session).await.expect("a look").is_empty(), "nothing was decided since");
    log(&session, "shop", 60, (0, 1.0), true).await;
    set(10_800);
    assert!(own.retrain(&session).await.expect("a look").is_empty(), "it is too early");
    set(3_600);
    assert_eq!(own.retrain(&session).await.expect("a look"), ["shop"]);
    let jobs = own.objects("SELECT id FROM operations_jobs ORDER BY created_at DESC LIMIT 1", &[]).await.expect("rows");
    let cancelled = ask(&session, "operations_jobs_cancel", json!({ "id": jobs[0]["id"] }), None).await;
    assert!(cancelled.is_ok() || refused(cancelled).0 == Refused::Conflict, "it may have ended already");
}
