//! A batch of series and what was found out about them, laid out flat for `robust_residual.cu`.
//!
//! **Invariant:** copies, computes nothing; the host shim of the tests gets the same arrays as a device.

use super::plan::Look;
use super::ranks::BINS;
use crate::Series;
use crate::device::argument::Argument;

/// Threads of one block.
pub(super) const THREADS: usize = 64;

/// The kernel's arguments in its own order, for the series `first..first + sizes[0]`.
pub(super) struct Batch {
    values: Vec<f64>,
    offsets: Vec<i64>,
    look_offsets: Vec<i64>,
    looks: Vec<i64>,
    profiles: Vec<f64>,
    sizes: Vec<i64>,
}

impl Batch {
    /// Lays out `range` of the series, whose looks stand at the same places.
    pub(super) fn new(series: &Series, looks: &[Vec<Look>], range: std::ops::Range<usize>, warm_up: usize) -> Self {
        let start = series.offsets()[range.start];
        let mut batch = Self {
            values: series.values()[start..series.offsets()[range.end]].to_vec(),
            offsets: series.offsets()[range.start..=range.end].iter().map(|offset| int(offset - start)).collect(),
            look_offsets: vec![0],
            looks: Vec::new(),
            profiles: Vec::new(),
            sizes: vec![int(range.len()), int(warm_up), 1],
        };
        for looks in &looks[range] {
            for look in looks {
                batch.push(look);
            }
            let words = int(batch.looks.len());
            batch.look_offsets.push(words / LOOK_WORDS);
        }
        batch
    }

    fn push(&mut self, look: &Look) {
        self.looks.extend([look.at, look.from].map(int));
        for profile in [&look.main, &look.outer] {
            self.looks.extend([self.profiles.len(), profile.len()].map(int));
            self.profiles.extend(profile);
            self.sizes[2] = self.sizes[2].max(int(profile.len()));
        }
    }

    pub(super) fn arguments<'a>(&'a self, prior: &'a [f64; BINS], blocks: usize) -> [Argument<'a>; 9] {
        [
            Argument::F64(&self.values),
            Argument::I64(&self.offsets),
            Argument::I64(&self.look_offsets),
            Argument::I64(&self.looks),
            Argument::F64(&self.profiles),
            Argument::F64(prior),
            Argument::I64(&self.sizes),
            Argument::Zeros(self.scratch(blocks * THREADS)),
            Argument::Zeros(self.values.len()),
        ]
    }

    /// How many numbers of scratch space `threads` threads need.
    pub(super) fn scratch(&self, threads: usize) -> usize {
        threads * 2 * (BINS + usize::try_from(self.sizes[2]).expect("a length"))
    }
}

/// The integers that describe one look.
const LOOK_WORDS: i64 = 6;

/// A size as the device takes it.
fn int(size: usize) -> i64 {
    i64::try_from(size).expect("no slice is longer than i64 can say")
}
