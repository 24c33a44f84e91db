//! The CUDA twin: uploads a batch, launches `robust_residual.cu`, brings the scores back.
//!
//! **Invariant:** all series of a call go in one launch where the device's memory holds them, else in as few as it
//! does.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::batch::{Batch, THREADS};
use super::plan::Look;
use super::ranks::BINS;
use crate::Series;
use crate::device::{Fault, Gpu};

/// The kernel's source, compiled on first use.
pub(super) const SOURCE: &str = include_str!("robust_residual.cu");
/// Blocks per multiprocessor that a launch is spread over at most.
const BLOCKS_EACH: usize = 16;

/// The scores of all values, and how many launches it took.
pub(super) fn score(
    gpu: &Gpu,
    series: &Series,
    looks: &[Vec<Look>],
    warm_up: usize,
    prior: &[f64; BINS],
) -> Result<(Vec<f64>, u64), Fault> {
    let mut scores = Vec::with_capacity(series.values().len());
    let (mut first, mut launches) = (0, 0);
    // A quarter of the memory is for scratch space; a value comes with its score and its share of the profiles.
    let values_max = gpu.budget_bytes()? / 4 * 3 / 24;
    while first < series.len() {
        let end = chunk_end(series.offsets(), first, values_max);
        scores.extend(launch(gpu, &Batch::new(series, looks, first..end, warm_up), prior)?);
        scores.truncate(series.offsets()[end]);
        launches += 1;
        first = end;
    }
    Ok((scores, launches))
}

/// Where the chunk that starts at series `first` ends: at least one series, at most `values_max` values.
fn chunk_end(offsets: &[usize], first: usize, values_max: usize) -> usize {
    let fits = offsets[first + 1..].partition_point(|end| end - offsets[first] <= values_max);
    first + fits.max(1)
}

/// One launch.
#[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
fn launch(gpu: &Gpu, batch: &Batch, prior: &[f64; BINS]) -> Result<Vec<f64>, Fault> {
    let stream = gpu.stream();
    let function = gpu.function(SOURCE, "robust_residual")?;
    let series = batch.offsets.len() - 1;
    let each = batch.scratch(THREADS) * size_of::<f64>();
    let room = (gpu.budget_bytes()? / 4 / each).max(1);
    let blocks = series.div_ceil(THREADS).min(gpu.blocks(BLOCKS_EACH)?).min(room);
    let values = stream.clone_htod(&batch.values)?;
    let offsets = stream.clone_htod(&batch.offsets)?;
    let look_offsets = stream.clone_htod(&batch.look_offsets)?;
    let looks = stream.clone_htod(&batch.looks)?;
    let profiles = stream.clone_htod(&batch.profiles)?;
    let prior = stream.clone_htod(prior)?;
    let sizes = stream.clone_htod(&batch.sizes)?;
    let mut scratch = stream.alloc_zeros::<f64>(batch.scratch(blocks * THREADS))?;
    let mut scores = stream.alloc_zeros::<f64>(batch.values.len())?;
    let mut call = stream.launch_builder(&function);
    call.arg(&values).arg(&offsets).arg(&look_offsets).arg(&looks).arg(&profiles).arg(&prior).arg(&sizes);
    call.arg(&mut scratch).arg(&mut scores);
    let grid = u32::try_from(blocks).map_err(|_| Fault("too many blocks".to_owned()))?;
    let shape = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the nine arguments are those of the kernel, in its order and of its types; `Batch` holds every index in
    // range, and the scratch space is as long as this grid needs.
    unsafe { call.launch(shape) }?;
    Ok(stream.clone_dtoh(&scores)?)
}
