//! Turns frozen memtables into parts.
//!
//! **Invariant:** rows leave memory only after the manifest names the parts that hold them.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::manifest::{Edit, PartRecord};
use crate::mark::Marks;
use crate::memtable::{Frozen, Run};
use crate::merge::{Columns, Gather, Merge, PartSource, Piece, RunSource, Source, marks, project};
use crate::part::writer::{PartWriter, Written};
use crate::part::{Part, Profile, TEMPORARY, part_path};
use crate::schema::{DELETED, WHOLE};
use crate::state::TableState;
use crate::store::{Store, Watch};
use crate::system::Clock;
use crate::system::sync::{Ordering, Receiver};
use crate::window::{self, Histogram};
use crate::{FlushReport, Result, ScanRequest, TableSchema, TimeRange};

/// Chunks and rows of each that stand for all rows when encodings are chosen.
const SAMPLE_CHUNKS: usize = 4;
const SAMPLE_CHUNK_ROWS: usize = 2048;
/// The shortest and the longest pause before a flush that failed is tried again, in microseconds.
const PAUSE_MIN_US: u64 = 100_000;
const PAUSE_MAX_US: u64 = 30_000_000;

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

/// The pause after a failure, which doubles with each further one.
#[derive(Debug, Default)]
struct Backoff {
    pause_us: u64,
    until_us: u64,
}

impl Backoff {
    fn grow(&mut self, clock: &dyn Clock) {
        self.pause_us = (self.pause_us * 2).clamp(PAUSE_MIN_US, PAUSE_MAX_US);
        self.until_us = clock.monotonic_us() + self.pause_us;
    }

    fn left(&self, clock: &dyn Clock) -> Option<Duration> {
        let left = self.until_us.checked_sub(clock.monotonic_us()).filter(|&left| left > 0 && self.pause_us > 0)?;
        Some(Duration::from_micros(left))
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
    let saved = store.save_flush(table.id, &edit, replace);
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
        let runs = runs_within(schema, &frozen.runs, window)?;
        let below = table.parts.iter().any(|part| overlap(part.window(), window));
        match write_part(store, schema, &runs, window, below) {
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
pub(crate) fn write_part(
    store: &Store,
    schema: &TableSchema,
    runs: &[Arc<Run>],
    window: TimeRange,
    below: bool,
) -> Result<Option<Arc<Part>>> {
    let deletes = below && runs.iter().any(|run| run.marks.deleted.is_some());
    // A row over a deleted key in an older run becomes whole.
    let wholes = below && schema.merges_fields() && runs.iter().any(|run| run.marks.any());
    let named = |name: &str| runs.iter().any(|run| run.batch.column_by_name(name).is_some());
    let layout = Layout::new(schema, named, deletes, wholes);
    let source = |run: &Arc<Run>| Ok(Box::new(RunSource::new(&layout.columns, run, None)?) as Source);
    let merge = Merge::new(&layout.columns, runs.iter().map(source).collect::<Result<_>>()?, deletes || wholes);
    let mut profile = Profile::new(schema, &layout.schema);
    runs.iter().for_each(|run| profile.add(&run.batch));
    let sample = sample(&layout.columns.schema, runs)?;
    let sequence = runs.iter().map(|run| run.sequence).max().unwrap_or(0);
    let time = runs.iter().filter_map(|run| run.time).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    write_merged(store, schema, &layout, merge, (&profile, &sample), Made { sequence, window, time })
}

/// Writes one part of parts without marks, the oldest first.
pub(crate) fn merge_parts(
    store: &Store,
    schema: &TableSchema,
    parts: &[Arc<Part>],
    window: TimeRange,
) -> Result<Option<Arc<Part>>> {
    let footers = parts.iter().map(|part| part.footer()).collect::<Result<Vec<_>>>()?;
    let named = |name: &str| footers.iter().any(|footer| footer.schema().column_with_name(name).is_some());
    let layout = Layout::new(schema, named, false, false);
    let mut profile = Profile::new(schema, &layout.schema);
    parts.iter().try_for_each(|part| profile.add_part(part))?;
    let columns = Arc::new(Columns::new(schema, &layout.columns.indices));
    let mut sources = Vec::with_capacity(parts.len());
    for part in parts {
        let plan = part.plan(schema, &ScanRequest::default())?;
        sources.push(Box::new(PartSource::new(&columns, part, &plan)?) as Source);
    }
    let sample = match parts.first() {
        None => return Ok(None),
        Some(part) => {
            let plan = part.plan(schema, &ScanRequest::default())?;
            let first = PartSource::new(&columns, part, &plan)?.next().transpose()?;
            first.map_or_else(|| RecordBatch::new_empty(Arc::clone(&columns.schema)), |rows| rows.batch)
        }
    };
    let sequence = parts.iter().map(|part| part.record.sequence).max().unwrap_or(0);
    let time = parts.iter().filter_map(|part| part.record.time).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let merge = Merge::new(&layout.columns, sources, false);
    write_merged(store, schema, &layout, merge, (&profile, &sample), Made { sequence, window, time })
}

/// What is known of a part before it is written.
struct Made {
    sequence: u64,
    window: TimeRange,
    time: Option<(i64, i64)>,
}

/// Writes one part of what a merge gives; none where that is nothing.
fn write_merged(
    store: &Store,
    schema: &TableSchema,
    layout: &Layout,
    merge: Merge,
    (profile, sample): (&Profile, &RecordBatch),
    Made { sequence, window, time }: Made,
) -> Result<Option<Arc<Part>>> {
    let number = store.next_part.fetch_add(1, Ordering::Relaxed);
    let written = write_rows(store, schema, layout, merge, profile, sample, number);
    let Some(written) = written.inspect_err(|_| discard(store, number))? else { return Ok(None) };
    let record = PartRecord {
        number,
        rows: written.rows,
        bytes: written.bytes,
        deletes: layout.deletes,
        sequence,
        window: schema.time().map(|_| (window.from, window.to)),
        checksums: written.checksums,
        time,
    };
    Ok(Some(Arc::new(Part::new(Arc::clone(store.disk()), &store.parts_dir, record, Arc::clone(&store.footers)))))
}

/// Writes the file of a part; none where no row is left.
fn write_rows(
    store: &Store,
    schema: &TableSchema,
    layout: &Layout,
    mut merge: Merge,
    profile: &Profile,
    sample: &RecordBatch,
    number: u64,
) -> Result<Option<Written>> {
    let mut pieces = merge.next_pieces()?;
    if pieces.is_empty() {
        return Ok(None);
    }
    let mut writer = PartWriter::new(store.disk().as_ref(), &store.parts_dir, number, schema, profile, sample)?;
    while !pieces.is_empty() {
        writer.write(&layout.batch(&pieces)?)?;
        pieces = merge.next_pieces()?;
    }
    writer.finish().map(Some)
}

/// Removes what a failed write left of a part; what stays the next start removes.
fn discard(store: &Store, number: u64) {
    let path = part_path(&store.parts_dir, number);
    for path in [path.with_extension(TEMPORARY), path] {
        match store.disk().remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, file = %path.display(), "could not remove an unfinished part; the next start will");
            }
            _ => {}
        }
    }
}

/// The columns of a part: those that are named, in table order, and the marks behind them.
struct Layout {
    columns: Columns,
    gather: Gather,
    /// The part's columns.
    schema: SchemaRef,
    deletes: bool,
    wholes: bool,
}

impl Layout {
    fn new(table: &TableSchema, named: impl Fn(&str) -> bool, deletes: bool, wholes: bool) -> Self {
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
