//! The forecast of the largest demand until units that are ordered now are ready.
//!
//! With L the mean of the last minute, and no less than a share of that of the last hour, y = log(largest step of the next start-up and one step ÷ L). Its mean and the logarithm of
//! its scale follow by ridge regression from lag ratios of 15 s to an hour, largest values, jitter, what came at the same moment
//! yesterday and a week ago, and the time of day. The regression goes on with every lead time that ends. The mean is clipped to what
//! lead times did so far, the demand to a multiple of the largest seen: an unclipped one runs away on a jump.
//!
//! **Invariant:** a row is learnt from only once its lead time is over; demand of less than half a unit is all the same.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::demand::Demand;
use super::ridge::Ridge;

/// A level is no less than this share of the last hour's mean: in the pauses of a demand in bursts it says little.
const HOUR_SHARE: f64 = 0.3;
/// Steps of [`Lead::observe`] between two solutions of the regression.
const SOLVE_STEPS: u32 = 60;
/// Rows before the regression is used; before them a lead time is taken for [`START`].
const ROWS_MIN: f64 = 240.0;
/// Mean and scale before anything was learnt.
const START: (f64, f64) = (0.05, 0.15);
/// Days until a row has half of its weight.
const HALF_LIFE_DAYS: f64 = 28.0;
/// How much of the scale's own forecast is believed; the rest is its average.
const SCALE_TRUST: f64 = 0.5;
/// Least and largest logarithm of the scale.
const SCALE: (f64, f64) = (-6.0, 0.0);
/// No ratio counts more than e^2.5 or less than e^−2.5.
const RATIO_MAX: f64 = 2.5;
/// Demand is never forecast beyond so many times the largest seen, nor beyond twice the level where that is more.
const LARGEST_FACTOR: f64 = 1.2;
/// See [`LARGEST_FACTOR`].
const LEVEL_FACTOR: f64 = 2.0;
/// E log|z| of the normal distribution is −0.635: what the logarithm of a residual lacks to that of the scale.
const LOG_RESIDUAL_OFFSET: f64 = 0.635;
/// Added to residuals before their logarithm is taken.
const RESIDUAL_MIN: f64 = 2e-3;
const DAY_S: usize = 86_400;
const COLUMNS: usize = 36;

/// What a lead time may bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forecast {
    /// Mean demand of the last minute, or a share of the last hour's where that is more.
    pub(super) level: f64,
    /// Mean of the logarithm of largest demand ÷ level.
    pub(super) mean: f64,
    /// Its scale.
    pub(super) scale: f64,
    /// Where the lead time that ended now came out, in scales above its mean.
    pub(super) z: Option<f64>,
}

impl Forecast {
    /// Demand `z` scales above the mean, if `largest` is the largest so far.
    pub(super) fn demand(&self, z: f64, largest: f64) -> f64 {
        let demand = self.level * (self.mean + z * self.scale).min(RATIO_MAX).exp();
        demand.min((largest * LARGEST_FACTOR).max(self.level * LEVEL_FACTOR))
    }
}

/// A row whose lead time is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    row: Vec<f32>,
    level: f64,
    mean: f64,
    scale: f64,
}

/// The regression and what it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lead {
    steps: usize,
    step_s: u32,
    /// Demand below it counts as that.
    floor: f64,
    pending: VecDeque<Pending>,
    ridge: Ridge,
    /// Of the mean and of the logarithm of the scale.
    weights: Vec<Vec<f64>>,
    /// Average logarithm of the scale, and the largest mean that is believed.
    log_scale: f64,
    mean_max: f64,
    unsolved: u32,
}

impl Lead {
    /// Forecasts of so many steps; demand below `floor` counts as that.
    pub(super) fn new(steps: usize, step_s: u32, floor: f64) -> Self {
        let half_life = HALF_LIFE_DAYS * DAY_S as f64 / f64::from(step_s);
        Self {
            steps,
            step_s,
            floor,
            pending: VecDeque::new(),
            ridge: Ridge::new(COLUMNS, 2, half_life),
            weights: vec![vec![0.0; COLUMNS]; 2],
            log_scale: START.1.ln(),
            mean_max: START.0,
            unsolved: 0,
        }
    }

    /// Steps that a forecast looks ahead.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Whether the regression is used yet.
    pub(super) fn is_trained(&self) -> bool {
        self.ridge.rows() >= ROWS_MIN
    }

    /// What waits is not learnt from: its lead time is not known.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// The forecast after the last step of `demand`, which ended at `at_s`. Where that step is not known, nothing waits for it.
    pub(super) fn observe(&mut self, demand: &Demand, at_s: i64, known: bool) -> Forecast {
        let z = (self.pending.len() == self.steps).then(|| self.learn(demand));
        let hour = demand.mean(demand.steps_of(3_600), 0);
        let level = demand.mean(demand.steps_of(60), 0).max(hour * HOUR_SHARE).max(self.floor);
        let row = self.row(demand, level, at_s);
        let (mean, scale) = self.expect(&row);
        if known {
            self.pending.push_back(Pending { row, level, mean, scale });
        }
        Forecast { level, mean, scale, z }
    }

    /// Learns from the row whose lead time ended; its place in scales above the mean.
    fn learn(&mut self, demand: &Demand) -> f64 {
        let Pending { row, level, mean, scale } =
            self.pending.pop_front().expect("as many wait as a lead time has steps");
        let row: Vec<f64> = row.into_iter().map(f64::from).collect();
        let y = (demand.max(self.steps).max(self.floor) / level).ln().clamp(-RATIO_MAX, RATIO_MAX);
        let log_residual = ((y - dot(&self.weights[0], &row)).abs() + RESIDUAL_MIN).ln() + LOG_RESIDUAL_OFFSET;
        self.ridge.add(&row, &[y, log_residual]);
        let rate = (1.0 / self.ridge.rows()).max(1e-5);
        self.log_scale += (log_residual - self.log_scale) * rate;
        // The 99.95 % quantile of y, by stochastic approximation.
        self.mean_max += 0.02 * (f64::from(u8::from(y > self.mean_max)) - 5e-4);
        self.unsolved += 1;
        if self.unsolved >= SOLVE_STEPS {
            self.unsolved = 0;
            self.weights = self.ridge.weights();
        }
        (y - mean) / scale
    }

    fn expect(&self, row: &[f32]) -> (f64, f64) {
        if !self.is_trained() {
            return START;
        }
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        let mean = dot(&self.weights[0], &row).clamp(-1.0, self.mean_max.max(START.0));
        let log_scale = dot(&self.weights[1], &row) * SCALE_TRUST + self.log_scale * (1.0 - SCALE_TRUST);
        (mean, log_scale.clamp(SCALE.0, SCALE.1).exp())
    }

    /// The columns of the regression.
    fn row(&self, demand: &Demand, level: f64, at_s: i64) -> Vec<f32> {
        let steps = |seconds| demand.steps_of(seconds);
        let ratio = |value: f64| (value.max(self.floor) / level).ln().clamp(-RATIO_MAX, RATIO_MAX);
        let mut row = vec![1.0];
        row.extend([15, 30, 60, 120, 300, 900, 3_600].map(|window| ratio(demand.mean(steps(window), 0))));
        row.extend([60, 120, 180, 300, 600, 1_200, 1_800, 3_600].map(|ago| ratio(demand.mean(steps(60), steps(ago)))));
        row.extend([60, 300, 600, 3_600].map(|window| ratio(demand.max(steps(window)))));
        row.extend([300, 3_600].map(|window| demand.jitter(steps(window))));
        let hour = demand.mean(steps(3_600), 0);
        for ago_s in [DAY_S, 7 * DAY_S] {
            row.extend(self.same_moment(demand, ago_s, hour));
        }
        let day = at_s.rem_euclid(DAY_S as i64) as f64 / DAY_S as f64 * TAU;
        row.extend([
            day.sin(),
            day.cos(),
            (2.0 * day).sin(),
            (2.0 * day).cos(),
            (24.0 * day).sin(),
            (24.0 * day).cos(),
        ]);
        debug_assert_eq!(row.len(), COLUMNS);
        row.into_iter().map(|column| column as f32).collect()
    }

    /// What the lead time brought so long ago, as ratios; zeros where it is not known.
    fn same_moment(&self, demand: &Demand, ago_s: usize, hour: f64) -> [f64; 4] {
        let lead_s = self.steps * self.step_s as usize;
        let Some((then, _)) = demand.past(ago_s + 60, 60) else { return [0.0; 4] };
        let ratio =
            |over: f64, under: f64| (over.max(self.floor) / under.max(self.floor)).ln().clamp(-RATIO_MAX, RATIO_MAX);
        let ahead = |from_s: usize, length_s: usize| demand.past(from_s, length_s).unwrap_or((then, then));
        [
            ratio(ahead(ago_s, lead_s).1, then),
            ratio(ahead(ago_s, lead_s.max(600)).1, then),
            ratio(ahead(ago_s.saturating_sub(lead_s), 300).0, then),
            ratio(demand.past(ago_s + 1_800, 3_600).map_or(hour, |past| past.0), hour),
        ]
    }
}

fn dot(weights: &[f64], row: &[f64]) -> f64 {
    weights.iter().zip(row).map(|(weight, column)| weight * column).sum()
}
