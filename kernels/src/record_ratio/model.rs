//! The running state of one series: features against their records, combined, gated, ranked.
//!
//! **Invariant:** a point is judged before it teaches anything; whoever pushes the points in one go or in many gets the
//! same answers.

use super::features::{FEATURES, Features, GAP, GRAM, LEVEL, MEANS, RESIDUAL, RUN, SEASON, SPREAD, WINDOWS};
use super::grams::Grams;
use super::rate::Rate;
use super::record::{RATIO_MAX, Record};
use super::rolling::Largest;
use super::{Kind, Point, VALUE_MAX};

/// One pooled point stands for so many parts of the warm-up.
const POOLS: [usize; 3] = [52, 104, 208];
/// Records fade to 1/e over this many warm-ups.
const FADE_WARM_UPS: f64 = 8.0;
/// How long a series' own past counts, in warm-ups.
const MEMORY_WARM_UPS: f64 = 100.0;
/// The power of the mean over ratios and over groups.
const POWER: i32 = 5;
/// What a group of features counts.
pub(super) const WEIGHTS: [f64; 8] = [0.35, 1.0, 0.35, 0.7, 1.0, 0.7, 0.35, 0.25];
/// A point is told when it stands out from the last points of this share of the warm-up …
const GATE_SHARE: f64 = 0.25;
/// … by this factor, …
const GATE: f64 = 1.03;
/// … and is stronger than the last point told, where that is not longer ago than this share of the warm-up.
const HOLD_SHARE: f64 = 0.4;
/// Ratios of values below this share of the largest value so far are rounding errors.
const LEAST_SHARE: f64 = 1e-9;
/// A kind that comes first is preferred where its ratio is at least this share of those that come after.
const KIND_SHARE: f64 = 0.7;
/// From this weighted ratio on, silence and flat lines are what a point is about.
const STILL_MIN: f64 = 0.5;

/// Lengths and rates that follow from the warm-up.
#[derive(Clone, Debug)]
pub(super) struct Scales {
    /// How many values make a pooled point; equal ones once.
    pub(super) pools: Vec<usize>,
    /// Points of the short means; the wide one has four times `short`.
    pub(super) brief: usize,
    pub(super) short: usize,
    /// Points that a point must stand out from.
    pub(super) gate: usize,
    /// Points of the mean novelty, and of a flat line that is too short to matter.
    pub(super) grams: usize,
    /// What a record fades by from point to point.
    pub(super) fade: f64,
    /// What a series' own past fades by from point to point.
    pub(super) rate_fade: f64,
}

impl Scales {
    /// For a warm-up of so many points.
    pub(super) fn of(warm_up: usize) -> Self {
        let points = warm_up as f64;
        let short = (warm_up / 13).max(4);
        let mut pools: Vec<usize> = POOLS.iter().map(|parts| (warm_up / parts).max(1)).collect();
        pools.dedup();
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share of a length is a length")]
        let gate = ((GATE_SHARE * points) as usize).max(1);
        Self {
            pools,
            brief: (short / 4).max(3),
            short,
            gate,
            grams: (warm_up / 52).max(3),
            fade: (-1.0 / (FADE_WARM_UPS * points)).exp(),
            rate_fade: (-1.0 / (MEMORY_WARM_UPS * points)).exp(),
        }
    }
}

/// The running state of one series.
#[derive(Clone, Debug)]
pub struct State {
    warm_up: usize,
    seen: usize,
    top: f64,
    fade: f64,
    features: Features,
    records: [Record; FEATURES],
    /// The values of the warm-up, until it ends.
    first: Vec<f64>,
    grams: Option<Grams>,
    gate: Largest,
    /// How long the value has not moved before the newest point, and what is too short to matter.
    run: f64,
    run_least: f64,
    /// Points of the mean novelty.
    novelty_points: usize,
    /// Number and strength of the last point that stood out.
    told: (usize, f64),
    rate: Rate,
}

impl State {
    /// Before the first point, for a warm-up that [`super::Params`] allows.
    pub(super) fn new(warm_up: usize) -> Self {
        let scales = Scales::of(warm_up);
        Self {
            warm_up,
            seen: 0,
            top: 0.0,
            fade: scales.fade,
            features: Features::new(warm_up, &scales),
            records: [Record::default(); FEATURES],
            first: Vec::with_capacity(warm_up),
            grams: None,
            gate: Largest::new(scales.gate),
            run: 0.0,
            run_least: scales.grams as f64,
            novelty_points: scales.grams,
            told: (0, 0.0),
            rate: Rate::new(warm_up as f64, scales.rate_fade),
        }
    }

    /// Judges the next value, at `second` of the epoch where that is known, and learns from it.
    pub fn push(&mut self, value: f64, second: Option<i64>) -> Point {
        if value.is_nan() {
            return Point::missing();
        }
        if value.abs() > VALUE_MAX {
            let known = self.seen >= self.warm_up;
            return if known { Point::strongest() } else { Point::calm() };
        }
        let ratios = self.ratios(value, second);
        self.seen += 1;
        if self.seen <= self.warm_up / 3 {
            return Point::calm();
        }
        let strength = strength(&ratios, self.features.windows());
        let stands_out = strength > GATE * self.gate.then_push(strength) && !self.is_held(strength);
        if stands_out {
            self.told = (self.seen, strength);
        }
        if self.seen <= self.warm_up {
            return Point::calm();
        }
        let told = if stands_out { strength } else { 0.0 };
        let p_value = self.rate.push(told);
        Point { score: told / (1.0 + told), p_value, kind: if stands_out { kind(&ratios) } else { Kind::None } }
    }

    /// Whether a point belongs to what was told already.
    fn is_held(&self, strength: f64) -> bool {
        let (at, told) = self.told;
        ((self.seen - at) as f64) < HOLD_SHARE * self.warm_up as f64 && strength < told
    }

    /// How many usable values were pushed so far.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The ratio of each feature to its record.
    fn ratios(&mut self, value: f64, second: Option<i64>) -> [f64; FEATURES] {
        self.top = self.top.max(value.abs());
        let mut features = self.features.push(value, second, &self.records);
        if self.seen < self.warm_up {
            self.first.push(value);
        }
        if self.seen + 1 == self.warm_up {
            let mut grams = Grams::new(&self.first, self.novelty_points);
            for value in &self.first[..self.seen] {
                let novelty = grams.push(*value);
                self.records[GRAM].ratio(novelty, self.fade, LEAST_SHARE);
            }
            self.grams = Some(grams);
            self.first = Vec::new();
        }
        if let Some(grams) = &mut self.grams {
            features[GRAM] = grams.push(value);
        }
        let ended = std::mem::replace(&mut self.run, features[RUN]);
        let flat = self.features.is_flat_from_the_start(self.warm_up);
        let learned = match features[RUN] {
            run if flat => run,
            run if run > 0.0 => 0.0,
            _ => ended,
        };
        let least = LEAST_SHARE * self.top + f64::MIN_POSITIVE;
        let mut ratios = [0.0; FEATURES];
        for (feature, ratio) in ratios.iter_mut().enumerate() {
            let (record, value) = (&mut self.records[feature], features[feature]);
            *ratio = match feature {
                GRAM => record.ratio(value, self.fade, LEAST_SHARE),
                RUN => record.ratio_of_unfinished(value, learned, self.fade, self.run_least),
                GAP => record.ratio(value, self.fade, 1.0),
                _ => record.ratio(value, self.fade, least),
            };
        }
        ratios
    }
}

/// The combination of all ratios: a weighted power mean over groups of power means.
fn strength(ratios: &[f64; FEATURES], windows: usize) -> f64 {
    let mean = |own: std::ops::Range<usize>, count: usize| {
        ratios[own].iter().map(|ratio| ratio.powi(POWER)).sum::<f64>() / count as f64
    };
    let groups = [
        mean(RESIDUAL, RESIDUAL.len()),
        mean(LEVEL, LEVEL.len()),
        mean(SPREAD, SPREAD.len()),
        mean(SEASON, SEASON.len()),
        mean(WINDOWS, windows),
        mean(GRAM..GRAM + 1, 1),
        mean(RUN..RUN + 1, 1),
        mean(GAP..GAP + 1, 1),
    ];
    let sum: f64 = groups.iter().zip(WEIGHTS).map(|(group, weight)| weight.powi(POWER) * group).sum();
    sum.powf(1.0 / f64::from(POWER)).min(RATIO_MAX)
}

/// What made a point stand out.
fn kind(ratios: &[f64; FEATURES]) -> Kind {
    let largest = |own: std::ops::Range<usize>| ratios[own].iter().copied().fold(0.0, f64::max);
    let (silence, flat) = (WEIGHTS[7] * ratios[GAP], WEIGHTS[6] * ratios[RUN]);
    let (point, level) = (largest(RESIDUAL), largest(MEANS));
    let pattern = largest(SPREAD).max(largest(SEASON)).max(largest(WINDOWS)).max(ratios[GRAM]);
    if silence >= STILL_MIN && silence >= flat {
        Kind::Silence
    } else if flat >= STILL_MIN {
        Kind::Flatline
    } else if point >= KIND_SHARE * level.max(pattern) {
        Kind::Point
    } else if level >= KIND_SHARE * pattern {
        Kind::LevelShift
    } else {
        Kind::Pattern
    }
}
