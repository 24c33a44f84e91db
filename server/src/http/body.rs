//! Request bodies: read whole, unzipped, within a limit.
//!
//! **Invariant:** never holds more than the limit, however small the zipped body is; a client that stops sending is waited for no
//! longer than [`SILENCE_MAX`], since it may hold the turn of others.

use std::io::{self, ErrorKind, Read};
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use futures::{Stream, StreamExt};
use tokio::time::timeout;

use super::problem::Problem;
use crate::serve::SILENCE_MAX;

/// Reads a body of at most `limit_bytes`, before and after gunzip.
pub(crate) async fn read(body: Body, headers: &HeaderMap, limit_bytes: usize) -> Result<Vec<u8>, Problem> {
    let zipped = is_zipped(headers)?;
    check_length(headers, limit_bytes as u64)?;
    let mut chunks = chunks(body);
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreadable)?;
        if bytes.len() + chunk.len() > limit_bytes {
            return Err(too_large(limit_bytes as u64));
        }
        bytes.extend_from_slice(&chunk);
    }
    if zipped { gunzip(&bytes, limit_bytes) } else { Ok(bytes) }
}

/// A body chunk by chunk; an error is the last of them.
pub(crate) fn chunks(body: Body) -> Pin<Box<impl Stream<Item = io::Result<Bytes>>>> {
    let sent = body.into_data_stream().map(|chunk| chunk.map_err(|error| io::Error::other(error.to_string())));
    Box::pin(impatient(sent, SILENCE_MAX))
}

/// A stream that ends with an error where nothing comes for so long.
fn impatient(
    sent: impl Stream<Item = io::Result<Bytes>> + Unpin,
    silence_max: Duration,
) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some(sent), move |sent| async move {
        let mut sent = sent?;
        match timeout(silence_max, sent.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(sent))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => {
                let text = format!("nothing of it came for {silence_max:?}");
                Some((Err(io::Error::new(ErrorKind::TimedOut, text)), None))
            }
        }
    })
}

/// The problem of a body that did not come whole.
pub(crate) fn unreadable(error: io::Error) -> Problem {
    Problem::new("unreadable-body", format!("the body is not whole: {error}"))
}

/// Refuses a body that says itself that it is too long.
pub(crate) fn check_length(headers: &HeaderMap, limit_bytes: u64) -> Result<(), Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit_bytes) { Err(too_large(limit_bytes)) } else { Ok(()) }
}

/// Whether a body is zipped; refuses what cannot be unpacked.
pub(crate) fn is_zipped(headers: &HeaderMap) -> Result<bool, Problem> {
    let encoding =
        headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim().to_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") => Ok(false),
        Some("gzip" | "x-gzip") => Ok(true),
        Some(other) => Err(Problem::new(
            "unsupported-media-type",
            format!("Content-Encoding \"{other}\" is not known; send gzip or none"),
        )),
    }
}

fn gunzip(bytes: &[u8], limit_bytes: usize) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity((bytes.len() * 4).min(limit_bytes));
    let mut limited = MultiGzDecoder::new(bytes).take(limit_bytes as u64 + 1);
    limited
        .read_to_end(&mut out)
        .map_err(|error| Problem::new("unreadable-body", format!("the body is not whole gzip: {error}")))?;
    if out.len() > limit_bytes { Err(too_large(limit_bytes as u64)) } else { Ok(out) }
}

/// The problem of a body over its limit.
pub(crate) fn too_large(limit_bytes: u64) -> Problem {
    Problem::new("too-large", format!("the body is larger than {} MiB; send it in several requests", limit_bytes >> 20))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gzip() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))])
    }

    #[tokio::test]
    async fn gzip_is_unzipped_and_several_members_are_one_body() {
        let both = [zipped(b"a"), zipped(b"b")].concat();
        assert_eq!(read(both.into(), &gzip(), 100).await.unwrap(), b"ab");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_413_zipped_or_not() {
        assert_eq!(read(vec![0; 11].into(), &HeaderMap::new(), 10).await.unwrap_err().status, 413);
        let bomb = zipped(&vec![0; 1 << 20]);
        assert_eq!(read(bomb.into(), &gzip(), 10_000).await.unwrap_err().status, 413);
    }

    #[tokio::test]
    async fn a_client_that_stops_sending_is_given_up() {
        let begun = futures::stream::iter([Ok(Bytes::from_static(b"a,b"))]);
        let sent = Box::pin(begun.chain(futures::stream::pending()));
        let got: Vec<_> = impatient(sent, Duration::from_millis(10)).collect().await;
        assert!(matches!(&got[..], [Ok(_), Err(error)] if error.kind() == ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_400() {
        let broken = [Ok(Bytes::from_static(b"a,b")), Err(io::Error::other("reset"))];
        let body = Body::from_stream(futures::stream::iter(broken));
        assert_eq!(read(body, &HeaderMap::new(), 100).await.unwrap_err().status, 400);
    }

    #[tokio::test]
    async fn a_cut_gzip_is_400_and_an_unknown_encoding_415() {
        let whole = zipped(b"hello hello hello");
        let cut = whole[..whole.len() - 9].to_vec();
        assert_eq!(read(cut.into(), &gzip(), 100).await.unwrap_err().status, 400);
        let brotli = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("br"))]);
        assert_eq!(read(vec![1].into(), &brotli, 100).await.unwrap_err().status, 415);
    }
}
