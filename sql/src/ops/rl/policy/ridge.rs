//! Least squares with a ridge, by normal equations and Cholesky.
//!
//! **Invariant:** sums run in the order in which rows come; a matrix that is not positive becomes so by its ridge.

/// Normal equations of several targets on the same features.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    size: usize,
    matrix: Vec<f64>,
    sides: Vec<Vec<f64>>,
}

impl Normal {
    pub(super) fn new(size: usize, targets: usize) -> Self {
        Self { size, matrix: vec![0.0; size * size], sides: vec![vec![0.0; size]; targets] }
    }

    /// Adds a row of features and its targets.
    pub(super) fn add(&mut self, row: &[f64], targets: &[f64]) {
        for (line, x) in self.matrix.chunks_exact_mut(self.size).zip(row) {
            for (cell, y) in line.iter_mut().zip(row) {
                *cell += x * y;
            }
        }
        for (side, target) in self.sides.iter_mut().zip(targets) {
            for (cell, x) in side.iter_mut().zip(row) {
                *cell += x * target;
            }
        }
    }

    /// Adds all that another has seen.
    pub(super) fn merge(&mut self, other: &Self) {
        let pairs = self.matrix.iter_mut().zip(&other.matrix);
        let sides = self.sides.iter_mut().flatten().zip(other.sides.iter().flatten());
        pairs.chain(sides).for_each(|(own, more)| *own += more);
    }

    /// The Cholesky factor of the matrix with this ridge.
    pub(super) fn factor(&self, ridge: f64) -> Factor {
        let size = self.size;
        let mut lower = self.matrix.clone();
        for column in 0..size {
            let known: f64 = lower[column * size..][..column].iter().map(|x| x * x).sum();
            let pivot = (lower[column * size + column] + ridge - known).max(ridge.max(1e-12)).sqrt();
            lower[column * size + column] = pivot;
            let (above, below) = lower.split_at_mut((column + 1) * size);
            let line = &above[column * size..][..column];
            for other in below.chunks_exact_mut(size) {
                let dot: f64 = other[..column].iter().zip(line).map(|(x, y)| x * y).sum();
                other[column] = (other[column] - dot) / pivot;
            }
        }
        Factor { size, lower }
    }

    /// The coefficients of every target.
    pub(super) fn solve(&self, ridge: f64) -> Vec<Vec<f64>> {
        let factor = self.factor(ridge);
        self.sides.iter().map(|side| factor.backward(&factor.forward(side))).collect()
    }
}

/// A lower triangle L with L·Lᵀ = the matrix.
pub(super) struct Factor {
    size: usize,
    lower: Vec<f64>,
}

impl Factor {
    /// L⁻¹·side. The sum of its squares is sideᵀ·matrix⁻¹·side.
    pub(super) fn forward(&self, side: &[f64]) -> Vec<f64> {
        let mut solved: Vec<f64> = Vec::with_capacity(self.size);
        for (line, value) in self.lower.chunks_exact(self.size).zip(side) {
            let dot: f64 = line.iter().zip(&solved).map(|(x, y)| x * y).sum();
            solved.push((value - dot) / line[solved.len()]);
        }
        solved
    }

    /// L⁻ᵀ·side.
    pub(super) fn backward(&self, side: &[f64]) -> Vec<f64> {
        let mut solved = side.to_vec();
        for row in (0..self.size).rev() {
            let line = &self.lower[row * self.size..][..self.size];
            solved[row] /= line[row];
            let own = solved[row];
            for (value, x) in solved[..row].iter_mut().zip(line) {
                *value -= x * own;
            }
        }
        solved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use juno_kernels::SplitMix;

    #[test]
    fn coefficients_that_made_the_targets_are_found() {
        let mut random = SplitMix::new(4, 0);
        let (mut one, mut two) = (Normal::new(3, 2), Normal::new(3, 2));
        for number in 0..200 {
            let row = [1.0, random.normal(), random.normal()];
            let targets = [2.0 - row[1] + 0.5 * row[2], 7.0 * row[2]];
            if number % 2 == 0 { one.add(&row, &targets) } else { two.add(&row, &targets) }
        }
        one.merge(&two);
        let solved = one.solve(1e-9);
        let expected = [[2.0, -1.0, 0.5], [0.0, 0.0, 7.0]];
        for (own, expected) in solved.iter().flatten().zip(expected.iter().flatten()) {
            assert!((own - expected).abs() < 1e-8, "{solved:?}");
        }
    }

    #[test]
    fn features_that_repeat_each_other_are_held_by_the_ridge() {
        let mut normal = Normal::new(2, 1);
        (0..10).for_each(|i| normal.add(&[f64::from(i), f64::from(i)], &[f64::from(i)]));
        let solved = normal.solve(1e-3);
        assert!(solved[0].iter().all(|x| (x - 0.5).abs() < 1e-3), "{solved:?}");
        let none = Normal::new(2, 1).solve(1.0);
        assert_eq!(none, [[0.0, 0.0]]);
    }
}
