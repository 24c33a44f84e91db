//! The edits of a manifest, and tables as they are written down.
//!
//! **Invariant:** these shapes are a file format: fields may be added with a default, never changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::schema::{type_name, type_named};
use crate::{Column, Rollup, TableKind, TableSchema, TimeRange};

/// One change to the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "edit")]
pub(crate) enum Edit {
    /// All tables as of a commit; tables not listed are gone with their parts.
    Catalog { sequence: u64, tables: Vec<TableRecord> },
    /// The same where any has rollups: a juno that does not know these refuses it instead of losing them.
    CatalogWithRollups { sequence: u64, tables: Vec<TableRecord> },
    /// Parts that hold a table's rows, together with earlier ones, up to a commit.
    Flush { table: u64, sequence: u64, parts: Vec<PartRecord> },
    /// Parts that take the place of others, given by their numbers.
    Compact { table: u64, removed: Vec<u64>, parts: Vec<PartRecord> },
    /// Rows before a time are seen no more; the parts with these numbers had no others.
    Expire { table: u64, before: i64, removed: Vec<u64> },
}

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    /// The sequence number of the commit that created it.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) columns: Vec<ColumnRecord>,
    /// Indices into `columns`.
    pub(crate) key: Vec<usize>,
    /// The index of the time column; absent for a keyed table.
    pub(crate) time: Option<usize>,
    /// How old rows may be, in microseconds; absent where they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention: Option<i64>,
    /// Names under which columns that were dropped are stored.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) retired: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rollups: Vec<RollupRecord>,
}

/// A rollup's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RollupRecord {
    /// The sequence number of the commit that declared it.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) width_us: i64,
    /// The stored names of the columns; all where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) columns: Vec<String>,
}

/// A column's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ColumnRecord {
    pub(crate) name: String,
    /// The name under which it is stored, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<String>,
    #[serde(rename = "type")]
    pub(crate) data_type: String,
    pub(crate) nullable: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    /// The number in its file name.
    pub(crate) number: u64,
    /// Rows, deleted keys included.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Whether it marks deleted keys.
    pub(crate) deletes: bool,
    /// The newest commit in it.
    pub(crate) sequence: u64,
    /// The number of the newest part that it was merged from; absent where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) age: Option<u64>,
    /// The first time and the one after the last of the window that it was cut to; absent for a keyed table.
    pub(crate) window: Option<(i64, i64)>,
    /// The first and last time in it; absent for a keyed table.
    pub(crate) time: Option<(i64, i64)>,
    /// The CRC-32 of each block of 64 KiB.
    pub(crate) checksums: Vec<u32>,
    /// The rollups that were declared when it was written: it has their blocks, where it is worth them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) rollups: BTreeSet<u64>,
}

impl Edit {
    /// All tables as of a commit.
    pub(crate) fn catalog(sequence: u64, tables: Vec<TableRecord>) -> Self {
        match tables.iter().all(|table| table.rollups.is_empty()) {
            true => Self::Catalog { sequence, tables },
            false => Self::CatalogWithRollups { sequence, tables },
        }
    }
}

impl PartRecord {
    /// Where the part stands among those of its table, the oldest first: where the newest stood that it was merged from.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.sequence, self.age.unwrap_or(self.number))
    }

    /// The times that the part has rows of; all for a keyed table.
    pub(crate) fn span(&self) -> TimeRange {
        match (self.time, self.window) {
            // So that the last of all times is in the range too.
            (Some((min, max)), _) => TimeRange { from: min.min(i64::MAX - 1), to: max.saturating_add(1) },
            (None, Some((from, to))) => TimeRange { from, to },
            (None, None) => TimeRange::ALL,
        }
    }
}

impl TableRecord {
    pub(crate) fn new(id: u64, definition: &Definition) -> Self {
        let Definition { table, stored, retired, rollups } = definition;
        let rollup = |(&id, rollup): (&u64, &Rollup)| {
            let Rollup { name, width_us, columns } = rollup.clone();
            RollupRecord { id, name, width_us, columns }
        };
        Self {
            id,
            name: table.name.clone(),
            columns: table.columns.iter().zip(&stored.columns).map(|(c, s)| ColumnRecord::new(c, &s.name)).collect(),
            key: table.key.clone(),
            time: table.time(),
            retention: table.retention,
            retired: retired.clone(),
            rollups: rollups.iter().map(rollup).collect(),
        }
    }

    /// The definition; `None` where a type has a name that this juno does not know.
    pub(crate) fn definition(&self) -> Option<Definition> {
        let table = TableSchema {
            name: self.name.clone(),
            columns: self.columns.iter().map(ColumnRecord::column).collect::<Option<_>>()?,
            key: self.key.clone(),
            kind: self.time.map_or(TableKind::Keyed, |time| TableKind::Telemetry { time }),
            retention: self.retention,
        };
        let stored = self.columns.iter().map(|column| column.stored.as_ref().unwrap_or(&column.name).clone());
        let rollup = |record: &RollupRecord| {
            let RollupRecord { id, name, width_us, columns } = record.clone();
            (id, Rollup { name, width_us, columns })
        };
        let rollups = self.rollups.iter().map(rollup).collect();
        let valid = table.validate().is_ok();
        valid.then(|| Definition { rollups, ..Definition::with_stored(table, stored.collect(), self.retired.clone()) })
    }
}

impl ColumnRecord {
    pub(crate) fn new(column: &Column, stored: &str) -> Self {
        Self {
            name: column.name.clone(),
            stored: (stored != column.name).then(|| stored.to_owned()),
            data_type: type_name(&column.data_type).expect("columns of other types are refused"),
            nullable: column.nullable,
            metadata: column.metadata.clone(),
        }
    }

    pub(crate) fn column(&self) -> Option<Column> {
        let data_type = type_named(&self.data_type)?;
        Some(Column { name: self.name.clone(), data_type, nullable: self.nullable, metadata: self.metadata.clone() })
    }
}
