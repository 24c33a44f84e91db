//! How easily a row is set apart from others by random cuts: an isolation forest.
//!
//! **Formula.** A tree is grown on 256 rows (all of them, where there are fewer), drawn by the seed: a node takes a feature
//! that varies among its rows and a cut drawn evenly between their smallest and largest value, down to 8 levels. The path
//! of a row is the depth where it ends, plus c(n) for the n rows that ended there, c(n) = 2·(ln(n − 1) + 0.5772…) − 2(n −
//! 1)/n. The score is 2^(−mean path / c(rows of a tree)): near 1 what a few cuts isolate, below 0.5 what is ordinary.
//! Numbers are looked at through asinh, so that a cut falls evenly among magnitudes.
//!
//! **Missing values.** NaN goes where the smaller values go; infinities count as the largest finite numbers. A forest is to
//! be fitted on ordinary rows: attacks among them cost accuracy.
//!
//! **Order of reduction.** Paths are added in order of the trees, in 64 bits. Growing has a CPU twin only; tolerance between
//! the twins of scoring: none, they agree bit by bit.
//!
//! **Paper.** Liu, Ting and Zhou, *Isolation Forest*, ICDM 2008.
//!
//! **Invariant:** a forest follows from its rows and its seed, not from the number of threads.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod tests;

use crate::splitmix::SplitMix;
use crate::{Device, Error, FEATURES_MAX, Result, lanes};

/// Rows that a tree is grown on.
const SAMPLE: usize = 256;
/// Levels of cuts.
pub const LEVELS: usize = 8;
/// Inner nodes of a tree: node n has children 2n + 1 and 2n + 2.
pub const NODES: usize = (1 << LEVELS) - 1;
/// The most trees of a forest.
pub const TREES_MAX: usize = 1_024;
/// Rows that a thread scores at a time.
const BLOCK: usize = 256;

/// A tree; unused nodes cut at infinity.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The feature of each node, [`NODES`] of them.
    pub features: Vec<u16>,
    /// Where each node cuts, in asinh of the value.
    pub cuts: Vec<f32>,
    /// The path length at each end, `NODES + 1` of them.
    pub paths: Vec<f32>,
}

/// A forest.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    /// Columns of a row.
    pub features: usize,
    /// The mean path of a search among as many rows as a tree has seen.
    pub typical: f64,
    /// The trees.
    pub trees: Vec<Tree>,
}

/// Grows a forest on columns of equal length.
///
/// # Errors
/// [`Error::Parameter`] for a number of trees out of range, [`Error::Shape`] for columns of different lengths.
pub fn grow(device: &Device, columns: &[&[f64]], trees: usize, seed: u64) -> Result<Forest> {
    if !(1..=TREES_MAX).contains(&trees) {
        return Err(Error::Parameter(format!("{trees} trees are out of range: use 1 to {TREES_MAX}")));
    }
    let rows = fits(columns)?;
    let grown = lanes::map(
        device,
        trees,
        || (),
        |(), number| {
            let mut random = SplitMix::new(seed, number as u64);
            let mut sample: Vec<usize> = match rows {
                0..=SAMPLE => (0..rows).collect(),
                _ => (0..SAMPLE).map(|_| random.below(rows)).collect(),
            };
            let mut tree = Tree {
                features: vec![0; NODES],
                cuts: vec![f32::INFINITY; NODES],
                paths: vec![LEVELS as f32; NODES + 1],
            };
            tree.split(columns, &mut sample, 0, 0, &mut random);
            tree
        },
    )?;
    Ok(Forest { features: columns.len(), typical: search(rows.min(SAMPLE)).max(1.0), trees: grown })
}

impl Tree {
    /// Grows the node and what lies below it on these rows.
    fn split(&mut self, columns: &[&[f64]], rows: &mut [usize], node: usize, depth: usize, random: &mut SplitMix) {
        if depth == LEVELS {
            self.paths[node - NODES] = (LEVELS as f64 + search(rows.len())) as f32;
            return;
        }
        let Some((feature, cut)) = question(columns, rows, random) else {
            return self.end(node, depth, (depth as f64 + search(rows.len())) as f32);
        };
        (self.features[node], self.cuts[node]) = (feature as u16, cut);
        rows.sort_unstable_by_key(|row| (seen(columns[feature][*row]) > cut, *row));
        let left = rows.partition_point(|row| seen(columns[feature][*row]) <= cut);
        let (left, right) = rows.split_at_mut(left);
        self.split(columns, left, 2 * node + 1, depth + 1, random);
        self.split(columns, right, 2 * node + 2, depth + 1, random);
    }

    /// Ends a branch early: every end below the node has its path.
    fn end(&mut self, node: usize, depth: usize, path: f32) {
        if depth == LEVELS {
            self.paths[node - NODES] = path;
        } else {
            self.end(2 * node + 1, depth + 1, path);
            self.end(2 * node + 2, depth + 1, path);
        }
    }
}

/// A feature that varies among the rows and a cut within it; none where no feature varies.
fn question(columns: &[&[f64]], rows: &[usize], random: &mut SplitMix) -> Option<(usize, f32)> {
    let range = |feature: usize| {
        let values = rows.iter().map(|row| seen(columns[feature][*row]));
        values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let start = random.below(columns.len().max(1));
    // From a random feature on: mostly the first or second varies, so that few columns are looked at.
    for step in 0..columns.len() {
        let feature = if step == 0 { start } else { (start + step) % columns.len() };
        let (low, high) = range(feature);
        if high > low {
            let cut = low + (high - low) * random.unit() as f32;
            return Some((feature, cut.clamp(low, high.next_down())));
        }
    }
    None
}

/// A value as the cuts see it.
#[inline(always)]
fn seen(value: f64) -> f32 {
    if value.is_nan() { f32::MIN } else { value.clamp(f64::MIN, f64::MAX).asinh() as f32 }
}

/// The mean path of an unsuccessful search among so many rows.
fn search(rows: usize) -> f64 {
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        n => 2.0 * ((n as f64 - 1.0).ln() + 0.577_215_664_901_532_9) - 2.0 * (n as f64 - 1.0) / n as f64,
    }
}

/// The common length of the columns.
fn fits(columns: &[&[f64]]) -> Result<usize> {
    let rows = columns.first().map_or(0, |column| column.len());
    if columns.is_empty() || columns.len() > FEATURES_MAX {
        return Err(Error::Shape(format!("{} features are out of range: use 1 to {FEATURES_MAX}", columns.len())));
    }
    match columns.iter().all(|column| column.len() == rows) {
        true => Ok(rows),
        false => Err(Error::Shape("columns of a forest must have the same number of rows".to_owned())),
    }
}

impl Forest {
    /// The score of every row, between 0 and 1.
    ///
    /// # Errors
    /// [`Error::Shape`] when the columns are not those of the forest.
    pub fn score(&self, device: &Device, columns: &[&[f64]]) -> Result<Vec<f64>> {
        let rows = fits(columns)?;
        if columns.len() != self.features {
            let text = format!("rows have {} features, but the forest has {}", columns.len(), self.features);
            return Err(Error::Shape(text));
        }
        #[cfg(feature = "cuda")]
        if let Some(paths) = device.offload("isolation_forest", |gpu| cuda::paths(device, gpu, self, columns, rows))? {
            return Ok(paths.into_iter().map(|path| self.score_of(path)).collect());
        }
        let blocks = lanes::map(
            device,
            rows.div_ceil(BLOCK),
            || vec![0f32; BLOCK * self.features],
            |seen_rows, block| {
                let start = block * BLOCK;
                let count = BLOCK.min(rows - start);
                for (feature, column) in columns.iter().enumerate() {
                    for (row, value) in column[start..start + count].iter().enumerate() {
                        seen_rows[row * self.features + feature] = seen(*value);
                    }
                }
                let mut paths = vec![0f64; count];
                for tree in &self.trees {
                    for (path, row) in paths.iter_mut().zip(seen_rows.chunks_exact(self.features)) {
                        let mut node = 0;
                        for _ in 0..LEVELS {
                            let above = row[usize::from(tree.features[node])] > tree.cuts[node];
                            node = 2 * node + 1 + usize::from(above);
                        }
                        *path += f64::from(tree.paths[node - NODES]);
                    }
                }
                paths.into_iter().map(|path| self.score_of(path)).collect::<Vec<f64>>()
            },
        )?;
        Ok(blocks.concat())
    }

    /// The score of a row, given the sum of its paths.
    fn score_of(&self, path: f64) -> f64 {
        (path * (-1.0 / (self.trees.len().max(1) as f64 * self.typical))).exp2()
    }
}
