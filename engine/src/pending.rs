//! Writes that wait for their commit, and the database as it would be with them.
//!
//! **Invariant:** nothing here is durable or visible to others; what is prepared was checked against the rows that its
//! snapshot shows, and [`crate::Db::commit_pending`] checks again what others committed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::append::prepare;
use crate::commit::RowsWrite;
use crate::definition::Definition;
use crate::log::entry;
use crate::lookup::check_absent;
use crate::memtable::{Run, choose_merge};
use crate::snapshot::Snapshot;
use crate::state::{Change, State, TableState};
use crate::{COMMIT_BYTES_MAX, Error, Result, Write};

/// Writes of a transaction, in order.
#[derive(Default)]
pub struct Pending {
    writes: Vec<RowsWrite>,
    bytes: usize,
    /// What scans of the tables see besides: the same rows in few runs, by table.
    tables: BTreeMap<String, Waiting>,
    /// The oldest commit that a write was checked against.
    since: Option<u64>,
}

/// Rows of one table that wait.
#[derive(Clone)]
struct Waiting {
    id: u64,
    definition: Arc<Definition>,
    /// The oldest first.
    runs: Vec<Arc<Run>>,
}

/// A place among pending writes to go back to.
pub struct Mark {
    writes: usize,
    bytes: usize,
    tables: BTreeMap<String, Waiting>,
}

/// Writes that were checked against a snapshot, ready to be pushed.
pub struct PreparedWrites {
    writes: Vec<RowsWrite>,
    since: u64,
}

impl Snapshot {
    /// Checks and sorts writes against the rows of this snapshot: all of them, or none.
    ///
    /// # Errors
    /// As [`crate::Db::commit`].
    pub fn prepare(&self, writes: &[Write]) -> Result<PreparedWrites> {
        let state = self.state();
        Ok(PreparedWrites { writes: prepare_all(state, writes)?, since: state.sequence })
    }
}

impl Pending {
    /// Appends writes that were prepared on [`Self::over`] a snapshot.
    ///
    /// # Errors
    /// [`Error::InvalidRow`] where it would be more than one commit may hold; then nothing was appended.
    pub fn push(&mut self, prepared: PreparedWrites) -> Result<()> {
        let bytes: usize = prepared.writes.iter().map(|write| write.encoded.len()).sum();
        if let Some(first) = prepared.writes.first()
            && self.bytes + bytes > COMMIT_BYTES_MAX
        {
            return Err(too_large(&first.table));
        }
        let mut tables = self.tables.clone();
        for write in &prepared.writes {
            let fresh = || Waiting { id: write.id, definition: Arc::clone(&write.definition), runs: Vec::new() };
            let waiting = tables.entry(write.table.clone()).or_insert_with(fresh);
            if waiting.id != write.id || !Arc::ptr_eq(&waiting.definition, &write.definition) {
                // Altered meanwhile: the commit will say so.
                *waiting = fresh();
            }
            waiting.runs.push(Arc::clone(&write.run));
            waiting.merge()?;
        }
        self.tables = tables;
        self.writes.extend(prepared.writes);
        self.bytes += bytes;
        self.since = Some(self.since.map_or(prepared.since, |since| since.min(prepared.since)));
        Ok(())
    }

    /// A snapshot that shows the pending rows over its own.
    pub fn over(&self, base: &Snapshot) -> Snapshot {
        if self.tables.is_empty() {
            return base.clone();
        }
        let mut state = State::clone(base.state());
        let sequence = state.sequence + 1;
        for (name, waiting) in &self.tables {
            if let Some(table) = state.table_mut(name).filter(|table| waiting.is_of(table)) {
                let newest = |run: &Arc<Run>| Arc::new(Run::clone(run).at(sequence));
                table.active.extend(waiting.runs.iter().map(newest));
            }
        }
        Snapshot::new(Arc::new(state))
    }

    /// The tables with pending rows.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes that wait, as in the log.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place behind all that waits now.
    pub fn mark(&self) -> Mark {
        Mark { writes: self.writes.len(), bytes: self.bytes, tables: self.tables.clone() }
    }

    /// Forgets what was pushed behind a mark of the same writes.
    pub fn undo_to(&mut self, mark: &Mark) {
        self.writes.truncate(mark.writes);
        self.bytes = mark.bytes;
        self.tables = mark.tables.clone();
    }

    /// The writes, and the oldest commit that they were checked against.
    pub(crate) fn into_writes(self) -> (Vec<RowsWrite>, u64) {
        (self.writes, self.since.unwrap_or(0))
    }
}

impl Waiting {
    /// Whether the table is still as it was.
    fn is_of(&self, table: &TableState) -> bool {
        self.id == table.id && Arc::ptr_eq(&self.definition, &table.definition)
    }

    /// Merges small runs until they are few.
    fn merge(&mut self) -> Result<()> {
        loop {
            let rows: Vec<_> = self.runs.iter().map(|run| run.rows()).collect();
            let Some(range) = choose_merge(&rows) else { return Ok(()) };
            let merged = Arc::new(Run::merged(&self.definition.stored, &self.runs[range.clone()])?);
            self.runs.splice(range, [merged]);
        }
    }
}

fn too_large(table: &str) -> Error {
    let reason = format!("one commit may hold {COMMIT_BYTES_MAX} bytes and this has more; split it");
    Error::InvalidRow { table: table.into(), reason }
}

/// Checks, sorts and encodes writes, and looks up the keys that must be absent.
pub(crate) fn prepare_all(state: &State, writes: &[Write]) -> Result<Vec<RowsWrite>> {
    let mut after = state.clone();
    let mut prepared = Vec::with_capacity(writes.len());
    let mut bytes = 0;
    for write in writes {
        let unknown = || Error::UnknownTable { table: write.table.clone() };
        let table = Arc::clone(after.table(&write.table).ok_or_else(unknown)?);
        let Some(ready) = prepare(&table.definition, write)? else { continue };
        if let Some(absent) = &ready.absent {
            check_absent(&table, absent, 0)?;
        }
        let encoded = entry::encode(&ready.run)?;
        bytes += encoded.len();
        if bytes > COMMIT_BYTES_MAX {
            return Err(too_large(&write.table));
        }
        let (name, id) = (write.table.clone(), table.id);
        // A later write of the same commit must see this one.
        let sequence = after.sequence + 1;
        let run = Arc::new(ready.run.at(sequence));
        after.apply(Change::Rows { table: name.clone(), id, run: Arc::clone(&run) }, sequence);
        let definition = Arc::clone(&table.definition);
        prepared.push(RowsWrite { table: name, id, definition, run, absent: ready.absent, encoded });
    }
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::{DataType, Int32Type};
    use arrow::record_batch::RecordBatch;

    use super::*;
    use crate::{Column, Db, OnConflict, ScanRequest, TableKind, TableSchema};

    fn insert(ids: &[i32]) -> Write {
        let ids = Arc::new(Int32Array::from(ids.to_vec()));
        let rows = RecordBatch::try_from_iter([("id", ids as _)]).unwrap();
        Write { on_conflict: OnConflict::Error, ..Write::rows("t", rows) }
    }

    fn delete(ids: &[i32]) -> Write {
        Write { deletes: insert(ids).rows, rows: None, on_conflict: OnConflict::Replace, table: "t".into() }
    }

    fn ids(snapshot: &Snapshot) -> Vec<i32> {
        let request = ScanRequest { projection: vec![0], ..ScanRequest::default() };
        let slices = snapshot.table("t").unwrap().scan(&request).unwrap();
        let batches = slices.iter().flat_map(|slice| slice.read().unwrap()).map(|batch| batch.unwrap());
        let mut ids: Vec<i32> =
            batches.flat_map(|batch| batch.column(0).as_primitive::<Int32Type>().values().to_vec()).collect();
        ids.sort_unstable();
        ids
    }

    fn push(pending: &mut Pending, db: &Db, write: Write) -> Result<()> {
        let prepared = pending.over(&db.snapshot()).prepare(&[write])?;
        pending.push(prepared)
    }

    #[test]
    fn pending_writes_show_over_a_snapshot_can_be_undone_and_are_checked_again() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(directory.path()).unwrap();
        let columns = vec![Column::new("id", DataType::Int32, false)];
        db.create_table(TableSchema {
            name: "t".into(),
            columns,
            key: vec![0],
            kind: TableKind::Keyed,
            retention: None,
        })
        .unwrap();
        db.commit(vec![insert(&[1, 2])]).unwrap();
        let mut pending = Pending::default();
        for id in 10..60 {
            push(&mut pending, &db, insert(&[id])).unwrap();
        }
        push(&mut pending, &db, delete(&[1])).unwrap();
        push(&mut pending, &db, insert(&[1])).unwrap();
        assert!(matches!(push(&mut pending, &db, insert(&[10])), Err(Error::Duplicate { .. })));
        let mark = pending.mark();
        push(&mut pending, &db, delete(&[2, 1])).unwrap();
        assert_eq!(ids(&pending.over(&db.snapshot())), (10..60).collect::<Vec<_>>());
        pending.undo_to(&mark);
        assert_eq!(ids(&pending.over(&db.snapshot())), [1, 2].into_iter().chain(10..60).collect::<Vec<_>>());
        assert_eq!(ids(&db.snapshot()), [1, 2]);
        let mut rival = Pending::default();
        push(&mut rival, &db, insert(&[10])).unwrap();
        db.commit_pending(pending).unwrap();
        assert_eq!(ids(&db.snapshot()).len(), 52);
        assert!(matches!(db.commit_pending(rival), Err(Error::Duplicate { .. })));
    }
}
