//! The CUDA twin of scoring: the host takes asinh of the values, the device follows them through the trees.
//!
//! **Invariant:** rows are cut into launches that fit the device's memory, each with the whole forest; a row's path does
//! not depend on the cut.

use std::ops::Range;

use super::{Forest, seen};
use crate::Device;
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("isolation_forest.cu"), name: "isolation_forest", threads: 256, blocks_each: 16 };

/// The sums of paths of all rows.
pub(super) fn paths(
    device: &Device,
    gpu: &Gpu,
    forest: &Forest,
    columns: &[&[f64]],
    rows: usize,
) -> Result<Vec<f64>, Fault> {
    let each = columns.len() * size_of::<f32>() + size_of::<f64>();
    let parts = gpu.run(
        || device.is_stopped(),
        &vec![each; rows],
        |lane, rows| {
            let batch = Batch::new(forest, columns, rows.clone());
            let blocks = gpu.blocks(&KERNEL, rows.len().div_ceil(KERNEL.threads), 0)?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's; every feature that a tree asks is a column.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments())
            }
        },
        |landing, rows| landing.read::<f64>(5, rows.len()),
    )?;
    Ok(parts.concat())
}

/// The kernel's arguments, for some rows.
pub(super) struct Batch {
    rows: usize,
    seen: Vec<f32>,
    questions: Vec<u32>,
    cuts: Vec<f32>,
    ends: Vec<f32>,
    sizes: [i64; 3],
}

impl Batch {
    pub(super) fn new(forest: &Forest, columns: &[&[f64]], rows: Range<usize>) -> Self {
        let trees = &forest.trees;
        Self {
            rows: rows.len(),
            seen: columns.iter().flat_map(|column| &column[rows.clone()]).map(|value| seen(*value)).collect(),
            questions: trees.iter().flat_map(|tree| tree.features.iter().map(|feature| u32::from(*feature))).collect(),
            cuts: trees.iter().flat_map(|tree| &tree.cuts).copied().collect(),
            ends: trees.iter().flat_map(|tree| &tree.paths).copied().collect(),
            sizes: [rows.len(), columns.len(), trees.len()].map(|size| size as i64),
        }
    }

    pub(super) fn arguments(&self) -> [Argument<'_>; 6] {
        [
            Argument::F32(&self.seen),
            Argument::U32(&self.questions),
            Argument::F32(&self.cuts),
            Argument::F32(&self.ends),
            Argument::I64(&self.sizes),
            Argument::Zeros(self.rows),
        ]
    }
}
