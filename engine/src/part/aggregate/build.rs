//! Builds the blocks of a part while its rows are written.
//!
//! **Invariant:** rows come in key order; a block is finished by the first row behind it, in whatever batch that is. Holds
//! no more than a chunk of blocks besides what is encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::WIDTHS_US;
use super::entry::Built;
use super::extremes::{FieldBlocks, Pieces, Segment};
use crate::definition::Definition;
use crate::{Result, Rollup, TableSchema};

/// Blocks after which a part with too few rows in each gets wider ones.
const BLOCKS_CHECKED: usize = 16_384;
/// Blocks after which the next begins a file of its own.
pub(super) const CHUNK_BLOCKS: usize = 65_536;

/// When blocks are kept.
struct Worth {
    /// Rows of a part that are worth blocks.
    rows_min: i64,
    /// Rows of a block, on average, that make it worth its bytes.
    block_rows_min: i64,
}

const OF_EVERY_PART: Worth = Worth { rows_min: 2_048, block_rows_min: 16 };
const OF_A_ROLLUP: Worth = Worth { rows_min: 256, block_rows_min: 2 };

/// Blocks of one width under construction.
pub(crate) struct Builder {
    rollup: Option<(u64, Rollup)>,
    worth: Worth,
    /// The widths that may be, each a multiple of the one before, and which of them it is.
    widths: Vec<i64>,
    width: usize,
    time: String,
    /// A row per series.
    tags: Vec<(String, Pieces)>,
    /// The block that each series begins with.
    starts: Vec<usize>,
    fields: Vec<FieldBlocks>,
    rows: Vec<i64>,
    first_times: Vec<i64>,
    last_times: Vec<i64>,
    /// Blocks that are encoded, and the rows in them.
    chunks: Vec<(u32, Vec<u8>)>,
    done: (usize, i64),
    /// Rows by the number of the block since 1970, of those that are encoded.
    numbers: BTreeMap<i64, i64>,
    /// The tags of the row before, a batch of one row.
    before: Option<Vec<ArrayRef>>,
    /// Rows were too sparse for any width.
    given_up: bool,
}

impl Builder {
    /// The blocks that a part with these columns keeps; none for a keyed table or a part with marks.
    pub(crate) fn all(definition: &Definition, columns: &Schema) -> Vec<Self> {
        let table = definition.stored.as_ref();
        let Some(time) = table.time() else { return Vec::new() };
        if columns.fields().iter().any(|field| table.column(field.name()).is_none()) {
            return Vec::new();
        }
        let time = &table.columns[time].name;
        let rollups = definition.rollups.iter().map(|(&id, rollup)| Some((id, rollup.clone())));
        std::iter::once(None).chain(rollups).map(|rollup| Self::new(table, time, columns, rollup)).collect()
    }

    fn new(table: &TableSchema, time: &str, columns: &Schema, rollup: Option<(u64, Rollup)>) -> Self {
        let tag_names: Vec<&String> = table.tags().iter().map(|&index| &table.columns[index].name).collect();
        let tags = tag_names.iter().filter(|name| columns.index_of(name).is_ok());
        let others = columns.fields().iter().filter(|field| {
            let name = field.name();
            let wanted = rollup.as_ref().is_none_or(|(_, rollup)| rollup.names(name));
            name != time && !tag_names.contains(&name) && wanted
        });
        Self {
            worth: if rollup.is_some() { OF_A_ROLLUP } else { OF_EVERY_PART },
            widths: rollup.as_ref().map_or(WIDTHS_US.to_vec(), |(_, rollup)| vec![rollup.width_us]),
            width: 0,
            time: time.to_owned(),
            tags: tags.map(|name| ((*name).clone(), Pieces::default())).collect(),
            starts: Vec::new(),
            fields: others.map(|field| FieldBlocks::new(field)).collect(),
            rows: Vec::new(),
            first_times: Vec::new(),
            last_times: Vec::new(),
            chunks: Vec::new(),
            done: (0, 0),
            numbers: BTreeMap::new(),
            before: None,
            given_up: false,
            rollup,
        }
    }

    /// Takes the next rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.given_up {
            return Ok(());
        }
        let mut batch = batch.clone();
        if self.rows.len() >= CHUNK_BLOCKS {
            // The chunk ends where the block does that the rows before ended in.
            let end = self.end_of_block(&batch);
            if end < batch.num_rows() {
                self.take(&batch.slice(0, end))?;
                self.end_chunk()?;
                batch = batch.slice(end, batch.num_rows() - end);
            }
        }
        self.take(&batch)?;
        if self.rows.len() > BLOCKS_CHECKED { self.widen_while_sparse() } else { Ok(()) }
    }

    fn inputs(&self, batch: &RecordBatch) -> Option<(Vec<ArrayRef>, Vec<i64>)> {
        let named = |name: &String| batch.column_by_name(name).cloned();
        let tags = self.tags.iter().filter_map(|(name, _)| named(name)).collect();
        let times = named(&self.time)?;
        Some((tags, times.as_primitive::<TimestampMicrosecondType>().values().to_vec()))
    }

    /// How many rows of a batch belong to the block that the rows before ended in.
    fn end_of_block(&self, batch: &RecordBatch) -> usize {
        let Some((tags, times)) = self.inputs(batch) else { return 0 };
        let segments = self.segments(&series_ends(&tags, times.len()), &tags, &times);
        segments.first().filter(|segment| segment.goes_on).map_or(0, |segment| segment.rows.end)
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.given_up || batch.num_rows() == 0 {
            return Ok(());
        }
        let Some((tags, times)) = self.inputs(batch) else { return Ok(()) };
        let ends = series_ends(&tags, times.len());
        let segments = self.segments(&ends, &tags, &times);
        let new_series = if self.goes_on(&tags) { None } else { Some(0) };
        let new_series: Vec<usize> = new_series.into_iter().chain(ends[..ends.len() - 1].iter().copied()).collect();
        let mut next = new_series.iter().peekable();
        for segment in &segments {
            let (rows, last) = (&segment.rows, times[segment.rows.end - 1]);
            let count = i64::try_from(rows.len()).expect("a batch is small");
            if next.next_if(|&&row| row == rows.start).is_some() {
                self.starts.push(self.done.0 + self.rows.len());
            }
            if segment.goes_on {
                *self.rows.last_mut().expect("it goes on") += count;
                *self.last_times.last_mut().expect("it goes on") = last;
            } else {
                self.rows.push(count);
                self.first_times.push(times[rows.start]);
                self.last_times.push(last);
            }
        }
        let series = indices(new_series.iter().copied());
        for ((_, pieces), tags) in self.tags.iter_mut().zip(&tags).filter(|_| !series.is_empty()) {
            pieces.0.push(take(tags, &series, None)?);
        }
        let firsts = indices(segments.iter().filter(|segment| !segment.goes_on).map(|segment| segment.rows.start));
        let lasts = indices(segments.iter().map(|segment| segment.rows.end - 1));
        for field in &mut self.fields {
            let Some(column) = batch.column_by_name(&field.name) else { continue };
            field.add(column, &segments, &firsts, &lasts)?;
        }
        self.before = Some(tags.iter().map(|tag| tag.slice(batch.num_rows() - 1, 1)).collect());
        Ok(())
    }

    /// Whether the first row of some is of the series that the rows before ended with.
    fn goes_on(&self, tags: &[ArrayRef]) -> bool {
        self.before.as_ref().is_some_and(|before| before.iter().zip(tags).all(|(a, b)| same_tag(a, 0, b, 0)))
    }

    fn segments(&self, series_ends: &[usize], tags: &[ArrayRef], times: &[i64]) -> Vec<Segment> {
        let width = self.widths[self.width];
        let mut starts = vec![0];
        let mut row = 0;
        for &end in series_ends {
            while row < end {
                let block_end = times[row].div_euclid(width).saturating_add(1).saturating_mul(width);
                row += times[row..end].partition_point(|&time| time < block_end).max(1);
                starts.push(row);
            }
        }
        let block = |time: i64| time.div_euclid(width);
        let goes_on = self.last_times.last().is_some_and(|&last| block(last) == block(times[0])) && self.goes_on(tags);
        let segment = |pair: &[usize]| Segment { rows: pair[0]..pair[1], goes_on: goes_on && pair[0] == 0 };
        starts.windows(2).map(segment).collect()
    }

    /// Makes blocks wider until there are enough rows in each, or gives up.
    fn widen_while_sparse(&mut self) -> Result<()> {
        while self.is_sparse() && !self.given_up {
            if self.width + 1 == self.widths.len() {
                self.given_up = true;
                self.tags.clear();
                self.fields.clear();
                self.chunks.clear();
            } else if self.chunks.is_empty() {
                self.width += 1;
                self.merge_blocks()?;
            } else {
                // Blocks are encoded at this width, and were worth it.
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_sparse(&self) -> bool {
        let blocks = i64::try_from(self.done.0 + self.rows.len()).expect("blocks fit in memory");
        self.rows_so_far() < self.worth.block_rows_min.saturating_mul(blocks)
    }

    fn rows_so_far(&self) -> i64 {
        self.done.1 + self.rows.iter().sum::<i64>()
    }

    /// Puts neighbouring blocks together that lie in one block of the width now in force.
    fn merge_blocks(&mut self) -> Result<()> {
        let width = self.widths[self.width];
        let (mut segments, mut starts) = (Vec::new(), Vec::with_capacity(self.starts.len()));
        let ends = self.starts.iter().skip(1).copied().chain([self.rows.len()]);
        for (&start, end) in self.starts.iter().zip(ends) {
            starts.push(segments.len());
            let mut block = start;
            while block < end {
                let number = self.first_times[block].div_euclid(width);
                let same = self.first_times[block..end].partition_point(|time| time.div_euclid(width) == number);
                segments.push(Segment { rows: block..block + same, goes_on: false });
                block += same;
            }
        }
        let fold = |values: &[i64], of: fn(&[i64]) -> i64| -> Vec<i64> {
            segments.iter().map(|segment| of(&values[segment.rows.clone()])).collect()
        };
        let rows = fold(&self.rows, |rows| rows.iter().sum());
        let first_times = fold(&self.first_times, |times| times[0]);
        let last_times = fold(&self.last_times, |times| times[times.len() - 1]);
        let firsts = indices(segments.iter().map(|segment| segment.rows.start));
        let lasts = indices(segments.iter().map(|segment| segment.rows.end - 1));
        for field in &mut self.fields {
            field.merge(&segments, &firsts, &lasts)?;
        }
        (self.rows, self.first_times, self.last_times, self.starts) = (rows, first_times, last_times, starts);
        Ok(())
    }

    /// Encodes the blocks so far.
    fn end_chunk(&mut self) -> Result<()> {
        self.widen_while_sparse()?;
        if self.given_up {
            return Ok(());
        }
        let width = self.widths[self.width];
        for (time, rows) in self.first_times.iter().zip(&self.rows) {
            *self.numbers.entry(time.div_euclid(width)).or_default() += rows;
        }
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for field in &mut self.fields {
            field.columns(&self.rows, &mut columns)?;
            *field = field.emptied();
        }
        let (blocks, rows) = (self.rows.len(), self.rows.iter().sum::<i64>());
        for (name, values) in
            [("rows", &mut self.rows), ("first_time", &mut self.first_times), ("last_time", &mut self.last_times)]
        {
            columns.push((name.into(), Arc::new(Int64Array::from(std::mem::take(values)))));
        }
        self.chunks.push((u32::try_from(blocks).expect("a chunk is small"), write(columns)?));
        self.done = (self.done.0 + blocks, self.done.1 + rows);
        Ok(())
    }

    /// The blocks as they are kept; none where they are not worth it.
    pub(crate) fn finish(mut self) -> Result<Option<Built>> {
        self.widen_while_sparse()?;
        if self.given_up || self.rows_so_far() < self.worth.rows_min {
            return Ok(None);
        }
        if !self.rows.is_empty() {
            self.end_chunk()?;
        }
        let integers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let start = |&block: &usize| i64::try_from(block).expect("blocks fit in memory");
        let mut series: Vec<(String, ArrayRef)> =
            vec![("start".into(), integers(self.starts.iter().map(start).collect()))];
        for (name, pieces) in &self.tags {
            series.push((format!("tag.{name}"), pieces.whole()?));
        }
        let (numbers, rows) = self.numbers.into_iter().unzip();
        let times = vec![("number".to_owned(), integers(numbers)), ("rows".to_owned(), integers(rows))];
        let (rollup, columns) = self.rollup.map_or((None, Vec::new()), |(id, rollup)| (Some(id), rollup.columns));
        let (width_us, chunks) = (self.widths[self.width], self.chunks);
        Ok(Some(Built { width_us, rollup, columns, series: write(series)?, times: write(times)?, chunks }))
    }
}

fn indices(rows: impl Iterator<Item = usize>) -> UInt32Array {
    rows.map(|row| u32::try_from(row).expect("a batch has less than 2^32 rows")).collect::<Vec<_>>().into()
}

/// The rows after the last of each run of equal tags.
fn series_ends(tags: &[ArrayRef], rows: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = Vec::new();
    for column in tags {
        let keys = column.as_dictionary::<Int32Type>().keys();
        // Two keys may stand for one string.
        let same = |row: usize| match keys.nulls() {
            None => keys.values()[row - 1] == keys.values()[row],
            Some(nulls) => {
                nulls.is_valid(row - 1) == nulls.is_valid(row)
                    && (nulls.is_null(row) || keys.values()[row - 1] == keys.values()[row])
            }
        };
        ends.extend((1..rows).filter(|&row| !same(row) && !same_tag(column, row - 1, column, row)));
    }
    ends.push(rows);
    ends.sort_unstable();
    ends.dedup();
    ends
}

fn same_tag(a: &ArrayRef, row: usize, b: &ArrayRef, other: usize) -> bool {
    text(a, row) == text(b, other)
}

fn text(tags: &ArrayRef, row: usize) -> Option<&str> {
    let tags = tags.as_dictionary::<Int32Type>();
    let key = tags.key(row).filter(|&key| tags.values().is_valid(key))?;
    Some(tags.values().as_string::<i32>().value(key))
}

/// Columns as a Parquet file.
fn write(columns: Vec<(String, ArrayRef)>) -> Result<Vec<u8>> {
    let level = ZstdLevel::try_new(3).expect("a level that zstd has");
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by("juno".to_owned())
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None);
    for (name, column) in &columns {
        let path = ColumnPath::new(vec![name.clone()]);
        let encoding = match column.data_type() {
            DataType::Int64 | DataType::Decimal64(_, _) => Encoding::DELTA_BINARY_PACKED,
            DataType::Float64 => Encoding::BYTE_STREAM_SPLIT,
            _ => continue,
        };
        properties = properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    let field = |(name, column): &(String, ArrayRef)| {
        let fixed = matches!(name.as_str(), "rows" | "first_time" | "last_time" | "start" | "number");
        Field::new(name, column.data_type().clone(), !fixed)
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())?;
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}
