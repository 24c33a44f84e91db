//! Reads a part's file by blocks whose checksums the manifest holds, so that no damaged byte is taken for data.
//!
//! **Invariant:** every byte handed out lay in a block that matched its checksum.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::copied;
use crate::system::DiskRead;

/// Bytes in a block; the last one of a file may be shorter.
pub(crate) const BLOCK_LEN: u64 = 64 * 1024;

/// Bytes that are read at once where a whole file is; whole blocks.
const READ_LEN: u64 = 16 * BLOCK_LEN;

/// Checksums of a file that is being written.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    whole: Vec<u32>,
    current: crc32fast::Hasher,
    current_len: u64,
}

impl Checksums {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let left = usize::try_from(BLOCK_LEN - self.current_len).expect("less than a block");
            let (now, later) = bytes.split_at(left.min(bytes.len()));
            self.current.update(now);
            self.current_len += now.len() as u64;
            if self.current_len == BLOCK_LEN {
                self.whole.push(std::mem::take(&mut self.current).finalize());
                self.current_len = 0;
            }
            bytes = later;
        }
    }

    /// The CRC-32 of each block.
    pub(super) fn finish(mut self) -> Vec<u32> {
        if self.current_len > 0 {
            self.whole.push(self.current.finalize());
        }
        self.whole
    }
}

/// Why the disk refused to read a file, where it did; Parquet's errors do not tell that from damage.
pub(super) type Refused = Arc<OnceLock<io::Error>>;

/// A part's file as Parquet wants it.
#[derive(Clone)]
pub(super) struct PartFile {
    pub(super) file: Arc<dyn DiskRead>,
    pub(super) len: u64,
    pub(super) checksums: Arc<[u32]>,
    /// Where the first damaged block begins; `u64::MAX` while none was met.
    pub(super) damaged_at: Arc<AtomicU64>,
    pub(super) refused: Refused,
}

impl PartFile {
    /// The whole file, some blocks at a time.
    pub(super) fn blocks(&self) -> impl Iterator<Item = io::Result<Bytes>> {
        let starts = (0..self.len).step_by(READ_LEN as usize);
        starts.map(|start| self.read(start, (self.len - start).min(READ_LEN)))
    }

    /// Says which ranges of bytes will be read soon.
    pub(super) fn will_read(&self, ranges: impl IntoIterator<Item = Range<u64>>) {
        let mut blocks: Vec<Range<u64>> = ranges
            .into_iter()
            .map(|range| range.start / BLOCK_LEN * BLOCK_LEN..range.end.next_multiple_of(BLOCK_LEN).min(self.len))
            .collect();
        blocks.sort_unstable_by_key(|range| range.start);
        blocks.dedup_by(|next, before| {
            let joins = next.start <= before.end;
            if joins {
                before.end = before.end.max(next.end);
            }
            joins
        });
        self.file.will_read(&blocks);
    }

    /// Bytes of the file, from whole blocks that were checked.
    fn read(&self, start: u64, len: u64) -> io::Result<Bytes> {
        let end = start.checked_add(len).filter(|&end| end <= self.len).ok_or(io::ErrorKind::UnexpectedEof)?;
        let first = start / BLOCK_LEN * BLOCK_LEN;
        let last = end.next_multiple_of(BLOCK_LEN).min(self.len);
        let mut bytes = vec![0; usize::try_from(last - first).map_err(io::Error::other)?];
        self.file.read_at(&mut bytes, first).inspect_err(|error| {
            // A file that ends early is damaged.
            if error.kind() != io::ErrorKind::UnexpectedEof {
                self.refused.get_or_init(|| copied(error));
            }
        })?;
        let block_len = usize::try_from(BLOCK_LEN).map_err(io::Error::other)?;
        for (number, block) in (first / BLOCK_LEN..).zip(bytes.chunks(block_len)) {
            let expected = usize::try_from(number).ok().and_then(|number| self.checksums.get(number));
            if expected != Some(&crc32fast::hash(block)) {
                self.damaged_at.fetch_min(number * BLOCK_LEN, Ordering::Relaxed);
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a block does not match its checksum"));
            }
        }
        let from = usize::try_from(start - first).map_err(io::Error::other)?;
        let to = usize::try_from(end - first).map_err(io::Error::other)?;
        Ok(Bytes::from(bytes).slice(from..to))
    }
}

impl Length for PartFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for PartFile {
    type T = Cursor;

    fn get_read(&self, start: u64) -> Result<Cursor, ParquetError> {
        Ok(Cursor { file: self.clone(), at: start, ready: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.read(start, length as u64)?)
    }
}

/// Reads a file from some place on, a block at a time.
pub(super) struct Cursor {
    file: PartFile,
    at: u64,
    ready: Bytes,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && self.at < self.file.len {
            let end = (self.at + 1).next_multiple_of(BLOCK_LEN).min(self.file.len);
            self.ready = self.file.read(self.at, end - self.at)?;
            self.at = end;
        }
        let count = buffer.len().min(self.ready.len());
        buffer[..count].copy_from_slice(&self.ready.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::system::{Disk, MemoryDisk};

    #[test]
    fn any_range_reads_back_and_a_changed_byte_is_met_in_its_block_only() {
        let disk = MemoryDisk::default();
        let path = Path::new("part");
        let written: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let mut file = disk.create(path).unwrap();
        let mut checksums = Checksums::default();
        for piece in written.chunks(7_777) {
            file.append(&[piece]).unwrap();
            checksums.update(piece);
        }
        let part = PartFile {
            file: disk.open(path).unwrap(),
            len: 200_000,
            checksums: checksums.finish().into(),
            damaged_at: Arc::new(AtomicU64::new(u64::MAX)),
            refused: Refused::default(),
        };
        for (start, len) in [(0, 200_000), (1, 10), (65_535, 2), (65_536, 65_536), (199_999, 1), (200_000, 0)] {
            assert_eq!(part.read(start as u64, len as u64).unwrap(), written[start..start + len]);
        }
        let mut rest = Vec::new();
        part.get_read(100_000).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, written[100_000..]);
        assert!(part.read(199_999, 2).is_err());

        disk.damage(path, |bytes| bytes[70_000] ^= 1).unwrap();
        assert_eq!(part.read(10, 100).unwrap(), written[10..110]);
        assert!(part.read(140_000, 100).is_ok());
        assert!(part.read(100_000, 1).is_err());
        assert_eq!(part.damaged_at.load(Ordering::Relaxed), 65_536);
    }
}
