//! The audit log of Kubernetes (audit.k8s.io/v1).
//!
//! **Invariant:** pure; a request is one event, whatever the number of its stages.

use serde_json::Value;

use super::{API, Event, number, time_us};

/// The event of a record: of the stage in which the request was over.
pub(super) fn event(record: &Value) -> Result<Option<Event>, String> {
    let text = |name: &str| record[name].as_str();
    if text("auditID").is_none() || text("verb").is_none() {
        return Err("it has no auditID and no verb".into());
    }
    if !matches!(text("stage"), Some("ResponseComplete" | "Panic")) {
        return Ok(None);
    }
    let times = [&record["requestReceivedTimestamp"], &record["stageTimestamp"]];
    let time = times.into_iter().find_map(time_us).ok_or("it has no time")?;
    let object = &record["objectRef"];
    let name = match (object["namespace"].as_str(), object["name"].as_str()) {
        (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
        (namespace, name) => namespace.or(name).map(str::to_owned),
    };
    let code = number(&record["responseStatus"]["code"]);
    Ok(Some(
        Event::new(time, "kubernetes_audit", API)
            .text("event_uid", text("auditID"))
            .text("actor_user", record["user"]["username"].as_str())
            .text("src_ip", record["sourceIPs"][0].as_str())
            .text("user_agent", text("userAgent"))
            .text("http_url", text("requestURI"))
            .text("api_operation", text("verb"))
            .text("resource_type", object["resource"].as_str())
            .text("resource_name", name.as_deref())
            .number("http_status", code)
            .status(code.map(|code| code < 400)),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_an_event_when_it_is_over() {
        let record = |stage: &str| {
            json!({
                "kind": "Event", "auditID": "a-1", "stage": stage, "verb": "get", "userAgent": "kubectl/v1.30",
                "requestURI": "/api/v1/namespaces/shop/secrets/db", "user": { "username": "eve" }, "sourceIPs": ["192.0.2.7"],
                "objectRef": { "resource": "secrets", "namespace": "shop", "name": "db" },
                "responseStatus": { "code": 403 }, "requestReceivedTimestamp": "2026-01-01T00:00:00.000001Z",
            })
        };
        assert_eq!(event(&record("RequestReceived")), Ok(None));
        let event = event(&record("ResponseComplete")).unwrap().unwrap();
        let texts = ["event_uid", "actor_user", "src_ip", "api_operation", "resource_type", "resource_name"];
        let found = texts.map(|name| event.texts[name].as_str());
        assert_eq!(found, ["a-1", "eve", "192.0.2.7", "get", "secrets", "shop/db"]);
        assert_eq!((event.numbers["status_id"], event.numbers["http_status"]), (2, 403));
    }

    #[test]
    fn what_is_no_audit_event_is_refused() {
        assert!(event(&json!({ "kind": "Pod" })).is_err());
    }
}
