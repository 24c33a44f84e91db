//! Calls to a receiver that is not there at first, or ends before it answers.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use juno_sql::engine::Db;
use juno_sql::healing::severity::Severity;
use juno_sql::healing::status::Status;
use juno_sql::kernels::Device;
use juno_sql::{IncidentChange, IncidentOpening};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::*;
use crate::actuator::outside::Outside;
use crate::actuator::webhook::is_signed;

const SECRET: &[u8] = b"a secret of some length";
const PATIENCE: Duration = Duration::from_secs(60);

/// What the receiver got: the key and the message.
type Got = (String, Value);

/// A receiver that answers 503 so often before it answers well, and tells what it gets.
async fn receiver(failures: usize) -> (String, UnboundedReceiver<Got>) {
    let (tell, told) = unbounded_channel();
    let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let receive = move |headers: HeaderMap, body: Bytes| async move {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let at_s = text("x-juno-timestamp").parse().unwrap();
        assert!(is_signed(SECRET, at_s, &body, text("x-juno-signature"), at_s), "it is not signed");
        let message: Value = serde_json::from_slice(&body).unwrap();
        let own = juno_sql::trace_of(message["incident_id"].as_str().unwrap());
        assert_eq!(crate::trace::id(text("traceparent")), Some(own.as_str()), "the incident is one trace");
        tell.send((text("idempotency-key").to_owned(), message)).unwrap();
        match seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            tried if tried < failures => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NO_CONTENT,
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/call", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().route("/call", post(receive))).into_future());
    (url, told)
}

async fn open(directory: &Path) -> Session {
    Session::open(Db::open(directory).unwrap(), Device::cpu()).await.unwrap()
}

fn calling(session: &Session, url: &str) -> tokio::task::JoinHandle<()> {
    let outside = Outside::of(session.db().system());
    let hook = Hook::new(url, SECRET, Duration::from_secs(5), outside).unwrap();
    tokio::spawn(call(session.connect(), hook))
}

/// An incident that is escalated.
async fn escalated(session: &Session, service: &str) -> String {
    let symptoms = json!({ "service": service, "alarms": [{ "metric": "latency_ms" }] });
    let opening = IncidentOpening { incident_type: "availability".into(), severity: Severity::Medium, symptoms };
    let id = session.open_incident(&opening).await.unwrap();
    let change = IncidentChange {
        status: Some(Status::Escalated),
        severity: Some(Severity::High),
        reason: Some("it is open after 5 s".into()),
        ..IncidentChange::default()
    };
    session.change_incident(&id, change).await.unwrap();
    id
}

async fn next(told: &mut UnboundedReceiver<Got>) -> Got {
    timeout(PATIENCE, told.recv()).await.expect("a call in time").expect("a receiver")
}

/// Waits until a call stands so, and gives its row.
async fn state(session: &Session, id: &str, state: &str) -> Value {
    let row = "SELECT state, tries, error FROM juno_escalations WHERE incident_id = $1";
    let wanted = async {
        loop {
            let row = session.objects(row, &[id.into()]).await.unwrap().pop().unwrap();
            if row["state"] == state {
                return Value::Object(row);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wanted).await.expect("that state in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escalation_is_delivered_once_though_the_receiver_fails_first() {
    let directory = tempfile::tempdir().unwrap();
    let session = open(directory.path()).await;
    let (url, mut told) = receiver(1).await;
    let task = calling(&session, &url);
    let id = escalated(&session, "shop").await;
    let (first, second) = (next(&mut told).await, next(&mut told).await);
    assert_eq!(first, second, "the same message under the same key");
    let (key, message) = second;
    assert_eq!((key.as_str(), &message["incident_id"]), (id.as_str(), &json!(id)));
    assert_eq!((&message["type"], &message["severity"]), (&json!("escalation"), &json!("high")));
    assert_eq!((&message["service"], &message["reason"]), (&json!("shop"), &json!("it is open after 5 s")));
    assert_eq!(message["symptoms"]["alarms"][0]["metric"], "latency_ms");
    assert_eq!(message["path"], format!("/api/v4/healing/incidents/{id}"));
    let row = state(&session, &id, "delivered").await;
    assert_eq!((&row["tries"], &row["error"]), (&json!(2), &Value::Null));
    let called = "SELECT status, escalated_to FROM healing_incidents_list WHERE id = $1";
    let noted = async {
        loop {
            let row = session.objects(called, &[id.as_str().into()]).await.unwrap().pop().unwrap();
            if !row["escalated_to"].is_null() {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let noted = timeout(PATIENCE, noted).await.expect("a note in time");
    assert_eq!((&noted["status"], &noted["escalated_to"]), (&json!("escalated"), &json!("127.0.0.1")));
    // The next one is the next that is told: the first is not told again.
    let other = escalated(&session, "till").await;
    assert_eq!(next(&mut told).await.0, other);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_delivered_is_delivered_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let session = open(directory.path()).await;
    let task = calling(&session, "http://127.0.0.1:1/call");
    let id = escalated(&session, "shop").await;
    // Nobody is there, and then the process ends.
    let failed = "SELECT error FROM juno_escalations WHERE tries > 0";
    let tried = async {
        while session.objects(failed, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, tried).await.expect("a try");
    task.abort();
    assert!(task.await.is_err());
    session.db().close().unwrap();
    drop(session);

    let session = open(directory.path()).await;
    let (url, mut told) = receiver(0).await;
    let task = calling(&session, &url);
    assert_eq!(next(&mut told).await.0, id);
    state(&session, &id, "delivered").await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_escalated_calls_people_and_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let session = open(directory.path()).await;
    let opening = IncidentOpening { incident_type: "performance".into(), severity: Severity::Low, symptoms: json!({}) };
    let calm = session.open_incident(&opening).await.unwrap();
    let to = |status| IncidentChange { status: Some(status), ..IncidentChange::default() };
    session.change_incident(&calm, to(Status::Resolved)).await.unwrap();
    assert!(session.calls_due().await.unwrap().is_empty());
    let id = escalated(&session, "shop").await;
    session.change_incident(&id, to(Status::Escalated)).await.unwrap();
    let due = session.calls_due().await.unwrap();
    assert_eq!(due.iter().map(|call| call.incident_id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    assert!(session.call_failed(&due[0], "nobody", Duration::from_secs(3600)).await.unwrap(), "it is tried again");
    assert!(session.calls_due().await.unwrap().is_empty(), "but not at once");
}
