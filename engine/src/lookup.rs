//! Whether keys exist in a table.
//!
//! **Invariant:** the newest version of a key decides; reads keys only.

use std::sync::Arc;

use arrow::array::BooleanArray;

use crate::key::{KeyView, key_text};
use crate::memtable::{Run, key_columns};
use crate::merge::{Columns, PartSource};
use crate::part::Part;
use crate::retention::kept;
use crate::state::TableState;
use crate::{Error, Result, ScanRequest, TimeRange};

/// Fails with [`Error::Duplicate`] where any of the keys exists, looking only at what came after commit `since`: that
/// earlier commits have none of the keys, or what of them was deleted, the caller has checked.
pub(crate) fn check_absent(table: &TableState, keys: &Run, since: u64) -> Result<()> {
    // What has expired does not exist.
    let open: Vec<bool> = match keys.within(&table.schema, kept(table)) {
        Some(kept) => kept.values().iter().collect(),
        None => vec![true; keys.rows()],
    };
    let left = open.iter().filter(|&&open| open).count();
    let mut search = Search { keys: &keys.key, open, left };
    let mut found = None;
    for run in table.runs().rev().filter(|run| run.sequence > since) {
        if search.left == 0 || found.is_some() {
            break;
        }
        found = search.visit(&run.key, run.marks.deleted.as_ref());
    }
    for part in table.parts.iter().rev().filter(|part| part.record.sequence > since) {
        if search.left == 0 || found.is_some() {
            break;
        }
        found = search.visit_part(table, part, keys)?;
    }
    match found {
        None => Ok(()),
        Some(row) => {
            let key = key_text(&table.definition.table, &key_columns(&table.schema, &keys.batch), row)?;
            Err(Error::Duplicate { table: table.schema.name.clone(), key })
        }
    }
}

/// Keys that are looked for, from the newest source to the oldest.
struct Search<'a> {
    keys: &'a KeyView,
    /// Keys that no source had so far.
    open: Vec<bool>,
    left: usize,
}

impl Search<'_> {
    /// Looks into sorted rows; answers the first key that exists there.
    fn visit(&mut self, rows: &KeyView, deleted: Option<&BooleanArray>) -> Option<usize> {
        if rows.len() == 0 {
            return None;
        }
        let first = self.keys.gallop(0, self.keys.len(), rows, 0);
        let mut at = 0;
        for key in first..self.keys.len() {
            at = rows.gallop(at, rows.len(), self.keys, key);
            if at == rows.len() {
                break;
            }
            if !self.open[key] || rows.compare(at, self.keys, key).is_ne() {
                continue;
            }
            if deleted.is_none_or(|deleted| !deleted.value(at)) {
                return Some(key);
            }
            self.open[key] = false;
            self.left -= 1;
        }
        None
    }

    fn visit_part(&mut self, table: &TableState, part: &Arc<Part>, keys: &Run) -> Result<Option<usize>> {
        let time = keys.time.map_or(TimeRange::ALL, |(min, max)| TimeRange { from: min, to: max.saturating_add(1) });
        if part.record.time.is_some_and(|(min, max)| !time.overlaps(min, max)) {
            return Ok(None);
        }
        let plan = part.plan_keys(&table.schema, &ScanRequest { time, ..ScanRequest::default() }, keys)?;
        if plan.row_groups.is_empty() {
            return Ok(None);
        }
        let columns = Arc::new(Columns::new(&table.schema, &[]));
        for rows in PartSource::new(&columns, part, &plan)? {
            let rows = rows?;
            let found = self.visit(&rows.key, rows.marks.deleted.as_ref());
            if found.is_some() || self.left == 0 {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
