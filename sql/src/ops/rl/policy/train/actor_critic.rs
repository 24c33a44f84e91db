//! Actor and critic: ppo and a2c with small networks.
//!
//! A round rolls out a stretch of epochs under the actor's chances, estimates advantages by generalised advantage
//! estimation (λ = 0.9), and moves the actor up advantage · ln π — a2c once over the stretch, ppo several times with the ratio to the old
//! chances clipped at ± 0.2 — with a bonus for entropy, and the critic towards the returns. Rewards are divided by a running
//! deviation and held within ± 10 of it, so that one crowd does not move everything.
//!
//! **Papers.** Schulman et al. 2017 (ppo), 2016 (advantage estimation); Mnih et al. 2016 (a2c).
//!
//! **Invariant:** the actor begins at the tuned static rule: a last layer near zero, biases that are its spread over the arms.

use juno_kernels::SplitMix;
use juno_kernels::dense_network::{Adam, Network};

use super::{Learned, Scene, Start};
use crate::ops::rl::policy::gate::{drawn, explored};
use crate::ops::rl::policy::refusal::Result;
use crate::ops::rl::policy::reward::Dual;
use crate::ops::rl::policy::simulator::{Control, Simulator};
use crate::ops::rl::policy::state::{FEATURES, State};
use crate::ops::rl::policy::{Algorithm, softmax};

const HIDDEN: usize = 24;
/// Epochs of a stretch.
const STRETCH: usize = 256;
/// Decisions of one step of ppo.
const BATCH: usize = 64;
const PASSES: usize = 4;
const CLIP: f64 = 0.2;
const TRACE_DECAY: f64 = 0.9;
const REWARD_MAX: f64 = 10.0;
/// What an exploration rate of 1 weighs entropy by.
const ENTROPY: f64 = 0.1;
/// How much of the first chances is even.
const EVEN: f64 = 0.3;

/// Actor, critic and what moves them.
struct Pair {
    actor: Network,
    critic: Network,
    by_actor: Adam,
    by_critic: Adam,
}

/// What a stretch was.
#[derive(Default)]
struct Stretch {
    states: Vec<State>,
    arms: Vec<usize>,
    chances: Vec<f64>,
    advantages: Vec<f64>,
    returns: Vec<f64>,
}

/// Learns one member.
pub(super) fn learn(scene: &Scene, start: &Start, member: u64) -> Result<Learned> {
    let (settings, base) = (scene.settings, &start.base);
    let mut random = SplitMix::new(settings.seed, 400 + member);
    let mut dual = Dual::new(&settings.objective, Some(base.price));
    let mut pair = Pair::new(start, &mut random)?;
    let mut scale = Scale::default();
    let mut path = Vec::new();
    let mut simulator = scene.simulator()?;
    let rounds = (settings.steps / STRETCH).max(1);
    let stride = rounds.div_ceil(30);
    for round in 0..rounds {
        let mut stretch = Stretch::default();
        let rewards = pair.roll(scene, start, &mut simulator, &mut stretch, dual.price(), &mut random)?;
        pair.advantages(&mut stretch, &scale.applied(&rewards), settings.discount)?;
        pair.improve(&stretch, scene, &mut random)?;
        if round % stride == stride - 1 {
            let run = scene.run(base, &pair.actor)?;
            dual.update(run.violation);
            path.push(((round + 1) * STRETCH, dual.price(), run));
        }
    }
    Ok(Learned { network: pair.actor, path, price: dual.settled() })
}

impl Pair {
    fn new(start: &Start, random: &mut SplitMix) -> Result<Self> {
        let arms = start.base.space.arms();
        let mut actor = Network::new(&[FEATURES, HIDDEN, arms], random.next())?;
        let last = (FEATURES + 1) * HIDDEN;
        actor.parameters_mut()[last..last + HIDDEN * arms].iter_mut().for_each(|weight| *weight *= 0.05);
        let first = explored(&start.base.space.spread(&start.knobs), EVEN);
        for (bias, chance) in actor.parameters_mut()[last + HIDDEN * arms..].iter_mut().zip(first) {
            *bias = chance.ln();
        }
        let critic = Network::new(&[FEATURES, HIDDEN, 1], random.next())?;
        Ok(Self { by_actor: Adam::new(&actor), by_critic: Adam::new(&critic), actor, critic })
    }

    /// Rolls out a stretch; a simulator that is over starts anew. Returns the rewards.
    fn roll<'a>(
        &self,
        scene: &'a Scene,
        start: &Start,
        simulator: &mut Simulator<'a>,
        stretch: &mut Stretch,
        price: f64,
        random: &mut SplitMix,
    ) -> Result<Vec<f64>> {
        let base = &start.base;
        let mut rewards = Vec::with_capacity(STRETCH);
        while rewards.len() < STRETCH {
            if simulator.is_over() {
                *simulator = scene.simulator()?;
            }
            let state = base.scaler.scaled(&simulator.state());
            let chances = softmax(self.actor.forward_traced(&state)?.outputs());
            let arm = drawn(&chances, random.unit());
            let outcome = simulator.step(&Control::Knobs(base.space.knobs(arm)));
            rewards.push(base.objective.reward(&outcome, price));
            stretch.states.push(state);
            stretch.arms.push(arm);
            stretch.chances.push(chances[arm]);
        }
        stretch.states.push(base.scaler.scaled(&simulator.state()));
        Ok(rewards)
    }

    fn advantages(&self, stretch: &mut Stretch, rewards: &[f64], discount: f64) -> Result<()> {
        let values = self.critic.forward_traced(stretch.states.as_flattened())?.outputs().to_vec();
        stretch.states.pop();
        let mut advantage = 0.0;
        stretch.advantages = vec![0.0; rewards.len()];
        for place in (0..rewards.len()).rev() {
            let surprise = rewards[place] + discount * values[place + 1] - values[place];
            advantage = surprise + discount * TRACE_DECAY * advantage;
            stretch.advantages[place] = advantage;
        }
        stretch.returns = stretch.advantages.iter().zip(&values).map(|(advantage, value)| advantage + value).collect();
        let count = rewards.len() as f64;
        let mean = stretch.advantages.iter().sum::<f64>() / count;
        let square = stretch.advantages.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        stretch.advantages.iter_mut().for_each(|x| *x = (*x - mean) / (square.sqrt() + 1e-6));
        Ok(())
    }

    fn improve(&mut self, stretch: &Stretch, scene: &Scene, random: &mut SplitMix) -> Result<()> {
        let mut order: Vec<usize> = (0..stretch.arms.len()).collect();
        if scene.settings.algorithm == Algorithm::A2c {
            return self.step(stretch, &order, scene);
        }
        for _ in 0..PASSES {
            for place in (1..order.len()).rev() {
                order.swap(place, random.below(place + 1));
            }
            for batch in order.chunks(BATCH) {
                self.step(stretch, batch, scene)?;
            }
        }
        Ok(())
    }

    /// One step of both networks on some decisions of the stretch.
    fn step(&mut self, stretch: &Stretch, batch: &[usize], scene: &Scene) -> Result<()> {
        let settings = scene.settings;
        let states: Vec<f64> = batch.iter().flat_map(|place| stretch.states[*place]).collect();
        let trace = self.actor.forward_traced(&states)?;
        let arms = self.actor.outputs();
        let mut by_logits = Vec::with_capacity(batch.len() * arms);
        for (logits, place) in trace.outputs().chunks_exact(arms).zip(batch) {
            let chances = softmax(logits);
            let (arm, advantage) = (stretch.arms[*place], stretch.advantages[*place]);
            let ratio = chances[arm] / stretch.chances[*place];
            let clipped = if advantage > 0.0 { ratio > 1.0 + CLIP } else { ratio < 1.0 - CLIP };
            let push = match settings.algorithm {
                Algorithm::Ppo if clipped => 0.0,
                Algorithm::Ppo => ratio * advantage,
                _ => advantage,
            };
            let logs: Vec<f64> = chances.iter().map(|chance| chance.max(1e-12).ln()).collect();
            let entropy: f64 = -chances.iter().zip(&logs).map(|(chance, log)| chance * log).sum::<f64>();
            by_logits.extend((0..arms).map(|other| {
                let up = push * (f64::from(u8::from(other == arm)) - chances[other]);
                let wider = ENTROPY * settings.exploration_rate * -chances[other] * (logs[other] + entropy);
                -(up + wider) / batch.len() as f64
            }));
        }
        let gradient = self.actor.backward(&trace, &by_logits)?;
        self.by_actor.step(&mut self.actor, &gradient, settings.learning_rate);
        let trace = self.critic.forward_traced(&states)?;
        let errors = trace.outputs().iter().zip(batch).map(|(value, place)| value - stretch.returns[*place]);
        let by_value: Vec<f64> = errors.map(|error| 2.0 * error / batch.len() as f64).collect();
        let gradient = self.critic.backward(&trace, &by_value)?;
        self.by_critic.step(&mut self.critic, &gradient, settings.learning_rate);
        Ok(())
    }
}

/// The running scale of rewards.
#[derive(Default)]
struct Scale {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Scale {
    /// Rewards in deviations from their running mean.
    fn applied(&mut self, rewards: &[f64]) -> Vec<f64> {
        self.count += rewards.len() as f64;
        self.sum += rewards.iter().sum::<f64>();
        self.squares += rewards.iter().map(|x| x * x).sum::<f64>();
        let mean = self.sum / self.count;
        let deviation = (self.squares / self.count - mean * mean).max(1e-12).sqrt();
        rewards.iter().map(|x| ((x - mean) / deviation).clamp(-REWARD_MAX, REWARD_MAX)).collect()
    }
}
