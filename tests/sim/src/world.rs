//! The machine that a database runs on: a disk that trembles, a clock that jumps, chance.
//!
//! **Invariant:** each access to the disk is a place where another thread may go on, and is taken down in the trace.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use juno_engine::system::{Clock, Disk, DiskRead, DiskWrite, MemoryDisk, Random, System};
use shuttle::sync::atomic::{AtomicU64, Ordering};

use crate::dice::Dice;

/// What was done to the disk, as one number that any difference changes.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Accesses so far. The scheduler's own counter, so that counting is a place where another thread may go on.
    accesses: AtomicU64,
    fingerprint: Mutex<u64>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { accesses: AtomicU64::new(0), fingerprint: Mutex::new(0xcbf2_9ce4_8422_2325) }
    }
}

impl Trace {
    /// Accesses to the disk so far.
    pub(crate) fn accesses(&self) -> u64 {
        self.accesses.load(Ordering::Relaxed)
    }

    /// The same for two histories only if they did the same to the disk in the same order.
    pub(crate) fn fingerprint(&self) -> u64 {
        *self.fingerprint.lock().expect("no panic under it")
    }

    fn access(&self, what: &str, path: &Path, pieces: &[&[u8]]) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        let mut fingerprint = self.fingerprint.lock().expect("no panic under it");
        let name = path.as_os_str().as_encoded_bytes();
        for byte in [what.as_bytes(), name].iter().chain(pieces).copied().flatten() {
            *fingerprint = (*fingerprint ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A disk in memory whose accesses are traced.
#[derive(Clone)]
pub(crate) struct TracedDisk {
    /// The disk itself.
    pub(crate) disk: MemoryDisk,
    trace: Arc<Trace>,
}

impl TracedDisk {
    /// Traces what is done to a disk.
    pub(crate) fn new(disk: MemoryDisk, trace: Arc<Trace>) -> Self {
        Self { disk, trace }
    }

    fn access(&self, what: &str, path: &Path) {
        self.trace.access(what, path, &[]);
    }
}

impl Disk for TracedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        self.access("create", path);
        let file = self.disk.create(path)?;
        Ok(Box::new(TracedFile { file, path: path.into(), trace: Arc::clone(&self.trace) }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        self.access("append", path);
        let file = self.disk.append(path)?;
        Ok(Box::new(TracedFile { file, path: path.into(), trace: Arc::clone(&self.trace) }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        self.access("open", path);
        let file = self.disk.open(path)?;
        Ok(Arc::new(TracedRead { file, path: path.into(), trace: Arc::clone(&self.trace) }))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.access("truncate", path);
        self.disk.truncate(path, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.access("rename", from);
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.access("remove", path);
        self.disk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.access("list", dir);
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.access("create directory", dir);
        self.disk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.access("sync directory", dir);
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.access("lock", path);
        self.disk.lock(path)
    }
}

struct TracedFile {
    file: Box<dyn DiskWrite>,
    path: PathBuf,
    trace: Arc<Trace>,
}

impl DiskWrite for TracedFile {
    fn append(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        self.trace.access("write", &self.path, pieces);
        self.file.append(pieces)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.trace.access("sync", &self.path, &[]);
        self.file.sync()
    }
}

struct TracedRead {
    file: Arc<dyn DiskRead>,
    path: PathBuf,
    trace: Arc<Trace>,
}

impl DiskRead for TracedRead {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.trace.access("read", &self.path, &[&offset.to_le_bytes()]);
        self.file.read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

/// When the clock of each machine starts: 2026-01-01.
pub(crate) const START_US: i64 = 1_767_225_600_000_000;

/// A clock that goes on whenever someone looks, mostly a little and sometimes much.
pub(crate) struct JumpingClock(Mutex<(u64, Dice)>);

impl Clock for JumpingClock {
    fn now_us(&self) -> i64 {
        START_US + i64::try_from(self.monotonic_us()).expect("far from the end of time")
    }

    fn monotonic_us(&self) -> u64 {
        let mut clock = self.0.lock().expect("no panic under it");
        let (now, dice) = &mut *clock;
        let exponent = dice.below(24);
        *now += 1 + dice.below(1 << exponent);
        *now
    }
}

struct Chance(Mutex<Dice>);

impl Random for Chance {
    fn next_u64(&self) -> u64 {
        self.0.lock().expect("no panic under it").bits()
    }
}

/// A machine with this disk.
pub(crate) fn machine(disk: TracedDisk, dice: &mut Dice) -> System {
    let clock = JumpingClock(Mutex::new((0, dice.fork())));
    System::new(Arc::new(clock), Arc::new(disk), Arc::new(Chance(Mutex::new(dice.fork()))))
}
