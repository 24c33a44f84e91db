//! What happens around every request: its id, what is left of its body, the last touch on a problem, the count of its status.
//!
//! **Invariant:** knows no route.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use super::{Gate, linger};
use crate::telemetry::Door;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longer ids from clients are replaced.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// The middleware.
pub(super) async fn around(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers()).unwrap_or_else(|| gate.system.uuid_v7().to_string());
    let trace_id = trace_id(request.headers()).unwrap_or_else(|| id.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let parent = traceparent(request.headers());
    let (mut head, body) = request.into_parts();
    if let Ok(id) = HeaderValue::from_str(&id) {
        head.headers.insert(REQUEST_ID, id);
    }
    let body = linger::lingering(body, &head.headers);
    let mut response = next.run(Request::from_parts(head, body)).await;
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.instance = Some(path.clone());
        problem.trace_id = Some(trace_id);
        response = keep_headers(response, problem.render());
        if let Some(sqlstate) = problem.sqlstate {
            gate.counters.error(Door::Http, sqlstate);
        }
        if problem.status >= 500 && problem.status != 503 {
            tracing::error!(%method, path, status = problem.status, trace_id = problem.trace_id, "{}", problem.detail);
        }
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), request_id = id, "request");
    gate.counters.responded(response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(parent) = parent.and_then(|parent| HeaderValue::from_str(&parent).ok()) {
        response.headers_mut().insert(TRACE_PARENT, parent);
    }
    response
}

fn keep_headers(old: Response, mut new: Response) -> Response {
    for (name, value) in old.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            new.headers_mut().insert(name.clone(), value.clone());
        }
    }
    new
}

/// The client's id where it is a plain short word.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let plain = |id: &&str| {
        let word = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        word && (1..=REQUEST_ID_CHARS_MAX).contains(&id.len())
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(plain);
    given.map(str::to_owned)
}

/// The trace id of a W3C `traceparent` header.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<String> {
    let id = traceparent(headers)?.split('-').nth(1)?.to_owned();
    Some(id)
}

/// The client's `traceparent`, where it is one: an answer carries it too.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let parent = headers.get(TRACE_PARENT)?.to_str().ok()?;
    let parts: Vec<&str> = parent.split('-').collect();
    let hex = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    let [version, trace, span, flags] = parts.as_slice() else { return None };
    let valid = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    valid.then(|| parent.to_owned())
}

/// No route has this path.
pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::new("not-found", format!("there is nothing at \"{}\"", uri.path()))
}

/// The path has a route, but not for this method.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new("method-not-allowed", format!("{method} is not allowed on \"{}\"", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_plain_request_id_is_kept_and_anything_else_is_replaced() {
        assert_eq!(request_id(&headers("x-request-id", "abc-1.2_3")).as_deref(), Some("abc-1.2_3"));
        for odd in ["", "a b", "<script>", &"x".repeat(REQUEST_ID_CHARS_MAX + 1)] {
            assert_eq!(request_id(&headers("x-request-id", odd)), None, "{odd}");
        }
    }

    #[test]
    fn the_trace_id_is_the_second_part_of_traceparent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&headers("traceparent", &format!("00-{id}-00f067aa0ba902b7-01"))).as_deref(), Some(id));
        assert_eq!(trace_id(&headers("traceparent", "nonsense")), None);
    }
}
