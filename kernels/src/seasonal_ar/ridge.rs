//! The reference twin's algebra: normal equations of all origins in one pass, Cholesky, roll-out.
//!
//! Origins are the lanes of every array (`[f64; LANES]`), so that the compiler turns each step into vector
//! instructions. The Gram entry of lags a ≤ b is a window of the products z(u)·z(u + b − a): running sums of those
//! products, one for each distinct difference of lags, give every entry of every origin as the difference of two sums.
//!
//! **Invariant:** knows no transform and no season; sums run in ascending time.

use super::plan::{ORIGINS_MAX, RIDGE_INTERCEPT};

/// One lane for the forecast, one for each origin, filled up to whole vectors.
pub(super) const LANES: usize = (ORIGINS_MAX + 1).next_multiple_of(4);
/// How many differences of lags are summed in one pass; `z` has as many zeros behind its values.
pub(super) const BLOCK: usize = 8;
/// Forecasts stay within this many standard deviations while they are rolled out.
const REACH: f64 = 8.0;
/// The smallest pivot; keeps a series of repeated values solvable.
const PIVOT_MIN: f64 = 1e-9;

/// One number for the forecast and one for each origin.
pub(super) type Lanes = [f64; LANES];

/// The normal equations of one series and their solutions. Unknowns are the lags' weights, then the intercept.
#[derive(Default)]
pub(super) struct Ridge {
    lags: Vec<usize>,
    blocks: Vec<Block>,
    sums: Vec<[f64; BLOCK]>,
    system: Vec<Lanes>,
    penalty: Lanes,
    rows: Lanes,
    factor: Vec<Lanes>,
    weights: Vec<Lanes>,
}

/// The Gram entries whose lags differ by `first` up to `first + BLOCK − 1`.
struct Block {
    first: usize,
    entries: Vec<Entry>,
}

/// One Gram entry: its place in the system, its difference past the block's first, and the longer of its two lags.
struct Entry {
    place: usize,
    offset: usize,
    long: usize,
}

impl Ridge {
    /// Groups the Gram entries for these ascending lags; free when they are the lags of the series before.
    pub(super) fn set_lags(&mut self, lags: &[usize]) {
        if self.lags == lags {
            return;
        }
        self.lags = lags.to_vec();
        self.blocks.clear();
        for (difference, place, long) in entries(lags) {
            let entry = |first: usize| Entry { place, offset: difference - first, long };
            match self.blocks.last_mut() {
                Some(block) if difference < block.first + BLOCK => block.entries.push(entry(block.first)),
                _ => self.blocks.push(Block { first: difference, entries: vec![entry(difference)] }),
            }
        }
    }

    /// Sets up the normal equations of every lane: lane `w` fits the rows before `ends[w]`.
    pub(super) fn set_history(&mut self, z: &[f64], ends: &[usize; LANES]) {
        let n = z.len() - BLOCK;
        let (k, p) = (self.lags.len(), self.longest());
        self.system.resize(triangle(k + 1, k + 1), [0.0; LANES]);
        self.sums.resize(n + 1, [0.0; BLOCK]);
        let mut squares = [0.0; LANES];
        for block in &self.blocks {
            running_products(z, block.first, &mut self.sums);
            for Entry { place, offset, long } in &block.entries {
                let before = self.sums[p - long][*offset];
                for (entry, end) in self.system[*place].iter_mut().zip(ends) {
                    *entry = self.sums[end - long][*offset] - before;
                }
            }
            if block.first == 0 {
                squares = ends.map(|end| self.sums[end][0]);
            }
        }
        running_sums(&z[..n], &mut self.sums);
        let window = |lag: usize| ends.map(|end| self.sums[end - lag][0] - self.sums[p - lag][0]);
        for (column, lag) in self.lags.iter().enumerate() {
            self.system[triangle(k, column)] = window(*lag);
        }
        self.rows = ends.map(|end| (end - p) as f64);
        self.system[triangle(k, k)] = self.rows;
        self.system[triangle(k + 1, k)] = window(0);
        self.penalty = std::array::from_fn(|w| {
            let (count, mean) = (ends[w] as f64, self.sums[ends[w]][0] / ends[w] as f64);
            self.rows[w] * (squares[w] / count - mean * mean).max(1e-6)
        });
    }

    /// Solves every lane with this penalty per row: Cholesky with the right-hand side as one more row, then back.
    pub(super) fn solve(&mut self, ridge: f64) {
        let unknowns = self.lags.len() + 1;
        self.factor.clone_from(&self.system);
        for column in 0..unknowns - 1 {
            let diagonal = &mut self.factor[triangle(column, column)];
            diagonal.iter_mut().zip(&self.penalty).for_each(|(entry, penalty)| *entry += ridge * penalty);
        }
        let diagonal = &mut self.factor[triangle(unknowns - 1, unknowns - 1)];
        diagonal.iter_mut().zip(&self.rows).for_each(|(entry, rows)| *entry += RIDGE_INTERCEPT * rows);
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

    /// Rolls every lane `horizon` steps past its end, each forecast feeding the next. `path` is left with the longest
    /// lag's worth of history and then the forecasts.
    pub(super) fn roll(&self, z: &[f64], ends: &[usize; LANES], horizon: usize, path: &mut Vec<Lanes>) {
        let p = self.longest();
        path.clear();
        path.extend((0..p).map(|at| ends.map(|end| z[end - p + at])));
        let (intercept, slopes) = self.weights.split_last().expect("there is always an intercept");
        for step in 0..horizon {
            let mut next = [0.0; LANES];
            for (slope, lag) in slopes.iter().zip(&self.lags) {
                let past = &path[p + step - lag];
                for w in 0..LANES {
                    next[w] += slope[w] * past[w];
                }
            }
            path.push(std::array::from_fn(|w| (next[w] + intercept[w]).clamp(-REACH, REACH)));
        }
    }

    /// The longest lag: where the first row of the regression stands.
    pub(super) fn longest(&self) -> usize {
        self.lags.last().copied().unwrap_or(0)
    }
}

/// The Gram entries of the lags and the target (a lag of 0, whose row comes last): difference, place, longer lag;
/// sorted.
fn entries(lags: &[usize]) -> Vec<(usize, usize, usize)> {
    let k = lags.len();
    let target = std::iter::once((k + 1, 0));
    let columns: Vec<(usize, usize)> = target.chain(lags.iter().copied().enumerate()).collect();
    let mut entries = Vec::with_capacity((k + 1) * (k + 2) / 2);
    for (at, (row, short)) in columns.iter().enumerate() {
        for (column, long) in columns[at..].iter().filter(|(column, _)| *column <= k) {
            entries.push((long - short, triangle(*row.max(column), *row.min(column)), *long));
        }
    }
    entries.sort_unstable();
    entries
}

/// Where the entry (row, column ≤ row) of a symmetric matrix is kept.
fn triangle(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// Running sums over u of z(u)·z(u + d) for the [`BLOCK`] differences d from `first` on; row u holds the sums before u.
fn running_products(z: &[f64], first: usize, sums: &mut [[f64; BLOCK]]) {
    let n = z.len() - BLOCK;
    let mut running = [0.0; BLOCK];
    sums[0] = running;
    let tails = z[first..].array_windows::<BLOCK>();
    for ((sums, head), tail) in sums[1..].iter_mut().zip(&z[..n - first]).zip(tails) {
        for i in 0..BLOCK {
            running[i] += head * tail[i];
        }
        *sums = running;
    }
}

/// Running sums of z itself, in the first place of each row.
fn running_sums(z: &[f64], sums: &mut [[f64; BLOCK]]) {
    let mut total = 0.0;
    sums[0][0] = 0.0;
    for (sums, v) in sums[1..].iter_mut().zip(z) {
        total += v;
        sums[0] = total;
    }
}

/// One row of the Cholesky factor, of all lanes; the diagonal keeps the inverse of its entries. The row after the last
/// unknown is the right-hand side.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The normal equations of one lane, the plain way.
    fn plain(z: &[f64], lags: &[usize], end: usize) -> Vec<f64> {
        let p = *lags.last().unwrap();
        let column = |t: usize, c: usize| match c {
            c if c < lags.len() => z[t - lags[c]],
            c if c == lags.len() => 1.0,
            _ => z[t],
        };
        let mut system = Vec::new();
        for row in 0..=lags.len() + 1 {
            for c in 0..=row.min(lags.len()) {
                system.push((p..end).map(|t| column(t, row) * column(t, c)).sum());
            }
        }
        system
    }

    #[test]
    fn running_sums_give_the_normal_equations_of_every_origin() {
        let lags = [1, 2, 3, 7, 8, 14];
        let mut z: Vec<f64> = (0..120).map(|t| ((t * t) % 17) as f64 / 8.0 - 1.0).collect();
        z.resize(120 + BLOCK, 0.0);
        let ends: [usize; LANES] = std::array::from_fn(|w| 120 - 5 * w);
        let mut ridge = Ridge::default();
        ridge.set_lags(&lags);
        ridge.set_history(&z, &ends);
        for (w, end) in ends.into_iter().enumerate() {
            for (entry, expected) in ridge.system.iter().zip(plain(&z, &lags, end)) {
                assert!((entry[w] - expected).abs() < 1e-10, "lane {w}: {} against {expected}", entry[w]);
            }
        }
    }

    #[test]
    fn an_autoregression_is_recovered_and_rolled_on() {
        let mut z = vec![1.0, -0.5];
        for t in 2..200 {
            z.push(1.6 * z[t - 1] - 0.98 * z[t - 2]);
        }
        let expected: Vec<f64> = z.split_off(150);
        z.resize(150 + BLOCK, 0.0);
        let mut ridge = Ridge::default();
        ridge.set_lags(&[1, 2]);
        ridge.set_history(&z, &[150; LANES]);
        ridge.solve(1e-12);
        let mut path = Vec::new();
        ridge.roll(&z, &[150; LANES], 20, &mut path);
        for (lanes, expected) in path[2..].iter().zip(expected) {
            assert!((lanes[0] - expected).abs() < 1e-6 && lanes[0] == lanes[5], "{} against {expected}", lanes[0]);
        }
    }

    #[test]
    fn equations_without_information_still_have_a_finite_solution() {
        let mut ridge = Ridge::default();
        ridge.set_lags(&[1, 2, 3]);
        ridge.set_history(&[0.0; 40 + BLOCK], &[40; LANES]);
        ridge.solve(0.0);
        assert!(ridge.weights.iter().flatten().all(|weight| weight.is_finite()));
    }
}
