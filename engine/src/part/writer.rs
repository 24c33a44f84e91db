//! Writes a part: under a temporary name, synced, renamed, directory synced.
//!
//! **Invariant:** a file with a part's name is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::file::writer::SerializedFileWriter;

use super::aggregate::{self, Builder};
use super::block::Checksums;
use super::column::DeltaColumn;
use super::encoding::{self, Encodings};
use super::{Profile, TEMPORARY, part_path, stored};
use crate::definition::Definition;
use crate::error::copied;
use crate::merge::project;
use crate::system::{Disk, DiskWrite};
use crate::{Error, Result};

/// Rows in a row group.
const ROW_GROUP_ROWS: usize = 262_144;

/// A part that is being written.
pub(crate) struct PartWriter<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    number: u64,
    temporary: PathBuf,
    /// The columns as they are stored.
    stored: SchemaRef,
    /// Which of them are written as deltas.
    deltas: Vec<bool>,
    page_rows: usize,
    file: SerializedFileWriter<Sink>,
    columns: ArrowRowGroupWriterFactory,
    group: Option<Group>,
    blocks: Vec<Builder>,
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
    /// Begins part `number` of rows that `profile` has seen; `sample` shows what they look like.
    pub(crate) fn new(
        disk: &'a dyn Disk,
        dir: &'a Path,
        number: u64,
        definition: &Definition,
        profile: &Profile,
        sample: &RecordBatch,
    ) -> Result<Self> {
        let stored = profile.stored();
        let there: Vec<usize> =
            (0..stored.fields().len()).filter(|&i| sample.column_by_name(stored.field(i).name()).is_some()).collect();
        let sample = project(sample, &Arc::new(profile.columns().project(&there)?))?;
        let sample = stored::store(&sample, &Arc::new(stored.project(&there)?))?;
        let Encodings { properties, deltas, page_rows } = encoding::choose(&definition.stored, &stored, &sample)?;
        let temporary = part_path(dir, number).with_extension(TEMPORARY);
        let file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
        let failed = Arc::new(OnceLock::new());
        let sink = Sink { file, bytes: 0, checksums: Checksums::default(), failed: Arc::clone(&failed) };
        let blocks = Builder::all(definition, profile.columns());
        let writer = ArrowWriter::try_new(sink, stored::told(&stored), Some(properties));
        let (file, columns) = writer
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|error| refused(&failed, &temporary, error.into()))?;
        let (group, rows) = (None, 0);
        Ok(Self { disk, dir, number, temporary, stored, deltas, page_rows, file, columns, group, blocks, rows, failed })
    }

    /// Appends rows, which must follow those before in key order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.blocks.iter_mut().try_for_each(|blocks| blocks.add(batch))?;
        let batch = stored::store(batch, &self.stored)?;
        let mut from = 0;
        while from < batch.num_rows() {
            let group = match &mut self.group {
                Some(group) => group,
                None => self.group.insert(Group::new(&self.file, &self.columns, &self.deltas, self.page_rows)?),
            };
            let rows = (ROW_GROUP_ROWS - group.rows).min(batch.num_rows() - from);
            group.write(&self.stored, &batch.slice(from, rows))?;
            from += rows;
            if group.rows == ROW_GROUP_ROWS {
                self.end_group()?;
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Makes the part durable under its name.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.end_group()?;
        let blocks = std::mem::take(&mut self.blocks).into_iter().filter_map(|blocks| blocks.finish().transpose());
        aggregate::append(&mut self.file, &blocks.collect::<Result<Vec<_>>>()?)
            .map_err(|error| refused(&self.failed, &self.temporary, error.into()))?;
        let sink = self.file.into_inner();
        let mut sink = sink.map_err(|error| refused(&self.failed, &self.temporary, error.into()))?;
        sink.file.sync().map_err(Error::io("sync", &self.temporary))?;
        let path = part_path(self.dir, self.number);
        self.disk.rename(&self.temporary, &path).map_err(Error::io("rename", &self.temporary))?;
        self.disk.sync_dir(self.dir).map_err(Error::io("sync", self.dir))?;
        Ok(Written { rows: self.rows, bytes: sink.bytes, checksums: sink.checksums.finish() })
    }

    fn end_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        group.append_to(&mut self.file).map_err(|error| refused(&self.failed, &self.temporary, error))
    }
}

/// A row group that is being written.
struct Group {
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    /// By Parquet's own writer.
    Arrow(Box<ArrowColumnWriter>),
    Deltas(Box<DeltaColumn>),
}

impl Group {
    fn new(
        file: &SerializedFileWriter<Sink>,
        columns: &ArrowRowGroupWriterFactory,
        deltas: &[bool],
        page_rows: usize,
    ) -> Result<Self> {
        let own = columns.create_column_writers(file.flushed_row_groups().len())?;
        let column = |((index, own), &deltas): ((usize, ArrowColumnWriter), &bool)| match deltas {
            true => Ok(Column::Deltas(Box::new(DeltaColumn::new(file.schema_descr().column(index), page_rows)?))),
            false => Ok(Column::Arrow(Box::new(own))),
        };
        Ok(Self { columns: own.into_iter().enumerate().zip(deltas).map(column).collect::<Result<_>>()?, rows: 0 })
    }

    fn write(&mut self, stored: &Schema, batch: &RecordBatch) -> Result<()> {
        for ((column, values), field) in self.columns.iter_mut().zip(batch.columns()).zip(stored.fields()) {
            match column {
                Column::Deltas(column) => column.write(values)?,
                Column::Arrow(column) => {
                    for leaf in compute_leaves(field, values)? {
                        column.write(&leaf)?;
                    }
                }
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn append_to(self, file: &mut SerializedFileWriter<Sink>) -> Result<()> {
        let mut writer = file.next_row_group()?;
        for column in self.columns {
            match column {
                Column::Arrow(column) => column.close()?.append_to_row_group(&mut writer)?,
                Column::Deltas(column) => {
                    let (bytes, close) = column.finish()?;
                    writer.append_column(&bytes, close)?;
                }
            }
        }
        writer.close()?;
        Ok(())
    }
}

/// The disk's error where it is what made Parquet fail.
fn refused(failed: &OnceLock<io::Error>, path: &Path, error: Error) -> Error {
    failed.get().map_or(error, |error| Error::io("write", path)(copied(error)))
}
