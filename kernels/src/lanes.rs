//! Spreads independent items over threads.
//!
//! Work that nobody waits for any more ends within a few items.
//!
//! **Invariant:** the result of an item does not depend on the number of threads, and results come back in order.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Device, Error, Result};

/// How many items a thread takes at a time.
const CHUNK_ITEMS: usize = 16;

/// `work(item)` for every item in `0..items`, on the device's threads, results in order of the items. Each thread makes one
/// `scratch` and hands it to every call.
///
/// # Errors
/// [`Error::Stopped`] where the device's work was stopped meanwhile.
pub(crate) fn map<S, T: Send>(
    device: &Device,
    items: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Result<Vec<T>> {
    let threads = device.threads().min(items.div_ceil(CHUNK_ITEMS));
    if threads <= 1 {
        let mut own = scratch();
        let mut one = |item| if device.is_stopped() { Err(Error::Stopped) } else { Ok(work(&mut own, item)) };
        return (0..items).map(&mut one).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut own = scratch();
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(CHUNK_ITEMS, Ordering::Relaxed);
            if start >= items || device.is_stopped() {
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
    if device.is_stopped() {
        return Err(Error::Stopped);
    }
    chunks.sort_unstable_by_key(|(start, _)| *start);
    Ok(chunks.into_iter().flat_map(|(_, results)| results).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_in_order_on_any_number_of_threads() {
        let expected: Vec<usize> = (0..1_000).map(|i| i * i).collect();
        for threads in [1, 2, 3, 64] {
            let device = Device::cpu_with_threads(threads);
            assert_eq!(map(&device, 1_000, || (), |(), i| i * i).unwrap(), expected, "{threads} threads");
        }
    }

    #[test]
    fn no_items_are_no_results() {
        assert!(map(&Device::cpu_with_threads(4), 0, || (), |(), i| i).unwrap().is_empty());
    }

    #[test]
    fn work_that_nobody_waits_for_ends() {
        for threads in [1, 3] {
            let (device, stop) = Device::cpu_with_threads(threads).stoppable();
            let (stop, done) = (std::sync::Mutex::new(Some(stop)), AtomicUsize::new(0));
            let stopped = map(
                &device,
                1_000_000,
                || (),
                |(), i| {
                    done.fetch_add(1, Ordering::Relaxed);
                    if i == 5 {
                        drop(stop.lock().unwrap().take());
                    }
                },
            );
            assert!(matches!(stopped, Err(Error::Stopped)), "{threads} threads");
            assert!(done.into_inner() < 1_000_000);
        }
    }
}
