//! What a caller hands to a commit.
//!
//! **Invariant:** plain data; checking and sorting happen in `append`.

use arrow::record_batch::RecordBatch;

/// Changes to one table. A commit takes several and applies all or none.
#[derive(Debug, Clone)]
pub struct Write {
    /// The table's name.
    pub table: String,
    /// Rows to insert or replace: any subset of the table's columns by name, in any order. Missing columns are null. In a
    /// telemetry table a null leaves the value in place that an older row of the same key has; to replace such a row
    /// whole, delete its key in the same write.
    pub rows: Option<RecordBatch>,
    /// Keys to delete: the key columns by name; tags that are not given are null. Deletes apply before the rows of the same
    /// write.
    pub deletes: Option<RecordBatch>,
    /// What happens to a row whose key exists.
    pub on_conflict: OnConflict,
}

impl Write {
    /// Rows that replace those with the same key, or merge with them in a telemetry table.
    pub fn rows(table: impl Into<String>, rows: RecordBatch) -> Self {
        Self { table: table.into(), rows: Some(rows), deletes: None, on_conflict: OnConflict::Replace }
    }
}

/// What happens to a row whose key exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The new row takes the old one's place, in a telemetry table column by column; twice in one batch, the later wins.
    #[default]
    Replace,
    /// The whole commit fails with [`crate::Error::Duplicate`], atomically with respect to other commits.
    Error,
}
