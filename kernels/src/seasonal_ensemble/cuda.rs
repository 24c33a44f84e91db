//! The CUDA twin: the fitted members of all series are fitted and rolled out on the device; what is repeated, the levels, the
//! stacking and the intervals are the host's.
//!
//! **Invariant:** series are cut into launches that fit the device's memory; while the host finishes one launch, the device
//! computes the next. A forecast does not depend on the cut.

use super::members::SPECS;
use super::profile::Shape;
use super::tasks::{LAGS_MAX, Task, Tasks};
use super::{cpu, smoothing};
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::seasonal_ar::normal::{LANES, Lanes, triangle};
use crate::seasonal_ar::plan::{Modelled, Plan};
use crate::{Device, lanes};

/// The kernel.
pub(super) const KERNEL: Kernel = Kernel {
    source: concat!(
        include_str!("normal.cu"),
        include_str!("autoregression.cu"),
        include_str!("profile.cu"),
        include_str!("fourier.cu"),
        include_str!("smoothing.cu"),
        include_str!("windows.cu"),
        include_str!("seasonal_ensemble.cu"),
    ),
    name: "seasonal_ensemble",
    threads: LANES * 32,
    blocks_each: 4,
};
/// Histories of a series at most: raw, root, logarithm.
const HISTORIES_MAX: usize = 3;
/// What a task takes beside its steps.
const TASK_WORDS: usize = 8 + LAGS_MAX + 2 * LANES;
const TASK_REALS: usize = 6;

/// What the twins make of the plans, in their order, and how many launches it took.
pub(super) fn model(
    device: &Device,
    gpu: &Gpu,
    plans: &[&Plan],
    horizon: usize,
) -> Result<(Vec<Modelled>, u64), Fault> {
    let tasks_max: usize = SPECS.iter().map(|spec| spec.transforms.len()).sum();
    let each = horizon * LANES + TASK_WORDS + TASK_REALS;
    let numbers = |plan: &&Plan| HISTORIES_MAX * plan.values.len() + tasks_max * each;
    let sizes: Vec<usize> = plans.iter().map(|plan| numbers(plan) * size_of::<f64>()).collect();
    let listed = std::cell::RefCell::new(std::collections::VecDeque::new());
    let parts = gpu.run(
        || device.is_stopped(),
        &sizes,
        |lane, items| {
            let plans = &plans[items];
            let tasks = lanes::map(device, plans.len(), || (), |(), i| Tasks::of(plans[i], horizon))?;
            let batch = Batch::new(&tasks, horizon);
            let blocks = gpu.blocks(&KERNEL, batch.tasks, batch.scratch(1) * size_of::<f64>())?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its scratch space is for so many blocks and the largest task.
            let flight = unsafe { gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks)) }?;
            let which = |one: &Tasks| one.tasks.iter().map(Option::is_some).collect::<Vec<bool>>();
            listed.borrow_mut().push_back(tasks.iter().map(which).collect::<Vec<_>>());
            Ok(flight)
        },
        |landing, items| {
            let which = listed.borrow_mut().pop_front().unwrap_or_default();
            let tasks = which.iter().flatten().filter(|is| **is).count();
            let steps = landing.read::<f64>(STEPS, tasks * horizon * LANES)?;
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
    sets: Vec<f64>,
    sizes: [i64; 7],
    tasks: usize,
    horizon: usize,
}

/// Which of the arguments holds the members rolled out.
pub(super) const STEPS: usize = 6;

impl Batch {
    pub(super) fn new(series: &[Tasks], horizon: usize) -> Self {
        let (two, one) = (smoothing::sets(true), smoothing::sets(false));
        let (z, words, reals) = (Vec::new(), Vec::new(), Vec::new());
        let sets = two.iter().chain(&one).flatten().copied().collect();
        let mut batch = Self { z, words, reals, sets, sizes: [0; 7], tasks: 0, horizon };
        let (mut longest, mut entries, mut own) = (0, 0, 0);
        for one in series {
            let mut starts = Vec::with_capacity(one.histories.len());
            for history in &one.histories {
                starts.push(batch.z.len());
                batch.z.extend(history);
                longest = longest.max(history.len());
            }
            for task in one.tasks.iter().flatten() {
                let length = one.histories[task.history].len();
                batch.push(task, starts[task.history], length);
                entries = entries.max(triangle(task.unknowns(), task.unknowns()));
                own = own.max(task.own(length, horizon));
            }
        }
        let scratch = LANES * (2 * entries + longest) + longest + 1 + own;
        batch.sizes = [batch.tasks, horizon, longest, entries, two.len(), one.len(), scratch].map(int);
        batch
    }

    fn push(&mut self, task: &Task, start: usize, length: usize) {
        let mut order: Vec<usize> = (0..LANES).collect();
        order.sort_by_key(|lane| task.ends[*lane]);
        self.words.extend([task.job as usize, start, length, task.lags.len(), task.others].map(int));
        self.words.extend([task.main, task.outer, task.seasons].map(int));
        self.words.extend((0..LAGS_MAX).map(|i| int(task.lags.get(i).copied().unwrap_or(0))));
        self.words.extend(task.ends.map(int));
        self.words.extend(order.into_iter().map(int));
        let Shape { main_fade, outer_fade, outer_share } = task.shape;
        self.reals.extend([task.ridge, task.ridge_others, task.decay, main_fade, outer_fade, outer_share]);
        self.tasks += 1;
    }

    /// How many numbers of scratch space so many blocks need.
    fn scratch(&self, blocks: usize) -> usize {
        blocks * self.sizes[6].unsigned_abs() as usize
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 7] {
        [
            Argument::F64(&self.z),
            Argument::I64(&self.words),
            Argument::F64(&self.reals),
            Argument::F64(&self.sets),
            Argument::I64(&self.sizes),
            Argument::Scratch(self.scratch(blocks)),
            Argument::Zeros(self.tasks * self.horizon * LANES),
        ]
    }
}

/// Every series' fitted members rolled out, given which of them there are.
pub(super) fn take_apart(which: &[Vec<bool>], steps: &[f64], horizon: usize) -> Vec<Vec<Option<Vec<Lanes>>>> {
    let mut tasks = steps.chunks_exact(horizon * LANES);
    let mut next = |is: &bool| is.then(|| tasks.next().map_or(Vec::new(), |task| task.as_chunks::<LANES>().0.to_vec()));
    which.iter().map(|series| series.iter().map(&mut next).collect()).collect()
}

/// A size as the device takes it.
fn int(size: usize) -> i64 {
    i64::try_from(size).expect("no slice is longer than i64 can say")
}
