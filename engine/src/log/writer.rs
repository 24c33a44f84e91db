//! Appends groups of commits to the log and removes segments that nobody needs.
//!
//! **Invariant:** when `append` returns, the record is on the disk, or nothing of it is; after a failure that leaves this
//! open it is not called again, which the caller sees to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{self, HEADER_LEN, Kind};
use super::{replay, segment_path};
use crate::Error;
use crate::system::sync::Mutex;
use crate::system::{Disk, read_all};
use crate::tail::{Failure, Tail};

/// What one entry of a group holds; the caller keeps the body.
pub(crate) struct EntryRef<'a> {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) table: u64,
    pub(crate) body: &'a [u8],
}

/// A segment on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    /// The newest commit in it.
    pub(crate) last_sequence: u64,
    /// Whether more may be appended.
    pub(crate) open: bool,
}

/// All segments, the oldest first; shared between the writer and those who remove.
pub(crate) type Segments = Arc<Mutex<Vec<Segment>>>;

/// The end of the log.
pub(crate) struct LogWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: Segments,
    next_number: u64,
    segment_bytes_max: u64,
    open: Option<Tail>,
    /// The last segment of an earlier process, where it must be written anew before another follows it.
    unsettled: Option<u64>,
}

impl LogWriter {
    /// A writer that begins a new segment behind those that are there.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segments: Segments, next_number: u64, bytes_max: u64) -> Self {
        Self { disk, dir, segments, next_number, segment_bytes_max: bytes_max, open: None, unsettled: None }
    }

    /// The same writer, which first writes the segment with this number anew.
    pub(crate) fn settling(mut self, unsettled: Option<u64>) -> Self {
        self.unsettled = unsettled;
        self
    }

    /// Writes one record durably.
    pub(crate) fn append(&mut self, entries: &[EntryRef<'_>]) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let headers: Vec<_> =
            entries.iter().map(|e| record::entry_header(e.kind, e.sequence, e.table, e.body)).collect();
        let pieces: Vec<&[u8]> = headers.iter().zip(entries).flat_map(|(h, e)| [&h[..], e.body]).collect();
        let header = record::record_header(first.sequence, &pieces);

        let mut tail = match self.open.take() {
            Some(tail) => tail,
            None => self.begin_segment(first.sequence)?,
        };
        let all: Vec<&[u8]> = std::iter::once(&header[..]).chain(pieces).collect();
        if let Err(failure) = tail.append(&all) {
            self.open = matches!(failure, Failure::Undone(_)).then_some(tail);
            return Err(failure);
        }

        let mut segments = self.segments.lock();
        let segment = segments.last_mut().expect("begin_segment pushed it");
        segment.bytes = tail.bytes();
        segment.last_sequence = last.sequence;
        segment.open = segment.bytes < self.segment_bytes_max;
        if segment.open {
            self.open = Some(tail);
        }
        Ok(())
    }

    /// Ends the segment, so that it can be removed once it is not needed. One without a record goes on.
    pub(crate) fn rotate(&mut self) {
        if let Some(last) = self.segments.lock().last_mut().filter(|last| last.last_sequence > 0)
            && self.open.take().is_some()
        {
            last.open = false;
        }
    }

    /// Writes the last segment of an earlier process anew, where its start had no room for that.
    fn settle(&mut self) -> Result<(), Failure> {
        let Some(number) = self.unsettled else { return Ok(()) };
        let find = |segment: &&Segment| segment.number == number;
        let bytes = self.segments.lock().iter().find(find).expect("an open one is not removed").bytes;
        let path = segment_path(&self.dir, number);
        let whole = read_all(self.disk.as_ref(), &path).map_err(Error::io("read", &path));
        let whole = whole.map_err(Failure::Undone)?;
        let whole = &whole[..usize::try_from(bytes).expect("it is in memory")];
        // Neither the old file nor the new one has more in it than the other.
        replay::settle(self.disk.as_ref(), &self.dir, &path, whole).map_err(Failure::Undone)?;
        self.segments
            .lock()
            .iter_mut()
            .filter(|segment| segment.number == number)
            .for_each(|segment| segment.open = false);
        self.unsettled = None;
        Ok(())
    }

    /// A new segment with its header. What a failed try left of one, the next try or the next start takes away.
    fn begin_segment(&mut self, first_sequence: u64) -> Result<Tail, Failure> {
        self.settle()?;
        let number = self.next_number;
        let path = segment_path(&self.dir, number);
        let undone = |verb: &'static str| {
            let path = path.clone();
            move |error| Failure::Undone(Error::io(verb, path)(error))
        };
        let mut file = self.disk.create(&path).map_err(undone("create"))?;
        file.append(&[&record::header(first_sequence)]).map_err(undone("write"))?;
        file.sync().map_err(|error| Failure::Unknown(Error::io("sync", &path)(error)))?;
        self.disk.sync_dir(&self.dir).map_err(|error| Failure::Unknown(Error::io("sync", &self.dir)(error)))?;
        self.next_number += 1;
        self.segments.lock().push(Segment { number, bytes: HEADER_LEN as u64, last_sequence: 0, open: true });
        Ok(Tail::new(Arc::clone(&self.disk), path, file, HEADER_LEN as u64))
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.rotate();
    }
}

/// Removes segments, the oldest first, all of whose commits are below `needed_from`.
pub(crate) fn trim(disk: &dyn Disk, dir: &Path, segments: &Segments, needed_from: u64) -> Result<(), Failure> {
    loop {
        let oldest = match segments.lock().first() {
            Some(oldest) if oldest.last_sequence < needed_from && !oldest.open => *oldest,
            _ => return Ok(()),
        };
        let path = segment_path(dir, oldest.number);
        match disk.remove(&path) {
            // Removed before, by a try that failed after it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(|error| Failure::Undone(Error::io("remove", &path)(error)))?,
        }
        // One by one, so that no crash leaves a gap.
        disk.sync_dir(dir).map_err(|error| Failure::Unknown(Error::io("sync", dir)(error)))?;
        segments.lock().remove(0);
    }
}
