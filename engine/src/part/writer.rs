//! Writes a part: under a temporary name, synced, renamed, directory synced.
//!
//! **Invariant:** a file with a part's name is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::block::Checksums;
use super::{TEMPORARY, encoding, part_path};
use crate::error::copied;
use crate::system::{Disk, DiskWrite};
use crate::{Error, Result, TableSchema};

/// A part that is being written.
pub(crate) struct PartWriter<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    number: u64,
    temporary: PathBuf,
    writer: ArrowWriter<Sink>,
    rows: u64,
    failed: Arc<OnceLock<io::Error>>,
}

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// The CRC-32 of each block of the file.
    pub(crate) checksums: Vec<u32>,
}

struct Sink {
    file: Box<dyn DiskWrite>,
    bytes: u64,
    checksums: Checksums,
    /// What the disk said first, which Parquet keeps the text of at most.
    failed: Arc<OnceLock<io::Error>>,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(&[bytes]).inspect_err(|error| drop(self.failed.set(copied(error))))?;
        self.bytes += bytes.len() as u64;
        self.checksums.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> PartWriter<'a> {
    /// Begins part `number` with columns `columns`; `sample` shows what rows will look like.
    pub(crate) fn new(
        disk: &'a dyn Disk,
        dir: &'a Path,
        number: u64,
        schema: &TableSchema,
        columns: SchemaRef,
        sample: &RecordBatch,
    ) -> Result<Self> {
        let temporary = part_path(dir, number).with_extension(TEMPORARY);
        let file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
        let failed = Arc::new(OnceLock::new());
        let sink = Sink { file, bytes: 0, checksums: Checksums::default(), failed: Arc::clone(&failed) };
        let properties = encoding::properties(schema, sample)?;
        let writer = ArrowWriter::try_new(sink, columns, Some(properties))
            .map_err(|error| refused(&failed, &temporary, error))?;
        Ok(Self { disk, dir, number, temporary, writer, rows: 0, failed })
    }

    /// Appends rows, which must follow those before in key order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|error| refused(&self.failed, &self.temporary, error))
    }

    /// Makes the part durable under its name.
    pub(crate) fn finish(self) -> Result<Written> {
        let sink = self.writer.into_inner();
        let mut sink = sink.map_err(|error| refused(&self.failed, &self.temporary, error))?;
        sink.file.sync().map_err(Error::io("sync", &self.temporary))?;
        let path = part_path(self.dir, self.number);
        self.disk.rename(&self.temporary, &path).map_err(Error::io("rename", &self.temporary))?;
        self.disk.sync_dir(self.dir).map_err(Error::io("sync", self.dir))?;
        Ok(Written { rows: self.rows, bytes: sink.bytes, checksums: sink.checksums.finish() })
    }
}

/// The disk's error where it is what made Parquet fail.
fn refused(failed: &OnceLock<io::Error>, path: &Path, error: ParquetError) -> Error {
    failed.get().map_or_else(|| error.into(), |error| Error::io("write", path)(copied(error)))
}
