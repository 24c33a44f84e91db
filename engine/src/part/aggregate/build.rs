//! Builds the blocks of a part while its rows are written.
//!
//! **Invariant:** rows come in key order; a block is finished by the first row behind it, in whatever batch that is.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, AsArray, Int64Array, PrimitiveArray, UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{
    ArrowNumericType, DataType, Field, Float64Type, Int32Type, Int64Type, Schema, TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::{Built, Measure, WIDTHS_US, number};
use crate::{Result, TableSchema};

/// Rows of a part that are worth blocks.
const ROWS_MIN: i64 = 2_048;
/// Rows of a block, on average, that make it worth its bytes.
const BLOCK_ROWS_MIN: i64 = 16;
/// Blocks after which a part with too few rows in each gets wider ones.
const BLOCKS_CHECKED: usize = 16_384;

/// Blocks under construction.
pub(crate) struct Builder {
    tags: Vec<(String, Pieces)>,
    time: String,
    fields: Vec<FieldBlocks>,
    /// The index in [`WIDTHS_US`].
    width: usize,
    rows: Vec<i64>,
    first_times: Vec<i64>,
    last_times: Vec<i64>,
    /// The tags of the row before, a batch of one row.
    before: Option<Vec<ArrayRef>>,
    /// Rows were too sparse for any width.
    given_up: bool,
}

/// Values of some rows, batch by batch.
#[derive(Default)]
struct Pieces(Vec<ArrayRef>);

struct FieldBlocks {
    name: String,
    data_type: DataType,
    count: Vec<i64>,
    numbers: Option<Numbers>,
    first: Pieces,
    last: Pieces,
}

enum Numbers {
    Floats(Extremes<Float64Type>),
    Integers(Extremes<Int64Type>),
}

/// Sum, smallest and largest value of each block.
struct Extremes<T: ArrowNumericType> {
    sum: Vec<T::Native>,
    min: Vec<T::Native>,
    max: Vec<T::Native>,
    /// Whether sums did not overflow.
    sums: bool,
    /// Whether all values are numbers.
    numbers: bool,
}

/// Neighbouring rows of one block.
struct Segment {
    rows: Range<usize>,
    /// Whether the batch before ended in the same block.
    goes_on: bool,
}

impl Builder {
    /// Blocks for a part with these columns; none for a keyed table or a part with marks.
    pub(crate) fn new(table: &TableSchema, columns: &Schema) -> Option<Self> {
        let time = &table.columns[table.time()?];
        let hidden = |name: &str| table.column(name).is_none();
        if columns.fields().iter().any(|field| hidden(field.name())) {
            return None;
        }
        let tag_names: Vec<&String> = table.tags().iter().map(|&index| &table.columns[index].name).collect();
        let tags = tag_names.iter().filter(|name| columns.index_of(name).is_ok());
        let others = columns.fields().iter().filter(|field| {
            let name = field.name();
            *name != time.name && !tag_names.contains(&name)
        });
        Some(Self {
            tags: tags.map(|name| ((*name).clone(), Pieces::default())).collect(),
            time: time.name.clone(),
            fields: others.map(|field| FieldBlocks::new(field)).collect(),
            width: 0,
            rows: Vec::new(),
            first_times: Vec::new(),
            last_times: Vec::new(),
            before: None,
            given_up: false,
        })
    }

    /// Takes the next rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.given_up || batch.num_rows() == 0 {
            return Ok(());
        }
        let named = |name: &String| batch.column_by_name(name).cloned();
        let tags: Vec<ArrayRef> = self.tags.iter().filter_map(|(name, _)| named(name)).collect();
        let Some(times) = named(&self.time) else { return Ok(()) };
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let segments = self.segments(&tags, times);
        for segment in &segments {
            let (rows, last) = (&segment.rows, times[segment.rows.end - 1]);
            let count = i64::try_from(rows.len()).expect("a batch is small");
            if segment.goes_on {
                *self.rows.last_mut().expect("it goes on") += count;
                *self.last_times.last_mut().expect("it goes on") = last;
            } else {
                self.rows.push(count);
                self.first_times.push(times[rows.start]);
                self.last_times.push(last);
            }
        }
        let firsts = indices(segments.iter().filter(|segment| !segment.goes_on).map(|segment| segment.rows.start));
        let lasts = indices(segments.iter().map(|segment| segment.rows.end - 1));
        for ((_, pieces), tags) in self.tags.iter_mut().zip(&tags) {
            pieces.0.push(take(tags, &firsts, None)?);
        }
        for field in &mut self.fields {
            let Some(column) = batch.column_by_name(&field.name) else { continue };
            field.add(column, &segments, &firsts, &lasts)?;
        }
        self.before = Some(tags.iter().map(|tag| tag.slice(batch.num_rows() - 1, 1)).collect());
        if self.rows.len() > BLOCKS_CHECKED {
            self.widen_while_sparse()?;
        }
        Ok(())
    }

    fn segments(&self, tags: &[ArrayRef], times: &[i64]) -> Vec<Segment> {
        let width = WIDTHS_US[self.width];
        let mut starts = vec![0];
        let (mut row, rows) = (0, times.len());
        let ends = series_ends(tags, rows);
        for end in ends {
            while row < end {
                let block_end = times[row].div_euclid(width).saturating_add(1).saturating_mul(width);
                row += times[row..end].partition_point(|&time| time < block_end).max(1);
                starts.push(row);
            }
        }
        let goes_on = self.before.as_ref().is_some_and(|before| {
            let same = before.iter().zip(tags).all(|(a, b)| same_tag(a, 0, b, 0));
            let block = |time: i64| time.div_euclid(width);
            same && self.last_times.last().is_some_and(|&last| block(last) == block(times[0]))
        });
        let segment = |pair: &[usize]| Segment { rows: pair[0]..pair[1], goes_on: goes_on && pair[0] == 0 };
        starts.windows(2).map(segment).collect()
    }

    /// Makes blocks wider until there are enough rows in each, or gives up.
    fn widen_while_sparse(&mut self) -> Result<()> {
        while self.is_sparse() && !self.given_up {
            self.width += 1;
            if self.width == WIDTHS_US.len() {
                self.given_up = true;
                self.tags.clear();
                self.fields.clear();
                return Ok(());
            }
            self.merge_blocks()?;
        }
        Ok(())
    }

    fn is_sparse(&self) -> bool {
        let blocks = i64::try_from(self.rows.len()).expect("blocks fit in memory");
        self.rows.iter().sum::<i64>() < BLOCK_ROWS_MIN.saturating_mul(blocks)
    }

    /// Puts neighbouring blocks together that lie in one block of the width now in force.
    fn merge_blocks(&mut self) -> Result<()> {
        let tags = self.tags.iter().map(|(_, pieces)| pieces.whole()).collect::<Result<Vec<_>>>()?;
        let before = self.before.take();
        let segments = self.segments(&tags, &self.first_times);
        self.before = before;
        let fold = |values: &[i64], of: fn(&[i64]) -> i64| -> Vec<i64> {
            segments.iter().map(|segment| of(&values[segment.rows.clone()])).collect()
        };
        let rows = fold(&self.rows, |rows| rows.iter().sum());
        let first_times = fold(&self.first_times, |times| times[0]);
        let last_times = fold(&self.last_times, |times| times[times.len() - 1]);
        let firsts = indices(segments.iter().map(|segment| segment.rows.start));
        let lasts = indices(segments.iter().map(|segment| segment.rows.end - 1));
        for ((_, pieces), whole) in self.tags.iter_mut().zip(&tags) {
            pieces.0 = vec![take(whole, &firsts, None)?];
        }
        for field in &mut self.fields {
            field.merge(&segments, &firsts, &lasts)?;
        }
        (self.rows, self.first_times, self.last_times) = (rows, first_times, last_times);
        Ok(())
    }

    /// The blocks as a Parquet file; none where they are not worth it.
    pub(crate) fn finish(mut self) -> Result<Option<Built>> {
        self.widen_while_sparse()?;
        if self.given_up || self.rows.iter().sum::<i64>() < ROWS_MIN {
            return Ok(None);
        }
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (name, pieces) in &self.tags {
            columns.push((format!("tag.{name}"), pieces.whole()?));
        }
        let integers = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        columns.push(("rows".into(), integers(&self.rows)));
        columns.push(("first_time".into(), integers(&self.first_times)));
        columns.push(("last_time".into(), integers(&self.last_times)));
        for field in &self.fields {
            field.columns(&self.rows, &mut columns)?;
        }
        Ok(Some(Built { width_us: WIDTHS_US[self.width], file: write(columns)? }))
    }
}

impl Pieces {
    fn whole(&self) -> Result<ArrayRef> {
        Ok(concat(&self.0.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
    }
}

impl FieldBlocks {
    fn new(field: &Field) -> Self {
        let numbers = match field.data_type() {
            DataType::Float64 => Some(Numbers::Floats(Extremes::new())),
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(Numbers::Integers(Extremes::new())),
            _ => None,
        };
        Self {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            count: Vec::new(),
            numbers,
            first: Pieces::default(),
            last: Pieces::default(),
        }
    }

    fn add(
        &mut self,
        column: &ArrayRef,
        segments: &[Segment],
        firsts: &UInt32Array,
        lasts: &UInt32Array,
    ) -> Result<()> {
        for segment in segments {
            let (rows, nulls) = (&segment.rows, column.nulls());
            let nulls = nulls.map_or(0, |nulls| nulls.slice(rows.start, rows.len()).null_count());
            let count = i64::try_from(rows.len() - nulls).expect("a batch is small");
            match self.count.last_mut().filter(|_| segment.goes_on) {
                Some(last) => *last += count,
                None => self.count.push(count),
            }
        }
        match &mut self.numbers {
            Some(Numbers::Floats(extremes)) => extremes.add(column.as_primitive(), segments),
            Some(Numbers::Integers(extremes)) => {
                extremes.add(cast(column, &DataType::Int64)?.as_primitive(), segments);
            }
            None => {}
        }
        if self.numbers.is_some() {
            self.first.0.push(take(column, firsts, None)?);
        }
        // The block that goes on has another last row now.
        if let Some(last) = self.last.0.last_mut().filter(|_| segments[0].goes_on) {
            *last = last.slice(0, last.len() - 1);
        }
        self.last.0.push(take(column, lasts, None)?);
        Ok(())
    }

    fn merge(&mut self, segments: &[Segment], firsts: &UInt32Array, lasts: &UInt32Array) -> Result<()> {
        self.count = segments.iter().map(|segment| self.count[segment.rows.clone()].iter().sum()).collect();
        match &mut self.numbers {
            Some(Numbers::Floats(extremes)) => extremes.merge(segments),
            Some(Numbers::Integers(extremes)) => extremes.merge(segments),
            None => {}
        }
        if self.numbers.is_some() {
            self.first.0 = vec![take(&self.first.whole()?, firsts, None)?];
        }
        self.last.0 = vec![take(&self.last.whole()?, lasts, None)?];
        Ok(())
    }

    fn columns(&self, rows: &[i64], columns: &mut Vec<(String, ArrayRef)>) -> Result<()> {
        let mut push = |measure: Measure, column: ArrayRef| -> Result<()> {
            columns.push((measure.column(&self.name), number::narrowed(&column)?));
            Ok(())
        };
        if self.count != rows {
            push(Measure::Count, Arc::new(Int64Array::from(self.count.clone())))?;
        }
        match &self.numbers {
            Some(Numbers::Floats(extremes)) => extremes.columns(&self.count, &mut push)?,
            Some(Numbers::Integers(extremes)) => extremes.columns(&self.count, &mut push)?,
            None => {}
        }
        if self.numbers.is_some() {
            push(Measure::First, self.first.whole()?)?;
        }
        let last =
            if self.last.0.is_empty() { new_null_array(&self.data_type, rows.len()) } else { self.last.whole()? };
        push(Measure::Last, last)
    }
}

/// Sums of integers can overflow, floats may be no numbers.
trait Number: ArrowNumericType {
    fn is_number(value: Self::Native) -> bool;
}

impl Number for Float64Type {
    fn is_number(value: f64) -> bool {
        !value.is_nan()
    }
}

impl Number for Int64Type {
    fn is_number(_: i64) -> bool {
        true
    }
}

impl<T: Number> Extremes<T> {
    fn new() -> Self {
        Self { sum: Vec::new(), min: Vec::new(), max: Vec::new(), sums: true, numbers: true }
    }

    fn add(&mut self, column: &PrimitiveArray<T>, segments: &[Segment]) {
        for segment in segments {
            let values = column.slice(segment.rows.start, segment.rows.len());
            let (sum, min, max) = self.of(&values);
            if segment.goes_on {
                let at = self.sum.len() - 1;
                self.sum[at] = self.plus(self.sum[at], sum);
                self.min[at] = least::<T>(self.min[at], min);
                self.max[at] = most::<T>(self.max[at], max);
            } else {
                self.sum.push(sum);
                self.min.push(min);
                self.max.push(max);
            }
        }
    }

    /// Of the values that are not null; where there are none a sum of zero and bounds that no value passes.
    fn of(&mut self, values: &PrimitiveArray<T>) -> (T::Native, T::Native, T::Native) {
        let zero = T::Native::ZERO;
        let (mut sum, mut min, mut max) = (zero, T::Native::MAX_TOTAL_ORDER, T::Native::MIN_TOTAL_ORDER);
        let mut numbers = true;
        let mut see = |value: T::Native, sums: &mut bool| {
            numbers &= T::is_number(value);
            sum = sum.add_checked(value).unwrap_or_else(|_| {
                *sums = false;
                zero
            });
            min = least::<T>(min, value);
            max = most::<T>(max, value);
        };
        if values.null_count() == 0 {
            values.values().iter().for_each(|&value| see(value, &mut self.sums));
        } else {
            values.iter().flatten().for_each(|value| see(value, &mut self.sums));
        }
        self.numbers &= numbers;
        (sum, min, max)
    }

    fn plus(&mut self, a: T::Native, b: T::Native) -> T::Native {
        a.add_checked(b).unwrap_or_else(|_| {
            self.sums = false;
            T::Native::ZERO
        })
    }

    fn merge(&mut self, segments: &[Segment]) {
        let mut sums = Vec::with_capacity(segments.len());
        for segment in segments {
            let parts = self.sum[segment.rows.clone()].to_vec();
            sums.push(parts.into_iter().fold(T::Native::ZERO, |sum, part| self.plus(sum, part)));
        }
        let fold = |values: &[T::Native], of: fn(T::Native, T::Native) -> T::Native| -> Vec<T::Native> {
            let of =
                |rows: Range<usize>| values[rows.start + 1..rows.end].iter().fold(values[rows.start], |a, &b| of(a, b));
            segments.iter().map(|segment| of(segment.rows.clone())).collect()
        };
        (self.min, self.max) = (fold(&self.min, least::<T>), fold(&self.max, most::<T>));
        self.sum = sums;
    }

    fn columns(&self, count: &[i64], push: &mut impl FnMut(Measure, ArrayRef) -> Result<()>) -> Result<()> {
        let column = |values: &[T::Native]| -> ArrayRef {
            let known = values.iter().zip(count).map(|(&value, &count)| (count > 0).then_some(value));
            Arc::new(known.collect::<PrimitiveArray<T>>())
        };
        if !self.numbers {
            return Ok(());
        }
        push(Measure::Min, column(&self.min))?;
        push(Measure::Max, column(&self.max))?;
        if self.sums { push(Measure::Sum, column(&self.sum)) } else { Ok(()) }
    }
}

fn least<T: Number>(a: T::Native, b: T::Native) -> T::Native {
    if b.is_lt(a) { b } else { a }
}

fn most<T: Number>(a: T::Native, b: T::Native) -> T::Native {
    if b.is_gt(a) { b } else { a }
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
        let fixed = matches!(name.as_str(), "rows" | "first_time" | "last_time");
        Field::new(name, column.data_type().clone(), !fixed)
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())?;
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}
