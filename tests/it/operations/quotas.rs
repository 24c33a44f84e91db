//! What there is a limit of is told before it is used up, and refused after that.
//!
//! **Invariant:** the fields are those of the draft, whatever the quota is of.

use serde_json::{Value, json};

use super::{etag, good, problem, proposal, send};
use crate::client::{Answer, Postgres};
use crate::server;

const THREAT: &str = "00000000-0000-7000-8000-0000000000cc";

#[test]
fn the_responses_that_are_left_in_an_hour_are_told_and_one_too_many_is_refused() {
    let server = server();
    let columns = "id, detected_at, threat_type, severity, indicators, confidence_score";
    let row = format!("'{THREAT}', now(), 'scan', 'high', '{{\"entity\": \"203.0.113.7\"}}', 0.95");
    Postgres::connect(&server).rows(&format!("INSERT INTO threat_events ({columns}) VALUES ({row})"));
    let change = proposal("threats", &json!({ "actions_per_hour": 1 }));
    let tag = etag(&server, "threats");
    good(&send(&server, "POST", "governance/propose", &[("If-Match", &tag)], &change), 200);
    let respond = |address: &str, key: &str, dry_run: bool| {
        let body = json!({ "threat_event_id": THREAT, "action": "block_ip", "target": { "name": address }, "dry_run": dry_run });
        send(&server, "POST", "threats/respond", &[("Idempotency-Key", key), ("Prefer", "wait=30")], &body)
    };
    let told = |answer: &Answer| (answer.header("ratelimit-policy").to_owned(), answer.header("ratelimit").to_owned());
    let policy = "\"threat-responses\";q=1;w=3600".to_owned();
    let dry = respond("203.0.113.7", "a", true);
    good(&dry, 200);
    assert_eq!(told(&dry), (policy.clone(), "\"threat-responses\";r=1".to_owned()));
    let done = respond("203.0.113.7", "b", false);
    assert_eq!(good(&done, 200)["state"], "succeeded");
    assert_eq!(told(&done).0, policy);
    assert!(told(&done).1.starts_with("\"threat-responses\";r=0"), "{:?}", done.headers);
    let over = respond("203.0.113.8", "c", false);
    let refused: Value = problem(&over, 429, "budget-exhausted");
    let wait_s: u64 = over.header("retry-after").parse().expect("seconds");
    assert!((1..=3_600).contains(&wait_s), "{refused}");
    assert_eq!(told(&over), (policy, format!("\"threat-responses\";r=0;t={wait_s}")));
}
