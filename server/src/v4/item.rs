//! Answers of one row or of all: with an ETag, and 304 to who has it already.
//!
//! **Invariant:** the ETag is that of the row where it has one, and else of its bytes.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use juno_sql::hex;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::Pairs;
use super::filter::{Conditions, Kind};
use super::page::document;
use super::route::Asked;
use super::table::Shape;
use crate::http::accept::{Format, negotiate};
use crate::http::answer::encode::Encoder;
use crate::http::answer::{self, Job, Table};
use crate::http::problem::Problem;
use crate::json::{self, RowShape};

/// The one row of a view, or the one with the path's id.
pub(super) async fn one(asked: &Asked<'_>, pairs: &Pairs) -> Result<Response, Problem> {
    negotiate(asked.headers, &[Format::Json])?;
    refuse(pairs)?;
    let mut conditions = Conditions::default();
    if let Some(id) = &asked.id {
        let id = conditions.bind(id.as_str().into(), Kind::Text);
        conditions.and(format!("CAST(id AS TEXT) = {id}"));
    }
    let sql = format!("{}{}", asked.row.sql, conditions.clause());
    let table = answer::collect(asked.gate, Job { sql, values: conditions.values, types: conditions.types }).await?;
    let (mut out, mut first) = (String::new(), true);
    for batch in &table.batches {
        json::rows(&table.schema, batch, RowShape::Object, (",", &mut first, ""), &mut out)
            .map_err(juno_sql::Error::from)?;
    }
    if out.is_empty() {
        let id = asked.id.as_deref().unwrap_or_default();
        return Err(Problem::new("not-found", format!("there is nothing with the id \"{id}\" here")));
    }
    let etag = etag(&out);
    out.push('\n');
    let age = if matches!(asked.row.shape, Shape::One) { "max-age=1" } else { "no-cache" };
    let mut response = match unchanged(asked.headers, &etag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, "application/json")], out).into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(age));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// All rows of a view.
pub(super) async fn all(asked: &Asked<'_>, pairs: &Pairs) -> Result<Response, Problem> {
    let format = negotiate(asked.headers, Format::ROWS)?;
    refuse(pairs)?;
    let sql = format!("{} ORDER BY id", asked.row.sql);
    let Table { schema, batches } = answer::collect(asked.gate, Job { sql, values: vec![], types: vec![] }).await?;
    let rows = arrow::compute::concat_batches(&schema, &batches).map_err(juno_sql::Error::from)?;
    let body = match format {
        Format::Json => document(&rows, None, None)?.into_bytes().into(),
        _ => {
            let mut encoder = Encoder::new(format, schema)?;
            encoder.batch(&rows)?;
            encoder.finish("SELECT")?
        }
    };
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

fn refuse(pairs: &Pairs) -> Result<(), Problem> {
    match pairs.first() {
        Some((name, _)) => Err(Problem::unknown_parameter(name, &[])),
        None => Ok(()),
    }
}

/// The ETag of an object: its member `etag`, or of its bytes.
fn etag(object: &str) -> String {
    let own = serde_json::from_str::<Value>(object).ok().and_then(|object| object["etag"].as_str().map(str::to_owned));
    own.map_or_else(
        || {
            let hash = digest(&SHA256, object.as_bytes());
            format!("W/\"{}\"", hex(&hash.as_ref()[..8]))
        },
        |own| format!("\"{own}\""),
    )
}

/// Whether the client has this already (RFC 9110, section 13.1.2).
fn unchanged(headers: &HeaderMap, etag: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let given = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| given.trim() == "*" || given.split(',').any(|one| bare(one) == bare(etag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_the_rows_own_or_of_its_bytes() {
        assert_eq!(etag("{\"etag\":\"v3\"}"), "\"v3\"");
        assert!(etag("{\"a\":1}").starts_with("W/\"") && etag("{\"a\":1}") != etag("{\"a\":2}"));
        let headers = |text| HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(text))]);
        assert!(unchanged(&headers("\"v2\", W/\"v3\""), "\"v3\"") && unchanged(&headers("*"), "\"v3\""));
        assert!(!unchanged(&headers("\"v2\""), "\"v3\"") && !unchanged(&HeaderMap::new(), "\"v3\""));
    }
}
