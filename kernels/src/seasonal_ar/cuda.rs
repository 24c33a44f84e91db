//! The CUDA twin: plans go to the device, `seasonal_ar.cu` models them, forecasts come back.
//!
//! **Invariant:** plans are cut into launches that fit the device's memory; a forecast does not depend on the cut.

use super::batch::{Batch, THREADS, rolled};
use super::plan::{Modelled, Plan};
use crate::Device;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("seasonal_ar.cu"), name: "seasonal_ar", threads: THREADS, blocks_each: 4 };

/// What the kernel makes of the plans, in their order, and how many launches it took.
pub(super) fn model(
    device: &Device,
    gpu: &Gpu,
    plans: &[&Plan],
    horizon: usize,
) -> Result<(Vec<Modelled>, u64), Fault> {
    let numbers = |plan: &&Plan| plan.values.len() + plan.cuts.len() * plan.steps + horizon + 100;
    let sizes: Vec<usize> = plans.iter().map(|plan| numbers(plan) * size_of::<f64>()).collect();
    let parts = gpu.run(
        || device.is_stopped(),
        &sizes,
        |lane, items| {
            let batch = Batch::new(&plans[items.clone()], horizon);
            let blocks = gpu.blocks(&KERNEL, items.len(), batch.scratch(1) * size_of::<f64>())?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its indices in range, its scratch space for so many blocks.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks))
            }
        },
        |landing, items| {
            let plans = &plans[items];
            let mean = landing.read::<f64>(6, plans.len() * horizon)?;
            let rolled = landing.read::<f64>(7, plans.iter().map(|plan| rolled(plan)).sum())?;
            Ok(Batch::take_apart(plans, &mean, &rolled, horizon))
        },
    )?;
    let launches = parts.len() as u64;
    Ok((parts.into_iter().flatten().collect(), launches))
}
