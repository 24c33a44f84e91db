//! Which buckets are missing between the rows of sorted groups.
//!
//! **Invariant:** pure: times in, spans out; no bucket is added twice and no row is lost.

use std::ops::Range;

use crate::functions::time_bucket::Width;

/// From which bucket to before which each group is filled; microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) width: Width,
    pub(super) start: Option<i64>,
    pub(super) finish: Option<i64>,
}

/// What comes next in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// A row of the input.
    Row(usize),
    /// Buckets from `from` to before `to`, of the group that `group` is a row of.
    Gap { group: usize, from: i64, to: i64 },
}

/// Walks over rows that are sorted by group and time.
#[derive(Debug)]
pub(super) struct Walk {
    grid: Grid,
    /// The bucket that the current group has next; none before its first row where there is no start.
    next: Option<i64>,
}

impl Walk {
    pub(super) fn new(grid: Grid) -> Self {
        Walk { grid, next: grid.start }
    }

    /// Rows of one group; `goes_on` where the group's earlier rows were walked before.
    pub(super) fn rows(&mut self, rows: Range<usize>, time: impl Fn(usize) -> Option<i64>, spans: &mut Vec<Span>) {
        for row in rows {
            if let Some(at) = time(row) {
                self.gap(row, self.grid.finish.map_or(at, |finish| finish.min(at)), spans);
                if self.next.is_none_or(|next| at >= next) {
                    self.next = self.grid.width.next(at);
                }
            }
            spans.push(Span::Row(row));
        }
    }

    /// The group, of which `row` was the last, is over.
    pub(super) fn end(&mut self, row: usize, spans: &mut Vec<Span>) {
        if let Some(finish) = self.grid.finish {
            self.gap(row, finish, spans);
        }
        self.next = self.grid.start;
    }

    fn gap(&self, group: usize, to: i64, spans: &mut Vec<Span>) {
        if let Some(from) = self.next.filter(|from| *from < to) {
            spans.push(Span::Gap { group, from, to });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(grid: Grid, groups: &[&[i64]]) -> Vec<Span> {
        let (mut walk, mut spans, mut from) = (Walk::new(grid), Vec::new(), 0);
        let times: Vec<i64> = groups.concat();
        for group in groups {
            walk.rows(from..from + group.len(), |row| Some(times[row]), &mut spans);
            from += group.len();
            walk.end(from - 1, &mut spans);
        }
        spans
    }

    fn grid(start: Option<i64>, finish: Option<i64>) -> Grid {
        Grid { width: Width::Micros(10), start, finish }
    }

    #[test]
    fn each_group_is_filled_from_start_to_finish() {
        let spans = walked(grid(Some(0), Some(50)), &[&[10, 30], &[0, 40]]);
        let gap = |group, from, to| Span::Gap { group, from, to };
        let first = [gap(0, 0, 10), Span::Row(0), gap(1, 20, 30), Span::Row(1), gap(1, 40, 50)];
        let second = [Span::Row(2), gap(3, 10, 40), Span::Row(3)];
        assert_eq!(spans, [&first[..], &second[..]].concat());
    }

    #[test]
    fn without_bounds_only_what_lies_between_rows_is_filled() {
        let spans = walked(grid(None, None), &[&[10, 30], &[70]]);
        assert_eq!(spans, [Span::Row(0), Span::Gap { group: 1, from: 20, to: 30 }, Span::Row(1), Span::Row(2)]);
    }

    #[test]
    fn rows_outside_the_bounds_stay() {
        let spans = walked(grid(Some(20), Some(40)), &[&[0, 30, 60]]);
        assert_eq!(spans, [Span::Row(0), Span::Gap { group: 1, from: 20, to: 30 }, Span::Row(1), Span::Row(2)]);
    }
}
