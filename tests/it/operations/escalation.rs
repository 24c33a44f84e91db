//! People are called to an incident that nobody healed in time: by a message to an address, as a receiver gets it.
//!
//! **Invariant:** the receiver knows HTTP and the secret, and nothing of juno.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use juno_server::actuator::webhook::is_signed;
use juno_tests::Server;
use serde_json::{Value, json};

use super::good;
use crate::client::get;
use crate::name_program;

const SECRET: &str = "a secret of some length";
/// How long it may take; it takes some ten seconds on a free machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Names and values.
pub(super) type Headers = Vec<(String, String)>;

/// Reads one request: its headers in small letters, and its body.
pub(super) fn read(stream: &TcpStream) -> Option<(Headers, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((headers, body))
}

/// A receiver that is busy at first; tells the key and the message of every call.
fn receiver() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/call", listener.local_addr().expect("an address"));
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut answers = ["503 Service Unavailable"].into_iter();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some((headers, body)) = read(&stream) else { continue };
            let header = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
            let at_s = header("x-juno-timestamp").and_then(|at_s| at_s.parse().ok()).unwrap_or_default();
            let signature = header("x-juno-signature").unwrap_or_default();
            let answer = match is_signed(SECRET.as_bytes(), at_s, &body, signature, at_s) {
                true => answers.next().unwrap_or("200 OK"),
                false => "401 Unauthorized",
            };
            let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let message = serde_json::from_slice(&body).unwrap_or_default();
            let key = header("idempotency-key").unwrap_or_default().to_owned();
            if tell.send((key, message)).is_err() {
                return;
            }
        }
    });
    (url, told)
}

#[test]
fn after_the_escalation_timeout_people_are_called_by_the_address_for_escalations() {
    name_program();
    let (url, told) = receiver();
    let mut server = Server::prepare().expect("a directory");
    let file = server.scratch("fleet.json");
    // It never runs, and healing may not do anything about it.
    let services = json!({ "services": [{ "name": "ghost", "program": { "argv": ["/no/such/program"] } }] });
    std::fs::write(&file, services.to_string()).expect("a file");
    server.set("JUNO_FLEET", &file.display().to_string());
    server.set("HEALING_AUTOMATION_LEVEL", "off");
    server.set("INCIDENT_ESCALATION_TIMEOUT", "1");
    server.set("JUNO_ESCALATION_URL", &url);
    server.set("JUNO_WEBHOOK_SECRET", SECRET);
    server.run().expect("juno starts");
    let first = told.recv_timeout(PATIENCE).expect("a call");
    let second = told.recv_timeout(PATIENCE).expect("a call again: the receiver was busy");
    assert_eq!(first, second);
    let (key, message) = second;
    assert_eq!((&message["type"], &message["service"]), (&json!("escalation"), &json!("ghost")));
    assert_eq!(message["incident_id"], key.as_str());
    assert!(message["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{message}");
    let path = message["path"].as_str().expect("a path");
    let incident = good(&get(&server, path), 200);
    assert_eq!((&incident["id"], &incident["status"]), (&json!(key), &json!("escalated")));
    assert_eq!(incident["severity"], message["severity"]);
}

#[test]
fn an_address_without_a_secret_is_a_clear_error() {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    server.set("JUNO_ESCALATION_URL", "http://127.0.0.1:1/call");
    let error = server.run().expect_err("nothing is signed").to_string();
    assert!(error.contains("JUNO_WEBHOOK_SECRET"), "{error}");
}
