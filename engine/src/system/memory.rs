//! A disk in memory that can fail and crash, for tests and for databases that need not last.
//!
//! **Invariant:** after [`MemoryDisk::crash`] only what was synced is certain to be there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskRead, DiskWrite};

/// Files in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    failure: Option<(u64, Failure)>,
    reads: u64,
    /// Reads with these numbers fail.
    unreadable: Range<u64>,
    capacity: Option<u64>,
    dead: bool,
    dice: u64,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
    /// A sync failed: what was not durable then never will be, though later syncs claim success.
    lost: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, Inode),
    Unset(PathBuf),
    Move(PathBuf, PathBuf),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    Once,
    Crash,
}

impl MemoryDisk {
    /// Changes made so far: creations, appends, syncs, truncations, renames, removals.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The change with this number fails, and all after it succeed again.
    pub fn fail_once_at(&self, operation: u64) {
        self.state.lock().failure = Some((operation, Failure::Once));
    }

    /// The change with this number and everything after it fails, as if the machine had stopped; `seed` says how much
    /// of what was not synced survives.
    pub fn crash_at(&self, operation: u64, seed: u64) {
        let mut state = self.state.lock();
        state.failure = Some((operation, Failure::Crash));
        state.dice = seed;
    }

    /// Openings and reads of files so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// The openings and reads with these numbers fail, and all after them succeed again.
    pub fn fail_reads(&self, numbers: Range<u64>) {
        self.state.lock().unreadable = numbers;
    }

    /// How many bytes all files together may have from now on; no limit where absent.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// The disk as the next start finds it: what was synced, and an arbitrary part of what was not.
    pub fn after_crash(&self, seed: u64) -> Self {
        let mut state = self.state.lock();
        state.dead = true;
        state.dice = seed;
        let pending = state.pending.len();
        let survivors = state.roll(pending + 1);
        let mut names = state.durable_names.clone();
        for change in &state.pending[..survivors] {
            change.apply(&mut names);
        }
        let mut fresh = State::default();
        for (path, inode) in names {
            let content = inode.lock();
            let torn = content.synced + state.roll(content.bytes.len() - content.synced + 1);
            let mut bytes = content.bytes[..torn].to_vec();
            if torn < content.bytes.len() && state.roll(2) == 0 {
                bytes.resize(content.bytes.len(), 0);
            }
            let copy: Inode = Arc::new(Mutex::new(Content { synced: bytes.len(), bytes, lost: false }));
            fresh.names.insert(path.clone(), Arc::clone(&copy));
            fresh.durable_names.insert(path, copy);
        }
        Self { state: Arc::new(Mutex::new(fresh)) }
    }

    /// The disk as the next start finds it where only the process is gone: what was written is there, synced or not, and
    /// what was not synced may still be lost when the machine stops.
    pub fn after_kill(&self) -> Self {
        let mut state = self.state.lock();
        state.dead = true;
        let fresh = State {
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending: state.pending.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(fresh)) }
    }

    /// Changes a file behind the engine's back.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let inode = self.state.lock().find(path)?;
        let mut content = inode.lock();
        change(&mut content.bytes);
        content.synced = content.bytes.len();
        Ok(())
    }
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Set(path, _) | Self::Unset(path) | Self::Move(_, path) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Inode>) {
        match self {
            Self::Set(path, inode) => {
                names.insert(path.clone(), Arc::clone(inode));
            }
            Self::Unset(path) => {
                names.remove(path);
            }
            Self::Move(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl State {
    /// A number below `sides` (SplitMix64).
    fn roll(&mut self, sides: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("less than a usize")
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        if self.dead {
            return Err(stopped());
        }
        self.names.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Counts a change and decides whether it fails.
    fn step(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(stopped());
        }
        self.operations += 1;
        match self.failure {
            Some((at, failure)) if at == self.operations => {
                self.dead = failure == Failure::Crash;
                Err(stopped())
            }
            _ => Ok(()),
        }
    }

    /// Counts a read and decides whether it fails.
    fn read(&mut self) -> io::Result<()> {
        self.reads += 1;
        if self.dead || self.unreadable.contains(&self.reads) {
            return Err(stopped());
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| inode.lock().bytes.len() as u64).sum()
    }

    /// Whether so many more bytes fit, and how many do.
    fn reserve(&self, bytes: usize) -> (usize, io::Result<()>) {
        let room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        match usize::try_from(room) {
            Ok(room) if room < bytes => (room, Err(io::ErrorKind::StorageFull.into())),
            _ => (bytes, Ok(())),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

fn stopped() -> io::Error {
    io::Error::other("injected fault")
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        let mut state = self.state.lock();
        state.step()?;
        let inode = Inode::default();
        state.change(NameChange::Set(path.into(), Arc::clone(&inode)));
        Ok(Box::new(MemoryFile { disk: self.clone(), inode }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        let inode = self.state.lock().find(path)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        let mut state = self.state.lock();
        state.read()?;
        let inode = state.find(path)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), inode }))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        let inode = state.find(path)?;
        let mut content = inode.lock();
        content.bytes.truncate(usize::try_from(len).map_err(io::Error::other)?);
        content.synced = if content.lost { content.synced.min(content.bytes.len()) } else { content.bytes.len() };
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        state.find(from)?;
        state.change(NameChange::Move(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        state.find(path)?;
        state.change(NameChange::Unset(path.into()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock();
        if state.dead {
            return Err(stopped());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name().map(PathBuf::from)).collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        let (synced, left) =
            state.pending.drain(..).partition::<Vec<_>, _>(|change| change.path().parent() == Some(dir));
        state.pending = left;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let taken = self.state.lock().locks.insert(path.into());
        Ok(taken.then(|| Box::new(MemoryLock { disk: self.clone(), path: path.into() }) as Box<dyn Send + Sync>))
    }
}

struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    inode: Inode,
}

impl DiskWrite for MemoryFile {
    fn append(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let bytes = pieces.concat();
        let (kept, outcome) = match state.step() {
            Ok(()) => state.reserve(bytes.len()),
            failed => (state.roll(bytes.len() + 1), failed),
        };
        self.inode.lock().bytes.extend_from_slice(&bytes[..kept]);
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        let outcome = self.disk.state.lock().step();
        let mut content = self.inode.lock();
        content.lost |= outcome.is_err();
        if !content.lost {
            content.synced = content.bytes.len();
        }
        outcome
    }
}

impl DiskRead for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.state.lock().read()?;
        let content = self.inode.lock();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = start.checked_add(buffer.len()).and_then(|end| content.bytes.get(start..end));
        buffer.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.inode.lock().bytes.len() as u64)
    }
}
