//! How far the newest window of a series lies from the most similar window of its past.
//!
//! The past is pooled: `pool` points become one, with two channels, their mean and their extreme (the one of minimum and
//! maximum that lies farther from the running mean). Distance is Euclidean over both channels. A search ends as soon as a
//! window is near enough not to matter, which is why a normal point costs a handful of comparisons.
//!
//! **Invariant:** remembers a fixed number of pooled points; compares with windows that end before the newest begins.

/// How many pooled points are remembered.
pub(super) const MEMORY_POINTS: usize = 1_024;

/// The pooled past of one series.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pool: usize,
    filled: usize,
    sum: f64,
    low: f64,
    high: f64,
    running: f64,
    /// Mean and extreme of each pooled point, the newest last; up to twice what is remembered.
    points: Vec<[f64; 2]>,
}

/// Where the last search ended, counted back from the newest point: its successor is tried first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hint(usize);

impl Past {
    /// A past in which `pool` points become one.
    pub(super) fn new(pool: usize) -> Self {
        Self {
            pool,
            filled: 0,
            sum: 0.0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            running: 0.0,
            points: Vec::new(),
        }
    }

    /// Takes one more value; says whether it completed a pooled point.
    pub(super) fn push(&mut self, value: f64) -> bool {
        self.filled += 1;
        self.sum += value;
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        if self.filled < self.pool {
            return false;
        }
        let mean = self.sum / self.pool as f64;
        self.running = if self.points.is_empty() { mean } else { 0.5 * (self.running + mean) };
        let is_low = (self.high - self.running).abs() < (self.low - self.running).abs();
        if self.points.len() == 2 * MEMORY_POINTS {
            self.points.drain(..MEMORY_POINTS);
        }
        self.points.push([mean, if is_low { self.low } else { self.high }]);
        (self.filled, self.sum) = (0, 0.0);
        (self.low, self.high) = (f64::INFINITY, f64::NEG_INFINITY);
        true
    }

    /// The distance of the newest window of `length` pooled points from its nearest neighbour; zero where that is not
    /// above `near`, or where there is nothing to compare with.
    pub(super) fn distance(&self, length: usize, near: f64, hint: &mut Hint) -> f64 {
        let end = self.points.len();
        let oldest = end.saturating_sub(MEMORY_POINTS) + length;
        if oldest + length > end {
            return 0.0;
        }
        let newest = &self.points[end - length..];
        let (mut best, near) = (f64::INFINITY, near * near);
        let guess = end - hint.0.clamp(length, end - oldest);
        let mut try_window = |last: usize, best: &mut f64| {
            let distance = apart(newest, &self.points[last - length..last], *best);
            if distance < *best {
                *best = distance;
                hint.0 = end - last;
            }
            *best <= near
        };
        if try_window(guess, &mut best) {
            return 0.0;
        }
        for last in (oldest..=end - length).rev() {
            if try_window(last, &mut best) {
                return 0.0;
            }
        }
        best.sqrt()
    }
}

/// The squared distance of two windows, or something not below `best` once it is as large.
fn apart(a: &[[f64; 2]], b: &[[f64; 2]], best: f64) -> f64 {
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b).rev() {
        let (mean, extreme) = (a[0] - b[0], a[1] - b[1]);
        sum += mean * mean + extreme * extreme;
        if sum >= best {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::noise;

    #[test]
    fn the_distance_is_that_of_the_nearest_window_before() {
        let mut past = Past::new(1);
        let values: Vec<f64> = (0..200).map(noise).collect();
        values.iter().for_each(|value| {
            past.push(*value);
        });
        let newest = &values[192..];
        let apart = |at: usize| (0..8).map(|k| 2.0 * (newest[k] - values[at + k]).powi(2)).sum::<f64>();
        let expected = (0..=184).map(apart).fold(f64::INFINITY, f64::min).sqrt();
        assert!((past.distance(8, 0.0, &mut Hint::default()) - expected).abs() < 1e-12);
        assert_eq!(past.distance(8, expected * 1.01, &mut Hint::default()), 0.0);
    }

    #[test]
    fn a_pooled_point_keeps_mean_and_extreme() {
        let mut past = Past::new(4);
        assert_eq!([1.0, 1.0, 1.0, 1.0, 2.0, 9.0, 2.0, 3.0].map(|value| past.push(value))[7], true);
        assert_eq!(past.points, [[1.0, 1.0], [4.0, 9.0]]);
    }
}
