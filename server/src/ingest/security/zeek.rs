//! Zeek's JSON logs: `conn`, `dns` and `http`.
//!
//! Which log a record is of, its `_path` says, where the log is written with it, and else the members that it has.
//!
//! **Invariant:** pure; a record of another log of Zeek that says so is no event.

use serde_json::Value;

use super::{DNS, Event, HTTP, NETWORK, number, time_us};

/// The event of a record.
pub(super) fn event(record: &Value) -> Result<Option<Event>, String> {
    let text = |name: &str| record[name].as_str();
    let count = |name: &str| number(&record[name]);
    let time = [&record["ts"], &record["@timestamp"]].into_iter().find_map(time_us).ok_or("it has no time ts")?;
    let Some(class) = class(record) else { return Ok(None) };
    let event = Event::new(time, "zeek", class)
        .text("src_ip", text("id.orig_h"))
        .number("src_port", count("id.orig_p"))
        .text("dst_ip", text("id.resp_h"))
        .number("dst_port", count("id.resp_p"))
        .text("protocol", text("proto"))
        .text("app_protocol", text("service"));
    Ok(Some(match class {
        DNS => event
            .text("dns_query", text("query"))
            .text("dns_type", text("qtype_name"))
            .status(text("rcode_name").map(|code| code == "NOERROR")),
        HTTP => request(event, record),
        _ => {
            let duration_ms = record["duration"].as_f64().map(|seconds| (seconds * 1_000.0).round() as i64);
            event
                .text("event_uid", text("uid"))
                .text("conn_state", text("conn_state"))
                .number("duration_ms", duration_ms)
                .number("bytes_out", count("orig_bytes"))
                .number("bytes_in", count("resp_bytes"))
                .number("pkts_out", count("orig_pkts"))
                .number("pkts_in", count("resp_pkts"))
        }
    }))
}

/// The class of a record; none where it is of another log.
fn class(record: &Value) -> Option<i64> {
    record["id.orig_h"].as_str()?;
    let has = |name: &str| record.get(name).is_some();
    match record["_path"].as_str() {
        Some("conn") => Some(NETWORK),
        Some("dns") => Some(DNS),
        Some("http") => Some(HTTP),
        Some(_) => None,
        None if has("query") => Some(DNS),
        // SIP has requests too.
        None if has("call_id") => None,
        None if ["method", "uri", "status_code"].into_iter().any(has) => Some(HTTP),
        None => has("id.resp_h").then_some(NETWORK),
    }
}

/// A request of HTTP with its answer. A connection has several, so that its uid is not that of the event; bytes are those of bodies.
fn request(event: Event, record: &Value) -> Event {
    let text = |name: &str| record[name].as_str();
    let status = number(&record["status_code"]);
    let activity = text("method").map(|method| match method {
        "CONNECT" => 1,
        "DELETE" => 2,
        "GET" => 3,
        "HEAD" => 4,
        "OPTIONS" => 5,
        "POST" => 6,
        "PUT" => 7,
        "TRACE" => 8,
        _ => 99,
    });
    event
        .number("activity_id", activity)
        .status(status.map(|status| status < 400))
        .text("actor_user", text("username"))
        .text("dst_domain", text("host"))
        .text("app_protocol", Some("http"))
        .text("http_method", text("method"))
        .text("http_url", text("uri"))
        .text("user_agent", text("user_agent"))
        .number("http_status", status)
        .number("bytes_out", number(&record["request_body_len"]))
        .number("bytes_in", number(&record["response_body_len"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connection_has_its_ends_and_its_volume() {
        let record = json!({
            "ts": 1_588_205_000.25, "uid": "Cx", "id.orig_h": "10.0.1.4", "id.orig_p": 51000, "id.resp_h": "192.0.2.9",
            "id.resp_p": 443, "proto": "tcp", "service": "ssl", "duration": 1.5, "orig_bytes": 100, "resp_bytes": 2000,
            "conn_state": "SF", "orig_pkts": 3, "resp_pkts": 4,
        });
        let event = event(&record).unwrap().unwrap();
        assert_eq!(event.time_us, 1_588_205_000_250_000);
        assert_eq!((event.texts["event_uid"].as_str(), event.texts["dst_ip"].as_str()), ("Cx", "192.0.2.9"));
        let numbers = ["class_uid", "dst_port", "duration_ms", "bytes_out", "bytes_in"].map(|name| event.numbers[name]);
        assert_eq!(numbers, [4001, 443, 1500, 100, 2000]);
    }

    #[test]
    fn a_question_of_dns_is_an_event_of_its_own_class() {
        let record = json!({
            "ts": "2020-05-01T22:55:00.123456Z", "uid": "Cx", "id.orig_h": "10.0.1.4", "id.resp_h": "10.0.0.4",
            "query": "example.com", "qtype_name": "TXT", "rcode_name": "NXDOMAIN",
        });
        let event = event(&record).unwrap().unwrap();
        assert_eq!((event.numbers["class_uid"], event.numbers["status_id"]), (4003, 2));
        assert_eq!((event.texts["dns_query"].as_str(), event.texts["dns_type"].as_str()), ("example.com", "TXT"));
        assert!(!event.texts.contains_key("event_uid"), "one connection asks several questions");
    }

    #[test]
    fn requests_of_http_have_what_was_asked_of_whom_and_how_it_was_answered() {
        let lines = [
            r#"{"ts":1591367999.512593,"uid":"C5bLoe2Mvxqhawzqqd","id.orig_h":"192.168.4.76","id.orig_p":46378,"id.resp_h":"31.3.245.133","id.resp_p":80,"trans_depth":1,"method":"GET","host":"testmyids.com","uri":"/","version":"1.1","user_agent":"curl/7.47.0","request_body_len":0,"response_body_len":39,"status_code":200,"status_msg":"OK","tags":[],"resp_fuids":["FEEsZS1w0Z0VJIb5x4"],"resp_mime_types":["text/plain"]}"#,
            r#"{"_path":"http","ts":"2026-01-01T00:00:00.000000Z","uid":"CQ7ocq2FUFJ2ZMBLv4","id.orig_h":"10.0.1.4","id.orig_p":51544,"id.resp_h":"192.0.2.9","id.resp_p":8080,"trans_depth":2,"method":"POST","host":"shop.example","uri":"/login.php?id=1%27%20OR%201=1","version":"1.1","user_agent":"sqlmap/1.7","request_body_len":1200,"response_body_len":0,"status_code":403,"status_msg":"Forbidden","username":"eve","tags":[]}"#,
            r#"{"ts":1591368000.1,"uid":"C5bLoe2Mvxqhawzqqd","id.orig_h":"192.168.4.76","id.orig_p":46378,"id.resp_h":"31.3.245.133","id.resp_p":80,"trans_depth":2,"request_body_len":0,"response_body_len":0,"status_code":408,"status_msg":"Request Timeout","tags":[]}"#,
        ];
        let found = lines.map(|line| event(&serde_json::from_str(line).unwrap()).unwrap().unwrap());
        let texts = |event: &Event| {
            ["src_ip", "dst_ip", "dst_domain", "http_method", "http_url", "user_agent", "app_protocol"]
                .map(|name| event.texts.get(name).cloned().unwrap_or_default())
        };
        assert_eq!(
            texts(&found[0]),
            ["192.168.4.76", "31.3.245.133", "testmyids.com", "GET", "/", "curl/7.47.0", "http"]
        );
        assert_eq!(texts(&found[1])[3..6], ["POST", "/login.php?id=1%27%20OR%201=1", "sqlmap/1.7"]);
        assert_eq!(found[1].texts["actor_user"], "eve");
        let numbers = |event: &Event| {
            ["class_uid", "dst_port", "http_status", "status_id", "bytes_in"].map(|name| event.numbers[name])
        };
        assert_eq!(numbers(&found[0]), [4002, 80, 200, 1, 39]);
        assert_eq!(numbers(&found[1]), [4002, 8080, 403, 2, 0]);
        assert_eq!((found[1].numbers["activity_id"], found[1].numbers["bytes_out"]), (6, 1_200));
        assert_eq!(numbers(&found[2])[..3], [4002, 80, 408], "an answer without a request is one too");
        assert!(found.iter().all(|event| !event.texts.contains_key("event_uid")), "a connection has several requests");
    }

    #[test]
    fn the_path_says_which_log_a_record_is_of() {
        let of = |path: &str| {
            let record =
                json!({ "_path": path, "ts": 1, "id.orig_h": "10.0.1.4", "id.resp_h": "192.0.2.9", "query": "a.b" });
            event(&record).unwrap().map(|event| event.numbers["class_uid"])
        };
        assert_eq!((of("conn"), of("dns"), of("http"), of("ssl")), (Some(4001), Some(4003), Some(4002), None));
        let sip =
            json!({ "ts": 1, "id.orig_h": "10.0.1.4", "id.resp_h": "192.0.2.9", "method": "INVITE", "call_id": "x" });
        assert_eq!(event(&sip), Ok(None));
    }

    #[test]
    fn other_logs_of_zeek_are_skipped_and_what_has_no_time_is_refused() {
        assert_eq!(event(&json!({ "ts": 1, "fuid": "F", "mime_type": "text/plain" })), Ok(None));
        assert!(event(&json!({ "uid": "C" })).is_err());
    }
}
