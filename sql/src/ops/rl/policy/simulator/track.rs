//! A load with everything that is known of it at each moment: its level, the forecast, and what a state shows of it.
//!
//! **Invariant:** what stands at a slot follows from the load up to that slot; only the forecaster's coefficients, the mean load
//! and the clip come from the training part as a whole.

use super::forecast::{self, Forecast};
use super::load::DAY_SLOTS;
use super::{EPOCH_SLOTS, Service};
use crate::ops::rl::policy::action::Knobs;
use crate::ops::rl::policy::refusal::{Refusal, Result};
use crate::ops::rl::policy::state::{FEATURES, State};

/// Slots of an hour.
const HOUR_SLOTS: usize = 240;
/// How far above the largest load seen a forecast may ask.
const CEILING: f64 = 1.2;
/// The least to train on: two days.
const TRAINING_MIN_SLOTS: usize = 2 * DAY_SLOTS;

/// A load, ready to be simulated.
#[derive(Clone, Debug)]
pub struct Track {
    pub(super) load: Vec<f64>,
    /// The mean of the last four slots.
    pub(super) level: Vec<f64>,
    /// The mean of the last two slots: what the reactive rule measures.
    pub(super) usage: Vec<f64>,
    pub(super) mean: Vec<f64>,
    pub(super) spread: Vec<f64>,
    pub(super) ceiling: Vec<f64>,
    pub(super) seen: Vec<Seen>,
    /// What is seen after the last slot.
    pub(super) last: Seen,
    pub(super) mean_load: f64,
}

/// What a state shows before an epoch, beside what depends on decisions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) shape: [f64; 7],
    pub(super) surprise: f64,
    pub(super) hour_level: f64,
}

impl Seen {
    /// The state, with what depends on decisions.
    pub(super) fn state(&self, service: &Service, recent_violation: f64) -> State {
        let mut state = [0.0; FEATURES];
        state[..7].copy_from_slice(&self.shape);
        state[7] = (recent_violation / service.violation_max).ln_1p();
        state[8] = self.surprise;
        state[9] = (self.hour_level / service.capacity_rps).max(0.1).ln();
        state
    }
}

impl Track {
    /// From requests per second in every slot. The forecaster learns from the first `training_epochs`, for what a start takes.
    ///
    /// # Errors
    /// [`Refusal::InsufficientExperience`] for less than two days to train on, [`Refusal::Parameter`] for a load that is not
    /// finite or negative, and for a service out of range.
    pub fn new(load: Vec<f64>, service: &Service, training_epochs: usize) -> Result<Self> {
        service.check()?;
        let training = training_epochs.saturating_mul(EPOCH_SLOTS);
        if training < TRAINING_MIN_SLOTS || training > load.len() {
            let text = format!(
                "{training_epochs} epochs to train on are too few or more than there are: use two days or more"
            );
            return Err(Refusal::InsufficientExperience(text));
        }
        if let Some(place) = load.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(Refusal::Parameter(format!("slot {place} of the load is {}: fill gaps first", load[place])));
        }
        let mean_load = load[..training].iter().sum::<f64>() / training as f64;
        let floor = (1e-6 * mean_load).max(1e-9);
        let raised: Vec<f64> = load.iter().map(|x| x.max(floor)).collect();
        let level = trailing_mean(&raised, 4);
        let Forecast { mean, spread, surprise } = forecast::fit(&raised, &level, service.startup_slots(), training);
        let top = load[..training].iter().copied().fold(floor, f64::max);
        let ceiling = load.iter().scan(top, |top, x| {
            *top = top.max(*x);
            Some(*top * CEILING)
        });
        let ceiling = ceiling.collect();
        let usage = trailing_mean(&raised, 2);
        let (seen, last) = (Vec::new(), Seen::default());
        let mut track = Self { load, level, usage, mean, spread, ceiling, seen, last, mean_load };
        (track.seen, track.last) = track.look(&raised, &surprise);
        Ok(track)
    }

    /// How many whole epochs there are.
    #[must_use]
    pub fn epochs(&self) -> usize {
        self.load.len() / EPOCH_SLOTS
    }

    /// The load that the rule on top of the forecast asks capacity for, after a slot.
    pub(super) fn wanted(&self, slot: usize, knobs: &Knobs) -> f64 {
        let level = self.level[slot];
        let forecast = level * (self.mean[slot] + knobs.k * self.spread[slot]).min(3.0).exp();
        forecast.max(level * knobs.guard).min(self.ceiling[slot])
    }

    /// What is seen before each epoch, and after the last slot.
    fn look(&self, raised: &[f64], surprise: &[f64]) -> (Vec<Seen>, Seen) {
        let hour = trailing_mean(raised, HOUR_SLOTS);
        let change: Vec<f64> = (0..raised.len()).map(|i| (raised[i] / raised[i.saturating_sub(1)]).ln()).collect();
        let square: Vec<f64> = trailing_mean(&change.iter().map(|x| x * x).collect::<Vec<_>>(), HOUR_SLOTS);
        let after = |slot: usize| {
            let turn = std::f64::consts::TAU * (slot % DAY_SLOTS) as f64 / DAY_SLOTS as f64;
            let yesterday = slot.checked_sub(DAY_SLOTS).map_or(0.0, |before| (hour[slot] / hour[before]).ln());
            let shape = [
                (self.level[slot] / hour[slot]).ln(),
                yesterday,
                square[slot].max(0.0).sqrt(),
                self.mean[slot],
                self.spread[slot],
                turn.sin(),
                turn.cos(),
            ];
            Seen { shape, surprise: surprise[slot], hour_level: hour[slot] }
        };
        let before = |epoch: usize| (epoch * EPOCH_SLOTS).checked_sub(1).map_or_else(Seen::default, after);
        ((0..self.epochs()).map(before).collect(), after(raised.len() - 1))
    }
}

/// The mean of each value and of up to `window` − 1 before it.
pub(super) fn trailing_mean(values: &[f64], window: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let mean = |place: usize| {
        sum += values[place];
        if place >= window {
            sum -= values[place - window];
        }
        // Differences of sums may go a hair below the smallest value.
        (sum / window.min(place + 1) as f64).max(1e-12)
    };
    (0..values.len()).map(mean).collect()
}
