//! COPY: rows that travel as a stream of bytes, in text, CSV, PostgreSQL's binary format or Parquet.
//!
//! **Invariant:** holds a few blocks of bytes and one batch of rows, never a whole input; a COPY FROM that does not come to
//! its regular end stores nothing.

mod binary;
mod column;
mod csv;
mod file;
mod input;
mod output;
mod reader;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use juno_sql::{CopyFormat, CopyIn, CopyOptions, CopyPlace, Error, Outcome, Result, Session};
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio::task::JoinHandle;

use super::connection::{Connection, Trouble, failed};
use super::report::Report;
use super::running::Rows;
use super::socket::Stop;
use super::zone;

use input::{Feed, Input};
use output::Output;

/// A COPY TO, as the session gave it.
pub(crate) struct CopyOut {
    pub(crate) schema: SchemaRef,
    pub(crate) options: CopyOptions,
    pub(crate) place: CopyPlace,
    pub(crate) stream: SendableRecordBatchStream,
}

impl Connection {
    /// Takes the rows of a COPY FROM and stores them.
    pub(super) async fn copy_in(&mut self, copy: CopyIn) -> Result<(), Trouble> {
        let session = Arc::clone(&self.session);
        let outcome = match &copy.place {
            CopyPlace::File(_) => self.on_query_runtime(async move { from_file(&session, &copy).await }).await?,
            CopyPlace::Client => self.client_rows(session, copy).await?,
        };
        self.answer(outcome?);
        Ok(())
    }

    async fn client_rows(&mut self, session: Arc<Session>, copy: CopyIn) -> Result<Result<Outcome>, Trouble> {
        let (format, formats) = formats(&copy.options, copy.schema.fields().len());
        let columns = formats.len() as i16;
        let response = CopyInResponse::new(format, columns, formats);
        let input = Input::new(&copy, zone(&session))?;
        let (feed, batches) = input::pipe(input);
        self.socket.put(PgWireBackendMessage::CopyInResponse(response));
        self.socket.flush().await?;
        let mut storing = self.doors.query.spawn(async move { session.copy_in(&copy, batches).await });
        let fed = self.feed(feed, &mut storing).await;
        match fed {
            Ok(Some(ended)) => Ok(ended),
            Ok(None) => {
                let ended = self.socket.attend(&mut storing).await;
                Ok(joined(self.or_cancel(ended)?))
            }
            Err(trouble) => {
                // The feed is gone without its end, so that nothing is stored; what still runs is stopped.
                storing.abort();
                Err(trouble)
            }
        }
    }

    /// Hands the client's messages on until its rows end, or the storing ends before them.
    async fn feed(
        &mut self,
        feed: Feed,
        storing: &mut JoinHandle<Result<Outcome>>,
    ) -> Result<Option<Result<Outcome>>, Trouble> {
        loop {
            let incoming = tokio::select! {
                biased;
                ended = &mut *storing => return Ok(Some(joined(ended))),
                incoming = self.socket.message() => incoming?.ok_or(Stop::Gone)?,
            };
            match incoming.message {
                PgWireFrontendMessage::CopyData(data) => feed.data(data.data).await,
                PgWireFrontendMessage::CopyDone(_) => {
                    feed.end().await;
                    return Ok(None);
                }
                PgWireFrontendMessage::CopyFail(fail) => {
                    return Err(failed(&Error::CopyFailed(fail.message), None));
                }
                PgWireFrontendMessage::Flush(_) | PgWireFrontendMessage::Sync(_) => {}
                PgWireFrontendMessage::Terminate(_) => return Err(Stop::Gone.into()),
                _ => return Err(Report::error("08P01", "unexpected message during COPY from stdin").into()),
            }
        }
    }

    /// Sends the rows of a COPY TO, or writes them to its file.
    pub(super) async fn copy_out(&mut self, copy: CopyOut) -> Result<(), Trouble> {
        let zone = self.zone();
        if let CopyPlace::File(_) = copy.place {
            let session = Arc::clone(&self.session);
            let outcome = self.on_query_runtime(async move { to_file(&session, copy).await }).await?;
            self.answer(outcome?);
            return Ok(());
        }
        let (format, formats) = formats(&copy.options, copy.schema.fields().len());
        let columns = formats.len() as i16;
        let output = Output::new(&copy.schema, copy.options, zone, true)?;
        let response = CopyOutResponse::new(format, columns, formats);
        self.socket.put(PgWireBackendMessage::CopyOutResponse(response));
        let mut rows = Rows::start(&self.doors.query, copy.stream, output);
        let (count, _) = self.send(&mut rows, 0).await?;
        self.socket.put(PgWireBackendMessage::CopyDone(CopyDone::new()));
        self.complete(format!("COPY {count}"));
        Ok(())
    }
}

/// Stores the rows of a file on the server's machine.
pub(crate) async fn from_file(session: &Session, copy: &CopyIn) -> Result<Outcome> {
    let CopyPlace::File(path) = &copy.place else { return Err(needs_client()) };
    let input = Input::new(copy, zone(session))?;
    session.copy_in(copy, file::batches(session, path, copy.options.format, input)?).await
}

/// Writes rows to a file on the server's machine; it appears whole or not at all.
pub(crate) async fn to_file(session: &Session, copy: CopyOut) -> Result<Outcome> {
    let CopyPlace::File(path) = &copy.place else { return Err(needs_client()) };
    let output = Output::new(&copy.schema, copy.options, zone(session), false)?;
    let rows = file::write(session, path, copy.stream, output).await?;
    Ok(Outcome::Done { tag: format!("COPY {rows}"), notices: Vec::new() })
}

/// The answer to a COPY of STDIN or STDOUT where there is no such client.
pub(crate) fn needs_client() -> Error {
    Error::Unsupported("COPY FROM STDIN and TO STDOUT are for PostgreSQL clients such as psql: name a file here".into())
}

fn joined(ended: Result<Result<Outcome>, tokio::task::JoinError>) -> Result<Outcome> {
    ended.unwrap_or_else(|error| Err(Error::Internal(format!("the statement's task failed: {error}"))))
}

/// The overall format code, and that of each column; what is neither text nor one value after the other has no columns.
fn formats(options: &CopyOptions, columns: usize) -> (i8, Vec<i16>) {
    match options.format {
        CopyFormat::Text | CopyFormat::Csv => (0, vec![0; columns]),
        CopyFormat::Binary => (1, vec![1; columns]),
        CopyFormat::Parquet => (1, Vec::new()),
    }
}
