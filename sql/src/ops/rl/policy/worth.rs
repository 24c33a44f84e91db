//! What an arm is worth in a state: every component of the outcome as a linear model of state, knobs and their products.
//!
//! Features: 1, the scaled state, the knobs' coordinates, their squares and products, and state × coordinates. All arms share
//! one model, so that a few hundred decisions serve dozens of arms.
//!
//! **Invariant:** for a given arm the model is linear in the scaled state, so that it can be written down as a network.

use juno_kernels::dense_network::Network;

use super::action::{ActionSpace, KNOBS};
use super::experience::Decision;
use super::refusal::Result;
use super::reward::{COMPONENTS, Objective};
use super::ridge::Normal;
use super::state::{FEATURES, Scaler, State};

/// Numbers of a row of the model.
pub(super) const TERMS: usize = 1 + FEATURES + 3 * KNOBS + FEATURES * KNOBS;
/// The ridge, in decisions.
pub(super) const RIDGE: f64 = 1.0;

/// The model's row for a scaled state and the coordinates of an arm.
pub(super) fn row(scaled: &State, [k, hold, guard]: [f64; KNOBS]) -> [f64; TERMS] {
    let mut row = [1.0; TERMS];
    let (state, rest) = row[1..].split_at_mut(FEATURES);
    state.copy_from_slice(scaled);
    let (knobs, products) = rest.split_at_mut(3 * KNOBS);
    knobs.copy_from_slice(&[k, hold, guard, k * k, hold * hold, guard * guard, k * hold, k * guard, hold * guard]);
    for (cells, x) in products.chunks_exact_mut(KNOBS).zip(scaled) {
        cells.copy_from_slice(&[x * k, x * hold, x * guard]);
    }
    row
}

/// Fitted coefficients, one list a component.
#[derive(Clone, Debug)]
pub(super) struct Worth {
    coefficients: Vec<Vec<f64>>,
}

impl Worth {
    /// From decisions that were added to normal equations.
    pub(super) fn solve(normal: &Normal) -> Self {
        Self { coefficients: normal.solve(RIDGE) }
    }

    /// Empty normal equations.
    pub(super) fn normal() -> Normal {
        Normal::new(TERMS, COMPONENTS)
    }

    /// Adds a decision.
    pub(super) fn add(normal: &mut Normal, scaler: &Scaler, space: &ActionSpace, decision: &Decision) {
        let row = row(&scaler.scaled(&decision.state), space.coordinates(decision.arm));
        normal.add(&row, &decision.outcome.array());
    }

    /// The coefficients of the reward itself.
    pub(super) fn reward(&self, objective: &Objective, price: f64) -> Vec<f64> {
        let mut total = vec![0.0; TERMS];
        for (coefficients, rate) in self.coefficients.iter().zip(objective.rates(price)) {
            for (sum, x) in total.iter_mut().zip(coefficients) {
                *sum += rate * x;
            }
        }
        total
    }
}

/// The network that gives every arm's worth over `unit` for a scaled state.
pub(super) fn network(space: &ActionSpace, reward: &[f64], unit: f64) -> Result<Network> {
    let arms = space.arms();
    let dot = |row: &[f64]| row.iter().zip(reward).map(|(x, c)| x * c).sum::<f64>() / unit;
    let mut parameters = vec![0.0; (FEATURES + 1) * arms];
    for arm in 0..arms {
        let at = |state: &State| dot(&row(state, space.coordinates(arm)));
        let base = at(&[0.0; FEATURES]);
        parameters[FEATURES * arms + arm] = base;
        for feature in 0..FEATURES {
            let mut state = [0.0; FEATURES];
            state[feature] = 1.0;
            parameters[feature * arms + arm] = at(&state) - base;
        }
    }
    Ok(Network::from_parts(&[FEATURES, arms], parameters)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use juno_kernels::SplitMix;

    #[test]
    fn the_network_says_what_the_model_says() {
        let space = ActionSpace::default();
        let mut random = SplitMix::new(1, 1);
        let reward: Vec<f64> = (0..TERMS).map(|_| random.normal()).collect();
        let network = network(&space, &reward, 0.5).unwrap();
        let state: State = std::array::from_fn(|_| random.normal());
        let outputs = network.forward_traced(&state).unwrap().outputs().to_vec();
        for (arm, output) in outputs.iter().enumerate() {
            let row = row(&state, space.coordinates(arm));
            let expected: f64 = row.iter().zip(&reward).map(|(x, c)| 2.0 * x * c).sum();
            assert!((output - expected).abs() < 1e-9);
        }
    }
}
