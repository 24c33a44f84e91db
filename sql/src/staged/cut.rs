//! Where a scan is cut into stages.
//!
//! **Invariant:** pure. Cuts lie between windows of slices, so that no part is read for two stages, but where a bucket goes
//! over a cut: it stays whole.

use std::sync::Arc;

use juno_engine::{Slice, TimeRange};

use crate::runs::Bucket;

/// How many times the rows of all stages before the next one has, at least.
const GROWTH: u64 = 8;
/// Rows that are worth stages.
const ROWS_MIN: u64 = 65_536;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Newest,
    Oldest,
}

/// The slices of each stage, of which the first has about `wanted` rows at least.
pub(super) fn stages(slices: &[Arc<Slice>], edge: Edge, bucket: Bucket, wanted: u64) -> Vec<Vec<Slice>> {
    let sizes: Vec<_> = slices.iter().map(|slice| (slice.span(), slice.stats().rows)).collect();
    let of_range = |range: TimeRange| {
        let cut = slices.iter().map(|slice| slice.within(range));
        cut.filter(|slice| slice.span().from < slice.span().to).collect()
    };
    ranges(&sizes, edge, bucket, wanted).into_iter().map(of_range).collect()
}

/// The times of each stage, which lie side by side; a single one where more are not worth it.
fn ranges(slices: &[(TimeRange, u64)], edge: Edge, bucket: Bucket, wanted: u64) -> Vec<TimeRange> {
    if slices.iter().map(|(_, rows)| rows).sum::<u64>() < ROWS_MIN {
        return vec![TimeRange::ALL];
    }
    let mut windows = windows(slices);
    if edge == Edge::Newest {
        windows.reverse();
    }
    // The last window is no end of a stage: what is left is one.
    let ends = windows.split_last().map_or(&[][..], |(_, ends)| ends);
    let mut rest = windows.iter().fold(windows[0].0, |hull, &(window, _)| hull.hull(window));
    let (mut ranges, mut before, mut rows) = (Vec::new(), 0_u64, 0);
    for &(window, more) in ends {
        rows += more;
        let bound = match edge {
            Edge::Newest => bucket.begins_from(window.from),
            Edge::Oldest => bucket.begins_until(window.to),
        };
        let Some(bound) = bound.filter(|&bound| rest.from < bound && bound < rest.to) else { continue };
        if rows < wanted.max(before.saturating_mul(GROWTH)) {
            continue;
        }
        let (older, newer) = (TimeRange { to: bound, ..rest }, TimeRange { from: bound, ..rest });
        let (stage, others) = if edge == Edge::Newest { (newer, older) } else { (older, newer) };
        ranges.push(stage);
        rest = others;
        (before, rows) = (before + rows, 0);
    }
    ranges.push(rest);
    ranges
}

/// Spans of time that share none, in order, with the rows in each.
fn windows(slices: &[(TimeRange, u64)]) -> Vec<(TimeRange, u64)> {
    let mut slices = slices.to_vec();
    slices.sort_by_key(|(span, _)| (span.from, span.to));
    let mut windows: Vec<(TimeRange, u64)> = Vec::new();
    for (span, rows) in slices {
        match windows.last_mut() {
            Some((window, all)) if span.from < window.to => {
                window.to = window.to.max(span.to);
                *all += rows;
            }
            _ => windows.push((span, rows)),
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Bucket = Bucket { column: 0, width_us: 1, origin_us: 0 };

    /// Windows of ten microseconds, with so many rows each.
    fn slices(rows: &[u64]) -> Vec<(TimeRange, u64)> {
        (0..).zip(rows).map(|(at, &rows)| (TimeRange { from: at * 10, to: at * 10 + 10 }, rows)).collect()
    }

    fn from_to(from: i64, to: i64) -> TimeRange {
        TimeRange { from, to }
    }

    #[test]
    fn stages_grow_from_the_end_that_is_asked_for() {
        let even = slices(&[10_000; 100]);
        let newest = [from_to(990, 1_000), from_to(910, 990), from_to(190, 910), from_to(0, 190)];
        assert_eq!(ranges(&even, Edge::Newest, EACH, 5), newest);
        let oldest = [from_to(0, 30), from_to(30, 270), from_to(270, 1_000)];
        assert_eq!(ranges(&even, Edge::Oldest, EACH, 25_000), oldest);
    }

    #[test]
    fn buckets_stay_whole() {
        let even = slices(&[100_000; 9]);
        let of = |width_us| Bucket { width_us, origin_us: 3, ..EACH };
        // A window begins at 80 and a bucket at 83: the rows between are left to the next stage.
        assert_eq!(ranges(&even, Edge::Newest, of(20), 1), [from_to(83, 90), from_to(0, 83)]);
        assert_eq!(ranges(&even, Edge::Oldest, of(5), 1), [from_to(0, 8), from_to(8, 90)]);
        // All rows lie in one bucket.
        assert_eq!(ranges(&even, Edge::Newest, of(1_000), 1), [from_to(0, 90)]);
    }

    #[test]
    fn small_tables_and_single_windows_have_one_stage() {
        assert_eq!(ranges(&slices(&[100; 20]), Edge::Newest, EACH, 1), [TimeRange::ALL]);
        assert_eq!(ranges(&[(TimeRange::ALL, 1_000_000)], Edge::Newest, EACH, 1), [TimeRange::ALL]);
        assert_eq!(ranges(&[], Edge::Newest, EACH, 1), [TimeRange::ALL]);
        let overlapping = [(from_to(0, 50), 90_000), (from_to(40, 90), 90_000)];
        assert_eq!(ranges(&overlapping, Edge::Oldest, EACH, 1), [from_to(0, 90)]);
    }
}
