//! The CUDA twin: times and sizes go to the device, `beaconing.cu` sorts and scores them, five numbers a pair come back.
//!
//! **Invariant:** pairs are cut into launches that fit the device's memory; a pair's scores do not depend on the cut.

use std::ops::Range;

use super::{Beacon, is_positive};
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::{Device, Series};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("beaconing.cu"), name: "beaconing", threads: 128, blocks_each: 8 };

/// The scores of all pairs.
pub(super) fn score(
    device: &Device,
    gpu: &Gpu,
    times: &Series,
    sizes: &Series,
    span: (f64, f64),
) -> Result<Vec<Beacon>, Fault> {
    if !is_positive(span) {
        return Ok(vec![Beacon::default(); times.len()]);
    }
    let bytes: Vec<usize> = (0..times.len()).map(|pair| 16 * times.get(pair).len() + 64).collect();
    let parts = gpu.run(
        || device.is_stopped(),
        &bytes,
        |lane, pairs| {
            let batch = Batch::new(times, sizes, span, pairs.clone());
            let blocks = gpu.blocks(&KERNEL, pairs.len(), batch.scratch(1) * size_of::<f64>())?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its scratch space is for so many blocks and the longest pair.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks))
            }
        },
        |landing, pairs| landing.read::<f64>(7, 5 * pairs.len()),
    )?;
    Ok(parts.iter().flat_map(|part| part.as_chunks().0.iter().map(beacon_of)).collect())
}

/// The kernel's arguments, for some pairs.
pub(super) struct Batch {
    times: Vec<f64>,
    time_offsets: Vec<i64>,
    sizes: Vec<f64>,
    size_offsets: Vec<i64>,
    span: [f64; 2],
    /// Pairs, and the power of two that is not below any pair's connections.
    sizes_of: [i64; 2],
}

impl Batch {
    pub(super) fn new(times: &Series, sizes: &Series, span: (f64, f64), pairs: Range<usize>) -> Self {
        let longest = pairs.clone().map(|pair| times.get(pair).len()).max().unwrap_or(1);
        let mut batch = Self {
            times: Vec::new(),
            time_offsets: vec![0],
            sizes: Vec::new(),
            size_offsets: vec![0],
            span: [span.0, span.1],
            sizes_of: [pairs.len(), longest.next_power_of_two()].map(|size| size as i64),
        };
        for pair in pairs {
            batch.times.extend(super::known(times.get(pair)));
            batch.time_offsets.push(batch.times.len() as i64);
            batch.sizes.extend(super::counted(sizes.get(pair)));
            batch.size_offsets.push(batch.sizes.len() as i64);
        }
        batch
    }

    /// How many numbers of scratch space so many blocks need.
    fn scratch(&self, blocks: usize) -> usize {
        blocks * 2 * self.sizes_of[1].unsigned_abs() as usize
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 8] {
        [
            Argument::F64(&self.times),
            Argument::I64(&self.time_offsets),
            Argument::F64(&self.sizes),
            Argument::I64(&self.size_offsets),
            Argument::F64(&self.span),
            Argument::I64(&self.sizes_of),
            Argument::Scratch(self.scratch(blocks)),
            Argument::Zeros(5 * (self.time_offsets.len() - 1)),
        ]
    }
}

/// A pair's scores as the device gives them.
pub(super) fn beacon_of(numbers: &[f64; 5]) -> Beacon {
    let [score, interval, size, duration, histogram] = *numbers;
    Beacon { score, interval, size, duration, histogram }
}
