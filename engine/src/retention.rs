//! Lets go of rows that are older than their table keeps them.
//!
//! Each table has a cut-off, which only ever advances: rows before it are seen by nobody any more. Parts that lie wholly
//! before it are removed at once; what else is before it goes when its part is merged or its memtable is flushed. A row that
//! comes late, for a time before the cut-off, is taken and never seen.
//!
//! **Invariant:** a cut-off is in the manifest before anybody acts on it, so a restart brings no row back.

use crate::manifest::Edit;
use crate::state::TableState;
use crate::store::Store;
use crate::{Result, TimeRange};

/// The cut-off advances in steps of this part of the time for which rows are kept, so that the manifest stays short.
const STEPS: i64 = 256;

/// Advances a table's cut-off to what the clock says; answers how many parts went.
pub(crate) fn expire(store: &Store, id: u64) -> Result<usize> {
    let _no_compaction = store.compacting.lock();
    store.check_writable()?;
    let state = store.state();
    let Some(table) = state.table_by_id(id) else { return Ok(0) };
    let Some(before) = due(table, store.options.system.clock().now_us()) else { return Ok(0) };
    let gone = |part: &&std::sync::Arc<crate::part::Part>| part.record.time.is_some_and(|(_, max)| max < before);
    let expired: Vec<_> = table.parts.iter().filter(gone).cloned().collect();
    let removed: Vec<u64> = expired.iter().map(|part| part.record.number).collect();
    let edit = Edit::Expire { table: id, before, removed: removed.clone() };
    let saved = store.save_parts(id, &edit, || {
        store.edit(|state| {
            let name = state.table_by_id(id).map(|table| table.schema.name.clone());
            if let Some(table) = name.and_then(|name| state.table_mut(&name)) {
                table.replace_parts(&removed, Vec::new());
                table.kept_from = before;
            }
        });
    })?;
    if saved {
        expired.iter().for_each(|part| part.retire());
        tracing::debug!(table = table.schema.name, before, parts = expired.len(), "expired rows");
    }
    Ok(expired.len())
}

/// The cut-off that a table should have by now, where it lies behind the one that it has.
fn due(table: &TableState, now_us: i64) -> Option<i64> {
    let retention = table.schema.retention?;
    let step = (retention / STEPS).max(1);
    let before = now_us.checked_sub(retention)?.div_euclid(step).checked_mul(step)?;
    (before > table.kept_from).then_some(before)
}

/// The times that are seen of a table.
pub(crate) fn kept(table: &TableState) -> TimeRange {
    TimeRange { from: table.kept_from, to: i64::MAX }
}
