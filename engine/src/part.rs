//! Parts: immutable Parquet files, each holding rows of one table sorted by key.
//!
//! Any Parquet reader reads them. Only a part over older ones can have columns that the table does not have, and only
//! where there is need: `__deleted`, true in rows that mark a key as deleted and hold nothing else, and, in telemetry
//! tables, `__whole`, true in rows that older rows of their key do not show through. In a part of a telemetry table
//! without a mark on a row, a null means that the value is that of the newest older part which has one. Columns that no row of the part names are absent.
//! Doubles that are decimals are stored as DECIMAL of 32 or 64 bits, and integers of 64 bits that fit as integers of 32;
//! such a field has the type of the table's column as the metadata `juno.type` in the Arrow schema of the file. The
//! manifest holds the CRC-32 of each block of 64 KiB of the file.
//!
//! **Invariant:** the only place that knows Parquet; a part's file is removed only after the manifest forgot it and the
//! last snapshot let go of it.

pub(crate) mod aggregate;
mod block;
mod cache;
mod column;
mod delta;
mod encoding;
mod footer;
mod packed;
mod prune;
mod reader;
mod rows;
mod stored;
pub(crate) mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use self::block::{PartFile, Refused};
pub(crate) use self::footer::FooterCache;
pub(crate) use self::prune::ReadPlan;
pub(crate) use self::reader::PartReader;
pub(crate) use self::rows::PartRows;
pub(crate) use self::stored::Profile;
use crate::error::copied;
use crate::manifest::PartRecord;
use crate::system::Disk;
use crate::{Error, Result};

/// The extension of parts.
const EXTENSION: &str = "parquet";

/// The extension of a part that is being written.
pub(crate) const TEMPORARY: &str = "tmp";

/// One part. Dropping the last reference to an obsolete one removes its file.
pub(crate) struct Part {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub(crate) record: PartRecord,
    footers: Arc<FooterCache>,
    checksums: Arc<[u32]>,
    damaged_at: Arc<AtomicU64>,
    obsolete: AtomicBool,
}

impl Part {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, record: PartRecord, footers: Arc<FooterCache>) -> Self {
        let path = part_path(dir, record.number);
        let checksums = record.checksums.clone().into();
        let damaged_at = Arc::new(AtomicU64::new(u64::MAX));
        Self { disk, path, record, footers, checksums, damaged_at, obsolete: AtomicBool::new(false) }
    }

    /// The same part as made by commit `sequence`.
    pub(crate) fn at(&self, sequence: u64) -> Self {
        let record = PartRecord { sequence, ..self.record.clone() };
        let dir = self.path.parent().expect("parts lie in a folder");
        Self::new(Arc::clone(&self.disk), dir, record, Arc::clone(&self.footers))
    }

    /// The columns in the file, the hidden ones among them.
    pub(crate) fn columns(&self) -> Result<SchemaRef> {
        Ok(Arc::clone(self.footer()?.schema()))
    }

    /// Says that the manifest does not name the part any more.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Relaxed);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file against its checksums, and hands it on piece by piece.
    pub(crate) fn read_blocks(&self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let file = self.file()?;
        for piece in file.blocks() {
            take(&piece.map_err(|error| self.unread(&file.refused, &error))?)?;
        }
        Ok(())
    }

    /// The footer with the page index, from memory where it is there.
    pub(crate) fn footer(&self) -> Result<ArrowReaderMetadata> {
        self.footers.get(self.record.number, || {
            let file = self.file()?;
            reader::load_footer(&file).map_err(|error| self.unread(&file.refused, &error))
        })
    }

    /// The error for a part of which something could not be read: the disk's own where it refused, else damage.
    fn unread(&self, refused: &Refused, error: &dyn std::error::Error) -> Error {
        match refused.get() {
            Some(refused) => Error::io("read", &self.path)(copied(refused)),
            None => self.damaged(error),
        }
    }

    /// The error for a part that cannot be read as what the manifest says it is.
    fn damaged(&self, error: &dyn std::error::Error) -> Error {
        let offset = match self.damaged_at.load(Ordering::Relaxed) {
            u64::MAX => 0,
            offset => offset,
        };
        Error::Corrupt { file: self.path.clone(), offset, reason: error.to_string() }
    }

    fn file(&self) -> Result<PartFile> {
        let file = self.disk.open(&self.path).map_err(Error::io("open", &self.path))?;
        let size = file.size().map_err(Error::io("read", &self.path))?;
        if size != self.record.bytes {
            let reason = format!("the part has {size} bytes, and the manifest says {}", self.record.bytes);
            return Err(Error::Corrupt { file: self.path.clone(), offset: size.min(self.record.bytes), reason });
        }
        let (checksums, damaged_at) = (Arc::clone(&self.checksums), Arc::clone(&self.damaged_at));
        Ok(PartFile { file, len: size, checksums, damaged_at, refused: Refused::default() })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.footers.forget(self.record.number);
        if self.obsolete.load(Ordering::Relaxed)
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::warn!(%error, file = %self.path.display(), "could not remove a dropped part; the next start will");
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("record", &self.record).finish_non_exhaustive()
    }
}

/// The path of a part.
pub(crate) fn part_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.{EXTENSION}"))
}

/// The number of a part, from its name; none for other files.
pub(crate) fn part_number(name: &Path) -> Option<u64> {
    if name.extension()? != EXTENSION {
        return None;
    }
    name.file_stem()?.to_str()?.parse().ok()
}
