//! An address that signed messages are posted to.
//!
//! **Invariant:** a redirect is not followed, an answer is read up to a limit, and no error shows the address or the secret.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use super::super::outside::Outside;
use super::signature::sign;
use crate::{answer, trace};

/// The shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 16;
/// The longest answer, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The address.
#[derive(Debug)]
pub(crate) struct Hook {
    url: Url,
    secret: Vec<u8>,
    /// How long one try may take.
    try_limit: Duration,
    http: reqwest::Client,
    outside: Outside,
}

/// What came back of one try.
pub(crate) struct Posted {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    headers: HeaderMap,
}

impl Hook {
    /// Posts to an address, signed with a secret. A try takes `try_limit` at most.
    ///
    /// # Errors
    /// A text that says what to do, for an address or a secret that is none.
    pub(crate) fn new(url: &str, secret: &[u8], try_limit: Duration, outside: Outside) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("\"{url}\" is no address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("\"{url}\" is no address of a webhook: use http or https"));
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!("a secret of {} bytes is too short: use {SECRET_BYTES_MIN} or more", secret.len()));
        }
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let http = http.map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { url, secret: secret.to_vec(), try_limit, http, outside })
    }

    /// The host of the address, which has no secrets.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Posts a body of JSON once, with the headers `X-Juno-Timestamp`, `X-Juno-Signature`, `traceparent` of a new span of the trace and,
    /// where there is one, `Idempotency-Key`.
    ///
    /// # Errors
    /// A text, where no whole answer came.
    pub(crate) async fn post(&self, body: String, key: Option<&str>, trace_id: &str) -> Result<Posted, String> {
        let at_s = (self.outside.now_us)().div_euclid(1_000_000);
        let mut request = self
            .http
            .post(self.url.clone())
            .timeout(self.try_limit)
            .header("Content-Type", "application/json")
            .header(trace::TRACE_PARENT, trace::parent(trace_id, || (self.outside.random)()))
            .header("X-Juno-Timestamp", at_s)
            .header("X-Juno-Signature", sign(&self.secret, at_s, body.as_bytes()));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Err("no answer in time".into()),
            // The address is in the configuration; an answer must not show its secrets.
            Err(error) => return Err(format!("no connection: {}", answer::told(error))),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Posted { status, headers, body: answer::body(response, ANSWER_BYTES_MAX).await? })
    }

    /// The id of a trace that begins here.
    pub(crate) fn new_trace(&self) -> String {
        trace::new(|| (self.outside.random)())
    }

    /// The wait before the try after the `tried`th: it doubles from `first` up to `most`, and is scattered over its upper half.
    pub(crate) fn wait(&self, (first, most): (Duration, Duration), tried: u32) -> Duration {
        let whole = most.min(first.saturating_mul(1 << tried.min(20)));
        let share = (((self.outside.random)() >> 11) as f64) / ((1u64 << 53) as f64);
        whole.mul_f64(0.5 + 0.5 * share)
    }
}

impl Posted {
    /// How long the receiver wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}
