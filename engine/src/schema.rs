//! What a table looks like: its columns, its key and its kind.
//!
//! **Invariant:** knows nothing of SQL types, defaults or lengths; those travel as opaque metadata of a column.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::{Error, Result};

/// The hidden column of log entries and parts that marks deleted keys.
pub(crate) const DELETED: &str = "__deleted";

/// The hidden column of log entries and parts that marks rows which older rows of their key do not show through.
pub(crate) const WHOLE: &str = "__whole";

/// The most columns that a table may have.
pub const COLUMNS_MAX: usize = 1600;

/// A table: its name, its columns, and what makes a row unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// The name, unique in the database.
    pub name: String,
    /// The columns, in the order in which they were defined.
    pub columns: Vec<Column>,
    /// The key, as indices into `columns`: the tags in order and then the time, or the primary key. Rows are sorted by it.
    pub key: Vec<usize>,
    /// Telemetry or keyed.
    pub kind: TableKind,
    /// How old rows of a telemetry table may be, in microseconds; older ones go. Absent: rows stay.
    pub retention: Option<i64>,
}

/// What kind of rows a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Rows of series: the key is the tags and then the time. Rows with one key merge by column: the newest value that is
    /// not null stays.
    Telemetry {
        /// The index of the time column, a timestamp in microseconds.
        time: usize,
    },
    /// Rows under a primary key: the newest row replaces the older one whole.
    Keyed,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name, unique in the table.
    pub name: String,
    /// The type; tags are `Dictionary(Int32, Utf8)`.
    pub data_type: DataType,
    /// Whether rows may lack a value.
    pub nullable: bool,
    /// Kept for the caller, and carried by the Arrow field; opaque here.
    pub metadata: BTreeMap<String, String>,
}

impl Column {
    /// A column without metadata.
    pub fn new(name: impl Into<String>, data_type: DataType, nullable: bool) -> Self {
        Self { name: name.into(), data_type, nullable, metadata: BTreeMap::new() }
    }

    /// The column as an Arrow field.
    pub fn field(&self) -> Field {
        let metadata: HashMap<_, _> = self.metadata.clone().into_iter().collect();
        Field::new(&self.name, self.data_type.clone(), self.nullable).with_metadata(metadata)
    }
}

impl TableSchema {
    /// The schema of the table's rows; its fields carry the metadata of the columns.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    /// The tag columns in key order; none for a keyed table.
    pub fn tags(&self) -> &[usize] {
        match self.kind {
            TableKind::Telemetry { .. } => &self.key[..self.key.len().saturating_sub(1)],
            TableKind::Keyed => &[],
        }
    }

    /// The time column; none for a keyed table.
    pub fn time(&self) -> Option<usize> {
        match self.kind {
            TableKind::Telemetry { time } => Some(time),
            TableKind::Keyed => None,
        }
    }

    /// Whether rows with one key merge by column rather than the newest replacing the others whole.
    pub(crate) fn merges_fields(&self) -> bool {
        matches!(self.kind, TableKind::Telemetry { .. })
    }

    /// The index of the column with this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The type of a tag column.
    pub fn tag_type() -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::InvalidSchema { table: self.name.clone(), reason });
        if self.name.is_empty() {
            return refuse("its name is empty".into());
        }
        if self.columns.len() > COLUMNS_MAX {
            return refuse(format!("it has {} columns and may have {COLUMNS_MAX}", self.columns.len()));
        }
        let mut names = BTreeSet::new();
        for column in &self.columns {
            check_column(&self.name, column)?;
            if !names.insert(&column.name) {
                return refuse(format!("column \"{}\" is defined twice", column.name));
            }
        }
        if let Some(retention) = self.retention {
            if self.time().is_none() {
                return refuse(
                    "it has no time, so its rows have no age; only telemetry tables have a retention".into(),
                );
            }
            if retention <= 0 {
                return refuse(format!("its retention is {retention} microseconds and must be longer than none"));
            }
        }
        self.validate_key()
    }

    fn validate_key(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::InvalidSchema { table: self.name.clone(), reason });
        let distinct: BTreeSet<_> = self.key.iter().collect();
        if self.key.is_empty() || distinct.len() != self.key.len() || self.key.iter().any(|&i| i >= self.columns.len())
        {
            return refuse("its key must name at least one column, and each only once".into());
        }
        for &index in &self.key {
            let column = &self.columns[index];
            if matches!(column.data_type, DataType::Float32 | DataType::Float64) {
                return refuse(format!("key column \"{}\" is a float; use an exact type", column.name));
            }
        }
        match self.kind {
            TableKind::Telemetry { time } => self.validate_telemetry(time),
            TableKind::Keyed => match self.key.iter().find(|&&i| self.columns[i].nullable) {
                Some(&i) => refuse(format!("key column \"{}\" must not be nullable", self.columns[i].name)),
                None => Ok(()),
            },
        }
    }

    fn validate_telemetry(&self, time: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::InvalidSchema { table: self.name.clone(), reason });
        if self.key.last() != Some(&time) {
            return refuse("its key must end with the time column".into());
        }
        let column = &self.columns[time];
        if column.nullable || !matches!(column.data_type, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            return refuse(format!(
                "time column \"{}\" must be a timestamp in microseconds, not nullable",
                column.name
            ));
        }
        match self.tags().iter().find(|&&i| self.columns[i].data_type != Self::tag_type()) {
            Some(&i) => refuse(format!("tag column \"{}\" must be a dictionary of strings", self.columns[i].name)),
            None => Ok(()),
        }
    }
}

/// Whether a column can be stored.
pub(crate) fn check_column(table: &str, column: &Column) -> Result<()> {
    let refuse = |reason: String| Err(Error::InvalidSchema { table: table.into(), reason });
    if column.name.is_empty() {
        return refuse("a column has an empty name".into());
    }
    if column.name.starts_with("__") {
        return refuse(format!("column \"{}\" begins with two underscores, which are reserved", column.name));
    }
    if type_name(&column.data_type).is_none() {
        return refuse(format!("column \"{}\" has type {}, which is not stored", column.name, column.data_type));
    }
    Ok(())
}

/// The name under which the manifest and the log know a type; none where the engine does not store it.
pub(crate) fn type_name(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Boolean => "bool",
        DataType::Int16 => "i16",
        DataType::Int32 => "i32",
        DataType::Int64 => "i64",
        DataType::UInt64 => "u64",
        DataType::Float32 => "f32",
        DataType::Float64 => "f64",
        DataType::Utf8 => "utf8",
        DataType::Binary => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp",
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => "timestamp(UTC)",
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "+00:00" => "timestamp(+00:00)",
        DataType::Decimal128(precision, scale) => return Some(format!("decimal({precision},{scale})")),
        other if *other == TableSchema::tag_type() => "tag",
        _ => return None,
    };
    Some(name.into())
}

/// The type that [`type_name`] gave this name.
pub(crate) fn type_named(name: &str) -> Option<DataType> {
    Some(match name {
        "bool" => DataType::Boolean,
        "i16" => DataType::Int16,
        "i32" => DataType::Int32,
        "i64" => DataType::Int64,
        "u64" => DataType::UInt64,
        "f32" => DataType::Float32,
        "f64" => DataType::Float64,
        "utf8" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamp(UTC)" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp(+00:00)" => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        "tag" => TableSchema::tag_type(),
        other => {
            let (precision, scale) = other.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            DataType::Decimal128(precision.parse().ok()?, scale.parse().ok()?)
        }
    })
}

#[cfg(test)]
mod tests;
