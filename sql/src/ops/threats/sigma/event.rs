//! Security events under the names that Sigma rules use, and the log sources that they are of.
//!
//! A rule is run over an event where all that its `logsource` names is one of the event's. Product and service come from
//! `source_name` (sshd is linux/sshd and linux/auth, cloudtrail aws/cloudtrail, kubernetes_audit kubernetes/audit, zeek
//! zeek/conn|dns|http; any other name is its words, `windows sysmon` or `okta`), the category from `class_uid`. Fields are the members
//! of `raw` where that is JSON, the columns of `security_events`, and the usual names of Sigma for those columns.
//!
//! **Invariant:** pure; a member that the log itself has is never replaced.

use rsigma_parser::LogSource;
use serde_json::{Map, Value};

use crate::operation::time_us;

/// Classes of OCSF: process, logon, network, HTTP, DNS, API.
const PROCESS: i64 = 1007;
const LOGON: i64 = 3002;
const NETWORK: i64 = 4001;
const HTTP: i64 = 4002;
const DNS: i64 = 4003;
const API: i64 = 6003;

/// Names for columns, whatever the class.
const NAMES: &[(&str, &str)] = &[
    ("User", "actor_user"),
    ("Computer", "device_hostname"),
    ("Hostname", "device_hostname"),
    ("SourceIp", "src_ip"),
    ("SourcePort", "src_port"),
    ("DestinationIp", "dst_ip"),
    ("DestinationPort", "dst_port"),
    ("DestinationHostname", "dst_domain"),
    ("Protocol", "protocol"),
];
const PROCESS_NAMES: &[(&str, &str)] =
    &[("Image", "actor_process"), ("CommandLine", "cmd_line"), ("ParentImage", "actor_parent")];
const LOGON_NAMES: &[(&str, &str)] =
    &[("TargetUserName", "actor_user"), ("IpAddress", "src_ip"), ("WorkstationName", "device_hostname")];
const DNS_NAMES: &[(&str, &str)] = &[("QueryName", "dns_query"), ("query", "dns_query"), ("record_type", "dns_type")];
const HTTP_NAMES: &[(&str, &str)] = &[
    ("cs-method", "http_method"),
    ("c-uri", "http_url"),
    ("c-useragent", "user_agent"),
    ("cs-user-agent", "user_agent"),
    ("sc-status", "http_status"),
    ("c-ip", "src_ip"),
    ("cs-host", "dst_domain"),
    ("r-dns", "dst_domain"),
];
const CLOUDTRAIL_NAMES: &[(&str, &str)] = &[
    ("eventName", "api_operation"),
    ("eventSource", "resource_type"),
    ("sourceIPAddress", "src_ip"),
    ("userAgent", "user_agent"),
    ("userIdentity.userName", "actor_user"),
];
const KUBERNETES_NAMES: &[(&str, &str)] = &[
    ("verb", "api_operation"),
    ("objectRef.resource", "resource_type"),
    ("user.username", "actor_user"),
    ("userAgent", "user_agent"),
    ("requestURI", "http_url"),
    ("responseStatus.code", "http_status"),
];

/// An event as rules see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) value: Value,
    pub(super) sources: Vec<LogSource>,
}

/// What a finding says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) time_us: i64,
    pub(crate) uid: Option<String>,
    /// Whom it is about: the address it came from, else the user, else the host.
    pub(crate) entity: Option<String>,
}

impl Subject {
    /// Of a row of `security_events`; none where it has no time.
    pub(crate) fn of(row: &Map<String, Value>) -> Option<Subject> {
        let text =
            |name: &str| row.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let entity = ["src_ip", "actor_user", "device_hostname", "source_name"].into_iter().find_map(text);
        Some(Subject { time_us: text("time").as_deref().and_then(time_us)?, uid: text("event_uid"), entity })
    }
}

impl Event {
    /// Of a row of `security_events`.
    pub(super) fn of(row: &Map<String, Value>) -> Event {
        let source = row.get("source_name").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        let class = row.get("class_uid").and_then(Value::as_i64).unwrap_or_default();
        let raw = row.get("raw").and_then(Value::as_str).and_then(|raw| serde_json::from_str::<Value>(raw).ok());
        let (mut members, is_json) = match raw {
            Some(Value::Object(members)) => (members, true),
            _ => (Map::new(), false),
        };
        for (name, value) in row.iter().filter(|(name, value)| !(value.is_null() || (is_json && *name == "raw"))) {
            members.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        for (name, column) in names(&source, class) {
            // What the log nests is there already.
            let is_nested = name.split_once('.').is_some_and(|(root, _)| members.contains_key(root));
            if let Some(value) = row.get(column).filter(|value| !value.is_null() && !is_nested) {
                members.entry(name).or_insert_with(|| value.clone());
            }
        }
        if class == HTTP
            && let Some(url) = row.get("http_url").and_then(Value::as_str)
        {
            let (stem, query) = url.split_once('?').unwrap_or((url, ""));
            members.entry("cs-uri-stem").or_insert_with(|| stem.into());
            members.entry("cs-uri-query").or_insert_with(|| query.into());
        }
        Event { sources: sources(&source, class, row), value: Value::Object(members) }
    }
}

/// The names of Sigma that an event of this source and class has, each with its column.
fn names(source: &str, class: i64) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_class = match class {
        PROCESS => PROCESS_NAMES,
        LOGON => LOGON_NAMES,
        DNS => DNS_NAMES,
        HTTP => HTTP_NAMES,
        _ => &[],
    };
    let of_source = match source {
        "cloudtrail" => CLOUDTRAIL_NAMES,
        "kubernetes_audit" => KUBERNETES_NAMES,
        _ => &[],
    };
    NAMES.iter().chain(of_class).chain(of_source).copied()
}

/// The log sources that an event is of.
fn sources(source: &str, class: i64, row: &Map<String, Value>) -> Vec<LogSource> {
    let pairs = match source {
        "sshd" => vec![("linux", "sshd"), ("linux", "auth")],
        "cloudtrail" => vec![("aws", "cloudtrail")],
        "kubernetes_audit" => vec![("kubernetes", "audit")],
        "zeek" => vec![("zeek", zeek_log(class))],
        other => {
            let mut words = other.split_whitespace();
            let product = words.next().unwrap_or_default();
            vec![(system(class, row).unwrap_or(product), words.next().unwrap_or(product))]
        }
    };
    let categories: &[&str] = match class {
        PROCESS => &["process_creation"],
        LOGON => &["authentication"],
        NETWORK => &["network_connection", "firewall"],
        HTTP => &["webserver", "proxy"],
        DNS => &["dns", "dns_query"],
        API => &["application"],
        _ => &[""],
    };
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let of = |(product, service): &(&str, &str), category: &str| LogSource {
        product: said(product),
        service: said(service),
        category: said(category),
        ..LogSource::default()
    };
    pairs.iter().flat_map(|pair| categories.iter().map(move |category| of(pair, category))).collect()
}

fn zeek_log(class: i64) -> &'static str {
    match class {
        DNS => "dns",
        HTTP => "http",
        _ => "conn",
    }
}

/// The system that a process ran on, by how its path is written.
fn system(class: i64, row: &Map<String, Value>) -> Option<&'static str> {
    let path = row.get("actor_process").and_then(Value::as_str).filter(|_| class == PROCESS)?;
    match path {
        path if path.starts_with('/') => Some("linux"),
        path if path.contains('\\') => Some("windows"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(row: Value) -> Event {
        Event::of(row.as_object().expect("an object"))
    }

    fn logsources(event: &Event) -> Vec<String> {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        event
            .sources
            .iter()
            .map(|one| format!("{}/{}/{}", part(&one.product), part(&one.service), part(&one.category)))
            .collect()
    }

    #[test]
    fn columns_have_the_names_of_sigma() {
        let found = event(json!({
            "time": "2026-01-01T00:00:00Z", "source_name": "windows sysmon", "class_uid": 1007, "actor_user": "eve",
            "actor_process": "C:\\Windows\\cmd.exe", "cmd_line": "cmd /c whoami", "actor_parent": "C:\\winword.exe", "dst_ip": null,
        }));
        assert_eq!(logsources(&found), ["windows/sysmon/process_creation"]);
        assert_eq!((&found.value["Image"], &found.value["User"]), (&json!("C:\\Windows\\cmd.exe"), &json!("eve")));
        assert_eq!((&found.value["CommandLine"], found.value.get("DestinationIp")), (&json!("cmd /c whoami"), None));
    }

    #[test]
    fn what_the_log_itself_says_stays_and_is_found_by_its_own_names() {
        let raw = json!({ "eventName": "StopLogging", "userIdentity": { "type": "Root" }, "time": "own" }).to_string();
        let found = event(json!({
            "time": "2026-01-01T00:00:00Z", "source_name": "cloudtrail", "class_uid": 6003, "actor_user": "Root",
            "api_operation": "other", "src_ip": "192.0.2.7", "raw": raw,
        }));
        assert_eq!(logsources(&found), ["aws/cloudtrail/application"]);
        let value = &found.value;
        assert_eq!(
            (&value["eventName"], &value["time"], &value["sourceIPAddress"]),
            (&json!("StopLogging"), &json!("own"), &json!("192.0.2.7"))
        );
        assert_eq!(
            (value.get("raw"), value.get("userIdentity.userName")),
            (None, None),
            "the identity is nested already"
        );
    }

    #[test]
    fn each_kind_of_log_is_of_its_own_sources() {
        for (source, class, expected) in [
            ("sshd", LOGON, vec!["linux/sshd/authentication", "linux/auth/authentication"]),
            ("kubernetes_audit", API, vec!["kubernetes/audit/application"]),
            ("zeek", NETWORK, vec!["zeek/conn/network_connection", "zeek/conn/firewall"]),
            ("zeek", DNS, vec!["zeek/dns/dns", "zeek/dns/dns_query"]),
            ("zeek", HTTP, vec!["zeek/http/webserver", "zeek/http/proxy"]),
            ("nginx", HTTP, vec!["nginx/nginx/webserver", "nginx/nginx/proxy"]),
            ("Okta", 0, vec!["okta/okta/"]),
            ("", 0, vec!["//"]),
        ] {
            assert_eq!(
                logsources(&event(json!({ "source_name": source, "class_uid": class }))),
                expected,
                "{source} {class}"
            );
        }
    }

    #[test]
    fn an_url_has_a_stem_and_a_query() {
        let found = event(
            json!({ "source_name": "nginx", "class_uid": HTTP, "http_url": "/a.php?id=1' OR 1=1", "http_status": 200 }),
        );
        let value = &found.value;
        assert_eq!((&value["cs-uri-stem"], &value["cs-uri-query"]), (&json!("/a.php"), &json!("id=1' OR 1=1")));
        assert_eq!(value["sc-status"], 200);
    }

    #[test]
    fn a_finding_is_about_the_address_else_the_user_else_the_host() {
        let of = |row: Value| Subject::of(row.as_object().expect("an object"));
        let time = "2026-01-01T00:00:00.000000Z";
        let entity = |row: Value| of(row).and_then(|subject| subject.entity);
        assert_eq!(
            entity(json!({ "time": time, "src_ip": "192.0.2.7", "actor_user": "eve" })),
            Some("192.0.2.7".into())
        );
        assert_eq!(entity(json!({ "time": time, "src_ip": null, "actor_user": "eve" })), Some("eve".into()));
        assert_eq!(entity(json!({ "time": time, "device_hostname": "web1" })), Some("web1".into()));
        assert_eq!(of(json!({ "src_ip": "192.0.2.7" })), None);
    }
}
