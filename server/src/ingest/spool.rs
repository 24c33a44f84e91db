//! The body of an upload, read to its end before its rows are: short ones in memory, long ones in a file without a name.
//!
//! **Invariant:** holds a few chunks besides what is in memory; the file goes with its last reader, also after a crash.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use tokio::sync::mpsc::{Receiver, channel};

use super::known::Known;
use super::read::{self, Batches, Format};
use super::refusal::Refusal;
use super::shape::Wanted;
use crate::http::body;
use crate::http::problem::Problem;

/// Bytes that stay in memory.
const MEMORY_BYTES_MAX: usize = 8 << 20;
/// Chunks that wait to be written.
const CHUNKS_WAITING: usize = 8;
/// Bytes that are unpacked and written at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// A whole body, unpacked.
#[derive(Clone)]
pub(crate) enum Spool {
    Memory(Bytes),
    File(Arc<File>),
}

impl Spool {
    /// Reads a body of at most `limit_bytes`, before and after gunzip; the file is in `dir`.
    pub(crate) async fn read(
        body: Body,
        headers: &HeaderMap,
        limit_bytes: u64,
        dir: PathBuf,
    ) -> Result<Spool, Problem> {
        let zipped = body::is_zipped(headers)?;
        body::check_length(headers, limit_bytes)?;
        let (sender, chunks) = channel(CHUNKS_WAITING);
        let writing = tokio::task::spawn_blocking(move || {
            let chunks = Chunks { chunks, now: Bytes::new(), ended: false };
            match zipped {
                true => write(MultiGzDecoder::new(chunks), limit_bytes, &dir),
                false => write(chunks, limit_bytes, &dir),
            }
        });
        let mut sent = body::chunks(body);
        while let Some(chunk) = sent.next().await {
            // Whoever writes has an error to tell, or met the end of what was packed.
            if sender.send(Some(chunk)).await.is_err() {
                break;
            }
        }
        let _ = sender.send(None).await;
        drop(sender);
        writing.await.map_err(|_| Problem::new("internal-error", "the body could not be kept"))?
    }

    /// The rows in it.
    pub(crate) fn batches(&self, format: Format, wanted: &Wanted, known: Option<&Known>) -> Result<Batches, Refusal> {
        match self {
            Spool::Memory(bytes) => read::bytes(format, bytes.clone(), wanted, known),
            Spool::File(file) => {
                let unreadable = |error: io::Error| Refusal::Unreadable(format!("the body cannot be read: {error}"));
                let whole = file.try_clone().map_err(unreadable)?;
                let file = Arc::clone(file);
                let open = move || Ok(Box::new(At { file: Arc::clone(&file), offset: 0 }) as Box<dyn Read + Send>);
                read::file(format, whole, open, wanted, known)
            }
        }
    }
}

/// A file from its beginning, whoever else reads it.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// What comes in, as a reader; an end that was not announced is an error.
struct Chunks {
    chunks: Receiver<Option<io::Result<Bytes>>>,
    now: Bytes,
    ended: bool,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Some(chunk)) => self.now = chunk?,
                Some(None) => self.ended = true,
                None => return Err(io::Error::other("the request was given up")),
            }
        }
        let count = buffer.len().min(self.now.len());
        buffer[..count].copy_from_slice(&self.now.split_to(count));
        Ok(count)
    }
}

fn write(mut source: impl Read, limit_bytes: u64, dir: &Path) -> Result<Spool, Problem> {
    let mut memory = Vec::new();
    source.by_ref().take(MEMORY_BYTES_MAX as u64 + 1).read_to_end(&mut memory).map_err(body::unreadable)?;
    if memory.len() as u64 > limit_bytes {
        return Err(body::too_large(limit_bytes));
    }
    if memory.len() <= MEMORY_BYTES_MAX {
        return Ok(Spool::Memory(memory.into()));
    }
    let mut file = tempfile::tempfile_in(dir).map_err(unwritable)?;
    let mut written = memory.len() as u64;
    io::copy(&mut Cursor::new(&memory), &mut file).map_err(unwritable)?;
    memory.resize(BLOCK_BYTES, 0);
    loop {
        let count = match source.read(&mut memory) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.map_err(body::unreadable)?,
        };
        if count == 0 {
            return Ok(Spool::File(Arc::new(file)));
        }
        written += count as u64;
        if written > limit_bytes {
            return Err(body::too_large(limit_bytes));
        }
        file.write_all(&memory[..count]).map_err(unwritable)?;
    }
}

fn unwritable(error: io::Error) -> Problem {
    let text = format!("the body cannot be kept in the data directory: {error}");
    Problem::sql(&match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => juno_sql::Error::DiskFull(text),
        _ => juno_sql::Error::Disk(text),
    })
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn spooled(body: Body, zipped: bool, limit_bytes: u64) -> Result<(bool, Vec<u8>), u16> {
        let dir = tempfile::tempdir().unwrap();
        let gzip = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let headers = HeaderMap::from_iter(zipped.then_some(gzip));
        let spool = Spool::read(body, &headers, limit_bytes, dir.path().into()).await;
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        match spool.map_err(|problem| problem.status)? {
            Spool::Memory(bytes) => Ok((true, bytes.into())),
            Spool::File(file) => {
                let mut bytes = Vec::new();
                At { file, offset: 0 }.read_to_end(&mut bytes).unwrap();
                Ok((false, bytes))
            }
        }
    }

    #[tokio::test]
    async fn short_bodies_stay_in_memory_and_long_ones_go_to_a_file_as_they_are() {
        let long: Vec<u8> = (0..MEMORY_BYTES_MAX + 1_000_001).map(|at| (at % 251) as u8).collect();
        assert_eq!(spooled(vec![1, 2, 3].into(), false, 10).await, Ok((true, vec![1, 2, 3])));
        assert_eq!(spooled(Body::empty(), false, 10).await, Ok((true, vec![])));
        assert!(spooled(long.clone().into(), false, 1 << 30).await == Ok((false, long.clone())));
        assert!(spooled(zipped(&long).into(), true, 1 << 30).await == Ok((false, long)));
    }

    #[tokio::test]
    async fn what_is_too_long_or_not_whole_is_refused() {
        assert_eq!(spooled(vec![0; 11].into(), false, 10).await, Err(413));
        let long = vec![0; MEMORY_BYTES_MAX + 10];
        let limit = MEMORY_BYTES_MAX as u64 + 9;
        assert_eq!(spooled(zipped(&long).into(), true, limit).await, Err(413));
        assert_eq!(
            spooled(Body::from_stream(futures::stream::iter([Ok::<_, io::Error>(long)])), false, limit).await,
            Err(413)
        );
        let whole = zipped(b"hello hello hello");
        assert_eq!(spooled(whole[..whole.len() - 9].to_vec().into(), true, 100).await, Err(400));
        let broken = [Ok(Bytes::from_static(b"a,b")), Err(io::Error::other("reset"))];
        assert_eq!(spooled(Body::from_stream(futures::stream::iter(broken)), false, 100).await, Err(400));
    }
}
