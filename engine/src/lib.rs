//! juno-engine, the storage engine of juno: durable columns in one directory.
//!
//! Rows go into a log and a memtable, are flushed to sorted Parquet parts, and are read through [`Snapshot`]s that stay
//! as they are while writes go on. [`Db`] is the door.
//!
//! **Invariant:** synchronous, with own threads; knows no SQL, no sockets, no kernels.

mod append;
mod backoff;
mod backup;
mod build;
mod catalog;
mod check;
mod commit;
mod compaction;
mod condition;
mod db;
mod definition;
mod error;
mod flush;
mod follow;
mod import;
mod key;
mod latest;
mod log;
mod lookup;
mod manifest;
mod mark;
mod memtable;
mod merge;
mod open;
mod options;
mod part;
mod pending;
mod retention;
mod rollup;
mod scan;
mod schema;
mod snapshot;
mod state;
mod status;
mod store;
pub mod system;
mod tail;
mod window;
mod write;

pub use self::backup::{BackupReport, restore};
pub use self::catalog::Catalog;
pub use self::check::{CheckReport, CheckedTable, Damage, check};
pub use self::db::Db;
pub use self::definition::Alteration;
pub use self::error::{Error, Result};
pub use self::follow::{Followed, Follower};
pub use self::import::ImportReport;
pub use self::options::Options;
pub use self::part::aggregate::{Blocks, Measure, Selected};
pub use self::pending::{Mark, Pending, PreparedWrites, TableChange};
pub use self::rollup::{ROLLUPS_MAX, Rollup};
pub use self::scan::{Comparison, FieldFilter, ScanRequest, TagFilter, TimeRange};
pub use self::schema::{COLUMNS_MAX, Column, TableKind, TableSchema};
pub use self::snapshot::{BlockSpan, RollupStatus, Slice, SliceReader, Snapshot, TableSnapshot};
pub use self::status::{CompactionReport, FlushReport, PartRead, SliceStats, Status};
pub use self::write::{OnConflict, Write};

/// The most rows in a batch that a scan gives.
pub const BATCH_ROWS_MAX: usize = 8192;

/// The most bytes of one commit in the log.
pub const COMMIT_BYTES_MAX: usize = 1 << 30;
