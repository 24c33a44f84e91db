//! Ridge normal equations of all origins side by side: Cholesky, back substitution, roll-out.
//!
//! Origins are the lanes of every array (`[f64; LANES]`), so that the compiler turns each step into vector
//! instructions.
//!
//! **Invariant:** knows no series: a system is filled by its owner and solved here.

use super::plan::ORIGINS_MAX;
use crate::device::{Loop, vectorised};

/// One lane for the forecast, one for each origin, filled up to whole vectors.
pub(crate) const LANES: usize = (ORIGINS_MAX + 1).next_multiple_of(4);
/// Forecasts stay within this many standard deviations while they are rolled out.
const REACH: f64 = 8.0;
/// The smallest pivot; keeps a series of repeated values solvable.
const PIVOT_MIN: f64 = 1e-9;

/// One number for the forecast and one for each origin.
pub(crate) type Lanes = [f64; LANES];

/// A system and its solution. Unknowns are the lags' weights, then those of other columns; the right-hand side is one
/// more row.
#[derive(Default)]
pub(crate) struct Normal {
    lags: usize,
    unknowns: usize,
    /// The lower triangle, row by row, the right-hand side last.
    pub(crate) system: Vec<Lanes>,
    /// What a ridge of 1 adds to a lag's diagonal entry: rows times the variance.
    pub(crate) penalty: Lanes,
    /// What a ridge of 1 adds to another column's: the (weighted) number of rows.
    pub(crate) rows: Lanes,
    factor: Vec<Lanes>,
    /// The solution.
    pub(crate) weights: Vec<Lanes>,
}

impl Normal {
    /// An empty system of so many lags and other columns.
    pub(crate) fn reset(&mut self, lags: usize, others: usize) {
        self.lags = lags;
        self.unknowns = lags + others;
        self.system.clear();
        self.system.resize(triangle(self.unknowns, self.unknowns), [0.0; LANES]);
    }

    /// Solves every lane with these penalties per row: Cholesky with the right-hand side as one more row, then back.
    pub(crate) fn solve(&mut self, ridge: f64, ridge_others: f64) {
        vectorised(Solve { normal: self, ridge, ridge_others });
    }

    #[inline(always)]
    fn solve_here(&mut self, ridge: f64, ridge_others: f64) {
        let unknowns = self.unknowns;
        self.factor.clone_from(&self.system);
        for column in 0..unknowns {
            let (ridge, scale) = if column < self.lags { (ridge, &self.penalty) } else { (ridge_others, &self.rows) };
            let diagonal = &mut self.factor[triangle(column, column)];
            diagonal.iter_mut().zip(scale).for_each(|(entry, scale)| *entry += ridge * scale);
        }
        for row in 0..=unknowns {
            factor_row(&mut self.factor, row, unknowns);
        }
        self.weights.clear();
        self.weights.extend_from_slice(&self.factor[triangle(unknowns, 0)..]);
        for row in (0..unknowns).rev() {
            let inverse = self.factor[triangle(row, row)];
            let solved: Lanes = std::array::from_fn(|w| self.weights[row][w] * inverse[w]);
            self.weights[row] = solved;
            for (weight, entry) in self.weights.iter_mut().zip(&self.factor[triangle(row, 0)..][..row]) {
                for w in 0..LANES {
                    weight[w] -= entry[w] * solved[w];
                }
            }
        }
    }

    /// Rolls every lane `horizon` steps on from the history in `path`, at least the longest lag long: each forecast
    /// feeds the next. `other` is what the other columns add at a step.
    pub(crate) fn roll(&self, lags: &[usize], horizon: usize, path: &mut Vec<Lanes>, other: impl Fn(usize) -> Lanes) {
        let slopes = &self.weights[..lags.len()];
        for step in 0..horizon {
            let mut next = [0.0; LANES];
            for (slope, lag) in slopes.iter().zip(lags) {
                let past = &path[path.len() - lag];
                for w in 0..LANES {
                    next[w] += slope[w] * past[w];
                }
            }
            let other = other(step);
            path.push(std::array::from_fn(|w| (next[w] + other[w]).clamp(-REACH, REACH)));
        }
    }
}

/// A system about to be solved.
struct Solve<'a> {
    normal: &'a mut Normal,
    ridge: f64,
    ridge_others: f64,
}

impl Loop for Solve<'_> {
    #[inline(always)]
    fn run(self) {
        self.normal.solve_here(self.ridge, self.ridge_others);
    }
}

/// Where the entry (row, column ≤ row) of a symmetric matrix is kept.
pub(crate) fn triangle(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// One row of the Cholesky factor, of all lanes; the diagonal keeps the inverse of its entries. The row after the last
/// unknown is the right-hand side.
#[inline(always)]
fn factor_row(factor: &mut [Lanes], row: usize, unknowns: usize) {
    let (above, rest) = factor.split_at_mut(triangle(row, 0));
    for column in 0..row.min(unknowns) {
        let other = &above[triangle(column, 0)..][..column + 1];
        let mut sum = rest[column];
        for (a, b) in rest[..column].iter().zip(other) {
            for w in 0..LANES {
                sum[w] -= a[w] * b[w];
            }
        }
        rest[column] = std::array::from_fn(|w| sum[w] * other[column][w]);
    }
    if row < unknowns {
        let (own, diagonal) = rest.split_at_mut(row);
        for entry in own {
            for w in 0..LANES {
                diagonal[0][w] -= entry[w] * entry[w];
            }
        }
        diagonal[0] = diagonal[0].map(|pivot| 1.0 / pivot.max(PIVOT_MIN).sqrt());
    }
}
