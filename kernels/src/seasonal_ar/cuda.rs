//! The CUDA twin: uploads the plans, launches `seasonal_ar.cu`, brings the forecasts back.
//!
//! **Invariant:** all series of a call go in one launch where the device's memory holds them, else in as few as it
//! does.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::batch::{Batch, THREADS};
use super::plan::{Modelled, Plan, RIDGES};
use crate::device::{Fault, Gpu};

/// The kernel's source, compiled on first use.
pub(super) const SOURCE: &str = include_str!("seasonal_ar.cu");
/// Blocks per multiprocessor that a launch is spread over at most.
const BLOCKS_EACH: usize = 4;

/// What the kernel makes of the plans, in their order, and how many launches it took.
pub(super) fn model(gpu: &Gpu, plans: &[&Plan], horizon: usize) -> Result<(Vec<Modelled>, u64), Fault> {
    let mut modelled = Vec::with_capacity(plans.len());
    let mut launches = 0;
    let mut rest = plans;
    while !rest.is_empty() {
        // A quarter of the memory is for scratch space.
        let (chunk, after) = rest.split_at(chunk(rest, horizon, gpu.budget_bytes()? / 4 * 3 / size_of::<f64>()));
        modelled.extend(launch(gpu, chunk, horizon)?);
        launches += 1;
        rest = after;
    }
    Ok((modelled, launches))
}

/// How many of the plans go into one launch: at least one, with what they take within `room` numbers.
fn chunk(plans: &[&Plan], horizon: usize, room: usize) -> usize {
    let each = |plan: &&Plan| plan.values.len() + plan.cuts.len() * plan.steps + horizon + 100;
    let fits = plans.iter().scan(0, |taken, plan| {
        *taken += each(plan);
        (*taken <= room).then_some(())
    });
    fits.count().max(1)
}

/// One launch.
#[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
fn launch(gpu: &Gpu, plans: &[&Plan], horizon: usize) -> Result<Vec<Modelled>, Fault> {
    let stream = gpu.stream();
    let function = gpu.function(SOURCE, "seasonal_ar")?;
    let batch = Batch::new(plans, horizon);
    let longest = plans.iter().map(|plan| plan.values.len()).max().unwrap_or(0);
    let each = Batch::scratch(longest, horizon);
    let room = (gpu.budget_bytes()? / 4 / size_of::<f64>() / each).max(1);
    let blocks = plans.len().min(gpu.blocks(BLOCKS_EACH)?).min(room);
    let values = stream.clone_htod(&batch.values)?;
    let shapes = stream.clone_htod(&batch.shapes)?;
    let levels = stream.clone_htod(&batch.levels)?;
    let ridges = stream.clone_htod(&RIDGES)?;
    let sizes = stream.clone_htod(&batch.sizes)?;
    let mut scratch = stream.alloc_zeros::<f64>(blocks * each)?;
    let mut mean = stream.alloc_zeros::<f64>(plans.len() * horizon)?;
    let mut rolled = stream.alloc_zeros::<f64>(batch.rolled)?;
    let mut call = stream.launch_builder(&function);
    call.arg(&values).arg(&shapes).arg(&levels).arg(&ridges).arg(&sizes);
    call.arg(&mut scratch).arg(&mut mean).arg(&mut rolled);
    let grid = u32::try_from(blocks).map_err(|_| Fault("too many blocks".to_owned()))?;
    let shape = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the eight arguments are those of the kernel, in its order and of its types; `Batch` holds every index in
    // range, and the scratch space is as long as this grid needs.
    unsafe { call.launch(shape) }?;
    let (mean, rolled) = (stream.clone_dtoh(&mean)?, stream.clone_dtoh(&rolled)?);
    Ok(Batch::take_apart(plans, &mean, &rolled, horizon))
}
