//! Merges parts, so that tables stay in few large parts that do not overlap.
//!
//! **Invariant:** never holds up writes or reads: parts are read and written aside, and one edit of the manifest puts the
//! new ones in the place of the old; snapshots keep the old ones until they are dropped.

mod choose;
mod merge;

use std::sync::Arc;
use std::time::Duration;

use self::choose::{Candidate, Effort, Plan, choose};
pub(crate) use self::merge::{Rows, merge_parts};
use crate::backoff::Backoff;
use crate::manifest::Edit;
use crate::part::Part;
use crate::retention::expire;
use crate::state::TableState;
use crate::store::{Store, Watch};
use crate::system::sync::{Ordering, Receiver};
use crate::{CompactionReport, Error, Result, TimeRange};

/// Time without a flush after which a table counts as quiet.
const QUIET: Duration = Duration::from_secs(60);
/// Windows are at least so many times narrower than the time for which rows are kept.
const WINDOWS_KEPT: i64 = 8;

/// The thread that compacts: waits for flushes, and merges what pays; once they cease, what pays then. It also lets rows
/// expire.
pub(crate) fn work(store: &Store, wake: &Receiver<()>) {
    let _watch = Watch(store);
    let stopping = || store.stopping.load(Ordering::Relaxed);
    let clock = store.options.system.clock();
    let (mut backoff, mut quiet) = (Backoff::default(), false);
    while !stopping() {
        let woken = match backoff.left(clock) {
            Some(left) => wake.recv_timeout(left).is_ok(),
            None if quiet && !any_expire(store) => wake.recv().is_ok(),
            None => wake.recv_timeout(QUIET).is_ok(),
        };
        if backoff.left(clock).is_some() {
            continue;
        }
        quiet = !woken;
        let effort = if quiet { Effort::Quiet } else { Effort::Steady };
        match round(store, effort) {
            Ok(()) | Err(Error::Closed) => backoff = Backoff::default(),
            Err(error) => {
                tracing::warn!(error = error.chain(), "a compaction failed: its parts stay as they are");
                backoff.grow(clock);
                quiet = false;
            }
        }
    }
}

/// Lets rows expire and merges what pays. A table that fails, since a part of it is damaged, keeps no other from its turn;
/// answers the first failure.
fn round(store: &Store, effort: Effort) -> Result<()> {
    let going = || !store.stopping.load(Ordering::Relaxed) && store.failure().is_none();
    let one = |id: u64| {
        expire(store, id)?;
        while going() && step(store, id, effort)?.is_some() {}
        Ok(())
    };
    let ids: Vec<u64> = store.state().tables.values().map(|table| table.id).collect();
    let outcomes: Vec<Result<()>> = ids.into_iter().map(one).collect();
    outcomes.into_iter().collect()
}

fn any_expire(store: &Store) -> bool {
    store.state().tables.values().any(|table| table.schema.retention.is_some())
}

/// Merges parts of a table until nothing is left to merge; none where there was nothing or the table is gone.
pub(crate) fn compact(store: &Store, id: u64) -> Result<Option<CompactionReport>> {
    let mut all: Option<CompactionReport> = None;
    while let Some(report) = step(store, id, Effort::Full)? {
        match &mut all {
            None => all = Some(report),
            Some(all) => {
                all.merged += report.merged;
                all.parts += report.parts;
                all.rows += report.rows;
                all.bytes += report.bytes;
            }
        }
    }
    Ok(all)
}

/// One merge of a table; none where nothing is worth it or the table is gone.
fn step(store: &Store, id: u64, effort: Effort) -> Result<Option<CompactionReport>> {
    let _one_at_a_time = store.compacting.lock();
    store.check_writable()?;
    let state = store.state();
    let Some(table) = state.table_by_id(id) else { return Ok(None) };
    let candidates: Vec<_> = table.parts.iter().map(|part| Candidate::new(&part.record)).collect();
    let width_max = table.schema.retention.map_or(i64::MAX, |retention| retention / WINDOWS_KEPT);
    let Some(plan) = choose(&candidates, effort, width_max).or_else(|| behind(table)) else { return Ok(None) };
    let parts = merge::merge(store, table, &plan)?;
    let report = CompactionReport {
        table: table.schema.name.clone(),
        merged: plan.inputs.len(),
        parts: parts.len(),
        rows: parts.iter().map(|part| part.record.rows).sum(),
        bytes: parts.iter().map(|part| part.record.bytes).sum(),
    };
    tracing::debug!(
        table = report.table,
        merged = report.merged,
        parts = report.parts,
        rows = report.rows,
        "compacted"
    );
    store.compacted_bytes.fetch_add(report.bytes, Ordering::Relaxed);
    install(store, table, plan, parts)?;
    Ok(Some(report))
}

/// A part that was written before a rollup was declared, to be written anew with its blocks.
fn behind(table: &TableState) -> Option<Plan> {
    let rollups = &table.definition.rollups;
    let behind = |part: &&Arc<Part>| rollups.keys().any(|id| !part.record.rollups.contains(id));
    let part = table.parts.iter().rev().find(behind)?;
    let (from, to) = part.record.window?;
    Some(Plan { inputs: vec![part.record.number], windows: vec![TimeRange { from, to }] })
}

/// Puts parts in the place of those that they were merged from.
fn install(store: &Store, table: &TableState, plan: Plan, parts: Vec<Arc<Part>>) -> Result<()> {
    let records = parts.iter().map(|part| part.record.clone()).collect();
    let edit = Edit::Compact { table: table.id, removed: plan.inputs.clone(), parts: records };
    let fresh = parts.clone();
    let replace = || {
        let replaced = store.edit(|state| {
            let name = state.table_by_id(table.id).map(|table| table.schema.name.clone());
            let Some(table) = name.and_then(|name| state.table_mut(&name)) else { return false };
            table.replace_parts(&plan.inputs, parts);
            true
        });
        if !replaced {
            // Dropped in this moment: the drop's own manifest edit forgets the parts.
            fresh.iter().for_each(|part| part.retire());
        }
    };
    let saved = store.save_parts(table.id, &edit, replace);
    match &saved {
        Ok(true) => {
            let merged = table.parts.iter().filter(|part| plan.inputs.contains(&part.record.number));
            merged.for_each(|part| part.retire());
        }
        // After a failure that leaves this open the manifest may name the new ones.
        _ if store.failure().is_none() => fresh.iter().for_each(|part| part.retire()),
        _ => {}
    }
    saved.map(drop)
}
