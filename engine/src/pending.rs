//! Writes and changes of tables that wait for their commit, and the database as it would be with them.
//!
//! **Invariant:** nothing here is durable or visible to others; what is prepared was checked against what its snapshot shows,
//! and [`crate::Db::commit_pending`] checks again what others committed since.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::append::prepare;
use crate::commit::RowsWrite;
use crate::commit::step::{Step, uncommitted};
use crate::definition::Definition;
use crate::log::entry;
use crate::lookup::check_absent;
use crate::memtable::{Run, choose_merge};
use crate::snapshot::Snapshot;
use crate::state::{Change, State, TableState};
use crate::{Alteration, COMMIT_BYTES_MAX, Error, Result, TableSchema, Write};

/// What a transaction does, in order.
#[derive(Default)]
pub struct Pending {
    steps: Vec<Step>,
    bytes: usize,
    /// How many steps change which tables there are.
    definitions: usize,
    /// Tables that were created, those that are gone again too.
    created: u64,
    /// What scans of the tables see besides: the same rows in few runs, by table.
    tables: BTreeMap<String, Waiting>,
    /// The oldest commit that a write was checked against.
    since: Option<u64>,
}

/// A change to which tables there are.
#[derive(Debug, Clone)]
pub enum TableChange {
    /// A new table.
    Create(TableSchema),
    /// A table goes with its rows.
    Drop(String),
    /// The rows of a table go.
    Truncate(String),
    /// A table is defined otherwise.
    Alter(String, Alteration),
}

/// Rows of one table that wait.
#[derive(Clone)]
struct Waiting {
    id: u64,
    definition: Arc<Definition>,
    /// The oldest first.
    runs: Vec<Arc<Run>>,
}

/// A place among pending steps to go back to.
pub struct Mark {
    steps: usize,
    bytes: usize,
    definitions: usize,
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
        self.steps.extend(prepared.writes.into_iter().map(|write| Step::Rows(Box::new(write))));
        self.bytes += bytes;
        self.since = Some(self.since.map_or(prepared.since, |since| since.min(prepared.since)));
        Ok(())
    }

    /// Appends a change of tables, checked against [`Self::over`] a snapshot.
    ///
    /// # Errors
    /// As [`crate::Db::create_table`], [`crate::Db::drop_table`] and [`crate::Db::alter_table`]; then nothing was appended.
    pub fn define(&mut self, base: &Snapshot, change: TableChange) -> Result<()> {
        let whole = self.over(base);
        let state = whole.state();
        let found = |table: &str| state.table(table).ok_or_else(|| Error::UnknownTable { table: table.into() });
        match change {
            TableChange::Create(schema) => {
                schema.validate()?;
                if state.table(&schema.name).is_some() {
                    return Err(Error::TableExists { table: schema.name });
                }
                self.create(Arc::new(Definition::new(Arc::new(schema))));
            }
            TableChange::Drop(table) => self.drop(found(&table)?),
            TableChange::Truncate(table) => {
                let found = found(&table)?;
                self.drop(found);
                self.create(Arc::clone(&found.definition));
            }
            TableChange::Alter(table, alteration) => {
                let found = found(&table)?;
                let after = Arc::new(found.definition.altered(alteration, state.sequence + 1)?);
                if after.table.name != table && state.table(&after.table.name).is_some() {
                    return Err(Error::TableExists { table: after.table.name.clone() });
                }
                if after != found.definition {
                    self.alter(found, after);
                }
            }
        }
        Ok(())
    }

    fn create(&mut self, definition: Arc<Definition>) {
        self.created += 1;
        self.definitions += 1;
        self.steps.push(Step::Create { id: uncommitted(self.created), definition });
    }

    fn drop(&mut self, table: &TableState) {
        self.tables.remove(&table.schema.name);
        self.definitions += 1;
        self.steps.push(Step::Drop { id: table.id, definition: Arc::clone(&table.definition) });
    }

    fn alter(&mut self, table: &TableState, after: Arc<Definition>) {
        if let Some(waiting) = self.tables.remove(&table.schema.name).filter(|waiting| waiting.is_of(table)) {
            let mut rows = TableState::new(waiting.id, waiting.definition);
            rows.active = waiting.runs;
            rows.redefine(Arc::clone(&after));
            let waiting = Waiting { id: rows.id, definition: rows.definition, runs: rows.active };
            self.tables.insert(after.table.name.clone(), waiting);
        }
        self.definitions += 1;
        self.steps.push(Step::Alter { id: table.id, before: Arc::clone(&table.definition), after });
    }

    /// A snapshot that shows what is pending over its own.
    pub fn over(&self, base: &Snapshot) -> Snapshot {
        if self.steps.is_empty() {
            return base.clone();
        }
        let mut state = State::clone(base.state());
        if self.definitions > 0 {
            self.steps.iter().filter(|step| step.defines()).for_each(|step| step.show(&mut state));
        }
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
        self.steps.is_empty()
    }

    /// Whether any step changes which tables there are.
    pub fn defines(&self) -> bool {
        self.definitions > 0
    }

    /// Bytes that wait, as in the log.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place behind all that waits now.
    pub fn mark(&self) -> Mark {
        Mark { steps: self.steps.len(), bytes: self.bytes, definitions: self.definitions, tables: self.tables.clone() }
    }

    /// Forgets what was pushed behind a mark of the same steps.
    pub fn undo_to(&mut self, mark: &Mark) {
        self.steps.truncate(mark.steps);
        self.bytes = mark.bytes;
        self.definitions = mark.definitions;
        self.tables = mark.tables.clone();
    }

    /// The steps, and the oldest commit that their rows were checked against.
    pub(crate) fn into_steps(self) -> (Vec<Step>, u64) {
        (self.steps, self.since.unwrap_or(0))
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
mod tests;
