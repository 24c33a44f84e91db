//! A learned policy over the knobs of the scaling rule: which k, hold and guard suit the state of a service.
//!
//! A policy is a weighted mean of networks. Each gives every arm a logit; the chances of the arms are the mean of the members'
//! softmax, and the recommendation is the mean of the knobs under them. Averaging members that were trained on other
//! seeds and at other times is what keeps recommendations steady; a limit on the Kullback–Leibler divergence bounds what
//! one retraining may change, and hysteresis what one decision may.
//!
//! **Invariant:** pure: no clock, no table, no randomness but that of a seed; equal inputs give equal bits.

pub mod action;
pub mod comparison;
pub mod evaluation;
pub mod experience;
mod format;
pub mod gate;
pub mod refusal;
pub mod reward;
mod ridge;
pub mod schedule;
pub mod simulator;
pub mod stability;
pub mod stage;
pub mod state;
pub mod train;
mod worth;

use juno_kernels::dense_network::Network;

use self::action::{ActionSpace, KNOBS, Knobs};
use self::refusal::{Refusal, Result};
use self::reward::Objective;
use self::state::{FEATURES, Scaler, State};

/// Networks of a policy; a retraining that would make more drops the lightest.
pub const MEMBERS_MAX: usize = 32;
/// How many rungs a knob must move before a recommendation replaces the one in force.
const HYSTERESIS_RUNGS: f64 = 0.15;

/// How a policy was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Proximal policy optimisation (Schulman et al. 2017).
    Ppo,
    /// Advantage actor-critic (Mnih et al. 2016).
    A2c,
    /// Upper confidence bounds of a linear model (Li et al. 2010).
    LinUcb,
    /// Thompson sampling of a linear model (Agrawal and Goyal 2013).
    Thompson,
    /// Evolution by the cross-entropy method (Rubinstein 1999).
    Es,
}

impl Algorithm {
    /// Every algorithm; the place is its number in an artefact.
    pub const ALL: [Self; 5] = [Self::Ppo, Self::A2c, Self::LinUcb, Self::Thompson, Self::Es];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ppo => "ppo",
            Self::A2c => "a2c",
            Self::LinUcb => "linucb",
            Self::Thompson => "thompson",
            Self::Es => "es",
        }
    }

    /// The algorithm of this name.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] for any other word.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Refusal::Parameter(format!("'{name}' is no algorithm: use one of {names}"))
        })
    }
}

/// A trained policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    algorithm: Algorithm,
    objective: Objective,
    price: f64,
    space: ActionSpace,
    scaler: Scaler,
    members: Vec<Member>,
}

/// One network and its share of the policy.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    weight: f64,
    network: Network,
}

impl Policy {
    /// The policy of networks that count alike.
    fn of(base: &Base, networks: Vec<Network>) -> Result<Self> {
        let weight = 1.0 / networks.len().max(1) as f64;
        let policy = Self {
            algorithm: base.algorithm,
            objective: base.objective,
            price: base.price,
            space: base.space.clone(),
            scaler: base.scaler.clone(),
            members: networks.into_iter().map(|network| Member { weight, network }).collect(),
        };
        if policy.fits() {
            Ok(policy)
        } else {
            Err(Refusal::Parameter("the networks do not fit the policy".to_owned()))
        }
    }

    /// Whether every part fits the others.
    fn fits(&self) -> bool {
        let total: f64 = self.members.iter().map(|member| member.weight).sum();
        let fits = |member: &Member| {
            member.weight > 0.0
                && member.network.inputs() == FEATURES
                && member.network.outputs() == self.space.arms()
                && member.network.parameters().iter().all(|parameter| parameter.is_finite())
        };
        let scales = self.scaler.means.iter().all(|x| x.is_finite()) && self.scaler.deviations.iter().all(|x| *x > 0.0);
        (1..=MEMBERS_MAX).contains(&self.members.len())
            && self.members.iter().all(fits)
            && (total - 1.0).abs() < 1e-6
            && scales
            && self.price.is_finite()
            && self.objective.check().is_ok()
    }

    /// How it was learned.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it was to reach.
    #[must_use]
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// The price of a violation that training settled at.
    #[must_use]
    pub fn price(&self) -> f64 {
        self.price
    }

    /// The arms it was trained on.
    #[must_use]
    pub fn space(&self) -> &ActionSpace {
        &self.space
    }

    /// The chance of every arm in a state, before they are drawn together to one recommendation.
    #[must_use]
    pub fn chances(&self, state: &State) -> Vec<f64> {
        let scaled = self.scaler.scaled(state);
        let mut chances = vec![0.0; self.space.arms()];
        for member in &self.members {
            let trace =
                member.network.forward_traced(&scaled).expect("one row of as many numbers as the network takes");
            let own = softmax(trace.outputs());
            for (sum, chance) in chances.iter_mut().zip(own) {
                *sum += member.weight * chance;
            }
        }
        chances
    }

    /// The knobs for a state.
    #[must_use]
    pub fn recommend(&self, state: &State) -> Knobs {
        self.space.mean(&self.chances(state))
    }

    /// The recommendation as chances of the arms around it: what logged decisions are weighed by.
    #[must_use]
    pub fn distribution(&self, state: &State) -> Vec<f64> {
        self.space.spread(&self.recommend(state))
    }

    /// The knobs for a state where others are in force: those, unless one of them is to move by more than 0.15 rungs.
    #[must_use]
    pub fn recommend_after(&self, in_force: &Knobs, state: &State) -> Knobs {
        let next = self.recommend(state);
        let (old, new) = (self.space.positions(in_force), self.space.positions(&next));
        let moved: [bool; KNOBS] = std::array::from_fn(|knob| (old[knob] - new[knob]).abs() > HYSTERESIS_RUNGS);
        if moved.contains(&true) { next } else { *in_force }
    }

    /// Every network as a policy of its own.
    fn members(&self) -> Vec<Self> {
        let alone = |member: &Member| Self { members: vec![Member { weight: 1.0, ..member.clone() }], ..self.clone() };
        self.members.iter().map(alone).collect()
    }

    /// The mean over states of the divergence of this policy's chances from those of another, in nats.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] when the other has other arms, [`Refusal::InsufficientExperience`] without states.
    pub fn divergence(&self, other: &Self, states: &[State]) -> Result<f64> {
        if self.space != other.space {
            return Err(Refusal::Parameter("the policies have different arms and cannot be compared".to_owned()));
        }
        if states.is_empty() {
            return Err(Refusal::InsufficientExperience("there is no state to compare policies on".to_owned()));
        }
        let chances = |policy: &Self| -> Vec<Vec<f64>> { states.iter().map(|state| policy.chances(state)).collect() };
        Ok(divergence(&chances(self), &chances(other), 1.0))
    }

    /// The part of this policy and of the active one that diverges from the active one by no more than `limit_nats` on
    /// average over states, as much of this one as that allows.
    ///
    /// # Errors
    /// As for [`Policy::divergence`]; [`Refusal::Parameter`] for a limit that is not above 0.
    pub fn limited(&self, active: &Self, states: &[State], limit_nats: f64) -> Result<Self> {
        if limit_nats.is_nan() || limit_nats <= 0.0 {
            return Err(Refusal::Parameter(format!("a limit of {limit_nats} is out of range: use a number above 0")));
        }
        if self.divergence(active, states)? <= limit_nats {
            return Ok(self.clone());
        }
        let chances = |policy: &Self| -> Vec<Vec<f64>> { states.iter().map(|state| policy.chances(state)).collect() };
        let (new, old) = (chances(self), chances(active));
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..30 {
            let middle = f64::midpoint(low, high);
            if divergence(&new, &old, middle) <= limit_nats { low = middle } else { high = middle }
        }
        self.mixed(active, low)
    }

    /// `share` of this policy and the rest of another with the same arms and scales. Networks of the other are kept as they are.
    fn mixed(&self, other: &Self, share: f64) -> Result<Self> {
        if self.scaler != other.scaler {
            let text = "policies with other scales cannot be mixed: warm-start the training from the active policy";
            return Err(Refusal::Parameter(text.to_owned()));
        }
        let part = |policy: &Self, share: f64| -> Vec<Member> {
            policy.members.iter().map(|member| Member { weight: member.weight * share, ..member.clone() }).collect()
        };
        let mut members: Vec<Member> = [part(self, share), part(other, 1.0 - share)].concat();
        members.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        members.truncate(MEMBERS_MAX);
        members.retain(|member| member.weight > 1e-6);
        let total: f64 = members.iter().map(|member| member.weight).sum();
        members.iter_mut().for_each(|member| member.weight /= total);
        Ok(Self { members, ..self.clone() })
    }
}

/// What all members of a policy share.
#[derive(Clone, Debug)]
struct Base {
    algorithm: Algorithm,
    objective: Objective,
    price: f64,
    space: ActionSpace,
    scaler: Scaler,
}

/// Chances from logits.
fn softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut chances: Vec<f64> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let total: f64 = chances.iter().sum();
    chances.iter_mut().for_each(|chance| *chance /= total);
    chances
}

/// The mean divergence from `old` of a mixture that has `share` of `new`.
fn divergence(new: &[Vec<f64>], old: &[Vec<f64>], share: f64) -> f64 {
    let one = |(new, old): (&f64, &f64)| {
        let mixed = share * new + (1.0 - share) * old;
        if mixed > 0.0 { mixed * (mixed / old.max(1e-300)).ln() } else { 0.0 }
    };
    let total: f64 = new.iter().zip(old).map(|(new, old)| new.iter().zip(old).map(one).sum::<f64>()).sum();
    total / new.len() as f64
}

#[cfg(test)]
mod tests;
