//! Feeds of indicators: what others know of attackers, as CSV, STIX 2.1 or MISP.
//!
//! **Invariant:** a feed is taken whole or refused with the place that cannot be read; a feed that is refused leaves the one before.

mod csv;
mod misp;
mod stix;

use std::net::IpAddr;

use serde_json::Value;

use crate::session::{Session, rfc3339};
use crate::{Error, Result};

/// Confidence in an indicator whose feed does not say.
const CONFIDENCE: f64 = 0.75;
/// Indicators of one feed.
const INDICATORS_MAX: usize = 1_000_000;
/// Rows that are written at a time.
const ROWS_MAX: usize = 1_000;

/// One indicator.
#[derive(Debug, Clone, PartialEq)]
struct Indicator {
    kind: &'static str,
    value: String,
    confidence: f64,
    description: Option<String>,
    valid_until_us: Option<i64>,
}

impl Indicator {
    /// A value as it is compared, where it is one of the kind that is said, or of any.
    fn read(kind: Option<&str>, text: &str) -> Option<Indicator> {
        let text = text.trim();
        let (kind, value) = match kind {
            Some("user") => ("user", text.to_owned()),
            Some("ip") => ("ip", address(text)?),
            Some("domain") => ("domain", domain(text)?),
            Some("sha256") => ("sha256", sha256(text)?),
            Some(_) => return None,
            None => address(text)
                .map(|value| ("ip", value))
                .or_else(|| sha256(text).map(|value| ("sha256", value)))
                .or_else(|| domain(text).map(|value| ("domain", value)))?,
        };
        let known = !value.is_empty();
        known.then_some(Indicator { kind, value, confidence: CONFIDENCE, description: None, valid_until_us: None })
    }
}

/// An address, without the port that some feeds give with it.
fn address(text: &str) -> Option<String> {
    let bare = match text.rsplit_once(':') {
        Some((bare, port)) if bare.parse::<std::net::Ipv4Addr>().is_ok() && port.parse::<u16>().is_ok() => bare,
        _ => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical().to_string())
}

fn sha256(text: &str) -> Option<String> {
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// A domain, out of an URL too.
fn domain(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', ':']).next()?.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    (host.len() <= 253 && host.contains('.') && host.split('.').all(is_label)).then_some(host)
}

/// A value as indicators of its kind are stored.
pub(super) fn normal(kind: &str, value: &str) -> String {
    Indicator::read(Some(kind), value).map_or_else(|| value.trim().to_owned(), |indicator| indicator.value)
}

/// The indicators of a feed: MISP or STIX where its text is JSON, else CSV.
fn read(text: &str) -> Result<Vec<Indicator>, String> {
    let all = if text.trim_start().starts_with(['{', '[']) {
        let document = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        misp::read(&document).map_or_else(|| stix::read(&document), Ok)?
    } else {
        csv::read(text)?
    };
    match all.len() {
        0 => Err("it has no indicator".into()),
        count if count > INDICATORS_MAX => Err(format!("it has more than {INDICATORS_MAX} indicators")),
        _ => Ok(all),
    }
}

/// Puts a feed in the place of the one of that name; how many indicators it has.
///
/// # Errors
/// [`Error::InvalidText`] where it cannot be read.
pub async fn load_feed(own: &Session, feed: &str, text: &str) -> Result<usize> {
    let mut all = read(text).map_err(|what| Error::InvalidText(format!("feed {feed}: {what}")))?;
    // Of several lines about the same value the surest counts.
    all.sort_by(|a, b| (a.kind, &a.value).cmp(&(b.kind, &b.value)).then(b.confidence.total_cmp(&a.confidence)));
    all.dedup_by(|a, b| (a.kind, &a.value) == (b.kind, &b.value));
    own.atomically(replace(own, feed, &all)).await?;
    Ok(all.len())
}

/// Forgets the feeds that are not among these.
///
/// # Errors
/// Where the table cannot be read or written.
pub async fn keep_feeds(own: &Session, names: &[String]) -> Result<()> {
    for row in own.objects("SELECT DISTINCT feed FROM juno_indicators", &[]).await? {
        let feed = row["feed"].as_str().unwrap_or_default();
        if !names.iter().any(|name| name == feed) {
            own.changed_rows("DELETE FROM juno_indicators WHERE feed = $1", &[feed.into()]).await?;
        }
    }
    Ok(())
}

async fn replace(own: &Session, feed: &str, all: &[Indicator]) -> Result<()> {
    own.changed_rows("DELETE FROM juno_indicators WHERE feed = $1", &[feed.into()]).await?;
    let now = own.now();
    for some in all.chunks(ROWS_MAX) {
        let mut values: Vec<Value> = vec![feed.into(), now.clone().into()];
        let mut rows = Vec::with_capacity(some.len());
        for indicator in some {
            let first = values.len() + 1;
            rows.push(format!("(${first}, ${}, $1, ${}, ${}, ${}, $2)", first + 1, first + 2, first + 3, first + 4));
            values.extend([
                indicator.kind.into(),
                indicator.value.as_str().into(),
                indicator.confidence.into(),
                indicator.description.clone().into(),
                indicator.valid_until_us.map(rfc3339).into(),
            ]);
        }
        let insert = format!(
            "INSERT INTO juno_indicators (kind, value, feed, confidence, description, valid_until, loaded_at) VALUES {}",
            rows.join(", ")
        );
        own.changed_rows(&insert, &values).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use juno_kernels::Device;

    use super::*;

    #[test]
    fn values_are_told_by_their_form_and_compared_in_one_spelling() {
        let hash = "A".repeat(64);
        for (text, kind, value) in [
            ("203.0.113.7", "ip", "203.0.113.7"),
            ("203.0.113.7:8080", "ip", "203.0.113.7"),
            ("2001:DB8::1", "ip", "2001:db8::1"),
            ("Evil.Example.", "domain", "evil.example"),
            ("https://evil.example/x?y", "domain", "evil.example"),
            (hash.as_str(), "sha256", "a".repeat(64).as_str()),
        ] {
            let found = Indicator::read(None, text).expect(text);
            assert_eq!((found.kind, found.value.as_str()), (kind, value), "{text}");
            assert_eq!(normal(kind, text), value);
        }
        for odd in ["", "evil", "a..b", "x y.example"] {
            assert_eq!(Indicator::read(None, odd), None, "{odd}");
        }
        assert_eq!((Indicator::read(Some("ip"), "evil.example"), Indicator::read(Some("magic"), "x")), (None, None));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_feed_takes_the_place_of_the_one_before_and_a_bad_one_of_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = juno_engine::Db::open(directory.path()).expect("a database");
        let own = Session::open(db, Device::cpu()).await.expect("migrations");
        let known = async || {
            let all =
                own.objects("SELECT value, confidence FROM juno_indicators ORDER BY value", &[]).await.expect("rows");
            all.iter()
                .map(|row| (row["value"].as_str().unwrap_or_default().to_owned(), row["confidence"].clone()))
                .collect::<Vec<_>>()
        };
        let feed = "type,value,confidence\nip,203.0.113.7,40\nip,203.0.113.7,90\ndomain,evil.example,\n";
        assert_eq!(load_feed(&own, "a.csv", feed).await.expect("a feed"), 2);
        assert_eq!(known().await, [("203.0.113.7".into(), 0.9.into()), ("evil.example".into(), CONFIDENCE.into())]);
        assert_eq!(load_feed(&own, "a.csv", "203.0.113.8\n").await.expect("a feed"), 1);
        for bad in ["nonsense here\n", "{", "{\"type\": \"x\"}"] {
            assert!(load_feed(&own, "a.csv", bad).await.is_err(), "{bad}");
        }
        assert_eq!(known().await, [("203.0.113.8".into(), CONFIDENCE.into())]);
        keep_feeds(&own, &["a.csv".into()]).await.expect("a look");
        assert_eq!(known().await.len(), 1);
        keep_feeds(&own, &[]).await.expect("a look");
        assert!(known().await.is_empty(), "a feed that is gone says nothing any more");
    }
}
