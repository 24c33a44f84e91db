//! Writes a column of integers as one chunk of a row group: DELTA_BINARY_PACKED in data pages of version 2.
//!
//! Parquet's own writer fixes the length of blocks and the widths, and these decide how well what comes out compresses
//! (see `delta`). A page that does not get smaller is left uncompressed.
//!
//! **Invariant:** a chunk has the offsets of its pages and its least and greatest value, so that readers can skip.

use std::io;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder};
use arrow::datatypes::{
    DataType, Date32Type, Decimal32Type, Decimal64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::delta;
use crate::Result;

/// The level of compression: its coder of bytes is all that packed deltas need.
const ZSTD_LEVEL: i32 = 1;
/// A page stays uncompressed where compression saves less than one part in so many.
const SAVING: usize = 32;

/// A chunk that is being written.
pub(super) struct DeltaColumn {
    descriptor: ColumnDescPtr,
    /// Whether values have 32 bits.
    narrow: bool,
    optional: bool,
    compressor: zstd::bulk::Compressor<'static>,
    sink: TrackedWrite<Vec<u8>>,
    pages: OffsetIndexBuilder,
    page_count: i32,
    uncompressed: usize,
    rows: u64,
    nulls: u64,
    range: Option<(i64, i64)>,
    page: PageRows,
    page_rows: usize,
}

/// The rows of the page to come.
struct PageRows {
    /// The values of the rows that have one.
    values: Vec<i64>,
    valid: BooleanBufferBuilder,
}

/// Whether columns of a type can be written so.
pub(super) fn takes(kind: &DataType) -> bool {
    use DataType::{Date32, Decimal32, Decimal64, Int16, Int32, Int64, Timestamp};
    matches!(kind, Date32 | Decimal32(..) | Decimal64(..) | Int16 | Int32 | Int64 | Timestamp(..))
}

impl DeltaColumn {
    /// A column in pages of so many rows.
    pub(super) fn new(descriptor: ColumnDescPtr, page_rows: usize) -> Result<Self> {
        Ok(Self {
            narrow: descriptor.physical_type() == parquet::basic::Type::INT32,
            optional: descriptor.max_def_level() > 0,
            descriptor,
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(parquet_error)?,
            sink: TrackedWrite::new(Vec::new()),
            pages: OffsetIndexBuilder::new(),
            page_count: 0,
            uncompressed: 0,
            rows: 0,
            nulls: 0,
            range: None,
            page: PageRows { values: Vec::with_capacity(page_rows), valid: BooleanBufferBuilder::new(page_rows) },
            page_rows,
        })
    }

    /// Appends values of a type that [`takes`] answers for.
    pub(super) fn write(&mut self, column: &ArrayRef) -> Result<()> {
        let mut from = 0;
        while from < column.len() {
            let rows = (self.page_rows - self.page.valid.len()).min(column.len() - from);
            self.page.push(&column.slice(from, rows));
            from += rows;
            if self.page.valid.len() == self.page_rows {
                self.end_page()?;
            }
        }
        Ok(())
    }

    /// The chunk's bytes and what is to be known of them.
    pub(super) fn finish(mut self) -> Result<(Bytes, ColumnCloseResult)> {
        if !self.page.valid.is_empty() {
            self.end_page()?;
        }
        let bytes = Bytes::from(self.sink.into_inner()?);
        let level = ZstdLevel::try_new(ZSTD_LEVEL)?;
        let pages = PageEncodingStats {
            page_type: PageType::DATA_PAGE_V2,
            encoding: Encoding::DELTA_BINARY_PACKED,
            count: self.page_count,
        };
        let metadata = ColumnChunkMetaData::builder(self.descriptor)
            .set_compression(Compression::ZSTD(level))
            .set_encodings(vec![Encoding::DELTA_BINARY_PACKED, Encoding::RLE])
            .set_page_encoding_stats(vec![pages])
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(self.rows as i64)
            .set_data_page_offset(0)
            .set_statistics(statistics(self.narrow, self.range, self.nulls))
            .build()?;
        let result = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(self.pages.build()),
        };
        Ok((bytes, result))
    }

    fn end_page(&mut self) -> Result<()> {
        let rows = self.page.valid.len();
        let nulls = rows - self.page.values.len();
        for &value in &self.page.values {
            self.range = Some(self.range.map_or((value, value), |(min, max)| (min.min(value), max.max(value))));
        }
        let mut bytes = if self.optional { self.page.levels() } else { Vec::new() };
        let levels = bytes.len();
        let mut values = Vec::with_capacity(self.page.values.len() * 2);
        delta::encode(&self.page.values, self.narrow, &mut values);
        let uncompressed = levels + values.len();
        let compressed = self.compressor.compress(&values).map_err(parquet_error)?;
        let smaller = compressed.len() + values.len() / SAVING < values.len();
        bytes.extend(if smaller { compressed } else { values });
        let page = Page::DataPageV2 {
            buf: bytes.into(),
            num_values: rows as u32,
            encoding: Encoding::DELTA_BINARY_PACKED,
            num_nulls: nulls as u32,
            num_rows: rows as u32,
            def_levels_byte_len: levels as u32,
            rep_levels_byte_len: 0,
            is_compressed: smaller,
            statistics: None,
        };
        let written = SerializedPageWriter::new(&mut self.sink).write_page(CompressedPage::new(page, uncompressed))?;
        let size = i32::try_from(written.bytes_written).expect("a page is smaller than 2 GiB");
        self.pages.append_offset_and_size(written.offset as i64, size);
        self.pages.append_row_count(rows as i64);
        self.page_count += 1;
        self.uncompressed += written.uncompressed_size;
        self.rows += rows as u64;
        self.nulls += nulls as u64;
        self.page.values.clear();
        self.page.valid = BooleanBufferBuilder::new(self.page_rows);
        Ok(())
    }
}

impl PageRows {
    fn push(&mut self, column: &ArrayRef) {
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => {
                self.valid.append_n(column.len(), true);
                widened(column, |value| self.values.push(value));
            }
            Some(nulls) => {
                self.valid.append_buffer(nulls.inner());
                let mut row = 0;
                widened(column, |value| {
                    if nulls.is_valid(row) {
                        self.values.push(value);
                    }
                    row += 1;
                });
            }
        }
    }

    /// Which rows have a value, as levels in the hybrid of runs and packed bits.
    fn levels(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let rows = self.valid.len();
        if self.values.len() == rows || self.values.is_empty() {
            delta::varint((rows as u64) << 1, &mut bytes);
            bytes.push(u8::from(!self.values.is_empty()));
        } else {
            delta::varint((rows.div_ceil(8) as u64) << 1 | 1, &mut bytes);
            bytes.extend(&self.valid.as_slice()[..rows.div_ceil(8)]);
        }
        bytes
    }
}

/// Gives every value, those under nulls too, as 64 bits.
fn widened(column: &ArrayRef, mut give: impl FnMut(i64)) {
    match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().values().iter().for_each(|&v| give(v.into())),
        DataType::Decimal32(..) => column.as_primitive::<Decimal32Type>().values().iter().for_each(|&v| give(v.into())),
        DataType::Decimal64(..) => column.as_primitive::<Decimal64Type>().values().iter().for_each(|&v| give(v)),
        DataType::Int16 => column.as_primitive::<Int16Type>().values().iter().for_each(|&v| give(v.into())),
        DataType::Int32 => column.as_primitive::<Int32Type>().values().iter().for_each(|&v| give(v.into())),
        DataType::Int64 => column.as_primitive::<Int64Type>().values().iter().for_each(|&v| give(v)),
        _ => column.as_primitive::<TimestampMicrosecondType>().values().iter().for_each(|&v| give(v)),
    }
}

fn statistics(narrow: bool, range: Option<(i64, i64)>, nulls: u64) -> Statistics {
    let (min, max) = range.unzip();
    if narrow {
        let narrow = |value: Option<i64>| value.map(|value| value as i32);
        Statistics::int32(narrow(min), narrow(max), None, Some(nulls), false)
    } else {
        Statistics::int64(min, max, None, Some(nulls), false)
    }
}

fn parquet_error(error: io::Error) -> parquet::errors::ParquetError {
    parquet::errors::ParquetError::External(Box::new(error))
}
