//! A service to simulate: its load cut in two in time, the first part to learn from and the second to judge by.
//!
//! **Invariant:** nothing of the second part reaches what is learned.

use std::ops::Range;

use serde_json::{Value, json};

use super::load::Load;
use super::policy::Policy;
use super::policy::action::{ActionSpace, KNOB_NAMES, Knobs};
use super::policy::comparison::{DAY_EPOCHS, Improvement, block_of, improvement};
use super::policy::refusal::{Refusal, Result};
use super::policy::reward::Objective;
use super::policy::simulator::load::{generated, resampled};
use super::policy::simulator::track::Track;
use super::policy::simulator::{Control, EPOCH_SLOTS, Run, Service, Simulator};
use super::policy::state::{FEATURES, State};
use crate::operation::{Form, Kind, Member, Parameter};

/// Days to learn from at most: older ones say little.
const TRAINING_DAYS: usize = 10;

/// What a replica of the service is.
pub(crate) const UNIT: &[Parameter] = &[
    Parameter::new("replicas", Kind::Number(1.0, 10_000.0), "How many replicas the mean load needs.").or("20"),
    Parameter::new("startup_s", Kind::Integer(0, 3_600), "Seconds from the order until a replica serves.").or("90"),
];

/// What answers say of a scene.
pub(crate) const TOLD: &[Member] = &[
    Member::new("training_days", Form::Number, "Days that were learned from."),
    Member::new("held_out_days", Form::Number, "Later days, to judge by."),
    Member::new("capacity_rps", Form::Number, "Requests a second that a replica carries."),
    Member::new("startup_s", Form::Number, "Seconds from the order until a replica serves."),
];
/// What answers say of knobs.
pub(crate) const KNOBS: &[Member] = &[
    Member::new("k", Form::Number, "How many spreads above its mean the forecast is taken at."),
    Member::new(
        "hold_s",
        Form::Number,
        "How long a replica is kept after the last command that asked for it, in seconds.",
    ),
    Member::new("guard", Form::Number, "At least so many times the load of the last minute."),
];

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// Replicas that the mean load needs.
    pub(crate) replicas: f64,
    /// Seconds from the order until one serves.
    pub(crate) startup_s: f64,
    /// The fewest and the most replicas.
    pub(crate) bounds: Option<(f64, f64)>,
}

impl Unit {
    /// From a checked argument with the members of [`UNIT`].
    pub(crate) fn of(unit: &Value) -> Self {
        let number = |name: &str, default: f64| unit[name].as_f64().unwrap_or(default);
        Self { replicas: number("replicas", 20.0), startup_s: number("startup_s", 90.0), bounds: None }
    }
}

/// A service with its load.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) service: Service,
    pub(crate) track: Track,
    /// Epochs to learn from.
    pub(crate) training: Range<usize>,
    /// Later ones, to judge by.
    pub(crate) held_out: Range<usize>,
}

impl Scene {
    /// With a load that was read.
    pub(crate) fn of(load: &Load, unit: Unit, violation_max: f64, seed: u64) -> Result<Self> {
        Self::new(resampled(&load.samples, load.step_s, seed)?, unit, violation_max, None)
    }

    /// The same, judged by what came since a time.
    pub(crate) fn since(load: &Load, unit: Unit, violation_max: f64, seed: u64, since_us: i64) -> Result<Self> {
        let cut = Some(load.epoch_at(since_us));
        Self::new(resampled(&load.samples, load.step_s, seed)?, unit, violation_max, cut)
    }

    /// With so many days of a made load.
    pub(crate) fn made(days: usize, unit: Unit, violation_max: f64, seed: u64) -> Result<Self> {
        Self::new(generated(days, seed)?, unit, violation_max, None)
    }

    /// The days to judge by begin at an epoch, or where none is given are the newest third.
    fn new(load: Vec<f64>, unit: Unit, violation_max: f64, cut: Option<usize>) -> Result<Self> {
        let epochs = load.len() / EPOCH_SLOTS;
        let latest = epochs.saturating_sub(2 * DAY_EPOCHS);
        let cut = cut.unwrap_or_else(|| latest.min(epochs - epochs / 3));
        if cut < 2 * DAY_EPOCHS || cut > latest {
            let text = "a load of less than four days is too short to learn from and to judge by";
            return Err(Refusal::InsufficientExperience(text.to_owned()));
        }
        let known = &load[..cut * EPOCH_SLOTS];
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let mut service = Service { violation_max, ..Service::sized(mean, unit.replicas, unit.startup_s) };
        if let Some((min, max)) = unit.bounds {
            (service.replicas_min, service.replicas_max) = (min, max);
        }
        let track = Track::new(load, &service, cut)?;
        let first = cut.saturating_sub(TRAINING_DAYS * DAY_EPOCHS).max(DAY_EPOCHS);
        Ok(Self { service, track, training: first..cut, held_out: cut..epochs })
    }

    /// A fixed rule on the days to judge by.
    pub(crate) fn fixed(&self, control: Control) -> Result<Run> {
        Ok(self.simulator()?.run(|_| control))
    }

    /// A policy on the days to judge by, with hysteresis as in service, and the last state that it saw. `moved` holds what it asks
    /// for to what one decision may move.
    pub(crate) fn follow(
        &self,
        policy: &Policy,
        first: Option<Knobs>,
        moved: impl Fn(&Knobs, Knobs) -> Knobs,
    ) -> Result<(Run, State)> {
        let (mut in_force, mut last) = (first, [0.0; FEATURES]);
        let run = self.simulator()?.run(|state| {
            last = *state;
            let knobs = in_force.map_or_else(
                || policy.recommend(state),
                |in_force| moved(&in_force, policy.recommend_after(&in_force, state)),
            );
            in_force = Some(knobs);
            Control::Knobs(knobs)
        });
        Ok((run, last))
    }

    fn simulator(&self) -> Result<Simulator<'_>> {
        Simulator::new(&self.service, &self.track, self.held_out.clone())
    }

    /// How it was cut, for answers.
    pub(crate) fn told(&self) -> Value {
        let days = |epochs: &Range<usize>| epochs.len() as f64 / DAY_EPOCHS as f64;
        json!({
            "training_days": days(&self.training),
            "held_out_days": days(&self.held_out),
            "capacity_rps": self.service.capacity_rps,
            "startup_s": self.service.startup_s,
        })
    }
}

/// The lead of a run over another one.
pub(crate) fn lead(run: &Run, base: &Run, objective: &Objective, price: f64, seed: u64) -> Result<Improvement> {
    improvement(&[run], base, objective, price, (block_of(base.outcomes.len()), seed))
}

/// Knobs as answers have them.
pub(crate) fn knobs_json(knobs: &Knobs) -> Value {
    KNOB_NAMES.iter().zip(knobs.array()).map(|(name, value)| ((*name).to_owned(), value)).collect()
}

/// Knobs from what [`knobs_json`] wrote.
pub(crate) fn knobs_of(value: &Value) -> Option<Knobs> {
    let number = |name: &str| value[name].as_f64();
    Some(Knobs { k: number("k")?, hold_s: number("hold_s")?, guard: number("guard")? })
}

/// The rungs of a grid as answers have them.
pub(crate) fn space_json(space: &ActionSpace) -> Value {
    KNOB_NAMES.iter().zip(space.rungs()).map(|(name, rungs)| ((*name).to_owned(), json!(rungs))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_to_judge_by_come_after_those_to_learn_from() {
        let unit = Unit { replicas: 20.0, startup_s: 90.0, bounds: Some((3.0, 30.0)) };
        let scene = Scene::made(4, unit, 0.001, 1).unwrap();
        assert_eq!((scene.training.clone(), scene.held_out.clone()), (96..192, 192..384));
        assert_eq!((scene.service.replicas_min, scene.service.replicas_max), (3.0, 30.0));
        let scene = Scene::made(30, unit, 0.001, 1).unwrap();
        assert_eq!((scene.training.clone(), scene.held_out.clone()), (10 * 96..20 * 96, 20 * 96..30 * 96));
        assert!(matches!(Scene::made(3, unit, 0.001, 1), Err(Refusal::InsufficientExperience(_))));
    }

    #[test]
    fn knobs_are_read_as_they_were_written() {
        let knobs = Knobs { k: 1.5, hold_s: 60.0, guard: 1.15 };
        assert_eq!(knobs_of(&knobs_json(&knobs)), Some(knobs));
        assert_eq!(knobs_of(&json!({ "k": 1 })), None);
    }
}
