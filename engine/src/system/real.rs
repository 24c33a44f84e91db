//! The operating system's clock, files and randomness.
//!
//! **Invariant:** holds no state of the database.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Clock, Disk, DiskRead, DiskWrite, Random};

/// The system clock.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the place that everybody else takes the time from")]
impl Default for RealClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place that everybody else takes the time from")]
impl Clock for RealClock {
    fn now_us(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        }
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The operating system's randomness.
#[derive(Debug, Default)]
pub struct RealRandom;

#[expect(clippy::disallowed_methods, reason = "this is the place that everybody else takes randomness from")]
impl Random for RealRandom {
    fn next_u64(&self) -> u64 {
        // Bytes 6 and 8 of a version 4 UUID hold version and variant; all others are random.
        let bytes = uuid::Uuid::new_v4().into_bytes();
        let [a, b, c, d, e, f, ..] = bytes;
        u64::from_be_bytes([a, b, c, d, e, f, bytes[14], bytes[15]])
    }
}

/// Local files.
#[derive(Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        Ok(Box::new(Appender(File::create(path)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        Ok(Box::new(Appender(OpenOptions::new().append(true).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(PathBuf::from(entry.file_name()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.create_dir(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.sync_dir(parent),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let file = match OpenOptions::new().create(true).truncate(false).write(true).open(path) {
            Ok(file) => file,
            // What may only be read can be locked all the same, and without a lock file nobody has it open.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                match File::open(path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Box::new(()))),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Pieces shorter than this are copied together to save system calls.
const COPIED_LEN_MAX: usize = 16 * 1024;

struct Appender(File);

impl DiskWrite for Appender {
    fn append(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        let mut small = Vec::new();
        for piece in pieces {
            if piece.len() < COPIED_LEN_MAX {
                small.extend_from_slice(piece);
                continue;
            }
            self.0.write_all(&small)?;
            small.clear();
            self.0.write_all(piece)?;
        }
        self.0.write_all(&small)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl DiskRead for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
