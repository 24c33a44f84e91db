//! A statement's rows on their way from the query runtime to the socket.
//!
//! **Invariant:** at most `CHUNKS_WAITING` chunks wait for a client, however slow; when the reader is dropped the query stops.

use futures::StreamExt;
use juno_sql::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use datafusion::execution::SendableRecordBatchStream;

use super::encode::{Chunk, Encoder};

/// Chunks that may wait for the client.
const CHUNKS_WAITING: usize = 4;

enum Event {
    Rows(Chunk),
    End,
    Failed(Error),
}

/// The rows of a running statement, in order.
pub(super) struct Rows {
    events: mpsc::Receiver<Event>,
    rest: Chunk,
    ended: bool,
}

impl Rows {
    /// Starts to poll `stream` and to encode its batches on the query runtime.
    pub(super) fn start(query: &Handle, stream: SendableRecordBatchStream, encoder: Encoder) -> Rows {
        let (sender, events) = mpsc::channel(CHUNKS_WAITING);
        query.spawn(async move {
            let last = match pump(stream, &encoder, &sender).await {
                Ok(()) => Event::End,
                Err(error) => Event::Failed(error),
            };
            // Nobody listens any more where the client is gone.
            let _ = sender.send(last).await;
        });
        Rows { events, rest: Chunk::default(), ended: false }
    }

    /// The next rows, at most `limit` of them (0 = no limit); None at the end. Cancel safe.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Option<Chunk>> {
        if self.rest.ends.is_empty() && !self.ended {
            match self.events.recv().await {
                Some(Event::Rows(chunk)) => self.rest = chunk,
                Some(Event::End) => self.ended = true,
                Some(Event::Failed(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                None => return Err(Error::Internal("the query stopped without a result".to_owned())),
            }
        }
        if self.rest.ends.is_empty() {
            return Ok(None);
        }
        if limit == 0 || limit >= self.rest.ends.len() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        Ok(Some(self.rest.split_to(limit)))
    }
}

async fn pump(mut stream: SendableRecordBatchStream, encoder: &Encoder, rows: &mpsc::Sender<Event>) -> Result<()> {
    loop {
        let batch = tokio::select! {
            biased;
            () = rows.closed() => return Err(Error::Cancelled),
            batch = stream.next() => batch,
        };
        let Some(batch) = batch else { return Ok(()) };
        for chunk in encoder.chunks(&batch.map_err(Error::from)?)? {
            if rows.send(Event::Rows(chunk?)).await.is_err() {
                return Err(Error::Cancelled);
            }
        }
    }
}
