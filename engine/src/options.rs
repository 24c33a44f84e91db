//! The engine's settings.
//!
//! **Invariant:** reads no environment and no file; the caller decides.

use crate::system::System;

/// Limits and the world that the engine runs in.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of rows in memory, over all tables, before the largest memtable is frozen and flushed.
    pub memtable_bytes_max: u64,
    /// Bytes of frozen rows that wait for a flush before writers wait.
    pub frozen_bytes_max: u64,
    /// Bytes of sorted rows that an import holds in memory before they go into parts.
    pub import_bytes_max: u64,
    /// Bytes in a log segment before the next is begun.
    pub log_segment_bytes_max: u64,
    /// Bytes in all log segments before the table with the oldest unflushed row is flushed.
    pub log_bytes_max: u64,
    /// Bytes of footers and page indexes kept in memory.
    pub footer_cache_bytes_max: u64,
    /// Bytes of block aggregates kept in memory.
    pub block_cache_bytes_max: u64,
    /// Bytes of decoded columns kept in memory.
    pub column_cache_bytes_max: u64,
    /// Whether a thread merges small and overlapping parts; without it only [`crate::Db::compact`] does.
    pub compact_in_background: bool,
    /// Clock, disk and randomness.
    pub system: System,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memtable_bytes_max: 64 << 20,
            frozen_bytes_max: 128 << 20,
            import_bytes_max: 192 << 20,
            log_segment_bytes_max: 64 << 20,
            log_bytes_max: 512 << 20,
            footer_cache_bytes_max: 64 << 20,
            block_cache_bytes_max: 64 << 20,
            column_cache_bytes_max: 256 << 20,
            compact_in_background: true,
            system: System::real(),
        }
    }
}
