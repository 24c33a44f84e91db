//! The CUDA twin: batches of series go to the device, `robust_residual.cu` scores them, scores come back.
//!
//! **Invariant:** series are cut into launches that fit the device's memory; a score does not depend on the cut.

use super::batch::{Batch, THREADS};
use super::plan::Look;
use super::ranks::BINS;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::{Device, Series};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("robust_residual.cu"), name: "robust_residual", threads: THREADS, blocks_each: 16 };

/// The scores of all values, and how many launches it took.
pub(super) fn score(
    device: &Device,
    gpu: &Gpu,
    series: &Series,
    looks: &[Vec<Look>],
    warm_up: usize,
    prior: &[f64; BINS],
) -> Result<(Vec<f64>, u64), Fault> {
    // A value comes with its score and its share of the profiles.
    let sizes: Vec<usize> = (0..series.len()).map(|i| 24 * series.get(i).len() + 64).collect();
    let parts = gpu.run(
        || device.is_stopped(),
        &sizes,
        |lane, items| {
            let batch = Batch::new(series, looks, items.clone(), warm_up);
            let scratch = batch.scratch(THREADS) * size_of::<f64>();
            let blocks = gpu.blocks(&KERNEL, items.len().div_ceil(THREADS), scratch)?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its indices in range, its scratch space for so many blocks.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments(prior, blocks))
            }
        },
        |landing, items| landing.read::<f64>(8, series.offsets()[items.end] - series.offsets()[items.start]),
    )?;
    let launches = parts.len() as u64;
    Ok((parts.concat(), launches))
}
