//! What the points of a series in time order come to.
//!
//! A counter only grows, and starts again at zero when its process does: a value below the one before it is such a reset, and
//! all of it counts as growth. Nothing is extrapolated beyond the points, other than in PromQL.
//!
//! **Invariant:** pure functions of points that are ordered by time and hold no NaN; times in microseconds, rates per second.

use crate::functions::points::Point;

const SECOND_US: f64 = 1_000_000.0;

/// How much a counter grew per second between its first and its last point.
pub(super) fn rate(points: &[Point]) -> Option<f64> {
    Some(increase(points)? / seconds(points.first()?, points.last()?)?)
}

/// How much a counter grew from its first point to its last, resets included.
pub(super) fn increase(points: &[Point]) -> Option<f64> {
    let growth = |pair: &[Point]| growth(pair[0].1, pair[1].1);
    (points.len() > 1).then(|| points.windows(2).map(growth).sum())
}

/// The last value less the first: how far a gauge moved.
pub(super) fn delta(points: &[Point]) -> Option<f64> {
    let [first, .., last] = points else { return None };
    Some(last.1 - first.1)
}

/// How much a counter grew per second between its last two points.
pub(super) fn irate(points: &[Point]) -> Option<f64> {
    let [.., before, last] = points else { return None };
    Some(growth(before.1, last.1) / seconds(before, last)?)
}

/// How often a counter started again.
pub(super) fn resets(points: &[Point]) -> Option<f64> {
    let count = points.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
    (!points.is_empty()).then_some(count as f64)
}

/// The mean of a gauge over time, its points joined by straight lines.
pub(super) fn time_weighted_avg(points: &[Point]) -> Option<f64> {
    let [first, .., last] = points else { return points.first().map(|only| only.1) };
    let whole = seconds(first, last)?;
    let area = |pair: &[Point]| (pair[0].1 + pair[1].1) / 2.0 * (pair[1].0 - pair[0].0) as f64 / SECOND_US;
    Some(points.windows(2).map(area).sum::<f64>() / whole)
}

fn growth(before: f64, after: f64) -> f64 {
    if after < before { after } else { after - before }
}

/// The seconds from one point to another; none where no time passed.
fn seconds(from: &Point, to: &Point) -> Option<f64> {
    let passed = (to.0 - from.0) as f64 / SECOND_US;
    (passed > 0.0).then_some(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that restarts between 20 s and 30 s.
    const RESTARTED: [Point; 4] = [(0, 5.0), (10_000_000, 15.0), (20_000_000, 30.0), (30_000_000, 6.0)];

    #[test]
    fn a_reset_counts_from_zero() {
        assert_eq!(increase(&RESTARTED), Some(31.0));
        assert_eq!(rate(&RESTARTED), Some(31.0 / 30.0));
        assert_eq!(irate(&RESTARTED), Some(0.6));
        assert_eq!(resets(&RESTARTED), Some(1.0));
        assert_eq!(delta(&RESTARTED), Some(1.0));
    }

    #[test]
    fn too_few_points_or_no_time_between_them_give_none() {
        for measure in [rate, increase, delta, irate] {
            assert_eq!(measure(&[]), None);
            assert_eq!(measure(&RESTARTED[..1]), None);
        }
        let at_once = [(7, 1.0), (7, 2.0)];
        assert_eq!((rate(&at_once), irate(&at_once), time_weighted_avg(&at_once)), (None, None, None));
        assert_eq!((time_weighted_avg(&[]), time_weighted_avg(&RESTARTED[..1])), (None, Some(5.0)));
        assert_eq!((resets(&[]), resets(&RESTARTED[..1])), (None, Some(0.0)));
    }

    #[test]
    fn the_time_weighted_mean_weighs_by_time() {
        // Ten seconds at 0, then ninety seconds that climb from 0 to 100.
        assert_eq!(time_weighted_avg(&[(0, 0.0), (10_000_000, 0.0), (100_000_000, 100.0)]), Some(45.0));
    }
}
