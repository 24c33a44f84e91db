//! The CUDA twin of inference: codes and trees go to the device, `oblivious_trees.cu` adds up leaves, sums come back.
//!
//! **Invariant:** rows are cut into launches that fit the device's memory; a row's sum does not depend on the cut.

use std::borrow::Cow;
use std::ops::Range;

use super::Trees;
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::{Codes, Device};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("oblivious_trees.cu"), name: "oblivious_trees", threads: 256, blocks_each: 16 };

/// The sums of all rows, and how many launches it took.
pub(super) fn sums(device: &Device, gpu: &Gpu, trees: &Trees, codes: &Codes) -> Result<(Vec<i32>, u64), Fault> {
    let rows = codes.rows();
    if trees.trees.is_empty() {
        return Ok((vec![0; rows], 0));
    }
    let parts = gpu.run(
        || device.is_stopped(),
        &vec![codes.features() + size_of::<i32>(); rows],
        |lane, rows| {
            let batch = Batch::new(trees, codes, rows);
            let blocks = gpu.blocks(&KERNEL, batch.rows.div_ceil(KERNEL.threads), 0)?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's; every feature that a tree asks is a column of the codes.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments())
            }
        },
        |landing, rows| landing.read::<i32>(4, rows.len()),
    )?;
    let launches = parts.len() as u64;
    Ok((parts.concat(), launches))
}

/// The kernel's arguments, for some rows.
pub(super) struct Batch<'a> {
    rows: usize,
    codes: Cow<'a, [u8]>,
    /// Feature below, cut above.
    questions: Vec<u32>,
    leaves: Vec<i16>,
    sizes: [i64; 3],
}

impl<'a> Batch<'a> {
    pub(super) fn new(trees: &Trees, codes: &Codes<'a>, rows: Range<usize>) -> Self {
        let question = |(feature, cut): (&u16, &u8)| u32::from(*feature) | u32::from(*cut) << 16;
        let part = |feature: usize| &codes.column(feature)[rows.clone()];
        let all = rows.len() == codes.rows();
        let codes_of_rows = || (0..codes.features()).flat_map(part).copied().collect();
        Self {
            rows: rows.len(),
            codes: if all { Cow::Borrowed(codes.all()) } else { Cow::Owned(codes_of_rows()) },
            questions: trees.trees.iter().flat_map(|tree| tree.features.iter().zip(&tree.cuts).map(question)).collect(),
            leaves: trees.trees.iter().flat_map(|tree| tree.leaves).collect(),
            sizes: [rows.len(), trees.features, trees.trees.len()].map(|size| size as i64),
        }
    }

    pub(super) fn arguments(&self) -> [Argument<'_>; 5] {
        [
            Argument::U8(&self.codes),
            Argument::U32(&self.questions),
            Argument::I16(&self.leaves),
            Argument::I64(&self.sizes),
            Argument::ZeroInts(self.rows),
        ]
    }
}
