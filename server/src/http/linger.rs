//! Request bodies that a handler leaves unread: they are read on for a while and thrown away.
//!
//! A client that sends a long body reads the answer when it has sent it all. If the connection were closed in the middle of it, the
//! client would see a broken pipe and never the 413 that says why.
//!
//! **Invariant:** the answer does not wait; bytes, time and silence of what is thrown away are bounded.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Error;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// The most bytes that are thrown away.
const BYTES_MAX: usize = 512 << 20;
/// The longest that they are waited for.
const TIME_MAX: Duration = Duration::from_secs(5);
/// A client that sends nothing for so long has seen the answer, or never will.
const QUIET_MAX: Duration = Duration::from_secs(1);

/// A body whose rest is thrown away when the handler drops it. One that the client holds back until it is asked for it
/// (`Expect: 100-continue`) stays as it is.
pub(super) fn lingering(body: Body, headers: &HeaderMap) -> Body {
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return body;
    }
    Body::from_stream(Lingering { rest: Some(body.into_data_stream()) })
}

struct Lingering {
    /// None at the end.
    rest: Option<BodyDataStream>,
}

impl Stream for Lingering {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let polled = rest.poll_next_unpin(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.rest = None;
        }
        polled
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let (Some(rest), Ok(runtime)) = (self.rest.take(), Handle::try_current()) {
            runtime.spawn(timeout(TIME_MAX, throw_away(rest, QUIET_MAX)));
        }
    }
}

/// Reads to the end, or until there is too much or nothing for too long; gives how much there was.
async fn throw_away(mut rest: impl Stream<Item = Result<Bytes, Error>> + Unpin, silence_max: Duration) -> usize {
    let mut bytes = 0;
    while bytes < BYTES_MAX {
        match timeout(silence_max, rest.next()).await {
            Ok(Some(Ok(chunk))) => bytes += chunk.len(),
            _ => break,
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn chunks(count: usize) -> impl Stream<Item = Result<Bytes, Error>> + Unpin {
        stream::repeat_with(|| Ok(Bytes::from_static(&[0; 1 << 20]))).take(count)
    }

    #[tokio::test]
    async fn the_rest_is_read_to_its_end_but_neither_for_ever_nor_in_silence() {
        assert_eq!(throw_away(chunks(7), Duration::ZERO).await, 7 << 20);
        assert_eq!(throw_away(chunks(usize::MAX), Duration::ZERO).await, BYTES_MAX);
        let silent = chunks(1).chain(stream::pending());
        assert_eq!(throw_away(silent, Duration::ZERO).await, 1 << 20);
    }

    #[tokio::test]
    async fn a_handler_that_reads_the_body_gets_it_unchanged() {
        let body = Body::from_stream(chunks(2));
        let read = axum::body::to_bytes(lingering(body, &HeaderMap::new()), 4 << 20).await.unwrap();
        assert_eq!(read.len(), 2 << 20);
    }
}
