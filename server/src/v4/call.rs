//! POST, PATCH and DELETE: the body as the arguments of an operation, headers as what surrounds it. GET of what is computed: the
//! query parameters as its arguments.
//!
//! **Invariant:** an operation that changes something goes on when its client goes away; one that only computes ends.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use juno_sql::{Answered, Effect, Operation, Request, WAIT_S_MAX};
use serde_json::{Map, Value};

use super::route::Asked;
use super::{Pairs, argument};
use crate::http::accept::{Format, negotiate};
use crate::http::problem::Problem;
use crate::http::{body, identity, quota, request};

/// The longest body, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The handler.
pub(super) async fn call(
    asked: &Asked<'_>,
    pairs: &Pairs,
    body: Body,
    (status, made): (u16, Option<&'static str>),
) -> Result<Response, Problem> {
    if let Some((name, _)) = pairs.first() {
        return Err(Problem::unknown_parameter(name, &[]));
    }
    negotiate(asked.headers, &[Format::Json])?;
    let operation = operation(asked)?;
    let mut arguments = arguments(asked.headers, body).await?;
    if let Some(id) = &asked.id
        && arguments.insert("id".into(), id.as_str().into()).is_some()
    {
        return Err(Problem::new("unknown-field", "the id stands in the path").at("/id"));
    }
    let wait_s = wait_s(asked.headers)?;
    let text = |name: &HeaderName| text(asked.headers, name);
    let request = Request {
        arguments,
        key: text(&KEY)?,
        wait_s,
        if_match: text(&header::IF_MATCH)?,
        request_id: text(&request::REQUEST_ID)?,
        trace_id: request::trace_id(asked.headers),
    };
    let answered = run(asked, operation, request).await?;
    let status = match made {
        _ if answered.pending => 202,
        Some(member) if answered.value[member] == true || answered.value[member].is_string() => 201,
        _ => status,
    };
    let mut response = written(&answered, StatusCode::from_u16(status).unwrap_or(StatusCode::OK));
    if wait_s > 0 {
        response.headers_mut().insert(
            APPLIED,
            HeaderValue::from_str(&format!("wait={wait_s}")).unwrap_or(HeaderValue::from_static("wait")),
        );
    }
    Ok(response)
}

/// The handler of what is computed: faults point to query parameters.
pub(super) async fn computed(asked: &Asked<'_>, pairs: &Pairs) -> Result<Response, Problem> {
    negotiate(asked.headers, &[Format::Json])?;
    let operation = operation(asked)?;
    let request = Request {
        arguments: argument::read(&operation.body(), pairs)?,
        request_id: text(asked.headers, &request::REQUEST_ID)?,
        trace_id: request::trace_id(asked.headers),
        ..Request::default()
    };
    let answered = run(asked, operation, request).await.map_err(argument::named)?;
    Ok(axum::Json(answered.value).into_response())
}

fn operation(asked: &Asked<'_>) -> Result<&'static Operation, Problem> {
    let missing = || Problem::new("internal-error", format!("\"{}\" names no operation", asked.row.sql));
    asked.row.operation().ok_or_else(missing)
}

/// Runs it on the query runtime.
async fn run(asked: &Asked<'_>, operation: &'static Operation, request: Request) -> Result<Answered, Problem> {
    struct Ends(tokio::task::AbortHandle, bool);
    impl Drop for Ends {
        fn drop(&mut self) {
            if self.1 {
                self.0.abort();
            }
        }
    }
    let doors = asked.gate.doors()?;
    let turn = asked.gate.query_turn().await?;
    let session = doors.session.connect_as(identity::user());
    let task = doors.query.spawn(async move {
        let _turn = turn;
        session.operate(operation, request).await
    });
    let _ends = Ends(task.abort_handle(), operation.effect == Effect::Computes);
    match task.await {
        Ok(answered) => Ok(answered?),
        Err(error) => Err(Problem::new("internal-error", format!("a worker failed: {error}"))),
    }
}

fn written(answered: &Answered, status: StatusCode) -> Response {
    let mut response = (status, axum::Json(&answered.value)).into_response();
    let headers = response.headers_mut();
    let mut add = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    if let Some(job) = &answered.job {
        add(header::LOCATION, format!("/api/v4/operations/jobs/{job}"));
    }
    if let Some(etag) = answered.value["etag"].as_str() {
        add(header::ETAG, format!("\"{etag}\""));
    }
    if answered.replayed {
        add(REPLAYED, "true".into());
    }
    if let Some(known) = &answered.quota {
        quota::tell(known, headers);
    }
    response
}

/// The members of the body; none where it is empty.
async fn arguments(headers: &HeaderMap, body: Body) -> Result<Map<String, Value>, Problem> {
    let bytes = body::read(body, headers, BODY_BYTES_MAX).await?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let media = kind.as_deref().map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if media.is_some_and(|media| media != "application/json" && media != "application/merge-patch+json") {
        let text = format!("Content-Type \"{}\" is not read here: send application/json", media.unwrap_or_default());
        return Err(Problem::new("unsupported-media-type", text));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::new("bad-request", "the body must be one JSON object")),
        Err(error) => Err(Problem::new("bad-request", format!("the body is no JSON: {error}"))),
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.to_owned())),
        Some(Err(_)) => Err(Problem::new("bad-request", format!("the header {name} must be plain ASCII"))),
    }
}

/// `Prefer: wait=N` (RFC 7240); other preferences mean nothing here.
fn wait_s(headers: &HeaderMap) -> Result<u64, Problem> {
    let all = headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']));
    let mut waits = all.filter_map(|one| one.trim().strip_prefix("wait="));
    let Some(wait) = waits.next() else { return Ok(0) };
    let seconds = wait.trim().parse::<u64>();
    let most = WAIT_S_MAX.unsigned_abs();
    seconds
        .ok()
        .filter(|seconds| *seconds <= most)
        .ok_or_else(|| Problem::new("bad-request", format!("Prefer: wait={wait} is not within 0 to {most} seconds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_number_of_seconds_among_other_preferences() {
        let wait = |text: &'static str| {
            wait_s(&HeaderMap::from_iter([(PREFER, HeaderValue::from_static(text))])).map_err(|problem| problem.status)
        };
        assert_eq!((wait("respond-async, wait=10"), wait("return=minimal")), (Ok(10), Ok(0)));
        assert_eq!((wait("wait=31"), wait("wait=soon")), (Err(400), Err(400)));
    }

    #[tokio::test]
    async fn a_body_is_one_json_object_that_says_so() {
        let read = async |kind: &'static str, text: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            arguments(&headers, Body::from(text)).await.map_err(|problem| problem.status)
        };
        assert_eq!(read("application/json; charset=utf-8", "{\"a\": 1}").await.map(|members| members.len()), Ok(1));
        assert_eq!(read("text/plain", "").await.map(|members| members.len()), Ok(0));
        assert_eq!(read("text/plain", "{}").await, Err(415));
        assert_eq!((read("application/json", "[1]").await, read("application/json", "{").await), (Err(400), Err(400)));
    }
}
