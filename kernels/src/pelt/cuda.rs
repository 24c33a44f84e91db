//! The CUDA twin: the sums at every bound go to the device, where the last segments start comes back. Noise, outliers and
//! refinement are the host's.
//!
//! **Invariant:** series are cut into launches that fit the device's memory; a segmentation does not depend on the cut.

use super::search::Prepared;
use crate::Device;
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("pelt.cu"), name: "pelt", threads: 128, blocks_each: 8 };

/// Where the segments of the best segmentation of each series end.
pub(super) fn segments(device: &Device, gpu: &Gpu, series: &[&Prepared]) -> Result<Vec<Vec<usize>>, Fault> {
    let bytes: Vec<usize> = series.iter().map(|one| 24 * one.bounds() + 64).collect();
    let parts = gpu.run(
        || device.is_stopped(),
        &bytes,
        |lane, items| {
            let batch = Batch::new(&series[items.clone()]);
            let blocks = gpu.blocks(&KERNEL, items.len(), batch.scratch(1) * size_of::<f64>())?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its scratch space is for so many blocks and the longest series.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks))
            }
        },
        |landing, items| {
            let series = &series[items];
            let lasts = landing.read::<f64>(5, series.iter().map(|one| one.bounds()).sum())?;
            Ok(take_apart(series, &lasts))
        },
    )?;
    Ok(parts.concat())
}

/// The kernel's arguments, for some series.
pub(super) struct Batch {
    sums: Vec<f64>,
    shapes: Vec<i64>,
    costs: Vec<f64>,
    sizes: [i64; 2],
}

impl Batch {
    pub(super) fn new(series: &[&Prepared]) -> Self {
        let longest = series.iter().map(|one| one.bounds()).max().unwrap_or(1);
        let sizes = [series.len(), longest].map(|size| size as i64);
        let mut batch = Self { sums: Vec::new(), shapes: Vec::new(), costs: Vec::new(), sizes };
        for one in series {
            let shape = [batch.sums.len() / 2, one.bounds() - 1, one.least_blocks(), one.block, one.count()];
            batch.shapes.extend(shape.map(|size| size as i64));
            batch.sums.extend(one.sums_at_bounds().as_flattened());
            batch.costs.push(one.cost);
        }
        batch
    }

    /// How many numbers of scratch space so many blocks need.
    fn scratch(&self, blocks: usize) -> usize {
        blocks * 4 * self.sizes[1].unsigned_abs() as usize
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 6] {
        [
            Argument::F64(&self.sums),
            Argument::I64(&self.shapes),
            Argument::F64(&self.costs),
            Argument::I64(&self.sizes),
            Argument::Scratch(self.scratch(blocks)),
            Argument::Zeros(self.sums.len() / 2),
        ]
    }
}

/// Every series' ends, from where its last segments start.
pub(super) fn take_apart(series: &[&Prepared], lasts: &[f64]) -> Vec<Vec<usize>> {
    let mut rest = lasts;
    let mut next = |one: &&Prepared| {
        let (own, after) = rest.split_at(one.bounds());
        rest = after;
        one.ends(|place| own[place] as usize)
    };
    series.iter().map(&mut next).collect()
}
