//! A receiver that checks signatures and carries orders out on real processes, and others that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap as Headers;
use axum::routing::post;
use juno_sql::actuator::Action;
use tokio::net::TcpListener;

use super::super::conformance::{order, suite};
use super::super::process::ProcessActuator;
use super::hook::ANSWER_BYTES_MAX;
use super::*;

const SECRET: &[u8] = b"a secret of some length";
const NOW_S: i64 = 1_700_000_000;

/// A world at a fixed time, whose randomness is the largest there is.
fn outside() -> Outside {
    Outside { now_us: Arc::new(|| NOW_S * 1_000_000), random: Arc::new(|| u64::MAX) }
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

fn webhook(url: &str, secret: &[u8]) -> WebhookActuator {
    WebhookActuator::new(url, secret, Duration::from_secs(30), outside()).unwrap()
}

type Reply = (StatusCode, String);

fn reply<T: serde::Serialize>(outcome: Result<T, ActuatorError>) -> Reply {
    let problem = |status: u16, error: &ActuatorError| {
        (StatusCode::from_u16(status).unwrap(), json!({"detail": error.to_string()}).to_string())
    };
    match outcome {
        Ok(answer) => (StatusCode::OK, serde_json::to_string(&answer).unwrap()),
        Err(error @ ActuatorError::UnknownTarget(_)) => problem(404, &error),
        Err(error @ ActuatorError::Timeout { .. }) => problem(504, &error),
        Err(error) => problem(409, &error),
    }
}

async fn receive(State(inner): State<Arc<ProcessActuator>>, headers: Headers, body: Bytes) -> Reply {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let at_s = text("x-juno-timestamp").parse().unwrap_or_default();
    if !is_signed(SECRET, at_s, &body, text("x-juno-signature"), NOW_S + 1) {
        return (StatusCode::UNAUTHORIZED, json!({"title": "not signed"}).to_string());
    }
    let message: Value = serde_json::from_slice(&body).unwrap();
    match message["type"].as_str().unwrap() {
        "targets" => reply(inner.targets().await),
        "observe" => reply(inner.observe(message["target"].as_str().unwrap()).await),
        _ => {
            let order: Order = serde_json::from_value(message["order"].clone()).unwrap();
            assert_eq!(text("idempotency-key"), order.key);
            reply(inner.act(&order).await)
        }
    }
}

#[tokio::test]
async fn webhooks_keep_the_contract_and_unsigned_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = super::super::process::tests::fleet();
    let inner = Arc::new(ProcessActuator::open(&fleet, dir.path()).await.unwrap());
    let url = serve(Router::new().route("/hook", post(receive)).with_state(inner)).await;
    suite(&webhook(&url, SECRET), "shop", "stuck").await;
    let forged = webhook(&url, b"a wrong secret of some length").observe("shop").await;
    assert!(
        matches!(&forged, Err(ActuatorError::Refused { reason, .. }) if reason.contains("not signed")),
        "{forged:?}"
    );
}

#[tokio::test]
async fn what_may_help_is_tried_again_under_the_same_key() {
    let tried = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&tried);
    let receive = move |headers: Headers| async move {
        assert_eq!(headers["idempotency-key"], "k");
        let effect = Effect { before: <_>::default(), after: <_>::default(), is_repetition: false };
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
            1 => (StatusCode::OK, "no JSON".to_owned()),
            _ => (StatusCode::OK, serde_json::to_string(&effect).unwrap()),
        }
    };
    let url = serve(Router::new().route("/hook", post(receive))).await;
    let hook = webhook(&url, SECRET);
    let first = hook.act(&order("shop", Action::Restart, "k")).await;
    assert!(
        matches!(&first, Err(ActuatorError::Unreachable { reason, .. }) if reason.contains("no sense")),
        "{first:?}"
    );
    assert_eq!(tried.load(Ordering::SeqCst), 2, "the first try was repeated");
    assert!(hook.act(&order("shop", Action::Restart, "k")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_request_goes_on_to_the_receiver() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traces = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&traces);
    let receive = move |headers: Headers| async move {
        let trace = crate::trace::id(headers["traceparent"].to_str().unwrap()).map(str::to_owned);
        seen.lock().push(trace.unwrap());
        axum::Json(json!([]))
    };
    let url = serve(Router::new().route("/hook", post(receive))).await;
    let directory = tempfile::tempdir().unwrap();
    let db = juno_sql::engine::Db::open(directory.path()).unwrap();
    let session = juno_sql::Session::open(db, juno_sql::kernels::Device::cpu()).await.unwrap();
    session.set_actuators(vec![Arc::new(webhook(&url, SECRET))]);
    let scale = juno_sql::OPERATIONS.iter().find(|operation| operation.name == "scaling_execute").unwrap();
    let arguments = json!({"target": {"name": "shop"}, "to": 3, "reason": "a test", "dry_run": true});
    let ask = async |trace_id: Option<&str>| {
        let (arguments, trace_id) = (arguments.as_object().unwrap().clone(), trace_id.map(str::to_owned));
        let request = juno_sql::Request { arguments, trace_id, ..juno_sql::Request::default() };
        assert!(matches!(session.operate(scale, request).await, Err(juno_sql::Error::Refused(_))));
        std::mem::take(&mut *traces.lock())
    };
    let own = ask(Some(TRACE)).await;
    assert!(!own.is_empty() && own.iter().all(|trace| trace == TRACE), "{own:?}");
    let begun = ask(None).await;
    assert!(!begun.is_empty() && begun.iter().all(|trace| trace != TRACE), "{begun:?}");
}

#[tokio::test]
async fn nobody_there_and_a_hanging_one_are_told_within_the_limit() {
    let nobody = webhook("http://127.0.0.1:1/hook", SECRET);
    let short = Order { limit_ms: 700, ..order("shop", Action::Restart, "k") };
    let outcome = nobody.act(&short).await;
    assert!(
        matches!(&outcome, Err(ActuatorError::Unreachable { reason, .. }) if reason.contains("tries")),
        "{outcome:?}"
    );
    let hangs = serve(Router::new().route("/hook", post(std::future::pending::<String>))).await;
    let outcome = webhook(&hangs, SECRET).act(&short).await;
    assert!(matches!(outcome, Err(ActuatorError::Timeout { .. })), "{outcome:?}");
}

#[tokio::test]
async fn endless_answers_and_redirects_are_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, sent_on) = (Arc::clone(&asked), Arc::clone(&asked));
    let moved = move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        axum::response::Redirect::temporary("/elsewhere")
    };
    let elsewhere = move || async move { _ = sent_on.fetch_add(100, Ordering::SeqCst) };
    let url = serve(Router::new().route("/hook", post(moved)).route("/elsewhere", post(elsewhere))).await;
    let outcome = webhook(&url, SECRET).observe("shop").await;
    assert!(matches!(outcome, Err(ActuatorError::Refused { .. })), "{outcome:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let long = serve(Router::new().route("/hook", post(|| async { "x".repeat(ANSWER_BYTES_MAX + 1) }))).await;
    let short = Order { limit_ms: 500, ..order("shop", Action::Restart, "k") };
    let outcome = webhook(&long, SECRET).act(&short).await;
    assert!(
        matches!(&outcome, Err(ActuatorError::Unreachable { reason, .. }) if reason.contains("bytes")),
        "{outcome:?}"
    );
}

#[test]
fn waits_grow_and_scatter_within_bounds() {
    let least = Outside { random: Arc::new(|| 0), ..outside() };
    let most = webhook("http://localhost/", SECRET);
    let least = WebhookActuator::new("http://localhost/", SECRET, WAIT, least).unwrap();
    assert_eq!(least.wait(0), WAIT / 2);
    assert!(most.wait(0) <= WAIT && most.wait(3) > least.wait(3) && most.wait(30) <= WAIT_MAX);
}

#[test]
fn wrong_addresses_and_short_secrets_are_refused() {
    let new = |url: &str, secret: &[u8]| WebhookActuator::new(url, secret, WAIT, outside()).map(drop);
    assert!(new("nonsense", SECRET).unwrap_err().contains("no address"));
    assert!(new("ftp://host/", SECRET).unwrap_err().contains("use http"));
    assert!(new("http://host/", b"short").unwrap_err().contains("too short"));
}
