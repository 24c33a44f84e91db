//! Feeds as MISP's JSON: the attributes of events, of their objects, and of searches (MISP core format).
//!
//! Only what is meant for detection counts (`to_ids`), and only types that name an address, a domain, a file's SHA-256 or a user.
//!
//! **Invariant:** pure; what is no MISP is told from what has no indicator.

use serde_json::Value;

use super::Indicator;

/// Types of attributes, and the kinds of the parts of their values.
const TYPES: [(&str, &[Option<&str>]); 12] = [
    ("ip-src", &[Some("ip")]),
    ("ip-dst", &[Some("ip")]),
    ("ip-src|port", &[Some("ip"), None]),
    ("ip-dst|port", &[Some("ip"), None]),
    ("domain", &[Some("domain")]),
    ("hostname", &[Some("domain")]),
    ("hostname|port", &[Some("domain"), None]),
    ("domain|ip", &[Some("domain"), Some("ip")]),
    ("url", &[Some("domain")]),
    ("sha256", &[Some("sha256")]),
    ("filename|sha256", &[None, Some("sha256")]),
    ("target-user", &[Some("user")]),
];

/// The indicators of a document; None where it is no MISP.
pub(super) fn read(document: &Value) -> Option<Vec<Indicator>> {
    let found = match &document["response"] {
        Value::Null => document,
        response => response,
    };
    let events: Vec<&Value> = match found {
        Value::Array(all) => all.iter().map(event).collect(),
        one => vec![event(one)],
    };
    let is_misp = |event: &&Value| event["Attribute"].is_array() || event["Object"].is_array();
    if !events.iter().any(is_misp) {
        return None;
    }
    Some(events.into_iter().flat_map(attributes).flat_map(indicators).collect())
}

/// An event, wrapped or not.
fn event(value: &Value) -> &Value {
    if value["Event"].is_object() { &value["Event"] } else { value }
}

/// The attributes of an event, and those of its objects.
fn attributes(event: &Value) -> impl Iterator<Item = &Value> {
    let own = event["Attribute"].as_array().into_iter().flatten();
    let objects = event["Object"].as_array().into_iter().flatten();
    own.chain(objects.flat_map(|object| object["Attribute"].as_array().into_iter().flatten()))
}

/// What an attribute names.
fn indicators(attribute: &Value) -> Vec<Indicator> {
    let is_meant = attribute["to_ids"] != false && attribute["deleted"] != true;
    let kinds = TYPES.iter().find(|(name, _)| attribute["type"] == *name).map(|(_, kinds)| *kinds);
    let (Some(kinds), Some(value)) = (kinds.filter(|_| is_meant), attribute["value"].as_str()) else { return vec![] };
    let comment = attribute["comment"].as_str().filter(|comment| !comment.is_empty());
    let parts: Vec<&str> = if kinds.len() > 1 { value.split('|').collect() } else { vec![value] };
    let read = |(kind, part): (&Option<&str>, &str)| {
        let found = Indicator::read(Some((*kind)?), part)?;
        Some(Indicator { description: comment.map(str::to_owned), ..found })
    };
    kinds.iter().zip(parts).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(document: &Value) -> Vec<(&'static str, String)> {
        read(document).unwrap().into_iter().map(|one| (one.kind, one.value)).collect()
    }

    #[test]
    fn attributes_of_events_objects_and_searches_are_read() {
        let hash = "c".repeat(64);
        let event = json!({ "Event": { "info": "a campaign", "Attribute": [
            { "type": "ip-dst", "value": "203.0.113.7", "to_ids": true, "comment": "a bot" },
            { "type": "ip-src|port", "value": "203.0.113.8|443", "to_ids": true },
            { "type": "domain|ip", "value": "Evil.example|203.0.113.9", "to_ids": true },
            { "type": "ip-dst", "value": "198.51.100.1", "to_ids": false },
            { "type": "ip-dst", "value": "198.51.100.2", "deleted": true },
            { "type": "comment", "value": "seen by us", "to_ids": true },
            { "type": "url", "value": "https://bad.example/a|b", "to_ids": true },
        ], "Object": [{ "name": "file", "Attribute": [
            { "type": "filename|sha256", "value": format!("a.exe|{hash}"), "to_ids": true },
        ] }] } });
        let expected = [
            ("ip", "203.0.113.7"),
            ("ip", "203.0.113.8"),
            ("domain", "evil.example"),
            ("ip", "203.0.113.9"),
            ("domain", "bad.example"),
            ("sha256", hash.as_str()),
        ];
        assert_eq!(named(&event), expected.map(|(kind, value)| (kind, value.to_owned())));
        assert_eq!(read(&event).unwrap()[0].description.as_deref(), Some("a bot"));
        assert_eq!(named(&json!({ "response": [event] })).len(), 6);
        let search = json!({ "response": { "Attribute": [{ "type": "hostname", "value": "c2.example" }] } });
        assert_eq!(named(&search), [("domain", "c2.example".to_owned())]);
    }

    #[test]
    fn what_is_no_misp_is_none() {
        for other in [json!({ "type": "bundle", "objects": [] }), json!([]), json!({ "Event": {} }), json!(1)] {
            assert_eq!(read(&other), None, "{other}");
        }
    }
}
