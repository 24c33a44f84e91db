//! The edits of a manifest, and tables as they are written down.
//!
//! **Invariant:** these shapes are a file format: fields may be added with a default, never changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::schema::{type_name, type_named};
use crate::{Column, TableKind, TableSchema};

/// One change to the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "edit")]
pub(crate) enum Edit {
    /// All tables as of a commit; tables not listed are gone with their parts.
    Catalog { sequence: u64, tables: Vec<TableRecord> },
    /// Parts that hold a table's rows, together with earlier ones, up to a commit.
    Flush { table: u64, sequence: u64, parts: Vec<PartRecord> },
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
}

/// A column's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ColumnRecord {
    pub(crate) name: String,
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
    /// The first time and the one after the last of the window that it was cut to; absent for a keyed table.
    pub(crate) window: Option<(i64, i64)>,
    /// The first and last time in it; absent for a keyed table.
    pub(crate) time: Option<(i64, i64)>,
    /// The CRC-32 of each block of 64 KiB.
    pub(crate) checksums: Vec<u32>,
}

impl TableRecord {
    pub(crate) fn new(id: u64, schema: &TableSchema) -> Self {
        Self {
            id,
            name: schema.name.clone(),
            columns: schema.columns.iter().map(ColumnRecord::new).collect(),
            key: schema.key.clone(),
            time: schema.time(),
        }
    }

    /// The definition; `None` where a type has a name that this juno does not know.
    pub(crate) fn schema(&self) -> Option<Arc<TableSchema>> {
        let schema = TableSchema {
            name: self.name.clone(),
            columns: self.columns.iter().map(ColumnRecord::column).collect::<Option<_>>()?,
            key: self.key.clone(),
            kind: self.time.map_or(TableKind::Keyed, |time| TableKind::Telemetry { time }),
        };
        schema.validate().is_ok().then(|| Arc::new(schema))
    }
}

impl ColumnRecord {
    pub(crate) fn new(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
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
