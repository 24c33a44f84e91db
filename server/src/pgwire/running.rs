//! A statement's rows on their way from the query runtime to the socket.
//!
//! **Invariant:** at most `CHUNKS_WAITING` chunks wait for a client, however slow; when the reader is dropped the query stops.

use bytes::Bytes;
use futures::StreamExt;
use juno_sql::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use datafusion::execution::SendableRecordBatchStream;

use super::encode::{Chunk, Encode};

/// Chunks that may wait for the client.
const CHUNKS_WAITING: usize = 4;

enum Event {
    Rows(Chunk),
    /// The end, and the bytes that follow the last row.
    End(Bytes),
    Failed(Error),
}

/// The rows of a running statement, in order.
pub(super) struct Rows {
    events: mpsc::Receiver<Event>,
    rest: Chunk,
    ended: bool,
    tail: Bytes,
}

impl Rows {
    /// Starts to poll `stream` and to encode its batches on the query runtime.
    pub(super) fn start(query: &Handle, stream: SendableRecordBatchStream, mut encoder: impl Encode + 'static) -> Rows {
        let (sender, events) = mpsc::channel(CHUNKS_WAITING);
        query.spawn(async move {
            let last = match pump(stream, &mut encoder, &sender).await {
                Ok(tail) => Event::End(tail),
                Err(error) => Event::Failed(error),
            };
            // Nobody listens any more where the client is gone.
            let _ = sender.send(last).await;
        });
        Rows { events, rest: Chunk::default(), ended: false, tail: Bytes::new() }
    }

    /// Waits for the first rows. On the query runtime this costs no way to another thread, and a short answer is whole
    /// by then.
    pub(super) async fn begun(mut self) -> Result<Rows> {
        self.wait().await?;
        Ok(self)
    }

    async fn wait(&mut self) -> Result<()> {
        while self.rest.bytes.is_empty() && !self.ended {
            let event = self.events.recv().await;
            self.take(event.ok_or_else(|| Error::Internal("the query stopped without a result".to_owned()))?)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Rows(chunk) => self.rest = chunk,
            Event::End(tail) => (self.ended, self.tail) = (true, tail),
            Event::Failed(error) => {
                self.ended = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next rows, at most `limit` of them (0 = no limit); None at the end. Cancel safe.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Option<Chunk>> {
        self.wait().await?;
        if self.rest.bytes.is_empty() {
            return Ok(None);
        }
        if limit == 0 || limit >= self.rest.ends.len() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        Ok(Some(self.rest.split_to(limit)))
    }

    /// What follows the last row, once there is no further one.
    pub(super) fn tail(&mut self) -> Bytes {
        std::mem::take(&mut self.tail)
    }
}

async fn pump(
    mut stream: SendableRecordBatchStream,
    encoder: &mut impl Encode,
    rows: &mpsc::Sender<Event>,
) -> Result<Bytes> {
    loop {
        let batch = tokio::select! {
            biased;
            () = rows.closed() => return Err(Error::Cancelled),
            batch = stream.next() => batch,
        };
        let Some(batch) = batch else { return encoder.tail() };
        for chunk in encoder.chunks(&batch.map_err(Error::from)?)? {
            if rows.send(Event::Rows(chunk?)).await.is_err() {
                return Err(Error::Cancelled);
            }
        }
    }
}
