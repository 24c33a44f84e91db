//! The CUDA twin of scoring: codes, entities and the table of surprises go to the device, sums come back.
//!
//! **Invariant:** rows are cut into launches that fit the device's memory, each with the whole table; a row's surprise does
//! not depend on the cut.

use std::ops::Range;

use super::Surprises;
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::{Codes, Device};

/// The kernel.
pub(super) const KERNEL: Kernel = Kernel {
    source: include_str!("conditional_histograms.cu"),
    name: "conditional_histograms",
    threads: 256,
    blocks_each: 16,
};

/// The surprises of all rows.
pub(super) fn score(
    device: &Device,
    gpu: &Gpu,
    table: &Surprises,
    codes: &Codes,
    entities: &[u32],
) -> Result<Vec<f64>, Fault> {
    let each = codes.features() + size_of::<u32>() + size_of::<f64>();
    let parts = gpu.run(
        || device.is_stopped(),
        &vec![each; entities.len()],
        |lane, rows| {
            let batch = Batch::new(table, codes, entities, rows.clone());
            let blocks = gpu.blocks(&KERNEL, rows.len().div_ceil(KERNEL.threads), 0)?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's; codes are below 64, and entities are held in the table.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments())
            }
        },
        |landing, rows| landing.read::<f64>(5, rows.len()),
    )?;
    Ok(parts.concat())
}

/// The kernel's arguments, for some rows.
pub(super) struct Batch<'a> {
    codes: Vec<u8>,
    entities: &'a [u32],
    table: &'a Surprises,
    sizes: [i64; 3],
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a Surprises, codes: &Codes, entities: &'a [u32], rows: Range<usize>) -> Self {
        let part = |feature: usize| &codes.column(feature)[rows.clone()];
        Self {
            codes: (0..codes.features()).flat_map(part).copied().collect(),
            entities: &entities[rows.clone()],
            table,
            sizes: [rows.len(), codes.features(), table.rarities.len() - 1].map(|size| size as i64),
        }
    }

    pub(super) fn arguments(&self) -> [Argument<'_>; 6] {
        [
            Argument::U8(&self.codes),
            Argument::U32(self.entities),
            Argument::F32(&self.table.nats),
            Argument::F64(&self.table.rarities),
            Argument::I64(&self.sizes),
            Argument::Zeros(self.entities.len()),
        ]
    }
}
