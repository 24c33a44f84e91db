//! Whose turn it is: sessions share the lanes of a device, first come, first served, one launch at a time.
//!
//! **Invariant:** who waits for a lane holds none, so that nobody waits for ever; a second lane is taken only when it is
//! free and nobody waits for it.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The lanes of one device.
pub(crate) struct Turns<L> {
    state: Mutex<State<L>>,
    changed: Condvar,
}

struct State<L> {
    free: Vec<L>,
    /// Tickets handed out and tickets served.
    next: u64,
    served: u64,
}

/// A lane in use; it is free again when this is dropped.
pub(crate) struct Turn<'a, L> {
    turns: &'a Turns<L>,
    lane: Option<L>,
}

impl<L> Turns<L> {
    pub(crate) fn new(lanes: Vec<L>) -> Self {
        Self { state: Mutex::new(State { free: lanes, next: 0, served: 0 }), changed: Condvar::new() }
    }

    /// Waits until a lane is free and all who came before have had theirs.
    pub(crate) fn take(&self) -> Turn<'_, L> {
        let mut state = self.state();
        let ticket = state.next;
        state.next += 1;
        loop {
            if state.served == ticket
                && let Some(lane) = state.free.pop()
            {
                state.served += 1;
                self.changed.notify_all();
                return Turn { turns: self, lane: Some(lane) };
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A lane that nobody waits for, if there is one.
    pub(crate) fn try_take(&self) -> Option<Turn<'_, L>> {
        let mut state = self.state();
        if state.served != state.next {
            return None;
        }
        let lane = state.free.pop()?;
        Some(Turn { turns: self, lane: Some(lane) })
    }

    /// How many wait for a lane.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.state();
        state.next - state.served
    }

    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> Drop for Turn<'_, L> {
    fn drop(&mut self) {
        self.turns.state().free.extend(self.lane.take());
        self.turns.changed.notify_all();
    }
}

impl<L> Deref for Turn<'_, L> {
    type Target = L;

    fn deref(&self) -> &L {
        self.lane.as_ref().expect("held until dropped")
    }
}

impl<L> DerefMut for Turn<'_, L> {
    fn deref_mut(&mut self) -> &mut L {
        self.lane.as_mut().expect("held until dropped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_somebody_waits_for_is_not_taken_in_passing() {
        let turns = Turns::new(vec![0, 1]);
        let (first, second) = (turns.take(), turns.try_take().unwrap());
        assert_ne!(*first, *second);
        assert!(turns.try_take().is_none());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| *turns.take());
            while turns.waiting() == 0 {
                std::thread::yield_now();
            }
            assert!(turns.try_take().is_none(), "somebody waits");
            drop(first);
            waiter.join().unwrap();
        });
        assert!(turns.try_take().is_some());
    }

    #[test]
    fn sessions_are_served_in_the_order_they_came() {
        let turns = Turns::new(vec![()]);
        let served = Mutex::new(Vec::new());
        let held = turns.take();
        std::thread::scope(|scope| {
            for session in 0..4u64 {
                scope.spawn({
                    let (turns, served) = (&turns, &served);
                    move || {
                        let _turn = turns.take();
                        served.lock().unwrap().push(session);
                    }
                });
                // The next session comes when this one stands in the line.
                while turns.state().next != session + 2 {
                    std::thread::yield_now();
                }
            }
            drop(held);
        });
        assert_eq!(served.into_inner().unwrap(), [0, 1, 2, 3]);
    }
}
