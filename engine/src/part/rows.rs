//! The rows of a part that a scan wants, and no others, from memory where they are there.
//!
//! A row group is read in segments. Of the columns that conditions look at, only the segments with pages that can match are
//! read; of the other columns only the segments in which rows did match.
//!
//! **Invariant:** gives rows in key order; knows nothing of other parts, so that the part must have no marks that matter.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::errors::ParquetError;

use super::packed::{Packed, append};
use super::{Part, PartReader, ReadPlan};
use crate::condition::{Conditions, among, within};
use crate::{BATCH_ROWS_MAX, Result};

/// Rows of a column that are decoded and kept together.
const SEGMENT_ROWS: usize = 4 * BATCH_ROWS_MAX;
/// Segments that are read at once.
const UNIT_SEGMENTS: usize = 8;

/// Batches of rows that satisfy conditions.
pub(crate) struct PartRows {
    part: Arc<Part>,
    schema: SchemaRef,
    conditions: Conditions,
    /// The file's columns by their name; those that it lacks are absent.
    known: Vec<(String, u32)>,
    units: VecDeque<Unit>,
    ready: VecDeque<Chosen>,
}

/// Neighbouring segments of a row group, those without wanted pages left out.
struct Unit {
    group: usize,
    group_rows: usize,
    segments: Vec<usize>,
}

/// Segments of columns by name.
type Columns<'a> = Vec<(&'a str, Arc<Packed>)>;

/// Rows of one segment.
struct Chosen {
    columns: Vec<Option<Arc<Packed>>>,
    ranges: VecDeque<Range<usize>>,
}

impl PartRows {
    /// Reads the columns of `schema`, by name, from the rows that satisfy the conditions.
    pub(crate) fn new(part: &Arc<Part>, schema: &SchemaRef, conditions: Conditions, plan: &ReadPlan) -> Result<Self> {
        let footer = part.footer()?;
        let names = schema.fields().iter().map(|field| field.name().as_str()).chain(conditions.columns());
        let mut known: Vec<(String, u32)> = Vec::new();
        for name in names {
            let found = footer.schema().index_of(name).ok().and_then(|index| u32::try_from(index).ok());
            if let Some(index) = found.filter(|_| !known.iter().any(|(other, _)| other == name)) {
                known.push((name.to_owned(), index));
            }
        }
        let lacks = |name: &str| !known.iter().any(|(other, _)| other == name);
        // A column that the part lacks is null in all its rows.
        let units = if conditions.columns().any(lacks) {
            VecDeque::new()
        } else {
            let rows = |group: usize| usize::try_from(footer.metadata().row_group(group).num_rows()).unwrap_or(0);
            units(plan, rows)
        };
        let (part, schema) = (Arc::clone(part), Arc::clone(schema));
        Ok(Self { part, schema, conditions, known, units, ready: VecDeque::new() })
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            while let Some(chosen) = self.ready.front_mut() {
                let (ranges, rows) = chosen.take(BATCH_ROWS_MAX);
                if rows > 0 {
                    let pairs = self.schema.fields().iter().zip(&chosen.columns);
                    let columns = pairs.map(|(field, column)| match column {
                        Some(column) => column.unpack(&ranges, rows),
                        None => Ok(new_null_array(field.data_type(), rows)),
                    });
                    let options = RecordBatchOptions::new().with_row_count(Some(rows));
                    let columns = columns.collect::<Result<Vec<_>>>()?;
                    return Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?));
                }
                self.ready.pop_front();
            }
            let Some(unit) = self.units.pop_front() else { return Ok(None) };
            self.read(&unit)?;
        }
    }

    /// Finds the rows of a unit that satisfy the conditions, and their columns.
    fn read(&mut self, unit: &Unit) -> Result<()> {
        let mut looked_at: Vec<&str> = self.conditions.columns().collect();
        looked_at.sort_unstable();
        looked_at.dedup();
        let (mut segments, mut chosen) = (Vec::new(), Vec::new());
        for (&segment, columns) in unit.segments.iter().zip(self.fetch(unit, &unit.segments, &looked_at)?) {
            let columns: Columns<'_> = looked_at.iter().copied().zip(columns).collect();
            let ranges = select(&self.conditions, &columns, unit.rows(segment).len())?;
            if !ranges.is_empty() {
                segments.push(segment);
                chosen.push((columns, ranges));
            }
        }
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        let known = |name: &&str| self.known.iter().any(|(known, _)| known == name);
        let others: Vec<&str> = names.filter(|name| known(name) && !looked_at.contains(name)).collect();
        for (values, (mut columns, ranges)) in self.fetch(unit, &segments, &others)?.into_iter().zip(chosen) {
            columns.extend(others.iter().copied().zip(values));
            let column =
                |name: &str| columns.iter().find(|(other, _)| *other == name).map(|(_, rows)| Arc::clone(rows));
            let columns = self.schema.fields().iter().map(|field| column(field.name())).collect();
            self.ready.push_back(Chosen { columns, ranges: ranges.into() });
        }
        Ok(())
    }

    /// Columns by segment, from memory or from the file.
    fn fetch(&self, unit: &Unit, segments: &[usize], names: &[&str]) -> Result<Vec<Vec<Arc<Packed>>>> {
        let cache = &self.part.footers.columns;
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let index =
            |name: &str| self.known.iter().find(|(known, _)| known == name).map_or(u32::MAX, |(_, index)| *index);
        let key =
            |segment: usize, name: &str| (self.part.record.number, number(unit.group), number(segment), index(name));
        let look = |&segment: &usize| names.iter().map(|name| cache.get(key(segment, name))).collect::<Vec<_>>();
        let mut found: Vec<Vec<Option<Arc<Packed>>>> = segments.iter().map(look).collect();
        let absent = |place: &usize| found.iter().any(|row| row[*place].is_none());
        let columns: Vec<usize> = (0..names.len()).filter(absent).collect();
        let places: Vec<usize> = (0..segments.len()).filter(|&at| found[at].iter().any(Option::is_none)).collect();
        if !places.is_empty() {
            let ranges: Vec<Range<usize>> = places.iter().map(|&at| unit.rows(segments[at])).collect();
            let read: Vec<&str> = columns.iter().map(|&column| names[column]).collect();
            let mut reader = SegmentReader::new(&self.part, unit, &ranges, &read)?;
            for (&at, range) in places.iter().zip(&ranges) {
                for (&column, rows) in columns.iter().zip(reader.next_segment(range.len(), &read)?) {
                    let rows = Arc::new(rows);
                    cache.insert(key(segments[at], names[column]), &rows);
                    found[at][column] = Some(rows);
                }
            }
        }
        let whole = |row: Vec<Option<Arc<Packed>>>| row.into_iter().flatten().collect();
        Ok(found.into_iter().map(whole).collect())
    }
}

impl Iterator for PartRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}

/// The segments that a plan selects, in pieces that are read at once.
fn units(plan: &ReadPlan, group_rows: impl Fn(usize) -> usize) -> VecDeque<Unit> {
    let mut selected = Vec::new();
    let mut row = 0;
    for selector in plan.selection.iter().flat_map(RowSelection::iter) {
        if !selector.skip {
            selected.push(row..row + selector.row_count);
        }
        row += selector.row_count;
    }
    let mut units = VecDeque::new();
    let (mut first, mut next) = (0, 0);
    for &group in &plan.row_groups {
        let rows = group_rows(group);
        let mut segments = Vec::new();
        for segment in 0..rows.div_ceil(SEGMENT_ROWS) {
            let (start, end) = (first + segment * SEGMENT_ROWS, first + rows.min((segment + 1) * SEGMENT_ROWS));
            while selected.get(next).is_some_and(|range| range.end <= start) {
                next += 1;
            }
            if plan.selection.is_none() || selected.get(next).is_some_and(|range| range.start < end) {
                segments.push(segment);
            }
        }
        let pieces = segments.chunks(UNIT_SEGMENTS);
        units.extend(pieces.map(|piece| Unit { group, group_rows: rows, segments: piece.to_vec() }));
        first += rows;
    }
    units
}

impl Unit {
    /// The rows of a segment within the row group.
    fn rows(&self, segment: usize) -> Range<usize> {
        segment * SEGMENT_ROWS..self.group_rows.min((segment + 1) * SEGMENT_ROWS)
    }
}

impl Chosen {
    /// The next ranges, at most `limit` rows of them.
    fn take(&mut self, limit: usize) -> (Vec<Range<usize>>, usize) {
        let (mut taken, mut rows) = (Vec::new(), 0);
        while rows < limit
            && let Some(range) = self.ranges.pop_front()
        {
            let end = range.end.min(range.start + limit - rows);
            if end < range.end {
                self.ranges.push_front(end..range.end);
            }
            rows += end - range.start;
            taken.push(range.start..end);
        }
        (taken, rows)
    }
}

/// The rows of a segment of `rows` rows that satisfy the conditions, which look at `columns`.
fn select(conditions: &Conditions, columns: &Columns<'_>, rows: usize) -> Result<Vec<Range<usize>>> {
    let column = |name: &str| {
        let found = columns.iter().find(|(other, _)| *other == name);
        &found.expect("each column that conditions look at was read").1
    };
    let mut ranges: Vec<Range<usize>> = std::iter::once(0..rows).collect();
    for (name, any_of) in &conditions.tags {
        ranges = match column(name).as_ref() {
            Packed::Tags(tags) => tags.select(any_of, &ranges),
            other => filtered(other, &ranges, |values| Ok(among(values, any_of)))?,
        };
    }
    if let Some((name, wanted)) = &conditions.time {
        ranges = match column(name).as_ref() {
            Packed::Times(times) => times.select(*wanted, &ranges),
            other => filtered(other, &ranges, |values| Ok(within(values, *wanted)))?,
        };
    }
    for (name, filter) in &conditions.fields {
        ranges = filtered(column(name), &ranges, |values| filter.keep(values))?;
    }
    Ok(ranges)
}

/// The rows of some ranges that `keep` keeps.
fn filtered(
    column: &Packed,
    ranges: &[Range<usize>],
    keep: impl Fn(&ArrayRef) -> Result<BooleanArray>,
) -> Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    for range in ranges {
        let kept = keep(&column.unpack(std::slice::from_ref(range), range.len())?)?;
        let rows = kept.values().set_slices().map(|(start, end)| range.start + start..range.start + end);
        rows.for_each(|rows| append(&mut found, rows));
    }
    Ok(found)
}

/// Reads segments of a row group one after the other.
struct SegmentReader {
    reader: PartReader,
    part: Arc<Part>,
    /// What was read beyond the last segment.
    rest: Option<RecordBatch>,
}

impl SegmentReader {
    fn new(part: &Arc<Part>, unit: &Unit, ranges: &[Range<usize>], names: &[&str]) -> Result<Self> {
        let rows: usize = ranges.iter().map(Range::len).sum();
        let plan = ReadPlan {
            row_groups: vec![unit.group],
            selection: Some(RowSelection::from_consecutive_ranges(ranges.iter().cloned(), unit.group_rows)),
            row_groups_all: 1,
            rows: rows as u64,
        };
        let reader = PartReader::new(part, names.iter().copied(), &plan)?;
        Ok(Self { reader, part: Arc::clone(part), rest: None })
    }

    /// The next `rows` rows of some columns.
    fn next_segment(&mut self, rows: usize, names: &[&str]) -> Result<Vec<Packed>> {
        let mut pieces: Vec<RecordBatch> = Vec::new();
        let mut left = rows;
        while left > 0 {
            let Some(batch) = self.rest.take().map(Ok).or_else(|| self.reader.next()) else {
                return Err(self
                    .part
                    .damaged(&ParquetError::EOF("a row group has fewer rows than its footer says".into())));
            };
            let batch = batch?;
            let count = batch.num_rows().min(left);
            if count < batch.num_rows() {
                self.rest = Some(batch.slice(count, batch.num_rows() - count));
            }
            pieces.push(batch.slice(0, count));
            left -= count;
        }
        let pieces_of = |name: &str| -> Vec<ArrayRef> {
            pieces.iter().filter_map(|piece| piece.column_by_name(name).cloned()).collect()
        };
        names.iter().map(|name| Packed::new(&pieces_of(name))).collect()
    }
}
