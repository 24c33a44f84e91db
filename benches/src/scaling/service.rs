//! The simulated service: replicas that are billed from the command on and serve once they have started.
//!
//! A command comes every [`CONTROL_SLOTS`] slots. More replicas than there are begin to start; fewer cancels those that start
//! first, the youngest before others, and then stops ready ones at once. Demand beyond what the ready ones carry is lost.
//!
//! **Invariant:** a command is asked for with the demand of past slots only, and acts from the next slot on.

use std::collections::VecDeque;

/// Seconds of a slot.
pub const SLOT_S: usize = 5;
/// Slots between commands: 15 s.
pub const CONTROL_SLOTS: usize = 3;

/// The replicas of a service.
#[derive(Clone, Debug)]
pub struct Replicas {
    ready: f64,
    /// Slot from which on they are ready, and how many; oldest first.
    starting: VecDeque<(usize, f64)>,
    boot: usize,
}

impl Replicas {
    /// So many ready ones; new ones take `boot` slots to start.
    #[must_use]
    pub fn new(ready: f64, boot: usize) -> Self {
        Self { ready, starting: VecDeque::new(), boot }
    }

    /// Those that serve.
    #[must_use]
    pub fn ready(&self) -> f64 {
        self.ready
    }

    /// Those that do not serve yet.
    #[must_use]
    pub fn starting(&self) -> f64 {
        self.starting.iter().map(|(_, count)| count).sum()
    }

    /// What has started by this slot becomes ready.
    pub fn advance(&mut self, slot: usize) {
        while let Some((_, count)) = self.starting.pop_front_if(|(at, _)| *at <= slot) {
            self.ready += count;
        }
    }

    /// From the end of this slot on there shall be so many.
    pub fn command(&mut self, slot: usize, to: f64) {
        let now = self.ready + self.starting();
        if to > now {
            self.starting.push_back((slot + self.boot, to - now));
        }
        let mut less = now - to;
        while less > 0.0
            && let Some((at, count)) = self.starting.pop_back()
        {
            if count > less {
                self.starting.push_back((at, count - less));
            }
            less -= count;
        }
        self.ready -= less.max(0.0);
    }
}

/// What whoever commands sees every 15 s.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Demand of all slots so far.
    pub demand: &'a [f64],
    /// Replicas that serve.
    pub ready: f64,
    /// Replicas that start.
    pub starting: f64,
    /// Mean demand per second since the last command that was not served.
    pub lost: f64,
}

/// Result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Mean number of billed replicas.
    pub replicas: f64,
    /// Share of requests within capacity.
    pub within: f64,
    /// Changes of the number per hour.
    pub changes_per_hour: f64,
}

/// Runs `demand` from slot `from` on; a replica carries `capacity` requests per second.
pub fn run(
    demand: &[f64],
    from: usize,
    capacity: f64,
    boot: usize,
    mut command: impl FnMut(Seen<'_>) -> f64,
) -> Outcome {
    let opening = &demand[from.saturating_sub(12)..from + usize::from(from == 0)];
    let opening = opening.iter().sum::<f64>() / opening.len() as f64;
    let mut replicas = Replicas::new((opening / capacity * 1.3).ceil().max(2.0), boot);
    let (mut billed, mut lost, mut total, mut changes, mut lost_now) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for slot in from..demand.len() {
        replicas.advance(slot);
        billed += replicas.ready() + replicas.starting();
        total += demand[slot];
        lost_now += (demand[slot] - replicas.ready() * capacity).max(0.0);
        if (slot + 1 - from).is_multiple_of(CONTROL_SLOTS) {
            lost += lost_now;
            let (ready, starting) = (replicas.ready(), replicas.starting());
            let lost = std::mem::take(&mut lost_now) / CONTROL_SLOTS as f64;
            let to = command(Seen { demand: &demand[..=slot], ready, starting, lost });
            changes += f64::from(u8::from(to != ready + starting));
            replicas.command(slot, to);
        }
    }
    let slots = (demand.len() - from) as f64;
    Outcome {
        replicas: billed / slots,
        within: 1.0 - (lost + lost_now) / total,
        changes_per_hour: changes / (slots * SLOT_S as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_serve_after_their_start_and_the_youngest_are_cancelled_first() {
        let mut replicas = Replicas::new(2.0, 6);
        replicas.command(0, 5.0);
        replicas.command(3, 6.0);
        replicas.command(4, 4.0);
        replicas.advance(5);
        assert_eq!((replicas.ready(), replicas.starting()), (2.0, 2.0));
        replicas.advance(6);
        assert_eq!((replicas.ready(), replicas.starting()), (4.0, 0.0));
        replicas.command(6, 1.0);
        assert_eq!(replicas.ready(), 1.0);
    }

    #[test]
    fn what_is_beyond_capacity_is_lost_and_starting_replicas_are_billed() {
        let outcome = run(&[30.0; 30], 0, 10.0, 6, |seen| if seen.demand.len() > 20 { 2.0 } else { 4.0 });
        assert!(outcome.within < 1.0 && outcome.within > 0.85, "{outcome:?}");
        assert!(outcome.replicas > 3.0 && outcome.replicas < 4.0, "{outcome:?}");
    }
}
