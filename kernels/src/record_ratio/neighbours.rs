//! How far the newest window of a series lies from the most similar window of its past.
//!
//! The past is pooled: `pool` points become one, with two channels, their mean and their extreme (the one of minimum and
//! maximum that lies farther from the running mean). Distance is Euclidean over both channels. A search ends as soon as a
//! window is near enough not to matter, which is why a normal point costs a handful of comparisons.
//!
//! **Invariant:** remembers a fixed number of pooled points; compares with windows that end before the newest begins.

/// How many pooled points are remembered.
pub(super) const MEMORY_POINTS: usize = 1_024;
/// So many windows are compared at a time.
const BLOCK: usize = 64;

/// The pooled past of one series.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pool: usize,
    filled: usize,
    sum: f64,
    low: f64,
    high: f64,
    running: f64,
    /// The mean and the extreme of each pooled point, the newest last; up to twice what is remembered.
    means: Vec<f64>,
    extremes: Vec<f64>,
}

/// Where the last search ended, counted back from the newest point.
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
            means: Vec::new(),
            extremes: Vec::new(),
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
        self.running = if self.means.is_empty() { mean } else { 0.5 * (self.running + mean) };
        let is_low = (self.high - self.running).abs() < (self.low - self.running).abs();
        if self.means.len() == 2 * MEMORY_POINTS {
            self.means.drain(..MEMORY_POINTS);
            self.extremes.drain(..MEMORY_POINTS);
        }
        self.means.push(mean);
        self.extremes.push(if is_low { self.low } else { self.high });
        (self.filled, self.sum) = (0, 0.0);
        (self.low, self.high) = (f64::INFINITY, f64::NEG_INFINITY);
        true
    }

    /// The distance of the newest window of `length` pooled points from its nearest neighbour; zero where that is not
    /// above `near`, or where there is nothing to compare with.
    pub(super) fn distance(&self, length: usize, near: f64, hint: &mut Hint) -> f64 {
        let end = self.means.len();
        let oldest = end.saturating_sub(MEMORY_POINTS);
        if oldest + 2 * length > end {
            return 0.0;
        }
        let near = near * near;
        // Windows start at `oldest` up to before `starts`; the one after the last nearest is tried first.
        let starts = end - 2 * length + 1;
        let guess = (end - hint.0.min(end)).clamp(oldest, starts - 1);
        let mut one = [0.0];
        self.apart(guess, length, &mut one);
        let mut best = (one[0], guess);
        let mut high = starts;
        let mut block = [0.0; BLOCK];
        while best.0 > near && high > oldest {
            let low = high.saturating_sub(BLOCK).max(oldest);
            let block = &mut block[..high - low];
            self.apart(low, length, block);
            for (start, distance) in (low..high).zip(&*block).rev() {
                if *distance < best.0 {
                    best = (*distance, start);
                }
            }
            high = low;
        }
        hint.0 = end - best.1;
        if best.0 <= near { 0.0 } else { best.0.sqrt() }
    }

    /// The squared distances of the newest window from those that start at `start` and after it.
    fn apart(&self, start: usize, length: usize, distances: &mut [f64]) {
        let newest = self.means.len() - length;
        distances.fill(0.0);
        for k in 0..length {
            add_squares(distances, &self.means[start + k..], self.means[newest + k]);
        }
        if self.pool == 1 {
            // Both channels are the values themselves.
            distances.iter_mut().for_each(|distance| *distance *= 2.0);
            return;
        }
        for k in 0..length {
            add_squares(distances, &self.extremes[start + k..], self.extremes[newest + k]);
        }
    }
}

/// Adds the squared distance of each value from `from`.
fn add_squares(sums: &mut [f64], values: &[f64], from: f64) {
    for (sum, value) in sums.iter_mut().zip(values) {
        let distance = value - from;
        *sum += distance * distance;
    }
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
        assert!([1.0, 1.0, 1.0, 1.0, 2.0, 9.0, 2.0, 3.0].map(|value| past.push(value))[7]);
        assert_eq!((past.means, past.extremes), (vec![1.0, 4.0], vec![1.0, 9.0]));
    }
}
