//! The CUDA twin: uploads a batch, launches `record_ratio.cu`, brings the judgements back.
//!
//! **Invariant:** all series of a call go in one launch where the device's memory holds them, else in as few as it
//! does.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::batch::{Batch, THREADS};
use super::{Point, point_of};
use crate::Series;
use crate::device::{Fault, Gpu};

/// The kernel's source, compiled on first use.
pub(super) const SOURCE: &str = include_str!("record_ratio.cu");
/// Blocks per multiprocessor that a launch is spread over at most.
const BLOCKS_EACH: usize = 16;

/// The judgements of all values.
pub(super) fn score(gpu: &Gpu, series: &Series, seconds: Option<&[i64]>, warm_up: usize) -> Result<Vec<Point>, Fault> {
    let mut points = Vec::with_capacity(series.values().len());
    let mut first = 0;
    // A quarter of the memory is for scratch space; a value comes with its time and three numbers of its judgement.
    let values_max = gpu.budget_bytes()? / 4 * 3 / 40;
    while first < series.len() {
        let end = chunk_end(series.offsets(), first, values_max);
        points.extend(launch(gpu, &Batch::new(series, seconds, first..end, warm_up))?);
        points.truncate(series.offsets()[end]);
        first = end;
    }
    Ok(points)
}

/// Where the chunk that starts at series `first` ends: at least one series, at most `values_max` values.
fn chunk_end(offsets: &[usize], first: usize, values_max: usize) -> usize {
    let fits = offsets[first + 1..].partition_point(|end| end - offsets[first] <= values_max);
    first + fits.max(1)
}

/// One launch.
#[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
fn launch(gpu: &Gpu, batch: &Batch) -> Result<Vec<Point>, Fault> {
    let stream = gpu.stream();
    let function = gpu.function(SOURCE, "record_ratio")?;
    let room = (gpu.budget_bytes()? / 4 / (batch.scratch(1) * size_of::<f64>())).max(1);
    let blocks = (batch.offsets.len() - 1).min(gpu.blocks(BLOCKS_EACH)?).min(room);
    let values = stream.clone_htod(&batch.values)?;
    let offsets = stream.clone_htod(&batch.offsets)?;
    let seconds = stream.clone_htod(&batch.seconds)?;
    let fades = stream.clone_htod(&batch.fades)?;
    let weights = stream.clone_htod(&batch.weights)?;
    let calm = stream.clone_htod(&batch.calm)?;
    let sizes = stream.clone_htod(&batch.sizes)?;
    let mut scratch = stream.alloc_zeros::<f64>(batch.scratch(blocks))?;
    let mut out = stream.alloc_zeros::<f64>(3 * batch.values.len())?;
    let mut call = stream.launch_builder(&function);
    call.arg(&values).arg(&offsets).arg(&seconds).arg(&fades).arg(&weights).arg(&calm).arg(&sizes);
    call.arg(&mut scratch).arg(&mut out);
    let grid = u32::try_from(blocks).map_err(|_| Fault("too many blocks".to_owned()))?;
    let shape = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the nine arguments are those of the kernel, in its order and of its types; `Batch` holds every index in
    // range, and the scratch space is as long as this grid needs.
    unsafe { call.launch(shape) }?;
    Ok(stream.clone_dtoh(&out)?.chunks_exact(3).map(point_of).collect())
}
