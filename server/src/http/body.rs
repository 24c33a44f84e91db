//! Request bodies: read whole, unzipped, within a limit.
//!
//! **Invariant:** never holds more than the limit, however small the zipped body is.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;

use super::problem::Problem;

/// Reads a body of at most `limit_bytes`, before and after gunzip.
pub(crate) async fn read(body: Body, headers: &HeaderMap, limit_bytes: usize) -> Result<Vec<u8>, Problem> {
    let zipped = is_zipped(headers)?;
    check_length(headers, limit_bytes as u64)?;
    let bytes = axum::body::to_bytes(body, limit_bytes).await.map_err(|error| match over_limit(&error) {
        true => too_large(limit_bytes as u64),
        false => Problem::new("unreadable-body", format!("the body ended early: {error}")),
    })?;
    if zipped { gunzip(&bytes, limit_bytes) } else { Ok(bytes.into()) }
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

fn over_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.to_string().contains("length limit") {
            return true;
        }
        source = inner.source();
    }
    false
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
    async fn a_cut_gzip_is_400_and_an_unknown_encoding_415() {
        let whole = zipped(b"hello hello hello");
        let cut = whole[..whole.len() - 9].to_vec();
        assert_eq!(read(cut.into(), &gzip(), 100).await.unwrap_err().status, 400);
        let brotli = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("br"))]);
        assert_eq!(read(vec![1].into(), &brotli, 100).await.unwrap_err().status, 415);
    }
}
