//! Growing trees: gradients, histograms of every feature, the best question of a level, leaves.
//!
//! **Invariant:** one thread sums one feature in order of the rows, so that the number of threads changes nothing.

use super::{DEPTH, LEAVES, Params, Tree, Trees, UNIT};
use crate::splitmix::SplitMix;
use crate::{BINS, Codes, Device, Result, lanes};

/// The log odds of the base stay in ± this.
const BASE_MAX: f64 = 10.0;
/// A leaf stays in ± this many units.
const LEAF_MAX: f64 = 32_767.0;
/// The least curvature of a row.
const CURVATURE_MIN: f64 = 1e-6;
/// The second stream of a tree's generator: columns apart from rows.
const COLUMNS_STREAM: u64 = 1 << 32;

/// Gradient and curvature of a row, or their sums.
type Slope = [f64; 2];

/// A question and what it gains.
#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    cut: u8,
}

/// Trains one tree after the other.
pub(super) fn train(
    device: &Device,
    codes: &Codes,
    labels: &[bool],
    weights: &[f64],
    params: &Params,
) -> Result<Trees> {
    let weight = |row: usize| weights.get(row).copied().unwrap_or(1.0);
    let base = base(labels, weight);
    let mut trees = Trees { base, features: codes.features(), trees: Vec::with_capacity(params.trees) };
    if !(labels.contains(&true) && labels.contains(&false)) {
        return Ok(trees);
    }
    let mut sums = vec![base; labels.len()];
    let mut slopes: Vec<Slope> = vec![[0.0; 2]; labels.len()];
    for number in 0..params.trees {
        for (row, slope) in slopes.iter_mut().enumerate() {
            let p = 1.0 / (1.0 + (-f64::from(sums[row]) * UNIT).exp());
            *slope = [
                (p - f64::from(u8::from(labels[row]))) * weight(row),
                (p * (1.0 - p)).max(CURVATURE_MIN) * weight(row),
            ];
        }
        let (tree, leaves) = grow(device, codes, &slopes, params, number as u64)?;
        sums.iter_mut().zip(leaves).for_each(|(sum, leaf)| *sum += i32::from(tree.leaves[usize::from(leaf)]));
        trees.trees.push(tree);
    }
    Ok(trees)
}

/// The log odds of class 1 in units.
fn base(labels: &[bool], weight: impl Fn(usize) -> f64) -> i32 {
    let sum = |class: bool| (0..labels.len()).filter(|row| labels[*row] == class).map(&weight).sum::<f64>();
    let odds = ((sum(true) + 1e-9) / (sum(false) + 1e-9)).ln();
    (odds.clamp(-BASE_MAX, BASE_MAX) / UNIT).round() as i32
}

/// One tree, and the leaf that each row falls in.
fn grow(device: &Device, codes: &Codes, slopes: &[Slope], params: &Params, number: u64) -> Result<(Tree, Vec<u8>)> {
    let mut random = SplitMix::new(params.seed, number);
    let seen: Vec<u32> = (0..slopes.len()).filter(|_| random.unit() < params.rows).map(|row| row as u32).collect();
    let count = ((codes.features() as f64 * params.columns).round() as usize).max(1);
    let columns = SplitMix::new(params.seed, number | COLUMNS_STREAM).choose(count, codes.features());
    let own: Vec<Slope> = seen.iter().map(|row| slopes[*row as usize]).collect();
    let mut nodes = vec![0u8; seen.len()];
    let mut tree = Tree { features: [0; DEPTH], cuts: [255; DEPTH], leaves: [0; LEAVES] };
    for level in 0..DEPTH {
        let splits = lanes::map(device, columns.len(), Vec::new, |sums, at| {
            best(sums, codes.column(columns[at]), columns[at], &seen, &own, &nodes, 1 << level, params.ridge)
        })?;
        let found = splits.into_iter().flatten().reduce(|a, b| if b.gain > a.gain { b } else { a });
        let Some(split) = found else { break };
        tree.features[level] = split.feature as u16;
        tree.cuts[level] = split.cut;
        let column = codes.column(split.feature);
        for (node, row) in nodes.iter_mut().zip(&seen) {
            *node |= u8::from(column[*row as usize] > split.cut) << level;
        }
    }
    let leaves = leaves(&tree, codes);
    fill(&mut tree, &leaves, slopes, params);
    Ok((tree, leaves))
}

/// The best question about one feature; none where all its codes are equal.
#[expect(clippy::too_many_arguments, reason = "a hot loop takes slices")]
fn best(
    sums: &mut Vec<Slope>,
    column: &[u8],
    feature: usize,
    seen: &[u32],
    slopes: &[Slope],
    nodes: &[u8],
    count: usize,
    ridge: f64,
) -> Option<Split> {
    sums.clear();
    sums.resize(count * BINS, [0.0; 2]);
    for ((row, slope), node) in seen.iter().zip(slopes).zip(nodes) {
        let sum = &mut sums[usize::from(*node) * BINS + usize::from(column[*row as usize])];
        sum[0] += slope[0];
        sum[1] += slope[1];
    }
    let mut gains = [0.0; BINS];
    let mut any = [false; BINS];
    for node in sums.as_chunks::<BINS>().0 {
        let total = node.iter().fold([0.0; 2], |sum, bin| [sum[0] + bin[0], sum[1] + bin[1]]);
        let mut left = [0.0; 2];
        for (bin, slope) in node.iter().enumerate() {
            left = [left[0] + slope[0], left[1] + slope[1]];
            let right = [total[0] - left[0], (total[1] - left[1]).max(0.0)];
            gains[bin] += left[0] * left[0] / (left[1] + ridge) + right[0] * right[0] / (right[1] + ridge);
            any[bin] |= left[1] > 0.0 && right[1] > CURVATURE_MIN / 2.0;
        }
    }
    let mut found: Option<Split> = None;
    for (cut, (gain, any)) in gains.into_iter().zip(any).enumerate() {
        if any && found.is_none_or(|found| gain > found.gain) {
            found = Some(Split { gain, feature, cut: cut as u8 });
        }
    }
    found
}

/// The leaf of every row.
fn leaves(tree: &Tree, codes: &Codes) -> Vec<u8> {
    let mut leaves = vec![0u8; codes.rows()];
    for (level, (feature, cut)) in tree.features.iter().zip(tree.cuts).enumerate() {
        for (leaf, code) in leaves.iter_mut().zip(codes.column(usize::from(*feature))) {
            *leaf |= u8::from(*code > cut) << level;
        }
    }
    leaves
}

/// Leaf values from all rows, those too that the questions were not chosen on.
fn fill(tree: &mut Tree, leaves: &[u8], slopes: &[Slope], params: &Params) {
    let mut sums = [[0.0; 2]; LEAVES];
    for (leaf, slope) in leaves.iter().zip(slopes) {
        let sum = &mut sums[usize::from(*leaf)];
        sum[0] += slope[0];
        sum[1] += slope[1];
    }
    for (value, [g, h]) in tree.leaves.iter_mut().zip(sums) {
        let step = -params.rate * g / (h + params.ridge) / UNIT;
        *value = step.round().clamp(-LEAF_MAX, LEAF_MAX) as i16;
    }
}
