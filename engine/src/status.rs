//! Figures about a running database.
//!
//! **Invariant:** plain data, gathered by `db`.

/// What [`crate::Db::status`] answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes in the log's segments.
    pub log_bytes: u64,
    /// Bytes of rows that are in memory and not yet in a part.
    pub memtable_bytes: u64,
    /// Rows in memory, versions of one key counted apart.
    pub memtable_rows: u64,
    /// Tables.
    pub tables: usize,
    /// Parts of all tables.
    pub parts: usize,
    /// Bytes in these parts.
    pub part_bytes: u64,
    /// Bytes of parts that flushes wrote since the database was opened.
    pub flushed_bytes: u64,
    /// Bytes of parts that compactions wrote since the database was opened; with the above the write amplification.
    pub compacted_bytes: u64,
    /// Why the last flush failed, where it did: rows stay in memory and in the log, and it is tried again.
    pub flush_failing: Option<String>,
    /// Why the database takes no writes any more, where it does not.
    pub read_only: Option<String>,
}

/// What a flush of one table did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushReport {
    /// The table.
    pub table: String,
    /// Rows written, deleted keys included.
    pub rows: u64,
    /// Parts made.
    pub parts: usize,
    /// Bytes in these parts.
    pub bytes: u64,
}

/// What a compaction of one table did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionReport {
    /// The table.
    pub table: String,
    /// Parts read, each time that they were.
    pub merged: usize,
    /// Parts made.
    pub parts: usize,
    /// Rows written, deleted keys included.
    pub rows: u64,
    /// Bytes in the parts made.
    pub bytes: u64,
}

/// What a slice reads of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRead {
    /// The part's number.
    pub part: u64,
    /// Row groups that are read.
    pub row_groups: usize,
    /// Row groups of which that is the choice; over all slices of a scan they add up to the part's.
    pub row_groups_all: usize,
    /// Compressed bytes of the pages that hold the wanted columns of these row groups, at most.
    pub bytes: u64,
}

/// Figures about one slice, known before it is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SliceStats {
    /// Parts that the slice reads.
    pub parts: usize,
    /// Row groups in these parts.
    pub row_groups: usize,
    /// Row groups among them that are not read.
    pub row_groups_pruned: usize,
    /// Rows in the row groups and runs that are read, versions of one key counted apart.
    pub rows: u64,
}
