//! Mean, deviation and largest value of the last points, kept up to date point after point.
//!
//! **Invariant:** memory of a fixed number of points; sums are built anew whenever the ring is full, so that rounding
//! errors do not pile up.

/// Mean and deviation over the last `points` values; over all of them while there are fewer.
#[derive(Clone, Debug)]
pub(super) struct Rolling {
    ring: Vec<f64>,
    points: usize,
    next: usize,
    anchor: f64,
    sum: f64,
    squares: f64,
}

impl Rolling {
    /// Of the last `points` values.
    pub(super) fn new(points: usize) -> Self {
        Self { ring: Vec::new(), points, next: 0, anchor: 0.0, sum: 0.0, squares: 0.0 }
    }

    /// Takes one more value; gives mean and deviation with it.
    pub(super) fn push(&mut self, value: f64) -> (f64, f64) {
        if self.ring.is_empty() {
            self.anchor = value;
        }
        let distance = value - self.anchor;
        if self.ring.len() < self.points {
            self.ring.push(value);
        } else {
            let gone = self.ring[self.next] - self.anchor;
            self.ring[self.next] = value;
            self.sum -= gone;
            self.squares -= gone * gone;
        }
        self.sum += distance;
        self.squares += distance * distance;
        self.next = (self.next + 1) % self.points;
        if self.next == 0 {
            self.rebuild();
        }
        let count = self.ring.len() as f64;
        let mean = self.sum / count;
        (self.anchor + mean, (self.squares / count - mean * mean).max(0.0).sqrt())
    }

    /// Sums anew, around the present mean.
    fn rebuild(&mut self) {
        self.anchor += self.sum / self.ring.len() as f64;
        (self.sum, self.squares) = (0.0, 0.0);
        for value in &self.ring {
            let distance = value - self.anchor;
            self.sum += distance;
            self.squares += distance * distance;
        }
    }
}

/// The largest of the last `points` values.
#[derive(Clone, Debug)]
pub(super) struct Largest {
    /// Places and values that no later value has reached, oldest first.
    falling: std::collections::VecDeque<(u64, f64)>,
    points: u64,
    now: u64,
}

impl Largest {
    /// Of the last `points` values.
    pub(super) fn new(points: usize) -> Self {
        Self { falling: std::collections::VecDeque::new(), points: points as u64, now: 0 }
    }

    /// The largest of the last values, zero where there is none; then takes one more value.
    pub(super) fn then_push(&mut self, value: f64) -> f64 {
        while self.falling.front().is_some_and(|(at, _)| at + self.points < self.now) {
            self.falling.pop_front();
        }
        let largest = self.falling.front().map_or(0.0, |(_, value)| *value);
        while self.falling.back().is_some_and(|(_, last)| *last <= value) {
            self.falling.pop_back();
        }
        self.falling.push_back((self.now, value));
        self.now += 1;
        largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::noise;

    #[test]
    fn mean_and_deviation_are_those_of_the_last_points() {
        let values: Vec<f64> = (0..500).map(|i| 1e6 + noise(i)).collect();
        let mut rolling = Rolling::new(37);
        for (at, value) in values.iter().enumerate() {
            let (mean, deviation) = rolling.push(*value);
            let last = &values[at.saturating_sub(36)..=at];
            let expected = last.iter().sum::<f64>() / last.len() as f64;
            let square = last.iter().map(|v| (v - expected).powi(2)).sum::<f64>() / last.len() as f64;
            assert!((mean - expected).abs() < 1e-6 && (deviation - square.sqrt()).abs() < 1e-6, "at {at}");
        }
    }

    #[test]
    fn the_largest_is_that_of_the_points_before() {
        let values: Vec<f64> = (0..300).map(|i| noise(i).abs()).collect();
        let mut largest = Largest::new(20);
        for (at, value) in values.iter().enumerate() {
            let expected = values[at.saturating_sub(20)..at].iter().copied().fold(0.0, f64::max);
            assert_eq!(largest.then_push(*value), expected);
        }
    }
}
