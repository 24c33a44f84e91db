//! A part that is in the bucket only, read by ranges.
//!
//! Each request takes some ten milliseconds, however few bytes it asks for. So the ranges that a reader announces are fetched together,
//! and any other read fetches what lies behind it too.
//!
//! **Invariant:** holds at most [`AHEAD_BYTES_MAX`] of bytes that nobody has asked for yet.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use juno_sql::engine::system::DiskRead;

use super::Remote;

/// Bytes that are kept for reads to come.
const AHEAD_BYTES_MAX: u64 = 32 << 20;
/// Bytes that a read which was not announced fetches at least.
const READ_BYTES_MIN: u64 = 1 << 20;

pub(super) struct Object {
    remote: Arc<Remote>,
    name: String,
    size: u64,
    /// Where bytes begin, and the bytes; those fetched first first.
    ahead: Mutex<VecDeque<(u64, Bytes)>>,
}

impl Object {
    pub(super) fn open(remote: &Arc<Remote>, name: String) -> io::Result<Object> {
        let size = remote.size(&name)?;
        Ok(Object { remote: Arc::clone(remote), name, size, ahead: Mutex::default() })
    }

    /// The bytes of a range, where they were fetched.
    fn fetched(&self, range: &Range<u64>) -> Option<Bytes> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |(start, bytes): &&(u64, Bytes)| *start <= range.start && range.end <= start + bytes.len() as u64;
        let (start, bytes) = ahead.iter().find(holds)?;
        let from = usize::try_from(range.start - start).ok()?;
        Some(bytes.slice(from..from + usize::try_from(range.end - range.start).ok()?))
    }

    fn keep(&self, fetched: impl IntoIterator<Item = (u64, Bytes)>) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.extend(fetched);
        let mut bytes: u64 = ahead.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        while bytes > AHEAD_BYTES_MAX {
            let Some((_, oldest)) = ahead.pop_front() else { break };
            bytes -= oldest.len() as u64;
        }
    }
}

impl DiskRead for Object {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = offset..offset + buffer.len() as u64;
        let bytes = match self.fetched(&range) {
            Some(bytes) => bytes,
            None => {
                let end = range.end.max((offset + READ_BYTES_MIN).min(self.size));
                let bytes = self.remote.read(&self.name, offset..end)?;
                if bytes.len() > buffer.len() {
                    self.keep([(offset, bytes.clone())]);
                }
                bytes
            }
        };
        let wanted = bytes.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(wanted);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn will_read(&self, ranges: &[Range<u64>]) {
        let ranges: Vec<_> = ranges.iter().filter(|range| self.fetched(range).is_none()).cloned().collect();
        if ranges.is_empty() || ranges.iter().map(|range| range.end - range.start).sum::<u64>() > AHEAD_BYTES_MAX {
            return;
        }
        // What fails here is met by the read itself.
        if let Ok(fetched) = self.remote.read_all(&self.name, ranges.clone()) {
            self.keep(ranges.iter().map(|range| range.start).zip(fetched));
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path as Key;
    use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn bytes_are_those_of_the_object_and_those_fetched_before_need_no_bucket() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let remote = Remote { store: Arc::clone(&store), prefix: Key::from("p"), runtime: Some(runtime) };
        let key = remote.key("part");
        let put = content.clone();
        remote.wait(async move { store.put(&key, PutPayload::from(put)).await }).unwrap();
        let object = Object::open(&Arc::new(remote), "part".into()).unwrap();
        let read = |offset: u64, len: usize| {
            let mut buffer = vec![0; len];
            object.read_at(&mut buffer, offset).map(|()| buffer)
        };
        let wanted = |offset: usize, len: usize| content[offset..offset + len].to_vec();
        assert_eq!((object.size().unwrap(), read(5, 10).unwrap()), (3_000_000, wanted(5, 10)));
        object.will_read(&[1_500_000..1_600_000, 2_999_000..3_000_000]);
        object.remote.remove("part").unwrap();
        for (offset, len) in [(5, 10), (900_000, 1000), (1_500_000, 100_000), (1_550_000, 1), (2_999_999, 1)] {
            assert_eq!(read(offset, len).unwrap(), wanted(offset as usize, len), "{offset}");
        }
        assert!(read(1_200_000, 10).is_err() && read(1_599_990, 20).is_err());
    }
}
