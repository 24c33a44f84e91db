//! The errors of the engine, told apart by what the caller does next.
//!
//! **Invariant:** a message quotes what the caller wrote and never prints its source; nothing here knows SQL or HTTP.

use std::io::ErrorKind;
use std::path::PathBuf;

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use parquet::errors::ParquetError;

/// What every fallible call of the engine answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No table has this name.
    #[error("table \"{table}\" does not exist")]
    UnknownTable {
        /// The name as the caller wrote it.
        table: String,
    },
    /// A table has this name already.
    #[error("table \"{table}\" already exists")]
    TableExists {
        /// The name as the caller wrote it.
        table: String,
    },
    /// The table has no such column.
    #[error("column \"{column}\" of table \"{table}\" does not exist")]
    UnknownColumn {
        /// The table written to or read from.
        table: String,
        /// The column as the caller wrote it.
        column: String,
    },
    /// The column has another type than the caller gave.
    #[error("column \"{column}\" of table \"{table}\" has type {expected}, not {found}")]
    ColumnType {
        /// The table written to.
        table: String,
        /// The column.
        column: String,
        /// Its type in the table.
        expected: DataType,
        /// The type that the caller gave.
        found: DataType,
    },
    /// A column that is NOT NULL was null or missing.
    #[error("null value in column \"{column}\" of table \"{table}\", which is not nullable")]
    NotNull {
        /// The table written to.
        table: String,
        /// The column.
        column: String,
    },
    /// A row with this key exists and the write asked for an error rather than a replacement.
    #[error("key {key} already exists in table \"{table}\"")]
    Duplicate {
        /// The table written to.
        table: String,
        /// The key as `(id)=(1)`.
        key: String,
    },
    /// A write has a shape that no table can take.
    #[error("rows for table \"{table}\" were refused: {reason}")]
    InvalidRow {
        /// The table written to.
        table: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A table or column definition that cannot be stored.
    #[error("table \"{table}\" cannot be defined so: {reason}")]
    InvalidSchema {
        /// The table to be created or widened.
        table: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Writes waited, and a table that they change was altered or dropped meanwhile.
    #[error(
        "table \"{table}\" or another one of the transaction was altered since it was written to; run the transaction again"
    )]
    Stale {
        /// A table of the transaction.
        table: String,
    },
    /// Another process holds the data directory.
    #[error("data directory \"{}\" is open in another juno; stop it or choose another directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// An earlier write or fsync failed: reads go on, writes do not, until the database is opened anew.
    #[error("the database is read-only since a write failed: {reason}; mend the disk and open it again")]
    ReadOnly {
        /// The first failure.
        reason: String,
    },
    /// A file is damaged where no crash can have damaged it.
    #[error("file \"{}\" is damaged at byte {offset}: {reason}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage begins, in bytes from the start of the file.
        offset: u64,
        /// What was expected there.
        reason: String,
    },
    /// There is no room on the disk, and nothing of the call was kept: it may be tried again when there is.
    #[error("the disk is full: could not {verb} \"{}\"; free some space and try again", path.display())]
    DiskFull {
        /// What was tried: write, create, …
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
    /// The disk refused.
    #[error("could not {verb} \"{}\"", path.display())]
    Io {
        /// What was tried: read, write, sync, …
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Arrow refused.
    #[error("columns could not be processed")]
    Arrow(#[from] ArrowError),
    /// Parquet refused.
    #[error("a part could not be read or written")]
    Parquet(#[from] ParquetError),
}

impl Error {
    /// The message with all its sources, for logs and for [`Error::ReadOnly`].
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { verb, path, source },
            _ => Self::Io { verb, path, source },
        }
    }

    /// The same failure of the disk, for another who waits for it.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Io { verb, path, source } | Self::DiskFull { verb, path, source } => {
                Self::io(verb, path.as_path())(copied(source))
            }
            other => Self::ReadOnly { reason: other.chain() },
        }
    }
}

/// The same error of the operating system, for another who is told of it.
pub(crate) fn copied(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), error.to_string())
}
