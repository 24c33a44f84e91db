//! Jobs: accepted, waited for, cancelled, and never lost.
//!
//! **Invariant:** a job that takes long sleeps in its query, so that no test waits for it.

use juno_tests::Server;
use serde_json::{Value, json};

use super::guards::wait_for;
use super::{etag, good, post, problem, proposal, send};
use crate::client::{get, http};
use crate::server;

/// A prediction of many steps, whose series sleep before they give a point.
fn slow() -> Value {
    let target =
        json!({ "sql": "SELECT now() - INTERVAL '1 hour' AS time, 1.0 AS value WHERE pg_sleep(300) IS NOT NULL" });
    json!({ "targets": vec![target; 21], "horizon": "10000m", "step": "1m" })
}

fn job(server: &Server, id: &Value) -> Value {
    get(server, &format!("/api/v4/operations/jobs/{}", id.as_str().expect("an id"))).json()
}

#[test]
fn what_takes_long_is_a_job_that_can_be_watched_and_cancelled() {
    let server = server();
    let answer = post(&server, "operations/predict", &slow());
    assert!(answer.header("location").starts_with("/api/v4/operations/jobs/"), "{:?}", answer.headers);
    let begun = good(&answer, 202);
    assert_eq!(begun["kind"], "operations_predict");
    wait_for(|| job(&server, &begun["id"]), "running");
    let running = get(&server, "/api/v4/operations/jobs?state=running").json();
    assert_eq!((&running["items"][0]["id"], running["items"].as_array().map(Vec::len)), (&begun["id"], Some(1)));
    assert_eq!(get(&server, "/api/v4/operations/status").json()["running_jobs"], 1);
    let path = format!("/api/v4/operations/jobs/{}", begun["id"].as_str().expect("an id"));
    good(&http(&server, "DELETE", &path, &[], b""), 202);
    wait_for(|| job(&server, &begun["id"]), "cancelled");
    problem(&http(&server, "DELETE", &path, &[], b""), 409, "state-conflict");
}

#[test]
fn a_job_that_ends_in_time_is_answered_with_its_end() {
    let server = server();
    let target = json!({ "sql": "SELECT now() AS time, 1.0 AS value WHERE 1 = 0" });
    let body = json!({ "targets": vec![target; 21], "horizon": "10000m", "step": "1m" });
    let answer = send(&server, "POST", "operations/predict", &[("Prefer", "wait=30")], &body);
    assert_eq!(answer.header("preference-applied"), "wait=30");
    let ended = good(&answer, 200);
    assert_eq!((&ended["state"], &ended["error"]["type"]), (&json!("failed"), &json!("/problems/not-found")));
    assert_eq!(ended["error"]["errors"][0]["pointer"], "/targets/0");
    assert!(ended["started_at"].is_string() && ended["finished_at"].is_string(), "{ended}");
}

#[test]
fn a_crash_loses_no_job() {
    let mut server = server();
    let begun = good(&post(&server, "operations/predict", &slow()), 202);
    wait_for(|| job(&server, &begun["id"]), "running");
    let tag = etag(&server, "rl");
    let waits = send(
        &server,
        "POST",
        "governance/propose",
        &[("If-Match", &tag)],
        &proposal("rl", &json!({ "change_pct": 50 })),
    );
    let waits = good(&waits, 202);
    server.kill().expect("it ends");
    server.run().expect("it comes back");
    let cut = job(&server, &begun["id"]);
    assert_eq!((&cut["state"], &cut["error"]["type"]), (&json!("failed"), &json!("/problems/interrupted")));
    assert_eq!(job(&server, &waits["id"])["state"], "awaiting_approval");
    let found = good(&post(&server, "audit/verify", &json!({})), 200);
    assert_eq!(found["whole"], true);
}
