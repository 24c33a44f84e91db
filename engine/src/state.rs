//! All tables with their rows at one moment, and how the moments follow each other.
//!
//! **Invariant:** a state never changes; `State::apply` works on a private copy. Does no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::memtable::{self, Frozen, Run};
use crate::part::Part;
use crate::{Catalog, Column, TableSchema};

/// The database at one moment. Cloning copies references only.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tables: BTreeMap<String, Arc<TableState>>,
    /// The newest commit that is visible.
    pub(crate) sequence: u64,
    /// The newest commit that changed a definition.
    pub(crate) catalog_sequence: u64,
}

/// One table at one moment.
#[derive(Clone)]
pub(crate) struct TableState {
    /// The sequence number of the commit that created it; tells tables of one name apart.
    pub(crate) id: u64,
    pub(crate) schema: Arc<TableSchema>,
    /// Runs that take part in merges, the oldest first.
    pub(crate) active: Vec<Arc<Run>>,
    /// Memtables that wait for their flush, the oldest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
    /// Parts, in the order in which they were flushed.
    pub(crate) parts: Vec<Arc<Part>>,
    /// All commits up to this one are in parts.
    pub(crate) flushed: u64,
}

/// A change that was checked and cannot fail.
#[derive(Clone)]
pub(crate) enum Change {
    Rows { table: String, id: u64, run: Arc<Run> },
    Create { id: u64, schema: Arc<TableSchema> },
    Drop { table: String },
    Widen { table: String, columns: Vec<Column> },
}

impl TableState {
    pub(crate) fn new(id: u64, schema: Arc<TableSchema>) -> Self {
        Self { id, schema, active: Vec::new(), frozen: Vec::new(), parts: Vec::new(), flushed: 0 }
    }

    /// All runs, the oldest first.
    pub(crate) fn runs(&self) -> impl DoubleEndedIterator<Item = &Arc<Run>> {
        self.frozen.iter().flat_map(|frozen| &frozen.runs).chain(&self.active)
    }

    /// The oldest commit with rows that are in no part.
    pub(crate) fn first_unflushed(&self) -> Option<u64> {
        self.runs().map(|run| run.first_sequence).min()
    }

    /// Sets the active runs aside for a flush.
    pub(crate) fn freeze(&mut self) {
        if !self.active.is_empty() {
            self.frozen.push(Arc::new(Frozen { runs: std::mem::take(&mut self.active) }));
        }
    }
}

impl State {
    pub(crate) fn table(&self, name: &str) -> Option<&Arc<TableState>> {
        self.tables.get(name)
    }

    /// The table with this number, whatever its name.
    pub(crate) fn table_by_id(&self, id: u64) -> Option<&Arc<TableState>> {
        self.tables.values().find(|table| table.id == id)
    }

    /// A private copy of a table, put in place of the shared one.
    pub(crate) fn table_mut(&mut self, name: &str) -> Option<&mut TableState> {
        self.tables.get_mut(name).map(Arc::make_mut)
    }

    /// Applies a change made by commit `sequence`.
    pub(crate) fn apply(&mut self, change: Change, sequence: u64) {
        self.sequence = sequence;
        match change {
            Change::Rows { table, id, run } => {
                if let Some(table) = self.table_mut(&table).filter(|table| table.id == id) {
                    table.active.push(run);
                }
            }
            Change::Create { id, schema } => {
                self.define(&schema.name, Some(&schema), sequence);
                self.tables.insert(schema.name.clone(), Arc::new(TableState::new(id, schema)));
            }
            Change::Drop { table } => {
                self.define(&table, None, sequence);
                self.tables.remove(&table);
            }
            Change::Widen { table, columns } => {
                let Some(found) = self.table_mut(&table) else { return };
                Arc::make_mut(&mut found.schema).columns.extend(columns);
                let schema = Arc::clone(&found.schema);
                self.define(&table, Some(&schema), sequence);
            }
        }
    }

    fn define(&mut self, name: &str, schema: Option<&Arc<TableSchema>>, sequence: u64) {
        let tables = &mut Arc::make_mut(&mut self.catalog).tables;
        match schema {
            Some(schema) => tables.insert(name.into(), Arc::clone(schema)),
            None => tables.remove(name),
        };
        self.catalog_sequence = sequence;
    }

    /// Bytes and rows in active runs, and bytes in frozen ones.
    pub(crate) fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for table in self.tables.values() {
            let (bytes, rows) = memtable::size(&table.active);
            memory.active_bytes += bytes;
            memory.rows += rows;
            for frozen in &table.frozen {
                let (bytes, rows) = memtable::size(&frozen.runs);
                memory.frozen_bytes += bytes;
                memory.rows += rows;
            }
        }
        memory
    }

    /// Freezes the largest memtables until the active ones hold at most `bytes_max`; whether any was.
    pub(crate) fn freeze_over(&mut self, bytes_max: u64) -> bool {
        let mut any = false;
        while self.memory().active_bytes > bytes_max {
            let largest = self.tables.iter().max_by_key(|(_, table)| memtable::size(&table.active).0);
            let Some(name) = largest.map(|(name, _)| name.clone()) else { return any };
            self.table_mut(&name).expect("it was just found").freeze();
            any = true;
        }
        any
    }

    /// Log records before this sequence number are not needed: their rows and definitions are in the manifest, which
    /// knows definitions up to `catalog_saved`.
    pub(crate) fn log_needed_from(&self, catalog_saved: u64) -> u64 {
        let rows = self.tables.values().filter_map(|table| table.first_unflushed()).min().unwrap_or(u64::MAX);
        let definitions = if self.catalog_sequence > catalog_saved { catalog_saved + 1 } else { u64::MAX };
        rows.min(definitions).min(self.sequence + 1)
    }
}

/// What the memtables hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) active_bytes: u64,
    pub(crate) frozen_bytes: u64,
    pub(crate) rows: u64,
}
