//! What a policy sees before it decides: ten numbers about the load, the forecast and the error budget.
//!
//! **Invariant:** names and order are one with [`schema_hash`]; a number that is not finite counts as its mean.

use super::refusal::{Refusal, Result};

/// How many numbers a state has.
pub const FEATURES: usize = 10;
/// What they are. Ratios are natural logarithms.
pub const FEATURE_NAMES: [&str; FEATURES] = [
    "load_1m_over_1h",
    "load_1h_over_yesterday",
    "volatility_1h",
    "forecast_mean",
    "forecast_spread",
    "day_sine",
    "day_cosine",
    "violation_over_budget",
    "forecast_surprise",
    "replicas_needed",
];
/// Scaled numbers are held within so many deviations.
const DEVIATIONS_MAX: f64 = 3.0;

/// A state, in the order of [`FEATURE_NAMES`].
pub type State = [f64; FEATURES];

/// Tells one list of features from another: CRC-32 of the names.
#[must_use]
pub fn schema_hash() -> u32 {
    crc32fast::hash(FEATURE_NAMES.join(",").as_bytes())
}

/// Mean and deviation of every feature over the states that a policy was trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    pub(super) means: State,
    pub(super) deviations: State,
}

impl Scaler {
    /// From states.
    ///
    /// # Errors
    /// [`Refusal::InsufficientExperience`] when there are none.
    pub fn fit(states: &[State]) -> Result<Self> {
        if states.is_empty() {
            return Err(Refusal::InsufficientExperience(
                "there is no state to learn from: widen the window".to_owned(),
            ));
        }
        let mut scaler = Self { means: [0.0; FEATURES], deviations: [1.0; FEATURES] };
        for feature in 0..FEATURES {
            let values: Vec<f64> = states.iter().map(|state| state[feature]).filter(|x| x.is_finite()).collect();
            let count = values.len().max(1) as f64;
            let mean = values.iter().sum::<f64>() / count;
            let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            scaler.means[feature] = mean;
            scaler.deviations[feature] = deviation.max(1e-6);
        }
        Ok(scaler)
    }

    /// A state in deviations from the mean.
    #[must_use]
    pub fn scaled(&self, state: &State) -> State {
        std::array::from_fn(|feature| {
            let scaled = (state[feature] - self.means[feature]) / self.deviations[feature];
            if scaled.is_finite() { scaled.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX) } else { 0.0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_numbers_count_as_the_mean_and_far_ones_are_held() {
        let states: Vec<State> = (0..100).map(|i| [f64::from(i); FEATURES]).collect();
        let scaler = Scaler::fit(&states).unwrap();
        let mut state = [49.5; FEATURES];
        (state[1], state[2], state[3]) = (f64::NAN, 1e9, f64::NEG_INFINITY);
        let scaled = scaler.scaled(&state);
        assert_eq!((scaled[0], scaled[1], scaled[2], scaled[3]), (0.0, 0.0, 3.0, 0.0));
        assert!(matches!(Scaler::fit(&[]), Err(Refusal::InsufficientExperience(_))));
    }

    #[test]
    fn the_hash_names_this_list_of_features() {
        assert_eq!(schema_hash(), crc32fast::hash(FEATURE_NAMES.join(",").as_bytes()));
        assert_ne!(schema_hash(), crc32fast::hash(b""));
    }
}
