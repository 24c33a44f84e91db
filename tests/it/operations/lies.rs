//! Targets that lie or hang, behind a webhook: what they say of themselves heals no incident that telemetry showed.
//!
//! **Invariant:** the receiver knows the messages of the webhook, and nothing of juno.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use juno_tests::Server;
use serde_json::{Value, json};

use super::escalation::read;
use super::{good, problem, send};
use crate::client::{Postgres, get, http};
use crate::name_program;

/// Two units that are always well, by their own word.
fn well(start: u32, wanted: u32) -> Value {
    let replica =
        |index: u32| json!({ "index": index, "state": "running", "is_healthy": true, "started": start.to_string() });
    json!({ "wanted": wanted, "replicas": (0..wanted).map(replica).collect::<Vec<Value>>() })
}

/// What is answered to a message, None for never; `restarts` counts what was really started anew.
fn answer(message: &Value, restarts: &mut u32) -> Option<Value> {
    let target = |name: &str| json!({ "name": name, "kind": "vm", "actions": ["restart", "scale"] });
    let order = &message["order"];
    let name = order["target"].as_str().or(message["target"].as_str()).unwrap_or_default();
    match (message["type"].as_str().unwrap_or_default(), name) {
        ("targets", _) => Some(json!(["idle", "mute", "proud"].map(target))),
        // It does restart, and says that it is well whatever happens.
        ("observe", "proud") => Some(well(*restarts, 2)),
        ("observe", _) => Some(well(0, 2)),
        ("act", "proud") => {
            *restarts += 1;
            Some(json!({ "before": well(*restarts - 1, 2), "after": well(*restarts, 2) }))
        }
        // It tells of a third unit and of new processes, and does nothing.
        ("act", "idle") => Some(json!({ "before": well(0, 2), "after": well(1, 3) })),
        _ => None,
    }
}

fn receiver() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/orders", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut unanswered: Vec<TcpStream> = Vec::new();
        let mut restarts = 0;
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some((_, body)) = read(&stream) else { continue };
            let message: Value = serde_json::from_slice(&body).unwrap_or_default();
            let Some(answer) = answer(&message, &mut restarts).map(|answer| answer.to_string()) else {
                unanswered.push(stream);
                continue;
            };
            let length = answer.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{answer}");
        }
    });
    url
}

/// A server whose targets are behind that webhook, each with an incident that telemetry showed; the ids of the incidents.
fn with_liars() -> (Server, [String; 3]) {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    server.set("JUNO_WEBHOOK_URL", &receiver());
    server.set("JUNO_WEBHOOK_SECRET", "a secret of some length");
    server.run().expect("juno starts");
    let postgres = Postgres::connect(&server);
    let ids = [("idle", 1), ("mute", 2), ("proud", 3)].map(|(service, number)| {
        let id = format!("00000000-0000-7000-8000-00000000000{number}");
        postgres.rows(&format!(
            "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) VALUES \
             ('{id}', now(), 'performance', 'low', '{{\"service\": \"{service}\", \"source\": \"telemetry\"}}')"
        ));
        id
    });
    (server, ids)
}

#[test]
fn a_target_that_lies_or_hangs_heals_nothing_and_the_history_says_so() {
    let (server, [idle, mute, proud]) = with_liars();
    let ask = |body: &Value, key: &str| {
        send(&server, "POST", "healing/remediate", &[("Idempotency-Key", key), ("Prefer", "wait=30")], body)
    };
    let incident = |id: &str| good(&get(&server, &format!("/api/v4/healing/incidents/{id}")), 200);
    let is_open = |id: &str| {
        let row = incident(id);
        assert_eq!(
            (&row["status"], &row["resolved_at"], &row["success"]),
            (&json!("diagnosing"), &Value::Null, &Value::Null)
        );
        row
    };

    let more = json!({ "incident_id": idle, "action": "scale", "params": { "replicas": 3 } });
    let result = good(&ask(&more, "a"), 200)["result"].clone();
    assert_eq!((&result["success"], &result["rolled_back"]), (&json!(false), &json!(true)), "{result}");
    let why = result["verification"]["contradiction"].as_str().expect("a reason");
    assert!(why.contains("\"idle\" still has 2 units"), "{result}");
    assert_eq!(is_open(&idle)["remediation_actions"]["actions"][0]["rolled_back"], true);

    let hung = json!({ "incident_id": mute, "action": "restart", "timeout_s": 1 });
    let job = good(&ask(&hung, "b"), 200);
    assert_eq!((&job["state"], &job["error"]["type"]), (&json!("failed"), &json!("/problems/target-timeout")), "{job}");
    is_open(&mute);

    // It was restarted and says that it is well: whether the incident is over, telemetry says.
    let restart = json!({ "incident_id": proud, "action": "restart" });
    let result = good(&ask(&restart, "c"), 200)["result"].clone();
    assert_eq!((&result["success"], &result["verification"]["evidence"]), (&json!(true), &json!("told")), "{result}");
    is_open(&proud);
    problem(&ask(&restart, "d"), 409, "cooldown-active");

    let postgres = Postgres::connect(&server);
    let orders = "SELECT target, action, is_undo, state FROM juno_intents ORDER BY id";
    let expected = ["idle|scale|f|done", "idle|scale|t|done", "mute|restart|f|failed", "proud|restart|f|done"];
    assert_eq!(postgres.rows(orders), expected);
    let remediations = "SELECT target, state, ended_at IS NOT NULL FROM juno_remediations ORDER BY began_at";
    assert_eq!(postgres.rows(remediations), ["idle|failed|t", "mute|failed|t", "proud|succeeded|t"]);
}

#[test]
fn a_target_that_says_it_is_well_is_held_against_what_a_select_finds() {
    let (server, [.., proud]) = with_liars();
    assert_eq!(http(&server, "POST", "/write", &[], b"web,service=proud errors=40").status, 204);
    let verify = json!({
        "sql": "SELECT last(errors, time) FROM web WHERE service = 'proud'", "value": 5, "hold": 1, "within_s": 2,
    });
    let restart = json!({ "incident_id": proud, "action": "restart", "verify": verify });
    let headers = [("Idempotency-Key", "a"), ("Prefer", "wait=30")];
    let result = good(&send(&server, "POST", "healing/remediate", &headers, &restart), 200)["result"].clone();
    assert_eq!(
        (&result["success"], &result["verification"]["evidence"]),
        (&json!(false), &json!("select")),
        "{result}"
    );
    assert_eq!(result["verification"]["observed"]["sql"], 40.0);
    let row = good(&get(&server, &format!("/api/v4/healing/incidents/{proud}")), 200);
    assert_eq!((&row["status"], &row["success"]), (&json!("diagnosing"), &Value::Null));
}
