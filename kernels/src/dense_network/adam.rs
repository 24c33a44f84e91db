//! Adam's step: every parameter moves by its own running mean and spread of gradients.
//!
//! **Invariant:** a gradient that is not finite changes nothing.

use super::Network;

const MEAN_DECAY: f64 = 0.9;
const SQUARE_DECAY: f64 = 0.999;
const FLOOR: f64 = 1e-8;

/// The running means that belong to one network.
#[derive(Clone, Debug)]
pub struct Adam {
    means: Vec<f64>,
    squares: Vec<f64>,
    steps: i32,
}

impl Adam {
    /// Before the first step of a network.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let zeros = vec![0.0; network.parameters().len()];
        Self { means: zeros.clone(), squares: zeros, steps: 0 }
    }

    /// Moves the network against a gradient of a network of this shape; whether it did: a gradient of another length or with a
    /// number that is not finite is left out.
    pub fn step(&mut self, network: &mut Network, gradient: &[f64], rate: f64) -> bool {
        if gradient.len() != self.means.len() || !gradient.iter().all(|g| g.is_finite()) {
            return false;
        }
        self.steps = self.steps.saturating_add(1);
        let mean_share = 1.0 - MEAN_DECAY.powi(self.steps);
        let square_share = 1.0 - SQUARE_DECAY.powi(self.steps);
        let state = self.means.iter_mut().zip(&mut self.squares);
        for ((parameter, g), (mean, square)) in network.parameters_mut().iter_mut().zip(gradient).zip(state) {
            *mean = MEAN_DECAY * *mean + (1.0 - MEAN_DECAY) * g;
            *square = SQUARE_DECAY * *square + (1.0 - SQUARE_DECAY) * g * g;
            *parameter -= rate * (*mean / mean_share) / ((*square / square_share).sqrt() + FLOOR);
        }
        true
    }
}
