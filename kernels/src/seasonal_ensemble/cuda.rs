//! The CUDA twin: the members of all series are fitted, rolled out, weighed and added up on the device; the members that are
//! not fitted, and the intervals, are the host's.
//!
//! **Invariant:** series are cut into launches that fit the device's memory; while the host finishes one launch, the device
//! computes the next. A forecast does not depend on the cut.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::cpu::{self, WIDEN};
use super::members::SPECS;
use super::profile::Shape;
use super::smoothing;
use super::tasks::{LAGS_MAX, MEMBERS_MAX, Task, Tasks};
use crate::device::argument::Argument;
use crate::device::fault::Fault;
use crate::device::gpu::{Gpu, Kernel};
use crate::seasonal_ar::normal::{LANES, triangle};
use crate::seasonal_ar::plan::{Modelled, Plan};
use crate::{Device, lanes};

/// The kernel.
pub(super) const KERNEL: Kernel = Kernel {
    source: concat!(
        include_str!("normal.cu"),
        include_str!("ranks.cu"),
        include_str!("autoregression.cu"),
        include_str!("profile.cu"),
        include_str!("fourier.cu"),
        include_str!("smoothing.cu"),
        include_str!("windows.cu"),
        include_str!("stack.cu"),
        include_str!("seasonal_ensemble.cu"),
    ),
    name: "seasonal_ensemble",
    threads: LANES * 32,
    blocks_each: 4,
};
/// Histories of a series at most: raw, root, logarithm.
const HISTORIES_MAX: usize = 3;
/// What a task takes beside its steps.
const TASK_WORDS: usize = 10 + LAGS_MAX + 2 * LANES;
const TASK_REALS: usize = 9;
/// What a series takes beside its members.
const SERIES_WORDS: usize = 8;

/// What the twins make of the plans, in their order, and how many launches it took.
pub(super) fn model(
    device: &Device,
    gpu: &Gpu,
    plans: &[&Plan],
    horizon: usize,
) -> Result<(Vec<Modelled>, u64), Fault> {
    let tasks_max: usize = SPECS.iter().map(|spec| spec.transforms.len()).sum();
    let sizes: Vec<usize> = plans.iter().map(|plan| size_bytes(plan, horizon, tasks_max)).collect();
    let taken = RefCell::new(VecDeque::new());
    let parts = gpu.run(
        || device.is_stopped(),
        &sizes,
        |lane, items| {
            let plans = &plans[items];
            let series = lanes::map(device, plans.len(), || (), |(), i| Tasks::of(plans[i], horizon))?;
            let batch = Batch::new(&series, horizon);
            let blocks = gpu.blocks(&KERNEL, batch.tasks, batch.scratch(1) * size_of::<f64>())?;
            #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
            // SAFETY: the arguments of `Batch` are the kernel's, its scratch space is for so many blocks and the largest task.
            let flight = unsafe { gpu.submit(lane, &KERNEL, blocks, &batch.arguments(blocks)) }?;
            taken.borrow_mut().push_back(series.iter().map(Tasks::are_for_device).collect::<Vec<bool>>());
            Ok(flight)
        },
        |landing, items| {
            let (plans, taken) = (&plans[items], taken.borrow_mut().pop_front().unwrap_or_default());
            let mean = landing.read::<f64>(MEAN, taken.iter().filter(|is| **is).count() * horizon)?;
            let rolled = plans.iter().zip(&taken).filter(|(_, is)| **is).map(|(plan, _)| rolled_of(plan)).sum();
            let rolled = landing.read::<f64>(ROLLED, rolled)?;
            let left: Vec<&Plan> = plans.iter().zip(&taken).filter(|(_, is)| !**is).map(|(plan, _)| *plan).collect();
            let model = |work: &mut cpu::Work, i: usize| cpu::model(work, left[i], horizon);
            let mut left = lanes::map(device, left.len(), cpu::Work::default, model)?.into_iter();
            let on_device = take_apart(plans, &taken, &mean, &rolled, horizon).into_iter();
            Ok(on_device.filter_map(|one| one.or_else(|| left.next())).collect::<Vec<_>>())
        },
    )?;
    let launches = parts.len() as u64;
    Ok((parts.into_iter().flatten().collect(), launches))
}

/// How many bytes a series takes on the device at most.
fn size_bytes(plan: &Plan, horizon: usize, tasks_max: usize) -> usize {
    let members = MEMBERS_MAX * horizon * LANES + tasks_max * (TASK_WORDS + TASK_REALS);
    (HISTORIES_MAX * plan.values.len() + members + horizon + 2 * rolled_of(plan)) * size_of::<f64>()
}

/// How many numbers the origins' forecasts of a series take.
fn rolled_of(plan: &Plan) -> usize {
    (plan.cuts.len() - 1) * plan.steps
}

/// The kernel's arguments, for some series.
#[derive(Default)]
pub(super) struct Batch {
    z: Vec<f64>,
    words: Vec<i64>,
    reals: Vec<f64>,
    sets: Vec<f64>,
    series: Vec<i64>,
    bounds: Vec<f64>,
    fixed: Vec<f64>,
    actual: Vec<f64>,
    sizes: [i64; 7],
    tasks: usize,
    horizon: usize,
}

/// Which of the arguments hold the fitted members, the forecasts and those of the origins.
#[cfg(test)]
pub(super) const FITTED: usize = 11;
pub(super) const MEAN: usize = 12;
pub(super) const ROLLED: usize = 13;

impl Batch {
    /// Lays out the series that are for the device.
    pub(super) fn new(series: &[Tasks], horizon: usize) -> Self {
        let (two, one) = (smoothing::sets(true), smoothing::sets(false));
        let mut batch = Self { sets: two.iter().chain(&one).flatten().copied().collect(), horizon, ..Self::default() };
        let (mut longest, mut entries, mut own) = (0, 0, MEMBERS_MAX * MEMBERS_MAX);
        for one in series.iter().filter(|one| one.are_for_device()) {
            batch.push(one);
            longest = one.histories.iter().map(Vec::len).fold(longest, usize::max);
            for task in one.tasks.iter().flatten() {
                entries = entries.max(triangle(task.unknowns(), task.unknowns()));
                own = own.max(task.own(one.histories[task.history].len(), horizon));
            }
        }
        let scratch = LANES * (2 * entries + longest) + longest + 1 + own;
        batch.sizes = [batch.tasks, horizon, longest, entries, two.len(), one.len(), scratch].map(int);
        batch
    }

    fn push(&mut self, one: &Tasks) {
        let (number, first) = (self.series.len() / SERIES_WORDS, self.tasks);
        let (fixed, origins) = (self.fixed.len() / (self.horizon * LANES), one.actual.len() / one.steps);
        let starts: Vec<usize> = one
            .histories
            .iter()
            .scan(self.z.len(), |end, z| {
                *end += z.len();
                Some(*end - z.len())
            })
            .collect();
        self.z.extend(one.histories.iter().flatten());
        for task in one.tasks.iter().flatten() {
            self.push_task(task, number, starts[task.history], one.histories[task.history].len());
        }
        self.series.extend([first, self.tasks - first, fixed, one.unfitted.len(), origins, one.steps].map(int));
        self.series.extend([self.actual.len(), usize::from(one.median_counts)].map(int));
        self.bounds.extend(one.bounds.iter().flat_map(|(low, high)| [low, high]));
        self.fixed.extend(one.unfitted.iter().flatten().flatten());
        self.actual.extend(&one.actual);
    }

    fn push_task(&mut self, task: &Task, series: usize, start: usize, length: usize) {
        let mut order: Vec<usize> = (0..LANES).collect();
        order.sort_by_key(|lane| task.ends[*lane]);
        self.words.extend([task.job as usize, start, length, task.lags.len(), task.others].map(int));
        self.words.extend([task.main, task.outer, task.seasons, task.transform as usize, series].map(int));
        self.words.extend((0..LAGS_MAX).map(|i| int(task.lags.get(i).copied().unwrap_or(0))));
        self.words.extend(task.ends.map(int));
        self.words.extend(order.into_iter().map(int));
        let Shape { main_fade, outer_fade, outer_share } = task.shape;
        self.reals.extend([task.ridge, task.ridge_others, task.decay, main_fade, outer_fade, outer_share]);
        self.reals.extend([task.centre, task.spread, task.offset]);
        self.tasks += 1;
    }

    /// How many numbers of scratch space so many blocks need.
    fn scratch(&self, blocks: usize) -> usize {
        blocks * self.sizes[6].unsigned_abs() as usize
    }

    pub(super) fn arguments(&self, blocks: usize) -> [Argument<'_>; 14] {
        let series = self.series.len() / SERIES_WORDS;
        [
            Argument::F64(&self.z),
            Argument::I64(&self.words),
            Argument::F64(&self.reals),
            Argument::F64(&self.sets),
            Argument::I64(&self.series),
            Argument::F64(&self.bounds),
            Argument::F64(&self.fixed),
            Argument::F64(&self.actual),
            Argument::I64(&self.sizes),
            Argument::Scratch(self.scratch(blocks)),
            Argument::ZeroInts(series),
            Argument::Scratch(self.tasks * self.horizon * LANES),
            Argument::Scratch(series * self.horizon),
            Argument::Scratch(self.actual.len()),
        ]
    }
}

/// Hands every series that the device took its part of the kernel's results.
pub(super) fn take_apart(
    plans: &[&Plan],
    taken: &[bool],
    mean: &[f64],
    mut rolled: &[f64],
    horizon: usize,
) -> Vec<Option<Modelled>> {
    let mut means = mean.chunks_exact(horizon);
    let mut one = |plan: &Plan| {
        let own = rolled.split_off(..rolled_of(plan))?;
        Some(Modelled { mean: means.next()?.to_vec(), rolled: own.to_vec(), widen: WIDEN })
    };
    plans.iter().zip(taken).map(|(plan, taken)| if *taken { one(plan) } else { None }).collect()
}

/// A size as the device takes it.
fn int(size: usize) -> i64 {
    i64::try_from(size).expect("no slice is longer than i64 can say")
}
