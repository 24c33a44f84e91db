//! Ridge regression that forgets: several targets over one Gram matrix, fed row by row.
//!
//! The penalty of a column is a share of its own second moment, so that columns need no scaling (Hoerl and Kennard, 1970); rows
//! weigh by 2^(−age / half-life). The first column is the intercept and is not penalised.
//!
//! **Invariant:** memory is the square of the columns, whatever the number of rows; a column that never varied gets no weight.

use serde::{Deserialize, Serialize};

/// Penalty as a number of rows: 10 rows against a column.
const PENALTY_ROWS: f64 = 10.0;
/// Added to a pivot so that columns that repeat others cannot blow up the weights.
const PIVOT_MIN: f64 = 1e-9;

/// The sums of a regression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ridge {
    columns: usize,
    decay: f64,
    rows: f64,
    /// Lower triangle, row by row.
    gram: Vec<f64>,
    /// One vector for each target.
    moments: Vec<Vec<f64>>,
}

impl Ridge {
    /// A regression of `targets` targets on `columns` columns whose rows lose half of their weight in `half_life` rows.
    pub(super) fn new(columns: usize, targets: usize, half_life: f64) -> Self {
        let decay = 0.5_f64.powf(1.0 / half_life);
        let gram = vec![0.0; columns * (columns + 1) / 2];
        Self { columns, decay, rows: 0.0, gram, moments: vec![vec![0.0; columns]; targets] }
    }

    /// Weight of the rows so far.
    pub(super) fn rows(&self) -> f64 {
        self.rows
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &[f64], targets: &[f64]) {
        self.rows = self.rows * self.decay + 1.0;
        let mut at = 0;
        for (i, &x) in row.iter().enumerate() {
            for &y in &row[..=i] {
                self.gram[at] = self.gram[at] * self.decay + x * y;
                at += 1;
            }
        }
        for (moments, target) in self.moments.iter_mut().zip(targets) {
            for (moment, x) in moments.iter_mut().zip(row) {
                *moment = *moment * self.decay + target * x;
            }
        }
    }

    /// Weights of every target.
    pub(super) fn weights(&self) -> Vec<Vec<f64>> {
        let n = self.columns;
        let factor = self.factor();
        let solve = |moments: &Vec<f64>| {
            let mut weights = moments.clone();
            for i in 0..n {
                let dot: f64 = (0..i).map(|j| factor[place(i, j)] * weights[j]).sum();
                weights[i] = (weights[i] - dot) / factor[place(i, i)];
            }
            for i in (0..n).rev() {
                let dot: f64 = (i + 1..n).map(|j| factor[place(j, i)] * weights[j]).sum();
                weights[i] = (weights[i] - dot) / factor[place(i, i)];
            }
            weights
        };
        self.moments.iter().map(solve).collect()
    }

    /// Cholesky factor of the penalised Gram matrix.
    fn factor(&self) -> Vec<f64> {
        let mut factor = self.gram.clone();
        for i in 0..self.columns {
            let penalty = if i == 0 { 0.0 } else { PENALTY_ROWS / self.rows.max(1.0) };
            factor[place(i, i)] = factor[place(i, i)] * (1.0 + penalty) + PIVOT_MIN;
        }
        for i in 0..self.columns {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| factor[place(i, k)] * factor[place(j, k)]).sum();
                let rest = factor[place(i, j)] - dot;
                factor[place(i, j)] = if i == j { rest.max(PIVOT_MIN).sqrt() } else { rest / factor[place(j, j)] };
            }
        }
        factor
    }
}

fn place(i: usize, j: usize) -> usize {
    i * (i + 1) / 2 + j
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(half_life: f64, rows: impl Iterator<Item = [f64; 4]>) -> Vec<f64> {
        let mut ridge = Ridge::new(3, 1, half_life);
        rows.for_each(|[one, a, b, y]| ridge.add(&[one, a, b], &[y]));
        ridge.weights().remove(0)
    }

    fn wave(step: i32) -> f64 {
        f64::from(step * 7 % 11) - 5.0
    }

    #[test]
    fn weights_are_found_and_a_column_that_repeats_another_shares_its_weight() {
        let alone = taught(1e9, (0..2_000).map(|step| [1.0, wave(step), 0.0, 3.0 + 2.0 * wave(step)]));
        assert!((alone[0] - 3.0).abs() < 0.01 && (alone[1] - 2.0).abs() < 0.02 && alone[2] == 0.0, "{alone:?}");
        let twice = taught(1e9, (0..2_000).map(|step| [1.0, wave(step), wave(step), 3.0 + 2.0 * wave(step)]));
        assert!((twice[1] - 1.0).abs() < 0.02 && (twice[2] - 1.0).abs() < 0.02, "{twice:?}");
    }

    #[test]
    fn old_rows_fade() {
        let rows = (0..2_000).map(|step| [1.0, 0.0, 0.0, if step < 1_000 { 5.0 } else { 1.0 }]);
        let weights = taught(100.0, rows);
        assert!((weights[0] - 1.0).abs() < 0.01, "{weights:?}");
    }
}
