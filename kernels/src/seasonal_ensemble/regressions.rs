//! The members that are autoregressions, laid out for a device: on which history, with which lags, from which ends.
//!
//! **Invariant:** fits nothing; lists what `cpu.rs` would fit, in its order, and leaves out what it would leave out.

use super::cpu::{differences, season_of};
use super::frame::{Frame, Transform};
use super::lags::Lags;
use super::members::{Kind, SPECS};
use crate::seasonal_ar::normal::LANES;
use crate::seasonal_ar::plan::Plan;
use crate::seasonal_ar::ridge::BLOCK;

/// The most lags of one member: those of a dense set with a long season and an outer one that is no week.
pub(super) const LAGS_MAX: usize = 49;

/// The autoregressions of one series.
pub(super) struct Regressions {
    /// Standardised histories and differences of them.
    pub(super) histories: Vec<Vec<f64>>,
    /// One for each autoregression among the members, in their order; `None` for one that the series does not allow.
    pub(super) tasks: Vec<Option<Task>>,
}

/// One autoregression.
pub(super) struct Task {
    /// Which of the histories.
    pub(super) history: usize,
    pub(super) lags: Vec<usize>,
    pub(super) ends: [usize; LANES],
    pub(super) ridge: f64,
    /// A row weighs e^decay times the one before it.
    pub(super) decay: f64,
    /// Whether by least absolute deviations.
    pub(super) absolute: bool,
}

impl Task {
    fn with(mut self, lags: Vec<usize>) -> Self {
        self.lags = lags;
        self
    }
}

impl Regressions {
    /// Lists the autoregressions of a plan.
    pub(super) fn of(plan: &Plan, horizon: usize) -> Self {
        let frame = Frame::new(plan, horizon);
        let mut all = Self { histories: Vec::new(), tasks: Vec::new() };
        for transform in [Transform::Raw, Transform::Sqrt, Transform::Log] {
            let Some(scaled) = frame.scaled(transform) else { continue };
            let mut z = scaled.z;
            z.truncate(z.len() - BLOCK);
            let history = all.histories.len();
            all.histories.push(z);
            for spec in SPECS.iter().filter(|spec| spec.transforms.contains(&transform)) {
                match spec.kind {
                    Kind::Ar { lags, ridge, decay, absolute } => {
                        let decay = frame.decay(decay);
                        all.push(
                            &frame,
                            lags,
                            Task { history, lags: Vec::new(), ends: frame.ends, ridge, decay, absolute },
                        );
                    }
                    Kind::Difference { outer, lags, ridge } => all.push_difference(&frame, history, outer, lags, ridge),
                    _ => {}
                }
            }
        }
        all
    }

    /// Adds a task with the lags of a set, where they leave rows to fit.
    fn push(&mut self, frame: &Frame, lags: Lags, task: Task) {
        let shortest = task.ends.iter().copied().min().unwrap_or(0);
        let fits = |lags: &Vec<usize>| lags.len() <= LAGS_MAX && lags.last().is_some_and(|last| shortest >= last + 3);
        let lags = lags.of(frame).filter(fits);
        self.tasks.push(lags.map(|lags| task.with(lags)));
    }

    fn push_difference(&mut self, frame: &Frame, history: usize, outer: bool, lags: Lags, ridge: f64) {
        let Some(season) = season_of(frame, outer) else { return self.tasks.push(None) };
        let mut z = Vec::new();
        differences(&self.histories[history], season, &mut z);
        let (history, ends) = (self.histories.len(), frame.ends.map(|end| end - season));
        self.histories.push(z);
        self.push(frame, lags, Task { history, lags: Vec::new(), ends, ridge, decay: 0.0, absolute: false });
    }
}
