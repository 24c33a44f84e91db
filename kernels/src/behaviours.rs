//! Behaviours of attackers, told from events: one kernel each, and what they have in common.
//!
//! **Streams.** A [`Behaviour`] takes events one by one in the order of time and keeps a bounded state. [`run`] sorts a
//! batch and streams it. Entities (users, hosts, processes) are numbers that the caller gives to names.
//!
//! **Rules.** Events without a time (NaN or infinite) are passed over. A late event counts as if it came at the latest time
//! so far. Equal events are events of their own, unless a kernel says otherwise. An entity that is not known is
//! [`UNKNOWN`]. Windows are cut at multiples of their length since 1970. Of entities that do not fit any more, the half
//! that was not seen for the longest is forgotten, after its open findings are told.
//!
//! **Formulas.** `p_value` is how often an ordinary entity does as much: by a model of counts where there is one (failed
//! logons), else the share of the stream so far, (as strange ones + 1) / (all + 1), which holds for whatever distribution as
//! long as ordinary events do not depend on their order. `score` is 0 to below 1 and grows with the evidence; [`strength`] makes it of a
//! p-value: one half at one in a thousand.
//!
//! **Order of reduction.** Events in order of time, equal times as they were given, in 64 bits. There is a CPU twin only.
//!
//! **Invariant:** what is told up to a time depends on the events up to that time alone, and never on how entities are
//! numbered.

pub mod dns_tunnelling;
pub mod exfiltration;
pub mod failed_logons;
pub mod impossible_travel;
pub mod lateral_movement;
pub mod password_spray;
pub mod rare_process;

mod counts;
mod distinct;
mod kept;
mod ranks;
#[cfg(test)]
mod traffic;

use crate::{Device, Result};

/// The number of an entity that is not known.
pub const UNKNOWN: u32 = u32::MAX;
/// The most entities that a behaviour remembers.
pub const ENTITIES_MAX: usize = 1 << 17;
/// Events between two looks whether anybody still waits.
const STRIDE: usize = 4_096;

/// Something that is told from events in the order of time.
pub trait Behaviour {
    /// What happens.
    type Event;
    /// What is told.
    type Finding;

    /// When an event was, in seconds since 1970.
    fn time(event: &Self::Event) -> f64;

    /// Takes the next event, whose time is finite.
    fn push(&mut self, event: &Self::Event);

    /// Ends what is still open: nothing more comes.
    fn finish(&mut self);

    /// Gives away what was told since the last call, in the order in which it ended.
    fn take(&mut self) -> Vec<Self::Finding>;
}

/// Sorts events by time and streams them.
///
/// # Errors
/// [`crate::Error::Stopped`] when nobody waits any more.
pub fn run<B: Behaviour>(device: &Device, mut behaviour: B, events: &[B::Event]) -> Result<Vec<B::Finding>> {
    let mut order: Vec<usize> = (0..events.len()).filter(|at| B::time(&events[*at]).is_finite()).collect();
    order.sort_by(|a, b| B::time(&events[*a]).total_cmp(&B::time(&events[*b])));
    let mut found = Vec::new();
    for part in order.chunks(STRIDE) {
        if device.is_stopped() {
            return Err(crate::Error::Stopped);
        }
        part.iter().for_each(|at| behaviour.push(&events[*at]));
        found.append(&mut behaviour.take());
    }
    behaviour.finish();
    found.append(&mut behaviour.take());
    Ok(found)
}

/// A p-value as a score of 0 to below 1: one half at one in a thousand, three quarters at one in 10⁹.
#[must_use]
pub fn strength(p_value: f64) -> f64 {
    let decades = -p_value.clamp(1e-300, 1.0).log10();
    decades / (decades + 3.0)
}

/// Whether a parameter is a number above 0.
pub(crate) fn positive(name: &str, number: f64) -> Result<()> {
    if number > 0.0 && number.is_finite() {
        return Ok(());
    }
    Err(crate::Error::Parameter(format!("{name} must be a number above 0, not {number}")))
}

/// The window that a time lies in.
fn window_of(time: f64, length_s: f64) -> i64 {
    (time / length_s).floor() as i64
}

#[cfg(test)]
mod tests {
    use super::failed_logons::{BruteForce, Logon};
    use super::lateral_movement::{Contact, LateralMovement, Movement};
    use super::traffic::Traffic;
    use super::*;

    fn contacts(seed: u64) -> Vec<Contact> {
        let mut traffic = Traffic::new(seed);
        let one = |i: u32| {
            let far = if traffic.unit() < 0.02 { 500 } else { 0 };
            let source = traffic.below(60);
            Contact { time: f64::from(i) * 60.0, source, target: 100 + traffic.popular(20) + traffic.below(far + 1) }
        };
        (0..8_000).map(one).collect()
    }

    fn moved(events: &[Contact]) -> Vec<Movement> {
        let params = lateral_movement::Params { edges_min: 1, ..lateral_movement::Params::default() };
        run(&Device::cpu(), LateralMovement::new(params).unwrap(), events).unwrap()
    }

    #[test]
    fn later_events_change_nothing_that_was_told() {
        let events = contacts(1);
        let (whole, early) = (moved(&events), moved(&events[..6_000]));
        assert!(whole.len() > early.len() && early.len() > 5, "{} {}", whole.len(), early.len());
        assert_eq!(whole[..early.len() - 1], early[..early.len() - 1]);
    }

    #[test]
    fn the_numbers_of_entities_do_not_matter() {
        let events = contacts(2);
        let other: Vec<Contact> = events
            .iter()
            .map(|event| Contact { source: 9_999 - event.source, target: 9_999 - event.target, ..*event })
            .collect();
        let mut back = moved(&other);
        for told in &mut back {
            told.source = 9_999 - told.source;
            told.named.iter_mut().for_each(|target| *target = 9_999 - *target);
        }
        let key = |told: &Movement| (told.span.0.to_bits(), told.source);
        let mut first = moved(&events);
        first.sort_by_key(key);
        back.sort_by_key(key);
        assert!(first.len() > 5);
        assert_eq!(first, back);
    }

    #[test]
    fn a_strength_grows_with_the_evidence() {
        assert_eq!((strength(1.0), strength(1e-3), strength(1e-9)), (0.0, 0.5, 0.75));
        assert!(strength(0.0) < 1.0 && strength(2.0) == 0.0);
    }

    #[test]
    fn nobody_waits_any_more() {
        let (device, stop) = Device::cpu().stoppable();
        drop(stop);
        let events = vec![Logon { time: 0.0, source: 1, target: 1, account: 1, failed: true }; 10];
        let stream = BruteForce::new(failed_logons::Params::default()).unwrap();
        assert!(matches!(run(&device, stream, &events), Err(crate::Error::Stopped)));
    }
}
