//! What surrounds an operation that acts on other systems, on one that only writes a row.

use juno_kernels::Device;
use serde_json::{Value, json};

use super::*;
use crate::operation::{Form, HouseRules, Kind, Member, Parameter};
use crate::ops::governance;
use crate::role::{Role, User};

static RESTART: Operation = Operation {
    name: "test_restart",
    does: "Restarts a service.",
    parameters: &[
        Parameter::new("service", Kind::Text, "Which.").required(),
        Parameter::new("risky", Kind::Boolean, "Whether it must be approved."),
    ],
    role: Role::Responder,
    effect: Effect::Acts,
    component: Some(Component::SelfHealing),
    lasts: Lasts::Long,
    matched: false,
    answers: Form::Any,
    plans: &[Member::new("restart", Form::Text, "Which.")],
    refuses: &[Refused::ProtectedTarget],
    decide: Some(decide),
    run,
};

fn decide(invocation: &Invocation) -> Doing<'_, Decision> {
    Box::pin(async move {
        if invocation.word("service") == "control-plane" {
            return Err(Refusal::new(Refused::ProtectedTarget, "never this one").at("/service").into());
        }
        let asks = invocation.flag("risky") && invocation.approved_by.is_none();
        let plan = json!({ "restart": invocation.word("service") });
        Ok(Decision { plan, approval: asks.then(|| "it is risky".to_owned()) })
    })
}

fn run(invocation: &Invocation) -> Doing<'_, Value> {
    Box::pin(async move {
        invocation.progress(0.5).await?;
        let insert = "INSERT INTO restarts VALUES ($1, $2)";
        let values = [invocation.new_id().into(), invocation.word("service").into()];
        invocation.own.changed_rows(insert, &values).await?;
        Ok(json!({ "restarted": invocation.plan.as_ref().map(|plan| plan["restart"].clone()) }))
    })
}

async fn open(directory: &tempfile::TempDir) -> Session {
    let db = juno_engine::Db::open(directory.path()).expect("a database");
    let session = Session::open(db, Device::cpu()).await.expect("migrations");
    session.query("CREATE TABLE IF NOT EXISTS restarts (id UUID PRIMARY KEY, service TEXT)").await.expect("a table");
    session.connect_as(User { name: "ada".into(), role: Some(Role::Responder) })
}

fn request(arguments: &Value, key: Option<&str>) -> Request {
    let arguments = arguments.as_object().expect("an object").clone();
    Request { arguments, key: key.map(str::to_owned), wait_s: 30, ..Request::default() }
}

async fn ask(session: &Session, arguments: Value, key: Option<&str>) -> Result<Answered> {
    session.operate(&RESTART, request(&arguments, key)).await
}

fn kind(asked: Result<Answered>) -> Option<Refused> {
    match asked {
        Err(Error::Refused(refusal)) => Some(refusal.kind),
        other => panic!("{other:?}"),
    }
}

async fn restarts(session: &Session) -> usize {
    session.objects("SELECT id FROM restarts", &[]).await.expect("rows").len()
}

async fn stages(session: &Session) -> Vec<String> {
    let rows = session.objects("SELECT stage FROM audit ORDER BY seq", &[]).await.expect("rows");
    rows.iter().filter_map(|row| row["stage"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_acts_needs_a_key_decides_first_and_is_audited() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let shop = || json!({ "service": "shop" });
    assert_eq!(kind(ask(&session, shop(), None).await), Some(Refused::KeyRequired));
    let dry = ask(&session, json!({ "service": "shop", "dry_run": true }), None).await.expect("a decision");
    assert_eq!((dry.value, dry.job), (json!({ "restart": "shop" }), None));
    assert_eq!(
        kind(ask(&session, json!({ "service": "control-plane" }), Some("a")).await),
        Some(Refused::ProtectedTarget)
    );
    assert_eq!(
        (restarts(&session).await, stages(&session).await),
        (0, vec!["dry_run".to_owned(), "refused".to_owned()])
    );
    let done = ask(&session, shop(), Some("a")).await.expect("a job");
    assert_eq!((&done.value["state"], done.pending), (&json!("succeeded"), false));
    assert_eq!(done.value["result"], json!({ "restarted": "shop" }));
    let again = ask(&session, shop(), Some("a")).await.expect("the same job");
    assert_eq!((again.replayed, again.job, restarts(&session).await), (true, done.job, 1));
    assert_eq!(stages(&session).await[2..], ["before", "after"]);
    let viewer = session.connect_as(User { name: "eve".into(), role: Some(Role::Operator) });
    assert!(matches!(ask(&viewer, shop(), Some("b")).await, Err(Error::Forbidden(text)) if text.contains("responder")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_house_deny_and_ask_on_top() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let rules = r#"
        package juno
        deny contains "payments is left alone" if input.arguments.service == "payments"
        ask contains sprintf("%v asks for %v", [input.actor, input.plan.restart]) if {
            input.operation == "test_restart"
            input.arguments.service == "cart"
        }
        deny contains "no change today" if input.operation == "governance_propose"
    "#;
    let rules = Some(Arc::new(HouseRules::parse("test.rego", rules).expect("rules")));
    session.set_operations(OperationSettings { rules, ..OperationSettings::default() }, |_| Value::Null);
    match ask(&session, json!({ "service": "payments" }), Some("a")).await {
        Err(Error::Refused(refusal)) => {
            assert_eq!(refusal.kind, Refused::PolicyDenied);
            assert!(refusal.detail.contains("payments is left alone"), "{}", refusal.detail);
        }
        other => panic!("{other:?}"),
    }
    let waits = ask(&session, json!({ "service": "cart" }), Some("b")).await.expect("an approval");
    assert!(waits.pending, "{waits:?}");
    let reason = session.objects("SELECT reason FROM approvals", &[]).await.expect("rows")[0]["reason"].clone();
    assert_eq!(reason, format!("{} asks for cart", session.user().name));
    assert_eq!(restarts(&session).await, 0);
    ask(&session, json!({ "service": "shop" }), Some("c")).await.expect("nothing is said of it");
    let change = json!({ "policy_type": "healing", "policy": { "cooldown_s": 600 }, "reason": "calm" });
    let change = Request { if_match: Some("*".into()), ..request(&change, None) };
    assert_eq!(kind(session.operate(&governance::propose::OPERATION, change).await), Some(Refused::PolicyDenied));
    session
        .connect()
        .query("CALL kill_switch(true, 'drill')")
        .await
        .expect("what makes things safer is not asked about");
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_and_windows_stop_what_acts_and_free_its_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let own = session.connect();
    let shop = || json!({ "service": "shop" });
    own.query("CALL kill_switch(true, 'drill')").await.expect("engaged");
    assert_eq!(kind(ask(&session, shop(), Some("a")).await), Some(Refused::KillSwitch));
    own.query("CALL kill_switch(false, 'over')").await.expect("released");
    own.query("CALL maintenance_windows_create(name => 'w', service => 'cart', duration => '1h')")
        .await
        .expect("a window");
    assert_eq!(kind(ask(&session, json!({ "service": "cart" }), Some("b")).await), Some(Refused::Frozen));
    session.set_operations(OperationSettings { phase: 3, ..OperationSettings::default() }, |_| Value::Null);
    assert_eq!(kind(ask(&session, shop(), Some("a")).await), Some(Refused::PhaseTooLow));
    let off = OperationSettings { disabled: vec![Component::SelfHealing], ..OperationSettings::default() };
    session.set_operations(off, |_| Value::Null);
    assert_eq!(kind(ask(&session, shop(), Some("a")).await), Some(Refused::ComponentDisabled));
    assert_eq!(restarts(&session).await, 0);
    session.set_operations(OperationSettings::default(), |_| Value::Null);
    assert!(ask(&session, shop(), Some("a")).await.is_ok());
    assert_eq!(restarts(&session).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_at_a_time_acts_once_and_what_must_be_approved_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let ask_all = (0..6).map(|_| ask(&session, json!({ "service": "shop" }), Some("a")));
    for answer in futures::future::join_all(ask_all).await {
        match answer {
            Ok(answered) => assert_eq!(answered.value["kind"], "test_restart"),
            Err(error) => assert_eq!(kind(Err(error)), Some(Refused::InFlight)),
        }
    }
    assert_eq!(restarts(&session).await, 1);
    let waits = ask(&session, json!({ "service": "shop", "risky": true }), Some("b")).await.expect("a job");
    assert_eq!((&waits.value["state"], waits.pending), (&json!("awaiting_approval"), true));
    let other = ask(&session, json!({ "service": "cart" }), Some("a")).await;
    assert_eq!(kind(other), Some(Refused::KeyReused));
    assert_eq!(restarts(&session).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_approves_in_time_ends_and_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let own = session.connect();
    let mut jobs = Vec::new();
    for share in [40, 45, 50] {
        let change = json!({ "policy_type": "rl", "policy": { "change_pct": share }, "reason": "a test" });
        let change = Request { if_match: Some("*".into()), ..request(&change, None) };
        let waits = session.operate(&governance::propose::OPERATION, change).await.expect("a job");
        jobs.push(waits.job.expect("an id"));
    }
    let [old, lost, fresh] = [&jobs[0], &jobs[1], &jobs[2]];
    assert_eq!(own.expire_approvals().await.expect("a sweep"), 0);
    assert_eq!(own.expire_due_approvals().await.expect("none is due"), 0);
    for change in [
        format!("UPDATE juno_approvals SET expires_at = now() - INTERVAL '1 second' WHERE job_id = '{old}'"),
        format!("DELETE FROM juno_approvals WHERE job_id = '{lost}'"),
        format!("UPDATE juno_jobs SET created_at = now() - INTERVAL '25 hours' WHERE id = '{lost}'"),
    ] {
        own.query(&change).await.expect("a change");
    }
    assert_eq!(own.expire_approvals().await.expect("a sweep"), 2);
    assert_eq!(own.expire_approvals().await.expect("a sweep"), 0, "what has ended ends once");
    for (id, state) in [(old, "cancelled"), (lost, "cancelled"), (fresh, "awaiting_approval")] {
        let job = own.job(id).await.expect("the job");
        assert_eq!((&job["state"], job["finished_at"].is_null()), (&json!(state), state != "cancelled"), "{job:?}");
        let told = job["error"]["detail"].as_str().unwrap_or_default();
        assert_eq!(told.contains("nobody approved it"), state == "cancelled", "{job:?}");
    }
    let found = "SELECT state FROM juno_approvals ORDER BY state";
    let states = own.objects(found, &[]).await.expect("rows");
    assert_eq!(states.iter().filter_map(|row| row["state"].as_str()).collect::<Vec<_>>(), ["expired", "pending"]);
    let told = "SELECT type, data ->> 'state' AS state FROM juno_events WHERE data ->> 'state' IN ('expired', 'cancelled') \
                ORDER BY type, state";
    assert_eq!(own.objects(told, &[]).await.expect("rows").len(), 3, "an approval and two jobs");
    assert_eq!(stages(&session).await.iter().filter(|stage| *stage == "refused").count(), 2);
    let approver = session.connect_as(User { name: "bob".into(), role: Some(Role::Approver) });
    let late = "SELECT id FROM juno_approvals WHERE state = 'expired'";
    let late = json!({ "id": own.objects(late, &[]).await.expect("rows")[0]["id"] });
    let late = approver.operate(&crate::ops::operations::approvals::APPROVE, request(&late, None)).await;
    assert_eq!(kind(late), Some(Refused::Conflict));
    // What was approved just in time may take a while to be decided anew.
    for (ago, ended) in [("1 second", 0), ("2 hours", 1)] {
        let given = format!(
            "UPDATE juno_approvals SET state = 'approved', expires_at = now() - INTERVAL '1 minute', \
             decided_at = now() - INTERVAL '{ago}' WHERE job_id = '{fresh}'"
        );
        own.query(&given).await.expect("an approval");
        assert_eq!(own.expire_approvals().await.expect("a sweep"), ended, "{ago}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_too_old_go_while_the_database_is_open() {
    let directory = tempfile::tempdir().expect("a directory");
    let own = open(&directory).await.connect();
    let system = own.db().system().clone();
    for day in 5..=9 {
        let insert = "INSERT INTO juno_events (id, at, type, subject, data) VALUES ($1, $2, 'job', $3, $4)";
        let at = rfc3339(system.clock().now_us() - day * 86_400_000_000);
        let values = [system.uuid_v7().to_string().into(), at.into(), format!("day {day}").into(), json!({})];
        own.changed_rows(insert, &values).await.expect("an event");
    }
    assert_eq!(own.purge_events().await.expect("a purge"), 3, "those of the last week stay");
    let left = own.objects("SELECT subject FROM juno_events ORDER BY subject", &[]).await.expect("rows");
    let left: Vec<&str> = left.iter().filter_map(|row| row["subject"].as_str()).collect();
    assert_eq!((left, own.purge_events().await.expect("another")), (vec!["day 5", "day 6"], 0));
}
