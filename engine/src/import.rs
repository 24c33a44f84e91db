//! Many rows straight into parts, past the log and the memtables, visible in one step.
//!
//! Rows are collected up to a limit, sorted and written as parts that nobody knows yet. As long as they come in order of
//! time, those of the newest window stay back for what follows, so that a window ends in one part. Where they do not, the
//! parts of overlapping windows are merged in the end. Then the table's older rows leave memory, and one edit of the
//! manifest names the new parts, between two commits. After a crash before that the next start removes what was written.
//!
//! **Invariant:** a table has all rows of an import or none; memory is bounded, whatever the rows' number and order.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::append::prepare;
use crate::compaction::{Rows, merge_parts};
use crate::manifest::Edit;
use crate::memtable::{self, Run};
use crate::part::Part;
use crate::state::TableState;
use crate::store::Store;
use crate::{Error, Result, TimeRange, Write, flush, window};

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Rows that came, versions of one key counted apart.
    pub rows: u64,
    /// Parts that they are in.
    pub parts: usize,
    /// Bytes of these parts.
    pub bytes: u64,
}

/// What is done between commits.
type Step = Box<dyn FnOnce() -> Result<()> + Send>;

/// Imports all batches into a table; `alone` has the log's thread do something between commits.
pub(crate) fn run<E: From<Error>>(
    store: &Arc<Store>,
    table: &str,
    batches: impl IntoIterator<Item = Result<RecordBatch, E>>,
    alone: impl FnOnce(Step) -> Result<()>,
) -> Result<ImportReport, E> {
    let mut import = Import::new(store, table)?;
    for batch in batches {
        import.add(batch?)?;
    }
    Ok(import.finish(alone)?)
}

/// An import under way.
struct Import<'a> {
    store: &'a Arc<Store>,
    table: Arc<TableState>,
    runs: Vec<Arc<Run>>,
    report: ImportReport,
    /// Whether each batch came behind those before it in time, and the newest time.
    ordered: bool,
    newest: i64,
    parts: Parts,
}

/// Parts that the manifest does not know; their files go with them.
#[derive(Default)]
struct Parts(Vec<Arc<Part>>);

impl Drop for Parts {
    fn drop(&mut self) {
        self.0.iter().for_each(|part| part.retire());
    }
}

impl<'a> Import<'a> {
    fn new(store: &'a Arc<Store>, name: &str) -> Result<Self> {
        store.check_writable()?;
        let table = store.state().table(name).cloned().ok_or_else(|| Error::UnknownTable { table: name.into() })?;
        let (runs, parts) = (Vec::new(), Parts::default());
        Ok(Self { store, table, runs, report: ImportReport::default(), ordered: true, newest: i64::MIN, parts })
    }

    fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows() as u64;
        let Some(ready) = prepare(&self.table.definition, &Write::rows(&self.table.schema.name, batch))? else {
            return Ok(());
        };
        if let Some((min, max)) = ready.run.time {
            self.ordered &= min >= self.newest;
            self.newest = self.newest.max(max);
        }
        self.runs.push(Arc::new(ready.run));
        self.report.rows += rows;
        if memtable::size(&self.runs).0 > self.store.options.import_bytes_max {
            self.write(self.ordered)?;
        }
        Ok(())
    }

    /// Writes what is in memory, but where `hold_back` and there are several windows not the newest one.
    fn write(&mut self, hold_back: bool) -> Result<()> {
        let schema = &self.table.schema;
        let windows = flush::windows(schema, &self.runs);
        let runs = std::mem::take(&mut self.runs);
        let newest = windows.last().copied().filter(|_| hold_back && windows.len() > 1);
        if let Some(newest) = newest {
            self.runs = flush::runs_within(schema, &runs, newest)?;
        }
        for window in windows.into_iter().filter(|window| Some(*window) != newest) {
            let within = flush::runs_within(schema, &runs, window)?;
            self.parts.0.extend(flush::write_part(self.store, &self.table.definition, &within, window, false)?);
        }
        Ok(())
    }

    fn finish(mut self, alone: impl FnOnce(Step) -> Result<()>) -> Result<ImportReport> {
        self.write(false)?;
        self.merge_overlapping()?;
        if self.parts.0.is_empty() {
            return Ok(self.report);
        }
        self.report.parts = self.parts.0.len();
        self.report.bytes = self.parts.0.iter().map(|part| part.record.bytes).sum();
        // What was committed before is older, and must lie below: nearly all now, and what comes meanwhile between commits.
        flush_all(self.store, self.table.id)?;
        let (store, table) = (Arc::clone(self.store), Arc::clone(&self.table));
        let parts = std::mem::take(&mut self.parts);
        alone(Box::new(move || {
            flush_all(&store, table.id)?;
            install(&store, &table, parts)
        }))?;
        Ok(self.report)
    }

    /// Merges parts whose windows overlap, each group into one.
    fn merge_overlapping(&mut self) -> Result<()> {
        let windows: Vec<TimeRange> = self.parts.0.iter().map(|part| part.record.span()).collect();
        let mut merged = Parts::default();
        for (span, members) in window::groups(&windows) {
            let mut members: Vec<_> = members;
            members.sort_unstable();
            let parts: Vec<_> = members.into_iter().map(|member| Arc::clone(&self.parts.0[member])).collect();
            match parts.as_slice() {
                [_] => merged.0.extend(parts),
                _ => {
                    let rows = Rows { parts: &parts, window: span, seen: TimeRange::ALL, below: false };
                    merged.0.extend(merge_parts(self.store, &self.table.definition, &rows)?);
                }
            }
        }
        // Those that were merged are nobody's any more.
        let kept = |part: &Arc<Part>| merged.0.iter().any(|other| Arc::ptr_eq(part, other));
        self.parts.0.retain(|part| !kept(part));
        self.parts = merged;
        Ok(())
    }
}

fn flush_all(store: &Store, id: u64) -> Result<()> {
    flush::freeze(store, id);
    flush::flush(store, id).map(drop)
}

/// Names the parts in the manifest and puts them over those that the table has. Runs between commits, when no row of the
/// table is in memory: rows there would be flushed below the parts later.
fn install(store: &Store, table: &TableState, mut parts: Parts) -> Result<()> {
    let state = store.state();
    let gone = || Error::UnknownTable { table: table.schema.name.clone() };
    let now = state.table_by_id(table.id).ok_or_else(gone)?;
    // As if the next commit had made them: what was checked against the commits so far is checked against them too.
    let named: Vec<_> = parts.0.iter().map(|part| Arc::new(part.at(state.sequence + 1))).collect();
    let records = named.iter().map(|part| part.record.clone()).collect();
    let edit = Edit::Flush { table: table.id, sequence: now.flushed, parts: records };
    let name = now.schema.name.clone();
    let show = || {
        store.edit(|state| {
            if let Some(table) = state.table_mut(&name) {
                table.replace_parts(&[], named);
            }
        });
    };
    let saved = store.save_parts(table.id, &edit, show);
    if !matches!(saved, Ok(false)) {
        // The manifest names the files, or nobody knows whether it does.
        parts.0.clear();
    }
    if saved? { Ok(()) } else { Err(gone()) }
}
