//! The rule in service: what the simulator does to a load that is made, on a load as it comes.
//!
//! **Invariant:** the same load and the same replicas give the state, the replicas asked for and the outcome that the simulator
//! would give.

use super::track::Track;
use super::{EPOCH_SLOTS, Service, Sums, remembered};
use crate::ops::rl::policy::action::Knobs;
use crate::ops::rl::policy::refusal::Result;
use crate::ops::rl::policy::reward::Components;
use crate::ops::rl::policy::state::State;

/// What is known after the last slot of a load.
#[derive(Clone, Debug)]
pub struct Moment {
    service: Service,
    track: Track,
}

impl Moment {
    /// From requests per second in every slot up to now; the forecaster learns from all of it.
    ///
    /// # Errors
    /// As for [`Track::new`].
    pub fn new(load: Vec<f64>, service: Service) -> Result<Self> {
        let epochs = load.len() / EPOCH_SLOTS;
        Ok(Self { track: Track::new(load, &service, epochs)?, service })
    }

    /// What a policy sees.
    #[must_use]
    pub fn state(&self, recent_violation: f64) -> State {
        self.track.last.state(&self.service, recent_violation)
    }

    /// Replicas that the rule asks for.
    #[must_use]
    pub fn wanted(&self, knobs: &Knobs) -> f64 {
        let wanted = self.track.wanted(self.track.load.len() - 1, knobs) / self.service.capacity_rps;
        wanted.ceil().clamp(self.service.replicas_min, self.service.replicas_max)
    }

    /// What an epoch brought that ended with the last slot: `replicas` were ready and billed in each of its slots.
    ///
    /// # Panics
    /// Where there are not as many as an epoch has slots.
    #[must_use]
    pub fn outcome(&self, replicas: &[(f64, f64)]) -> Components {
        assert_eq!(replicas.len(), EPOCH_SLOTS, "one for each slot");
        let load = &self.track.load[self.track.load.len() - EPOCH_SLOTS..];
        let (mut sums, mut queue, mut before) = (Sums::default(), 0.0, replicas[0].1);
        for (load, &(ready, billed)) in load.iter().zip(replicas) {
            sums.serve(&mut queue, *load, ready.max(1e-9) * self.service.capacity_rps);
            sums.billed += billed.max(1e-9);
            sums.churn += (billed - before).abs() / before.max(1.0);
            before = billed;
        }
        sums.outcome(&self.service, self.track.mean_load)
    }

    /// The recent violation after such an outcome.
    #[must_use]
    pub fn remembered(recent: f64, outcome: &Components) -> f64 {
        remembered(recent, outcome.violation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rl::policy::simulator::load::generated;
    use crate::ops::rl::policy::simulator::{Control, Simulator};

    #[test]
    fn a_load_as_it_comes_gives_what_the_simulator_gives() {
        let load = generated(3, 7).unwrap();
        let service = Service::sized(load.iter().sum::<f64>() / load.len() as f64, 20.0, 90.0);
        let epochs = load.len() / EPOCH_SLOTS;
        let track = Track::new(load.clone(), &service, epochs).unwrap();
        let moment = Moment::new(load, service).unwrap();
        let knobs = Knobs { k: 1.0, hold_s: 60.0, guard: 1.15 };
        // The last epoch at a fixed number of replicas: the simulator holds it by its bounds.
        let fixed = Service { replicas_min: 25.0, replicas_max: 25.0, ..service };
        let mut simulator = Simulator::new(&fixed, &track, epochs - 1..epochs).unwrap();
        let expected = simulator.step(&Control::Knobs(knobs));
        assert_eq!(moment.outcome(&[(25.0, 25.0); EPOCH_SLOTS]), expected);
        let asked = (track.wanted(track.load.len() - 1, &knobs) / service.capacity_rps).ceil();
        assert_eq!(moment.wanted(&knobs), asked);
        assert!(moment.outcome(&[(1.0, 1.0); EPOCH_SLOTS]).violation > 0.5, "one replica cannot carry it");
        assert!(moment.state(0.0).iter().all(|number| number.is_finite()));
        assert!(moment.state(0.01)[7] > moment.state(0.0)[7]);
    }

    #[test]
    fn less_than_two_days_say_nothing() {
        let service = Service::sized(100.0, 20.0, 90.0);
        assert!(Moment::new(generated(1, 7).unwrap(), service).is_err());
    }
}
