//! Some of a part's blocks: those of some series and some times.
//!
//! **Invariant:** what it gives are rows in the order of the blocks, one for each that was selected.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Int64Type};

use super::{Blocks, Found, Measure};
use crate::{Error, Result};

/// Blocks that were selected.
#[derive(Debug)]
pub struct Selected<'a> {
    blocks: &'a Blocks,
    /// The series of each.
    series: UInt32Array,
    /// By chunk, those with any.
    chunks: Vec<(usize, Rows)>,
}

/// Rows of a chunk, in order.
#[derive(Debug)]
enum Rows {
    Range(Range<usize>),
    Some(UInt32Array),
}

impl Blocks {
    /// The blocks of the series that are true in `series`, which has one row for each, at times that `numbers` names:
    /// ranges of numbers of blocks since 1970, in order.
    ///
    /// # Errors
    /// What reading the part may answer.
    pub fn select(&self, series: &BooleanArray, numbers: &[Range<i64>]) -> Result<Selected<'_>> {
        let bounds: Vec<(i64, i64)> = numbers
            .iter()
            .map(|range| (range.start.saturating_mul(self.width_us()), range.end.saturating_mul(self.width_us())))
            .collect();
        let (mut picked, mut of_series) = (Picked::default(), Vec::new());
        for (chunk, file) in self.outline.chunks.iter().enumerate() {
            let first = self.outline.starts.partition_point(|&start| start <= file.blocks.start) - 1;
            let mut times: Option<Int64Array> = None;
            for number in first..self.series() {
                let from = self.outline.starts[number].max(file.blocks.start);
                let to = self.outline.starts[number + 1].min(file.blocks.end);
                if from >= file.blocks.end {
                    break;
                }
                if from >= to || !series.value(number) {
                    continue;
                }
                let times = match &mut times {
                    Some(times) => times,
                    none => none.insert(self.integers(chunk, "first_time")?),
                };
                let (from, to) = (from - file.blocks.start, to - file.blocks.start);
                for &(first, end) in &bounds {
                    let times = &times.values()[from..to];
                    let (a, b) = (times.partition_point(|&t| t < first), times.partition_point(|&t| t < end));
                    picked.push(from + a..from + b);
                    of_series.extend(std::iter::repeat_n(u32::try_from(number).expect("few series"), b - a));
                }
            }
            picked.end_chunk(chunk);
        }
        Ok(Selected { blocks: self, series: of_series.into(), chunks: picked.chunks })
    }

    /// The last block of each series.
    pub(crate) fn last_of_series(&self) -> Selected<'_> {
        let mut picked = Picked::default();
        let mut ends = self.outline.starts.iter().skip(1).map(|&end| end - 1).peekable();
        for (chunk, file) in self.outline.chunks.iter().enumerate() {
            while let Some(last) = ends.next_if(|&last| last < file.blocks.end) {
                picked.push(last - file.blocks.start..last - file.blocks.start + 1);
            }
            picked.end_chunk(chunk);
        }
        let every = 0..u32::try_from(self.series()).expect("few series");
        Selected { blocks: self, series: UInt32Array::from_iter_values(every), chunks: picked.chunks }
    }

    fn integers(&self, chunk: usize, name: &str) -> Result<Int64Array> {
        let column = self.column(chunk, name, &DataType::Int64)?;
        let column = column.filter(|column| column.null_count() == 0);
        let reason = || format!("the blocks have no column {name}");
        let missing = || Error::Corrupt { file: self.part.path().into(), offset: 0, reason: reason() };
        Ok(column.ok_or_else(missing)?.as_primitive::<Int64Type>().clone())
    }
}

/// Rows that are gathered chunk by chunk.
#[derive(Default)]
struct Picked {
    chunks: Vec<(usize, Rows)>,
    ranges: Vec<Range<usize>>,
}

impl Picked {
    fn push(&mut self, range: Range<usize>) {
        match self.ranges.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }

    fn end_chunk(&mut self, chunk: usize) {
        let ranges = std::mem::take(&mut self.ranges);
        let rows = match ranges.as_slice() {
            [] => return,
            [one] => Rows::Range(one.clone()),
            _ => {
                let row = |row| u32::try_from(row).expect("a chunk is small");
                Rows::Some(ranges.into_iter().flatten().map(row).collect::<Vec<_>>().into())
            }
        };
        self.chunks.push((chunk, rows));
    }
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Some(rows) => rows.len(),
        }
    }

    fn of(&self, column: &ArrayRef) -> Result<ArrayRef> {
        Ok(match self {
            Self::Range(range) => column.slice(range.start, range.len()),
            Self::Some(rows) => take(column, rows, None)?,
        })
    }
}

impl Selected<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The series of each: its row among [`Blocks::tag`].
    pub fn series(&self) -> &UInt32Array {
        &self.series
    }

    /// The rows in each.
    ///
    /// # Errors
    /// What reading the part may answer.
    pub fn rows(&self) -> Result<Int64Array> {
        self.integers("rows")
    }

    /// The time of the first row of each, in microseconds since 1970.
    ///
    /// # Errors
    /// What reading the part may answer.
    pub fn first_times(&self) -> Result<Int64Array> {
        self.integers("first_time")
    }

    /// The time of the last row of each, in microseconds since 1970.
    ///
    /// # Errors
    /// What reading the part may answer.
    pub fn last_times(&self) -> Result<Int64Array> {
        self.integers("last_time")
    }

    /// A measure of a column of this type, which is no tag and not the time: integers for counts and for sums of integers,
    /// doubles for sums of floats, the column's type for the others. None where it is not known.
    ///
    /// # Errors
    /// What reading the part may answer.
    pub fn measure(&self, name: &str, data_type: &DataType, measure: Measure) -> Result<Option<ArrayRef>> {
        let wanted = measure.of_type(data_type);
        let Some(stored) = self.blocks.definition.stored_name(name) else { return Ok(None) };
        match self.blocks.find(stored, measure) {
            Found::Unknown => return Ok(None),
            Found::Null if measure == Measure::Count => {
                return Ok(Some(Arc::new(Int64Array::from(vec![0; self.len()]))));
            }
            Found::Null => return Ok(Some(new_null_array(wanted, self.len()))),
            Found::Stored => {}
        }
        let column = measure.column(stored);
        self.gather(wanted, |chunk| match self.blocks.column(chunk, &column, wanted)? {
            Some(column) => Ok(column),
            None => Ok(Arc::new(self.blocks.integers(chunk, "rows")?)),
        })
        .map(Some)
    }

    fn integers(&self, name: &str) -> Result<Int64Array> {
        let column = self.gather(&DataType::Int64, |chunk| Ok(Arc::new(self.blocks.integers(chunk, name)?)))?;
        Ok(column.as_primitive::<Int64Type>().clone())
    }

    fn gather(&self, wanted: &DataType, of_chunk: impl Fn(usize) -> Result<ArrayRef>) -> Result<ArrayRef> {
        let mut pieces = Vec::with_capacity(self.chunks.len());
        for (chunk, rows) in &self.chunks {
            pieces.push(rows.of(&of_chunk(*chunk)?)?);
        }
        debug_assert_eq!(self.chunks.iter().map(|(_, rows)| rows.len()).sum::<usize>(), self.len(), "one row each");
        Ok(match pieces.as_slice() {
            [] => new_null_array(wanted, 0),
            [one] => Arc::clone(one),
            _ => concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        })
    }
}
