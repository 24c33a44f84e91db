//! The CUDA twin of inference: uploads codes and trees, launches `oblivious_trees.cu`, brings the sums back.
//!
//! **Invariant:** all rows of a call go in one launch where the device's memory holds them, else in as few as it does.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::Trees;
use crate::Codes;
use crate::device::{Fault, Gpu};

/// The kernel's source, compiled on first use.
pub(super) const SOURCE: &str = include_str!("oblivious_trees.cu");
/// Threads of one block.
pub(super) const THREADS: usize = 256;
/// Blocks per multiprocessor that a launch is spread over at most.
const BLOCKS_EACH: usize = 16;

/// The sums of all rows, and how many launches it took.
pub(super) fn sums(gpu: &Gpu, trees: &Trees, codes: &Codes) -> Result<(Vec<i32>, u64), Fault> {
    let each = codes.features() + size_of::<i32>();
    let rows_max = (gpu.budget_bytes()? / each).max(1);
    if codes.rows() <= rows_max {
        return Ok((launch(gpu, trees, codes.all(), codes.rows())?, 1));
    }
    let (mut sums, mut launches) = (Vec::with_capacity(codes.rows()), 0);
    for start in (0..codes.rows()).step_by(rows_max) {
        let count = rows_max.min(codes.rows() - start);
        let part: Vec<u8> =
            (0..codes.features()).flat_map(|feature| &codes.column(feature)[start..start + count]).copied().collect();
        sums.extend(launch(gpu, trees, &part, count)?);
        launches += 1;
    }
    Ok((sums, launches))
}

/// The questions as the device takes them: feature below, cut above.
pub(super) fn questions(trees: &Trees) -> Vec<u32> {
    let of = |(feature, cut): (&u16, &u8)| u32::from(*feature) | u32::from(*cut) << 16;
    trees.trees.iter().flat_map(|tree| tree.features.iter().zip(&tree.cuts).map(of)).collect()
}

/// One launch.
#[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
fn launch(gpu: &Gpu, trees: &Trees, codes: &[u8], rows: usize) -> Result<Vec<i32>, Fault> {
    if rows == 0 || trees.trees.is_empty() {
        return Ok(vec![0; rows]);
    }
    let stream = gpu.stream();
    let function = gpu.function(SOURCE, "oblivious_trees")?;
    let blocks = rows.div_ceil(THREADS).min(gpu.blocks(BLOCKS_EACH)?);
    let leaves: Vec<i16> = trees.trees.iter().flat_map(|tree| tree.leaves).collect();
    let sizes = [rows, trees.features, trees.trees.len()].map(|size| size as i64);
    let codes = stream.clone_htod(codes)?;
    let questions = stream.clone_htod(&questions(trees))?;
    let leaves = stream.clone_htod(&leaves)?;
    let sizes = stream.clone_htod(&sizes)?;
    let mut sums = stream.alloc_zeros::<i32>(rows)?;
    let mut call = stream.launch_builder(&function);
    call.arg(&codes).arg(&questions).arg(&leaves).arg(&sizes).arg(&mut sums);
    let grid = u32::try_from(blocks).map_err(|_| Fault("too many blocks".to_owned()))?;
    let shape = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the five arguments are those of the kernel, in its order and of its types; every feature that a tree asks is
    // below the number of columns, and `codes` and `sums` hold `rows` entries for each.
    unsafe { call.launch(shape) }?;
    Ok(stream.clone_dtoh(&sums)?)
}
