//! The ingest doors over HTTP: InfluxDB line protocol, uploads of Parquet, Arrow, NDJSON and CSV, and security logs.
//!
//! **Invariant:** bytes become batches here; creating tables, widening them and making rows durable is the session's work.

pub(crate) mod known;
pub(crate) mod line_protocol;
pub(crate) mod precision;
pub(crate) mod read;
pub(crate) mod refusal;
mod security;
pub(crate) mod shape;
mod spool;
mod upload;

pub(crate) use upload::upload;

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use juno_sql::Incoming;
use juno_sql::engine::Catalog;
use serde_json::json;

use crate::http::identity;
use crate::http::problem::Problem;
use crate::http::{Gate, body};
use crate::serve::Doors;
use known::Known;
use line_protocol::Parsed;
use precision::Precision;
use refusal::Refusal;

/// The longest body of line protocol, before and after gunzip.
const WRITE_BYTES_MAX: usize = 64 << 20;
/// Bad lines that an answer lists; all are counted.
const LISTED_LINES_MAX: usize = 100;
/// How often a text is parsed while other writers change the tables under it.
const PARSES_MAX: usize = 3;
/// Parameters of InfluxDB clients that mean nothing here: there is one database.
const INFLUX_PARAMETERS: &[&str] =
    &["db", "rp", "bucket", "org", "orgID", "u", "p", "consistency", "accept_partial", "no_sync"];

type Pairs = Vec<(String, String)>;

/// `POST /write` and `POST /api/v2/write`: line protocol. 204, or 400 with the bad lines named and the good ones stored.
pub(crate) async fn write(
    State(gate): State<Arc<Gate>>,
    Query(pairs): Query<Pairs>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    let doors = gate.doors()?;
    let mut precision = Precision::Nanoseconds;
    for (name, value) in &pairs {
        match name.as_str() {
            "precision" => precision = Precision::read(value).ok_or_else(|| odd_precision(value))?,
            other if INFLUX_PARAMETERS.contains(&other) => {}
            other => return Err(Problem::unknown_parameter(other, &["precision", "db", "rp", "bucket", "org"])),
        }
    }
    identity::writer()?;
    let _turn = gate.upload_turn().await?;
    let bytes = body::read(request, &headers, WRITE_BYTES_MAX).await?;
    let text = Text { bytes: bytes.into(), precision, now_us: gate.now_us() };
    let Parsed { accepted, rejected, rejected_total, .. } = store_text(&doors, &text).await?;
    doors.counters.ingested("line_protocol", accepted, rejected_total);
    let Some(first) = rejected.first() else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let more = if rejected_total > 1 { format!(" (and {} more)", rejected_total - 1) } else { String::new() };
    let body = json!({
        "code": "invalid",
        "message": format!("partial write: line {}: {}{more}", first.line, first.message),
        "line": first.line,
        "accepted": accepted,
        "rejected": rejected_total,
        "errors": rejected.iter().take(LISTED_LINES_MAX).collect::<Vec<_>>(),
    });
    Ok((StatusCode::BAD_REQUEST, Json(body)).into_response())
}

/// Runs work that computes on the query runtime's blocking threads.
async fn blocking<T: Send + 'static>(
    doors: &Doors,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Problem> {
    match doors.query.spawn_blocking(work).await {
        Ok(done) => done.map_err(Problem::from),
        // The Parquet and Arrow readers may panic on bytes that are damaged on purpose.
        Err(_) => Err(Problem::new("unreadable-body", "the body is damaged")),
    }
}

/// A body of line protocol.
struct Text {
    bytes: Bytes,
    precision: Precision,
    now_us: i64,
}

impl Text {
    /// The lines as the tables of this catalog take them.
    async fn parse(&self, doors: &Doors, catalog: &Arc<Catalog>) -> Result<Parsed, Problem> {
        let (bytes, precision, now_us) = (self.bytes.clone(), self.precision, self.now_us);
        let catalog = Arc::clone(catalog);
        let known = move |name: &str| catalog.table(name).map(|table| Known::of(table));
        blocking(doors, move || Ok(line_protocol::parse(&bytes, precision, now_us, &known))).await
    }
}

/// Stores a text in one commit. Where the session refuses it because another writer has settled a column meanwhile, it is parsed again,
/// so that only the lines that do not fit are bad.
async fn store_text(doors: &Doors, text: &Text) -> Result<Parsed, Problem> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let catalog = doors.session.db().catalog();
        let mut parsed = text.parse(doors, &catalog).await?;
        let incoming = std::mem::take(&mut parsed.incoming);
        match store(doors, incoming.clone()).await {
            Ok(()) => return Ok(parsed),
            Err(problem) if problem.status >= 500 => return Err(problem),
            Err(_) => {}
        }
        if attempts == PARSES_MAX || Arc::ptr_eq(&catalog, &doors.session.db().catalog()) {
            return store_each(doors, incoming, parsed).await;
        }
    }
}

/// Stores tables each on its own: the session refuses one of them, such as a view. The lines of those that it refuses are bad.
async fn store_each(doors: &Doors, incoming: Vec<Incoming>, mut parsed: Parsed) -> Result<Parsed, Problem> {
    for (table, origin) in incoming.into_iter().zip(std::mem::take(&mut parsed.origins)) {
        match store(doors, vec![table]).await {
            Ok(()) => {}
            Err(problem) if problem.status < 500 => parsed.refuse(origin, problem.detail.clone()),
            Err(problem) => return Err(problem),
        }
    }
    Ok(parsed)
}

/// One commit on the query runtime. It runs to its end even when the client goes away.
async fn store(doors: &Doors, incoming: Vec<Incoming>) -> Result<(), Problem> {
    if incoming.iter().all(|incoming| incoming.rows.num_rows() == 0) {
        return Ok(());
    }
    let session = doors.session.connect_as(identity::user());
    let stored = doors.query.spawn(async move { session.ingest(incoming).await });
    let stored = stored.await.map_err(|_| Problem::new("internal-error", "the rows could not be stored"))?;
    stored.map(drop).map_err(Problem::from)
}

fn odd_precision(value: &str) -> Problem {
    Problem::new("invalid-parameter-value", format!("precision=\"{value}\" is not one of {}", Precision::NAMES))
        .at("?precision")
}
