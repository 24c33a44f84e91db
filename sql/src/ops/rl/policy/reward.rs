//! What a decision brought, and what that is worth: several aims with weights, and one constraint with a price.
//!
//! Reward = −cost·w_c − price·violation·w_r − slowness·w_p − 0.05·churn. The price of a violation is found by dual ascent: it
//! rises while more requests than seven tenths of the budget find no capacity, and falls while fewer do.
//!
//! **Invariant:** a reward is linear in its components, so that one log serves every weighting; a component is negative only where
//! capacity was short of the need.

use super::refusal::{Refusal, Result};

/// How many components an outcome has.
pub const COMPONENTS: usize = 6;
/// Their names, in the order of every array of components.
pub const COMPONENT_NAMES: [&str; COMPONENTS] = ["cost", "idle", "violation", "slow", "latency", "churn"];
const CHURN_WEIGHT: f64 = 0.05;
/// The share of the budget that is aimed at.
const BUDGET_SHARE: f64 = 0.7;
/// Bounds of the price, in replica shares per request share.
const PRICE_MIN: f64 = 10.0;
const PRICE_MAX: f64 = 3_000.0;
const PRICE_FIRST: f64 = 150.0;

/// What the decision of one epoch brought. Sums over requests and replicas are in shares of what a mean epoch has, so that
/// busy hours count as much as they weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Components {
    /// Billed replicas that were not needed, in shares of the mean need.
    pub cost: f64,
    /// The share of billed capacity that no request used.
    pub idle: f64,
    /// Requests that found no capacity, in shares of a mean epoch's requests.
    pub violation: f64,
    /// What latencies were above their target, in targets.
    pub slow: f64,
    /// Latencies, in targets.
    pub latency: f64,
    /// The mean change of the number of replicas within 15 s, as a share of them.
    pub churn: f64,
}

impl Components {
    /// As numbers, in the order of the fields.
    #[must_use]
    pub fn array(&self) -> [f64; COMPONENTS] {
        [self.cost, self.idle, self.violation, self.slow, self.latency, self.churn]
    }

    /// From numbers in that order.
    #[must_use]
    pub fn of([cost, idle, violation, slow, latency, churn]: [f64; COMPONENTS]) -> Self {
        Self { cost, idle, violation, slow, latency, churn }
    }
}

/// What is optimised, by the names of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Little idle capacity.
    ResourceUtilization,
    /// Latency as low as it gets, not only below its target.
    ResponseTime,
    /// Few billed replicas.
    Cost,
    /// Far inside the error budget.
    Reliability,
    /// All three aims alike.
    Balanced,
}

impl Goal {
    /// Every goal.
    pub const ALL: [Self; 5] =
        [Self::ResourceUtilization, Self::ResponseTime, Self::Cost, Self::Reliability, Self::Balanced];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ResourceUtilization => "resource_utilization",
            Self::ResponseTime => "response_time",
            Self::Cost => "cost",
            Self::Reliability => "reliability",
            Self::Balanced => "balanced",
        }
    }

    /// The goal of this name.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] for any other word.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|goal| goal.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Refusal::Parameter(format!("'{name}' is no optimisation type: use one of {names}"))
        })
    }

    /// The weights that it starts from.
    #[must_use]
    pub fn weights(self) -> Weights {
        let (performance, cost, reliability) = match self {
            Self::ResourceUtilization | Self::Balanced => (1.0, 1.0, 1.0),
            Self::ResponseTime => (2.0, 0.5, 1.0),
            Self::Cost => (0.2, 2.0, 1.0),
            Self::Reliability => (1.0, 0.5, 3.0),
        };
        Weights { performance, cost, reliability }
    }
}

/// How much each aim counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of slowness.
    pub performance: f64,
    /// Of cost.
    pub cost: f64,
    /// Of violations, beside their price.
    pub reliability: f64,
}

/// What a policy is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Which measures count.
    pub goal: Goal,
    /// How much.
    pub weights: Weights,
    /// The share of requests that may find no capacity.
    pub violation_max: f64,
}

impl Objective {
    /// A goal with its own weights and a budget of one in a thousand.
    #[must_use]
    pub fn new(goal: Goal) -> Self {
        Self { goal, weights: goal.weights(), violation_max: 0.001 }
    }

    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] when one is not.
    pub fn check(&self) -> Result<()> {
        let Weights { performance, cost, reliability } = self.weights;
        for (name, weight) in [("performance", performance), ("cost", cost), ("reliability", reliability)] {
            if !(0.0..=100.0).contains(&weight) {
                let text = format!("a weight of {name} of {weight} is out of range: use 0 to 100");
                return Err(Refusal::Parameter(text));
            }
        }
        if performance + cost + reliability <= 0.0 {
            return Err(Refusal::Parameter("all weights are 0: give one of them a number above 0".to_owned()));
        }
        if !(self.violation_max > 0.0 && self.violation_max <= 0.5) {
            let text =
                format!("a most violation of {} is out of range: use more than 0, at most 0.5", self.violation_max);
            return Err(Refusal::Parameter(text));
        }
        Ok(())
    }

    /// What a unit of each component takes from the reward, in the order of [`Components::array`].
    #[must_use]
    pub fn rates(&self, price: f64) -> [f64; COMPONENTS] {
        let Weights { performance, cost, reliability } = self.weights;
        let mut rates = [0.0, 0.0, -price * reliability, 0.0, 0.0, -CHURN_WEIGHT];
        rates[if self.goal == Goal::ResourceUtilization { 1 } else { 0 }] = -cost;
        rates[if self.goal == Goal::ResponseTime { 4 } else { 3 }] = -performance;
        rates
    }

    /// The reward of an outcome at this price of violations.
    #[must_use]
    pub fn reward(&self, outcome: &Components, price: f64) -> f64 {
        self.rates(price).iter().zip(outcome.array()).map(|(rate, value)| rate * value).sum()
    }
}

/// The price of violations on its way up and down.
#[derive(Clone, Debug)]
pub struct Dual {
    target: f64,
    log_price: f64,
    seen: Vec<f64>,
}

impl Dual {
    /// Before the first step, for this objective.
    #[must_use]
    pub fn new(objective: &Objective, first: Option<f64>) -> Self {
        let log_price = first.unwrap_or(PRICE_FIRST).clamp(PRICE_MIN, PRICE_MAX).ln();
        Self { target: objective.violation_max * BUDGET_SHARE, log_price, seen: Vec::new() }
    }

    /// The price now.
    #[must_use]
    pub fn price(&self) -> f64 {
        self.log_price.exp()
    }

    /// Moves the price by the share of requests that found no capacity; steps grow shorter.
    pub fn update(&mut self, violation: f64) {
        let excess = (violation / self.target - 1.0).clamp(-1.0, 2.0);
        let rate = 0.5 / (1.0 + self.seen.len() as f64).sqrt();
        self.log_price = (self.log_price + rate * excess).clamp(PRICE_MIN.ln(), PRICE_MAX.ln());
        self.seen.push(self.log_price);
    }

    /// The mean price of the second half of all steps: where the ascent went.
    #[must_use]
    pub fn settled(&self) -> f64 {
        let late = &self.seen[self.seen.len() / 2..];
        if late.is_empty() { self.price() } else { (late.iter().sum::<f64>() / late.len() as f64).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Components {
        Components { cost: 0.3, idle: 0.2, violation: 0.001, slow: 0.01, latency: 0.6, churn: 0.4 }
    }

    #[test]
    fn each_goal_counts_its_own_measure() {
        let reward = |goal, outcome: &Components| Objective::new(goal).reward(outcome, 100.0);
        let expected = -0.3 - 0.1 - 0.01 - 0.02;
        assert!((reward(Goal::Balanced, &outcome()) - expected).abs() < 1e-12);
        let faster = Components { latency: 0.3, ..outcome() };
        assert_eq!(reward(Goal::Balanced, &faster), reward(Goal::Balanced, &outcome()));
        assert!(reward(Goal::ResponseTime, &faster) > reward(Goal::ResponseTime, &outcome()));
        let busier = Components { idle: 0.1, ..outcome() };
        assert!(reward(Goal::ResourceUtilization, &busier) > reward(Goal::ResourceUtilization, &outcome()));
        assert_eq!(reward(Goal::Cost, &busier), reward(Goal::Cost, &outcome()));
        for goal in Goal::ALL {
            assert_eq!(Goal::parse(goal.name()).unwrap(), goal);
            let worse = Components { violation: 0.01, ..outcome() };
            assert!(reward(goal, &worse) < reward(goal, &outcome()), "{goal:?}");
        }
        assert!(Goal::parse("speed").unwrap_err().to_string().contains("resource_utilization"));
    }

    #[test]
    fn the_price_rises_above_the_budget_and_falls_below_it() {
        let mut dual = Dual::new(&Objective::new(Goal::Balanced), None);
        let first = dual.price();
        dual.update(0.002);
        let high = dual.price();
        dual.update(0.0001);
        assert!(high > first && dual.price() < high);
        (0..2_000).for_each(|_| dual.update(1.0));
        assert!(dual.settled() <= PRICE_MAX * 1.001);
    }

    #[test]
    fn weights_and_budgets_out_of_range_are_refused() {
        let balanced = Objective::new(Goal::Balanced);
        assert!(balanced.check().is_ok());
        let weights = |cost| Objective { weights: Weights { cost, ..balanced.weights }, ..balanced };
        assert!(weights(-1.0).check().is_err() && weights(f64::NAN).check().is_err());
        let zero = Weights { performance: 0.0, cost: 0.0, reliability: 0.0 };
        assert!(Objective { weights: zero, ..balanced }.check().is_err());
        assert!(Objective { violation_max: 0.0, ..balanced }.check().is_err());
    }
}
