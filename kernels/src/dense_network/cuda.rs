//! The CUDA twin of the forward pass: uploads rows and weights, launches `dense_network.cu`, brings the outputs back.
//!
//! **Invariant:** all rows of a call go in one launch where the device's memory holds them, else in as few as it does.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::Network;
use crate::device::{Fault, Gpu};

/// The kernel's source, compiled on first use.
pub(super) const SOURCE: &str = include_str!("dense_network.cu");
/// Lanes of a warp: a block is so many threads or a multiple.
const WARP: usize = 32;
/// Blocks per multiprocessor that a launch is spread over at most.
const BLOCKS_EACH: usize = 16;

/// The outputs of all rows, and how many launches it took.
pub(super) fn forward(gpu: &Gpu, network: &Network, inputs: &[f64], rows: usize) -> Result<(Vec<f64>, u64), Fault> {
    let each = (network.inputs() + network.outputs()) * size_of::<f64>();
    let weights = size_of_val(network.parameters());
    let rows_max = (gpu.budget_bytes()?.saturating_sub(weights) / each).max(1);
    let (mut values, mut launches) = (Vec::with_capacity(rows * network.outputs()), 0);
    for part in inputs.chunks(rows_max * network.inputs()) {
        values.extend(launch(gpu, network, part)?);
        launches += 1;
    }
    Ok((values, launches))
}

/// The sizes as the device takes them: rows, how many widths, the widths.
pub(super) fn sizes(network: &Network, rows: usize) -> Vec<i64> {
    [rows, network.widths().len()].iter().chain(network.widths()).map(|size| *size as i64).collect()
}

/// Threads of a block: the widest layer in whole warps.
pub(super) fn threads(network: &Network) -> usize {
    network.widths().iter().max().map_or(WARP, |width| width.next_multiple_of(WARP))
}

/// One launch, of at least one row.
#[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
fn launch(gpu: &Gpu, network: &Network, inputs: &[f64]) -> Result<Vec<f64>, Fault> {
    let stream = gpu.stream();
    let function = gpu.function(SOURCE, "dense_network")?;
    let rows = inputs.len() / network.inputs();
    let blocks = rows.min(gpu.blocks(BLOCKS_EACH)?);
    let inputs = stream.clone_htod(inputs)?;
    let parameters = stream.clone_htod(network.parameters())?;
    let sizes = stream.clone_htod(&sizes(network, rows))?;
    let mut outputs = stream.alloc_zeros::<f64>(rows * network.outputs())?;
    let mut call = stream.launch_builder(&function);
    call.arg(&inputs).arg(&parameters).arg(&sizes).arg(&mut outputs);
    let grid = u32::try_from(blocks).map_err(|_| Fault("too many blocks".to_owned()))?;
    let block = u32::try_from(threads(network)).map_err(|_| Fault("too many threads".to_owned()))?;
    let shape = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (block, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the four arguments are those of the kernel, in its order and of its types; inputs, parameters and outputs are
    // as long as the sizes say, and a network's widths are at most the kernel's WIDTH_MAX.
    unsafe { call.launch(shape) }?;
    Ok(stream.clone_dtoh(&outputs)?)
}
