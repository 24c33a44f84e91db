//! Windows of time: how a flush is cut into parts, and which parts overlap.
//!
//! **Invariant:** pure. Windows come from one ladder whose rungs divide each other, so any two are nested or disjoint.

use std::collections::BTreeMap;

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
}
