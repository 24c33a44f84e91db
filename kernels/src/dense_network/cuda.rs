//! The CUDA twin of the forward pass: rows and weights go to the device, `dense_network.cu` runs the layers, outputs come back.
//!
//! **Invariant:** rows are cut into launches that fit the device's memory; a row's outputs do not depend on the cut.

use std::ops::Range;

use super::Network;
use crate::Device;
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};

/// The kernel; its threads stride over the outputs of a layer.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("dense_network.cu"), name: "dense_network", threads: 64, blocks_each: 16 };

/// The outputs of all rows, and how many launches it took.
pub(super) fn forward(
    device: &Device,
    gpu: &Gpu,
    network: &Network,
    inputs: &[f64],
    rows: usize,
) -> Result<(Vec<f64>, u64), Fault> {
    let each = (network.inputs() + network.outputs()) * size_of::<f64>();
    let parts = gpu.run(
        || device.is_stopped(),
        &vec![each; rows],
        |lane, rows| {
            let batch = Batch::new(network, inputs, rows);
            let blocks = gpu.blocks(&KERNEL, batch.rows, 0)?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's; inputs, parameters and outputs are as long as the sizes say,
            // and a network's widths are at most the kernel's WIDTH_MAX.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments())
            }
        },
        |landing, rows| landing.read::<f64>(3, rows.len() * network.outputs()),
    )?;
    let launches = parts.len() as u64;
    Ok((parts.concat(), launches))
}

/// The kernel's arguments, for some rows.
pub(super) struct Batch<'a> {
    rows: usize,
    inputs: &'a [f64],
    network: &'a Network,
    /// Rows, how many widths, the widths.
    sizes: Vec<i64>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(network: &'a Network, inputs: &'a [f64], rows: Range<usize>) -> Self {
        let count = rows.len();
        let sizes = [count, network.widths().len()].iter().chain(network.widths()).map(|size| *size as i64).collect();
        let width = network.inputs();
        Self { rows: count, inputs: &inputs[rows.start * width..rows.end * width], network, sizes }
    }

    pub(super) fn arguments(&self) -> [Argument<'_>; 4] {
        [
            Argument::F64(self.inputs),
            Argument::F64(self.network.parameters()),
            Argument::I64(&self.sizes),
            Argument::Zeros(self.rows * self.network.outputs()),
        ]
    }
}
