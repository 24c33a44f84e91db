//! What stops a running statement: its client's cancel request or its timeout.
//!
//! **Invariant:** knows no statement; it wraps whatever future or stream it is given.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::{BoxFuture, FutureExt};
use futures::{Stream, StreamExt};
use tokio::sync::watch;

use crate::{Error, Result};

/// One statement's stop signal; the deadline counts from its making.
pub(crate) struct Interrupt {
    fired: BoxFuture<'static, Error>,
}

impl Interrupt {
    /// Of the cancel requests those count that came after the first `before`.
    pub(crate) fn new(mut cancels: watch::Receiver<u64>, before: u64, timeout: Option<Duration>) -> Self {
        let cancelled = async move {
            let stopped = cancels.wait_for(|count| *count != before).await.is_ok();
            if !stopped {
                // The session is gone, and nobody is left who could cancel.
                futures::future::pending::<()>().await;
            }
            Error::Cancelled
        };
        let timed_out = async move {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => futures::future::pending().await,
            }
            Error::Timeout
        };
        let fired = async move {
            tokio::select! {
                error = cancelled => error,
                error = timed_out => error,
            }
        };
        Interrupt { fired: fired.boxed() }
    }

    /// The future's result, or why it was stopped.
    pub(crate) async fn guard<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            error = &mut self.fired => Err(error),
            result = work => result,
        }
    }

    /// The stream's batches until it ends or is stopped.
    pub(crate) fn guard_stream(mut self, mut stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = stream.schema();
        let mut stopped = false;
        let guarded = futures::stream::poll_fn(move |cx| {
            if stopped {
                return Poll::Ready(None);
            }
            if let Poll::Ready(error) = self.fired.poll_unpin(cx) {
                stopped = true;
                return Poll::Ready(Some(Err(error.into())));
            }
            Pin::new(&mut stream).poll_next(cx)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, guarded.boxed()))
    }
}
