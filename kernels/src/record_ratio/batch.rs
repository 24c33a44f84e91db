//! A batch of series laid out flat for `record_ratio.cu`.
//!
//! **Invariant:** copies, computes nothing; the host shim of the tests gets the same arrays as a device.

use super::model::{Scales, WEIGHTS};
use super::neighbours::MEMORY_POINTS;
use super::rate::CALM;
use crate::Series;
use crate::device::argument::Argument;

/// Threads of one block: they share the search for neighbours.
pub(super) const THREADS: usize = 64;
/// Numbers of scratch space that do not depend on the warm-up: half hours, hours, sequences, rates.
const FIXED: usize = 2 * 48 + 2 * 168 + 8_192 + 64;

/// The kernel's arguments in its own order, for the series of a range.
pub(super) struct Batch {
    values: Vec<f64>,
    offsets: Vec<i64>,
    seconds: Vec<i64>,
    fades: Vec<f64>,
    weights: Vec<f64>,
    calm: Vec<f64>,
    sizes: Vec<i64>,
}

impl Batch {
    /// Lays out `range` of the series.
    pub(super) fn new(series: &Series, seconds: Option<&[i64]>, range: std::ops::Range<usize>, warm_up: usize) -> Self {
        let places = series.offsets()[range.start]..series.offsets()[range.end];
        let scales = Scales::of(warm_up);
        let mut pools = [1; 3];
        pools[..scales.pools.len()].copy_from_slice(&scales.pools);
        let sizes = [
            range.len(),
            warm_up,
            scales.pools.len(),
            pools[0],
            pools[1],
            pools[2],
            scales.brief,
            scales.short,
            scales.gate,
            scales.grams,
            usize::from(seconds.is_some()),
            scratch(&scales),
        ];
        Self {
            values: series.values()[places.clone()].to_vec(),
            offsets: series.offsets()[range.start..=range.end]
                .iter()
                .map(|offset| int(offset - places.start))
                .collect(),
            seconds: seconds.map_or_else(Vec::new, |seconds| seconds[places].to_vec()),
            fades: vec![scales.fade, scales.rate_fade],
            weights: WEIGHTS.to_vec(),
            calm: CALM.iter().flat_map(|(strength, rate)| [*strength, *rate]).collect(),
            sizes: sizes.map(int).to_vec(),
        }
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 9] {
        [
            Argument::F64(&self.values),
            Argument::I64(&self.offsets),
            Argument::I64(&self.seconds),
            Argument::F64(&self.fades),
            Argument::F64(&self.weights),
            Argument::F64(&self.calm),
            Argument::I64(&self.sizes),
            Argument::Zeros(self.scratch(blocks)),
            Argument::Zeros(3 * self.values.len()),
        ]
    }

    /// How many numbers of scratch space so many blocks need.
    pub(super) fn scratch(&self, blocks: usize) -> usize {
        blocks * usize::try_from(self.sizes[11]).expect("a length")
    }
}

/// Numbers of scratch space of one block.
fn scratch(scales: &Scales) -> usize {
    let rolling = scales.brief + 6 * scales.short + scales.grams;
    rolling + FIXED + 2 * (scales.gate + 2) + scales.pools.len() * 2 * MEMORY_POINTS
}

/// A size as the device takes it.
fn int(size: usize) -> i64 {
    i64::try_from(size).expect("no slice is longer than i64 can say")
}
