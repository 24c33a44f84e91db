//! Keyset pages of a list endpoint: `limit`, `cursor`, `order`, `from`, `to`, and the endpoint's filters.
//!
//! A cursor is `<order><time µs>.<from µs>.<to µs>.<issued µs>.<id>`: the last row's key, the range of the first page, so that a
//! relative range does not move between pages, and when it was given out. It is opaque to clients, and [`CURSOR_US_MAX`] after that
//! it has expired.
//!
//! The newest rows of a long history are first looked for in as much time as pages like this one went back lately ([`spans`]), so
//! that a page costs as much as its own rows and not as all there are.
//!
//! **Invariant:** a row is on one page only, whatever is inserted meanwhile; one page is at most [`LIMIT_MAX`] rows.

mod count;
pub(crate) mod spans;

use std::fmt::Write as _;

use arrow::array::AsArray;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use juno_sql::rfc3339;

use self::count::{Count, Wanted};
use super::Pairs;
use super::filter::{Conditions, Filter, Kind, invalid, only_known};
use super::range::{self, Range};
use crate::http::Gate;
use crate::http::accept::{Format, negotiate};
use crate::http::answer::encode::Encoder;
use crate::http::answer::{self, Job, Table};
use crate::http::problem::Problem;
use crate::json::{self, RowShape};

/// The parameters that every list takes.
pub(super) const PARAMETERS: &[&str] = &["limit", "cursor", "order", "from", "to", "count"];
const LIMIT_MAX: usize = 1000;
const LIMIT_DEFAULT: usize = 100;
/// How long a cursor may be used, in microseconds: a day.
const CURSOR_US_MAX: i64 = range::DAY_US;

/// A list endpoint.
pub(super) struct List<'a> {
    pub(super) path: &'a str,
    pub(super) sql: &'a str,
    pub(super) time: &'a str,
    pub(super) last_day: bool,
    pub(super) filters: &'a [Filter],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    order: Order,
    time_us: i64,
    range: Range,
    issued_us: i64,
    id: String,
}

#[derive(Debug)]
struct Request {
    job: Job,
    limit: usize,
    order: Order,
    range: Range,
    /// Nothing is newer, where that is known.
    newest_us: Option<i64>,
    /// What the rows of all pages satisfy, where they are to be counted.
    counted: Option<(Wanted, Conditions)>,
    asked_us: i64,
}

/// Answers one page.
pub(super) async fn page(
    gate: &Gate,
    list: &List<'_>,
    pairs: Pairs,
    headers: &HeaderMap,
    now_us: i64,
) -> Result<Response, Problem> {
    let format = negotiate(headers, Format::ROWS)?;
    let (mut request, all) = found(gate, list, &pairs, now_us).await?;
    let count = match request.counted.take() {
        Some((wanted, conditions)) => Some(count::count(gate, list, wanted, conditions).await?),
        None => None,
    };
    let schema = all.schema();
    let more = all.num_rows() > request.limit;
    let rows = all.slice(0, all.num_rows().min(request.limit));
    let next = if more { Some(cursor_after(list, &request, &rows)?) } else { None };
    let body = match format {
        Format::Json => document(&rows, next.as_deref(), count)?.into_bytes().into(),
        _ => {
            let mut encoder = Encoder::new(format, schema)?;
            encoder.batch(&rows)?;
            encoder.finish("SELECT")?
        }
    };
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if let Some(next) = &next
        && let Ok(link) = HeaderValue::from_str(&link(list.path, &pairs, next))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    if let Some(count) = count {
        response.headers_mut().insert(count::HEADER, count.header());
    }
    Ok(response)
}

/// The rows of a page, and one more where there is one.
async fn found(gate: &Gate, list: &List<'_>, pairs: &Pairs, now_us: i64) -> Result<(Request, RecordBatch), Problem> {
    let request = read(list, pairs, now_us, None)?;
    let collected = async |job: Job| {
        let Table { schema, batches } = answer::collect(gate, job).await?;
        Ok::<_, Problem>(concat_batches(&schema, &batches).map_err(juno_sql::Error::from)?)
    };
    if request.order == Order::Ascending {
        let rows = collected(request.job.clone()).await?;
        return Ok((request, rows));
    }
    let key = spans::key(list.path, pairs);
    let newest_us = request.newest_us.unwrap_or(now_us);
    let is_part = |since_us: &i64| request.range.from_us.is_none_or(|from_us| from_us < *since_us);
    let mut rows = None;
    if let Some(since_us) = gate.spans.since(&key, newest_us).filter(is_part) {
        let newest = collected(read(list, pairs, now_us, Some(since_us))?.job).await?;
        rows = Some(newest).filter(|rows| rows.num_rows() > request.limit);
    }
    let rows = match rows {
        Some(rows) => rows,
        None => collected(request.job.clone()).await?,
    };
    let went_us = match rows.num_rows() > request.limit {
        true => Some(newest_us - key_of(list, &rows, rows.num_rows() - 1)?.0),
        false => None,
    };
    gate.spans.learn(&key, went_us);
    Ok((request, rows))
}

/// Turns the parameters into a statement that asks for one row more than the page has, among those from `since_us` on.
fn read(list: &List<'_>, pairs: &Pairs, now_us: i64, since_us: Option<i64>) -> Result<Request, Problem> {
    only_known(pairs, list.filters, PARAMETERS)?;
    let (limit, order) = size(pairs)?;
    let cursor = single(pairs, "cursor")?.map(|text| valid_cursor(text, order, now_us)).transpose()?;
    let (from, to) = (single(pairs, "from")?, single(pairs, "to")?);
    let range = match &cursor {
        Some(cursor) if from.is_none() && to.is_none() => cursor.range,
        _ => Range::read(from, to, list.last_day, now_us)?,
    };
    let mut conditions = Conditions::default();
    conditions.within(list.time, range);
    conditions.filters(list.filters, pairs, now_us)?;
    let counted = Wanted::of(pairs)?.map(|wanted| (wanted, conditions.clone()));
    if let Some(since_us) = since_us {
        conditions.within(list.time, Range { from_us: Some(since_us), to_us: None });
    }
    let (beyond, direction) = if order == Order::Descending { ("<", "DESC") } else { (">", "ASC") };
    let newest_us = cursor.as_ref().map(|cursor| cursor.time_us).or(range.to_us);
    if let Some(cursor) = cursor {
        let time = conditions.bind(rfc3339(cursor.time_us).into(), Kind::Time);
        let id = conditions.bind(cursor.id.into(), Kind::Text);
        // The first of both says nothing new, but what reads files understands it.
        conditions.and(format!("{} {beyond}= {time}", list.time));
        conditions.and(format!("({0} {beyond} {time} OR id {beyond} {id})", list.time));
    }
    let sql = format!(
        "{}{} ORDER BY {} {direction}, id {direction} LIMIT {}",
        list.sql,
        conditions.clause(),
        list.time,
        limit + 1
    );
    let job = Job { sql, values: conditions.values, types: conditions.types };
    Ok(Request { job, limit, order, range, newest_us, counted, asked_us: now_us })
}

/// How many rows a page has, and which are the first.
fn size(pairs: &Pairs) -> Result<(usize, Order), Problem> {
    let limit = match single(pairs, "limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| invalid("limit", text, "a number from 1 to 1000"))?,
    };
    match single(pairs, "order")? {
        None | Some("desc") => Ok((limit, Order::Descending)),
        Some("asc") => Ok((limit, Order::Ascending)),
        Some(text) => Err(invalid("order", text, "asc or desc")),
    }
}

/// The value of a parameter that may be given once.
pub(super) fn single<'a>(pairs: &'a Pairs, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (_, Some(second)) => Err(invalid(name, second, "given once only")),
        (first, None) => Ok(first),
    }
}

/// The cursor of a page in this order that was not given out too long ago.
fn valid_cursor(text: &str, order: Order, now_us: i64) -> Result<Cursor, Problem> {
    let cursor = parse_cursor(text)
        .filter(|cursor| cursor.order == order)
        .ok_or_else(|| Problem::new("invalid-cursor", "this cursor is of no page of this list").at("?cursor"))?;
    if now_us.saturating_sub(cursor.issued_us) > CURSOR_US_MAX {
        let text = format!("this cursor was given out at {}: start anew without one", rfc3339(cursor.issued_us));
        return Err(Problem::new("cursor-expired", text).at("?cursor"));
    }
    Ok(cursor)
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let order = match text.get(..1)? {
        "a" => Order::Ascending,
        "d" => Order::Descending,
        _ => return None,
    };
    let mut parts = text[1..].splitn(5, '.');
    let time_us = parts.next()?.parse().ok()?;
    let mut end = || match parts.next()? {
        "" => Some(None),
        us => us.parse().ok().map(Some),
    };
    let range = Range { from_us: end()?, to_us: end()? };
    let issued_us = parts.next()?.parse().ok()?;
    let id = parts.next().filter(|id| !id.is_empty())?.to_owned();
    Some(Cursor { order, time_us, range, issued_us, id })
}

fn write_cursor(cursor: &Cursor) -> String {
    let order = if cursor.order == Order::Ascending { 'a' } else { 'd' };
    let end = |us: Option<i64>| us.map(|us| us.to_string()).unwrap_or_default();
    let Cursor { time_us, range, issued_us, id, .. } = cursor;
    format!("{order}{time_us}.{}.{}.{issued_us}.{id}", end(range.from_us), end(range.to_us))
}

fn cursor_after(list: &List<'_>, request: &Request, rows: &RecordBatch) -> Result<String, Problem> {
    let (time_us, id) = key_of(list, rows, rows.num_rows() - 1)?;
    let Request { order, range, asked_us: issued_us, .. } = *request;
    Ok(write_cursor(&Cursor { order, time_us, range, issued_us, id }))
}

/// The time and the id of a row.
fn key_of(list: &List<'_>, rows: &RecordBatch, row: usize) -> Result<(i64, String), Problem> {
    let column = |name: &str, kind: DataType| {
        let array = rows
            .column_by_name(name)
            .ok_or_else(|| juno_sql::Error::Internal(format!("the view of {} has no column \"{name}\"", list.path)))?;
        cast(array, &kind).map_err(juno_sql::Error::from)
    };
    let times = column(list.time, DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())))?;
    let ids = column("id", DataType::Utf8)?;
    let time_us = times.as_primitive::<TimestampMicrosecondType>().value(row);
    Ok((time_us, ids.as_string::<i32>().value(row).to_owned()))
}

/// The JSON of a page; with `count` and `count_is` where its rows were to be counted.
pub(super) fn document(rows: &RecordBatch, next: Option<&str>, count: Option<Count>) -> Result<String, Problem> {
    let (mut out, mut first) = (String::from("{\"items\":["), true);
    json::rows(rows.schema_ref(), rows, RowShape::Object, (",", &mut first, ""), &mut out)
        .map_err(juno_sql::Error::from)?;
    out.push_str("],\"next_cursor\":");
    match next {
        Some(next) => json::string(next, &mut out),
        None => out.push_str("null"),
    }
    write!(out, ",\"has_more\":{}", next.is_some()).expect("a String takes every write");
    if let Some(Count { rows, is }) = count {
        write!(out, ",\"count\":{rows},\"count_is\":\"{is}\"").expect("a String takes every write");
    }
    out.push_str("}\n");
    Ok(out)
}

/// The next page's address: the same filters with the new cursor.
fn link(path: &str, pairs: &Pairs, next: &str) -> String {
    let mut out = format!("<{path}?");
    // The cursor holds the range: a relative one must not move between pages.
    for (name, value) in pairs.iter().filter(|(name, _)| !["cursor", "from", "to"].contains(&name.as_str())) {
        write!(out, "{}={}&", percent(name), percent(value)).expect("a String takes every write");
    }
    write!(out, "cursor={}>; rel=\"next\"", percent(next)).expect("a String takes every write");
    out
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => write!(out, "%{other:02X}").expect("a String takes every write"),
        }
    }
    out
}

#[cfg(test)]
mod tests;
