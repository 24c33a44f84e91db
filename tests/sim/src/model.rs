//! What a database must hold: tables as sorted maps.
//!
//! **Invariant:** knows nothing of the engine; a state follows from the one before by [`Change`]s alone, but for the moment at
//! which rows expire, which no change tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All tables by name. Copies share what is the same.
#[derive(Debug, Clone, Default)]
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
    /// Whether it has got the second tag.
    pub(crate) zoned: bool,
    /// Its columns besides the key.
    pub(crate) fields: BTreeSet<String>,
    /// The rows: by key, what is not null.
    pub(crate) rows: BTreeMap<Key, Fields>,
    /// The time from which on rows are kept; where none is set, all are.
    pub(crate) keep: Option<i64>,
    /// Times before which rows may be gone, of which one is the right one: `i64::MIN` where none may be.
    pub(crate) expired: BTreeSet<i64>,
}

/// What makes a row unique. A keyed table has no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The tag; may be null.
    pub(crate) tag: Option<u8>,
    /// The tag that a table may get later; null before.
    pub(crate) zone: Option<u8>,
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
    /// Away with all rows of a table.
    Truncate(String),
    /// A further column.
    Widen(String, String),
    /// Away with a column and its values.
    Narrow(String, String),
    /// A column of a table gets another name.
    Rename(String, String, String),
    /// A table gets the second tag.
    Zone(String),
    /// A table gets a rollup, or loses it, which changes no row.
    Rollup(String),
    /// Rows of a table are kept from a time on.
    Keep(String, Option<i64>),
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
        let (fields, rows) = (BTreeSet::from(["f0".to_string()]), BTreeMap::new());
        Self { kind, zoned: false, fields, rows, keep: None, expired: BTreeSet::from([i64::MIN]) }
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

    /// Times before which rows may be gone by now.
    pub(crate) fn cuts(&self) -> impl Iterator<Item = i64> {
        let before = self.expired.iter().copied();
        before.chain(self.keep.filter(|keep| self.expired.iter().any(|before| before < keep)))
    }

    /// The rows that are there where those before a time are gone.
    pub(crate) fn cut(&self, before: i64) -> impl Iterator<Item = (&Key, &Fields)> {
        self.rows.iter().filter(move |(key, _)| self.kind == Kind::Keyed || key.at >= before)
    }

    /// Whether this is what was found: of the same definition, with the same rows but for those that may have expired.
    pub(crate) fn explains(&self, found: &Self) -> bool {
        (self.kind, self.zoned, &self.fields, self.keep) == (found.kind, found.zoned, &found.fields, found.keep)
            && self.cuts().any(|before| self.cut(before).eq(&found.rows))
    }

    /// What was found, with what this tells of rows that expired.
    fn settled(&self, found: &Self) -> Self {
        let right = |before: &i64| self.cut(*before).eq(&found.rows);
        Self { expired: self.cuts().filter(right).collect(), ..found.clone() }
    }

    /// Whether a row of this key may be one that has expired.
    fn may_be_gone(&self, key: &Key) -> bool {
        self.kind == Kind::Telemetry && self.cuts().any(|before| key.at < before)
    }
}

impl Model {
    /// Applies a change, or leaves all as it was and says why: every reason that there is.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), BTreeSet<Refusal>> {
        let refusals = self.refusals(change);
        if refusals.is_empty() {
            self.force(change);
            return Ok(());
        }
        Err(refusals)
    }

    /// Every reason to refuse a change.
    pub(crate) fn refusals(&self, change: &Change) -> BTreeSet<Refusal> {
        match change {
            Change::Commit(writes) => self.refusals_of_commit(writes),
            Change::Create(..) => BTreeSet::new(),
            Change::Drop(table)
            | Change::Truncate(table)
            | Change::Widen(table, _)
            | Change::Narrow(table, _)
            | Change::Rename(table, ..)
            | Change::Zone(table)
            | Change::Rollup(table)
            | Change::Keep(table, _) => {
                let there = self.tables.contains_key(table);
                (!there).then_some(Refusal::Table).into_iter().collect()
            }
        }
    }

    /// Applies what can be applied of a change.
    pub(crate) fn force(&mut self, change: &Change) {
        let mut of = |name: &String, act: &dyn Fn(&mut Table)| {
            if let Some(table) = self.tables.get_mut(name) {
                act(Arc::make_mut(table));
            }
        };
        match change {
            Change::Commit(writes) => writes.iter().for_each(|write| of(&write.table, &|table| table.write(write))),
            Change::Create(table, kind) => drop(self.tables.insert(table.clone(), Arc::new(Table::new(*kind)))),
            Change::Drop(table) => drop(self.tables.remove(table)),
            Change::Truncate(table) => of(table, &|table| {
                table.rows.clear();
                table.expired = BTreeSet::from([i64::MIN]);
            }),
            Change::Widen(table, field) => of(table, &|table| {
                table.fields.insert(field.clone());
            }),
            Change::Narrow(table, field) => of(table, &|table| {
                table.fields.remove(field);
                table.rows.values_mut().for_each(|row| {
                    row.remove(field);
                });
            }),
            Change::Rename(table, from, to) => of(table, &|table| {
                if table.fields.remove(from) {
                    table.fields.insert(to.clone());
                }
                for row in table.rows.values_mut() {
                    let value = row.remove(from);
                    row.extend(value.map(|value| (to.clone(), value)));
                }
            }),
            Change::Rollup(_) => {}
            Change::Zone(table) => of(table, &|table| table.zoned = true),
            Change::Keep(table, keep) => of(table, &|table| {
                table.expired = table.cuts().collect();
                table.keep = *keep;
            }),
        }
    }

    fn refusals_of_commit(&self, writes: &[Write]) -> BTreeSet<Refusal> {
        let mut after = self.clone();
        let mut refusals = BTreeSet::new();
        for write in writes {
            let Some(table) = after.tables.get_mut(&write.table) else {
                refusals.insert(Refusal::Table);
                continue;
            };
            let table = Arc::make_mut(table);
            let unknown = |(_, row): &(Key, Fields)| row.keys().any(|field| !table.fields.contains(field));
            let mut keys = write.rows.iter().map(|(key, _)| key).chain(&write.deletes);
            let zoned = !table.zoned && keys.any(|key| key.zone.is_some());
            if zoned || write.rows.iter().any(unknown) {
                refusals.insert(Refusal::Column);
            }
            let mut keys = BTreeSet::new();
            let taken = |key: &Key| table.rows.contains_key(key) && !write.deletes.contains(key);
            if write.must_be_absent && write.rows.iter().any(|(key, _)| !keys.insert(*key) || taken(key)) {
                refusals.insert(Refusal::Duplicate);
            }
            table.write(write);
        }
        refusals
    }

    /// Whether a commit's keys that must be absent may lie among rows that expire, so that both answers are right.
    pub(crate) fn open_to_both(&self, change: &Change) -> bool {
        let Change::Commit(writes) = change else { return false };
        writes.iter().filter(|write| write.must_be_absent).any(|write| {
            let table = self.tables.get(&write.table);
            table.is_some_and(|table| write.rows.iter().any(|(key, _)| table.may_be_gone(key)))
        })
    }

    /// Whether this is what was found.
    pub(crate) fn explains(&self, found: &Self) -> bool {
        self.tables.len() == found.tables.len()
            && self.tables.iter().all(|(name, table)| {
                found.tables.get(name).is_some_and(|found| Arc::ptr_eq(table, found) || table.explains(found))
            })
    }

    /// What was found, with what this tells of rows that expired.
    pub(crate) fn settled(&self, found: &Self) -> Self {
        let settled = |(name, found): (&String, &Arc<Table>)| {
            let table = self.tables.get(name).map_or_else(|| Table::clone(found), |table| table.settled(found));
            (name.clone(), Arc::new(table))
        };
        Self { tables: found.tables.iter().map(settled).collect() }
    }
}
