//! The CUDA twin: batches of series go to the device, `record_ratio.cu` judges them, judgements come back.
//!
//! **Invariant:** series are cut into launches that fit the device's memory; a judgement does not depend on the cut.

use super::batch::{Batch, THREADS};
use super::{Point, point_of};
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::{Device, Series};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("record_ratio.cu"), name: "record_ratio", threads: THREADS, blocks_each: 16 };

/// The judgements of all values.
pub(super) fn score(
    device: &Device,
    gpu: &Gpu,
    series: &Series,
    seconds: Option<&[i64]>,
    warm_up: usize,
) -> Result<Vec<Point>, Fault> {
    // A value comes with its time and three numbers of its judgement.
    let sizes: Vec<usize> = (0..series.len()).map(|i| 40 * series.get(i).len() + 64).collect();
    let parts = gpu.run(
        || device.is_stopped(),
        &sizes,
        |lane, items| {
            let batch = Batch::new(series, seconds, items.clone(), warm_up);
            let blocks = gpu.blocks(&KERNEL, items.len(), batch.scratch(1) * size_of::<f64>())?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its indices in range, its scratch space for so many blocks.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks))
            }
        },
        |landing, items| landing.read::<f64>(8, 3 * (series.offsets()[items.end] - series.offsets()[items.start])),
    )?;
    Ok(parts.iter().flat_map(|part| part.chunks_exact(3).map(point_of)).collect())
}
