//! What is looked at: features of the newest point, each at least zero and large when the point is unusual.
//!
//! **Invariant:** bounded memory; a feature is computed from the newest point and its past.

use std::ops::Range;

use super::model::Scales;
use super::neighbours::{Hint, Past};
use super::record::Record;
use super::rolling::Rolling;

/// How many features there are.
pub(super) const FEATURES: usize = 25;
/// Residuals against exponential means with rates 0.3 and 0.1, and against the last value; upward and downward.
pub(super) const RESIDUAL: Range<usize> = 0..6;
/// Distance from the long exponential mean, short means against the wide one; upward and downward.
pub(super) const LEVEL: Range<usize> = 6..12;
/// The part of it that a single value hardly moves: the short means.
pub(super) const MEANS: Range<usize> = 8..12;
/// Deviation over two windows, mean step.
pub(super) const SPREAD: Range<usize> = 12..15;
/// Residuals against the time of day and the hour of the week; upward and downward.
pub(super) const SEASON: Range<usize> = 15..19;
/// Distances of pooled windows from their nearest neighbours.
pub(super) const WINDOWS: Range<usize> = 19..22;
/// Novelty of the last few levels.
pub(super) const GRAM: usize = 22;
/// For how long the value has not moved.
pub(super) const RUN: usize = 23;
/// How long ago the point before was.
pub(super) const GAP: usize = 24;

/// The length of windows that are compared, in pooled points.
const WINDOW_POINTS: usize = 4;
/// A window whose distance is below this share of the record counts as known, so that a search may end there.
const KNOWN_SHARE: f64 = 0.5;

/// How fast the faster of two exponential means follows.
const FAST_RATE: f64 = 0.3;
/// The slower of them.
const SLOW_RATE: f64 = 0.1;

/// What the features of one series remember.
#[derive(Clone, Debug)]
pub(super) struct Features {
    seen: u64,
    last: f64,
    fast: f64,
    slow: f64,
    long: f64,
    long_rate: f64,
    means: [Rolling; 3],
    steps: Rolling,
    day: Profile,
    week: Profile,
    pooled: Vec<(Past, Hint)>,
    run: f64,
    /// The number of the point that the value has not moved since.
    run_start: u64,
    at: Option<i64>,
}

impl Features {
    /// Of a series with a warm-up of so many points, and the lengths that follow from it.
    pub(super) fn new(warm_up: usize, scales: &Scales) -> Self {
        Self {
            seen: 0,
            last: 0.0,
            fast: 0.0,
            slow: 0.0,
            long: 0.0,
            long_rate: 1.0 / warm_up as f64,
            means: [scales.brief, scales.short, 4 * scales.short].map(Rolling::new),
            steps: Rolling::new(scales.short),
            day: Profile::new(86_400, 1_800, 0.2),
            week: Profile::new(604_800, 3_600, 0.3),
            pooled: scales.pools.iter().map(|pool| (Past::new(*pool), Hint::default())).collect(),
            run: 0.0,
            run_start: 0,
            at: None,
        }
    }

    /// How many of [`WINDOWS`] this series has: pools that a short warm-up makes equal count once.
    pub(super) fn windows(&self) -> usize {
        self.pooled.len()
    }

    /// The features of one more value, at `second` of the epoch where that is known; [`GRAM`] is left for others.
    pub(super) fn push(&mut self, value: f64, second: Option<i64>, records: &[Record; FEATURES]) -> [f64; FEATURES] {
        let mut features = [0.0; FEATURES];
        if self.seen == 0 {
            (self.last, self.fast, self.slow, self.long) = (value, value, value, value);
        }
        self.seen += 1;
        let step = value - self.last;
        self.last = value;
        [features[0], features[1]] = parts(value - self.fast);
        [features[2], features[3]] = parts(value - self.slow);
        [features[4], features[5]] = parts(step);
        [features[6], features[7]] = parts(value - self.long);
        self.fast += FAST_RATE * (value - self.fast);
        self.slow += SLOW_RATE * (value - self.slow);
        self.long += self.long_rate * (value - self.long);
        let [brief, short, wide] = &mut self.means;
        let (brief, short, wide) = (brief.push(value), short.push(value), wide.push(value));
        [features[8], features[9]] = parts(short.0 - wide.0);
        [features[10], features[11]] = parts(brief.0 - wide.0);
        features[12..15].copy_from_slice(&[short.1, brief.1, self.steps.push(step.abs()).0]);
        if let Some(second) = second {
            [features[15], features[16]] = parts(self.day.residual(second, value));
            [features[17], features[18]] = parts(self.week.residual(second, value));
            features[GAP] = self.at.map_or(0.0, |at| second.saturating_sub(at).max(0) as f64);
            self.at = Some(second);
        }
        for (feature, (past, hint)) in WINDOWS.zip(&mut self.pooled) {
            if past.push(value) {
                features[feature] = past.distance(WINDOW_POINTS, KNOWN_SHARE * records[feature].height(), hint);
            }
        }
        if step == 0.0 {
            self.run += 1.0;
        } else {
            (self.run, self.run_start) = (0.0, self.seen);
        }
        features[RUN] = self.run;
        features
    }

    /// Whether the value has not moved since before the warm-up ended: then a flat line is what is normal.
    pub(super) fn is_flat_from_the_start(&self, warm_up: usize) -> bool {
        self.run_start <= warm_up as u64
    }
}

/// The upward and the downward part of a difference.
fn parts(difference: f64) -> [f64; 2] {
    [difference.max(0.0), (-difference).max(0.0)]
}

/// The exponential mean of each place of a cycle.
#[derive(Clone, Debug)]
struct Profile {
    cycle_seconds: i64,
    place_seconds: i64,
    rate: f64,
    /// Mean and number of visits.
    places: Vec<(f64, f64)>,
}

impl Profile {
    fn new(cycle_seconds: i64, place_seconds: i64, rate: f64) -> Self {
        let places = usize::try_from(cycle_seconds / place_seconds).expect("a handful of places");
        Self { cycle_seconds, place_seconds, rate, places: vec![(0.0, 0.0); places] }
    }

    /// The distance of a value from its place's mean, which then follows; zero on the first visit.
    fn residual(&mut self, second: i64, value: f64) -> f64 {
        let place = second.rem_euclid(self.cycle_seconds) / self.place_seconds;
        let (mean, visits) = &mut self.places[usize::try_from(place).expect("a remainder")];
        let residual = if *visits == 0.0 { 0.0 } else { value - *mean };
        *visits += 1.0;
        *mean += self.rate.max(1.0 / *visits) * (value - *mean);
        residual
    }
}
