//! Block aggregates: what is known of each series and block of time in a part without reading its rows.
//!
//! Behind its last row group a part of a telemetry table holds one more Parquet file, whose place the entry `juno.blocks`
//! of the part's key-value metadata names as three decimal numbers with spaces between: the width of a block in
//! microseconds, the offset and the length in bytes. Blocks are cut at multiples of the width since 1970. The inner file has
//! a row per series and block that rows of the part are in, in the order of the part's rows, and these columns:
//!
//! | column | meaning |
//! |---|---|
//! | `tag.NAME` | the tags |
//! | `rows` | rows, as an integer |
//! | `first_time`, `last_time` | the first and last time, in microseconds since 1970 |
//! | `last.NAME` | for each other column of the part the value of the last row, null included |
//! | `count.NAME` | rows with a value; absent where all have one |
//! | `first.NAME`, `min.NAME`, `max.NAME`, `sum.NAME` | for numbers; null where no row has a value, but `first` is that of the first row |
//!
//! Numbers with decimals are written as DECIMAL where that loses nothing. A column of floats in which a row is not a
//! number has neither `min` nor `max` nor `sum`, and an integer column whose sum overflows has no `sum`: those are read from
//! the rows. A sum is that of the block's rows in order; adding up in another order may change the last bits.
//!
//! A part has no blocks where it has marks, few rows, or few rows per block at every width of [`WIDTHS_US`].
//!
//! **Invariant:** derived: a part without blocks answers the same, from its rows. Whether rows elsewhere change what a
//! block says is the caller's to know.

mod build;
mod number;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::ChunkReader;
use parquet::file::writer::SerializedFileWriter;

pub(crate) use self::build::Builder;
use super::Part;
use crate::{Result, TableSchema};

/// The entry of a part's metadata that says where its blocks are.
const ENTRY: &str = "juno.blocks";

/// Widths that blocks may have, each a multiple of the one before.
const WIDTHS_US: [i64; 2] = [3_600_000_000, 86_400_000_000];

/// What is known of a column in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Rows with a value.
    Count,
    /// The sum of the values; null without any.
    Sum,
    /// The smallest value; null without any.
    Min,
    /// The largest value; null without any.
    Max,
    /// The value of the first row, null included.
    First,
    /// The value of the last row, null included.
    Last,
}

impl Measure {
    fn column(self, name: &str) -> String {
        let measure = match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
        };
        format!("{measure}.{name}")
    }
}

/// The blocks of a part, in the order of its rows.
#[derive(Debug)]
pub struct Blocks {
    width_us: i64,
    batch: RecordBatch,
    rows: Int64Array,
    first_times: Int64Array,
    last_times: Int64Array,
    /// Rows by the number of the block since 1970.
    numbers: Vec<(i64, u64)>,
}

impl Blocks {
    /// The numbers of the blocks since 1970, each once, in order, with the rows in them over all series.
    pub(crate) fn numbers(&self) -> &[(i64, u64)] {
        &self.numbers
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The width of each, in microseconds.
    pub fn width_us(&self) -> i64 {
        self.width_us
    }

    /// The rows in each.
    pub fn rows(&self) -> &Int64Array {
        &self.rows
    }

    /// The time of the first row of each, in microseconds since 1970.
    pub fn first_times(&self) -> &Int64Array {
        &self.first_times
    }

    /// The time of the last row of each, in microseconds since 1970.
    pub fn last_times(&self) -> &Int64Array {
        &self.last_times
    }

    /// The values of a tag.
    pub fn tag(&self, name: &str) -> ArrayRef {
        match self.batch.column_by_name(&format!("tag.{name}")) {
            Some(column) => Arc::clone(column),
            None => new_null_array(&TableSchema::tag_type(), self.len()),
        }
    }

    /// A measure of a column of this type, which is no tag and not the time: integers for counts and for sums of integers,
    /// doubles for sums of floats, the column's type for the others. None where it is not known.
    pub fn measure(&self, name: &str, data_type: &DataType, measure: Measure) -> Result<Option<ArrayRef>> {
        let wanted = match measure {
            Measure::Count => &DataType::Int64,
            Measure::Sum if data_type.is_floating() => &DataType::Float64,
            Measure::Sum => &DataType::Int64,
            _ => data_type,
        };
        if let Some(column) = self.batch.column_by_name(&measure.column(name)) {
            return Ok(Some(number::as_type(column, wanted)?));
        }
        let absent = self.batch.column_by_name(&Measure::Last.column(name)).is_none();
        Ok(match measure {
            Measure::Count if absent => Some(Arc::new(Int64Array::from(vec![0; self.len()]))),
            Measure::Count => Some(Arc::new(self.rows.clone())),
            _ if absent => Some(new_null_array(wanted, self.len())),
            _ => None,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    fn read(width_us: i64, file: bytes::Bytes) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let plain = ArrowReaderMetadata::load(&file, options.clone())?;
        let fields = plain.schema().fields().iter().map(|field| match field.name().starts_with("tag.") {
            true => Arc::new(Field::new(field.name(), TableSchema::tag_type(), true)),
            false => Arc::clone(field),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = options.with_schema(Arc::clone(&schema));
        let rows = usize::try_from(plain.metadata().file_metadata().num_rows()).unwrap_or(0);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
        let batches = builder.with_batch_size(rows.max(1)).build()?.collect::<Result<Vec<_>, _>>()?;
        let batch = concat_batches(&schema, &batches)?;
        let integers = |name: &str| match batch.column_by_name(name) {
            Some(column) if column.data_type() == &DataType::Int64 && column.null_count() == 0 => {
                Ok(column.as_primitive::<Int64Type>().clone())
            }
            _ => Err(ParquetError::General(format!("the blocks have no column {name}"))),
        };
        let (rows, first, last) = (integers("rows")?, integers("first_time")?, integers("last_time")?);
        let mut numbers: BTreeMap<i64, u64> = BTreeMap::new();
        for (time, count) in first.values().iter().zip(rows.values()) {
            *numbers.entry(time.div_euclid(width_us)).or_default() += u64::try_from(*count).unwrap_or(0);
        }
        let numbers = numbers.into_iter().collect();
        Ok(Self { width_us, batch, rows, first_times: first, last_times: last, numbers })
    }
}

impl Part {
    /// The part's blocks, from memory where they are there; none where it has none.
    pub(crate) fn blocks(&self) -> Result<Option<Arc<Blocks>>> {
        if self.record.deletes || self.record.window.is_none() {
            return Ok(None);
        }
        let footer = self.footer()?;
        let entries = footer.metadata().file_metadata().key_value_metadata();
        let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.key == ENTRY));
        let Some(place) = entry.and_then(|entry| Place::parse(entry.value.as_deref()?)) else { return Ok(None) };
        let load = || {
            let file = self.file()?;
            let bytes = file.get_bytes(place.offset, place.len).map_err(|error| self.unread(&file.refused, &error))?;
            Ok(Arc::new(Blocks::read(place.width_us, bytes).map_err(|error| self.damaged(&error))?))
        };
        Ok(Some(self.footers.blocks(self.record.number, load)?))
    }
}

/// Where a part's blocks are.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    width_us: i64,
    offset: u64,
    len: usize,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ');
        let place = Self {
            width_us: numbers.next()?.parse().ok().filter(|width| *width > 0)?,
            offset: numbers.next()?.parse().ok()?,
            len: numbers.next()?.parse().ok()?,
        };
        numbers.next().is_none().then_some(place)
    }

    fn text(&self) -> String {
        format!("{} {} {}", self.width_us, self.offset, self.len)
    }
}

/// Blocks as they are written.
pub(crate) struct Built {
    width_us: i64,
    file: Vec<u8>,
}

/// Appends blocks to a part whose rows are all written.
pub(super) fn append<W: io::Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    built: &Built,
) -> Result<(), ParquetError> {
    let place = Place { width_us: built.width_us, offset: writer.bytes_written() as u64, len: built.file.len() };
    writer.write_all(&built.file)?;
    writer.append_key_value_metadata(KeyValue::new(ENTRY.to_owned(), place.text()));
    Ok(())
}

/// The column as it is kept, back in its own type.
fn plain(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    Ok(if column.data_type() == data_type { Arc::clone(column) } else { cast(column, data_type)? })
}
