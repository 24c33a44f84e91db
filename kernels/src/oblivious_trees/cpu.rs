//! The reference twin of inference: one block of rows at a time, a tree's six questions answered for many rows at once.
//!
//! **Invariant:** starts no thread; no branch depends on the data.

use super::{DEPTH, LEAVES, Tree, Trees};
use crate::Codes;
use crate::device::{Loop, vectorised};

/// Rows of a block: its codes and a tree stay in the nearest cache.
pub(super) const ROWS: usize = 512;
/// Rows whose leaf numbers are held in registers.
const CHUNK: usize = 32;

/// What each level sets in a leaf's number.
const BITS: [u8; DEPTH] = [1, 2, 4, 8, 16, 32];

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
    vectorised(Sum { trees: &trees.trees, block: &work.block, sums: &mut sums });
    sums.truncate(count);
    sums
}

/// Adds every tree's leaves to the sums of a whole block.
struct Sum<'a> {
    trees: &'a [Tree],
    block: &'a [u8],
    sums: &'a mut [i32],
}

impl Loop for Sum<'_> {
    #[inline(always)]
    fn run(self) {
        for tree in self.trees {
            let columns: [&[[u8; CHUNK]]; DEPTH] = std::array::from_fn(|level| {
                self.block[usize::from(tree.features[level]) * ROWS..][..ROWS].as_chunks().0
            });
            for (chunk, sums) in self.sums.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
                let mut leaves = [0u8; CHUNK];
                for ((column, cut), bit) in columns.iter().zip(tree.cuts).zip(BITS) {
                    let codes = &column[chunk];
                    for row in 0..CHUNK {
                        leaves[row] |= if codes[row] > cut { bit } else { 0 };
                    }
                }
                for row in 0..CHUNK {
                    sums[row] += i32::from(tree.leaves[usize::from(leaves[row]) & (LEAVES - 1)]);
                }
            }
        }
    }
}
