//! All tables with their rows at one moment, and how the moments follow each other.
//!
//! **Invariant:** a state never changes; `State::apply` works on a private copy. Does no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::definition::Definition;
use crate::memtable::{self, Frozen, Run};
use crate::part::Part;
use crate::{Catalog, TableSchema};

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
    pub(crate) definition: Arc<Definition>,
    /// The definition under the stored names of columns, which runs and parts know.
    pub(crate) schema: Arc<TableSchema>,
    /// Runs that take part in merges, the oldest first.
    pub(crate) active: Vec<Arc<Run>>,
    /// Memtables that wait for their flush, the oldest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
    /// Parts by the newest commit in them: of those that overlap the later one is newer throughout.
    pub(crate) parts: Vec<Arc<Part>>,
    /// All commits up to this one are in parts.
    pub(crate) flushed: u64,
    /// Rows before this time have expired; `i64::MIN` where none have.
    pub(crate) kept_from: i64,
}

/// A change that was checked and cannot fail.
#[derive(Clone)]
pub(crate) enum Change {
    Rows {
        table: String,
        id: u64,
        run: Arc<Run>,
    },
    Create {
        id: u64,
        definition: Arc<Definition>,
    },
    Drop {
        table: String,
    },
    Alter {
        table: String,
        definition: Arc<Definition>,
    },
    /// All rows go: a table of the same definition takes the place.
    Truncate {
        table: String,
    },
}

impl TableState {
    pub(crate) fn new(id: u64, definition: Arc<Definition>) -> Self {
        let schema = Arc::clone(&definition.stored);
        Self {
            id,
            definition,
            schema,
            active: Vec::new(),
            frozen: Vec::new(),
            parts: Vec::new(),
            flushed: 0,
            kept_from: i64::MIN,
        }
    }

    /// Takes on another definition. Parts and runs lack the columns that are new in it; runs get new tags as nulls, which
    /// leaves their order as it is.
    pub(crate) fn redefine(&mut self, definition: Arc<Definition>) {
        let rekeyed = self.schema.key.len() != definition.stored.key.len();
        self.schema = Arc::clone(&definition.stored);
        self.definition = definition;
        if rekeyed {
            let rekey = |runs: &[Arc<Run>]| runs.iter().map(|run| Arc::new(run.rekeyed(&self.schema))).collect();
            self.active = rekey(&self.active);
            self.frozen = self.frozen.iter().map(|frozen| Arc::new(Frozen { runs: rekey(&frozen.runs) })).collect();
        }
    }

    /// All runs, the oldest first.
    pub(crate) fn runs(&self) -> impl DoubleEndedIterator<Item = &Arc<Run>> {
        self.frozen.iter().flat_map(|frozen| &frozen.runs).chain(&self.active)
    }

    /// The oldest commit with rows that are in no part.
    pub(crate) fn first_unflushed(&self) -> Option<u64> {
        self.runs().map(|run| run.first_sequence).min()
    }

    /// Takes parts out, given by their numbers, and puts others in.
    pub(crate) fn replace_parts(&mut self, removed: &[u64], added: Vec<Arc<Part>>) {
        self.parts.retain(|part| !removed.contains(&part.record.number));
        self.parts.extend(added);
        self.parts.sort_by_key(|part| part.record.place());
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
            Change::Create { id, definition } => self.put(TableState::new(id, definition), sequence),
            Change::Drop { table } => {
                self.take(&table, sequence);
            }
            Change::Alter { table, definition } => {
                let Some(mut found) = self.take(&table, sequence) else { return };
                Arc::make_mut(&mut found).redefine(definition);
                self.put(Arc::unwrap_or_clone(found), sequence);
            }
            Change::Truncate { table } => {
                let Some(found) = self.take(&table, sequence) else { return };
                self.put(TableState::new(sequence, Arc::clone(&found.definition)), sequence);
            }
        }
    }

    fn take(&mut self, name: &str, sequence: u64) -> Option<Arc<TableState>> {
        self.catalog_sequence = sequence;
        Arc::make_mut(&mut self.catalog).tables.remove(name);
        self.tables.remove(name)
    }

    fn put(&mut self, table: TableState, sequence: u64) {
        let (name, definition) = (table.schema.name.clone(), Arc::clone(&table.definition.table));
        self.catalog_sequence = sequence;
        Arc::make_mut(&mut self.catalog).tables.insert(name.clone(), definition);
        self.tables.insert(name, Arc::new(table));
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
