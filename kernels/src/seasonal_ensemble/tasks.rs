//! The members of a series, laid out for a device: the fitted ones as tasks, each on which history, with which lags, seasons and
//! constants, from which ends; the others as they are.
//!
//! **Invariant:** fits nothing; lists what `cpu.rs` would fit, in its order, and leaves out what it would leave out.

use super::cpu::{self, season_of};
use super::frame::{Frame, Member, Scaled, Transform};
use super::lags::Lags;
use super::members::{Kind, SPECS};
use super::profile::{self, Shape};
use super::{fourier, smoothing, windows};
use crate::seasonal_ar::normal::LANES;
use crate::seasonal_ar::plan::{Plan, RIDGE_INTERCEPT};

/// The most lags of one member: those of a dense set with a long season and an outer one that is no week.
pub(super) const LAGS_MAX: usize = 49;
/// The most unknowns of one member.
const UNKNOWNS_MAX: usize = 64;

/// The most members of one series.
pub(super) const MEMBERS_MAX: usize = 40;

/// What the device does for a task, by the number that the kernel knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Ridge autoregression.
    Plain,
    /// The same by least absolute deviations.
    Absolute,
    /// Ridge autoregression on the differences to the main season before, added up again.
    Difference,
    Profile,
    Fourier,
    Windows,
    Smoothing,
}

/// The members of one series.
pub(super) struct Tasks {
    /// The standardised history under each transform.
    pub(super) histories: Vec<Vec<f64>>,
    /// One for each fitted member, in their order; `None` for one that the series does not allow.
    pub(super) tasks: Vec<Option<Task>>,
    /// The members that are not fitted, which come first.
    pub(super) unfitted: Vec<Member>,
    /// What came at the origins' steps, origin by origin, and how many steps each has.
    pub(super) actual: Vec<f64>,
    pub(super) steps: usize,
    pub(super) bounds: [(f64, f64); LANES],
    /// Whether the weighted median counts as much as the mean.
    pub(super) median_counts: bool,
}

/// One fitted member.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) job: Job,
    /// Which of the histories, and how its values come back to the units of the series.
    pub(super) history: usize,
    pub(super) transform: Transform,
    pub(super) centre: f64,
    pub(super) spread: f64,
    pub(super) offset: f64,
    pub(super) lags: Vec<usize>,
    /// Columns of a regression beside the lags: the intercept, or the constant and the waves.
    pub(super) others: usize,
    pub(super) ends: [usize; LANES],
    /// The seasons that the member knows, 0 where it knows none.
    pub(super) main: usize,
    pub(super) outer: usize,
    /// How many seasons: those of a window, or those that smoothing tells apart.
    pub(super) seasons: usize,
    pub(super) ridge: f64,
    /// The penalty per row on the columns beside the lags.
    pub(super) ridge_others: f64,
    /// A row weighs e^decay times the one before it.
    pub(super) decay: f64,
    pub(super) shape: Shape,
}

impl Tasks {
    /// Lists the members of a plan.
    pub(super) fn of(plan: &Plan, horizon: usize) -> Self {
        let frame = Frame::new(plan, horizon);
        let mut all = Self {
            histories: Vec::new(),
            tasks: Vec::new(),
            unfitted: cpu::unfitted(plan, &frame),
            actual: cpu::actual(plan, &frame),
            steps: plan.steps,
            bounds: frame.bounds,
            median_counts: cpu::median_counts(plan),
        };
        for transform in [Transform::Raw, Transform::Sqrt, Transform::Log] {
            let Some(scaled) = frame.scaled(transform) else { continue };
            let history = all.histories.len();
            let specs = SPECS.iter().filter(|spec| spec.transforms.contains(&transform));
            all.tasks.extend(specs.map(|spec| Task::of(&frame, &scaled, history, spec.kind)));
            all.histories.push(scaled.z[..frame.values.len()].to_vec());
        }
        all
    }

    /// How many members there are.
    pub(super) fn members(&self) -> usize {
        self.unfitted.len() + self.tasks.iter().flatten().count()
    }

    /// Whether the device can take the series: one of which nothing is fitted is the host's.
    pub(super) fn are_for_device(&self) -> bool {
        self.tasks.iter().any(Option::is_some) && self.members() <= MEMBERS_MAX
    }
}

impl Task {
    fn of(frame: &Frame, scaled: &Scaled, history: usize, kind: Kind) -> Option<Self> {
        let blank = |job: Job| Self {
            job,
            history,
            transform: scaled.transform,
            centre: scaled.centre,
            spread: scaled.spread,
            offset: frame.offset.unwrap_or(0.0),
            lags: Vec::new(),
            others: 1,
            ends: frame.ends,
            main: frame.main,
            outer: 0,
            seasons: 0,
            ridge: 0.0,
            ridge_others: RIDGE_INTERCEPT,
            decay: 0.0,
            shape: Shape { main_fade: 0.0, outer_fade: 0.0, outer_share: 0.0 },
        };
        let task = match kind {
            Kind::Ar { lags, ridge, decay, absolute } => {
                let job = if absolute { Job::Absolute } else { Job::Plain };
                let lags = lags.before(frame, frame.shortest)?;
                Self { lags, ridge, decay: frame.decay(decay), ..blank(job) }
            }
            Kind::Difference { outer, lags, ridge } => {
                Self::difference(frame, blank(Job::Difference), outer, lags, ridge)?
            }
            Kind::Profile { shape, lags, ridge } => {
                let lags = profile::lags_of(frame, lags)?;
                Self { lags, ridge, shape, outer: profile::outer_of(frame), ..blank(Job::Profile) }
            }
            Kind::Fourier { lags, ridge, ridge_waves } => {
                let (lags, others) = (fourier::lags_of(frame, lags)?, fourier::columns_of(frame));
                Self { lags, others, ridge, ridge_others: ridge_waves, outer: frame.outer, ..blank(Job::Fourier) }
            }
            Kind::Windows { seasons } => {
                windows::are_enough(frame, seasons).then(|| Self { seasons, ..blank(Job::Windows) })?
            }
            Kind::Smoothing => {
                let outer = smoothing::outer_of(frame)?;
                Self { outer, seasons: 1 + usize::from(frame.outer > 0), ..blank(Job::Smoothing) }
            }
        };
        (task.lags.len() <= LAGS_MAX && task.unknowns() <= UNKNOWNS_MAX).then_some(task)
    }

    fn difference(frame: &Frame, blank: Self, outer: bool, lags: Lags, ridge: f64) -> Option<Self> {
        let main = season_of(frame, outer)?;
        let lags = lags.before(frame, frame.shortest - main)?;
        Some(Self { lags, main, ridge, ends: frame.ends.map(|end| end - main), ..blank })
    }

    /// Unknowns of the task's regression.
    pub(super) fn unknowns(&self) -> usize {
        self.lags.len() + self.others
    }

    /// How many numbers the device needs beside systems and rows, for a history of `n` values.
    pub(super) fn own(&self, n: usize, horizon: usize) -> usize {
        let places = self.main + self.outer;
        match self.job {
            Job::Plain | Job::Absolute | Job::Windows => 0,
            Job::Difference => n,
            Job::Profile => LANES * places + n + 1,
            Job::Fourier => (n + horizon) * self.others,
            Job::Smoothing => {
                let sets = smoothing::sets(self.seasons == 2).len();
                places * (1 + sets) + LANES * sets
            }
        }
    }
}
