//! Times as they are measured, and what is said of many of them.
//!
//! **Invariant:** the only place that reads the clock.

use std::time::{Duration, Instant};

/// The time now.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since a moment.
pub fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Waits, which is the pause between two requests of a client.
#[expect(clippy::disallowed_methods, reason = "a client that asks at a pace")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Times of many requests.
#[derive(Debug, Default, Clone)]
pub struct Times {
    ms: Vec<f64>,
}

impl Times {
    /// Adds one.
    pub fn add(&mut self, ms: f64) {
        self.ms.push(ms);
    }

    /// Adds those of another client.
    pub fn extend(&mut self, other: &Times) {
        self.ms.extend(&other.ms);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ms.len()
    }

    /// The time within which this share of all requests was answered; NaN where there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.ms.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let mut times = Times::default();
        assert!(times.quantile(0.5).is_nan());
        (0..=100).rev().for_each(|ms| times.add(f64::from(ms)));
        assert_eq!((times.quantile(0.5), times.quantile(0.99), times.quantile(1.0)), (50.0, 99.0, 100.0));
    }
}
