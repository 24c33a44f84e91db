//! A part of a scan that can be read on its own.
//!
//! **Invariant:** gives rows sorted by key, one per key, deleted ones not at all, and of the others exactly those that satisfy
//! the request.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::PlannedPart;
use crate::condition::Conditions;
use crate::definition::Definition;
use crate::memtable::Run;
use crate::merge::{Columns, Gather, Merge, PartSource, Piece, RunSource, Source, project, slices};
use crate::part::{Part, PartRows, ReadPlan};
use crate::{PartRead, Result, ScanRequest, SliceStats, TableSchema, TimeRange};

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

    /// The times that its rows lie in.
    pub fn span(&self) -> TimeRange {
        self.time
    }

    /// Those of its rows that lie in a range of times.
    pub fn within(&self, range: TimeRange) -> Self {
        Self { time: self.time.intersect(range), ..self.clone() }
    }

    /// Figures, known without reading.
    pub fn stats(&self) -> SliceStats {
        let row_groups: usize = self.parts.iter().map(|(_, plan)| plan.row_groups_all).sum();
        let read: usize = self.parts.iter().map(|(_, plan)| plan.row_groups.len()).sum();
        let part_rows: u64 = self.parts.iter().map(|(part, plan)| self.rows_of(part, plan)).sum();
        let run_rows: u64 = self.runs.iter().map(|run| run.rows() as u64).sum();
        SliceStats {
            parts: self.parts.len(),
            row_groups,
            row_groups_pruned: row_groups - read,
            rows: part_rows + run_rows,
        }
    }

    /// What is read of each part.
    ///
    /// # Errors
    /// What reading the parts' footers may answer.
    pub fn reads(&self) -> Result<Vec<PartRead>> {
        let conditions = self.conditions();
        let stored = self.shared.stored.fields().iter().map(|field| field.name().as_str());
        let names: BTreeSet<&str> = stored.chain(conditions.columns()).collect();
        self.parts.iter().map(|(part, plan)| part.cost(plan, &names)).collect()
    }

    /// Begins to read.
    ///
    /// # Errors
    /// What the disk, Parquet or Arrow answer; also while iterating.
    pub fn read(&self) -> Result<SliceReader> {
        let schema = Arc::clone(&self.shared.stored);
        let batches: Batches = match (self.parts.as_ref(), self.runs.as_ref()) {
            ([(part, plan)], []) if !part.record.deletes => {
                let conditions = self.conditions();
                let conditions = if self.holds_all(part) { conditions.without_time() } else { conditions };
                Box::new(PartRows::new(part, &schema, conditions, plan)?)
            }
            ([], [run]) if run.marks.deleted.is_none() => self.single_run(run)?,
            _ => self.merged()?,
        };
        Ok(SliceReader { schema: Arc::clone(&self.shared.schema), batches: renamed(batches, &self.shared) })
    }

    fn single_run(&self, run: &Run) -> Result<Batches> {
        let mut batch = run.batch.clone();
        if let Some(keep) = self.conditions().keep(&batch)? {
            batch = arrow::compute::filter_record_batch(&batch, &keep)?;
        }
        Ok(Box::new(slices(project(&batch, &self.shared.stored)?).map(Ok)))
    }

    fn merged(&self) -> Result<Batches> {
        let (table, request) = (&self.shared.table, &self.shared.request);
        let conditions = self.conditions();
        let keys = conditions.of_key(table);
        let looked_at = request.fields.iter().map(|filter| filter.column);
        let wanted: Vec<usize> = request.projection.iter().copied().chain(looked_at).collect();
        let columns = Arc::new(Columns::new(table, &wanted));
        let mut sources: Vec<Source> = Vec::with_capacity(self.parts.len() + self.runs.len());
        for (part, plan) in self.parts.iter() {
            let keys = if self.holds_all(part) { keys.without_time() } else { keys.clone() };
            sources.push(Box::new(PartSource::of_keys(&columns, part, plan, keys)?));
        }
        for run in self.runs.iter() {
            sources.push(Box::new(RunSource::new(&columns, run, keys.keep(&run.batch)?.as_ref())?));
        }
        let needed = |field: &&Arc<Field>| {
            let name = field.name().as_str();
            self.shared.stored.column_with_name(name).is_some() || conditions.columns().any(|other| other == name)
        };
        let fields: Vec<_> = columns.schema.fields().iter().filter(needed).cloned().collect();
        let position = |field: &Arc<Field>| columns.schema.index_of(field.name());
        let positions = fields.iter().map(position).collect::<Result<_, _>>()?;
        let gather = Gather::new(positions, Arc::new(Schema::new(fields)));
        let mut merge = Merge::new(&columns, sources, false);
        let schema = Arc::clone(&self.shared.stored);
        let filtered = move |pieces: Vec<Piece>| -> Result<RecordBatch> {
            let mut batch = gather.batch(&pieces)?;
            if let Some(keep) = conditions.keep(&batch)? {
                batch = arrow::compute::filter_record_batch(&batch, &keep)?;
            }
            project(&batch, &schema)
        };
        let batches = std::iter::from_fn(move || match merge.next_pieces() {
            Ok(pieces) if pieces.is_empty() => None,
            Ok(pieces) => Some(filtered(pieces)),
            Err(error) => Some(Err(error)),
        });
        let any_rows = |batch: &Result<RecordBatch>| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0);
        Ok(Box::new(batches.filter(any_rows)))
    }

    /// The slice's times, but for those whose rows have expired.
    fn time(&self) -> TimeRange {
        self.time.intersect(self.shared.kept)
    }

    /// Whether no row of a part lies outside the slice's times.
    fn holds_all(&self, part: &Part) -> bool {
        part.record.time.is_some_and(|(min, max)| self.time().covers(min, max))
    }

    /// The share of a part's planned rows that lie in the slice's times, if they are even.
    fn rows_of(&self, part: &Part, plan: &ReadPlan) -> u64 {
        let Some((min, max)) = part.record.time else { return plan.rows };
        let inside = self.time.intersect(TimeRange { from: min, to: max.saturating_add(1) });
        let width = |range: TimeRange| u128::from(range.to.abs_diff(range.from));
        let rows = u128::from(plan.rows) * width(inside) / u128::from(max.abs_diff(min)).saturating_add(1);
        u64::try_from(rows).map_or(plan.rows, |rows| rows.clamp(1, plan.rows))
    }

    fn conditions(&self) -> Conditions {
        Conditions::new(&self.shared.table, &self.shared.request, self.time())
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
