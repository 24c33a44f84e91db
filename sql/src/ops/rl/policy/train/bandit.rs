//! Linear bandits: linucb and thompson over one model of all arms.
//!
//! Each epoch is a decision. linucb takes the arm with the largest x·θ + α·√(xᵀA⁻¹x); thompson draws θ from its posterior and takes the
//! best arm. The components of the outcome are modelled one by one, so that the price of violations can move without learning
//! anew. The policy's logits are the worth of each arm in units of a fiftieth of reward.
//!
//! **Invariant:** the arm that is taken depends on what was seen before it alone.

use juno_kernels::SplitMix;
use juno_kernels::dense_network::Network;

use super::{Learned, Scene, Settings, Start};
use crate::ops::rl::policy::experience::{Decision, Experience};
use crate::ops::rl::policy::refusal::Result;
use crate::ops::rl::policy::reward::Dual;
use crate::ops::rl::policy::ridge::{Factor, Normal};
use crate::ops::rl::policy::simulator::Control;
use crate::ops::rl::policy::state::State;
use crate::ops::rl::policy::worth::{RIDGE, TERMS, Worth, network, row};
use crate::ops::rl::policy::{Algorithm, Base};

/// What a logit is worth, in reward.
const UNIT: f64 = 0.02;
/// Decisions between two solutions of the model.
const REFRESH: usize = 16;

/// Learns one member by trying.
pub(super) fn learn(scene: &Scene, start: &Start, member: u64) -> Result<Learned> {
    let (settings, base) = (scene.settings, &start.base);
    let mut random = SplitMix::new(settings.seed, 200 + member);
    let mut dual = Dual::new(&settings.objective, Some(base.price));
    let mut normal = Worth::normal();
    let mut path = Vec::new();
    let rounds = (settings.steps / scene.epochs.len()).max(2);
    for round in 0..rounds {
        let mut simulator = scene.simulator()?;
        let mut belief = Belief::of(&normal, base, dual.price(), settings, &mut random);
        let mut since = 0;
        while !simulator.is_over() {
            if since == REFRESH {
                (belief, since) = (Belief::of(&normal, base, dual.price(), settings, &mut random), 0);
            }
            since += 1;
            let state = simulator.state();
            let arm = if round == 0 { random.below(base.space.arms()) } else { belief.arm(base, &state) };
            let outcome = simulator.step(&Control::Knobs(base.space.knobs(arm)));
            Worth::add(&mut normal, &base.scaler, &base.space, &Decision { state, arm, propensity: 1.0, outcome });
        }
        let network = greedy(&normal, base, dual.price())?;
        let run = scene.run(base, &network)?;
        dual.update(run.violation);
        path.push(((round + 1) * scene.epochs.len(), dual.price(), run));
    }
    let price = dual.settled();
    Ok(Learned { network: greedy(&normal, base, price)?, path, price })
}

/// Learns one member from a log: every decision counts as often as a bootstrap by the seed has it.
pub(super) fn from_log(log: &Experience, base: &Base, settings: &Settings, member: u64) -> Result<Network> {
    let mut random = SplitMix::new(settings.seed, 300 + member);
    let all = log.decisions();
    let mut normal = Worth::normal();
    for _ in all {
        Worth::add(&mut normal, &base.scaler, &base.space, &all[random.below(all.len())]);
    }
    greedy(&normal, base, base.price)
}

/// The network of the model as it stands.
fn greedy(normal: &Normal, base: &Base, price: f64) -> Result<Network> {
    network(&base.space, &Worth::solve(normal).reward(&base.objective, price), UNIT)
}

/// What the model believes for some decisions.
struct Belief {
    reward: Vec<f64>,
    /// For linucb, how to tell what is uncertain, and how much that counts.
    bounds: Option<(Factor, f64)>,
}

impl Belief {
    fn of(normal: &Normal, base: &Base, price: f64, settings: &Settings, random: &mut SplitMix) -> Self {
        let mut reward = Worth::solve(normal).reward(&base.objective, price);
        let factor = normal.factor(RIDGE);
        if settings.algorithm == Algorithm::LinUcb {
            return Self { reward, bounds: Some((factor, settings.exploration_rate)) };
        }
        let noise: Vec<f64> = (0..TERMS).map(|_| random.normal()).collect();
        for (mean, moved) in reward.iter_mut().zip(factor.backward(&noise)) {
            *mean += settings.exploration_rate * moved;
        }
        Self { reward, bounds: None }
    }

    /// The arm that looks best; the lower one of two that are equal.
    fn arm(&self, base: &Base, state: &State) -> usize {
        let scaled = base.scaler.scaled(state);
        let mut best = (f64::NEG_INFINITY, 0);
        for arm in 0..base.space.arms() {
            let row = row(&scaled, base.space.coordinates(arm));
            let mut worth: f64 = row.iter().zip(&self.reward).map(|(x, c)| x * c).sum();
            if let Some((factor, width)) = &self.bounds {
                worth += width * factor.forward(&row).iter().map(|x| x * x).sum::<f64>().sqrt();
            }
            if worth > best.0 {
                best = (worth, arm);
            }
        }
        best.1
    }
}
