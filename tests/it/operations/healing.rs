//! Self-healing over a fleet of real processes, as an operator sees it: by REST, by SQL and in the stream of events.
//!
//! **Invariant:** what juno says of a service is checked by asking the service.

use std::process::Command;
use std::time::Duration;

use juno_server::demo::fleet::fleet;
use juno_tests::Server;
use serde_json::{Value, json};

use super::{good, post, problem, send, wait, with_fleet};
use crate::client::{Postgres, get};
use crate::{name_program, skip};

/// How long the loop may take; it takes some ten seconds on a free machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn incidents(server: &Server) -> Vec<Value> {
    let answer = get(server, "/api/v4/healing/incidents?from=now-1h&order=asc");
    good(&answer, 200)["items"].as_array().cloned().unwrap_or_default()
}

/// Whether the service on a port does its work.
fn works(port: u16) -> bool {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2)));
    let agent = ureq::Agent::new_with_config(config.build());
    agent.get(format!("http://127.0.0.1:{port}/work")).call().is_ok()
}

fn kill(name: &str, port: u16) {
    let pattern = format!("demo-service --name {name} --port {port}");
    let killed = Command::new("pkill").args(["-KILL", "-f", &pattern]).status().expect("pkill runs");
    assert!(killed.success(), "no process of {name}");
}

fn stages(incident: &Value) -> Vec<&str> {
    let timeline = incident["timeline"].as_array().expect("a timeline");
    timeline.iter().filter_map(|move_| move_["stage"].as_str()).collect()
}

#[test]
fn a_killed_service_is_healed_and_every_door_tells() {
    if Command::new("pkill").arg("--version").output().is_err() {
        return skip("healing: pkill is not there", "JUNO_REQUIRE_CLIENTS");
    }
    name_program();
    let program = juno_tests::juno(&[]).get_program().to_string_lossy().into_owned();
    let fleet = fleet(&[program], Some(23_000)).expect("free ports");
    let port = |name: &str| {
        let found = fleet.services.iter().find(|service| service.name == name);
        found.and_then(|service| service.port).expect(name)
    };
    let mut server = with_fleet(&json!(fleet));
    wait(PATIENCE, "the fleet", || fleet.services.iter().all(|service| service.port.is_some_and(works)).then_some(()));

    kill("store", port("store"));
    let healed = wait(PATIENCE, "a resolved incident", || {
        incidents(&server).into_iter().find(|incident| incident["status"] == "resolved")
    });
    assert!(works(port("store")) && works(port("gateway")), "what is called healed must work");
    assert_eq!((&healed["service"], &healed["success"]), (&json!("store"), &json!(true)));
    assert_eq!(stages(&healed), ["open", "diagnosing", "remediating", "verifying", "diagnosing", "resolved"]);
    let first = &healed["diagnosis"]["candidates"][0];
    assert_eq!((&first["component"], &first["cause"]), (&json!("store"), &json!("process_down")));
    let action = &healed["remediation_actions"]["actions"][0];
    assert_eq!((&action["runbook"], &action["success"]), (&json!("restart"), &json!(true)));
    assert_eq!((&action["verification"]["passed"], &action["rolled_back"]), (&json!(true), &json!(false)));

    let postgres = Postgres::connect(&server);
    let id = healed["id"].as_str().expect("an id");
    let by_sql = postgres.value(&format!("SELECT status FROM healing_incidents_list WHERE id = '{id}'"));
    assert_eq!(by_sql, "resolved");
    let told = postgres.value(&format!(
        "SELECT count(DISTINCT data ->> 'status') FROM operations_events WHERE type = 'incident' AND subject = '{id}'"
    ));
    assert!(told.parse::<u32>().expect("a count") >= 4, "{told} moves in the stream of events");
    let seen = "SELECT min(healthy) || ' ' || max(healthy) FROM fleet_health WHERE service = 'store'";
    assert_eq!(postgres.value(seen), "0.0 1.0");
    let audit = "SELECT count(*) FROM audit WHERE operation = 'healing_remediate' AND actor = 'autopilot' AND stage IN ('before', 'after')";
    assert_eq!(postgres.value(audit), "2");
    let orders = "SELECT action || ' ' || state FROM juno_intents WHERE target = 'store'";
    assert_eq!(postgres.value(orders), "restart done");

    // The machine ends in the middle of an incident: the next start goes on with it.
    kill("mail", port("mail"));
    let open = wait(PATIENCE, "a new incident", || {
        incidents(&server).into_iter().find(|incident| incident["service"] == "mail")
    });
    server.kill().expect("a crash");
    server.run().expect("juno starts again");
    let id = open["id"].as_str().expect("an id");
    let path = format!("/api/v4/healing/incidents/{id}");
    wait(PATIENCE, "the end of the incident", || {
        (good(&get(&server, &path), 200)["status"] == "resolved").then_some(())
    });
    assert!(works(port("mail")));
    let running = "SELECT count(*) FROM juno_intents WHERE state = 'intended'";
    assert_eq!(Postgres::connect(&server).value(running), "0");
}

#[test]
fn people_remediate_under_the_same_guards() {
    name_program();
    let service = json!({ "name": "shop", "program": { "argv": ["sleep", "1000"] } });
    let guarded = json!({ "name": "vault", "program": { "argv": ["sleep", "1000"] }, "is_protected": true });
    let server = with_fleet(&json!({ "services": [service, guarded] }));
    let postgres = Postgres::connect(&server);
    let incident = |n: u32, service: &str| {
        let id = format!("00000000-0000-7000-8000-00000000000{n}");
        postgres.rows(&format!(
            "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES \
             ('{id}', now(), 'reported', 'low', '{{\"service\": \"{service}\"}}')"
        ));
        id
    };
    let shop = incident(1, "shop");
    let body = |action: &str| json!({ "incident_id": shop, "action": action });
    let ask = |body: &Value, key: &str| {
        send(&server, "POST", "healing/remediate", &[("Idempotency-Key", key), ("Prefer", "wait=30")], body)
    };
    problem(&post(&server, "healing/remediate", &body("restart")), 400, "idempotency-key-required");
    problem(&ask(&body("exorcise"), "a"), 422, "invalid-value");
    problem(&ask(&body("failover"), "a"), 422, "unknown-target");
    let nowhere = json!({ "incident_id": shop, "action": "restart", "target": { "name": "cellar" } });
    problem(&ask(&nowhere, "a"), 422, "unknown-target");
    let missing = json!({ "incident_id": "00000000-0000-7000-8000-0000000000ff", "action": "restart" });
    problem(&ask(&missing, "a"), 404, "not-found");

    let mut dry = body("restart");
    dry["dry_run"] = json!(true);
    let plan = good(&post(&server, "healing/remediate", &dry), 200);
    assert_eq!((&plan["policy"]["decision"], &plan["target"]["name"]), (&json!("dry_run"), &json!("shop")));
    assert_eq!(postgres.value("SELECT count(*) FROM juno_intents"), "0");

    // What another person must approve waits, whatever its risk.
    let mut careful = body("restart");
    careful["approval"] = json!("required");
    let waits = good(&ask(&careful, "b"), 202);
    assert_eq!(waits["state"], "awaiting_approval");

    let done = good(&ask(&body("restart"), "c"), 200);
    let result = &done["result"];
    assert_eq!(
        (&done["state"], &result["success"], &result["status"]),
        (&json!("succeeded"), &json!(true), &json!("resolved"))
    );
    let (before, after) = (&result["steps"][0]["before"], &result["steps"][0]["after"]);
    assert_ne!(before["replicas"][0]["pid"], after["replicas"][0]["pid"], "it was started anew");
    problem(&ask(&body("restart"), "d"), 409, "already-resolved");
    let again = incident(2, "shop");
    let rests = problem(&ask(&json!({ "incident_id": again, "action": "restart" }), "e"), 409, "cooldown-active");
    assert!(rests["detail"].as_str().is_some_and(|text| text.contains("rests")), "{rests}");

    // A verification that cannot pass: the order is taken back, and the incident stays open.
    let vault = incident(3, "vault");
    let verify = json!({ "sql": "SELECT 1", "is": "at_least", "value": 2, "within_s": 2 });
    let cordon = json!({ "incident_id": vault, "action": "cordon", "verify": verify });
    let failed = good(&ask(&cordon, "f"), 200);
    let result = &failed["result"];
    assert_eq!((&result["success"], &result["rolled_back"]), (&json!(false), &json!(true)), "{result}");
    assert_eq!(result["steps"][1]["name"], "undo of cordon");
    let path = format!("healing/incidents/{vault}");
    assert_eq!(good(&get(&server, &format!("/api/v4/{path}")), 200)["status"], "diagnosing");

    // Who looked after it closes it, once.
    let close = json!({ "success": true, "note": "a drill" });
    let closed = good(&send(&server, "PATCH", &path, &[], &close), 200);
    assert_eq!((&closed["status"], &closed["success"]), (&json!("resolved"), &json!(true)));
    problem(&send(&server, "PATCH", &path, &[], &close), 409, "already-resolved");
}

#[test]
fn telemetry_that_stands_out_becomes_one_diagnosed_incident() {
    let server = crate::server();
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs();
    let mut lines = Vec::new();
    for minute in (1..=400_u64).rev() {
        for (number, service) in ["shop", "cart", "pay"].into_iter().enumerate() {
            let noise =
                |salt: u64| ((minute * 7919 + number as u64 * 104_729 + salt) * 2_654_435_761 % 1000) as f64 / 1000.0;
            let wave = (minute as f64 / 20.0).sin();
            let is_ill = service == "shop" && minute <= 2;
            let extra = |much: f64| if is_ill { much } else { 0.0 };
            lines.push(format!(
                "web,service={service} latency={},cpu={},errors={} {}",
                50.0 + 10.0 * wave + 4.0 * noise(1) + extra(300.0),
                30.0 + 5.0 * wave + 2.0 * noise(2) + extra(50.0),
                1.0 + noise(3) + extra(40.0),
                now_s - 60 * minute
            ));
        }
    }
    let written = crate::client::http(&server, "POST", "/write?precision=s", &[], lines.join("\n").as_bytes());
    assert_eq!(written.status, 204, "{}", written.text());
    let found = wait(PATIENCE, "a diagnosed incident", || {
        incidents(&server).into_iter().find(|incident| !incident["diagnosis"].is_null())
    });
    assert_eq!((&found["service"], &found["status"]), (&json!("shop"), &json!("diagnosing")));
    assert_eq!(found["diagnosis"]["candidates"][0]["component"], "shop");
    assert_eq!(incidents(&server).len(), 1, "what is as usual is no incident");
}
