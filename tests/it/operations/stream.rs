//! What describes the interface, and what it tells by itself: OpenAPI, the page of it, and the stream of events.
//!
//! **Invariant:** the stream is read over a plain socket, as a browser would.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use juno_server::v4::ENDPOINTS;
use juno_tests::Server;
use serde_json::{Value, json};

use super::{good, post};
use crate::client::get;
use crate::server;

#[test]
fn the_description_is_the_table() {
    let server = server();
    let document = get(&server, "/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .expect("methods")
                .keys()
                .map(|method| (path.clone(), method.to_uppercase()))
                .collect::<Vec<_>>()
        })
        .collect();
    let table: BTreeSet<(String, String)> =
        ENDPOINTS.iter().map(|row| (row.path.to_owned(), row.method.to_owned())).collect();
    assert_eq!(described, table);
    let kill =
        &document["paths"]["/api/v4/kill-switch"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!((&kill["required"], &kill["additionalProperties"]), (&json!(["engaged", "reason"]), &json!(false)));
    let incidents =
        &document["paths"]["/api/v4/healing/incidents"]["get"]["responses"]["200"]["content"]["application/json"];
    let rows = &incidents["schema"]["properties"]["items"]["items"]["$ref"];
    assert_eq!(rows, "#/components/schemas/healing_incidents_list");
    let job = &document["components"]["schemas"]["Job"];
    assert_eq!(
        (&job["properties"]["id"]["format"], &job["properties"]["error"]["type"]),
        (&json!("uuid"), &json!(["object", "null"]))
    );
    let docs = get(&server, "/docs");
    assert!(docs.content_type.starts_with("text/html") && docs.text().contains("/api/v4/kill-switch"));
    assert_eq!(get(&server, "/startupz").json(), json!({ "status": "started" }));
}

/// The next event of a stream: its id, its type and its data.
fn next(stream: &mut impl BufRead) -> (String, String, Value) {
    let (mut id, mut kind, mut data) = (String::new(), String::new(), Value::Null);
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a line") > 0, "the stream ended");
        match line.trim_end().split_once(": ") {
            Some(("id", text)) => id = text.to_owned(),
            Some(("event", text)) => kind = text.to_owned(),
            Some(("data", text)) => data = serde_json::from_str(text).expect("JSON"),
            _ if line.trim().is_empty() && !id.is_empty() => return (id, kind, data),
            _ => {}
        }
    }
}

fn open(server: &Server, query: &str, last: &str) -> BufReader<TcpStream> {
    let url = server.url("");
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).expect("a connection");
    let last = if last.is_empty() { String::new() } else { format!("Last-Event-ID: {last}\r\n") };
    write!(stream, "GET /api/v4/events{query} HTTP/1.1\r\nHost: juno\r\n{last}\r\n").expect("a request");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).expect("a status");
    assert!(line.contains("200"), "{line}");
    stream
}

#[test]
fn events_come_as_they_happen_and_go_on_where_the_last_was_read() {
    let server = server();
    let mut all = open(&server, "", "");
    let switched =
        |reason: &str| good(&post(&server, "kill-switch", &json!({ "engaged": true, "reason": reason })), 200);
    switched("first");
    let (first, kind, data) = next(&mut all);
    assert_eq!((kind.as_str(), &data["data"]["reason"]), ("policy", &json!("first")));
    crate::client::Postgres::connect(&server).rows(
        "INSERT INTO healing_incidents (id, detected_at, incident_type, severity, symptoms) \
         VALUES (gen_random_uuid(), now(), 'crash', 'high', '{\"service\": \"shop\"}')",
    );
    let (_, kind, data) = next(&mut all);
    assert_eq!((kind.as_str(), &data["data"]["symptoms"]["service"]), ("incident", &json!("shop")));
    switched("second");
    assert_eq!(next(&mut all).2["data"]["reason"], "second");
    let mut behind = open(&server, "", &first);
    assert_eq!(
        (next(&mut behind).1, next(&mut behind).2["data"]["reason"].clone()),
        ("incident".into(), json!("second"))
    );
    let mut chosen = open(&server, "?type=policy", &first);
    assert_eq!(next(&mut chosen).2["data"]["reason"], "second");
}
