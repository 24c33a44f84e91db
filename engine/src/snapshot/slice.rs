//! A part of a scan that can be read on its own.
//!
//! **Invariant:** gives rows sorted by key, one per key, deleted ones not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{Int32Type, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::PlannedPart;
use crate::definition::Definition;
use crate::memtable::Run;
use crate::merge::{Columns, Gather, Merge, PartSource, RunSource, Source, project, slices};
use crate::part::{Part, PartReader};
use crate::{Result, ScanRequest, SliceStats, TableSchema, TimeRange};

/// Rows of a scan whose keys no other slice has.
#[derive(Clone)]
pub struct Slice {
    shared: Arc<Shared>,
    time: TimeRange,
    /// The oldest first.
    parts: Arc<[PlannedPart]>,
    /// The oldest first; all newer than the parts.
    runs: Arc<[Arc<Run>]>,
}

/// What all slices of a scan have in common.
pub(crate) struct Shared {
    /// Under the stored names of columns.
    table: Arc<TableSchema>,
    request: ScanRequest,
    /// The times of rows that have not expired.
    kept: TimeRange,
    /// The columns that the reader gives, under their stored names.
    stored: SchemaRef,
    /// The columns that the reader gives.
    schema: SchemaRef,
}

impl Shared {
    pub(crate) fn new(definition: &Definition, request: &ScanRequest, kept: TimeRange) -> Self {
        let schema = |table: &TableSchema| {
            let fields = request.projection.iter().map(|&index| table.columns[index].field());
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let (stored, schema) = (schema(&definition.stored), schema(&definition.table));
        Self { table: Arc::clone(&definition.stored), request: request.clone(), kept, stored, schema }
    }
}

impl Slice {
    pub(super) fn new(shared: Arc<Shared>, time: TimeRange, parts: Vec<PlannedPart>, runs: Vec<Arc<Run>>) -> Self {
        Self { shared, time, parts: parts.into(), runs: runs.into() }
    }

    /// The columns that a reader gives: the projection in the order asked for.
    pub fn schema(&self) -> &SchemaRef {
        &self.shared.schema
    }

    /// Figures, known without reading.
    pub fn stats(&self) -> SliceStats {
        let row_groups: usize = self.parts.iter().map(|(_, plan)| plan.row_groups_all).sum();
        let read: usize = self.parts.iter().map(|(_, plan)| plan.row_groups.len()).sum();
        let part_rows: u64 = self.parts.iter().map(|(_, plan)| plan.rows).sum();
        let run_rows: u64 = self.runs.iter().map(|run| run.rows() as u64).sum();
        SliceStats {
            parts: self.parts.len(),
            row_groups,
            row_groups_pruned: row_groups - read,
            rows: part_rows + run_rows,
        }
    }

    /// Begins to read.
    ///
    /// # Errors
    /// What the disk, Parquet or Arrow answer; also while iterating.
    pub fn read(&self) -> Result<SliceReader> {
        let schema = Arc::clone(&self.shared.stored);
        let batches: Batches = match (self.parts.as_ref(), self.runs.as_ref()) {
            ([(part, plan)], []) if !part.record.deletes && self.keeps(part) => {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let reader = PartReader::new(part, names, plan)?;
                let schema = Arc::clone(&schema);
                Box::new(reader.map(move |batch| project(&batch?, &schema)))
            }
            ([], [run]) if run.marks.deleted.is_none() => self.single_run(run)?,
            _ => self.merged()?,
        };
        Ok(SliceReader { schema: Arc::clone(&self.shared.schema), batches: renamed(batches, &self.shared) })
    }

    /// Whether no row of a part has expired.
    fn keeps(&self, part: &Part) -> bool {
        part.record.time.is_none_or(|(min, _)| self.shared.kept.from <= min)
    }

    fn single_run(&self, run: &Run) -> Result<Batches> {
        let mut batch = project(&run.batch, &self.shared.stored)?;
        if let Some(keep) = self.keep(run)? {
            batch = arrow::compute::filter_record_batch(&batch, &keep)?;
        }
        Ok(Box::new(slices(batch).map(Ok)))
    }

    fn merged(&self) -> Result<Batches> {
        let (table, request) = (&self.shared.table, &self.shared.request);
        let columns = Arc::new(Columns::new(table, &request.projection));
        let mut sources: Vec<Source> = Vec::with_capacity(self.parts.len() + self.runs.len());
        for (part, plan) in self.parts.iter() {
            let rows = PartSource::new(&columns, part, plan)?;
            let (columns, kept) = (Arc::clone(&columns), self.shared.kept);
            sources.push(match self.keeps(part) {
                true => Box::new(rows),
                false => Box::new(rows.map(move |rows| columns.within(rows?, kept))),
            });
        }
        for run in self.runs.iter() {
            sources.push(Box::new(RunSource::new(&columns, run, self.keep(run)?.as_ref())?));
        }
        let position = |index: &usize| {
            let found = columns.indices.iter().position(|column| column == index);
            found.expect("the merge carries every projected column")
        };
        let gather = Gather::new(request.projection.iter().map(position).collect(), Arc::clone(&self.shared.stored));
        let mut merge = Merge::new(&columns, sources, false);
        Ok(Box::new(std::iter::from_fn(move || match merge.next_pieces() {
            Ok(pieces) if pieces.is_empty() => None,
            Ok(pieces) => Some(gather.batch(&pieces)),
            Err(error) => Some(Err(error)),
        })))
    }

    /// Which rows of a run the scan can want; all where absent.
    fn keep(&self, run: &Run) -> Result<Option<BooleanArray>> {
        let table = &self.shared.table;
        let mut keep = run.within(table, self.time);
        for filter in self.shared.request.tags.iter().filter(|filter| table.tags().contains(&filter.column)) {
            let Some(tags) = run.batch.column_by_name(&table.columns[filter.column].name) else { continue };
            let tags = tags.as_dictionary::<Int32Type>();
            let wanted: BTreeSet<&str> = filter.any_of.iter().map(String::as_str).collect();
            let values = tags.values().as_string::<i32>();
            let entries: Vec<bool> = values.iter().map(|v| v.is_some_and(|v| wanted.contains(v))).collect();
            let entry =
                |key: Option<i32>| key.and_then(|key| usize::try_from(key).ok()).is_some_and(|key| entries[key]);
            let matches: BooleanArray = tags.keys().iter().map(|key| Some(entry(key))).collect();
            keep = Some(match keep {
                Some(keep) => arrow::compute::and(&keep, &matches)?,
                None => matches,
            });
        }
        Ok(keep.filter(|keep| keep.true_count() < keep.len()))
    }
}

/// The batches under the names that callers know.
fn renamed(batches: Batches, shared: &Shared) -> Batches {
    if shared.stored == shared.schema {
        return batches;
    }
    let schema = Arc::clone(&shared.schema);
    Box::new(batches.map(move |batch| {
        let batch = batch?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)?)
    }))
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// The batches of a slice, at most 8192 rows each.
pub struct SliceReader {
    schema: SchemaRef,
    batches: Batches,
}

impl SliceReader {
    /// The columns: the projection in the order asked for.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Iterator for SliceReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}
