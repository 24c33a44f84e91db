//! The reference twin's normal equations: those of all origins in one pass.
//!
//! The Gram entry of lags a ≤ b is a window of the products z(u)·z(u + b − a): running sums of those
//! products, one for each distinct difference of lags, give every entry of every origin as the difference of two sums.
//!
//! **Invariant:** knows no transform and no season; sums run in ascending time.

use super::normal::{LANES, Lanes, Normal, triangle};
use super::plan::RIDGE_INTERCEPT;
use crate::device::{Loop, vectorised};

/// How many differences of lags are summed in one pass; `z` has as many zeros behind its values.
pub(crate) const BLOCK: usize = 8;
/// The normal equations of one series' lags.
#[derive(Default)]
pub(crate) struct Ridge {
    lags: Vec<usize>,
    blocks: Vec<Block>,
    sums: Vec<[f64; BLOCK]>,
    heads: Vec<f64>,
    /// The system and its solution; unknowns are the lags' weights, then the intercept.
    pub(crate) normal: Normal,
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
    pub(crate) fn set_lags(&mut self, lags: &[usize]) {
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

    /// Sets up the normal equations of every lane: lane `w` fits the rows before `ends[w]`, each row weighing
    /// e^decay times the one before it.
    pub(crate) fn set_history(&mut self, z: &[f64], ends: &[usize; LANES], decay: f64) {
        let n = z.len() - BLOCK;
        let (k, p) = (self.lags.len(), self.longest());
        let growth = |steps: usize| if decay == 0.0 { 1.0 } else { (decay * steps as f64).exp() };
        // A row weighs by its newest point; a product is summed where its oldest factor stands.
        self.heads.clear();
        self.heads.extend(z[..n].iter().enumerate().map(|(at, v)| v / growth(n - at)));
        self.normal.reset(k, 1);
        self.sums.resize(n + 1, [0.0; BLOCK]);
        let mut squares = [0.0; LANES];
        for block in &self.blocks {
            vectorised(Products { heads: &self.heads, z, first: block.first, sums: &mut self.sums });
            for Entry { place, offset, long } in &block.entries {
                let (before, growth) = (self.sums[p - long][*offset], growth(*long));
                for (entry, end) in self.normal.system[*place].iter_mut().zip(ends) {
                    *entry = (self.sums[end - long][*offset] - before) * growth;
                }
            }
            if block.first == 0 {
                squares = ends.map(|end| self.sums[end][0]);
            }
        }
        running_sums(&self.heads, &mut self.sums);
        let window = |lag: usize| ends.map(|end| (self.sums[end - lag][0] - self.sums[p - lag][0]) * growth(lag));
        for (column, lag) in self.lags.iter().enumerate() {
            self.normal.system[triangle(k, column)] = window(*lag);
        }
        self.normal.system[triangle(k + 1, k)] = window(0);
        let weight = |range: std::ops::Range<usize>| match decay {
            0.0 => range.len() as f64,
            _ => (1.0 / growth(n - range.end) - 1.0 / growth(n - range.start)) / (growth(1) - 1.0),
        };
        self.normal.rows = ends.map(|end| weight(p..end));
        self.normal.system[triangle(k, k)] = self.normal.rows;
        self.normal.penalty = std::array::from_fn(|w| {
            let count = weight(0..ends[w]);
            let mean = self.sums[ends[w]][0] / count;
            self.normal.rows[w] * (squares[w] / count - mean * mean).max(1e-6)
        });
    }

    /// Solves every lane with this penalty per row.
    pub(crate) fn solve(&mut self, ridge: f64) {
        self.normal.solve(ridge, RIDGE_INTERCEPT);
    }

    /// Rolls every lane `horizon` steps past its end, each forecast feeding the next. `path` is left with the longest
    /// lag's worth of history and then the forecasts.
    pub(crate) fn roll(&self, z: &[f64], ends: &[usize; LANES], horizon: usize, path: &mut Vec<Lanes>) {
        let p = self.longest();
        path.clear();
        path.extend((0..p).map(|at| ends.map(|end| z[end - p + at])));
        let intercept = *self.normal.weights.last().expect("there is always an intercept");
        self.normal.roll(&self.lags, horizon, path, |_| intercept);
    }

    /// The lags, ascending.
    pub(crate) fn lags(&self) -> &[usize] {
        &self.lags
    }

    /// The longest lag: where the first row of the regression stands.
    pub(crate) fn longest(&self) -> usize {
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

/// Running sums over u of heads(u)·z(u + d) for the [`BLOCK`] differences d from `first` on; row u holds the sums before u.
struct Products<'a> {
    heads: &'a [f64],
    z: &'a [f64],
    first: usize,
    sums: &'a mut [[f64; BLOCK]],
}

impl Loop for Products<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { heads, z, first, sums } = self;
        let mut running = [0.0; BLOCK];
        sums[0] = running;
        let tails = z[first..].array_windows::<BLOCK>();
        for ((sums, head), tail) in sums[1..].iter_mut().zip(&heads[..heads.len() - first]).zip(tails) {
            for i in 0..BLOCK {
                running[i] += head * tail[i];
            }
            *sums = running;
        }
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
        ridge.set_history(&z, &ends, 0.0);
        for (w, end) in ends.into_iter().enumerate() {
            for (entry, expected) in ridge.normal.system.iter().zip(plain(&z, &lags, end)) {
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
        ridge.set_history(&z, &[150; LANES], 0.0);
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
        ridge.set_history(&[0.0; 40 + BLOCK], &[40; LANES], 0.0);
        ridge.solve(0.0);
        assert!(ridge.normal.weights.iter().flatten().all(|weight| weight.is_finite()));
    }
}
