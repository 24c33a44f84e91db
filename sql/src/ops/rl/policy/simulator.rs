//! A simulated service: replicas that take time to start and are billed from the command on, a load, a queue.
//!
//! Time runs in slots of 15 s; a decision holds for an epoch of 60 slots. In every slot the rule in force asks for
//! replicas: max(forecast, guard) over the capacity of one, where forecast = level · e^(mean + k·spread), level the mean load of
//! the last minute and guard so many times the level. More is asked for at once; fewer only when no command of the last `hold`
//! asked for more. Latency of a request: base / (1 − 0.8·u) at utilisation u ≤ 1, and the queue on top, which loses what would
//! wait for more than 30 s. [`Control::Reactive`] is the horizontal autoscaler as Kubernetes installs it.
//!
//! **Invariant:** a run follows from service, track and controls alone; the state shows nothing of the load to come.

mod forecast;
pub mod live;
pub mod load;
pub mod track;

use std::collections::VecDeque;
use std::ops::Range;

use self::track::Track;
use super::action::Knobs;
use super::refusal::{Refusal, Result};
use super::reward::Components;
use super::state::State;

/// Seconds of a slot.
pub const SLOT_S: f64 = 15.0;
/// Slots of an epoch, for which a decision holds.
pub const EPOCH_SLOTS: usize = 60;
/// The longest hold, in seconds.
pub const HOLD_MAX_S: f64 = 900.0;
/// How long a request waits before it gives up, in seconds.
const WAIT_MAX_S: f64 = 30.0;
/// The share of capacity that latency is reckoned with: at full use it is five times that of an idle service.
const LATENCY_SHARE: f64 = 0.8;
/// A latency counts at most so many targets.
const LATENCY_MAX_TARGETS: f64 = 5.0;
/// The share of the recent violation that an epoch adds.
const VIOLATION_DECAY: f64 = 1.0 / 48.0;

/// The service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// Requests per second that one replica serves within its target.
    pub capacity_rps: f64,
    /// Seconds from the command to a replica that serves.
    pub startup_s: f64,
    /// Replicas that are always there.
    pub replicas_min: f64,
    /// Replicas that are never exceeded.
    pub replicas_max: f64,
    /// The share of requests that may find no capacity; the state shows violations in shares of it.
    pub violation_max: f64,
}

impl Service {
    /// A service whose mean load needs so many replicas.
    #[must_use]
    pub fn sized(mean_load_rps: f64, replicas: f64, startup_s: f64) -> Self {
        let capacity_rps = (mean_load_rps / replicas).max(1e-9);
        Self { capacity_rps, startup_s, replicas_min: 2.0, replicas_max: 1_000.0, violation_max: 0.001 }
    }

    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] when one is not.
    pub fn check(&self) -> Result<()> {
        let positive = [self.capacity_rps, self.replicas_min, self.replicas_max, self.violation_max];
        let fine = positive.iter().all(|x| *x > 0.0 && x.is_finite())
            && self.replicas_min <= self.replicas_max
            && (0.0..=3_600.0).contains(&self.startup_s);
        if fine {
            return Ok(());
        }
        let text = "the service is out of range: capacity, replicas and budget must be above 0, min at most max, \
                    start-up 0 to 3600 s";
        Err(Refusal::Parameter(text.to_owned()))
    }

    /// Slots from a command to a replica that serves.
    fn startup_slots(&self) -> usize {
        (self.startup_s / SLOT_S).ceil() as usize
    }
}

/// What sets the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Control {
    /// The rule on top of the forecast.
    Knobs(Knobs),
    /// Kubernetes' horizontal autoscaler: a target utilisation, a tolerance of 10 %, at most doubling, and a hold before
    /// scaling down.
    Reactive {
        /// The target, as a share.
        utilisation: f64,
        /// The hold, in seconds.
        hold_s: f64,
    },
}

impl Control {
    /// The rule that a service has when nobody tuned anything.
    pub const DEFAULT: Self = Self::Reactive { utilisation: 0.7, hold_s: 300.0 };
}

/// What a run over many epochs brought.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The outcome of every epoch.
    pub outcomes: Vec<Components>,
    /// Requests that found no capacity, as a share of all.
    pub violation: f64,
    /// Billed replicas over needed ones.
    pub cost: f64,
}

impl Run {
    /// The mean reward of an epoch.
    #[must_use]
    pub fn reward(&self, objective: &super::reward::Objective, price: f64) -> f64 {
        let total: f64 = self.outcomes.iter().map(|outcome| objective.reward(outcome, price)).sum();
        total / self.outcomes.len().max(1) as f64
    }
}

/// A service on its way through a track.
#[derive(Clone, Debug)]
pub struct Simulator<'a> {
    service: &'a Service,
    track: &'a Track,
    epoch: usize,
    end: usize,
    ready: f64,
    starting: VecDeque<(usize, f64)>,
    /// Replicas that serve or start: those that are billed.
    billed: f64,
    commands: VecDeque<f64>,
    queue: f64,
    recent_violation: f64,
    totals: Totals,
}

/// Sums over a run.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    load: f64,
    lost: f64,
    billed: f64,
    needed: f64,
}

impl<'a> Simulator<'a> {
    /// A service before the first of these epochs, with replicas for its load.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] when the service is out of range or the track has no such epochs.
    pub fn new(service: &'a Service, track: &'a Track, epochs: Range<usize>) -> Result<Self> {
        service.check()?;
        if epochs.is_empty() || epochs.start == 0 || epochs.end > track.epochs() {
            let text = format!("epochs {epochs:?} are not in a track of {}: use 1 to that", track.epochs());
            return Err(Refusal::Parameter(text));
        }
        let level = track.level[epochs.start * EPOCH_SLOTS - 1];
        let ready = (level * 1.3 / service.capacity_rps).ceil().clamp(service.replicas_min, service.replicas_max);
        Ok(Self {
            service,
            track,
            epoch: epochs.start,
            end: epochs.end,
            ready,
            starting: VecDeque::new(),
            billed: ready,
            commands: VecDeque::new(),
            queue: 0.0,
            recent_violation: 0.0,
            totals: Totals::default(),
        })
    }

    /// Whether the last epoch is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.epoch >= self.end
    }

    /// What a policy sees now.
    #[must_use]
    pub fn state(&self) -> State {
        // After the last epoch of a track the state before it stands.
        self.track.seen[self.epoch.min(self.track.seen.len() - 1)].state(self.service, self.recent_violation)
    }

    /// Runs one epoch under a rule.
    pub fn step(&mut self, control: &Control) -> Components {
        let start = self.epoch * EPOCH_SLOTS;
        let mut sums = Sums::default();
        for slot in start..start + EPOCH_SLOTS {
            self.slot(slot, control, &mut sums);
        }
        self.epoch += 1;
        let outcome = sums.outcome(self.service, self.track.mean_load);
        self.recent_violation = remembered(self.recent_violation, outcome.violation);
        self.totals.load += sums.load;
        self.totals.lost += sums.lost;
        self.totals.billed += sums.billed;
        self.totals.needed += sums.load / self.service.capacity_rps;
        outcome
    }

    /// Runs to the end under what `control` answers to each state.
    pub fn run(mut self, mut control: impl FnMut(&State) -> Control) -> Run {
        let mut outcomes = Vec::with_capacity(self.end - self.epoch);
        while !self.is_over() {
            let control = control(&self.state());
            outcomes.push(self.step(&control));
        }
        let Totals { load, lost, billed, needed } = self.totals;
        Run { outcomes, violation: lost / load.max(1e-9), cost: billed / needed.max(1e-9) }
    }

    fn slot(&mut self, slot: usize, control: &Control, sums: &mut Sums) {
        while self.starting.front().is_some_and(|(at, _)| *at <= slot) {
            self.ready += self.starting.pop_front().map_or(0.0, |(_, replicas)| replicas);
        }
        let load = self.track.load[slot];
        let capacity = self.ready * self.service.capacity_rps;
        let billed = self.billed;
        sums.serve(&mut self.queue, load, capacity);
        sums.billed += billed;
        self.command(slot, control);
        sums.churn += (self.billed - billed).abs() / billed;
    }

    /// Asks for replicas after a slot, from what was seen up to its end.
    fn command(&mut self, slot: usize, control: &Control) {
        let (service, track, billed) = (self.service, self.track, self.billed);
        let (want, hold_s) = match control {
            Control::Knobs(knobs) => ((track.wanted(slot, knobs) / service.capacity_rps).ceil(), knobs.hold_s),
            Control::Reactive { utilisation, hold_s } => {
                let usage = track.usage[slot] / service.capacity_rps;
                let ratio = usage / self.ready / utilisation;
                let idle =
                    (ratio - 1.0).abs() <= 0.1 || (!self.starting.is_empty() && usage / billed / utilisation <= 1.1);
                let want = if idle && ratio >= 0.9 { billed } else { (usage / utilisation).ceil() };
                (want.min((billed * 2.0).max(billed + 4.0)), *hold_s)
            }
        };
        let want = want.clamp(service.replicas_min, service.replicas_max);
        self.commands.push_back(want);
        if self.commands.len() > (HOLD_MAX_S / SLOT_S) as usize {
            self.commands.pop_front();
        }
        if want > billed {
            self.starting.push_back((slot + 1 + service.startup_slots(), want - billed));
            self.billed = want;
        } else if want < billed {
            let held = ((hold_s / SLOT_S).round() as usize).max(1);
            let keep = self.commands.iter().rev().take(held).copied().fold(want, f64::max);
            self.drop_replicas((billed - keep).max(0.0));
        }
    }

    /// Takes so many replicas away, those that are not ready first.
    fn drop_replicas(&mut self, replicas: f64) {
        let mut left = replicas;
        self.billed -= replicas;
        while left > 0.0 {
            let Some((at, starting)) = self.starting.pop_back() else { break };
            if starting > left {
                self.starting.push_back((at, starting - left));
            }
            left -= starting.min(left);
        }
        self.ready -= left.max(0.0);
    }
}

/// Sums over the slots of an epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    load: f64,
    lost: f64,
    billed: f64,
    latency: f64,
    slow: f64,
    churn: f64,
}

impl Sums {
    /// A slot's load on so much capacity, behind a queue.
    fn serve(&mut self, queue: &mut f64, load: f64, capacity: f64) {
        *queue = (*queue + (load - capacity) * SLOT_S).clamp(0.0, capacity * WAIT_MAX_S);
        let use_share = (load / capacity).min(1.0);
        // In targets, the target being the latency at full use without a queue; the base is a fifth of it.
        let served = (1.0 - LATENCY_SHARE) / (1.0 - LATENCY_SHARE * use_share);
        let latency = (served + *queue / capacity * 4.0).min(LATENCY_MAX_TARGETS);
        self.load += load;
        self.lost += (load - capacity).max(0.0);
        self.latency += load * latency;
        self.slow += load * (latency - 1.0).max(0.0);
    }

    /// What an epoch brought, in shares of an epoch with the mean load.
    fn outcome(&self, service: &Service, mean_load: f64) -> Components {
        let slots = EPOCH_SLOTS as f64;
        let requests = (mean_load * slots).max(1e-9);
        let need = (mean_load / service.capacity_rps * slots).max(1e-9);
        Components {
            cost: (self.billed - self.load / service.capacity_rps) / need,
            idle: (1.0 - self.load / service.capacity_rps / self.billed).max(0.0),
            violation: self.lost / requests,
            slow: self.slow / requests,
            latency: self.latency / requests,
            churn: self.churn / slots,
        }
    }
}

/// The recent violation after an epoch.
fn remembered(recent: f64, violation: f64) -> f64 {
    recent + VIOLATION_DECAY * (violation - recent)
}

#[cfg(test)]
mod tests;
