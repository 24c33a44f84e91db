//! Spreads independent items over threads.
//!
//! **Invariant:** the result of an item does not depend on the number of threads, and results come back in order.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many items a thread takes at a time.
const CHUNK_ITEMS: usize = 16;

/// `work(item)` for every item in `0..items`, on at most `threads` threads, results in order of the items. Each thread
/// makes one `scratch` and hands it to every call.
pub(crate) fn map<S, T: Send>(
    threads: usize,
    items: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let threads = threads.min(items.div_ceil(CHUNK_ITEMS));
    if threads <= 1 {
        let mut own = scratch();
        return (0..items).map(|item| work(&mut own, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut own = scratch();
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(CHUNK_ITEMS, Ordering::Relaxed);
            if start >= items {
                return done;
            }
            let end = (start + CHUNK_ITEMS).min(items);
            done.push((start, (start..end).map(|item| work(&mut own, item)).collect::<Vec<T>>()));
        }
    };
    let mut chunks: Vec<(usize, Vec<T>)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a kernel does not panic on data")).collect()
    });
    chunks.sort_unstable_by_key(|(start, _)| *start);
    chunks.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_in_order_on_any_number_of_threads() {
        let expected: Vec<usize> = (0..1_000).map(|i| i * i).collect();
        for threads in [1, 2, 3, 64] {
            assert_eq!(map(threads, 1_000, || (), |(), i| i * i), expected, "{threads} threads");
        }
    }

    #[test]
    fn no_items_are_no_results() {
        assert!(map(4, 0, || (), |(), i| i).is_empty());
    }
}
