//! `POST /api/v4/ingest`: one upload of Parquet, Arrow, NDJSON or CSV, or of a security log, stored whole or not at all.
//!
//! All rows are read and shaped before the first is stored, so that a bad one leaves neither a table nor a column behind. Those of a
//! short upload stay in memory for that; a long one is read a second time on its way into parts.
//!
//! **Invariant:** memory is bounded, whatever the number of rows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use juno_sql::Incoming;
use serde_json::json;

use super::known::Known;
use super::precision::Precision;
use super::read::{Batches, Format};
use super::refusal::Refusal;
use super::security::{self, Log};
use super::shape::{self, Wanted};
use super::spool::Spool;
use super::{Pairs, WRITE_BYTES_MAX, blocking, odd_precision, store};
use crate::http::problem::Problem;
use crate::http::{Gate, body, identity};
use crate::serve::Doors;

/// The longest upload, before and after gunzip.
const UPLOAD_BYTES_MAX: u64 = 16 << 30;
/// Rows of an upload that are worth parts of their own; fewer go through the log.
const IMPORT_ROWS_MIN: usize = 200_000;
/// Bytes of rows that are held; those of a longer upload are read again.
const HELD_BYTES_MAX: usize = 64 << 20;

/// `POST /api/v4/ingest?table=&time=&tags=&precision=`, or `?format=sshd` of a security log.
pub(crate) async fn upload(
    State(gate): State<Arc<Gate>>,
    Query(pairs): Query<Pairs>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    let doors = gate.doors()?;
    let wanted = match log(&pairs)? {
        Some((log, wanted)) => return security_log(&gate, &doors, (log, wanted), &headers, request).await,
        None => wanted(&pairs)?,
    };
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let format = Format::of_media(media).ok_or_else(|| {
        Problem::new("unsupported-media-type", format!("Content-Type \"{media}\" is not one of {}", Format::MEDIA))
    })?;
    identity::writer()?;
    let _turn = gate.upload_turn().await?;
    let dir = doors.session.db().path().to_owned();
    let spool = Spool::read(request, &headers, UPLOAD_BYTES_MAX, dir).await?;
    let catalog = doors.session.db().catalog();
    let table = wanted.table.clone();
    let checked = blocking(&doors, move || {
        let known = catalog.table(&wanted.table).map(|table| Known::of(table));
        let mut reader = Reader::new(Upload { spool, format, wanted, known })?;
        let held = reader.check()?;
        Ok((reader.rows, held, reader.upload))
    });
    let (rows, held, upload) = checked.await?;
    match held {
        Some(held) if rows < IMPORT_ROWS_MIN => store(&doors, held).await?,
        Some(held) => import(&doors, held.into_iter().map(Ok)).await?,
        None => {
            let again = blocking(&doors, move || Reader::new(upload)).await?;
            import(&doors, again).await?;
        }
    }
    doors.counters.ingested(format.name(), rows as u64, 0);
    Ok(Json(json!({"table": table, "rows": rows})).into_response())
}

fn wanted(pairs: &Pairs) -> Result<Wanted, Problem> {
    let mut wanted = Wanted::default();
    for (name, value) in pairs {
        match name.as_str() {
            "table" => wanted.table = value.clone(),
            "time" => wanted.time = Some(value.clone()),
            "tags" => wanted.tags = Some(shape::names(value)),
            "precision" => wanted.precision = Some(Precision::read(value).ok_or_else(|| odd_precision(value))?),
            other => return Err(Problem::unknown_parameter(other, &["table", "time", "tags", "precision", "format"])),
        }
    }
    if wanted.table.is_empty() || wanted.table.len() > shape::NAME_BYTES_MAX {
        return Err(
            Problem::new("invalid-parameter-value", "table=NAME must say which table the rows are for").at("?table")
        );
    }
    Ok(wanted)
}

/// The kind of security log that `format` names, and the table for its events.
fn log(pairs: &Pairs) -> Result<Option<(Log, Wanted)>, Problem> {
    let Some((_, name)) = pairs.iter().find(|(name, _)| name == "format") else { return Ok(None) };
    let log = Log::named(name).ok_or_else(|| {
        let known = Log::NAMES.map(|(name, _)| name).join(", ");
        let text = format!("format=\"{name}\" is not one of {known}; other formats are named by the Content-Type");
        Problem::new("invalid-parameter-value", text).at("?format")
    })?;
    let tags = security::TAGS.map(str::to_owned).into();
    let mut wanted = Wanted { table: security::TABLE.into(), tags: Some(tags), ..Wanted::default() };
    for (name, value) in pairs {
        match name.as_str() {
            "format" => {}
            "table" if !value.is_empty() && value.len() <= shape::NAME_BYTES_MAX => wanted.table.clone_from(value),
            "table" => return Err(Problem::new("invalid-parameter-value", "table must be a name").at("?table")),
            other => return Err(Problem::unknown_parameter(other, &["format", "table"])),
        }
    }
    Ok(Some((log, wanted)))
}

/// A security log, stored as events.
async fn security_log(
    gate: &Gate,
    doors: &Arc<Doors>,
    (log, wanted): (Log, Wanted),
    headers: &HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    identity::writer()?;
    let _turn = gate.upload_turn().await?;
    let bytes = body::read(request, headers, WRITE_BYTES_MAX).await?;
    let (catalog, now_us, table) = (doors.session.db().catalog(), gate.now_us(), wanted.table.clone());
    let read = move || {
        let text = std::str::from_utf8(&bytes).map_err(|error| Refusal::Unreadable(format!("no UTF-8: {error}")))?;
        let events = security::read(log, text, now_us)?;
        let known = catalog.table(&wanted.table).map(|table| Known::of(table));
        let incoming = shape::shape(&events.batch()?, 0, &wanted, known.as_ref())?;
        Ok((incoming, events.len(), events.skipped))
    };
    let (incoming, rows, skipped) = blocking(doors, read).await?;
    store(doors, vec![incoming]).await?;
    doors.counters.ingested(log.name(), rows as u64, 0);
    Ok(Json(json!({ "table": table, "rows": rows, "skipped": skipped })).into_response())
}

/// What was sent, and what it is for.
struct Upload {
    spool: Spool,
    format: Format,
    wanted: Wanted,
    known: Option<Known>,
}

/// The rows of an upload, batch by batch.
struct Reader {
    upload: Upload,
    batches: Batches,
    rows: usize,
}

impl Reader {
    fn new(upload: Upload) -> Result<Reader, Refusal> {
        let batches = upload.spool.batches(upload.format, &upload.wanted, upload.known.as_ref())?;
        Ok(Reader { upload, batches, rows: 0 })
    }

    /// Reads all rows; gives them where they are few.
    fn check(&mut self) -> Result<Option<Vec<Incoming>>, Refusal> {
        let (mut held, mut bytes) = (Some(Vec::new()), 0);
        while let Some(incoming) = self.next_shaped() {
            let incoming = incoming?;
            bytes += incoming.rows.get_array_memory_size();
            held = held.filter(|_| bytes <= HELD_BYTES_MAX);
            if let Some(held) = &mut held {
                held.push(incoming);
            }
        }
        Ok(held)
    }

    fn next_shaped(&mut self) -> Option<Result<Incoming, Refusal>> {
        let Upload { wanted, known, .. } = &self.upload;
        let batch = match self.batches.next()? {
            Ok(batch) => batch,
            Err(refusal) => return Some(Err(refusal)),
        };
        let shaped = shape::shape(&batch, self.rows, wanted, known.as_ref());
        self.rows += batch.num_rows();
        Some(shaped)
    }
}

/// Why rows that were good could not be stored.
enum Failed {
    Read(Refusal),
    Stored(juno_sql::Error),
}

impl From<juno_sql::Error> for Failed {
    fn from(error: juno_sql::Error) -> Self {
        Failed::Stored(error)
    }
}

impl Iterator for Reader {
    type Item = Result<Incoming, Failed>;

    fn next(&mut self) -> Option<Self::Item> {
        // The Parquet and Arrow readers may panic on bytes that are damaged on purpose.
        match catch_unwind(AssertUnwindSafe(|| self.next_shaped())) {
            Ok(next) => next.map(|shaped| shaped.map_err(Failed::Read)),
            Err(_) => Some(Err(Failed::Read(Refusal::Unreadable("the body is damaged".into())))),
        }
    }
}

/// One import on the query runtime. It runs to its end even when the client goes away.
async fn import(
    doors: &Doors,
    batches: impl Iterator<Item = Result<Incoming, Failed>> + Send + 'static,
) -> Result<(), Problem> {
    let session = doors.session.connect_as(identity::user());
    let stored = doors.query.spawn(async move { session.import(batches).await });
    match stored.await.map_err(|_| Problem::new("internal-error", "the rows could not be stored"))? {
        Ok(_) => Ok(()),
        Err(Failed::Read(refusal)) => Err(refusal.into()),
        Err(Failed::Stored(error)) => Err(error.into()),
    }
}
