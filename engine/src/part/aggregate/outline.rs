//! The blocks of one width in a part as they are read: what they are of, and column by column what they say.
//!
//! **Invariant:** reads only the columns and chunks that are asked for, and each once while it is in memory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::entry::{Entry, Kept, Place};
use super::number;
use crate::TableSchema;
use crate::part::block::{Cursor, PartFile};

/// What blocks there are.
#[derive(Debug)]
pub(in crate::part) struct Outline {
    pub(super) width_us: i64,
    /// Stored names of the columns that are aggregated; all of the part where empty.
    pub(super) columns: Vec<String>,
    /// Numbers of blocks since 1970, each once, in order, with the rows in them over all series.
    pub(super) numbers: Vec<(i64, u64)>,
    /// The tags, a row per series.
    pub(super) tags: RecordBatch,
    /// The block that each series begins with, and the one behind the last.
    pub(super) starts: Vec<usize>,
    pub(super) chunks: Vec<Chunk>,
}

/// Neighbouring blocks in a file of their own.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) blocks: Range<usize>,
    place: Place,
    footer: ArrowReaderMetadata,
}

impl Chunk {
    /// The place of a column among those of the file.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.footer.schema().index_of(name).ok()
    }

    /// Reads a column.
    pub(super) fn read(&self, file: &PartFile, column: usize, wanted: &DataType) -> crate::Result<ArrayRef> {
        let whole = read(&Section::new(file, self.place), self.footer.clone(), &[column])?;
        number::as_type(whole.column(0), wanted)
    }
}

impl Outline {
    pub(super) fn read(file: &PartFile, kept: &Kept) -> Result<Self, ParquetError> {
        match kept {
            Kept::Entry(entry) => Self::of_entry(file, entry),
            Kept::One { width_us, place } => Self::of_one(file, *width_us, *place),
        }
    }

    fn of_entry(file: &PartFile, entry: &Entry) -> Result<Self, ParquetError> {
        let (series, times) = (all(file, entry.series)?, all(file, entry.times)?);
        let mut chunks = Vec::with_capacity(entry.chunks.len());
        let mut blocks = 0;
        for chunk in &entry.chunks {
            let from = blocks;
            blocks += chunk.blocks as usize;
            let footer = footer(file, chunk.place)?;
            if footer.metadata().file_metadata().num_rows() != i64::from(chunk.blocks) {
                return Err(ParquetError::General("a file of blocks has not as many as it should".into()));
            }
            chunks.push(Chunk { blocks: from..blocks, place: chunk.place, footer });
        }
        let (numbers, rows) = (integers(&times, "number")?, integers(&times, "rows")?);
        let rows = rows.iter().map(|&rows| u64::try_from(rows).unwrap_or(0));
        let mut starts: Vec<usize> =
            integers(&series, "start")?.iter().map(|&start| usize::try_from(start).unwrap_or(0)).collect();
        starts.push(blocks);
        if starts[0] != 0 || starts.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(ParquetError::General("the series of the blocks are out of order".into()));
        }
        let numbers = numbers.iter().copied().zip(rows).collect();
        let (width_us, columns) = (entry.width_us, entry.columns.clone());
        Ok(Self { width_us, columns, numbers, tags: tags(&series)?, starts, chunks })
    }

    /// From a file that has the tags of each block.
    fn of_one(file: &PartFile, width_us: i64, place: Place) -> Result<Self, ParquetError> {
        let footer = footer(file, place)?;
        let whole = all(file, place)?;
        let (times, rows) = (integers(&whole, "first_time")?, integers(&whole, "rows")?);
        let mut numbers: BTreeMap<i64, u64> = BTreeMap::new();
        for (time, rows) in times.iter().zip(&rows) {
            *numbers.entry(time.div_euclid(width_us)).or_default() += u64::try_from(*rows).unwrap_or(0);
        }
        // In each series times go up; where they go down another begins, and where only tags change, too.
        let tags = tags(&whole)?;
        let mut starts = vec![0];
        starts.extend(
            (1..whole.num_rows()).filter(|&row| {
                times[row] <= times[row - 1] || tags.columns().iter().any(|tag| !same(tag, row - 1, row))
            }),
        );
        let firsts: arrow::array::UInt64Array = starts.iter().map(|&start| start as u64).collect();
        let tags = arrow::compute::take_record_batch(&tags, &firsts)?;
        starts.push(whole.num_rows());
        let chunks = vec![Chunk { blocks: 0..whole.num_rows(), place, footer }];
        Ok(Self { width_us, columns: Vec::new(), numbers: numbers.into_iter().collect(), tags, starts, chunks })
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |chunk| chunk.blocks.end)
    }

    pub(in crate::part) fn bytes(&self) -> usize {
        let footers: usize = self.chunks.iter().map(|chunk| chunk.footer.metadata().memory_size()).sum();
        footers + self.tags.get_array_memory_size() + 8 * self.starts.len() + 16 * self.numbers.len()
    }
}

fn same(tags: &ArrayRef, a: usize, b: usize) -> bool {
    let tags = tags.as_dictionary::<arrow::datatypes::Int32Type>();
    let text = |row| Some(tags.values().as_string::<i32>().value(tags.key(row)?));
    text(a) == text(b)
}

/// The columns with tags, under the tags' names.
fn tags(series: &RecordBatch) -> Result<RecordBatch, ParquetError> {
    let schema = series.schema();
    let fields = schema.fields().iter().zip(series.columns());
    let tags = fields.filter_map(|(field, column)| Some((field.name().strip_prefix("tag.")?, Arc::clone(column))));
    let (fields, columns): (Vec<_>, Vec<_>) =
        tags.map(|(name, column)| (Field::new(name, TableSchema::tag_type(), true), column)).unzip();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(series.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

fn integers(batch: &RecordBatch, name: &str) -> Result<Vec<i64>, ParquetError> {
    match batch.column_by_name(name) {
        Some(column) if column.data_type() == &DataType::Int64 && column.null_count() == 0 => {
            Ok(column.as_primitive::<Int64Type>().values().to_vec())
        }
        _ => Err(ParquetError::General(format!("the blocks have no column {name}"))),
    }
}

/// The footer of an inner file; tags are read as tags.
fn footer(file: &PartFile, place: Place) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain = ArrowReaderMetadata::load(&Section::new(file, place), options.clone())?;
    let fields = plain.schema().fields().iter().map(|field| match field.name().starts_with("tag.") {
        true => Arc::new(Field::new(field.name(), TableSchema::tag_type(), true)),
        false => Arc::clone(field),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options.with_schema(schema))
}

/// Times, rows and tags of an inner file.
fn all(file: &PartFile, place: Place) -> Result<RecordBatch, ParquetError> {
    let footer = footer(file, place)?;
    let names = footer.schema().fields().iter().enumerate();
    let wanted = names.filter(|(_, field)| !field.name().contains('.') || field.name().starts_with("tag."));
    let columns: Vec<usize> = wanted.map(|(index, _)| index).collect();
    read(&Section::new(file, place), footer, &columns)
}

/// Columns of an inner file as one batch.
fn read(file: &Section, footer: ArrowReaderMetadata, columns: &[usize]) -> Result<RecordBatch, ParquetError> {
    let rows = usize::try_from(footer.metadata().file_metadata().num_rows()).unwrap_or(0);
    let schema = Arc::new(footer.schema().project(columns)?);
    let mask = ProjectionMask::roots(footer.parquet_schema(), columns.iter().copied());
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), footer).with_projection(mask);
    let batches = reader.with_batch_size(rows.max(1)).build()?.collect::<Result<Vec<_>, _>>()?;
    if let [batch] = batches.as_slice() {
        return Ok(batch.clone());
    }
    let column = |index: usize| -> Result<ArrayRef, ParquetError> {
        let pieces: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        Ok(concat(&pieces)?)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// A file within a part's.
#[derive(Clone)]
struct Section {
    file: PartFile,
    place: Place,
}

impl Section {
    fn new(file: &PartFile, place: Place) -> Self {
        Self { file: file.clone(), place }
    }
}

impl Length for Section {
    fn len(&self) -> u64 {
        self.place.len
    }
}

impl ChunkReader for Section {
    type T = Cursor;

    fn get_read(&self, start: u64) -> Result<Cursor, ParquetError> {
        self.file.get_read(self.place.offset + start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.place.len) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.file.get_bytes(self.place.offset + start, length)
    }
}
