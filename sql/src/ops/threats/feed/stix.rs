//! Feeds as STIX 2.1: the indicators of a bundle (OASIS STIX 2.1, section 4.7).
//!
//! A pattern of one comparison, or of several joined by OR, is read; one that takes several observations together says nothing of a
//! single value and is left out, and so is what was revoked.
//!
//! **Invariant:** pure; a bundle without a readable indicator is refused, not taken for an empty one.

use serde_json::Value;

use super::Indicator;
use crate::operation::time_us;

/// Object paths of patterns, and the kind of their values.
const PATHS: [(&str, &str); 8] = [
    ("ipv4-addr:value", "ip"),
    ("ipv6-addr:value", "ip"),
    ("domain-name:value", "domain"),
    ("url:value", "domain"),
    ("file:hashes.'SHA-256'", "sha256"),
    ("file:hashes.\"SHA-256\"", "sha256"),
    ("user-account:user_id", "user"),
    ("user-account:account_login", "user"),
];

/// The indicators of a document.
pub(super) fn read(document: &Value) -> Result<Vec<Indicator>, String> {
    let objects = document["objects"].as_array().or(document.as_array());
    let objects =
        objects.ok_or("it is neither a bundle of STIX nor an event of MISP: it has no objects and no attributes")?;
    let mut all = Vec::new();
    for object in objects.iter().filter(|object| object["type"] == "indicator" && object["revoked"] != true) {
        let is_stix = object["pattern_type"].as_str().is_none_or(|kind| kind == "stix");
        let Some(pattern) = object["pattern"].as_str().filter(|_| is_stix) else { continue };
        for (kind, value) in comparisons(pattern) {
            let Some(mut found) = Indicator::read(Some(kind), &value) else { continue };
            if let Some(confidence) = object["confidence"].as_f64() {
                found.confidence = (confidence / 100.0).clamp(0.0, 1.0);
            }
            found.description = object["name"].as_str().map(str::to_owned);
            found.valid_until_us = object["valid_until"].as_str().and_then(time_us);
            all.push(found);
        }
    }
    Ok(all)
}

/// The kinds and values that a pattern compares with; none where it wants several at once.
fn comparisons(pattern: &str) -> Vec<(&'static str, String)> {
    let is_joint = [" AND ", " FOLLOWEDBY ", " NOT ", " REPEATS "].iter().any(|word| outside(pattern, word));
    if is_joint {
        return Vec::new();
    }
    let one = |(path, kind): &(&'static str, &'static str)| {
        pattern.match_indices(*path).filter_map(|(at, _)| Some((*kind, equal(&pattern[at + path.len()..])?))).collect()
    };
    PATHS.iter().map(one).collect::<Vec<Vec<_>>>().concat()
}

/// Whether a word stands in a pattern outside of its quoted values.
fn outside(pattern: &str, word: &str) -> bool {
    pattern.split('\'').step_by(2).any(|part| part.contains(word))
}

/// The value of `= '…'`.
fn equal(rest: &str) -> Option<String> {
    let quoted = rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('\'')?;
    let (mut value, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '\'' => return Some(value),
            '\\' => value.push(chars.next()?),
            char => value.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle(indicators: &[Value]) -> Value {
        json!({ "type": "bundle", "id": "bundle--1", "objects": indicators })
    }

    fn indicator(pattern: &str) -> Value {
        json!({ "type": "indicator", "spec_version": "2.1", "pattern_type": "stix", "pattern": pattern, "name": "a bot" })
    }

    #[test]
    fn patterns_of_one_value_or_of_any_are_read() {
        let hash = "b".repeat(64);
        for (pattern, expected) in [
            ("[ipv4-addr:value = '203.0.113.7']".to_owned(), vec![("ip", "203.0.113.7")]),
            (
                "[domain-name:value='Evil.example' OR ipv6-addr:value = '2001:db8::1']".to_owned(),
                vec![("ip", "2001:db8::1"), ("domain", "evil.example")],
            ),
            (format!("[file:hashes.'SHA-256' = '{hash}']"), vec![("sha256", hash.as_str())]),
            ("[url:value = 'https://evil.example/a AND b']".to_owned(), vec![("domain", "evil.example")]),
            (r"[user-account:user_id = 'o\'brien']".to_owned(), vec![("user", "o'brien")]),
            ("[ipv4-addr:value = '203.0.113.7' AND domain-name:value = 'a.example']".to_owned(), vec![]),
            ("[ipv4-addr:value ISSUBSET '203.0.113.0/24']".to_owned(), vec![]),
        ] {
            let found = read(&bundle(&[indicator(&pattern)])).unwrap();
            let found: Vec<(&str, &str)> = found.iter().map(|one| (one.kind, one.value.as_str())).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn confidence_time_and_revocation_count() {
        let mut sure = indicator("[ipv4-addr:value = '203.0.113.7']");
        sure["confidence"] = 95.into();
        sure["valid_until"] = "2026-01-01T00:00:00Z".into();
        let mut revoked = indicator("[ipv4-addr:value = '203.0.113.8']");
        revoked["revoked"] = true.into();
        let other = json!({ "type": "malware", "name": "x" });
        let found = read(&bundle(&[sure, revoked, other])).unwrap();
        assert_eq!((found.len(), found[0].confidence, found[0].description.as_deref()), (1, 0.95, Some("a bot")));
        assert_eq!(found[0].valid_until_us, time_us("2026-01-01T00:00:00Z"));
        assert!(read(&json!({ "type": "x" })).is_err());
    }
}
