//! COPY from and to files on the server's machine.
//!
//! A relative path is one in the folder `import` of the data directory.
//!
//! **Invariant:** a file that is written appears under its name when it is whole and synced, or not at all.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use juno_sql::{CopyFormat, CopyRows, Error, Result, Session};

use super::input::{self, Feed, Input, Part};
use super::output::Output;
use crate::pgwire::encode::Encode;

/// The folder of relative paths, in the data directory.
const FOLDER: &str = "import";
/// Bytes that are read at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// The place that a COPY names.
fn resolve(session: &Session, path: &str) -> Result<PathBuf> {
    juno_sql::place(session.db().path(), FOLDER, path)
}

fn failed(doing: &str, path: &str, error: &std::io::Error) -> Error {
    Error::File(format!("could not {doing} file \"{path}\": {error}"))
}

/// The batches of a file.
pub(super) fn batches(
    session: &Session,
    path: &str,
    format: CopyFormat,
    mut input: Input,
) -> Result<BoxStream<'static, Result<CopyRows>>> {
    let place = resolve(session, path)?;
    let mut file = File::open(&place).map_err(|error| failed("open", path, &error))?;
    if format == CopyFormat::Parquet {
        input.open(file)?;
        let (_, batches) = input::pipe(input);
        return Ok(batches.boxed());
    }
    let (Feed(sender), batches) = input::pipe(input);
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        loop {
            let mut block = vec![0; BLOCK_BYTES];
            let part = match file.read(&mut block) {
                Ok(0) => Part::End,
                Ok(read) => {
                    block.truncate(read);
                    Part::Block(Bytes::from(block))
                }
                Err(error) => Part::Failed(failed("read", &path, &error)),
            };
            let last = !matches!(part, Part::Block(_));
            // The COPY may have failed meanwhile.
            if sender.blocking_send(part).is_err() || last {
                return;
            }
        }
    });
    Ok(batches.boxed())
}

/// Writes rows; gives their number.
pub(super) async fn write(
    session: &Session,
    path: &str,
    mut stream: SendableRecordBatchStream,
    mut output: Output,
) -> Result<u64> {
    let place = resolve(session, path)?;
    let folder = place.parent().unwrap_or(Path::new("/"));
    if Path::new(path).is_relative() {
        std::fs::create_dir_all(folder).map_err(|error| failed("create the folder of", path, &error))?;
    }
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed("open", path, &error))?;
    let unwritten = |error: std::io::Error| failed("write", path, &error);
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        for chunk in output.chunks(&batch?)? {
            let chunk = chunk?;
            rows += chunk.ends.len() as u64;
            file.write_all(&chunk.bytes).map_err(unwritten)?;
        }
    }
    file.write_all(&output.tail()?).map_err(unwritten)?;
    file.as_file().sync_all().map_err(unwritten)?;
    file.persist(&place).map_err(|error| failed("write", path, &error.error))?;
    Ok(rows)
}
