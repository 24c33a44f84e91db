//! Security logs as events under the names of OCSF: sshd, Zeek, Kubernetes audit, AWS CloudTrail.
//!
//! Logons have class 3002, network activity 4001, HTTP 4002, DNS 4003, calls of an API 6003; `status_id` is 1 where it succeeded and 2 where it
//! failed (<https://schema.ocsf.io>). What is no such event is skipped and counted. An event has the same `event_uid` whenever its log
//! is sent: that of the log, or else the hash of its line.
//!
//! **Invariant:** pure; a text is read whole, or refused with the line that is no log of its kind.

mod cloudtrail;
mod kubernetes;
mod sshd;
mod zeek;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use chrono::DateTime;
use juno_sql::hex;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::refusal::Refusal;

/// The table of events, where the caller names none.
pub(super) const TABLE: &str = "security_events";
/// Its tags: two events of one time are two.
pub(super) const TAGS: [&str; 2] = ["source_name", "event_uid"];

/// Logons, network, HTTP, DNS and API activity.
const AUTHENTICATION: i64 = 3002;
const NETWORK: i64 = 4001;
const HTTP: i64 = 4002;
const DNS: i64 = 4003;
const API: i64 = 6003;

/// Texts of an event, in the order of the table.
const TEXTS: [&str; 19] = [
    "source_name",
    "event_uid",
    "actor_user",
    "device_hostname",
    "src_ip",
    "dst_ip",
    "dst_domain",
    "protocol",
    "app_protocol",
    "conn_state",
    "dns_query",
    "dns_type",
    "http_method",
    "http_url",
    "user_agent",
    "api_operation",
    "resource_type",
    "resource_name",
    "raw",
];
/// Whole numbers of an event.
const NUMBERS: [&str; 11] = [
    "class_uid",
    "activity_id",
    "status_id",
    "src_port",
    "dst_port",
    "duration_ms",
    "bytes_in",
    "bytes_out",
    "pkts_in",
    "pkts_out",
    "http_status",
];

/// A kind of log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    Sshd,
    Zeek,
    Kubernetes,
    CloudTrail,
}

impl Log {
    /// Their names in requests.
    pub(super) const NAMES: [(&'static str, Log); 4] = [
        ("sshd", Log::Sshd),
        ("zeek", Log::Zeek),
        ("kubernetes_audit", Log::Kubernetes),
        ("cloudtrail", Log::CloudTrail),
    ];

    pub(super) fn named(name: &str) -> Option<Log> {
        Log::NAMES.iter().find(|(own, _)| *own == name).map(|(_, log)| *log)
    }

    pub(super) fn name(self) -> &'static str {
        Log::NAMES.iter().find(|(_, log)| *log == self).map_or("", |(name, _)| name)
    }
}

/// One event.
#[derive(Debug, Clone, Default, PartialEq)]
struct Event {
    time_us: i64,
    texts: HashMap<&'static str, String>,
    numbers: HashMap<&'static str, i64>,
}

impl Event {
    fn new(time_us: i64, source: &str, class: i64) -> Event {
        Event { time_us, ..Event::default() }.text("source_name", Some(source)).number("class_uid", Some(class))
    }

    fn text(mut self, name: &'static str, value: Option<&str>) -> Event {
        if let Some(value) = value.filter(|value| !value.is_empty() && *value != "-") {
            self.texts.insert(name, value.to_owned());
        }
        self
    }

    fn number(mut self, name: &'static str, value: Option<i64>) -> Event {
        if let Some(value) = value {
            self.numbers.insert(name, value);
        }
        self
    }

    /// Whether it succeeded.
    fn status(self, success: Option<bool>) -> Event {
        self.number("status_id", success.map(|success| if success { 1 } else { 2 }))
    }
}

/// The events of a text, and how many of its lines or records were none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Events {
    events: Vec<Event>,
    pub(super) skipped: usize,
}

/// Reads a log. Times of sshd without a year are the latest that are not after `now_us`.
pub(super) fn read(log: Log, text: &str, now_us: i64) -> Result<Events, Refusal> {
    let mut found = Events::default();
    if log == Log::Sshd {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let events = sshd::events(line, now_us)
                .ok_or_else(|| Refusal::Unreadable(format!("line {} is none of syslog", number + 1)))?;
            found.add(events, line);
        }
    } else {
        for (number, record) in records(text)?.into_iter().enumerate() {
            let event = match log {
                Log::Zeek => zeek::event(&record),
                Log::Kubernetes => kubernetes::event(&record),
                Log::CloudTrail | Log::Sshd => cloudtrail::event(&record),
            };
            let event = event.map_err(|what| {
                Refusal::Unreadable(format!("record {} is none of {}: {what}", number + 1, log.name()))
            })?;
            found.add(event.into_iter().collect(), &record.to_string());
        }
    }
    found.number_equals();
    Ok(found)
}

impl Events {
    fn add(&mut self, events: Vec<Event>, raw: &str) {
        self.skipped += usize::from(events.is_empty());
        self.events.extend(events.into_iter().map(|event| event.text("raw", Some(raw))));
    }

    /// Gives an id to events whose log has none: the hash of the line, and which of its equals it is.
    fn number_equals(&mut self) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for event in self.events.iter_mut().filter(|event| !event.texts.contains_key("event_uid")) {
            let raw = event.texts.get("raw").cloned().unwrap_or_default();
            let count = seen.entry(raw.clone()).or_default();
            *count += 1;
            let hash = digest(&SHA256, format!("{count} {raw}").as_bytes());
            event.texts.insert("event_uid", hex(&hash.as_ref()[..16]));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The events as rows.
    pub(super) fn batch(&self) -> Result<RecordBatch, Refusal> {
        let times = TimestampMicrosecondArray::from_iter_values(self.events.iter().map(|event| event.time_us));
        let mut columns: Vec<(&str, ArrayRef)> = vec![("time", Arc::new(times.with_timezone("+00:00")))];
        for name in TEXTS {
            let column: StringArray = self.events.iter().map(|event| event.texts.get(name)).collect();
            columns.push((name, Arc::new(column)));
        }
        for name in NUMBERS {
            let column: Int64Array = self.events.iter().map(|event| event.numbers.get(name).copied()).collect();
            columns.push((name, Arc::new(column)));
        }
        let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), *name != "time");
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect())
            .map_err(|error| Refusal::Unstorable(error.to_string()))
    }
}

/// The records of JSON documents one after the other: each is one, or holds a list of them.
fn records(text: &str) -> Result<Vec<Value>, Refusal> {
    let mut all = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let document = document.map_err(|error| Refusal::Unreadable(format!("this is no JSON: {error}")))?;
        match document {
            Value::Array(items) => all.extend(items),
            Value::Object(mut members) => {
                let list =
                    ["Records", "items"].into_iter().find(|name| members.get(*name).is_some_and(Value::is_array));
                match list.and_then(|name| members.remove(name)) {
                    Some(Value::Array(items)) => all.extend(items),
                    _ => all.push(Value::Object(members)),
                }
            }
            other => return Err(Refusal::Unreadable(format!("{other} is no record"))),
        }
    }
    Ok(all)
}

/// A time as logs write it: RFC 3339, or seconds since 1970.
fn time_us(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|at| at.timestamp_micros())
            .or_else(|| seconds(text.parse().ok()?)),
        number => seconds(number.as_f64()?),
    }
}

fn seconds(seconds: f64) -> Option<i64> {
    (0.0..4e9).contains(&seconds).then(|| (seconds * 1e6).round() as i64)
}

/// A whole number, which some logs write as a text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|number| number as i64)).or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn equal_lines_are_events_of_their_own_and_have_the_same_ids_when_they_are_sent_again() {
        let line = "Dec 10 06:55:48 LabSZ sshd[24200]: Failed password for root from 203.0.113.7 port 38926 ssh2\n";
        let read = || read(Log::Sshd, &format!("{line}{line}"), 1_700_000_000_000_000).unwrap();
        let ids =
            |events: &Events| events.events.iter().map(|event| event.texts["event_uid"].clone()).collect::<Vec<_>>();
        let (first, again) = (read(), read());
        assert_eq!((first.len(), ids(&first)), (2, ids(&again)));
        assert_ne!(ids(&first)[0], ids(&first)[1]);
    }

    #[test]
    fn rows_have_the_names_of_the_table() {
        let record = r#"{"ts": 1700000000.5, "uid": "C1", "id.orig_h": "10.0.0.1", "id.resp_h": "10.0.0.2"}"#;
        let events = read(Log::Zeek, record, 0).unwrap();
        let batch = events.batch().unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (1, 1 + TEXTS.len() + NUMBERS.len()));
        let ip = batch.column_by_name("src_ip").unwrap().as_string::<i32>();
        assert_eq!(ip.value(0), "10.0.0.1");
        assert!(TAGS.iter().all(|tag| TEXTS.contains(tag)));
    }

    #[test]
    fn records_come_one_by_one_in_lists_and_in_members() {
        let count = |text: &str| records(text).map(|all| all.len());
        assert_eq!((count("{}\n{}"), count("[{}, {}]"), count(r#"{"Records": [{}]}"#)), (Ok(2), Ok(2), Ok(1)));
        assert!(matches!(count("{"), Err(Refusal::Unreadable(_))) && matches!(count("1"), Err(Refusal::Unreadable(_))));
    }

    #[test]
    fn a_record_that_is_none_of_its_kind_is_named() {
        let odd =
            read(Log::CloudTrail, "{\"eventTime\": \"2026-01-01T00:00:00Z\", \"eventName\": \"X\"}\n{\"a\": 1}", 0);
        assert!(
            matches!(odd, Err(Refusal::Unreadable(text)) if text.contains("record 2") && text.contains("cloudtrail"))
        );
        let odd = read(Log::Sshd, "hello", 0);
        assert!(matches!(odd, Err(Refusal::Unreadable(text)) if text.contains("line 1")));
    }
}
