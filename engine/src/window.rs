//! Windows of time: how a flush is cut into parts, and which parts overlap.
//!
//! **Invariant:** pure. Windows come from one ladder whose rungs divide each other, so any two are nested or disjoint.

use std::collections::{BTreeMap, BTreeSet};

use crate::TimeRange;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// Widths of windows in microseconds, aligned to 1970; each divides the next.
pub(crate) const LADDER_US: [i64; 6] = [HOUR_US, 6 * HOUR_US, DAY_US, 7 * DAY_US, 28 * DAY_US, 364 * DAY_US];

/// Rows that make a part worth its file.
const PART_ROWS_MIN: u64 = 256 * 1024;

/// The most parts that one flush makes.
const PARTS_MAX: usize = 64;

/// Rows per hour since 1970; what `choose` decides on.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    hours: BTreeMap<i64, u64>,
}

impl Histogram {
    /// Counts rows; fast where neighbours share an hour.
    pub(crate) fn add(&mut self, times: impl IntoIterator<Item = i64>) {
        let (mut hour, mut rows) = (i64::MIN, 0);
        for time in times {
            let next = time.div_euclid(HOUR_US);
            if next != hour {
                self.count(hour, rows);
                (hour, rows) = (next, 0);
            }
            rows += 1;
        }
        self.count(hour, rows);
    }

    fn count(&mut self, hour: i64, rows: u64) {
        if rows > 0 {
            *self.hours.entry(hour).or_default() += rows;
        }
    }
}

/// The windows that the rows of a flush are cut into, in order.
///
/// The narrowest rung wins on which a row finds itself among [`PART_ROWS_MIN`] others on average, or all rows in one
/// window; failing that, one on which it finds itself among half of all rows. So a few strays far away do not widen the
/// windows of the many. Where the rows are scattered over all rungs, one window holds all time.
pub(crate) fn choose(histogram: &Histogram) -> Vec<TimeRange> {
    let total: u64 = histogram.hours.values().sum();
    let rungs: Vec<_> = LADDER_US.iter().map(|&width| cut(histogram, width)).collect();
    let crowd = |windows: &BTreeMap<i64, u64>| {
        let squares: u128 = windows.values().map(|&rows| u128::from(rows) * u128::from(rows)).sum();
        squares / u128::from(total.max(1))
    };
    let few = |windows: &BTreeMap<i64, u64>| windows.len() <= PARTS_MAX;
    let full = |w: &&BTreeMap<i64, u64>| w.len() <= 1 || (few(w) && crowd(w) >= u128::from(PART_ROWS_MIN));
    let half = |w: &&BTreeMap<i64, u64>| few(w) && crowd(w) * 2 >= u128::from(total);
    let chosen = rungs.iter().position(|w| full(&w)).or_else(|| rungs.iter().position(|w| half(&w)));
    match chosen {
        Some(rung) => rungs[rung].keys().map(|&index| window(index, LADDER_US[rung])).collect(),
        None => vec![TimeRange::ALL],
    }
}

/// Rows per window of a width.
fn cut(histogram: &Histogram, width: i64) -> BTreeMap<i64, u64> {
    let mut windows = BTreeMap::new();
    for (&hour, &rows) in &histogram.hours {
        *windows.entry(hour.div_euclid(width / HOUR_US)).or_default() += rows;
    }
    windows
}

/// The window of a width with this number.
pub(crate) fn window(index: i64, width: i64) -> TimeRange {
    TimeRange { from: index.saturating_mul(width), to: index.saturating_add(1).saturating_mul(width) }
}

/// Groups of overlapping windows, as the times that each spans and the indices of its members, in order of time.
pub(crate) fn groups(windows: &[TimeRange]) -> Vec<(TimeRange, Vec<usize>)> {
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order.sort_by_key(|&index| (windows[index].from, windows[index].to));
    let mut groups: Vec<(TimeRange, Vec<usize>)> = Vec::new();
    for index in order {
        let window = windows[index];
        match groups.last_mut() {
            Some((span, members)) if window.from < span.to => {
                span.to = span.to.max(window.to);
                members.push(index);
            }
            _ => groups.push((window, vec![index])),
        }
    }
    groups
}

/// The spans between disjoint, ordered ones, and before and behind them.
pub(crate) fn gaps(spans: impl IntoIterator<Item = TimeRange>) -> Vec<TimeRange> {
    let mut gaps = Vec::new();
    let mut from = Some(i64::MIN);
    for span in spans {
        if let Some(from) = from.filter(|&from| from < span.from) {
            gaps.push(TimeRange { from, to: span.from });
        }
        from = Some(span.to).filter(|&to| to < i64::MAX);
    }
    gaps.extend(from.map(|from| TimeRange { from, to: i64::MAX }));
    gaps
}

/// Times at which the same sources have rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) range: TimeRange,
    /// Indices of parts.
    pub(crate) parts: BTreeSet<usize>,
    /// Indices of runs.
    pub(crate) runs: BTreeSet<usize>,
}

impl Span {
    /// Whether its rows are those of one part.
    fn is_plain(&self) -> bool {
        self.parts.len() == 1 && self.runs.is_empty()
    }
}

/// Cuts time so that where only one part has rows they need no merge, in order of time.
///
/// Where several sources have rows, neighbouring spans that share a part stay together, so that it is read once for them.
pub(crate) fn spans(parts: &[TimeRange], runs: &[TimeRange]) -> Vec<Span> {
    let mut changes: BTreeMap<i64, Vec<(bool, bool, usize)>> = BTreeMap::new();
    for (is_part, ranges) in [(true, parts), (false, runs)] {
        for (index, range) in ranges.iter().enumerate() {
            changes.entry(range.from).or_default().push((true, is_part, index));
            if range.to < i64::MAX {
                changes.entry(range.to).or_default().push((false, is_part, index));
            }
        }
    }
    let mut spans: Vec<Span> = Vec::new();
    let (mut parts, mut runs) = (BTreeSet::new(), BTreeSet::new());
    let ends: Vec<i64> = changes.keys().skip(1).copied().chain([i64::MAX]).collect();
    for ((from, changed), to) in changes.into_iter().zip(ends) {
        for (begins, is_part, index) in changed {
            let members = if is_part { &mut parts } else { &mut runs };
            if begins {
                members.insert(index)
            } else {
                members.remove(&index)
            };
        }
        if parts.is_empty() && runs.is_empty() {
            continue;
        }
        let span = Span { range: TimeRange { from, to }, parts: parts.clone(), runs: runs.clone() };
        match spans.last_mut() {
            Some(last)
                if last.range.to == from
                    && !last.is_plain()
                    && !span.is_plain()
                    && (!last.parts.is_disjoint(&span.parts) || (last.parts.is_empty() && span.parts.is_empty())) =>
            {
                last.range.to = to;
                last.parts.extend(span.parts);
                last.runs.extend(span.runs);
            }
            _ => spans.push(span),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(hours: impl IntoIterator<Item = (i64, u64)>) -> Vec<TimeRange> {
        choose(&Histogram { hours: hours.into_iter().collect() })
    }

    #[test]
    fn dense_rows_get_narrow_windows_and_sparse_rows_wide_ones() {
        let width = |windows: &[TimeRange]| (windows[0].to - windows[0].from) / HOUR_US;
        assert_eq!(width(&chosen((0..3).map(|h| (h, 400_000)))), 1);
        assert_eq!(width(&chosen((0..24).map(|h| (h, 50_000)))), 6);
        assert_eq!(width(&chosen((0..48).map(|h| (h, 20_000)))), 24);
        assert_eq!(width(&chosen((0..500).map(|h| (h, 100)))), 28 * 24);
        assert_eq!(chosen([(5, 10)]), [TimeRange { from: 5 * HOUR_US, to: 6 * HOUR_US }]);
    }

    #[test]
    fn a_few_strays_do_not_widen_the_windows_of_the_many() {
        let windows = chosen([(0, 1), (400_000, 300_000), (400_001, 300_000)]);
        assert_eq!(windows.len(), 3);
        let windows = chosen([(0, 1), (400_000, 10_000)]);
        assert_eq!(windows.len(), 2);
        assert_eq!(chosen((0..1000).map(|year| (year * 24 * 365, 1))), [TimeRange::ALL]);
    }

    #[test]
    fn windows_of_all_rungs_are_nested_or_disjoint_at_the_ends_of_time_too() {
        for time in [i64::MIN, -1, 0, 1, 1_700_000_000_000_000, i64::MAX] {
            let windows: Vec<_> =
                LADDER_US.iter().map(|&w| window(time.div_euclid(HOUR_US).div_euclid(w / HOUR_US), w)).collect();
            for pair in windows.windows(2) {
                assert!(pair[1].from <= pair[0].from && pair[0].to <= pair[1].to, "{pair:?}");
            }
            assert!(windows.iter().all(|window| window.contains(time)), "{time} in {windows:?}");
        }
    }

    #[test]
    fn overlapping_windows_group_and_gaps_lie_between_groups() {
        let range = |from, to| TimeRange { from, to };
        let windows = [range(20, 30), range(0, 10), range(2, 4), range(22, 24), range(10, 12)];
        let groups = groups(&windows);
        assert_eq!(groups, [(range(0, 10), vec![1, 2]), (range(10, 12), vec![4]), (range(20, 30), vec![0, 3])]);
        let gaps = gaps(groups.iter().map(|(span, _)| *span));
        assert_eq!(gaps, [range(i64::MIN, 0), range(12, 20), range(30, i64::MAX)]);
        assert_eq!(super::gaps([TimeRange::ALL]), []);
        assert_eq!(super::gaps([]), [TimeRange::ALL]);
    }

    #[test]
    fn time_is_cut_where_one_part_is_alone() {
        let range = |from, to| TimeRange { from, to };
        let span = |from, to, parts: &[usize], runs: &[usize]| Span {
            range: range(from, to),
            parts: parts.iter().copied().collect(),
            runs: runs.iter().copied().collect(),
        };
        let found = spans(&[range(0, 11), range(10, 21), range(30, 40)], &[range(35, 60), range(50, i64::MAX)]);
        let expected = [
            span(0, 10, &[0], &[]),
            span(10, 11, &[0, 1], &[]),
            span(11, 21, &[1], &[]),
            span(30, 35, &[2], &[]),
            span(35, 40, &[2], &[0]),
            span(40, i64::MAX, &[], &[0, 1]),
        ];
        assert_eq!(found, expected);
        let found = spans(&[range(0, 10), range(5, 15), range(8, 20)], &[]);
        assert_eq!(found, [span(0, 5, &[0], &[]), span(5, 15, &[0, 1, 2], &[]), span(15, 20, &[2], &[])]);
        assert_eq!(spans(&[TimeRange::ALL; 2], &[]), [span(i64::MIN, i64::MAX, &[0, 1], &[])]);
        assert_eq!(spans(&[], &[]), []);
    }
}
