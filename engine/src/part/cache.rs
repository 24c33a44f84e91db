//! Columns of parts in memory, up to a limit: what queries read again is decompressed and decoded once.
//!
//! A part never changes and its number is not given again, so that what is kept is never out of date. What was not asked for
//! again since the hand last passed goes first (second chance), so that one large scan does not push out what many queries
//! share.
//!
//! **Invariant:** forgets only what can be read again; holds no more than its limit.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::packed::Packed;
use crate::system::sync::Mutex;

/// Part, row group, segment of the row group, column of the file.
pub(super) type SegmentKey = (u64, u32, u32, u32);

/// Nothing larger than this share of the limit is kept.
const SHARE_MAX: usize = 16;

/// Segments of columns.
#[derive(Debug)]
pub(crate) struct ColumnCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    segments: HashMap<SegmentKey, Segment>,
    /// In the order in which the hand passes.
    order: VecDeque<SegmentKey>,
    bytes: usize,
}

#[derive(Debug)]
struct Segment {
    rows: Arc<Packed>,
    bytes: usize,
    used: bool,
}

impl ColumnCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX), kept: Mutex::default() }
    }

    pub(super) fn get(&self, key: SegmentKey) -> Option<Arc<Packed>> {
        let mut kept = self.kept.lock();
        let segment = kept.segments.get_mut(&key)?;
        segment.used = true;
        Some(Arc::clone(&segment.rows))
    }

    pub(super) fn insert(&self, key: SegmentKey, rows: &Arc<Packed>) {
        let bytes = rows.bytes() + size_of::<Segment>() + 2 * size_of::<SegmentKey>();
        if bytes > self.bytes_max / SHARE_MAX {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.segments.contains_key(&key) {
            return;
        }
        kept.make_room(self.bytes_max - bytes);
        kept.bytes += bytes;
        kept.segments.insert(key, Segment { rows: Arc::clone(rows), bytes, used: false });
        kept.order.push_back(key);
    }

    /// Lets go of a part that is no more.
    pub(super) fn forget(&self, part: u64) {
        let mut kept = self.kept.lock();
        let Kept { segments, order, bytes } = &mut *kept;
        order.retain(|key| {
            let gone = key.0 == part;
            if gone && let Some(segment) = segments.remove(key) {
                *bytes -= segment.bytes;
            }
            !gone
        });
    }

    /// Bytes held.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

impl Kept {
    fn make_room(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(key) = self.order.pop_front() else { return };
            let Some(segment) = self.segments.get_mut(&key) else { continue };
            if std::mem::take(&mut segment.used) {
                self.order.push_back(key);
            } else {
                self.bytes -= segment.bytes;
                self.segments.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array};

    use super::*;

    fn rows() -> Arc<Packed> {
        let noise: ArrayRef = Arc::new(Float64Array::from_iter_values((0..1000).map(|i| f64::from(i).sqrt())));
        Arc::new(Packed::new(&[noise]).unwrap())
    }

    #[test]
    fn the_limit_holds_and_what_is_asked_for_again_stays() {
        let cache = ColumnCache::new(20 * 10_000);
        cache.insert((1, 0, 0, 0), &rows());
        for segment in 1..1000 {
            assert!(cache.get((1, 0, 0, 0)).is_some(), "{segment}");
            cache.insert((1, 0, segment, 0), &rows());
            assert!(cache.bytes() <= 200_000);
        }
        assert!(cache.get((1, 0, 1, 0)).is_none());
        cache.forget(1);
        assert_eq!(cache.bytes(), 0);
        assert!(cache.get((1, 0, 0, 0)).is_none());
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let cache = ColumnCache::new(1000);
        cache.insert((1, 0, 0, 0), &rows());
        assert_eq!(cache.bytes(), 0);
    }
}
