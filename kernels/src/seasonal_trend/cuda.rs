//! The CUDA twin: filled series with their seasons' lengths go to the device, their parts come back. Gaps, the search for
//! seasons and their strengths are the host's.
//!
//! **Invariant:** series are cut into launches that fit the device's memory; a series' parts do not depend on the cut.

use super::parts::Parts;
use crate::Device;
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("seasonal_trend.cu"), name: "seasonal_trend", threads: 256, blocks_each: 4 };
/// Trend, two seasons, remainder.
const PARTS: usize = 4;

/// Takes prepared series apart.
pub(super) fn fit(device: &Device, gpu: &Gpu, series: &mut [&mut Parts]) -> Result<(), Fault> {
    let bytes: Vec<usize> = series.iter().map(|parts| (1 + 8 * (1 + PARTS)) * parts.values().len() + 64).collect();
    let fitted = {
        let series: Vec<&Parts> = series.iter().map(|parts| &**parts).collect();
        gpu.run(
            || device.is_stopped(),
            &bytes,
            |lane, items| {
                let batch = Batch::new(&series[items.clone()]);
                let blocks = gpu.blocks(&KERNEL, items.len(), batch.scratch(1) * size_of::<f64>())?;
                #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
                // SAFETY: the arguments of `Batch` are the kernel's, its scratch space is for so many blocks and the longest.
                unsafe {
                    gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks))
                }
            },
            |landing, items| {
                let values: usize = series[items.clone()].iter().map(|parts| parts.values().len()).sum();
                Ok((items, landing.read::<f64>(5, PARTS * values)?))
            },
        )?
    };
    for (items, numbers) in fitted {
        take_apart(&mut series[items], &numbers);
    }
    Ok(())
}

/// The kernel's arguments, for some series.
pub(super) struct Batch {
    values: Vec<f64>,
    known: Vec<u8>,
    shapes: Vec<i64>,
    sizes: [i64; 3],
}

impl Batch {
    pub(super) fn new(series: &[&Parts]) -> Self {
        let longest = series.iter().map(|parts| parts.values().len()).max().unwrap_or(0);
        let mut batch = Self { values: Vec::new(), known: Vec::new(), shapes: Vec::new(), sizes: [0; 3] };
        for parts in series {
            let [main, outer] = parts.lengths();
            batch.shapes.extend([batch.values.len(), parts.values().len(), main, outer].map(|size| size as i64));
            batch.values.extend(parts.values());
            batch.known.extend(parts.known().iter().map(|known| u8::from(*known)));
        }
        batch.sizes = [series.len(), longest, batch.values.len()].map(|size| size as i64);
        batch
    }

    /// How many numbers of scratch space so many blocks need.
    fn scratch(&self, blocks: usize) -> usize {
        blocks * 5 * (self.sizes[1].unsigned_abs() as usize + 1)
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 6] {
        [
            Argument::F64(&self.values),
            Argument::U8(&self.known),
            Argument::I64(&self.shapes),
            Argument::I64(&self.sizes),
            Argument::Scratch(self.scratch(blocks)),
            Argument::Zeros(PARTS * self.values.len()),
        ]
    }
}

/// Hands every series its parts.
pub(super) fn take_apart(series: &mut [&mut Parts], numbers: &[f64]) {
    let all = numbers.len() / PARTS;
    let mut start = 0;
    for parts in series {
        let end = start + parts.values().len();
        parts.set(std::array::from_fn(|part| &numbers[part * all + start..part * all + end]));
        start = end;
    }
}
