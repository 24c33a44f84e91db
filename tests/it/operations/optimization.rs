//! Optimisation from end to end, as an operator asks for it: telemetry comes in, a service is declared as scaled, better knobs are
//! found, put in force and written down.
//!
//! **Invariant:** everything is asked over HTTP.

use std::time::{Duration, SystemTime};

use juno_tests::Server;
use serde_json::{Value, json};

use super::{good, post, problem, wait, with_fleet};
use crate::client::{get, http};
use crate::name_program;

/// How long the simulation may take; it takes some ten seconds in a build that is not optimised.
const PATIENCE: Duration = Duration::from_secs(300);

fn write(server: &Server, lines: &[String]) {
    let written = http(server, "POST", "/write?precision=s", &[], lines.join("\n").as_bytes());
    assert_eq!(written.status, 204, "{}", written.text());
}

/// Four days of requests that repeat themselves, and half an hour of what the units carry now.
fn telemetry(server: &Server) {
    let now_s = SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs();
    let day = |step: u64| {
        let wave = (step as f64 * std::f64::consts::TAU / 288.0).sin();
        format!("traffic,service=shop requests={} {}", 60_000.0 + 40_000.0 * wave, now_s - 300 * (1_152 - step))
    };
    write(server, &(0..1_152).map(day).collect::<Vec<String>>());
    let now = |step: u64| format!("load,service=shop requests=9 {}", now_s - 15 * step);
    write(server, &(0..120).map(now).collect::<Vec<String>>());
}

/// The rows of a query.
fn rows(server: &Server, sql: &str) -> Value {
    let answer = http(server, "POST", "/api/v4/query", &[], json!({ "sql": sql }).to_string().as_bytes());
    good(&answer, 200)["rows"].clone()
}

#[test]
fn knobs_that_are_better_are_found_put_in_force_and_written_down() {
    name_program();
    let service = json!({ "name": "shop", "replicas_max": 8, "program": { "argv": ["sleep", "1000"] } });
    let server = with_fleet(&json!({ "services": [service] }));
    telemetry(&server);
    let optimize = json!({
        "type": "cost", "scope": { "service": "shop" }, "metric": "traffic.requests", "apply": true,
    });
    problem(&post(&server, "operations/optimize", &optimize), 409, "state-conflict");
    let scaled = json!({
        "service": "shop", "policy": "shop", "step": "15s", "unit": { "startup_s": 1 }, "bounds": { "min": 1, "max": 8 },
        "demand": [{ "resource": "requests", "metric": "load.requests", "agg": "avg", "capacity": 10 }],
    });
    good(&post(&server, "scaling/autoscale", &scaled), 200);

    let begun = post(&server, "operations/optimize", &optimize);
    let location = begun.header("location").to_owned();
    good(&begun, 202);
    let job = wait(PATIENCE, "the end of the job", || {
        let job = good(&get(&server, &location), 200);
        job["finished_at"].is_string().then_some(job)
    });
    let found = &job["result"];
    assert_eq!(
        (&job["state"], &found["verdict"], &found["applied"]),
        (&json!("succeeded"), &json!("better"), &json!(true)),
        "{job}"
    );
    let improvement = found["improvement_pct"].as_f64().expect("a number");
    assert!(found["ci95"][0].as_f64().is_some_and(|low| low > 0.0 && low <= improvement), "{found}");

    // What it brought is measured a day later, and is not known yet.
    let history = rows(
        &server,
        "SELECT id, optimization_type, parameters ->> 'service', parameters ->> 'applied', improvement_percentage \
         FROM optimization_history",
    );
    assert_eq!(history, json!([[found["optimization_id"], "cost", "shop", "true", null]]));

    let in_force = rows(&server, "SELECT service, optimization_id, knobs FROM juno_scaling_knobs");
    assert_eq!((&in_force[0][0], &in_force[0][1]), (&json!("shop"), &found["optimization_id"]), "{in_force}");
    let recommended = found["recommended"].as_array().expect("knobs");
    assert!(!recommended.is_empty());
    for one in recommended {
        let knob = one["knob"].as_str().expect("a name");
        assert_eq!(in_force[0][2][knob].as_f64(), one["new"].as_f64(), "{knob}: {in_force}");
    }

    // The service goes on being scaled, by the rule that takes the knobs up.
    let all = wait(PATIENCE, "a decision", || {
        let all = good(&get(&server, "/api/v4/scaling/autoscale"), 200);
        all["items"][0]["decided_at"].is_string().then_some(all)
    });
    let one = &all["items"][0];
    assert_eq!((&one["service"], &one["enabled"]), (&json!("shop"), &json!(true)), "{all}");
    assert_eq!(
        (&one["request"]["policy"], &one["decision"]["resource"]),
        (&json!("shop"), &json!("requests")),
        "{all}"
    );
    let audit = good(&get(&server, "/api/v4/audit?operation=operations_optimize&order=asc"), 200);
    let stages: Vec<&str> =
        audit["items"].as_array().expect("rows").iter().filter_map(|row| row["stage"].as_str()).collect();
    assert_eq!((stages.first(), stages.last()), (Some(&"refused"), Some(&"after")), "{audit}");
}
