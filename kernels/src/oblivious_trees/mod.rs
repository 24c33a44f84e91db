//! Boosted oblivious trees for two classes: training by histograms, inference without branches.
//!
//! **Formula.** Features are codes of at most 64 bins ([`crate::Bins`]). A tree asks the same six questions of every row, `code >
//! cut`, one a level; the answers are the bits of the leaf's number. The margin of a row is `base + Σ leaf`, its chance of
//! being of class 1 is 1 / (1 + e^−margin). Trees are grown one after the other on the logistic loss: with p the chance so
//! far and w the row's weight, g = (p − y)·w and h = max(p(1 − p), 1e-6)·w. A level takes the question with the largest
//! Σ over nodes of G²/(H + λ) on both sides; a leaf is −rate·G/(H + λ), held in ±2. A tree sees a share of the rows and
//! a share of the columns, drawn by the seed.
//!
//! **Fixed point.** Leaves and base are multiples of 2⁻¹⁴ (leaves in 16 bits), so that a sum is exact in every order. Later
//! trees are grown on the rounded leaves and make up for what rounding takes.
//!
//! **Missing values.** NaN is bin 0, below every number; infinities are numbers. A feature without any split is never asked.
//! One class only, or no rows: the base alone, with the odds held in e^±10.
//!
//! **Order of reduction.** Training sums in order of the rows, one thread per feature, so that a model follows from its data
//! and its seed and not from the number of threads. Ties go to the lower feature, then to the lower cut. Inference adds
//! integers. Training has a CPU twin only; tolerance between the twins of inference: none, they agree bit by bit.
//!
//! **Papers.** Friedman 2001 (gradient boosting); Kohavi 1994 (oblivious graphs); Prokhorenkova et al. 2018 (CatBoost, the
//! same trees); Chen and Guestrin 2016 (second order).
//!
//! **Invariant:** a row's margin depends on that row alone, not on the batch it came in.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod grow;
#[cfg(test)]
mod tests;

use crate::{Codes, Device, Error, Result, lanes};

/// Questions of a tree.
pub const DEPTH: usize = 6;
/// Leaves of a tree.
pub const LEAVES: usize = 1 << DEPTH;
/// The most trees of a model: so many leaves fit the sum.
pub const TREES_MAX: usize = 4_096;
/// What a leaf's unit is worth.
const UNIT: f64 = 1.0 / 16_384.0;

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Trees, 1 to [`TREES_MAX`].
    pub trees: usize,
    /// The share of its Newton step that a tree takes, above 0, at most 1.
    pub rate: f64,
    /// λ, added to the curvature of every leaf; above 0.
    pub ridge: f64,
    /// The share of rows that a tree is grown on, above 0, at most 1.
    pub rows: f64,
    /// The share of columns that a tree may ask, above 0, at most 1.
    pub columns: f64,
    /// Decides which rows and columns.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self { trees: 300, rate: 0.2, ridge: 1.0, rows: 0.8, columns: 0.5, seed: 0 }
    }
}

/// One tree: its questions from the first level on, and its leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The feature that each level asks.
    pub features: [u16; DEPTH],
    /// A code above it sets the level's bit; 255 for a level that asks nothing.
    pub cuts: [u8; DEPTH],
    /// What each leaf adds, in units of 2⁻¹⁴. Level 0 is the lowest bit of the number.
    pub leaves: [i16; LEAVES],
}

/// A trained model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trees {
    /// The margin before any tree, in units of 2⁻¹⁴.
    pub base: i32,
    /// How many features a row has.
    pub features: usize,
    /// The trees.
    pub trees: Vec<Tree>,
}

/// Margins of a batch.
#[derive(Clone, Debug, Default)]
pub struct Margins {
    /// One per row: the log odds of class 1.
    pub margins: Vec<f64>,
    /// How many times the device was launched; the CPU counts one for a call.
    pub launches: u64,
}

/// Trains on rows of two classes. `weights` may be empty: then every row counts the same.
///
/// # Errors
/// [`Error::Parameter`] when a parameter is out of range, [`Error::Shape`] when the slices do not fit together. Data never
/// makes an error.
pub fn train(device: &Device, codes: &Codes, labels: &[bool], weights: &[f64], params: &Params) -> Result<Trees> {
    check(params)?;
    let rows = codes.rows();
    if labels.len() != rows || !(weights.is_empty() || weights.len() == rows) {
        let text = format!("{rows} rows need as many labels and weights, not {} and {}", labels.len(), weights.len());
        return Err(Error::Shape(text));
    }
    grow::train(device, codes, labels, weights, params)
}

impl Trees {
    /// The margin of every row.
    ///
    /// # Errors
    /// [`Error::Shape`] when the rows have another number of features than the model.
    pub fn margins(&self, device: &Device, codes: &Codes) -> Result<Margins> {
        if codes.features() != self.features {
            let text =
                format!("rows have {} features, but the model was trained on {}", codes.features(), self.features);
            return Err(Error::Shape(text));
        }
        #[cfg(feature = "cuda")]
        if let Some((sums, launches)) = device.offload("oblivious_trees", |gpu| cuda::sums(device, gpu, self, codes))? {
            return Ok(Margins { margins: self.scaled(&sums), launches });
        }
        let blocks = codes.rows().div_ceil(cpu::ROWS);
        let sums = lanes::map(device, blocks, cpu::Work::default, |work, block| cpu::sums(work, self, codes, block))?;
        Ok(Margins { margins: self.scaled(&sums.concat()), launches: 1 })
    }

    fn scaled(&self, sums: &[i32]) -> Vec<f64> {
        sums.iter().map(|sum| f64::from(self.base + sum) * UNIT).collect()
    }
}

/// Whether the parameters are in range.
fn check(params: &Params) -> Result<()> {
    let refused = |text: String| Err(Error::Parameter(text));
    if !(1..=TREES_MAX).contains(&params.trees) {
        return refused(format!("{} trees are out of range: use 1 to {TREES_MAX}", params.trees));
    }
    for (name, value) in [("rate", params.rate), ("share of rows", params.rows), ("share of columns", params.columns)] {
        if !(value > 0.0 && value <= 1.0) {
            return refused(format!("a {name} of {value} is out of range: use more than 0 and at most 1"));
        }
    }
    if !(params.ridge > 0.0 && params.ridge.is_finite()) {
        return refused(format!("a ridge of {} is out of range: use a number above 0", params.ridge));
    }
    Ok(())
}
