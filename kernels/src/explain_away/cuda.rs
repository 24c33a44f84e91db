//! The CUDA twin: the metrics' values go to the device, how each moved comes back. Ranking is the host's.
//!
//! **Invariant:** metrics are cut into launches that fit the device's memory, each with the symptom's values; how a metric
//! moved does not depend on the cut.

use std::ops::Range;

use super::{Incident, Move};
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::{Device, Series};

/// The kernel.
pub(super) const KERNEL: Kernel =
    Kernel { source: include_str!("explain_away.cu"), name: "explain_away", threads: 64, blocks_each: 16 };

/// How every metric moved.
pub(super) fn moves(device: &Device, gpu: &Gpu, incident: &Incident) -> Result<Vec<Option<Move>>, Fault> {
    let Incident { before, during, .. } = incident;
    let bytes: Vec<usize> = (0..before.len()).map(|i| 8 * (before.get(i).len() + during.get(i).len()) + 64).collect();
    let parts = gpu.run(
        || device.is_stopped(),
        &bytes,
        |lane, metrics| {
            let batch = Batch::new(incident, metrics.clone());
            let blocks = gpu.blocks(&KERNEL, metrics.len().div_ceil(KERNEL.threads), 0)?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's; with a symptom, all metrics have as many values as it has.
            unsafe {
                gpu.submit(lane, &KERNEL, blocks, &batch.arguments())
            }
        },
        |landing, metrics| landing.read::<f64>(6, 5 * metrics.len()),
    )?;
    Ok(parts.iter().flat_map(|part| part.as_chunks().0.iter().map(move_of)).collect())
}

/// The kernel's arguments, for some metrics.
pub(super) struct Batch<'a> {
    before: &'a [f64],
    before_offsets: Vec<i64>,
    during: &'a [f64],
    during_offsets: Vec<i64>,
    symptom: &'a [f64],
    sizes: [i64; 3],
}

impl<'a> Batch<'a> {
    pub(super) fn new(incident: &Incident<'a>, metrics: Range<usize>) -> Self {
        let symptom = incident.symptom.map(|symptom| incident.during.get(symptom));
        let place = incident.symptom.map_or(-1, |symptom| symptom as i64 - metrics.start as i64);
        let (before, before_offsets) = part(&incident.before, metrics.clone());
        let (during, during_offsets) = part(&incident.during, metrics.clone());
        let sizes = [metrics.len() as i64, place, symptom.map_or(-1, |values| values.len() as i64)];
        Self { before, before_offsets, during, during_offsets, symptom: symptom.unwrap_or_default(), sizes }
    }

    pub(super) fn arguments(&self) -> [Argument<'_>; 7] {
        [
            Argument::F64(self.before),
            Argument::I64(&self.before_offsets),
            Argument::F64(self.during),
            Argument::I64(&self.during_offsets),
            Argument::F64(self.symptom),
            Argument::I64(&self.sizes),
            Argument::Zeros(5 * (self.before_offsets.len() - 1)),
        ]
    }
}

/// The values of some series, and where each starts among them.
fn part<'a>(series: &Series<'a>, range: Range<usize>) -> (&'a [f64], Vec<i64>) {
    let offsets = &series.offsets()[range.start..=range.end];
    let (start, end) = (offsets[0], offsets[range.len()]);
    (&series.values()[start..end], offsets.iter().map(|offset| (offset - start) as i64).collect())
}

/// How a metric moved, as the device gives it.
pub(super) fn move_of(numbers: &[f64; 5]) -> Option<Move> {
    let [known, before, during, deviation, correlation] = *numbers;
    (known > 0.0).then_some(Move { before, during, deviation, correlation })
}
