//! Reads the log when a database is opened.
//!
//! **Invariant:** hands out every whole record in order, exactly once, or fails naming file and offset.

use std::path::{Path, PathBuf};

use super::record::{self, Entry, HEADER_LEN};
use super::writer::Segment;
use super::{segment_number, segment_path};
use crate::system::{Disk, read_all};
use crate::{Error, Result};

/// The extension of a segment that is being written anew.
const TEMPORARY: &str = "tmp";

/// What the log was found to be.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The segments that stay.
    pub(crate) segments: Vec<Segment>,
    /// The number for the next segment.
    pub(crate) next_number: u64,
    /// The newest commit; 0 where there is none.
    pub(crate) last_sequence: u64,
    /// The number of the last segment, where a full disk kept it from being written anew.
    pub(crate) unsettled: Option<u64>,
}

/// Calls `apply` for each entry, in order, and cuts off a torn end. Commits up to `saved` may be missing: the manifest
/// has them.
pub(crate) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    saved: u64,
    mut apply: impl FnMut(&Entry<'_>) -> Result<()>,
) -> Result<Replayed> {
    for name in disk.list(dir).map_err(Error::io("list", dir))? {
        if name.extension().is_some_and(|extension| extension == TEMPORARY) {
            let path = dir.join(name);
            disk.remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    let numbers = numbers(disk, dir)?;
    let mut replayed = Replayed { next_number: numbers.last().map_or(1, |last| last + 1), ..Replayed::default() };
    for (index, &number) in numbers.iter().enumerate() {
        let last = index + 1 == numbers.len();
        let (file, bytes) = segment(disk, dir, &numbers, index)?;
        let mut reader = SegmentReader { file: &file, bytes: &bytes, last, sequence: replayed.last_sequence, saved };
        let whole = reader.read(&mut apply)?;
        replayed.last_sequence = reader.sequence;
        if whole <= HEADER_LEN {
            remove(disk, dir, &file)?;
            if last {
                replayed.next_number = number;
            }
            continue;
        }
        if whole < bytes.len() {
            tracing::warn!(file = %file.display(), offset = whole, bytes = bytes.len() - whole, "cut the torn end of the log");
        }
        if last && !settle_or_cut(disk, dir, &file, &bytes[..whole], whole < bytes.len())? {
            replayed.unsettled = Some(number);
        }
        let open = replayed.unsettled == Some(number);
        replayed.segments.push(Segment { number, bytes: whole as u64, last_sequence: reader.sequence, open });
    }
    Ok(replayed)
}

/// Reads the whole log and changes nothing; answers its bytes.
pub(crate) fn verify(disk: &dyn Disk, dir: &Path, saved: u64) -> Result<u64> {
    let numbers = numbers(disk, dir)?;
    let (mut sequence, mut read) = (0, 0);
    for index in 0..numbers.len() {
        let (file, bytes) = segment(disk, dir, &numbers, index)?;
        let last = index + 1 == numbers.len();
        let mut reader = SegmentReader { file: &file, bytes: &bytes, last, sequence, saved };
        reader.read(&mut |_| Ok(()))?;
        sequence = reader.sequence;
        read += bytes.len() as u64;
    }
    Ok(read)
}

fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>> {
    let names = disk.list(dir).map_err(Error::io("list", dir))?;
    Ok(names.iter().filter_map(|name| segment_number(name)).collect())
}

/// The path and the bytes of a segment, before which none may be missing.
fn segment(disk: &dyn Disk, dir: &Path, numbers: &[u64], index: usize) -> Result<(PathBuf, Vec<u8>)> {
    let file = segment_path(dir, numbers[index]);
    if index > 0 && numbers[index - 1] + 1 != numbers[index] {
        let reason = format!("the segment before it, {:010}.log, is missing", numbers[index] - 1);
        return Err(Error::Corrupt { file, offset: 0, reason });
    }
    let bytes = read_all(disk, &file).map_err(Error::io("read", &file))?;
    Ok((file, bytes))
}

/// Writes the last segment anew, durably, with what is whole in it. Its end may be in the system's cache alone, since the last
/// process was stopped before its fsync, or after one that failed and whose pages the system takes for written; later
/// commits must not stand on that.
pub(super) fn settle(disk: &dyn Disk, dir: &Path, file: &Path, whole: &[u8]) -> Result<()> {
    let fresh = file.with_extension(TEMPORARY);
    let write = || {
        let mut copy = disk.create(&fresh)?;
        copy.append(&[whole])?;
        copy.sync()
    };
    write().map_err(Error::io("write", &fresh))?;
    disk.rename(&fresh, file).map_err(Error::io("rename", &fresh))?;
    disk.sync_dir(dir).map_err(Error::io("sync", dir))
}

/// As [`settle`], but a full disk does not keep what is there from being read: then the torn end is cut off in place.
/// Answers false in that case.
fn settle_or_cut(disk: &dyn Disk, dir: &Path, file: &Path, whole: &[u8], torn: bool) -> Result<bool> {
    match settle(disk, dir, file, whole) {
        Err(Error::DiskFull { .. }) => {}
        settled => return settled.map(|()| true),
    }
    let fresh = file.with_extension(TEMPORARY);
    disk.remove(&fresh).map_err(Error::io("remove", &fresh))?;
    if torn {
        disk.truncate(file, whole.len() as u64).map_err(Error::io("truncate", file))?;
    }
    disk.append(file).and_then(|mut file| file.sync()).map_err(Error::io("sync", file))?;
    disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(false)
}

fn remove(disk: &dyn Disk, dir: &Path, file: &PathBuf) -> Result<()> {
    disk.remove(file).map_err(Error::io("remove", file))?;
    disk.sync_dir(dir).map_err(Error::io("sync", dir))
}

struct SegmentReader<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    last: bool,
    /// The commit read last; 0 before the first.
    sequence: u64,
    saved: u64,
}

impl SegmentReader<'_> {
    /// Applies all whole records; answers how many bytes are whole.
    fn read(&mut self, apply: &mut impl FnMut(&Entry<'_>) -> Result<()>) -> Result<usize> {
        match record::parse_header(self.bytes) {
            Ok(first) => self.expect_sequence(first, 0)?,
            Err(reason) if self.torn_at(0) && !record::has_header(self.bytes) => {
                tracing::warn!(file = %self.file.display(), reason, "removed a log segment that a crash cut short");
                return Ok(0);
            }
            Err(reason) => return Err(self.corrupt(0, reason)),
        }
        let mut offset = HEADER_LEN;
        while offset < self.bytes.len() {
            let record = match record::parse_record(self.bytes, offset) {
                Ok(record) => record,
                Err(_) if self.torn_at(offset) => break,
                Err(reason) => return Err(self.corrupt(offset, reason)),
            };
            self.expect_sequence(record.first_sequence, offset)?;
            let entries = record::parse_entries(&self.bytes[record.payload.clone()]).ok_or_else(|| {
                self.corrupt(
                    offset,
                    "the record is not made of entries that this juno knows; a newer one may have written it",
                )
            })?;
            for entry in &entries {
                apply(entry)?;
                self.sequence = entry.sequence;
            }
            offset = record.payload.end;
        }
        Ok(offset)
    }

    /// Whether what begins at `offset` can be the end that a crash tore.
    fn torn_at(&self, offset: usize) -> bool {
        self.last && !record::whole_record_after(self.bytes, offset)
    }

    fn expect_sequence(&self, first: u64, offset: usize) -> Result<()> {
        let (before, fits) = match self.sequence {
            0 => (self.saved, first <= self.saved + 1),
            before => (before, first == before + 1),
        };
        if fits {
            return Ok(());
        }
        let reason = format!("commit {first} follows commit {before}; what was between them is missing");
        Err(self.corrupt(offset, reason))
    }

    fn corrupt(&self, offset: usize, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: self.file.into(), offset: offset as u64, reason: reason.into() }
    }
}
