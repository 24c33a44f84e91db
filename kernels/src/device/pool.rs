//! Buffers that were used and wait to be used again.
//!
//! Sizes are rounded up to four classes for each power of two, so that batches of about the same size share buffers and at
//! most a quarter of a buffer is unused.
//!
//! **Invariant:** holds no more bytes than it was given at the start; what does not fit is dropped, the largest first to go.

use std::collections::BTreeMap;

/// The smallest buffer in bytes.
const BUFFER_BYTES_MIN: usize = 512;

/// Free buffers by size.
pub(crate) struct Pool<B> {
    free: BTreeMap<usize, Vec<B>>,
    held_bytes: usize,
    held_bytes_max: usize,
}

/// The size of the buffer that is made for so many bytes.
pub(crate) fn class(bytes: usize) -> usize {
    let bytes = bytes.max(BUFFER_BYTES_MIN);
    let step = 1 << (bytes.ilog2() - 2);
    bytes.div_ceil(step) * step
}

impl<B> Pool<B> {
    pub(crate) fn new(held_bytes_max: usize) -> Self {
        Self { free: BTreeMap::new(), held_bytes: 0, held_bytes_max }
    }

    /// A free buffer of this class.
    pub(crate) fn take(&mut self, class: usize) -> Option<B> {
        let buffer = self.free.get_mut(&class)?.pop()?;
        self.held_bytes -= class;
        Some(buffer)
    }

    /// Takes a buffer back.
    pub(crate) fn put(&mut self, class: usize, buffer: B) {
        if class > self.held_bytes_max {
            return;
        }
        self.free.entry(class).or_default().push(buffer);
        self.held_bytes += class;
        while self.held_bytes > self.held_bytes_max {
            let largest = self.free.iter().rev().find(|(_, buffers)| !buffers.is_empty()).map(|(class, _)| *class);
            let Some(largest) = largest else { return };
            drop(self.take(largest));
        }
    }

    /// Gives all buffers up.
    pub(crate) fn drain(&mut self) {
        self.free.clear();
        self.held_bytes = 0;
    }

    /// How many bytes wait to be used again.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_a_quarter() {
        assert_eq!([0, 1, 512, 513, 640, 641, 1_024, 1_025].map(class), [512, 512, 512, 640, 640, 768, 1_024, 1_280]);
        for bytes in (512..100_000).step_by(37) {
            assert!(class(bytes) >= bytes && class(bytes) <= bytes + bytes / 4, "{bytes}");
            assert_eq!(class(class(bytes)), class(bytes));
        }
    }

    #[test]
    fn buffers_come_back_and_the_largest_go_when_there_are_too_many() {
        let mut pool = Pool::new(2_000);
        assert_eq!(pool.take(512), None::<&str>);
        pool.put(512, "a");
        pool.put(1_024, "b");
        assert_eq!(pool.held_bytes(), 1_536);
        pool.put(512, "c");
        assert_eq!((pool.held_bytes(), pool.take(1_024)), (1_024, None));
        assert_eq!((pool.take(512), pool.take(512), pool.take(512)), (Some("c"), Some("a"), None));
        pool.put(4_096, "larger than all that may be held");
        pool.put(512, "d");
        pool.drain();
        assert_eq!((pool.take(512), pool.held_bytes()), (None, 0));
    }
}
