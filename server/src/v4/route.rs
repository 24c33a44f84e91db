//! From a request to its row: one route per path, methods and verbs told apart here.
//!
//! **Invariant:** who may not use a row learns so before anything of the request is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, RawPathParams, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::table::{ENDPOINTS, Endpoint, Shape};
use super::{Pairs, call, events, item, metrics, page, steps, summary};
use crate::http::problem::Problem;
use crate::http::{Gate, identity};

/// The rows of one path, whatever their methods and verbs.
type Rows = Arc<[&'static Endpoint]>;

/// A request without its body.
pub(super) struct Asked<'a> {
    pub(super) gate: &'a Arc<Gate>,
    pub(super) row: &'static Endpoint,
    pub(super) headers: &'a HeaderMap,
    /// The `{id}` of the path, without a verb.
    pub(super) id: Option<String>,
}

/// The path without its verb, and the verb.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once("}:") {
        Some((base, verb)) => (&path[..=base.len()], Some(verb)),
        None => (path, None),
    }
}

/// Adds a route for each path.
pub(crate) fn routes(router: Router<Arc<Gate>>) -> Router<Arc<Gate>> {
    let mut paths: BTreeMap<&str, Vec<&'static Endpoint>> = BTreeMap::new();
    for row in ENDPOINTS {
        paths.entry(split(row.path).0).or_default().push(row);
    }
    paths.into_iter().fold(router, |router, (path, rows)| {
        let rows: Rows = rows.into();
        let handler = move |State(gate): State<Arc<Gate>>,
                            method: Method,
                            uri: Uri,
                            params: RawPathParams,
                            Query(pairs): Query<Pairs>,
                            headers: HeaderMap,
                            body: Body| {
            let rows = Arc::clone(&rows);
            let id = params.iter().find(|(name, _)| *name == "id").map(|(_, id)| id.to_owned());
            async move { dispatch(gate, &rows, (method, uri, headers), id, pairs, body).await }
        };
        router.route(path, any(handler))
    })
}

/// The row that a method and an id with its verb mean, and the id without it.
fn pick(
    rows: &[&'static Endpoint],
    method: &Method,
    id: Option<String>,
) -> Result<(&'static Endpoint, Option<String>), Vec<&'static str>> {
    let verb = id.as_deref().and_then(|id| id.rsplit_once(':'));
    let has = |verb: &str| rows.iter().any(|row| split(row.path).1 == Some(verb));
    let (id, verb) = match verb {
        Some((bare, verb)) if has(verb) => (Some(bare.to_owned()), Some(verb.to_owned())),
        _ => (id, None),
    };
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let of_verb = || rows.iter().copied().filter(|row| split(row.path).1 == verb.as_deref());
    match of_verb().find(|row| row.method == method) {
        Some(row) => Ok((row, id)),
        None => Err(of_verb().map(|row| row.method).collect()),
    }
}

async fn dispatch(
    gate: Arc<Gate>,
    rows: &[&'static Endpoint],
    (method, uri, headers): (Method, Uri, HeaderMap),
    id: Option<String>,
    pairs: Pairs,
    body: Body,
) -> Result<Response, Problem> {
    let (row, id) = match pick(rows, &method, id) {
        Ok(found) => found,
        Err(allowed) => return Ok(not_allowed(&method, &uri, &allowed)),
    };
    identity::user().needs(row.role, &format!("{} {}", row.method, row.path))?;
    let asked = Asked { gate: &gate, row, headers: &headers, id };
    match row.shape {
        Shape::One | Shape::Item => item::one(&asked, &pairs).await,
        Shape::All => item::all(&asked, &pairs).await,
        Shape::List { time, last_day, filters } => {
            let list = page::List { path: uri.path(), sql: row.sql, time, last_day, filters };
            page::page(&gate, &list, pairs, &headers, gate.now_us()).await
        }
        Shape::History { time, filters, summary } => {
            let list = page::List { path: uri.path(), sql: row.sql, time, last_day: true, filters };
            summary::history(&gate, (&list, summary), pairs, &headers, gate.now_us()).await
        }
        Shape::Series => metrics::series(&gate, pairs, &headers, gate.now_us()).await,
        Shape::Steps(steps) => steps::steps(&gate, (row.sql, &steps), &pairs, &headers, gate.now_us()).await,
        Shape::Events => events::stream(&asked, &pairs).await,
        Shape::Computed => call::computed(&asked, &pairs).await,
        Shape::Call { status, made } => call::call(&asked, &pairs, body, (status, made)).await,
    }
}

fn not_allowed(method: &Method, uri: &Uri, allowed: &[&'static str]) -> Response {
    let mut allowed: Vec<&str> = allowed.to_vec();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let list = allowed.join(", ");
    let text = format!("{method} is not allowed on \"{}\"; allowed is {list}", uri.path());
    let mut response = Problem::new("method-not-allowed", text).into_response();
    if let Ok(list) = HeaderValue::from_str(&list) {
        response.headers_mut().insert(header::ALLOW, list);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_behind_an_id_chooses_the_row() {
        let rows: Vec<&'static Endpoint> =
            ENDPOINTS.iter().filter(|row| split(row.path).0 == "/api/v4/approvals/{id}").collect();
        let picked = |method: Method, id: &str| {
            pick(&rows, &method, Some(id.to_owned())).map(|(row, id)| (row.path, id.unwrap_or_default()))
        };
        assert_eq!(picked(Method::GET, "a"), Ok(("/api/v4/approvals/{id}", "a".into())));
        assert_eq!(picked(Method::HEAD, "a"), Ok(("/api/v4/approvals/{id}", "a".into())));
        assert_eq!(picked(Method::POST, "a:deny"), Ok(("/api/v4/approvals/{id}:deny", "a".into())));
        assert_eq!(picked(Method::GET, "a:deny"), Err(vec!["POST"]));
        assert_eq!(picked(Method::POST, "a"), Err(vec!["GET"]));
        assert_eq!(picked(Method::GET, "a:b"), Ok(("/api/v4/approvals/{id}", "a:b".into())));
    }
}
