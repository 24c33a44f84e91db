//! Runs a statement on the query runtime and streams its rows into a response.
//!
//! The first chunk is waited for, so that a statement that fails early still gets its status. A failure after that
//! cuts the chunked body off, which every HTTP client notices.
//!
//! **Invariant:** at most [`CHUNKS_MAX`] chunks wait for a slow client; a client that goes away stops its statement.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use juno_sql::{Error, Outcome, Session};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::encode::Encoder;
use super::Gate;
use super::accept::Format;
use super::identity;
use super::problem::Problem;
use crate::pgwire::copy::{self, CopyOut, needs_client};
use crate::serve::Doors;
use crate::telemetry::Door;

pub(crate) mod bind;
pub(crate) mod encode;

/// Chunks that wait for a slow client.
const CHUNKS_MAX: usize = 4;
/// A chunk is sent when it has reached this size.
const CHUNK_BYTES: usize = 64 << 10;
/// The command tag of the statement, for formats that have no place for it.
const COMMAND: HeaderName = HeaderName::from_static("x-juno-command");

/// One statement with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
    /// Arrow types of the parameters where the caller knows them; may be shorter than `values`.
    pub(crate) types: Vec<Option<DataType>>,
}

/// What a statement gave, all of it in memory. For endpoints whose SQL bounds the rows.
pub(crate) struct Table {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

/// The task behind a request: it ends when the request does.
struct Running {
    task: JoinHandle<()>,
    cancel: Arc<dyn Fn() + Send + Sync>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.task.is_finished() {
            (self.cancel)();
            self.task.abort();
        }
    }
}

/// Streams the statement's rows in a format.
pub(crate) async fn stream(gate: &Gate, job: Job, format: Format) -> Result<Response, Problem> {
    let doors = gate.doors()?;
    let permit = gate.query_turn().await?;
    let (sender, mut chunks) = mpsc::channel(CHUNKS_MAX);
    let failed = sender.clone();
    let running = spawn(&doors, failed, move |session| write(session, job, format, sender));
    let Some(first) = chunks.recv().await else {
        return Err(Problem::new("internal-error", "the statement ended without an answer"));
    };
    let (tag, first) = match first.map_err(|error| Problem::sql(&error))? {
        Chunk::Done(tag, bytes) => (Some(tag), bytes),
        Chunk::Part(bytes) => (None, bytes),
    };
    let rest = futures::stream::unfold((chunks, running, permit), |(mut chunks, running, permit)| async move {
        let chunk: std::io::Result<Bytes> = match chunks.recv().await? {
            Ok(Chunk::Part(bytes) | Chunk::Done(_, bytes)) => Ok(bytes),
            Err(error) => {
                tracing::warn!(%error, "a statement failed after the first rows had been sent");
                Err(std::io::Error::other(error))
            }
        };
        Some((chunk, (chunks, running, permit)))
    });
    let body = Body::from_stream(futures::stream::once(async { Ok(first) }).chain(rest));
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        response.headers_mut().insert(COMMAND, tag);
    }
    Ok(response)
}

/// Writes a large answer on a thread that may be busy for a while.
pub(crate) async fn blocking(
    write: impl FnOnce() -> Result<Response, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|_| Err(Problem::new("internal-error", "the answer could not be written")))
}

/// Runs a statement whose rows its SQL bounds, and collects them.
pub(crate) async fn collect(gate: &Gate, job: Job) -> Result<Table, Problem> {
    let doors = gate.doors()?;
    let _permit = gate.query_turn().await?;
    let (sender, mut answer) = mpsc::channel(1);
    let found = sender.clone();
    let _running = spawn(&doors, sender, move |session| async move {
        let (outcome, schema) = start(&session, job).await?;
        let table = match outcome {
            Outcome::Rows { mut stream, .. } => {
                let mut batches = vec![];
                while let Some(batch) = stream.next().await {
                    batches.push(batch?);
                }
                Table { schema: schema.unwrap_or_else(|| stream.schema()), batches }
            }
            Outcome::CopyIn(_) | Outcome::CopyOut { .. } => return Err(needs_client()),
            Outcome::Done { .. } | Outcome::Empty => {
                Table { schema: Arc::new(arrow::datatypes::Schema::empty()), batches: vec![] }
            }
        };
        let _ = found.send(Ok(table)).await;
        Ok(())
    });
    match answer.recv().await {
        Some(table) => table.map_err(|error| Problem::sql(&error)),
        None => Err(Problem::new("internal-error", "the statement ended without an answer")),
    }
}

/// Runs the work on the query runtime with a session of its own; its error goes into the channel.
fn spawn<T, F>(
    doors: &Arc<Doors>,
    sender: mpsc::Sender<Result<T, Error>>,
    work: impl FnOnce(Session) -> F + Send + 'static,
) -> Running
where
    T: Send + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let session = doors.session.connect_as(identity::user());
    let cancel = session.cancel_handle();
    let (counters, system) = (Arc::clone(&doors.counters), doors.session.db().system().clone());
    let task = doors.query.spawn(async move {
        let began_us = system.clock().monotonic_us();
        let result = work(session).await;
        counters.statement(Door::Http, Duration::from_micros(system.clock().monotonic_us() - began_us));
        if let Err(error) = result {
            let _ = sender.send(Err(error)).await;
        }
    });
    Running { task, cancel }
}

enum Chunk {
    Part(Bytes),
    /// A statement without rows: its command tag and the whole body.
    Done(String, Bytes),
}

/// Parses, plans and starts the one statement of a job.
async fn start(session: &Session, job: Job) -> Result<(Outcome, Option<SchemaRef>), Error> {
    let mut statements = session.parse(&job.sql)?;
    if statements.len() > 1 {
        return Err(Error::Syntax("one request takes one statement".into()));
    }
    let Some(statement) = statements.pop() else {
        return Err(Error::Syntax("the statement is empty".into()));
    };
    let mut prepared = session.prepare(statement, &job.types).await?;
    let values = bind::values(&prepared.parameters, &job.values)?;
    let outcome = session.execute(&prepared, values).await?;
    Ok((outcome, prepared.schema.take()))
}

/// Sends the answer of a statement without rows.
async fn done(outcome: Outcome, format: Format, sender: &mpsc::Sender<Result<Chunk, Error>>) -> Result<(), Error> {
    let Outcome::Done { tag, notices } = outcome else { return Ok(()) };
    let body = encode::nothing(format, &tag, &notices)?;
    let _ = sender.send(Ok(Chunk::Done(tag, body.into()))).await;
    Ok(())
}

/// Runs a job and sends its rows as chunks of the format.
async fn write(
    session: Session,
    job: Job,
    format: Format,
    sender: mpsc::Sender<Result<Chunk, Error>>,
) -> Result<(), Error> {
    let (outcome, schema) = start(&session, job).await?;
    let (tag, mut stream) = match outcome {
        Outcome::Rows { tag, stream } => (tag, stream),
        done @ Outcome::Done { .. } => return self::done(done, format, &sender).await,
        Outcome::CopyIn(copy) => return done(copy::from_file(&session, &copy).await?, format, &sender).await,
        Outcome::CopyOut { schema, options, place, stream } => {
            let copied = copy::to_file(&session, CopyOut { schema, options, place, stream }).await?;
            return done(copied, format, &sender).await;
        }
        Outcome::Empty => return Err(Error::Syntax("the statement is empty".into())),
    };
    let mut encoder = Encoder::new(format, schema.unwrap_or_else(|| stream.schema()))?;
    while let Some(batch) = stream.next().await {
        encoder.batch(&batch?)?;
        if encoder.pending() >= CHUNK_BYTES && sender.send(Ok(Chunk::Part(encoder.take()))).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Ok(Chunk::Part(encoder.finish(tag)?))).await;
    Ok(())
}
