//! The search in one series: noise, blocks, PELT, refinement.
//!
//! **Invariant:** sums are taken of distances from the first value, so that a large level costs no digits.

use super::{Change, Params, VALUE_MAX};

/// No more values than this go through PELT.
const VALUES_MAX: usize = 8_192;
/// The median of |x| of a standard normal distribution is one over this.
const NORMAL_MEDIAN: f64 = 1.482_6;
/// The largest correlation of neighbours that is believed.
const CORRELATION_MAX: f64 = 0.9;
/// How far from the median of its neighbours a value counts, in deviations.
const CUT: f64 = 4.0;
/// Steps below this share of the largest magnitude are rounding errors.
const STEP_MIN: f64 = 1e-9;

/// A series before the search.
pub(super) struct Prepared {
    places: Vec<usize>,
    sums: Sums,
    noise: Noise,
    least: usize,
    /// Values of a block: changes are first looked for between blocks.
    pub(super) block: usize,
    /// What a change costs.
    pub(super) cost: f64,
}

impl Prepared {
    /// None where there are too few values for a change.
    pub(super) fn of(values: &[f64], params: &Params) -> Option<Self> {
        let (places, known): (Vec<usize>, Vec<f64>) =
            values.iter().copied().enumerate().filter(|(_, value)| value.abs() <= VALUE_MAX).unzip();
        if known.len() < 2 * params.least {
            return None;
        }
        let top = known.iter().fold(0.0, |top: f64, value| top.max(value.abs()));
        let noise = Noise::of(&known, STEP_MIN * top + f64::MIN_POSITIVE);
        let cost = params.penalty * (known.len() as f64).ln() * noise.long_run;
        let (sums, block) = (Sums::of(&noise.cut(&known)), known.len().div_ceil(VALUES_MAX));
        Some(Self { places, sums, noise, least: params.least, block, cost })
    }

    /// How many values there are.
    pub(super) fn count(&self) -> usize {
        self.sums.sums.len() - 1
    }

    /// How many bounds blocks have: the start and the end of each.
    pub(super) fn bounds(&self) -> usize {
        self.count().div_ceil(self.block) + 1
    }

    /// The fewest blocks of a segment.
    pub(super) fn least_blocks(&self) -> usize {
        self.least.div_ceil(self.block)
    }

    fn bound(&self, place: usize) -> usize {
        (place * self.block).min(self.count())
    }

    /// The running sums at every bound.
    #[cfg(feature = "cuda")]
    pub(super) fn sums_at_bounds(&self) -> Vec<[f64; 2]> {
        (0..self.bounds()).map(|place| self.sums.sums[self.bound(place)]).collect()
    }

    /// Where segments end, given where the last segment up to each bound starts.
    pub(super) fn ends(&self, last: impl Fn(usize) -> usize) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut end = self.bounds() - 1;
        while end > 0 {
            ends.push(self.bound(end));
            end = last(end);
        }
        ends.reverse();
        ends
    }

    /// Where the segments of the best segmentation end, bounds between blocks alone.
    pub(super) fn segments(&self) -> Vec<usize> {
        let least = self.least_blocks();
        // The least cost of the first blocks, and where their last segment starts.
        let mut best = vec![(f64::INFINITY, 0); self.bounds()];
        best[0] = (-self.cost, 0);
        let mut starts: Vec<(usize, f64)> = Vec::new();
        for end in least..self.bounds() {
            starts.push((end - least, 0.0));
            for (start, total) in &mut starts {
                *total = best[*start].0 + self.sums.cost(self.bound(*start), self.bound(end));
                if *total + self.cost < best[end].0 {
                    best[end] = (*total + self.cost, *start);
                }
            }
            starts.retain(|(_, total)| *total <= best[end].0);
        }
        self.ends(|place| best[place].1)
    }

    /// The changes between segments that end so, moved to the best point where blocks have more than one.
    pub(super) fn changes(&self, mut ends: Vec<usize>) -> Vec<Change> {
        let Self { places, sums, noise, block, cost, .. } = self;
        if *block > 1 {
            refine(&mut ends, sums, *block);
            while let Some(i) = idle(&ends, sums, *cost) {
                ends.remove(i);
                refine(&mut ends, sums, *block);
            }
        }
        let bounds = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
        (1..ends.len())
            .map(|i| {
                let (start, at, end) = (bounds(i - 1), bounds(i), ends[i]);
                let (before, after) = (sums.mean(start, at), sums.mean(at, end));
                let error = noise.long_run * (1.0 / (at - start) as f64 + 1.0 / (end - at) as f64);
                Change { at: places[at], before, after, strength: (after - before).abs() / error.sqrt() }
            })
            .collect()
    }
}

/// What is noise in a series.
struct Noise {
    /// The deviation of a value.
    deviation: f64,
    /// The variance that sums of neighbours show.
    long_run: f64,
}

impl Noise {
    fn of(values: &[f64], least: f64) -> Self {
        let typical = |lag: usize| {
            let mut steps: Vec<f64> = values.windows(lag + 1).map(|pair| (pair[lag] - pair[0]).abs()).collect();
            let mean = steps.iter().sum::<f64>() / steps.len().max(1) as f64;
            let half = steps.len() / 2;
            let median = if steps.is_empty() { 0.0 } else { *steps.select_nth_unstable_by(half, f64::total_cmp).1 };
            if median > least { median } else { mean }
        };
        let (one, two) = (typical(1).max(least), typical(2).max(least));
        let correlation = ((two / one) * (two / one) - 1.0).clamp(0.0, CORRELATION_MAX);
        let variance = (NORMAL_MEDIAN * one).powi(2) / (2.0 - 2.0 * correlation);
        Self { deviation: variance.sqrt(), long_run: variance * (1.0 + correlation) / (1.0 - correlation) }
    }

    /// The values without single outliers.
    fn cut(&self, values: &[f64]) -> Vec<f64> {
        let reach = CUT * self.deviation;
        let cut = |at: usize| {
            let mut near: Vec<f64> = values[at.saturating_sub(2)..(at + 3).min(values.len())].to_vec();
            let half = near.len() / 2;
            let median = *near.select_nth_unstable_by(half, f64::total_cmp).1;
            values[at].clamp(median - reach, median + reach)
        };
        (0..values.len()).map(cut).collect()
    }
}

/// Running sums of distances from the first value, and of their squares.
struct Sums {
    origin: f64,
    sums: Vec<[f64; 2]>,
}

impl Sums {
    fn of(values: &[f64]) -> Self {
        let origin = values[0];
        let mut sums = vec![[0.0; 2]];
        let mut sum = [0.0; 2];
        for value in values {
            let distance = value - origin;
            sum = [sum[0] + distance, sum[1] + distance * distance];
            sums.push(sum);
        }
        Self { origin, sums }
    }

    fn mean(&self, start: usize, end: usize) -> f64 {
        self.origin + (self.sums[end][0] - self.sums[start][0]) / (end - start) as f64
    }

    /// The squared distances of values from their mean.
    fn cost(&self, start: usize, end: usize) -> f64 {
        let sum = self.sums[end][0] - self.sums[start][0];
        self.sums[end][1] - self.sums[start][1] - sum * sum / (end - start) as f64
    }
}

/// Moves each change to the best point within a block of where it is.
fn refine(ends: &mut [usize], sums: &Sums, block: usize) {
    for i in 0..ends.len().saturating_sub(1) {
        let start = if i == 0 { 0 } else { ends[i - 1] };
        let (from, to) = ((ends[i] - block + 1).max(start + 1), (ends[i] + block).min(ends[i + 1]));
        let split = |at: usize| sums.cost(start, at) + sums.cost(at, ends[i + 1]);
        if let Some(best) = (from..to).min_by(|a, b| split(*a).total_cmp(&split(*b))) {
            ends[i] = best;
        }
    }
}

/// A change that is not worth its cost: a block that a true change cut in two has one on either side.
fn idle(ends: &[usize], sums: &Sums, cost: f64) -> Option<usize> {
    let gain = |i: usize| {
        let (start, end) = (if i == 0 { 0 } else { ends[i - 1] }, ends[i + 1]);
        sums.cost(start, end) - sums.cost(start, ends[i]) - sums.cost(ends[i], end)
    };
    let (least, i) = (0..ends.len() - 1).map(|i| (gain(i), i)).min_by(|a, b| a.0.total_cmp(&b.0))?;
    (least < cost).then_some(i)
}
