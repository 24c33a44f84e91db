//! Turns frozen memtables into parts.
//!
//! **Invariant:** rows leave memory only after the manifest names the parts that hold them.

use std::sync::Arc;

use arrow::compute::{concat_batches, filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::backoff::Backoff;
use crate::build::{self, Layout, Made};
use crate::definition::Definition;
use crate::manifest::Edit;
use crate::memtable::{Frozen, Run};
use crate::merge::{RunSource, Source, project};
use crate::part::{Part, Profile};
use crate::retention::kept;
use crate::state::TableState;
use crate::store::{Store, Watch};
use crate::system::sync::{Ordering, Receiver};
use crate::window::{self, Histogram};
use crate::{FlushReport, Result, TableSchema, TimeRange};

/// Chunks and rows of each that stand for all rows when encodings are chosen.
const SAMPLE_CHUNKS: usize = 4;
const SAMPLE_CHUNK_ROWS: usize = 2048;

/// The thread that flushes: waits to be woken, flushes what is frozen, and keeps the log short. After a failure it waits
/// a while before it tries again.
pub(crate) fn work(store: &Store, wake: &Receiver<()>) {
    let _watch = Watch(store);
    let stopping = || store.stopping.load(Ordering::Relaxed);
    let clock = store.options.system.clock();
    let mut backoff = Backoff::default();
    while !stopping() {
        match backoff.left(clock) {
            None => drop(wake.recv()),
            Some(left) => drop(wake.recv_timeout(left)),
        }
        while !stopping() && store.failure().is_none() && backoff.left(clock).is_none() {
            let Some(id) = next_table(store) else { break };
            match flush(store, id) {
                Ok(_) => backoff = Backoff::default(),
                Err(_) => backoff.grow(clock),
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
        let fresh = flush_one(store, &table, &frozen);
        store.flushed(fresh.as_ref().map(drop));
        let fresh = fresh?;
        store.flushed_bytes.fetch_add(fresh.bytes, Ordering::Relaxed);
        store.wake_compactor();
        match &mut report {
            None => report = Some(fresh),
            Some(report) => {
                report.parts += fresh.parts;
                report.rows += fresh.rows;
                report.bytes += fresh.bytes;
            }
        }
    }
    Ok(report)
}

fn flush_one(store: &Store, table: &TableState, frozen: &Arc<Frozen>) -> Result<FlushReport> {
    let parts = write_parts(store, table, frozen)?;
    let report = FlushReport {
        table: table.schema.name.clone(),
        parts: parts.len(),
        rows: parts.iter().map(|part| part.record.rows).sum(),
        bytes: parts.iter().map(|part| part.record.bytes).sum(),
    };
    install(store, table, frozen, parts)?;
    // The rows are in parts: that the log is longer than it need be is no failure of the flush.
    if let Err(error) = store.trim_log() {
        tracing::warn!(error = error.chain(), "could not remove a part of the log that is not needed any more");
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
            // By number: a new tag may have made another of it meanwhile.
            table.frozen.retain(|other| other.sequence() != sequence);
            table.replace_parts(&[], parts);
            table.flushed = sequence;
            true
        });
        if !replaced {
            // Dropped in this moment: the drop's own manifest edit forgets the parts.
            orphans.iter().for_each(|part| part.retire());
        }
    };
    let saved = store.save_parts(table.id, &edit, replace);
    // After a failure that leaves this open the manifest may name them.
    if !matches!(saved, Ok(true)) && store.failure().is_none() {
        orphans.iter().for_each(|part| part.retire());
    }
    saved.map(drop)
}

fn write_parts(store: &Store, table: &TableState, frozen: &Frozen) -> Result<Vec<Arc<Part>>> {
    let schema = &table.schema;
    let mut parts = Vec::new();
    for window in windows(schema, &frozen.runs) {
        let runs = runs_within(schema, &frozen.runs, window.intersect(kept(table)))?;
        let below = table.parts.iter().any(|part| part.record.span().shares(window));
        match write_part(store, &table.definition, &runs, window, below) {
            Ok(part) => parts.extend(part),
            Err(error) => {
                parts.iter().for_each(|part: &Arc<Part>| part.retire());
                return Err(error);
            }
        }
    }
    Ok(parts)
}

/// The windows of time that rows are cut into, in order; all time for a keyed table.
pub(crate) fn windows(schema: &TableSchema, runs: &[Arc<Run>]) -> Vec<TimeRange> {
    match schema.time() {
        None => vec![TimeRange::ALL],
        Some(_) => window::choose(&histogram(schema, runs)),
    }
}

/// What lies in a window, of each run that has any.
pub(crate) fn runs_within(schema: &TableSchema, runs: &[Arc<Run>], window: TimeRange) -> Result<Vec<Arc<Run>>> {
    let mut within = Vec::new();
    for run in runs.iter().filter(|run| run.time.is_none_or(|(min, max)| window.overlaps(min, max))) {
        let run = match run.within(schema, window) {
            None => Arc::clone(run),
            Some(keep) => Arc::new(run.filter(schema, &keep)?),
        };
        if run.rows() > 0 {
            within.push(run);
        }
    }
    Ok(within)
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
pub(crate) fn write_part(
    store: &Store,
    definition: &Definition,
    runs: &[Arc<Run>],
    window: TimeRange,
    below: bool,
) -> Result<Option<Arc<Part>>> {
    let schema = &definition.stored;
    let named = |name: &str| runs.iter().any(|run| run.batch.column_by_name(name).is_some());
    let layout = Layout::new(
        schema,
        named,
        below && runs.iter().any(|run| run.marks.deleted.is_some()),
        // A row over a deleted key in an older run becomes whole.
        below && schema.merges_fields() && runs.iter().any(|run| run.marks.any()),
    );
    let source = |run: &Arc<Run>| Ok(Box::new(RunSource::new(&layout.columns, run, None)?) as Source);
    let sources = runs.iter().map(source).collect::<Result<_>>()?;
    let mut profile = Profile::new(schema, &layout.schema);
    runs.iter().for_each(|run| profile.add(&run.batch));
    let sample = sample(&layout.columns.schema, runs)?;
    let sequence = runs.iter().map(|run| run.sequence).max().unwrap_or(0);
    build::write(store, definition, &layout, sources, (&profile, &sample), Made { window, sequence, age: None })
}

/// A few chunks of the largest run, without deleted rows: these hold nulls where the table takes none.
fn sample(schema: &SchemaRef, runs: &[Arc<Run>]) -> Result<RecordBatch> {
    let Some(run) = runs.iter().max_by_key(|run| run.rows()) else {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    };
    let mut batch = project(&run.batch, schema)?;
    if let Some(deleted) = &run.marks.deleted {
        batch = filter_record_batch(&batch, &not(deleted)?)?;
    }
    let stride = batch.num_rows().div_ceil(SAMPLE_CHUNKS).max(1);
    let starts = (0..batch.num_rows()).step_by(stride);
    let chunks: Vec<_> =
        starts.map(|start| batch.slice(start, stride.min(SAMPLE_CHUNK_ROWS).min(batch.num_rows() - start))).collect();
    Ok(concat_batches(schema, &chunks)?)
}
