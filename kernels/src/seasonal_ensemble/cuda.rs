//! The CUDA twin: the autoregressions of all series are fitted and rolled out on the device, the other members (profiles,
//! sines and cosines, windows, smoothing, levels), the stacking and the intervals are the host's.
//!
//! **Invariant:** series are cut into launches that fit the device's memory; while the host finishes one launch, the device
//! computes the next. A forecast does not depend on the cut.

use super::cpu;
use super::regressions::{LAGS_MAX, Regressions, Task};
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::seasonal_ar::normal::{LANES, Lanes, triangle};
use crate::seasonal_ar::plan::{Modelled, Plan};
use crate::{Device, lanes};

/// The kernel.
pub(super) const KERNEL: Kernel = Kernel {
    source: include_str!("seasonal_ensemble.cu"),
    name: "seasonal_ensemble",
    threads: LANES * 32,
    blocks_each: 4,
};
/// Histories and autoregressions of a series at most: raw, root, logarithm and three differences; thirteen members.
const HISTORIES_MAX: usize = 6;
const TASKS_MAX: usize = 13;

/// What the twins make of the plans, in their order, and how many launches it took.
pub(super) fn model(
    device: &Device,
    gpu: &Gpu,
    plans: &[&Plan],
    horizon: usize,
) -> Result<(Vec<Modelled>, u64), Fault> {
    let numbers = |plan: &&Plan| HISTORIES_MAX * plan.values.len() + TASKS_MAX * (horizon * LANES + 80);
    let sizes: Vec<usize> = plans.iter().map(|plan| numbers(plan) * size_of::<f64>()).collect();
    let listed = std::cell::RefCell::new(std::collections::VecDeque::new());
    let parts = gpu.run(
        || device.is_stopped(),
        &sizes,
        |lane, items| {
            let plans = &plans[items];
            let regressions = lanes::map(device, plans.len(), || (), |(), i| Regressions::of(plans[i], horizon))?;
            let batch = Batch::new(&regressions, horizon);
            let blocks = gpu.blocks(&KERNEL, batch.tasks, batch.scratch(1) * size_of::<f64>())?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its scratch space is for so many blocks and the largest task.
            let flight = unsafe { gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks)) }?;
            let which = |one: &Regressions| one.tasks.iter().map(Option::is_some).collect::<Vec<bool>>();
            listed.borrow_mut().push_back(regressions.iter().map(which).collect::<Vec<_>>());
            Ok(flight)
        },
        |landing, items| {
            let which = listed.borrow_mut().pop_front().unwrap_or_default();
            let tasks = which.iter().flatten().filter(|is| **is).count();
            let steps = landing.read::<f64>(5, tasks * horizon * LANES)?;
            let plans = &plans[items];
            let fitted = take_apart(&which, &steps, horizon);
            let finish =
                |work: &mut cpu::Work, i: usize| cpu::model_with(work, plans[i], horizon, Some(fitted[i].as_slice()));
            Ok(lanes::map(device, plans.len(), cpu::Work::default, finish)?)
        },
    )?;
    let launches = parts.len() as u64;
    Ok((parts.into_iter().flatten().collect(), launches))
}

/// The kernel's arguments, for some series.
pub(super) struct Batch {
    z: Vec<f64>,
    words: Vec<i64>,
    reals: Vec<f64>,
    sizes: [i64; 4],
    tasks: usize,
    horizon: usize,
}

impl Batch {
    pub(super) fn new(series: &[Regressions], horizon: usize) -> Self {
        let (z, words, reals) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = Self { z, words, reals, sizes: [0; 4], tasks: 0, horizon };
        let (mut longest, mut entries) = (0, 0);
        for one in series {
            let mut starts = Vec::with_capacity(one.histories.len());
            for history in &one.histories {
                starts.push(batch.z.len());
                batch.z.extend(history);
                longest = longest.max(history.len());
            }
            for task in one.tasks.iter().flatten() {
                batch.push(task, starts[task.history], one.histories[task.history].len());
                entries = entries.max(triangle(task.lags.len() + 1, task.lags.len() + 1));
            }
        }
        batch.sizes = [batch.tasks, horizon, longest, entries].map(int);
        batch
    }

    fn push(&mut self, task: &Task, start: usize, length: usize) {
        let mut order: Vec<usize> = (0..LANES).collect();
        order.sort_by_key(|lane| task.ends[*lane]);
        self.words.extend([start, length, task.lags.len(), usize::from(task.absolute)].map(int));
        self.words.extend((0..LAGS_MAX).map(|i| int(task.lags.get(i).copied().unwrap_or(0))));
        self.words.extend(task.ends.map(int));
        self.words.extend(order.into_iter().map(int));
        self.reals.extend([task.ridge, task.decay]);
        self.tasks += 1;
    }

    /// How many numbers of scratch space so many blocks need.
    fn scratch(&self, blocks: usize) -> usize {
        let [_, _, longest, entries] = self.sizes.map(|size| size.unsigned_abs() as usize);
        blocks * (2 * LANES * entries + (1 + LANES) * longest)
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 6] {
        [
            Argument::F64(&self.z),
            Argument::I64(&self.words),
            Argument::F64(&self.reals),
            Argument::I64(&self.sizes),
            Argument::Scratch(self.scratch(blocks)),
            Argument::Zeros(self.tasks * self.horizon * LANES),
        ]
    }
}

/// Every series' autoregressions rolled out, given which of them there are.
pub(super) fn take_apart(which: &[Vec<bool>], steps: &[f64], horizon: usize) -> Vec<Vec<Option<Vec<Lanes>>>> {
    let mut tasks = steps.chunks_exact(horizon * LANES);
    let mut next = |is: &bool| is.then(|| tasks.next().map_or(Vec::new(), |task| task.as_chunks::<LANES>().0.to_vec()));
    which.iter().map(|series| series.iter().map(&mut next).collect()).collect()
}

/// A size as the device takes it.
fn int(size: usize) -> i64 {
    i64::try_from(size).expect("no slice is longer than i64 can say")
}
