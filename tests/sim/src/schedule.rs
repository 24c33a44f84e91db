//! Which thread goes on at each place where another could.
//!
//! **Invariant:** decides by the seed and by what it is shown, nothing else.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use crate::dice::Dice;

/// How threads take turns.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// The running thread goes on so many times of a hundred, else any.
    Sticky(u64),
    /// The thread of the highest priority goes on; so many times of a thousand the running one loses its own (Burckhardt
    /// et al., A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, 2010).
    Priority(u64),
}

/// Runs one execution per seed.
#[derive(Debug)]
pub(crate) struct Seeded {
    seeds: Range<u64>,
    /// The seed of the execution that runs.
    current: Arc<AtomicU64>,
    dice: Dice,
    manner: Manner,
    priorities: BTreeMap<usize, u64>,
}

impl Seeded {
    /// A scheduler for these seeds, which tells through `current` at which it is.
    pub(crate) fn new(seeds: Range<u64>, current: Arc<AtomicU64>) -> Self {
        Self { seeds, current, dice: Dice::new(0), manner: Manner::Sticky(0), priorities: BTreeMap::new() }
    }

    fn priority(&mut self, task: TaskId) -> u64 {
        let dice = &mut self.dice;
        *self.priorities.entry(task.into()).or_insert_with(|| (1 << 32) + dice.below(1 << 32))
    }
}

impl Scheduler for Seeded {
    fn new_execution(&mut self) -> Option<Schedule> {
        let seed = self.seeds.next()?;
        self.current.store(seed, Ordering::Relaxed);
        self.dice = Dice::new(seed ^ 0x5c4e_d01e);
        self.priorities.clear();
        self.manner = match self.dice.below(4) {
            0 => Manner::Sticky(0),
            1 => Manner::Sticky(50),
            2 => Manner::Sticky(90),
            _ => Manner::Priority(5 + self.dice.below(40)),
        };
        Some(Schedule::new(seed))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        let running = current.filter(|current| runnable.iter().any(|task| task.id() == *current));
        match self.manner {
            Manner::Sticky(percent) => match running.filter(|_| !is_yielding && self.dice.percent(percent)) {
                Some(running) => Some(running),
                None => Some(self.dice.pick(runnable).id()),
            },
            Manner::Priority(changes) => {
                if let Some(running) = running.filter(|_| is_yielding || self.dice.below(1000) < changes) {
                    let low = self.dice.below(1 << 32);
                    self.priorities.insert(running.into(), low);
                }
                runnable.iter().map(|task| task.id()).max_by_key(|&task| self.priority(task))
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.dice.bits()
    }
}
