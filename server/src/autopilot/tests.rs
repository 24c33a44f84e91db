//! What settings do to the loops.

use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use juno_sql::{OperationSettings, Threat};

use super::threats::respond_to;
use super::*;

async fn open(directory: &tempfile::TempDir) -> Session {
    let db = Db::open(directory.path()).expect("a database");
    Session::open(db, Device::cpu()).await.expect("migrations")
}

fn set(session: &Session, settings: OperationSettings) {
    session.set_operations(settings, |_| Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_rests_while_its_component_is_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    for off in Component::ALL {
        set(&session, OperationSettings { disabled: vec![off], ..OperationSettings::default() });
        for on in Component::ALL.into_iter().filter(|on| *on != off) {
            // Both are due at once, and the first is looked at first.
            let (mut rests, mut runs) = (Runs::new(&session, off, SURVEY), Runs::new(&session, on, SURVEY));
            let begun = tokio::select! {
                biased;
                () = rests.wait() => off,
                () = runs.wait() => on,
            };
            assert_eq!(begun, on);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_calls_people_after_the_time_that_is_set() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let after = |timeout_s: u64, age_s: i64| {
        set(&session, OperationSettings { escalation_timeout_s: timeout_s, ..OperationSettings::default() });
        overdue(&session, Severity::Medium, 0, age_s * 1_000_000)
    };
    assert!(after(60, 59).is_none() && after(600, 599).is_none());
    for timeout_s in [60, 600] {
        let change = after(timeout_s, 600).expect("people are called");
        assert_eq!((change.status, change.severity), (Some(Status::Escalated), Some(Severity::High)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn threats_are_responded_to_alone_where_that_is_wanted_and_loops_may_act() {
    let directory = tempfile::tempdir().expect("a directory");
    let session = open(&directory).await;
    let id = "00000000-0000-7000-8000-0000000000cc";
    let insert = format!(
        "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score) VALUES \
         ('{id}', now(), 'sigma', 'critical', '{{\"entity\": \"203.0.113.7\"}}', 0.95)"
    );
    session.query(&insert).await.expect("a threat");
    let threats = [Threat { id: id.into(), responses: vec![("block_ip", "203.0.113.7".into())] }];
    let (autopilot, respond) = (as_autopilot(&session), operation("threats_respond").expect("an operation"));
    let mut jobs = Vec::new();
    for (threat_response, ai_native) in [(false, true), (true, false), (true, true)] {
        set(&session, OperationSettings { threat_response, ai_native, ..OperationSettings::default() });
        respond_to(&session, &autopilot, respond, &threats).await.expect("a look");
        jobs.push(session.objects("SELECT id FROM operations_jobs", &[]).await.expect("rows").len());
    }
    assert_eq!(jobs, [0, 0, 1]);
}
