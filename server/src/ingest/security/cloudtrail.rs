//! Records of AWS CloudTrail.
//!
//! **Invariant:** pure; who did it is the name of the user where there is one, else the ARN or the kind of identity.

use serde_json::Value;

use super::{API, AUTHENTICATION, Event, time_us};

/// The event of a record.
pub(super) fn event(record: &Value) -> Result<Option<Event>, String> {
    let text = |name: &str| record[name].as_str();
    let operation = text("eventName").ok_or("it has no eventName")?;
    let time = time_us(&record["eventTime"]).ok_or("it has no eventTime")?;
    let identity = &record["userIdentity"];
    let user = ["userName", "arn", "invokedBy", "type"].into_iter().find_map(|name| identity[name].as_str());
    let logon = record["responseElements"]["ConsoleLogin"].as_str();
    let success = match logon {
        Some(outcome) => outcome == "Success",
        None => text("errorCode").is_none(),
    };
    let event = Event::new(time, "cloudtrail", if logon.is_some() { AUTHENTICATION } else { API })
        .number("activity_id", logon.map(|_| 1))
        .status(Some(success))
        .text("event_uid", text("eventID"))
        .text("actor_user", user)
        .text("src_ip", text("sourceIPAddress"))
        .text("user_agent", text("userAgent"))
        .text("api_operation", Some(operation))
        .text("resource_type", text("eventSource"))
        .text("resource_name", record["resources"][0]["ARN"].as_str());
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_and_a_logon_have_classes_of_their_own() {
        let call = json!({
            "eventTime": "2026-01-01T00:00:00Z", "eventID": "e-1", "eventName": "DeleteTrail", "errorCode": "AccessDenied",
            "eventSource": "cloudtrail.amazonaws.com", "sourceIPAddress": "192.0.2.7",
            "userIdentity": { "type": "IAMUser", "userName": "eve", "arn": "arn:aws:iam::1:user/eve" },
        });
        let found = event(&call).unwrap().unwrap();
        assert_eq!((found.numbers["class_uid"], found.numbers["status_id"]), (6003, 2));
        assert_eq!((found.texts["actor_user"].as_str(), found.texts["api_operation"].as_str()), ("eve", "DeleteTrail"));
        let logon = json!({
            "eventTime": "2026-01-01T00:00:00Z", "eventName": "ConsoleLogin", "userIdentity": { "type": "Root" },
            "responseElements": { "ConsoleLogin": "Success" },
        });
        let found = event(&logon).unwrap().unwrap();
        assert_eq!((found.numbers["class_uid"], found.numbers["status_id"]), (3002, 1));
        assert_eq!(found.texts["actor_user"], "Root");
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert!(event(&json!({ "eventName": "X" })).is_err() && event(&json!({ "a": 1 })).is_err());
    }
}
