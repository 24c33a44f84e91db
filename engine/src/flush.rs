//! Turns frozen memtables into parts.
//!
//! **Invariant:** rows leave memory only after the manifest names the parts that hold them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use crossbeam::channel::Receiver;

use crate::manifest::{Edit, PartRecord};
use crate::mark::Marks;
use crate::memtable::{Frozen, Run};
use crate::merge::{Columns, Gather, Merge, Piece, RunSource, Source, marks, project};
use crate::part::Part;
use crate::part::writer::PartWriter;
use crate::schema::{DELETED, WHOLE};
use crate::state::TableState;
use crate::store::{Store, Watch};
use crate::window::{self, Histogram};
use crate::{FlushReport, Result, TableSchema, TimeRange};

/// Chunks and rows of each that stand for all rows when encodings are chosen.
const SAMPLE_CHUNKS: usize = 4;
const SAMPLE_CHUNK_ROWS: usize = 8192;

/// The thread that flushes: waits to be woken, flushes what is frozen, and keeps the log short.
pub(crate) fn work(store: &Store, wake: &Receiver<()>) {
    let _watch = Watch(store);
    while wake.recv().is_ok() && !store.stopping.load(Ordering::Relaxed) {
        while store.failure().is_none() && !store.stopping.load(Ordering::Relaxed) {
            let Some(id) = next_table(store) else { break };
            if let Err(error) = flush(store, id) {
                store.poison(&error);
            }
        }
    }
}

/// The table to flush next: one with frozen rows, or the one that keeps a log alive that has grown too long.
fn next_table(store: &Store) -> Option<u64> {
    let state = store.state();
    let frozen = state.tables.values().find(|table| !table.frozen.is_empty());
    if let Some(table) = frozen {
        return Some(table.id);
    }
    if store.log_bytes() <= store.options.log_bytes_max {
        return None;
    }
    let oldest = state.tables.values().filter_map(|table| Some((table.first_unflushed()?, table.id))).min();
    let (_, id) = oldest?;
    freeze(store, id);
    Some(id)
}

/// Sets a table's active rows aside.
pub(crate) fn freeze(store: &Store, id: u64) {
    store.edit(|state| {
        let name = state.table_by_id(id).map(|table| table.schema.name.clone());
        if let Some(table) = name.and_then(|name| state.table_mut(&name)) {
            table.freeze();
        }
    });
}

/// Flushes all frozen memtables of a table; none where it is gone.
pub(crate) fn flush(store: &Store, id: u64) -> Result<Option<FlushReport>> {
    let _one_at_a_time = store.flushing.lock();
    let mut report = None;
    while let Some((table, frozen)) = next_frozen(store, id) {
        store.check_writable()?;
        let parts = write_parts(store, &table, &frozen).inspect_err(|error| store.poison(error))?;
        let report =
            report.get_or_insert(FlushReport { table: table.schema.name.clone(), rows: 0, parts: 0, bytes: 0 });
        report.parts += parts.len();
        report.rows += parts.iter().map(|part| part.record.rows).sum::<u64>();
        report.bytes += parts.iter().map(|part| part.record.bytes).sum::<u64>();
        install(store, &table, &frozen, parts)?;
        store.announce_room();
        store.trim_log().inspect_err(|error| store.poison(error))?;
    }
    Ok(report)
}

fn next_frozen(store: &Store, id: u64) -> Option<(Arc<TableState>, Arc<Frozen>)> {
    let state = store.state();
    let table = state.table_by_id(id)?;
    Some((Arc::clone(table), Arc::clone(table.frozen.first()?)))
}

/// Names the parts in the manifest and puts them in the memtable's place.
fn install(store: &Store, table: &TableState, frozen: &Arc<Frozen>, parts: Vec<Arc<Part>>) -> Result<()> {
    let sequence = frozen.sequence();
    let records = parts.iter().map(|part| part.record.clone()).collect();
    let edit = Edit::Flush { table: table.id, sequence, parts: records };
    let orphans = parts.clone();
    let replace = || {
        let replaced = store.edit(|state| {
            let name = state.table_by_id(table.id).map(|table| table.schema.name.clone());
            let Some(table) = name.and_then(|name| state.table_mut(&name)) else { return false };
            table.frozen.retain(|other| !Arc::ptr_eq(other, frozen));
            table.parts.extend(parts);
            table.flushed = sequence;
            true
        });
        if !replaced {
            // Dropped in this moment: the drop's own manifest edit forgets the parts.
            orphans.iter().for_each(|part| part.retire());
        }
    };
    if !store.save_flush(table.id, &edit, replace)? {
        orphans.iter().for_each(|part| part.retire());
    }
    Ok(())
}

fn write_parts(store: &Store, table: &TableState, frozen: &Frozen) -> Result<Vec<Arc<Part>>> {
    let schema = &table.schema;
    let windows = match schema.time() {
        None => vec![TimeRange::ALL],
        Some(_) => window::choose(&histogram(schema, &frozen.runs)),
    };
    let mut parts = Vec::new();
    for window in windows {
        let mut runs = Vec::new();
        for run in frozen.runs.iter().filter(|run| run.time.is_none_or(|(min, max)| window.overlaps(min, max))) {
            let keep = run.within(schema, window);
            let run = match keep {
                None => Arc::clone(run),
                Some(keep) => Arc::new(run.filter(schema, &keep)?),
            };
            if run.rows() > 0 {
                runs.push(run);
            }
        }
        let below = table.parts.iter().any(|part| overlap(part.window(), window));
        parts.extend(write_part(store, schema, &runs, window, below)?);
    }
    Ok(parts)
}

fn overlap(a: TimeRange, b: TimeRange) -> bool {
    a.from < b.to && b.from < a.to
}

fn histogram(schema: &TableSchema, runs: &[Arc<Run>]) -> Histogram {
    let mut histogram = Histogram::default();
    for times in runs.iter().filter_map(|run| run.times(schema)) {
        histogram.add(times.values().iter().copied());
    }
    histogram
}

/// Writes one part of sorted runs, the oldest first; none where nothing is left of them. Marks are kept only where older
/// parts lie `below`.
fn write_part(
    store: &Store,
    schema: &TableSchema,
    runs: &[Arc<Run>],
    window: TimeRange,
    below: bool,
) -> Result<Option<Arc<Part>>> {
    let deletes = below && runs.iter().any(|run| run.marks.deleted.is_some());
    // A row over a deleted key in an older run becomes whole.
    let wholes = below && schema.merges_fields() && runs.iter().any(|run| run.marks.any());
    let layout = Layout::new(schema, runs, deletes, wholes);
    let source = |run: &Arc<Run>| Ok(Box::new(RunSource::new(&layout.columns, run, None)?) as Source);
    let mut merge = Merge::new(&layout.columns, runs.iter().map(source).collect::<Result<_>>()?, deletes || wholes);
    let mut pieces = merge.next_pieces()?;
    if pieces.is_empty() {
        return Ok(None);
    }
    let number = store.next_part.fetch_add(1, Ordering::Relaxed);
    let disk = store.disk();
    let sample = sample(&layout.columns.schema, runs)?;
    let file = Arc::clone(&layout.schema);
    let mut writer = PartWriter::new(disk.as_ref(), &store.parts_dir, number, schema, file, &sample)?;
    while !pieces.is_empty() {
        writer.write(&layout.batch(&pieces)?)?;
        pieces = merge.next_pieces()?;
    }
    let written = writer.finish()?;
    let telemetry = schema.time().is_some();
    let record = PartRecord {
        number,
        rows: written.rows,
        bytes: written.bytes,
        deletes,
        sequence: runs.iter().map(|run| run.sequence).max().unwrap_or(0),
        window: telemetry.then_some((window.from, window.to)),
        checksums: written.checksums,
        time: runs.iter().filter_map(|run| run.time).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
    };
    Ok(Some(Arc::new(Part::new(Arc::clone(disk), &store.parts_dir, record, Arc::clone(&store.footers)))))
}

/// The columns of a part: those that any run names, in table order, and the marks behind them.
struct Layout {
    columns: Columns,
    gather: Gather,
    /// The part's columns.
    schema: SchemaRef,
    deletes: bool,
    wholes: bool,
}

impl Layout {
    fn new(table: &TableSchema, runs: &[Arc<Run>], deletes: bool, wholes: bool) -> Self {
        let named = |name: &str| runs.iter().any(|run| run.batch.column_by_name(name).is_some());
        let wanted: Vec<usize> = (0..table.columns.len()).filter(|&i| named(&table.columns[i].name)).collect();
        let columns = Columns::new(table, &wanted);
        let field = |&index: &usize| {
            let column = &table.columns[index];
            let nullable = column.nullable || (deletes && !table.key.contains(&index));
            Field::new(&column.name, column.data_type.clone(), nullable)
        };
        let mut fields: Vec<Field> = wanted.iter().map(field).collect();
        let position =
            |index: &usize| columns.indices.iter().position(|i| i == index).expect("wanted columns are carried");
        let positions = wanted.iter().map(position).collect();
        let gather = Gather::new(positions, Arc::new(Schema::new(fields.clone())));
        let hidden = [(DELETED, deletes), (WHOLE, wholes)].into_iter().filter(|(_, there)| *there);
        fields.extend(hidden.map(|(name, _)| Field::new(name, DataType::Boolean, false)));
        Self { columns, gather, schema: Arc::new(Schema::new(fields)), deletes, wholes }
    }

    fn batch(&self, pieces: &[Piece]) -> Result<RecordBatch> {
        let batch = self.gather.batch(pieces)?;
        if !self.deletes && !self.wholes {
            return Ok(batch);
        }
        let none = || BooleanArray::from(vec![false; batch.num_rows()]);
        let Marks { deleted, whole } = marks(pieces);
        let mut columns = batch.columns().to_vec();
        for (_, marks) in [(self.deletes, deleted), (self.wholes, whole)].into_iter().filter(|(there, _)| *there) {
            columns.push(Arc::new(marks.unwrap_or_else(none)) as ArrayRef);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// A few chunks of the largest run.
fn sample(schema: &SchemaRef, runs: &[Arc<Run>]) -> Result<RecordBatch> {
    let Some(run) = runs.iter().max_by_key(|run| run.rows()) else {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    };
    let batch = project(&run.batch, schema)?;
    let stride = batch.num_rows().div_ceil(SAMPLE_CHUNKS).max(1);
    let starts = (0..batch.num_rows()).step_by(stride);
    let chunks: Vec<_> =
        starts.map(|start| batch.slice(start, stride.min(SAMPLE_CHUNK_ROWS).min(batch.num_rows() - start))).collect();
    Ok(concat_batches(schema, &chunks)?)
}
