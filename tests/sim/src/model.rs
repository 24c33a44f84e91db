//! What a database must hold: tables as sorted maps.
//!
//! **Invariant:** knows nothing of the engine; a state follows from the one before by [`Change`]s alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All tables by name. Copies share what is the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    /// The tables.
    pub(crate) tables: BTreeMap<String, Arc<Table>>,
}

/// How rows of one key come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Field by field: what is not null wins.
    Telemetry,
    /// The newer row replaces the older one whole.
    Keyed,
}

/// One table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    /// How its rows merge.
    pub(crate) kind: Kind,
    /// Its columns besides the key.
    pub(crate) fields: BTreeSet<String>,
    /// The rows: by key, what is not null.
    pub(crate) rows: BTreeMap<Key, Fields>,
}

/// What makes a row unique. A keyed table has no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The tag; may be null.
    pub(crate) tag: Option<u8>,
    /// The time, or the id.
    pub(crate) at: i64,
}

/// Values that are not null, by column.
pub(crate) type Fields = BTreeMap<String, i64>;

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Writes that count all or not at all.
    Commit(Vec<Write>),
    /// A new table with no fields but `f0`.
    Create(String, Kind),
    /// Away with a table.
    Drop(String),
    /// A further column.
    Widen(String, String),
}

/// A write to one table: first deletes, then rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    /// The table.
    pub(crate) table: String,
    /// Keys that go.
    pub(crate) deletes: Vec<Key>,
    /// Rows that come; of two with one key the later counts.
    pub(crate) rows: Vec<(Key, Fields)>,
    /// Whether none of the keys may exist.
    pub(crate) must_be_absent: bool,
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// There is no such table.
    Table,
    /// There is no such column.
    Column,
    /// A key exists that may not.
    Duplicate,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, fields: BTreeSet::from(["f0".to_string()]), rows: BTreeMap::new() }
    }

    fn write(&mut self, write: &Write) {
        write.deletes.iter().for_each(|key| drop(self.rows.remove(key)));
        for (key, fields) in &write.rows {
            let row = self.rows.entry(*key).or_default();
            if self.kind == Kind::Keyed {
                row.clear();
            }
            row.extend(fields.clone());
        }
    }
}

impl Model {
    /// Applies a change, or leaves all as it was and says why: every reason that there is.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), BTreeSet<Refusal>> {
        let one = |refusal| Err(BTreeSet::from([refusal]));
        match change {
            Change::Commit(writes) => return self.commit(writes),
            Change::Create(table, kind) => drop(self.tables.insert(table.clone(), Arc::new(Table::new(*kind)))),
            Change::Drop(table) if !self.tables.contains_key(table) => return one(Refusal::Table),
            Change::Drop(table) => drop(self.tables.remove(table)),
            Change::Widen(table, field) => {
                let Some(table) = self.tables.get_mut(table) else { return one(Refusal::Table) };
                Arc::make_mut(table).fields.insert(field.clone());
            }
        }
        Ok(())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), BTreeSet<Refusal>> {
        let mut after = self.clone();
        let mut refusals = BTreeSet::new();
        for write in writes {
            let Some(table) = after.tables.get_mut(&write.table) else {
                refusals.insert(Refusal::Table);
                continue;
            };
            let table = Arc::make_mut(table);
            if write.rows.iter().any(|(_, row)| row.keys().any(|field| !table.fields.contains(field))) {
                refusals.insert(Refusal::Column);
            }
            let mut keys = BTreeSet::new();
            let taken = |key: &Key| table.rows.contains_key(key) && !write.deletes.contains(key);
            if write.must_be_absent && write.rows.iter().any(|(key, _)| !keys.insert(*key) || taken(key)) {
                refusals.insert(Refusal::Duplicate);
            }
            table.write(write);
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        *self = after;
        Ok(())
    }
}
