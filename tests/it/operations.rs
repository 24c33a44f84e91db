//! Operations over REST and over SQL: one contract by two doors, and the rules that surround every request.
//!
//! **Invariant:** every answer is judged as a stranger's client would; what REST can do, SQL is shown to do.

mod described;
mod escalation;
mod guards;
mod healing;
mod jobs;
mod lies;
mod optimization;
mod properties;
mod quotas;
mod same;
mod scaling;
mod stream;

use std::time::{Duration, Instant};

use juno_tests::Server;
use serde_json::{Value, json};

use crate::client::{Answer, http};

/// A request with a JSON body; its answer must be as described.
fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers);
    let path = format!("/api/v4/{path}");
    let answer = http(server, method, &path, &all, body.to_string().as_bytes());
    described::hold(server, method, &path, &answer);
    answer
}

fn post(server: &Server, path: &str, body: &Value) -> Answer {
    send(server, "POST", path, &[], body)
}

/// A server that runs a fleet.
fn with_fleet(fleet: &Value) -> Server {
    let mut server = Server::prepare().expect("a directory");
    let file = server.scratch("fleet.json");
    std::fs::write(&file, fleet.to_string()).expect("a file");
    server.set("JUNO_FLEET", &file.display().to_string());
    server.run().expect("juno starts");
    server
}

/// Checks status and kind of a problem, and gives its members.
fn problem(answer: &Answer, status: u16, slug: &str) -> Value {
    let text = answer.text();
    assert_eq!((answer.status, answer.content_type.as_str()), (status, "application/problem+json"), "{text}");
    let members = answer.json();
    assert_eq!(members["type"], format!("/problems/{slug}"), "{text}");
    members
}

/// The body of an answer with this status.
fn good(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()
}

/// Asks until the answer is what is wanted.
#[expect(clippy::disallowed_methods, reason = "other processes are waited for")]
fn wait<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// The ETag of a policy.
fn etag(server: &Server, policy: &str) -> String {
    let answer = crate::client::get(server, &format!("/api/v4/governance/policies/{policy}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("etag").to_owned()
}

/// The body of a proposal.
fn proposal(policy: &str, change: &Value) -> Value {
    json!({ "policy_type": policy, "policy": change, "reason": "a test" })
}
