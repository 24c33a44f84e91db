//! The world outside: clock, disk and randomness, each behind a trait.
//!
//! **Invariant:** the only place of the engine that touches the operating system.

mod memory;
mod real;
pub(crate) mod sync;
mod uuid;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::memory::MemoryDisk;
pub use self::real::{RealClock, RealDisk, RealRandom};
use self::uuid::UuidSource;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970, UTC. May jump.
    fn now_us(&self) -> i64;

    /// Microseconds since some moment before. Never runs backwards.
    fn monotonic_us(&self) -> u64;
}

/// Gives random bits.
pub trait Random: Send + Sync {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
}

/// Files and directories. Nothing is durable before [`DiskWrite::sync`] of the file and [`Disk::sync_dir`] of its directory.
pub trait Disk: Send + Sync {
    /// A new or emptied file to append to.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>>;
    /// An existing file to append to.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>>;
    /// An existing file to read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>>;
    /// Cuts a file to `len` bytes, durably.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Moves a file over another, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files in a directory, sorted; names, not paths.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a directory and its parents where missing, durably.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file, or answers `None` where another holds it. Dropping the guard lets go.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>>;
}

/// A file that is appended to.
pub trait DiskWrite: Send + Sync {
    /// Appends all the pieces, in order.
    fn append(&mut self, pieces: &[&[u8]]) -> io::Result<()>;
    /// Makes what was appended durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is read.
pub trait DiskRead: Send + Sync {
    /// Fills `buffer` from `offset`; an error where the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn size(&self) -> io::Result<u64>;
    /// Says which ranges of bytes will be read soon, so that a file that is far away can fetch them together.
    fn will_read(&self, _ranges: &[Range<u64>]) {}
}

/// Clock, disk and randomness together; cheap to clone.
#[derive(Clone)]
pub struct System {
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    uuids: Arc<UuidSource>,
}

impl System {
    /// The operating system's own.
    pub fn real() -> Self {
        Self::new(Arc::new(RealClock::default()), Arc::new(RealDisk), Arc::new(RealRandom))
    }

    /// A world made of these parts.
    pub fn new(clock: Arc<dyn Clock>, disk: Arc<dyn Disk>, random: Arc<dyn Random>) -> Self {
        Self { clock, disk, random, uuids: Arc::default() }
    }

    /// The same world with another disk.
    pub fn with_disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The randomness.
    pub fn random(&self) -> &dyn Random {
        self.random.as_ref()
    }

    /// A UUID of version 7 (RFC 9562), greater than all that this system made before.
    pub fn uuid_v7(&self) -> ::uuid::Uuid {
        self.uuids.next(self.clock(), self.random())
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("System")
    }
}

/// Reads a whole file.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
