//! Tables that grow, and what is left of their parts.
//!
//! **Invariant:** parts are figures only; a merge adds them up as rows without versions would.

use proptest::prelude::*;

use super::*;

const HOUR: i64 = LADDER_US[0];
const MILLION: u64 = 1_000_000 * ROW_SIZE;

/// A table of figures.
#[derive(Debug, Default)]
struct Table {
    parts: Vec<Candidate>,
    number: u64,
    flushed: u64,
    compacted: u64,
}

impl Table {
    fn flush(&mut self, spans: impl IntoIterator<Item = (TimeRange, u64)>) {
        let sequence = self.number + 1;
        for (span, size) in spans {
            self.number += 1;
            self.flushed += size;
            self.parts.push(Candidate { number: self.number, place: (sequence, self.number), span, size });
        }
    }

    /// Merges once; whether there was anything to merge.
    fn merge(&mut self, effort: Effort) -> bool {
        let Some(plan) = choose(&self.parts, effort, i64::MAX) else { return false };
        let (inputs, rest): (Vec<_>, Vec<_>) = self.parts.iter().partition(|part| plan.inputs.contains(&part.number));
        assert!(inputs.len() == plan.inputs.len() && inputs.len() > 1, "{plan:?}");
        check_order(&inputs, &rest);
        let place = inputs.iter().map(|part| part.place).max().unwrap();
        self.parts = rest;
        let mut left: u64 = inputs.iter().map(|part| part.size).sum();
        self.compacted += left;
        let last = plan.windows.len() - 1;
        for (at, window) in plan.windows.iter().enumerate() {
            let within: Vec<TimeRange> =
                inputs.iter().map(|part| part.span.intersect(*window)).filter(|span| span.from < span.to).collect();
            let size = if at == last { left } else { share(&inputs, *window).min(left) };
            let Some(hull) =
                within.into_iter().reduce(|a, b| TimeRange { from: a.from.min(b.from), to: a.to.max(b.to) })
            else {
                continue;
            };
            left -= size;
            self.number += 1;
            self.parts.push(Candidate { number: self.number, place, span: hull, size });
        }
        true
    }

    fn settle(&mut self, effort: Effort) {
        let steps = (0..10_000).take_while(|_| self.merge(effort)).count();
        assert!(steps < 10_000, "it never ends");
    }

    fn overlaps(&self) -> usize {
        let shares =
            |(at, part): (usize, &Candidate)| self.parts[..at].iter().any(|other| other.span.shares(part.span));
        self.parts.iter().enumerate().filter(|&(at, part)| shares((at, part))).count()
    }
}

/// No part that stays lies between two that go, where they share times.
fn check_order(inputs: &[Candidate], rest: &[Candidate]) {
    let newest = inputs.iter().map(|part| part.place).max().unwrap();
    for other in rest {
        let above = inputs.iter().any(|part| part.span.shares(other.span) && part.place < other.place);
        assert!(!above || other.place > newest, "{other:?} between {inputs:?}");
    }
}

fn hours(from: i64, to: i64) -> TimeRange {
    TimeRange { from: from * HOUR, to: to * HOUR }
}

#[test]
fn steady_rows_end_in_few_large_parts_and_are_rewritten_few_times() {
    // Twelve flushes an hour for a week, each of a twelfth of an hour.
    for (rows, parts_max, rewrites_max) in [(1_000, 8, 9.0), (20_000, 40, 7.0), (300_000, 190, 4.0)] {
        let mut table = Table::default();
        for step in 0..12 * 24 * 7 {
            let from = step * HOUR / 12;
            table.flush([(TimeRange { from, to: from + HOUR / 12 }, rows * ROW_SIZE)]);
            table.settle(Effort::Steady);
        }
        let rewrites = table.compacted as f64 / table.flushed as f64;
        assert!(table.parts.len() <= parts_max, "{rows} rows: {} parts", table.parts.len());
        assert!(rewrites <= rewrites_max, "{rows} rows: rewritten {rewrites} times");
        assert_eq!(table.overlaps(), 0);
        let largest = table.parts.iter().map(|part| part.size).max().unwrap();
        assert!((MILLION / 2..=SIZE_MAX).contains(&largest), "{rows} rows: {largest}");
    }
}

#[test]
fn one_hour_that_never_ends_and_a_keyed_table_stay_in_few_parts() {
    for span in [hours(0, 1), TimeRange::ALL] {
        let mut table = Table::default();
        for _ in 0..1000 {
            table.flush([(span, MILLION)]);
            table.settle(Effort::Steady);
            assert!(table.parts.len() <= 20, "{} parts", table.parts.len());
        }
        let rewrites = table.compacted as f64 / table.flushed as f64;
        assert!(rewrites < 8.0, "rewritten {rewrites} times");
    }
}

#[test]
fn a_few_late_rows_do_not_rewrite_large_parts_again_and_again() {
    let mut table = Table::default();
    table.flush((0..24).map(|hour| (hours(hour, hour + 1), 2 * MILLION)));
    for _ in 0..200 {
        table.flush((0..24).map(|hour| (hours(hour, hour + 1), 10 * ROW_SIZE)));
        table.settle(Effort::Steady);
    }
    assert!(table.compacted < 24 * 2 * MILLION, "{} bytes rewritten", table.compacted);
    assert!(table.parts.len() < 24 * 8, "{} parts", table.parts.len());
    table.settle(Effort::Full);
    assert_eq!((table.overlaps(), table.parts.len()), (0, 24));
}

#[test]
fn narrow_windows_stay_narrow_where_rows_do_not_live_long() {
    let parts: Vec<_> = (0..48)
        .map(|hour| Candidate { number: hour, place: (hour, hour), span: hours(hour as i64, hour as i64 + 1), size: 1 })
        .collect();
    assert!(choose(&parts, Effort::Full, i64::MAX).is_some());
    assert_eq!(choose(&parts, Effort::Full, HOUR), None);
}

fn table() -> impl Strategy<Value = Vec<Candidate>> {
    let span = prop_oneof![
        4 => (0..200_i64, 1..8_i64).prop_map(|(from, len)| hours(from, from + len)),
        1 => (0..200_i64, 1..5000_i64).prop_map(|(from, len)| hours(from, from + len)),
    ];
    let size = prop_oneof![3 => 1..MILLION, 1 => MILLION..SIZE_MAX * 2];
    prop::collection::vec((span, size), 0..30).prop_map(|parts| {
        (1..)
            .zip(parts)
            .map(|(number, (span, size))| Candidate { number, place: (number, number), span, size })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_parts_are_merging_ends_without_overlap(parts in table()) {
        let mut table = Table { number: parts.len() as u64, parts, ..Table::default() };
        table.settle(Effort::Steady);
        table.settle(Effort::Quiet);
        table.settle(Effort::Full);
        prop_assert_eq!(table.overlaps(), 0);
    }
}
