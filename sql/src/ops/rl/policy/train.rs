//! Training: from a simulated service, or from logged decisions, to a policy.
//!
//! In the simulator a static rule is tuned first: the best fixed knobs whose violations stay within seven tenths of the
//! budget, and the price at which they are best. Every algorithm starts there. Each member of a policy is trained by a seed of its own,
//! and the policy is their mean. From logged decisions only linucb and thompson can learn, as the others need to try what they
//! have learned.
//!
//! **Invariant:** a policy follows from its environment and its settings, bit by bit.

mod actor_critic;
mod bandit;
mod evolution;
pub mod fixed;

use std::ops::Range;

use juno_kernels::dense_network::Network;

use self::fixed::{Fixed, tuned};
use super::action::{ActionSpace, Knobs};
use super::experience::Experience;
use super::refusal::{Refusal, Result};
use super::reward::{Dual, Objective};
use super::simulator::track::Track;
use super::simulator::{Control, Run, Service, Simulator};
use super::state::{Scaler, State};
use super::{Algorithm, Base, MEMBERS_MAX, Policy};

/// Decisions that a training may try.
pub const STEPS_MAX: usize = 100_000_000;

/// How to train.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How.
    pub algorithm: Algorithm,
    /// What to reach.
    pub objective: Objective,
    /// The arms.
    pub space: ActionSpace,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Networks whose mean is the policy, 1 to [`MEMBERS_MAX`].
    pub members: usize,
    /// Decisions to try, for each member.
    pub steps: usize,
    /// Adam's rate; of ppo and a2c.
    pub learning_rate: f64,
    /// How much a reward counts an epoch later; of ppo and a2c.
    pub discount: f64,
    /// How much is tried: the width of confidence bounds, of posterior draws, of evolution's first spread, the weight of entropy.
    pub exploration_rate: f64,
    /// How far, in nats, the policy may diverge from the one it starts from.
    pub divergence_max: f64,
}

impl Settings {
    /// Defaults for an algorithm.
    #[must_use]
    pub fn new(algorithm: Algorithm, objective: Objective, seed: u64) -> Self {
        let steps = match algorithm {
            Algorithm::LinUcb | Algorithm::Thompson => 8_000,
            Algorithm::Ppo | Algorithm::A2c => 24_000,
            Algorithm::Es => 200_000,
        };
        Self {
            algorithm,
            objective,
            space: ActionSpace::default(),
            seed,
            members: 5,
            steps,
            learning_rate: 3e-3,
            discount: 0.5,
            exploration_rate: 0.1,
            divergence_max: 0.5,
        }
    }

    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] when one is not.
    pub fn check(&self) -> Result<()> {
        self.objective.check()?;
        let refused = |text: String| Err(Refusal::Parameter(text));
        if !(1..=MEMBERS_MAX).contains(&self.members) {
            return refused(format!("{} members are out of range: use 1 to {MEMBERS_MAX}", self.members));
        }
        if !(1..=STEPS_MAX).contains(&self.steps) {
            return refused(format!("{} steps are out of range: use 1 to {STEPS_MAX}", self.steps));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return refused(format!(
                "a learning rate of {} is out of range: use more than 0, at most 1",
                self.learning_rate
            ));
        }
        if !(0.0..1.0).contains(&self.discount) {
            return refused(format!("a discount of {} is out of range: use 0 up to below 1", self.discount));
        }
        if !(0.0..=1.0).contains(&self.exploration_rate) {
            return refused(format!("an exploration rate of {} is out of range: use 0 to 1", self.exploration_rate));
        }
        if self.divergence_max.is_nan() || self.divergence_max <= 0.0 {
            return refused(format!("a divergence of {} is out of range: use a number above 0", self.divergence_max));
        }
        Ok(())
    }
}

/// What to learn from.
#[derive(Clone, Debug)]
pub enum Environment<'a> {
    /// A simulated service.
    Simulator {
        /// The service.
        service: &'a Service,
        /// Its load.
        track: &'a Track,
        /// The part of it to train on.
        epochs: Range<usize>,
    },
    /// Logged decisions.
    Replay(&'a Experience),
}

/// A point of a learning curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Decisions tried so far, the mean over members.
    pub step: usize,
    /// The mean reward of an epoch at the price of the end.
    pub reward: f64,
    /// The share of requests that found no capacity.
    pub violation: f64,
}

/// What a training gave.
#[derive(Clone, Debug)]
pub struct Training {
    /// The policy.
    pub policy: Policy,
    /// In the simulator, the policy in the making; empty for logged decisions.
    pub learning_curve: Vec<Step>,
    /// Whether the last third of the curve moved by less than 2 % of its height; true without a curve.
    pub converged: bool,
    /// The static rule that was tuned on the same load; none for logged decisions.
    pub tuned: Option<Fixed>,
    /// States that were met, a frozen set for judging stability.
    pub states: Vec<State>,
}

/// States kept of a training.
const STATES_MAX: usize = 200;

/// Trains a policy. With `warm_start` it begins from that policy's arms and scales and stays within the divergence of it.
///
/// # Errors
/// [`Refusal::Parameter`] for settings out of range or an algorithm that cannot learn there, [`Refusal::Stopped`] as soon as
/// `wanted` answers false, and what the environment refuses.
pub fn train(
    environment: &Environment,
    settings: &Settings,
    warm_start: Option<&Policy>,
    wanted: &dyn Fn() -> bool,
) -> Result<Training> {
    settings.check()?;
    let settings = match warm_start {
        Some(policy) => &Settings { space: policy.space.clone(), ..settings.clone() },
        None => settings,
    };
    let training = match environment {
        Environment::Simulator { service, track, epochs } => {
            in_simulator(&Scene { service, track, epochs: epochs.clone(), settings, wanted }, warm_start)
        }
        Environment::Replay(experience) => from_log(experience, settings, warm_start),
    }?;
    match warm_start {
        Some(active) => {
            let policy = training.policy.limited(active, &training.states, settings.divergence_max)?;
            Ok(Training { policy, ..training })
        }
        None => Ok(training),
    }
}

/// A training in the simulator: what every algorithm needs.
struct Scene<'a> {
    service: &'a Service,
    track: &'a Track,
    epochs: Range<usize>,
    settings: &'a Settings,
    wanted: &'a dyn Fn() -> bool,
}

/// Where every algorithm starts.
struct Start {
    base: Base,
    knobs: Knobs,
}

/// What a member's training gave: its network, and policies on the way with the steps they took.
struct Learned {
    network: Network,
    path: Vec<(usize, f64, Run)>,
    price: f64,
}

impl Scene<'_> {
    /// A service before its first epoch, as long as the work is wanted.
    fn simulator(&self) -> Result<Simulator<'_>> {
        if !(self.wanted)() {
            return Err(Refusal::Stopped);
        }
        Simulator::new(self.service, self.track, self.epochs.clone())
    }

    /// A run under one network.
    fn run(&self, base: &Base, network: &Network) -> Result<Run> {
        let policy = Policy::of(base, vec![network.clone()])?;
        Ok(self.simulator()?.run(|state| Control::Knobs(policy.recommend(state))))
    }
}

fn in_simulator(scene: &Scene, warm_start: Option<&Policy>) -> Result<Training> {
    let settings = scene.settings;
    let fixed = tuned(scene.service, scene.track, scene.epochs.clone(), &settings.space, &settings.objective)?;
    let mut states = Vec::new();
    scene.simulator()?.run(|state| {
        states.push(*state);
        Control::Knobs(fixed.knobs)
    });
    let scaler = match warm_start {
        Some(policy) => policy.scaler.clone(),
        None => Scaler::fit(&states)?,
    };
    let base = Base {
        algorithm: settings.algorithm,
        objective: settings.objective,
        price: fixed.price,
        space: settings.space.clone(),
        scaler,
    };
    let start = Start { base, knobs: fixed.knobs };
    let member = |number: u64| match settings.algorithm {
        Algorithm::LinUcb | Algorithm::Thompson => bandit::learn(scene, &start, number),
        Algorithm::Ppo | Algorithm::A2c => actor_critic::learn(scene, &start, number),
        Algorithm::Es => evolution::learn(scene, &start, number),
    };
    let members = (0..settings.members as u64).map(member).collect::<Result<Vec<Learned>>>()?;
    let price = members.iter().map(|member| member.price.ln()).sum::<f64>() / members.len() as f64;
    let base = Base { price: price.exp(), ..start.base };
    let learning_curve = curve(&members, &base);
    let policy = Policy::of(&base, members.into_iter().map(|member| member.network).collect())?;
    let states = states.iter().step_by(states.len().div_ceil(STATES_MAX)).copied().collect();
    Ok(Training { policy, converged: converged(&learning_curve), learning_curve, tuned: Some(fixed), states })
}

fn from_log(experience: &Experience, settings: &Settings, warm_start: Option<&Policy>) -> Result<Training> {
    if !matches!(settings.algorithm, Algorithm::LinUcb | Algorithm::Thompson) {
        let text = format!(
            "{} has to try what it learns and cannot learn from a log: use linucb or thompson, or the simulator",
            settings.algorithm.name()
        );
        return Err(Refusal::Parameter(text));
    }
    let all = experience.states();
    let base = Base {
        algorithm: settings.algorithm,
        objective: settings.objective,
        price: warm_start.map_or_else(|| Dual::new(&settings.objective, None).price(), Policy::price),
        space: settings.space.clone(),
        scaler: warm_start.map_or_else(|| Scaler::fit(&all), |policy| Ok(policy.scaler.clone()))?,
    };
    let members = (0..settings.members as u64).map(|number| bandit::from_log(experience, &base, settings, number));
    let policy = Policy::of(&base, members.collect::<Result<Vec<Network>>>()?)?;
    let states = all.iter().step_by(all.len().div_ceil(STATES_MAX)).copied().collect();
    Ok(Training { policy, learning_curve: Vec::new(), converged: true, tuned: None, states })
}

/// The mean curve of all members, every run at the price of the end.
fn curve(members: &[Learned], base: &Base) -> Vec<Step> {
    let points = members.iter().map(|member| member.path.len()).min().unwrap_or(0);
    let point = |place: usize| {
        let mut step = Step { step: 0, reward: 0.0, violation: 0.0 };
        for member in members {
            let (steps, _, run) = &member.path[place];
            step.step += steps / members.len();
            step.reward += run.reward(&base.objective, base.price) / members.len() as f64;
            step.violation += run.violation / members.len() as f64;
        }
        step
    };
    (0..points).map(point).collect()
}

fn converged(curve: &[Step]) -> bool {
    let late = &curve[curve.len() - curve.len() / 3..];
    let half = late.len() / 2;
    if half == 0 {
        return true;
    }
    let mean = |part: &[Step]| part.iter().map(|step| step.reward).sum::<f64>() / part.len() as f64;
    (mean(&late[..half]) - mean(&late[half..])).abs() <= 0.02 * mean(late).abs()
}

#[cfg(test)]
mod tests;
