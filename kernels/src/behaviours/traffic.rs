//! Made-up ordinary traffic for the tests of behaviours: seeded numbers of the usual distributions.
//!
//! **Invariant:** tests only; equal seeds give equal traffic.

use crate::splitmix::SplitMix;

/// A source of random numbers.
pub(super) struct Traffic(SplitMix);

impl Traffic {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed, 77))
    }

    pub(super) fn unit(&mut self) -> f64 {
        self.0.unit()
    }

    pub(super) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.0.below(end as usize)).expect("below a u32")
    }

    /// Waiting time of this mean.
    pub(super) fn wait(&mut self, mean: f64) -> f64 {
        -(1.0 - self.0.unit()).ln() * mean
    }

    pub(super) fn poisson(&mut self, mean: f64) -> u32 {
        let (mut count, mut passed) = (0, self.wait(1.0));
        while passed < mean {
            passed += self.wait(1.0);
            count += 1;
        }
        count
    }

    /// A normal number.
    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.0.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.0.unit()).cos()
    }

    /// A number below `end`, small ones far more often (Zipf).
    pub(super) fn popular(&mut self, end: u32) -> u32 {
        let x = (f64::from(end).ln() * self.0.unit()).exp();
        (x as u32 - 1).min(end - 1)
    }
}
