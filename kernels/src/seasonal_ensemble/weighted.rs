//! Normal equations whose rows weigh differently in every lane, and the least absolute deviations built on them.
//!
//! The weighted Gram matrix is summed in tiles of rows that stay in the nearest cache. Least absolute deviations are
//! found by iteratively re-weighted least squares: from the ridge solution, each row gets the weight
//! 1 / max(|residual|, a quarter of the median residual).
//!
//! **Invariant:** a row that a lane must not see has the weight 0 there.
//!
//! Paper: Schlossmacher 1973 (IRLS for least absolute deviations).

use crate::seasonal_ar::normal::{LANES, Lanes, Normal, triangle};
use crate::seasonal_ar::ridge::{BLOCK, Ridge};

/// Rows of one tile.
const TILE: usize = 96;
/// Columns that are summed in one pass over a tile.
const COLUMNS: usize = 2;
/// Residuals below this share of the median residual weigh no more than it.
const RESIDUAL_MIN: f64 = 0.25;

/// Buffers for weighted fits.
#[derive(Default)]
pub(super) struct Weighted {
    weights: Vec<Lanes>,
    residuals: Vec<Lanes>,
    magnitudes: Vec<f64>,
    tile: Vec<Lanes>,
}

impl Weighted {
    /// Refits `ridge`, which holds the plain solution of the same history and decay, by least absolute deviations.
    pub(super) fn absolute(
        &mut self,
        ridge: &mut Ridge,
        z: &[f64],
        ends: &[usize; LANES],
        decay: f64,
        penalty: f64,
        rounds: usize,
    ) {
        let n = z.len() - BLOCK;
        let first = ridge.longest();
        let per_row: Lanes = std::array::from_fn(|w| ridge.normal.penalty[w] / ridge.normal.rows[w]);
        for _ in 0..rounds {
            self.weigh(ridge, z, ends, decay);
            let lags = ridge.lags().to_vec();
            ridge.normal.reset(lags.len(), 1);
            gram(&mut ridge.normal, &lags, z, first, &self.weights, &mut self.tile);
            ridge.normal.rows = rows(&self.weights);
            ridge.normal.penalty = std::array::from_fn(|w| per_row[w] * ridge.normal.rows[w]);
            ridge.solve(penalty);
        }
        debug_assert_eq!(self.weights.len(), n - first);
    }

    /// The rows' weights from the residuals of the present solution.
    fn weigh(&mut self, ridge: &Ridge, z: &[f64], ends: &[usize; LANES], decay: f64) {
        let n = z.len() - BLOCK;
        let first = ridge.longest();
        let (intercept, slopes) = ridge.normal.weights.split_last().expect("there is always an intercept");
        self.residuals.clear();
        self.residuals.extend(z[first..n].iter().map(|v| intercept.map(|b| v - b)));
        for (slope, lag) in slopes.iter().zip(ridge.lags()) {
            for (residual, past) in self.residuals.iter_mut().zip(&z[first - lag..]) {
                for w in 0..LANES {
                    residual[w] -= slope[w] * past;
                }
            }
        }
        let floors: Lanes = std::array::from_fn(|w| self.median(w, ends[w] - first) + 1e-9);
        let faded = |t: usize| if decay == 0.0 { 1.0 } else { (-decay * (n - t) as f64).exp() };
        self.weights.clear();
        self.weights.extend(self.residuals.iter().enumerate().map(|(row, residual)| {
            let t = first + row;
            let faded = faded(t);
            std::array::from_fn(|w| {
                let weight = faded * floors[w] / residual[w].abs().max(RESIDUAL_MIN * floors[w]);
                if t < ends[w] { weight } else { 0.0 }
            })
        }));
    }

    /// The median magnitude of a lane's first `rows` residuals.
    fn median(&mut self, lane: usize, rows: usize) -> f64 {
        self.magnitudes.clear();
        self.magnitudes.extend(self.residuals[..rows].iter().map(|residual| residual[lane].abs()));
        *self.magnitudes.select_nth_unstable_by(rows / 2, f64::total_cmp).1
    }
}

/// The sums of all lanes.
fn sums(rows: &[Lanes]) -> Lanes {
    rows.iter().fold([0.0; LANES], |sum, row| std::array::from_fn(|w| sum[w] + row[w]))
}

/// The sums of the weights of all lanes, tile by tile as [`gram`] sums them.
pub(super) fn rows(weights: &[Lanes]) -> Lanes {
    let mut total = [0.0; LANES];
    weights.chunks(TILE).for_each(|tile| add(&mut total, &sums(tile)));
    total
}

/// A value of a series that all lanes share, or that each has for itself.
pub(super) trait Value: Copy {
    /// The value in every lane.
    fn lanes(self) -> Lanes;
}

impl Value for f64 {
    #[inline]
    fn lanes(self) -> Lanes {
        [self; LANES]
    }
}

impl Value for Lanes {
    #[inline]
    fn lanes(self) -> Lanes {
        self
    }
}

/// Adds the weighted Gram matrix of the lagged series, an intercept and the target to the system. Row 0 of `weights`
/// is the row of time `first`, which is at least the longest lag.
pub(super) fn gram<V: Value>(
    normal: &mut Normal,
    lags: &[usize],
    series: &[V],
    first: usize,
    weights: &[Lanes],
    tile: &mut Vec<Lanes>,
) {
    let k = lags.len();
    for (index, weights) in weights.chunks(TILE).enumerate() {
        let start = first + index * TILE;
        let column = |row: usize| &series[start - if row < k { lags[row] } else { 0 }..][..weights.len()];
        for row in 0..=k + 1 {
            tile.clear();
            match row {
                row if row == k => tile.extend_from_slice(weights),
                row => tile.extend(weights.iter().zip(column(row)).map(|(weight, v)| times(weight, v.lanes()))),
            }
            let columns = (row + 1).min(k);
            let mut left = 0;
            while left < columns {
                // The last columns may be summed twice; they are kept once.
                let places: [usize; COLUMNS] = std::array::from_fn(|i| (left + i).min(columns - 1));
                let sums = dot(tile, places.map(column));
                for (i, sum) in sums.iter().enumerate().take(columns - left) {
                    add(&mut normal.system[triangle(row, left + i)], sum);
                }
                left += COLUMNS;
            }
            if row >= k {
                add(&mut normal.system[triangle(row, k)], &sums(tile));
            }
        }
    }
}

fn times(a: &Lanes, b: Lanes) -> Lanes {
    std::array::from_fn(|w| a[w] * b[w])
}

fn add(to: &mut Lanes, sum: &Lanes) {
    to.iter_mut().zip(sum).for_each(|(to, v)| *to += *v);
}

/// The sums of the tile's rows times columns: a row is loaded once for all.
fn dot<V: Value>(tile: &[Lanes], columns: [&[V]; COLUMNS]) -> [Lanes; COLUMNS] {
    let mut sums = [[0.0; LANES]; COLUMNS];
    let [a, b] = columns;
    for ((row, a), b) in tile.iter().zip(a).zip(b) {
        let (a, b) = (a.lanes(), b.lanes());
        for w in 0..LANES {
            sums[0][w] += row[w] * a[w];
            sums[1][w] += row[w] * b[w];
        }
    }
    sums
}
