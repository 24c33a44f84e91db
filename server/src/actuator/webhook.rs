//! Whoever answers a webhook, as an actuator: each question and each order is one signed `POST`.
//!
//! **Message.** JSON: `{"type": "targets"}`, `{"type": "observe", "target": NAME}` or `{"type": "act", "order": {…}}`, with the
//! headers `X-Juno-Timestamp` (seconds since 1970), `X-Juno-Signature` ([`sign`]) and, for an order, `Idempotency-Key`: its
//! key, the same in each try. `traceparent` goes on with the trace of the request that asked for it. The receiver answers 200 with targets, an observation or an effect as JSON.
//!
//! **Answers.** 404: there is no such target. 400, 401, 403, 409, 410, 413, 415, 422: refused, with `detail` of a problem
//! document (RFC 9457) as the reason. 408 and 504: it took too long. 425, 429, 500, 502, 503, no connection and no answer
//! within a try's limit are tried again after a growing, scattered wait, or after `Retry-After`, until the order's limit.
//! Redirects are not followed: a signed order goes where it was sent.
//!
//! **Invariant:** an order is sent only with its key.

pub(crate) mod hook;
mod signature;

use std::time::Duration;

use async_trait::async_trait;
use juno_sql::actuator::{Actuator, ActuatorError, Effect, KEY_BYTES_MAX, Observation, Order, Target};
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use self::hook::{Hook, Posted};
pub use self::signature::{APART_S_MAX, is_signed, sign};
use super::outside::Outside;

/// The first wait before another try, which doubles each time.
const WAIT: Duration = Duration::from_millis(200);
/// The longest wait before another try.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The most tries.
const TRIES_MAX: u32 = 8;
/// How long a question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// Whoever answers a webhook.
#[derive(Debug)]
pub struct WebhookActuator {
    hook: Hook,
}

/// What came back of one try.
enum Answer {
    Good(Vec<u8>),
    /// It makes no sense to try again.
    Final(ActuatorError),
    /// Why another try may help, and how long the receiver wants to be left alone.
    Again(String, Option<Duration>),
}

impl WebhookActuator {
    /// Sends to an address, signed with a secret. A try takes `try_limit` at most.
    ///
    /// # Errors
    /// A text that says what to do, for an address or a secret that is none.
    pub fn new(url: &str, secret: &[u8], try_limit: Duration, outside: Outside) -> Result<Self, String> {
        Ok(Self { hook: Hook::new(url, secret, try_limit, outside)? })
    }

    /// Sends a message until there is an answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        target: &str,
        message: &Value,
        key: Option<&str>,
        limit: Duration,
    ) -> Result<T, ActuatorError> {
        let until = Instant::now() + limit;
        let unreachable = |reason: String| ActuatorError::Unreachable { target: target.to_owned(), reason };
        let trace_id = juno_sql::trace_id().unwrap_or_else(|| self.hook.new_trace());
        let mut last = String::new();
        for tried in 0..TRIES_MAX {
            match timeout_at(until, self.try_once(target, message, (key, trace_id.as_str()))).await {
                Err(_) => return Err(too_long(target, message, limit)),
                Ok(Answer::Good(body)) => {
                    return serde_json::from_slice(&body)
                        .map_err(|error| unreachable(format!("its answer makes no sense: {error}")));
                }
                Ok(Answer::Final(error)) => return Err(error),
                Ok(Answer::Again(reason, after)) => {
                    let wait = after.unwrap_or_else(|| self.wait(tried));
                    if tried + 1 == TRIES_MAX || Instant::now() + wait >= until {
                        return Err(unreachable(format!("{reason}, after {} tries", tried + 1)));
                    }
                    last = reason;
                    sleep(wait).await;
                }
            }
        }
        Err(unreachable(last))
    }

    async fn try_once(&self, target: &str, message: &Value, (key, trace_id): (Option<&str>, &str)) -> Answer {
        match self.hook.post(message.to_string(), key, trace_id).await {
            Ok(posted) => judge(target, message, posted),
            Err(reason) => Answer::Again(reason, None),
        }
    }

    /// The wait before the try after the `tried`th.
    fn wait(&self, tried: u32) -> Duration {
        self.hook.wait((WAIT, WAIT_MAX), tried)
    }
}

fn too_long(target: &str, message: &Value, limit: Duration) -> ActuatorError {
    let action = message["order"]["action"].as_str().or(message["type"].as_str()).unwrap_or_default().to_owned();
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    ActuatorError::Timeout { target: target.to_owned(), action, limit_ms }
}

/// What a status means.
fn judge(target: &str, message: &Value, posted: Posted) -> Answer {
    /// As much of a problem document (RFC 9457) as is of use.
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let status = posted.status;
    if status == StatusCode::OK {
        return Answer::Good(posted.body);
    }
    let problem = serde_json::from_slice::<Problem>(&posted.body).ok();
    let detail = problem.and_then(|problem| problem.detail.or(problem.title)).unwrap_or_default();
    let reason = if detail.is_empty() { format!("it answers {status}") } else { format!("{status}: {detail}") };
    match status.as_u16() {
        404 => Answer::Final(ActuatorError::UnknownTarget(target.to_owned())),
        408 | 504 => Answer::Final(too_long(
            target,
            message,
            Duration::from_millis(message["order"]["limit_ms"].as_u64().unwrap_or_default()),
        )),
        425 | 429 | 500 | 502 | 503 => Answer::Again(reason, posted.retry_after()),
        _ => Answer::Final(ActuatorError::Refused { target: target.to_owned(), reason }),
    }
}

#[async_trait]
impl Actuator for WebhookActuator {
    fn executor(&self) -> &'static str {
        "webhook"
    }

    async fn targets(&self) -> Result<Vec<Target>, ActuatorError> {
        self.ask("webhook", &json!({"type": "targets"}), None, QUESTION_LIMIT).await
    }

    async fn observe(&self, target: &str) -> Result<Observation, ActuatorError> {
        self.ask(target, &json!({"type": "observe", "target": target}), None, QUESTION_LIMIT).await
    }

    async fn act(&self, order: &Order) -> Result<Effect, ActuatorError> {
        let is_plain = order.key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if order.key.is_empty() || order.key.len() > KEY_BYTES_MAX || !is_plain {
            return Err(order.refused(format!("a key has 1 to {KEY_BYTES_MAX} printable ASCII characters")));
        }
        let message = json!({"type": "act", "order": order});
        self.ask(&order.target, &message, Some(&order.key), Duration::from_millis(order.limit_ms)).await
    }
}

#[cfg(test)]
mod tests;
