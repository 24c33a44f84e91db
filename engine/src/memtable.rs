//! Rows that are in memory: sorted runs, the newest last.
//!
//! **Invariant:** a run never changes; merging makes a new one. Knows neither log nor parts.

mod sort;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use self::sort::Order;
use crate::key::KeyView;
use crate::mark::Marks;
use crate::merge::{self, Columns, Gather, Merge, RunSource, Source};
use crate::{Result, TableSchema, TimeRange};

/// Runs of one size class that are merged into one of the next.
const RUNS_MERGED: usize = 8;
/// Runs with this many rows are left alone.
const RUN_ROWS_MAX: usize = 32_768;

/// Rows of one table sorted by key, one per key. Columns that the writer did not name are absent.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Columns by name, the key columns among them.
    pub(crate) batch: RecordBatch,
    /// The key columns, typed.
    pub(crate) key: KeyView,
    /// Which rows mark deleted keys, and which hide what is older.
    pub(crate) marks: Marks,
    /// The first and last time; none for keyed tables.
    pub(crate) time: Option<(i64, i64)>,
    /// The oldest commit in it.
    pub(crate) first_sequence: u64,
    /// The newest commit in it.
    pub(crate) sequence: u64,
    /// Bytes it holds.
    pub(crate) bytes: u64,
}

impl Run {
    /// A run of a batch that is sorted by key with one row per key. Tags that it lacks are null.
    pub(crate) fn new(schema: &TableSchema, batch: RecordBatch, marks: Marks) -> Result<Self> {
        let batch = with_tags(schema, batch)?;
        let key = KeyView::new(&key_columns(schema, &batch), batch.num_rows())?;
        let bytes = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size()).sum::<Result<usize, _>>()?;
        let time = schema.time().and_then(|index| {
            let times = batch.column_by_name(&schema.columns[index].name)?.as_primitive::<TimestampMicrosecondType>();
            Some((arrow::compute::min(times)?, arrow::compute::max(times)?))
        });
        Ok(Self { batch, key, marks, time, first_sequence: 0, sequence: 0, bytes: bytes as u64 })
    }

    /// A run of rows in any order. Of rows with one key the last stays; in a telemetry table it takes on the values that
    /// it lacks from those before it, back to where the key was deleted.
    pub(crate) fn sorted(schema: &TableSchema, batch: RecordBatch, deleted: Option<BooleanArray>) -> Result<Self> {
        let key = KeyView::new(&key_columns(schema, &batch), batch.num_rows())?;
        match sort::order(&key) {
            Order::Sorted => Self::new(schema, batch, Marks::new(deleted, None)),
            Order::Rows(versions) => {
                let rows = if schema.merges_fields() { versions.merged(deleted.as_ref()) } else { versions.replaced() };
                let columns = batch.columns().iter().map(|c| take(c, &rows.rows(c), None)).collect::<Result<_, _>>()?;
                let deleted = deleted.map(|deleted| take(&deleted, &rows.newest, None)).transpose()?;
                let deleted = deleted.map(|deleted| deleted.as_boolean().clone());
                Self::new(schema, RecordBatch::try_new(batch.schema(), columns)?, Marks::new(deleted, rows.whole))
            }
        }
    }

    /// The time column of a telemetry table's run.
    pub(crate) fn times(&self, schema: &TableSchema) -> Option<&TimestampMicrosecondArray> {
        let name = &schema.columns[schema.time()?].name;
        Some(self.batch.column_by_name(name)?.as_primitive::<TimestampMicrosecondType>())
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows that `keep` selects, still sorted.
    pub(crate) fn filter(&self, schema: &TableSchema, keep: &BooleanArray) -> Result<Self> {
        let batch = filter_record_batch(&self.batch, keep)?;
        let run = Self::new(schema, batch, self.marks.filter(keep)?)?;
        Ok(Self { first_sequence: self.first_sequence, sequence: self.sequence, ..run })
    }

    /// The same rows under a key that has got more tags.
    pub(crate) fn rekeyed(&self, schema: &TableSchema) -> Self {
        let run = Self::new(schema, self.batch.clone(), self.marks.clone()).expect("its columns were read before");
        Self { first_sequence: self.first_sequence, sequence: self.sequence, ..run }
    }

    /// The same run as made by one commit.
    pub(crate) fn at(self, sequence: u64) -> Self {
        Self { first_sequence: sequence, sequence, ..self }
    }

    /// One run of several, given from the oldest to the newest.
    pub(crate) fn merged(schema: &TableSchema, runs: &[Arc<Self>]) -> Result<Self> {
        let given =
            |index: &usize| runs.iter().any(|run| run.batch.column_by_name(&schema.columns[*index].name).is_some());
        let wanted: Vec<usize> = (0..schema.columns.len()).filter(given).collect();
        let columns = Columns::new(schema, &wanted);
        let source = |run: &Arc<Self>| Ok(Box::new(RunSource::new(&columns, run, None)?) as Source);
        let mut merge = Merge::new(&columns, runs.iter().map(source).collect::<Result<_>>()?, true);
        let mut pieces = Vec::new();
        loop {
            match merge.next_pieces()? {
                more if more.is_empty() => break,
                more => pieces.extend(more),
            }
        }
        let gather = Gather::new((0..columns.indices.len()).collect(), Arc::clone(&columns.schema));
        let run = Self::new(schema, gather.batch(&pieces)?, merge::marks(&pieces))?;
        let first_sequence = runs.iter().map(|run| run.first_sequence).min().unwrap_or(0);
        let sequence = runs.iter().map(|run| run.sequence).max().unwrap_or(0);
        Ok(Self { first_sequence, sequence, ..run })
    }

    /// Which rows lie in a range of times; `None` means all.
    pub(crate) fn within(&self, schema: &TableSchema, range: TimeRange) -> Option<BooleanArray> {
        let (min, max) = self.time?;
        if range.covers(min, max) {
            return None;
        }
        Some(self.times(schema)?.values().iter().map(|&time| Some(range.contains(time))).collect())
    }
}

/// The batch with a column of nulls for each tag that it lacks: it was written before the table had that tag.
fn with_tags(schema: &TableSchema, batch: RecordBatch) -> Result<RecordBatch> {
    let lacking = |&&index: &&usize| batch.column_by_name(&schema.columns[index].name).is_none();
    let lacking: Vec<usize> = schema.tags().iter().filter(lacking).copied().collect();
    if lacking.is_empty() {
        return Ok(batch);
    }
    let mut fields: Vec<_> = batch.schema_ref().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    for column in lacking.into_iter().map(|index| &schema.columns[index]) {
        fields.push(Arc::new(Field::new(&column.name, column.data_type.clone(), true)));
        columns.push(new_null_array(&column.data_type, batch.num_rows()));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The key columns of a batch that has them all.
pub(crate) fn key_columns(schema: &TableSchema, batch: &RecordBatch) -> Vec<ArrayRef> {
    let named = |&index: &usize| batch.column_by_name(&schema.columns[index].name);
    let columns: Vec<_> = schema.key.iter().filter_map(named).cloned().collect();
    assert_eq!(columns.len(), schema.key.len(), "a batch of table \"{}\" lacks key columns", schema.name);
    columns
}

/// Which neighbouring runs to merge next, given their sizes in rows from the oldest to the newest.
///
/// Sizes fall into classes by powers of [`RUNS_MERGED`]. Eight neighbours of the newest run's class or below are merged,
/// so that each row is copied about once per class and a scan meets few runs.
pub(crate) fn choose_merge(rows: &[usize]) -> Option<Range<usize>> {
    let class = |rows: usize| rows.max(1).ilog(RUNS_MERGED);
    let newest = class(*rows.last()?);
    let tail = rows.iter().rev().take_while(|&&r| r < RUN_ROWS_MAX && class(r) <= newest).count();
    (tail >= RUNS_MERGED).then(|| rows.len() - tail..rows.len())
}

/// The runs of one memtable that takes no more rows and waits for its flush.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) runs: Vec<Arc<Run>>,
}

impl Frozen {
    /// The newest commit in it.
    pub(crate) fn sequence(&self) -> u64 {
        self.runs.iter().map(|run| run.sequence).max().unwrap_or(0)
    }
}

/// Bytes and rows of runs.
pub(crate) fn size(runs: &[Arc<Run>]) -> (u64, u64) {
    runs.iter().fold((0, 0), |(bytes, rows), run| (bytes + run.bytes, rows + run.rows() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_row_commits_leave_few_runs_and_copy_each_row_few_times() {
        let (mut runs, mut copied) = (Vec::new(), 0);
        for rows in std::iter::repeat_n(1, 20_000) {
            runs.push(rows);
            while let Some(range) = choose_merge(&runs) {
                let merged: usize = runs.drain(range.clone()).sum();
                runs.insert(range.start, merged);
                copied += merged;
            }
        }
        assert!(runs.len() < 40, "{} runs", runs.len());
        assert!(copied < 20_000 * 7, "{copied} rows copied");
    }

    #[test]
    fn large_runs_are_left_alone() {
        assert_eq!(choose_merge(&[40_000; 50]), None);
        assert_eq!(choose_merge(&[10_000; 7]), None);
        assert_eq!(choose_merge(&[10_000; 8]), Some(0..8));
        assert_eq!(choose_merge(&[80_000, 10_000, 10_000]), None);
    }
}
