//! The error budget and the margin that keeps it.
//!
//! For each margin of a grid a fleet is kept that follows the same forecast with that margin: what it would have lost is known for
//! all of them, whichever was acted on. The margin in force is the smallest whose fleet lost no more than the aim over the trailing
//! weeks, but none whose last unit saves too little for its price: what no margin could have saved buys none. The aim integrates what really was lost: it is the budget times the share of it that is left, so that half of it is
//! spent in the long run, and less than all of it even where the fleets are too optimistic by any factor.
//!
//! **Invariant:** what is lost counts by requests, not by time; a step without demand changes nothing.

use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Pace};

/// Margins, in scales above the mean.
const MARGINS: usize = 28;
/// The smallest of them, its distance to the next, and what that grows by from one to the next.
const Z_MIN: f64 = -0.5;
const Z_STEP: f64 = 0.25;
const Z_GROWTH: f64 = 1.06;
/// Half-life of losses, in seconds: two weeks.
const HALF_LIFE_S: f64 = 14.0 * 86_400.0;
/// Before that a loss fades with this power of time: the first days, when little was learnt, are not held against a margin for long.
const EARLY: f64 = 1.0;
/// What is assumed before anything was seen counts as a quarter of a day of demand.
const PRIOR_S: f64 = 21_600.0;
/// The margin that would spend the whole budget, as assumed before anything was seen.
const PRIOR_Z: f64 = 2.0;
/// Least and largest share of the budget that is aimed at.
const AIM: (f64, f64) = (0.02, 0.5);
/// No more capacity is paid for than so many times the demand that it saves, over the budget.
const PRICE_MAX: f64 = 2.0;

/// A margin in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margin {
    /// Scales above the mean.
    pub(super) z: f64,
    /// Share of past lead times that it covered.
    pub(super) q: f64,
}

/// One margin of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Candidate {
    z: f64,
    fleet: Fleet,
    /// Demand that was lost, decayed.
    lost: f64,
    /// Capacity that was paid for, decayed.
    billed: f64,
    /// Share of lead times within it, decayed.
    covered: f64,
}

/// Losses by margin and in fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Budget {
    /// Share of demand that may be lost.
    budget: f64,
    decay: f64,
    /// Steps so far, as they are and decayed.
    age: f64,
    steps: f64,
    prior_steps: f64,
    /// Demand, and what of it really was lost; decayed.
    demand: f64,
    lost: f64,
    candidates: Vec<Candidate>,
}

impl Budget {
    pub(super) fn new(budget: f64, pace: Pace, step_s: u32, units: u32) -> Self {
        let step_s = f64::from(step_s);
        let mut z = Z_MIN;
        let mut width = Z_STEP;
        let mut next = || {
            let now = z;
            z += width;
            width *= Z_GROWTH;
            Candidate { z: now, fleet: Fleet::new(pace, units), lost: 0.0, billed: 0.0, covered: 0.5 }
        };
        let candidates = (0..MARGINS).map(|_| next()).collect();
        let decay = 0.5_f64.powf(step_s / HALF_LIFE_S);
        Self { budget, decay, age: 0.0, steps: 0.0, prior_steps: PRIOR_S / step_s, demand: 0.0, lost: 0.0, candidates }
    }

    /// A step passes for every fleet.
    pub(super) fn advance(&mut self) {
        self.candidates.iter_mut().for_each(|candidate| candidate.fleet.advance());
    }

    /// A step of this demand, of which so much was lost; `capacity` is that of a unit.
    pub(super) fn spend(&mut self, demand: f64, lost: f64, capacity: f64) {
        self.age += 1.0;
        let decay = self.decay.min(1.0 - EARLY / (self.age + EARLY));
        self.steps = self.steps * decay + 1.0;
        self.demand = self.demand * decay + demand;
        self.lost = self.lost * decay + lost;
        for candidate in &mut self.candidates {
            candidate.billed = candidate.billed * decay + f64::from(candidate.fleet.total()) * capacity;
            let beyond = (demand - f64::from(candidate.fleet.ready()) * capacity).max(0.0);
            candidate.lost = candidate.lost * decay + beyond;
        }
    }

    /// Every fleet gets the command of its margin.
    pub(super) fn command(&mut self, wanted: impl Fn(f64) -> u32) {
        for candidate in &mut self.candidates {
            candidate.fleet.command(wanted(candidate.z));
        }
    }

    /// A lead time ended at `z` scales above its mean.
    pub(super) fn covered(&mut self, z: f64) {
        let rate = (1.0 - self.decay).max(1.0 / (self.steps + 2.0));
        for candidate in &mut self.candidates {
            candidate.covered += (f64::from(u8::from(z <= candidate.z)) - candidate.covered) * rate;
        }
    }

    /// Scales above the mean that cover this share of past lead times.
    pub(super) fn z_of(&self, share: f64) -> f64 {
        let above = self.candidates.partition_point(|candidate| candidate.covered < share);
        let Some(right) = self.candidates.get(above) else { return self.candidates[MARGINS - 1].z };
        let Some(left) = above.checked_sub(1).map(|left| &self.candidates[left]) else { return right.z };
        let part = (share - left.covered) / (right.covered - left.covered).max(1e-9);
        left.z + (right.z - left.z) * part.clamp(0.0, 1.0)
    }

    /// Share of demand that may be lost from now on.
    pub(super) fn aim(&self) -> f64 {
        let spent = if self.demand > 0.0 { self.lost / self.demand / self.budget } else { 0.0 };
        self.budget * (1.0 - spent).clamp(AIM.0, AIM.1)
    }

    /// The smallest margin that would have kept the aim, and no larger than what is worth its price.
    pub(super) fn margin(&self) -> Margin {
        let aim = self.aim();
        let last = self.candidates.len() - 1;
        let mean = self.demand / self.steps.max(1.0);
        let prior = |z: f64| (1.5 * (PRIOR_Z - z)).exp().min(1e3) * self.budget * self.prior_steps * mean.max(1e-12);
        let unavoidable = self.candidates[last].lost;
        let lost = |place: usize| {
            let candidate = &self.candidates[place];
            (candidate.lost - unavoidable).max(0.0) + prior(candidate.z)
        };
        let all = (self.demand + self.prior_steps * mean).max(1e-12);
        let dear = |place: usize| {
            let (now, next) = (&self.candidates[place], &self.candidates[place + 1]);
            next.billed - now.billed > (lost(place) - lost(place + 1)) * PRICE_MAX / self.budget
        };
        let kept = (0..last).find(|&place| lost(place) <= aim * all || dear(place)).unwrap_or(last);
        let right = &self.candidates[kept];
        let Some(left) = kept.checked_sub(1).map(|left| &self.candidates[left]) else {
            return Margin { z: right.z, q: right.covered };
        };
        // Losses fall by a factor from margin to margin: the aim lies between them on a logarithmic line.
        let (over, under) = (lost(kept - 1) / all / aim, lost(kept) / all / aim);
        let part = (over.max(1.0).ln() / (over / under.max(1e-3)).ln().max(1e-9)).clamp(0.0, 1.0);
        Margin { z: left.z + (right.z - left.z) * part, q: left.covered + (right.covered - left.covered) * part }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { lead_steps: 2, hold_steps: 1, cooldown_steps: 0, max_step: u32::MAX };
    const BUDGET: f64 = 0.001;

    /// A demand of 1,000 that a margin of `enough` carries, and of which the share `lost` really is lost.
    fn spent(enough: f64, lost: f64) -> Budget {
        let mut budget = Budget::new(BUDGET, PACE, 15, 1);
        for _ in 0..20_000 {
            budget.advance();
            budget.spend(1_000.0, 1_000.0 * lost, 10.0);
            budget.command(|z| 100 - ((enough - z).max(0.0) * 4.0).ceil() as u32);
        }
        budget
    }

    #[test]
    fn the_margin_is_the_smallest_that_carries_the_demand() {
        for enough in [1.5, 3.0, 5.0] {
            let z = spent(enough, 0.0).margin().z;
            assert!((enough - 0.5..enough + 1.0).contains(&z), "{z} for {enough}");
        }
    }

    #[test]
    fn the_aim_is_half_of_the_budget_and_shrinks_as_it_is_spent() {
        let aim = |lost: f64| spent(2.0, lost).aim() / BUDGET;
        assert!((aim(0.0) - 0.5).abs() < 1e-9 && (aim(0.000_8) - 0.2).abs() < 0.01 && aim(0.1) >= AIM.0);
    }

    #[test]
    fn losses_that_no_margin_could_have_saved_buy_no_margin() {
        let mut budget = Budget::new(BUDGET, PACE, 15, 1);
        for step in 0..20_000 {
            budget.advance();
            let demand = if step % 5_000 == 4_999 { 5_000.0 } else { 1_000.0 };
            budget.spend(demand, 0.0, 10.0);
            budget.command(|z| 100 + (z.max(0.0) * 2.0) as u32);
        }
        assert!(budget.margin().z < 3.5, "{:?}", budget.margin());
    }

    #[test]
    fn quantiles_follow_what_was_covered() {
        let mut budget = Budget::new(BUDGET, PACE, 15, 1);
        for step in 0..10_000 {
            budget.advance();
            budget.spend(1_000.0, 0.0, 10.0);
            budget.covered(f64::from(step * 7 % 1_000) / 1_000.0 * 4.0);
        }
        for share in [0.5, 0.95] {
            let z = budget.z_of(share);
            assert!((z - 4.0 * share).abs() < 0.2, "{z} for {share}");
        }
    }
}
