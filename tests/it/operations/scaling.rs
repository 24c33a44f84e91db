//! Services that scale by themselves over a fleet of real processes, within guard rails of the operator's own.
//!
//! **Invariant:** how many processes there are, the system is asked.

use std::process::Command;
use std::time::{Duration, Instant};

use juno_tests::Server;
use serde_json::{Value, json};

use super::{good, post, problem, send};
use crate::client::{Postgres, get};
use crate::{name_program, skip};

/// How long the loop may take; it decides every 15 seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the processes of this test are known by.
const ARGUMENT: &str = "86461";

const RULES: &str = r#"
    package juno
    deny contains "four are enough" if {
        input.operation == "scaling_execute"
        input.plan.to > 4
    }
"#;

fn processes() -> usize {
    let found = Command::new("pgrep").args(["-f", &format!("sleep {ARGUMENT}")]).output().expect("pgrep runs");
    String::from_utf8_lossy(&found.stdout).lines().count()
}

/// Half an hour of a demand, up to now.
fn demand(server: &Server) {
    let postgres = Postgres::connect(server);
    postgres
        .rows("CREATE TABLE load (time TIMESTAMPTZ, service TEXT, requests DOUBLE PRECISION) WITH (tags = 'service')");
    postgres.rows(
        "INSERT INTO load SELECT now() - INTERVAL '15 seconds' * n, 'shop', 25 FROM generate_series(0, 120) AS g(n)",
    );
}

/// Waits for what the loop decides.
#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
fn decided(server: &Server, is_it: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let all = get(server, "/api/v4/scaling/autoscale").json();
        if let Some(found) = all["items"].as_array().into_iter().flatten().find(|one| is_it(one)) {
            return found.clone();
        }
        assert!(Instant::now() < until, "it did not come: {all}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn a_service_scales_by_itself_within_the_rules_of_the_house() {
    if Command::new("pgrep").arg("--version").output().is_err() {
        return skip("scaling: pgrep is not there", "JUNO_REQUIRE_CLIENTS");
    }
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let fleet =
        json!({ "services": [{ "name": "shop", "replicas_max": 8, "program": { "argv": ["sleep", ARGUMENT] } }] });
    for (name, variable, text) in
        [("fleet.json", "JUNO_FLEET", fleet.to_string()), ("rails.rego", "JUNO_GUARD_RAILS", RULES.into())]
    {
        let file = server.scratch(name);
        std::fs::write(&file, text).expect("a file");
        server.set(variable, &file.display().to_string());
    }
    server.run().expect("juno starts");
    demand(&server);
    let by_hand = json!({ "target": { "name": "shop" }, "to": 5, "reason": "a sale" });
    let denied = send(&server, "POST", "scaling/execute", &[("Idempotency-Key", "five")], &by_hand);
    let told = problem(&denied, 403, "policy-denied");
    assert!(told["detail"].as_str().unwrap().contains("four are enough"), "{told}");
    assert_eq!(processes(), 1);
    let body = json!({
        "service": "shop", "step": "15s", "unit": { "startup_s": 1 }, "bounds": { "min": 1, "max": 8 },
        "demand": [{ "resource": "requests", "metric": "load.requests", "agg": "avg", "capacity": 10 }],
    });
    good(&post(&server, "scaling/autoscale", &body), 200);
    let first = decided(&server, |one| !one["state"].is_null());
    assert_eq!((&first["decision"]["from"], &first["decision"]["to"]), (&json!(1), &json!(2)), "{first}");
    let history = decided(&server, |one| one["decision"]["from"] == 2);
    assert!(processes() >= 2, "{history}");
    let events = get(&server, "/api/v4/scaling/history?executed_by=policy&from=now-1h").json();
    assert_eq!(events["items"][0]["service"], "shop", "{events}");
    good(&post(&server, "scaling/autoscale", &json!({ "service": "shop", "enabled": false })), 200);
}

#[test]
fn rules_that_cannot_be_used_keep_juno_from_starting() {
    name_program();
    let server = Server::prepare().expect("a directory");
    let file = server.scratch("rails.rego");
    std::fs::write(&file, "package other\ndeny contains \"no\" if { true }").expect("a file");
    let data = server.scratch("data").display().to_string();
    let rails = file.display().to_string();
    let arguments =
        ["serve", "--data", &data, "--pg-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--guard-rails", &rails];
    let ended = juno_tests::juno(&arguments).output().expect("juno runs");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code() == Some(1) && told.contains("JUNO_GUARD_RAILS") && told.contains("package juno"),
        "{told}"
    );
}
