//! `RateLimit-Policy` and `RateLimit` of answers (draft-ietf-httpapi-ratelimit-headers): the quota that a request used or lacks.
//!
//! ```text
//! RateLimit-Policy: "healing-actions";q=10;w=3600
//! RateLimit: "healing-actions";r=7;t=1820
//! ```
//!
//! **Invariant:** counts nothing.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use juno_sql::Quota;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Adds both fields.
pub(crate) fn tell(quota: &Quota, headers: &mut HeaderMap) {
    let Quota { name, most, left, window_s, reset_s } = quota;
    let policy = match window_s {
        Some(window_s) => format!("\"{name}\";q={most};w={window_s}"),
        None => format!("\"{name}\";q={most};qu=\"concurrent-requests\""),
    };
    let limit = match reset_s {
        Some(reset_s) => format!("\"{name}\";r={left};t={reset_s}"),
        None => format!("\"{name}\";r={left}"),
    };
    for (header, text) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_told_as_the_draft_writes_them() {
        let told = |quota: &Quota| {
            let mut headers = HeaderMap::new();
            tell(quota, &mut headers);
            [POLICY, LIMIT].map(|name| headers[name].to_str().unwrap().to_owned())
        };
        let quota = Quota { name: "healing-actions", most: 10, left: 7, window_s: Some(3_600), reset_s: Some(1_820) };
        assert_eq!(told(&quota), ["\"healing-actions\";q=10;w=3600", "\"healing-actions\";r=7;t=1820"]);
        let quota = Quota { name: "streams", most: 64, left: 0, window_s: None, reset_s: None };
        assert_eq!(told(&quota), ["\"streams\";q=64;qu=\"concurrent-requests\"", "\"streams\";r=0"]);
    }
}
