//! The reference twin of inference: one block of rows at a time, a tree's six questions answered for many rows at once.
//!
//! **Invariant:** starts no thread; no branch depends on the data.

use super::{LEAVES, Tree, Trees};
use crate::Codes;

/// Rows of a block: its codes and a tree stay in the nearest cache.
pub(super) const ROWS: usize = 512;
/// Rows whose leaf numbers are held in registers.
const CHUNK: usize = 32;

/// Buffers that a thread keeps from block to block.
#[derive(Default)]
pub(super) struct Work {
    block: Vec<u8>,
}

/// The sums of leaves for the rows of a block, without the base.
pub(super) fn sums(work: &mut Work, trees: &Trees, codes: &Codes, block: usize) -> Vec<i32> {
    let start = block * ROWS;
    let count = ROWS.min(codes.rows() - start);
    work.block.clear();
    work.block.resize(trees.features * ROWS, 0);
    for (feature, column) in work.block.chunks_exact_mut(ROWS).enumerate() {
        column[..count].copy_from_slice(&codes.column(feature)[start..start + count]);
    }
    let mut sums = vec![0; ROWS];
    crate::device::vectorised(|| add(&trees.trees, &work.block, &mut sums));
    sums.truncate(count);
    sums
}

/// Adds every tree's leaves to the sums of a whole block.
#[inline(always)]
fn add(trees: &[Tree], block: &[u8], sums: &mut [i32]) {
    for tree in trees {
        let columns = tree.features.map(|feature| &block[usize::from(feature) * ROWS..][..ROWS]);
        for (chunk, sums) in sums.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
            let mut leaves = [0u8; CHUNK];
            for (level, (column, cut)) in columns.iter().zip(tree.cuts).enumerate() {
                let codes: &[u8; CHUNK] = &column.as_chunks::<CHUNK>().0[chunk];
                for (leaf, code) in leaves.iter_mut().zip(codes) {
                    *leaf |= u8::from(*code > cut) << level;
                }
            }
            for (sum, leaf) in sums.iter_mut().zip(leaves) {
                *sum += i32::from(tree.leaves[usize::from(leaf) & (LEAVES - 1)]);
            }
        }
    }
}
