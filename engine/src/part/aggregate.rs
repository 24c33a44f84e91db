//! Block aggregates: what is known of each series and block of time in a part without reading its rows.
//!
//! Behind its last row group a part of a telemetry table holds further Parquet files, which the entry `juno.aggregates` of
//! its key-value metadata names: a JSON list with an element per width,
//!
//! | member | meaning |
//! |---|---|
//! | `width_us` | the width of a block in microseconds; blocks are cut at multiples of it since 1970 |
//! | `rollup` | the number of the rollup that they are kept for; absent for those that every part has |
//! | `columns` | the stored names of the columns that are aggregated; absent: all of the part |
//! | `series`, `times` | `offset` and `len` of a file each, in bytes of the part |
//! | `chunks` | the files with the blocks: how many `blocks`, and the `place` of the file |
//!
//! A block is that of one series; blocks are in the order of the part's rows. `series` has a row per series: `tag.NAME`, and
//! as `start` the number of its first block. `times` has a row for each time that blocks are of: as `number` its start divided
//! by the width, and the `rows` in it over all series. The chunks have a row per block and these columns:
//!
//! | column | meaning |
//! |---|---|
//! | `rows` | rows, as an integer |
//! | `first_time`, `last_time` | the first and last time, in microseconds since 1970 |
//! | `last.NAME` | for each aggregated column the value of the last row, null included |
//! | `count.NAME` | rows with a value; absent where all have one |
//! | `first.NAME`, `min.NAME`, `max.NAME`, `sum.NAME` | for numbers; null where no row has a value, but `first` is that of the first row |
//!
//! Numbers with decimals are written as DECIMAL where that loses nothing. A column of floats in which a row is not a
//! number has neither `min` nor `max` nor `sum`, and an integer column whose sum overflows has no `sum`: those are read from
//! the rows. A sum is that of the block's rows in order; adding up in another order may change the last bits.
//!
//! A part has no blocks where it has marks, few rows, or few rows per block. Parts of earlier versions have one width in one
//! file, whose rows have the tags too; the entry `juno.blocks` gives its width, offset and length.
//!
//! **Invariant:** derived: a part without blocks answers the same, from its rows. Whether rows elsewhere change what a
//! block says is the caller's to know.

mod build;
mod entry;
mod extremes;
mod number;
mod outline;
mod select;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};

pub(crate) use self::build::Builder;
use self::entry::Kept;
pub(super) use self::entry::append;
pub(super) use self::outline::Outline;
pub use self::select::Selected;
use super::Part;
use crate::definition::Definition;
use crate::{Result, TableSchema};

/// Widths that the blocks of every part may have, each a multiple of the one before.
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

    /// The type that it has of a column: integers for counts and for sums of integers, doubles for sums of floats, the
    /// column's type for the others.
    fn of_type(self, data_type: &DataType) -> &DataType {
        match self {
            Measure::Count => &DataType::Int64,
            Measure::Sum if data_type.is_floating() => &DataType::Float64,
            Measure::Sum => &DataType::Int64,
            _ => data_type,
        }
    }
}

/// The blocks of one width in a part.
#[derive(Debug, Clone)]
pub struct Blocks {
    part: Arc<Part>,
    /// Which of the part's.
    number: u32,
    outline: Arc<Outline>,
    rollup: Option<u64>,
    definition: Arc<Definition>,
}

/// Where what is known of a column is, in all chunks.
enum Found {
    /// In each chunk's own column; where there is none a count is the number of rows.
    Stored,
    /// No row of the part has a value.
    Null,
    Unknown,
}

impl Blocks {
    /// The numbers of the blocks since 1970, each once, in order, with the rows in them over all series.
    pub(crate) fn numbers(&self) -> &[(i64, u64)] {
        &self.outline.numbers
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.outline.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The width of each, in microseconds.
    pub fn width_us(&self) -> i64 {
        self.outline.width_us
    }

    /// The name of the rollup that they are kept for; none for those that every part has.
    pub fn rollup(&self) -> Option<&str> {
        Some(self.definition.rollups.get(&self.rollup?)?.name.as_str())
    }

    /// The number of their part.
    pub fn part_number(&self) -> u64 {
        self.part.record.number
    }

    /// How many series they are of.
    pub fn series(&self) -> usize {
        self.outline.tags.num_rows()
    }

    /// The values of a tag, a row per series.
    pub fn tag(&self, name: &str) -> ArrayRef {
        match self.definition.stored_name(name).and_then(|stored| self.outline.tags.column_by_name(stored)) {
            Some(column) => Arc::clone(column),
            None => new_null_array(&TableSchema::tag_type(), self.series()),
        }
    }

    /// Whether they are of the same series as others, in the same order, as far as that can be told at a glance.
    pub(crate) fn has_series_of(&self, other: &Self) -> bool {
        let (tags, others) = (&self.outline.tags, &other.outline.tags);
        let same = |(a, b): (&ArrayRef, &ArrayRef)| {
            let (a, b) = (a.as_dictionary::<Int32Type>(), b.as_dictionary::<Int32Type>());
            a.keys() == b.keys() && a.values() == b.values()
        };
        tags.schema_ref() == others.schema_ref() && tags.columns().iter().zip(others.columns()).all(same)
    }

    /// Whether they know a measure of a column, which is no tag and not the time.
    pub fn knows(&self, name: &str, measure: Measure) -> bool {
        self.definition.stored_name(name).is_some_and(|stored| !matches!(self.find(stored, measure), Found::Unknown))
    }

    fn find(&self, stored: &str, measure: Measure) -> Found {
        let columns = &self.outline.columns;
        if !columns.is_empty() && !columns.iter().any(|column| column == stored) {
            return Found::Unknown;
        }
        let in_chunks = |measure: Measure| {
            let column = measure.column(stored);
            self.outline.chunks.iter().filter(|chunk| chunk.column(&column).is_some()).count()
        };
        let all = self.outline.chunks.len();
        match in_chunks(Measure::Last) {
            0 => Found::Null,
            _ if measure == Measure::Count || in_chunks(measure) == all => Found::Stored,
            _ => Found::Unknown,
        }
    }

    /// A column of a chunk, from memory where it is there.
    fn column(&self, chunk: usize, name: &str, wanted: &DataType) -> Result<Option<ArrayRef>> {
        let Some(column) = self.outline.chunks[chunk].column(name) else { return Ok(None) };
        let place = |number: usize| u32::try_from(number).expect("a part has few of them");
        let key = (self.part.record.number, self.number, place(chunk), place(column));
        let load = || {
            let file = self.part.file()?;
            let read = self.outline.chunks[chunk].read(&file, column, wanted);
            read.map_err(|error| self.part.unread(&file.refused, &error))
        };
        self.part.footers.block_column(key, load).map(Some)
    }
}

impl Part {
    /// The part's blocks that may be asked, without those of rollups that are gone.
    fn kept_blocks(&self, definition: &Definition) -> Result<Vec<(u32, Kept)>> {
        if self.record.deletes || self.record.window.is_none() {
            return Ok(Vec::new());
        }
        let footer = self.footer()?;
        let kept = Kept::of(footer.metadata().file_metadata().key_value_metadata());
        let there = |kept: &Kept| kept.rollup().is_none_or(|id| definition.rollups.contains_key(&id));
        Ok((0..).zip(kept).filter(|(_, kept)| there(kept)).collect())
    }

    /// The widths of the part's blocks.
    pub(crate) fn block_widths(&self, definition: &Definition) -> Result<Vec<i64>> {
        Ok(self.kept_blocks(definition)?.iter().map(|(_, kept)| kept.width_us()).collect())
    }

    /// The bytes of the blocks that the part keeps for a rollup; none where it has none.
    pub(crate) fn rollup_bytes(&self, definition: &Definition, id: u64) -> Result<Option<u64>> {
        let kept = self.kept_blocks(definition)?;
        Ok(kept.iter().find(|(_, kept)| kept.rollup() == Some(id)).map(|(_, kept)| kept.len()))
    }

    /// The part's blocks of a width, from memory where they are there; those that every part has come first.
    pub(crate) fn blocks(self: &Arc<Self>, definition: &Arc<Definition>, width_us: i64) -> Result<Vec<Blocks>> {
        let kept = self.kept_blocks(definition)?.into_iter().filter(|(_, kept)| kept.width_us() == width_us);
        let blocks = kept.map(|(number, kept)| {
            let load = || {
                let file = self.file()?;
                Ok(Arc::new(Outline::read(&file, &kept).map_err(|error| self.unread(&file.refused, &error))?))
            };
            let outline = self.footers.outline((self.record.number, number), load)?;
            let (part, definition) = (Arc::clone(self), Arc::clone(definition));
            Ok(Blocks { part, number, outline, rollup: kept.rollup(), definition })
        });
        blocks.collect()
    }
}

/// The column as it is kept, back in its own type.
fn plain(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    Ok(if column.data_type() == data_type { Arc::clone(column) } else { cast(column, data_type)? })
}
