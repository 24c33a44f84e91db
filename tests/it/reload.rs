//! SIGHUP: the file of settings, tokens and certificates, and what others know of attackers, feeds and Sigma rules, as files that
//! change.
//!
//! **Invariant:** what changed is seen from outside, by REST and SQL.

use std::path::Path;
use std::process::Command;

use juno_tests::attack::time_ago;
use juno_tests::{Server, juno};
use serde_json::{Value, json};

use crate::client::{Postgres, get, http};
use crate::drivers::python;
use crate::name_program;

/// A server that has its settings from a file, not started yet.
fn with_file(settings: &str) -> Server {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let path = server.scratch("juno.conf");
    std::fs::write(&path, settings).expect("a file");
    server.set("JUNO_CONFIG", &path.display().to_string());
    server
}

/// What the log says of a file of settings, and of another file, that cannot be used.
const NO_SETTINGS: &str = "the settings cannot be read again: all stay as they are";
const NO_FILES: &str = "tokens, certificate and key cannot be read again: all stay as they are";

fn write(server: &Server, settings: &str) {
    std::fs::write(server.scratch("juno.conf"), settings).expect("a file");
    hang_up(server);
}

fn hang_up(server: &Server) {
    let signalled = Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().expect("kill");
    assert!(signalled.success());
}

/// Lets the server read its files again, and waits until it has found that it cannot.
fn hang_up_in_vain(server: &Server, says: &str) {
    let before = server.logged(says);
    hang_up(server);
    server.until_logged(says, before).expect(says);
}

/// Asks until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
    }
    panic!("never: {what}");
}

fn status(server: &Server) -> Value {
    get(server, "/api/v4/operations/status").json()
}

fn setting(server: &Server, name: &str) -> Value {
    let config = get(server, "/api/v4/operations/config").json();
    let all = config["items"].as_array().expect("items").clone();
    all.into_iter().find(|item| item["id"] == name).expect("a setting")
}

#[test]
fn settings_of_a_file_change_while_juno_runs_and_a_bad_file_changes_nothing() {
    let mut server = with_file("JUNO_PHASE=3\nHEALING_AUTOMATION_LEVEL=low\n");
    server.set("THREAT_DETECTION_SENSITIVITY", "0.5");
    server.run().expect("juno starts");
    let found = status(&server);
    assert_eq!((&found["phase"], &found["autonomy_level"]), (&json!(3), &json!("low")));
    let source = setting(&server, "phase")["source"].as_str().unwrap_or_default().to_owned();
    assert!(source.starts_with("file ") && source.ends_with("juno.conf:1"), "{source}");
    let file = "HEALING_AUTOMATION_LEVEL=high\nRL_OPTIMIZATION_ENABLED=false\nTHREAT_DETECTION_SENSITIVITY=0.9\nJUNO_QUERY_MEMORY=1GiB\n";
    write(&server, file);
    until("the level is high", || status(&server)["autonomy_level"] == "high");
    let found = status(&server);
    assert_eq!((&found["phase"], &found["components"]["rl"]["enabled"]), (&json!(4), &json!(false)));
    assert_eq!(
        setting(&server, "threat-detection-sensitivity")["value"],
        "0.5",
        "the environment goes before the file"
    );
    assert_eq!(setting(&server, "query-memory")["value"], "2GiB", "what cannot change stays");
    let audit = || {
        let rows = get(&server, "/api/v4/audit?operation=settings").json();
        rows["items"].as_array().expect("items").clone()
    };
    until("the change is in the audit", || audit().len() == 1);
    let changes = audit()[0]["record"]["arguments"]["changes"].clone();
    let named: Vec<&str> = changes.as_array().expect("changes").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(named, ["phase", "rl-optimization-enabled", "healing-automation-level"]);
    let bad = "HEALING_AUTOMATION_LEVEL=full\nJUNO_PHASE=high\n";
    std::fs::write(server.scratch("juno.conf"), bad).expect("a file");
    hang_up_in_vain(&server, NO_SETTINGS);
    assert_eq!(status(&server)["autonomy_level"], "high", "a file with an error changes nothing");
    write(&server, "HEALING_AUTOMATION_LEVEL=medium\n");
    until("the level is medium", || status(&server)["autonomy_level"] == "medium");
    assert_eq!(get(&server, "/api/v4/operations/status").json()["components"]["rl"]["enabled"], true);
}

#[test]
fn a_file_of_settings_that_cannot_be_used_keeps_juno_from_starting_and_config_shows_one_that_can() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("juno.conf");
    let run = |command: &str, text: &str| {
        name_program();
        std::fs::write(&path, text).expect("a file");
        let output = juno(&[command, "--config", &path.display().to_string()]).output().expect("juno runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for (text, place, part) in
        [("# ours\nJUNO_FEED_DIR=/x\n", 2, "no setting"), ("SCALING_COOLDOWN_PERIOD=soon\n", 1, "whole seconds")]
    {
        let (code, _, errors) = run("serve", text);
        let place = format!("{}:{place}: ", path.display());
        assert!(code == Some(2) && errors.contains(&place) && errors.contains(part), "{errors}");
    }
    let (code, out, errors) = run("config", "SCALING_COOLDOWN_PERIOD=60\n");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let line = out.lines().find(|line| line.starts_with("scaling-cooldown-period")).expect("a line");
    assert!(line.contains("60") && line.contains("juno.conf:1"), "{line}");
}

/// Two tokens, and the SHA-256 of each.
const TOKENS: [(&str, &str); 2] = [
    ("open sesame", "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb"),
    ("another token", "183411858409390d8bb291f8dc8bfb33176580b7ca727a73f510f745e8c5cc7f"),
];

#[test]
fn tokens_are_read_again_at_a_signal_and_a_bad_file_changes_nothing() {
    let mut server = with_file("");
    let file = server.scratch("tokens");
    let write = |text: &str| std::fs::write(&file, text).expect("a file");
    let [(old, old_hash), (new, new_hash)] = TOKENS;
    write(&format!("grafana viewer {old_hash}\n"));
    server.set("JUNO_AUTH_TOKENS_FILE", &file.display().to_string());
    server.run().expect("juno starts");
    let asks = |token: &str| {
        let authorization = format!("Bearer {token}");
        http(&server, "GET", "/metrics", &[("authorization", &authorization)], b"").status
    };
    assert_eq!((asks(old), asks(new)), (200, 401));
    write(&format!("grafana viewer {new_hash}\n"));
    hang_up(&server);
    until("the new token lets in", || asks(new) == 200);
    assert_eq!(asks(old), 401, "the old one is worth nothing any more");
    // Without any token, and without users, everybody would be let in.
    for bad in ["grafana viewer 12\n", "# nobody\n"] {
        write(bad);
        hang_up_in_vain(&server, NO_FILES);
        assert_eq!((asks(new), asks(old)), (200, 401), "{bad}");
    }
    write(&format!("grafana viewer {old_hash}\n"));
    hang_up(&server);
    until("the old token lets in again", || {
        let seen = (asks(new), asks(old));
        assert_ne!(seen, (401, 401), "there was no time without a token");
        seen == (401, 200)
    });
}

#[test]
fn certificate_and_key_are_read_again_at_a_signal_and_a_bad_file_changes_nothing() {
    let Some(python) = python("ssl") else { return };
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name);
    let mut server = with_file("");
    let (certificate, key) = (server.scratch("certificate.pem"), server.scratch("key.pem"));
    let install = |prefix: &str| {
        for (name, path) in [("certificate.pem", &certificate), ("key.pem", &key)] {
            std::fs::copy(fixture(&format!("{prefix}{name}")), path).expect("a file");
        }
    };
    install("");
    server.set("JUNO_TLS_CERT", &certificate.display().to_string());
    server.set("JUNO_TLS_KEY", &key.display().to_string());
    server.run().expect("juno starts");
    let shows = |name: &str| {
        let script = "import ssl, sys, urllib.request\n\
                      context = ssl.create_default_context(cafile=sys.argv[1])\n\
                      print(urllib.request.urlopen(sys.argv[2], context=context).status)";
        let url = server.url("/healthz").replace("http://127.0.0.1", "https://localhost");
        let asked = Command::new(&python).args(["-c", script]).arg(fixture(name)).arg(url).output().expect("python");
        asked.status.success()
    };
    let (old, new) = ("certificate.pem", "other-certificate.pem");
    assert!(shows(old) && !shows(new));
    install("other-");
    hang_up(&server);
    until("the new certificate is shown", || shows(new));
    assert!(!shows(old));
    // A key that does not belong to its certificate.
    std::fs::copy(fixture("key.pem"), &key).expect("a file");
    hang_up_in_vain(&server, NO_FILES);
    assert!(shows(new) && !shows(old));
    install("");
    hang_up(&server);
    until("the old certificate is shown again", || shows(old));
}

fn analyzed(server: &Server, address: &str) -> Value {
    let body = json!({ "indicators": [{ "type": "ip", "value": address }] }).to_string();
    let headers = [("Content-Type", "application/json")];
    http(server, "POST", "/api/v4/threats/analyze", &headers, body.as_bytes()).json()["verdict"].clone()
}

fn rule(event: &str, level: &str) -> String {
    format!(
        "title: {event}\nid: {event}\nlevel: {level}\ntags: [attack.t1562.008]\nlogsource:\n    product: aws\n    service: cloudtrail\n\
         detection:\n    selection:\n        eventSource: cloudtrail.amazonaws.com\n        eventName: {event}\n    condition: selection\n"
    )
}

fn trail(server: &Server, event: &str, id: &str) {
    let record = json!({
        "eventTime": time_ago(0), "eventID": id, "eventName": event, "eventSource": "cloudtrail.amazonaws.com",
        "sourceIPAddress": "203.0.113.7", "userIdentity": { "userName": "eve" },
    });
    let body = record.to_string();
    assert_eq!(http(server, "POST", "/api/v4/ingest?format=cloudtrail", &[], body.as_bytes()).status, 200);
}

fn told(server: &Server) -> Vec<Value> {
    let alerts = get(server, "/api/v4/threats/alerts?type=sigma").json();
    alerts["items"].as_array().cloned().unwrap_or_default()
}

#[test]
fn feeds_and_rules_are_loaded_anew_at_a_signal_and_rules_find_what_comes() {
    let mut server = with_file("");
    let dir = |name: &str| server.scratch(name);
    let (feeds, rules) = (dir("feeds"), dir("rules"));
    for path in [feeds.clone(), rules.join("aws")] {
        std::fs::create_dir_all(path).expect("a directory");
    }
    let file = |path: &Path, text: &str| std::fs::write(path, text).expect("a file");
    file(&feeds.join("a.csv"), "198.51.100.7\n");
    file(&rules.join("aws/stop.yml"), &rule("StopLogging", "high"));
    file(&rules.join("broken.yml"), "title: broken\n");
    server.set("THREAT_INTELLIGENCE_FEEDS", "true");
    server.set("JUNO_FEEDS_DIR", &feeds.display().to_string());
    server.set("JUNO_SIGMA_RULES_DIR", &rules.display().to_string());
    server.run().expect("juno starts");
    let known = || Postgres::connect(&server).rows("SELECT source_file, id, techniques FROM sigma_rules ORDER BY id");
    assert_eq!(known(), ["aws/stop.yml|StopLogging|[\"T1562.008\"]"]);
    assert_eq!(
        (analyzed(&server, "198.51.100.7"), analyzed(&server, "198.51.100.8")),
        (json!("suspicious"), json!("benign"))
    );
    trail(&server, "StartLogging", "e0");
    trail(&server, "StopLogging", "e1");
    until("the rule tells", || !told(&server).is_empty());
    let threat = told(&server).remove(0);
    assert_eq!((&threat["severity"], &threat["entity"]), (&json!("high"), &json!("203.0.113.7")));
    assert_eq!(threat["indicators"]["mitre"], json!(["T1562.008"]));
    file(&feeds.join("a.csv"), "198.51.100.8\n");
    file(&rules.join("aws/stop.yml"), &rule("DeleteTrail", "low"));
    write(&server, "");
    until("the rule is the new one", || known() == ["aws/stop.yml|DeleteTrail|[\"T1562.008\"]"]);
    until("the feed is the new one", || analyzed(&server, "198.51.100.8") == "suspicious");
    assert_eq!(analyzed(&server, "198.51.100.7"), "benign");
    trail(&server, "DeleteTrail", "e2");
    until("the new rule tells", || told(&server).len() == 2);
}
