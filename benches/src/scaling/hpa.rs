//! The Horizontal Pod Autoscaler of Kubernetes (autoscaling/v2, replica calculator of 1.30) as the reactive baseline.
//!
//! Usage is the mean of the last 30 s and no more than what ready replicas can use; within 10 % of the target nothing happens;
//! replicas that start count with no usage when it grows and with the target's when it shrinks; at most twice as many or four
//! more per decision; down only to the largest recommendation of the stabilisation window.
//!
//! **Invariant:** knows past usage and its own recommendations.

use std::collections::VecDeque;

use super::service::{CONTROL_SLOTS, SLOT_S, Seen};

/// Relative distance from the target within which nothing happens.
const TOLERANCE: f64 = 0.1;
/// Slots of the metrics window: 30 s.
const WINDOW_SLOTS: usize = 6;
const REPLICAS_MIN: f64 = 2.0;

/// One autoscaler.
#[derive(Clone, Debug)]
pub struct Hpa {
    target: f64,
    capacity: f64,
    used: VecDeque<f64>,
    recommended: VecDeque<f64>,
    window: usize,
}

impl Hpa {
    /// Holds utilisation at `target`, with a stabilisation window for fewer replicas.
    #[must_use]
    pub fn new(target: f64, stabilisation_s: usize, capacity: f64) -> Self {
        let window = stabilisation_s / (SLOT_S * CONTROL_SLOTS) + 1;
        Self { target, capacity, used: VecDeque::new(), recommended: VecDeque::new(), window }
    }

    /// The number of replicas that it commands.
    pub fn command(&mut self, seen: Seen<'_>) -> f64 {
        for demand in &seen.demand[seen.demand.len() - CONTROL_SLOTS..] {
            self.used.push_back((demand / self.capacity).min(seen.ready));
        }
        while self.used.len() > WINDOW_SLOTS {
            self.used.pop_front();
        }
        let usage = self.used.iter().sum::<f64>() / self.used.len() as f64;
        let now = seen.ready + seen.starting;
        let recommended = self.recommend(usage, seen.ready, seen.starting);
        self.recommended.push_back(recommended);
        while self.recommended.len() > self.window {
            self.recommended.pop_front();
        }
        let held = self.recommended.iter().copied().fold(0.0, f64::max);
        let to = if recommended < now { held.min(now) } else { recommended };
        to.min((2.0 * now).max(now + 4.0)).max(REPLICAS_MIN)
    }

    fn recommend(&self, usage: f64, ready: f64, starting: f64) -> f64 {
        let now = ready + starting;
        let ratio = usage / ready / self.target;
        if (ratio - 1.0).abs() <= TOLERANCE {
            return now;
        }
        if starting == 0.0 || ratio < 1.0 {
            return (ratio * ready).ceil();
        }
        let with_starting = usage / now / self.target;
        if with_starting > 1.0 + TOLERANCE { (with_starting * now).ceil() } else { now }
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::run;
    use super::*;

    #[test]
    fn it_settles_at_its_target_and_waits_before_it_shrinks() {
        let mut hpa = Hpa::new(0.7, 300, 10.0);
        let demand: Vec<f64> = (0..2_000).map(|slot| if slot < 1_000 { 140.0 } else { 70.0 }).collect();
        let mut commands = Vec::new();
        run(&demand, 0, 10.0, 18, |seen| {
            commands.push(hpa.command(seen));
            commands[commands.len() - 1]
        });
        assert!((18.0..=22.0).contains(&commands[300]), "{}", commands[300]);
        assert_eq!(commands[300], commands[345], "five minutes are not over");
        assert!((9.0..=11.0).contains(&commands[600]), "{}", commands[600]);
    }
}
