//! The units that a row of commands makes: who is ready, who starts, and when there may be fewer.
//!
//! A unit is ready a start-up after its order; fewer units cancel the youngest first. So the ready ones are the smallest total of
//! the last start-up. There are fewer only once no command of the last [`Pace::hold_steps`] asked for more.
//!
//! **Invariant:** knows commands, no demand; more units never wait for anything.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How fast a fleet may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pace {
    /// Steps from an order until the unit is ready.
    pub(super) lead_steps: usize,
    /// Commands that are looked back on before there are fewer.
    pub(super) hold_steps: usize,
    /// Least steps between two reductions.
    pub(super) cooldown_steps: u32,
    /// The most units of one change.
    pub(super) max_step: u32,
}

/// Units by command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fleet {
    pace: Pace,
    total: u32,
    /// Totals of the last start-up, oldest first.
    totals: VecDeque<u32>,
    /// Last commands, oldest first.
    commands: VecDeque<u32>,
    since_fewer: u32,
    begun: bool,
}

impl Fleet {
    /// So many units at least; those of the first command are ready at once, for who observes a service finds it running.
    pub(super) fn new(pace: Pace, units: u32) -> Self {
        Self {
            pace,
            total: units,
            totals: VecDeque::new(),
            commands: VecDeque::new(),
            since_fewer: u32::MAX,
            begun: false,
        }
    }

    /// Ready and starting units.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Units that carry demand.
    pub(super) fn ready(&self) -> u32 {
        self.totals.iter().copied().fold(self.total, u32::min)
    }

    /// A step passes with the units as they are.
    pub(super) fn advance(&mut self) {
        if !self.begun {
            return;
        }
        self.totals.push_back(self.total);
        if self.totals.len() > self.pace.lead_steps {
            self.totals.pop_front();
        }
        self.since_fewer = self.since_fewer.saturating_add(1);
    }

    /// There are so many units, whatever was commanded.
    pub(super) fn correct(&mut self, units: u32) {
        (self.begun, self.total) = (true, units);
    }

    /// Commands so many units; answers how many there are from now on.
    pub(super) fn command(&mut self, wanted: u32) -> u32 {
        if self.commands.len() >= self.pace.hold_steps {
            self.commands.pop_front();
        }
        self.commands.push_back(wanted);
        if !self.begun {
            (self.begun, self.total) = (true, self.total.max(wanted));
            return self.total;
        }
        if wanted >= self.total {
            self.total = wanted.min(self.total.saturating_add(self.pace.max_step));
            return self.total;
        }
        let held = self.commands.iter().copied().fold(wanted, u32::max);
        if held < self.total && self.since_fewer >= self.pace.cooldown_steps {
            self.total = held.max(self.total.saturating_sub(self.pace.max_step));
            self.since_fewer = 0;
        }
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { lead_steps: 3, hold_steps: 2, cooldown_steps: 4, max_step: 10 };

    fn step(fleet: &mut Fleet, wanted: u32) -> (u32, u32) {
        fleet.advance();
        fleet.command(wanted);
        (fleet.total(), fleet.ready())
    }

    #[test]
    fn units_are_ready_a_start_up_after_their_order() {
        let mut fleet = Fleet::new(PACE, 1);
        assert_eq!(step(&mut fleet, 2), (2, 2), "what is found running is ready");
        let ready: Vec<u32> = (0..6).map(|_| step(&mut fleet, 5).1).collect();
        assert_eq!(ready, [2, 2, 2, 5, 5, 5]);
    }

    #[test]
    fn fewer_units_wait_for_the_hold_and_the_cooldown_and_more_for_nothing() {
        let mut fleet = Fleet::new(PACE, 8);
        let totals: Vec<u32> = [8, 6, 6, 4, 4, 4, 9, 4, 4].iter().map(|&wanted| step(&mut fleet, wanted).0).collect();
        assert_eq!(totals, [8, 8, 6, 6, 6, 6, 9, 9, 4]);
    }

    #[test]
    fn a_change_is_no_larger_than_allowed() {
        let mut fleet = Fleet::new(PACE, 1);
        step(&mut fleet, 1);
        assert_eq!(step(&mut fleet, 40).0, 11);
        assert_eq!(step(&mut fleet, 40).0, 21);
    }
}
