//! Zeek's JSON logs: `conn` and `dns`.
//!
//! **Invariant:** pure; a record of another log of Zeek is no event.

use serde_json::Value;

use super::{DNS, Event, NETWORK, number, time_us};

/// The event of a record.
pub(super) fn event(record: &Value) -> Result<Option<Event>, String> {
    let text = |name: &str| record[name].as_str();
    let count = |name: &str| number(&record[name]);
    let time = [&record["ts"], &record["@timestamp"]].into_iter().find_map(time_us).ok_or("it has no time ts")?;
    let is_dns = record.get("query").is_some();
    if text("id.orig_h").is_none() || !(is_dns || record.get("id.resp_h").is_some()) {
        return Ok(None);
    }
    let duration_ms = record["duration"].as_f64().map(|seconds| (seconds * 1_000.0).round() as i64);
    let event = Event::new(time, "zeek", if is_dns { DNS } else { NETWORK })
        .text("event_uid", text("uid").filter(|_| !is_dns))
        .text("src_ip", text("id.orig_h"))
        .number("src_port", count("id.orig_p"))
        .text("dst_ip", text("id.resp_h"))
        .number("dst_port", count("id.resp_p"))
        .text("protocol", text("proto"))
        .text("app_protocol", text("service"));
    Ok(Some(match is_dns {
        true => event
            .text("dns_query", text("query"))
            .text("dns_type", text("qtype_name"))
            .status(text("rcode_name").map(|code| code == "NOERROR")),
        false => event
            .text("conn_state", text("conn_state"))
            .number("duration_ms", duration_ms)
            .number("bytes_out", count("orig_bytes"))
            .number("bytes_in", count("resp_bytes"))
            .number("pkts_out", count("orig_pkts"))
            .number("pkts_in", count("resp_pkts")),
    }))
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
    fn other_logs_of_zeek_are_skipped_and_what_has_no_time_is_refused() {
        assert_eq!(event(&json!({ "ts": 1, "fuid": "F", "mime_type": "text/plain" })), Ok(None));
        assert!(event(&json!({ "uid": "C" })).is_err());
    }
}
