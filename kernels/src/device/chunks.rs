//! One call's work cut into launches that fit the device's memory, two of them under way at a time.
//!
//! While one launch computes on its lane, the next is laid out and copied on the other. Between launches a session queues
//! up again, so that sessions take turns at the grain of a launch.
//!
//! **Invariant:** knows no CUDA; results come back in the order of the items, and do not depend on the cut.

use std::ops::Range;

use super::fault::Fault;
use super::turns::{Turn, Turns};

/// More than this is cut even where it would fit, so that copies overlap computing and other sessions get their turns.
#[cfg(feature = "cuda")]
pub(crate) const CHUNK_BYTES_MAX: usize = 256 << 20;

/// Where the chunk that starts at item `first` ends: at least one item, at most `budget` bytes.
pub(crate) fn chunk_end(sizes_bytes: &[usize], first: usize, budget_bytes: usize) -> usize {
    let fits = sizes_bytes[first..].iter().scan(0usize, |taken, size| {
        *taken = taken.saturating_add(*size);
        (*taken <= budget_bytes).then_some(())
    });
    first + fits.count().max(1)
}

/// What a launch does on a lane.
pub(crate) trait Work<L> {
    /// A launch under way.
    type Flight;
    /// What a launch comes back with.
    type Landed;

    /// Lays out these items, copies them and launches; does not wait.
    fn submit(&mut self, lane: &mut L, items: Range<usize>) -> Result<Self::Flight, Fault>;

    /// Waits for a launch and brings its results.
    fn collect(&mut self, lane: &mut L, items: Range<usize>, flight: Self::Flight) -> Result<Self::Landed, Fault>;
}

/// A launch under way, with its lane.
struct Flying<'a, L, F> {
    turn: Turn<'a, L>,
    items: Range<usize>,
    flight: F,
}

/// Runs work on all items: the results of all launches in order. Work that runs out of memory is cut smaller.
pub(crate) fn run<L, W: Work<L>>(
    turns: &Turns<L>,
    sizes_bytes: &[usize],
    mut budget_bytes: usize,
    stopped: impl Fn() -> bool,
    mut work: W,
) -> Result<Vec<W::Landed>, Fault> {
    let mut landed = Vec::new();
    let mut flying: Option<Flying<L, W::Flight>> = None;
    let mut land = |work: &mut W, flying: Option<Flying<L, W::Flight>>| -> Result<(), Fault> {
        if let Some(Flying { mut turn, items, flight }) = flying {
            landed.push(work.collect(&mut turn, items, flight)?);
        }
        Ok(())
    };
    let mut first = 0;
    while first < sizes_bytes.len() {
        if stopped() {
            return Err(Fault::Stopped);
        }
        let items = first..chunk_end(sizes_bytes, first, budget_bytes);
        let second = if flying.is_some() { turns.try_take() } else { None };
        let mut turn = match second {
            Some(turn) => turn,
            None => {
                land(&mut work, flying.take())?;
                turns.take()
            }
        };
        match work.submit(&mut turn, items.clone()) {
            Ok(flight) => {
                land(&mut work, flying.replace(Flying { turn, items: items.clone(), flight }))?;
                first = items.end;
            }
            Err(Fault::OutOfMemory(_)) if items.len() > 1 || flying.is_some() => {
                drop(turn);
                land(&mut work, flying.take())?;
                budget_bytes = (sizes_bytes[items].iter().sum::<usize>() / 2).max(1);
            }
            Err(fault) => return Err(fault),
        }
    }
    land(&mut work, flying)?;
    Ok(landed)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn chunks_fit_the_budget_and_hold_one_item_at_least() {
        let sizes = [4, 4, 4, 20, 1, 1];
        let cut = |budget| {
            let mut ends = vec![chunk_end(&sizes, 0, budget)];
            while ends[ends.len() - 1] < sizes.len() {
                ends.push(chunk_end(&sizes, ends[ends.len() - 1], budget));
            }
            ends
        };
        assert_eq!(cut(100), [6]);
        assert_eq!(cut(8), [2, 3, 4, 6]);
        assert_eq!(cut(0), [1, 2, 3, 4, 5, 6]);
        assert_eq!(chunk_end(&[usize::MAX, usize::MAX], 0, 10), 1);
    }

    /// A device that holds so many bytes and squares numbers.
    struct Pretended<'a> {
        log: &'a Mutex<Vec<String>>,
        room: usize,
        used: usize,
        breaks_at: usize,
    }

    impl Work<char> for Pretended<'_> {
        type Flight = (usize, Vec<usize>);
        type Landed = Vec<usize>;

        fn submit(&mut self, lane: &mut char, items: Range<usize>) -> Result<Self::Flight, Fault> {
            if items.contains(&self.breaks_at) {
                return Err(Fault::Lost("unplugged".to_owned()));
            }
            if self.used + items.len() > self.room {
                return Err(Fault::OutOfMemory("full".to_owned()));
            }
            self.used += items.len();
            self.log.lock().unwrap().push(format!("{lane}+{}", items.len()));
            Ok((items.len(), items.map(|item| item * item).collect()))
        }

        fn collect(&mut self, lane: &mut char, _: Range<usize>, flight: Self::Flight) -> Result<Vec<usize>, Fault> {
            self.used -= flight.0;
            self.log.lock().unwrap().push(format!("{lane}-{}", flight.0));
            Ok(flight.1)
        }
    }

    fn squares(room: usize, budget: usize, breaks_at: usize) -> (Result<Vec<usize>, Fault>, String) {
        let log = Mutex::default();
        let turns = Turns::new(vec!['b', 'a']);
        let work = Pretended { log: &log, room, used: 0, breaks_at };
        let landed = run(&turns, &[1; 10], budget, || false, work).map(|landed| landed.concat());
        (landed, log.into_inner().unwrap().join(" "))
    }

    #[test]
    fn two_launches_are_under_way_on_alternating_lanes() {
        let expected: Vec<usize> = (0..10).map(|i| i * i).collect();
        let (landed, log) = squares(100, 4, usize::MAX);
        assert_eq!((landed.unwrap(), log.as_str()), (expected.clone(), "a+4 b+4 a-4 a+2 b-4 a-2"));
        assert_eq!(squares(100, 100, usize::MAX), (Ok(expected), "a+10 a-10".to_owned()));
    }

    #[test]
    fn work_that_runs_out_of_memory_is_cut_smaller_until_one_item_does_not_fit() {
        let expected: Vec<usize> = (0..10).map(|i| i * i).collect();
        for room in 1..12 {
            for budget in [1, 3, 10] {
                assert_eq!(squares(room, budget, usize::MAX).0.as_ref(), Ok(&expected), "{room} {budget}");
            }
        }
        assert!(matches!(squares(0, 10, usize::MAX).0, Err(Fault::OutOfMemory(_))));
    }

    #[test]
    fn a_lost_device_and_a_stop_end_the_work_and_free_the_lanes() {
        assert_eq!(squares(100, 2, 7).0, Err(Fault::Lost("unplugged".to_owned())));
        let (log, turns) = (Mutex::default(), Turns::new(vec!['b', 'a']));
        let (asked, work) = (AtomicUsize::new(0), Pretended { log: &log, room: 9, used: 0, breaks_at: usize::MAX });
        let stopped = || asked.fetch_add(1, Ordering::Relaxed) == 2;
        assert_eq!(run(&turns, &[1; 10], 2, stopped, work), Err(Fault::Stopped));
        assert!(turns.try_take().is_some() && turns.try_take().is_some());
    }

    #[test]
    fn a_short_session_does_not_wait_for_all_of_a_long_one() {
        let turns = Turns::new(vec!['b', 'a']);
        let (log, asked) = (Mutex::default(), AtomicUsize::new(0));
        let work = || Pretended { log: &log, room: 9, used: 0, breaks_at: usize::MAX };
        let held = turns.take();
        std::thread::scope(|scope| {
            let stopped = || {
                if asked.fetch_add(1, Ordering::Relaxed) == 2 {
                    scope.spawn(|| run(&turns, &[1], 9, || false, work()).unwrap());
                    while turns.waiting() == 0 {
                        std::thread::yield_now();
                    }
                }
                false
            };
            run(&turns, &[1; 8], 2, stopped, work()).unwrap();
        });
        drop(held);
        assert_eq!(log.into_inner().unwrap().join(" "), "b+2 b-2 b+2 b-2 b+1 b-1 b+2 b-2 b+2 b-2");
    }
}
