//! What happens around every request: its id, its trace, what is left of its body, the last touch on a problem, the count of its
//! status.
//!
//! **Invariant:** knows no route.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use super::{Gate, linger};
use crate::telemetry::Door;
use crate::trace;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static(trace::TRACE_PARENT);
/// Longer ids from clients are replaced.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// The middleware.
pub(super) async fn around(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers()).unwrap_or_else(|| gate.system.uuid_v7().to_string());
    let began_us = gate.system.clock().monotonic_us();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let random = || gate.outside().random().next_u64();
    let parent = request.headers().get(TRACE_PARENT).and_then(|parent| parent.to_str().ok());
    let parent = parent.filter(|parent| trace::id(parent).is_some()).map(str::to_owned);
    // A request without a trace begins one, which goes on wherever it leads.
    let parent = parent.unwrap_or_else(|| trace::parent(&trace::new(random), random));
    let (mut head, body) = request.into_parts();
    if let Ok(id) = HeaderValue::from_str(&id) {
        head.headers.insert(REQUEST_ID, id);
    }
    if let Ok(parent) = HeaderValue::from_str(&parent) {
        head.headers.insert(TRACE_PARENT, parent);
    }
    let body = linger::lingering(body, &head.headers);
    let mut response = next.run(Request::from_parts(head, body)).await;
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.instance = Some(path.clone());
        problem.trace_id = trace::id(&parent).map(str::to_owned);
        response = keep_headers(response, problem.render());
        if let Some(sqlstate) = problem.sqlstate {
            gate.counters.error(Door::Http, sqlstate);
        }
        if problem.status >= 500 && problem.status != 503 {
            tracing::error!(%method, path, status = problem.status, trace_id = problem.trace_id, "{}", problem.detail);
        }
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), request_id = id, "request");
    let took = Duration::from_micros(gate.system.clock().monotonic_us() - began_us);
    gate.counters.responded(response.status().as_u16(), route.as_ref().map(MatchedPath::as_str), took);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Ok(parent) = HeaderValue::from_str(&parent) {
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

/// The trace id of a request's `traceparent`: the client's, or the one that was made for it.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<String> {
    let parent = headers.get(TRACE_PARENT)?.to_str().ok()?;
    trace::id(parent).map(str::to_owned)
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
