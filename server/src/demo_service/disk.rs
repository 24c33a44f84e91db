//! The disk of a demo service: a directory with a quota, as a file system of its own would have.
//!
//! **Invariant:** it never writes beyond its quota.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// What the directory may hold.
pub(super) const QUOTA_BYTES: u64 = 8 << 20;
/// The journal is begun anew beyond this length.
const JOURNAL_BYTES_MAX: u64 = 1 << 16;
const LINE: [u8; 64] = [b'.'; 64];

/// A directory with a quota.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    }

    /// Writes a line to its journal.
    pub(super) fn append(&self) -> io::Result<()> {
        if self.used_bytes() + LINE.len() as u64 > QUOTA_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut journal = OpenOptions::new().create(true).append(true).open(self.dir.join("journal"))?;
        if journal.metadata()?.len() > JOURNAL_BYTES_MAX {
            journal.set_len(0)?;
        }
        journal.write_all(&LINE)
    }

    /// Fills all that is left.
    pub(super) fn fill(&self) -> io::Result<()> {
        let left = QUOTA_BYTES.saturating_sub(self.used_bytes());
        fs::write(self.dir.join("core"), vec![0; usize::try_from(left).map_err(io::Error::other)?])
    }
}
