//! What is remembered of a demand: two hours step by step, a week minute by minute.
//!
//! **Invariant:** memory depends on the length of a step alone; steps follow each other without gaps, for whoever pushes bridges them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Seconds that are kept step by step.
const RECENT_S: usize = 3_600 + 120;
/// Seconds of a bucket of the week, where a step is no longer.
const BUCKET_S: usize = 60;
/// Seconds that are kept bucket by bucket: a week, and what lies around the same moment then.
const BUCKETS_S: usize = 7 * 86_400 + 7_200;

/// A demand so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Demand {
    step_s: usize,
    recent: VecDeque<f64>,
    recent_max: usize,
    /// Demand below it counts as that in changes.
    floor: f64,
    /// Logarithmic changes from step to step, of the same steps.
    changes: VecDeque<f64>,
    bucket_steps: usize,
    /// Mean and largest step of each bucket, oldest first.
    buckets: VecDeque<(f32, f32)>,
    /// Sum, largest and number of the steps of the bucket that is not full.
    open: (f64, f64, usize),
    largest: f64,
}

impl Demand {
    /// Nothing yet; forecasts look so many steps ahead, and demand below `floor` changes nothing.
    pub(super) fn new(step_s: u32, lead_steps: usize, floor: f64) -> Self {
        let step_s = step_s as usize;
        Self {
            step_s,
            recent: VecDeque::new(),
            recent_max: (RECENT_S / step_s + 2).max(lead_steps + 1),
            floor,
            changes: VecDeque::new(),
            bucket_steps: (BUCKET_S / step_s).max(1),
            buckets: VecDeque::new(),
            open: (0.0, 0.0, 0),
            largest: 0.0,
        }
    }

    /// A step passed.
    pub(super) fn push(&mut self, demand: f64) {
        if self.recent.len() == self.recent_max {
            self.recent.pop_front();
            self.changes.pop_front();
        }
        let before = self.recent.back().copied().unwrap_or(demand);
        self.changes.push_back((demand.max(self.floor) / before.max(self.floor)).ln());
        self.recent.push_back(demand);
        self.largest = self.largest.max(demand);
        self.open = (self.open.0 + demand, self.open.1.max(demand), self.open.2 + 1);
        if self.open.2 == self.bucket_steps {
            if self.buckets.len() == BUCKETS_S / (self.bucket_steps * self.step_s) {
                self.buckets.pop_front();
            }
            self.buckets.push_back(((self.open.0 / self.open.2 as f64) as f32, self.open.1 as f32));
            self.open = (0.0, 0.0, 0);
        }
    }

    /// The last step; 0 before the first.
    pub(super) fn last(&self) -> f64 {
        self.recent.back().copied().unwrap_or(0.0)
    }

    /// The largest step ever.
    pub(super) fn largest(&self) -> f64 {
        self.largest
    }

    /// Steps in so many seconds, at least one.
    pub(super) fn steps_of(&self, seconds: u32) -> usize {
        (seconds as usize / self.step_s).max(1)
    }

    /// Mean of the `count` steps that ended `ago` steps ago; of the oldest ones where it does not go back that far.
    pub(super) fn mean(&self, count: usize, ago: usize) -> f64 {
        let steps = self.steps(count, ago);
        let count = steps.len().max(1) as f64;
        steps.sum::<f64>() / count
    }

    /// The largest of the last `count` steps.
    pub(super) fn max(&self, count: usize) -> f64 {
        self.steps(count, 0).fold(0.0, f64::max)
    }

    /// Standard deviation of the logarithmic changes over the last `count` steps.
    pub(super) fn jitter(&self, count: usize) -> f64 {
        let changes = self.changes.range(self.changes.len().saturating_sub(count)..);
        let steps = changes.len().max(1) as f64;
        let (sum, squares) =
            changes.fold((0.0, 0.0), |(sum, squares), change| (sum + change, squares + change * change));
        (squares / steps - (sum / steps).powi(2)).max(0.0).sqrt()
    }

    /// Mean and largest demand of the `length_s` seconds from `ago_s` seconds ago on, in whole buckets; none where that was before
    /// the first bucket.
    pub(super) fn past(&self, ago_s: usize, length_s: usize) -> Option<(f64, f64)> {
        let bucket_s = self.bucket_steps * self.step_s;
        let back = ago_s.checked_sub(self.open.2 * self.step_s)?.div_ceil(bucket_s);
        let start = self.buckets.len().checked_sub(back)?;
        let end = (start + length_s.div_ceil(bucket_s).max(1)).min(self.buckets.len());
        let buckets = self.buckets.range(start..end);
        let count = buckets.len();
        let (sum, largest) =
            buckets.fold((0.0, 0.0_f32), |(sum, largest), bucket| (sum + f64::from(bucket.0), largest.max(bucket.1)));
        (count > 0).then(|| (sum / count as f64, f64::from(largest)))
    }

    fn steps(&self, count: usize, ago: usize) -> impl ExactSizeIterator<Item = f64> {
        let known = self.recent.len();
        let end = known.saturating_sub(ago).max(known.min(1));
        self.recent.range(end.saturating_sub(count)..end).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_past_is_found_by_the_minute() {
        let mut demand = Demand::new(15, 7, 1.0);
        for step in 0..70_000 {
            demand.push(f64::from(step / 4));
        }
        assert_eq!((demand.recent.len(), demand.buckets.len()), (250, BUCKETS_S / 60));
        let minute = 17_500.0;
        assert_eq!(demand.past(60, 60), Some((minute - 1.0, minute - 1.0)));
        assert_eq!(demand.past(86_400, 180), Some((minute - 1_439.0, minute - 1_438.0)));
        assert_eq!(demand.past(9 * 86_400, 60), None);
    }

    #[test]
    fn windows_shrink_to_what_is_known() {
        let mut demand = Demand::new(300, 2, 1.0);
        assert_eq!((demand.mean(4, 0), demand.max(4), demand.jitter(4)), (0.0, 0.0, 0.0));
        demand.push(4.0);
        demand.push(8.0);
        assert_eq!((demand.mean(9, 0), demand.mean(1, 1), demand.mean(1, 7), demand.max(9)), (6.0, 4.0, 4.0, 8.0));
    }
}
