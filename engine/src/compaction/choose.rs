//! Which parts to merge next.
//!
//! Times are seen through the windows of the ladder, the narrowest first. In a window the parts that lie wholly in it are
//! merged into one as long as that one is not larger than [`SIZE_MAX`]; where all of them are, those that overlap are
//! merged and cut anew at narrower windows. So a table ends in parts that do not overlap, each as large as it should be.
//!
//! A merge must pay: of the parts the largest may be at most a few times as large as the others together, or else it stays
//! out. That bounds how often a row is rewritten by the logarithm of the rows that there are.
//!
//! **Invariant:** pure. What it chooses can be merged without changing which version of a key is the newest: no part that
//! stays out lies between two that go in, in order and in time.

use std::collections::{BTreeMap, BTreeSet};

use crate::TimeRange;
use crate::manifest::PartRecord;
use crate::window::{self, LADDER_US};

/// Bytes that a part should not grow beyond by merging.
const SIZE_MAX: u64 = 256 << 20;
/// Bytes that a row counts for at least, so that well-packed parts do not get more than 4 M rows.
const ROW_SIZE: u64 = 64;
/// Parts that come together before a window that rows still come into is compacted.
const PARTS_HOT: usize = 4;
/// How many times as large as the others together the largest may be, while rows still come and when none come any more.
const RATIO_HOT: u64 = 2;
const RATIO_COLD: u64 = 16;
/// The most windows that one merge is cut into.
const WINDOWS_MAX: i64 = 64;

/// What is known of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) number: u64,
    /// Where it stands among the parts of its table, the oldest first.
    pub(crate) place: (u64, u64),
    pub(crate) span: TimeRange,
    pub(crate) size: u64,
}

/// How hard to look for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What pays while rows come in.
    Steady,
    /// What pays when none come any more.
    Quiet,
    /// All that is left, whether it pays or not.
    Full,
}

/// Parts to be merged, and the windows that the outcome is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<u64>,
    /// Disjoint and in order; together they hold all rows of the inputs.
    pub(crate) windows: Vec<TimeRange>,
}

impl Candidate {
    pub(crate) fn new(record: &PartRecord) -> Self {
        let size = record.bytes.max(record.rows.saturating_mul(ROW_SIZE));
        Self { number: record.number, place: record.place(), span: record.span(), size }
    }
}

/// The next merge of a table's parts; none where nothing is worth it. Windows wider than `width_max` microseconds are not
/// filled up with parts, though parts that overlap are merged whatever they span.
pub(crate) fn choose(parts: &[Candidate], effort: Effort, width_max: i64) -> Option<Plan> {
    let newest = parts.iter().filter(|part| part.span != TimeRange::ALL).map(|part| part.span.to).max();
    let look = Look { parts, effort, newest: newest.unwrap_or(i64::MAX) };
    LADDER_US
        .iter()
        .copied()
        .map(Some)
        .chain([None])
        .find_map(|width| look.level(width, width.unwrap_or(i64::MAX) <= width_max.max(LADDER_US[0])))
}

struct Look<'a> {
    parts: &'a [Candidate],
    effort: Effort,
    /// The end of the last time in the table.
    newest: i64,
}

impl Look<'_> {
    /// The next merge within windows of a width; all time is one window where absent.
    fn level(&self, width: Option<i64>, fill: bool) -> Option<Plan> {
        let mut windows: BTreeMap<i64, Vec<Candidate>> = BTreeMap::new();
        for part in self.parts {
            if let Some(index) = index(part.span, width) {
                windows.entry(index).or_default().push(*part);
            }
        }
        let by_age = |members: &mut Vec<Candidate>| members.sort_by_key(|part| part.place);
        windows.into_iter().rev().find_map(|(index, mut members)| {
            by_age(&mut members);
            let window = width.map_or(TimeRange::ALL, |width| window::window(index, width));
            if fill && (width == Some(LADDER_US[0]) || size(&members) <= SIZE_MAX) {
                let inputs = self.worthwhile(&members, window)?;
                return Some(Plan { inputs: inputs.iter().map(|part| part.number).collect(), windows: vec![window] });
            }
            let spans: Vec<TimeRange> = members.iter().map(|part| part.span).collect();
            window::groups(&spans).into_iter().find_map(|(span, group)| {
                let mut group: Vec<Candidate> = group.into_iter().map(|member| members[member]).collect();
                by_age(&mut group);
                let inputs = self.worthwhile(&group, window).filter(|inputs| overlapping(inputs))?;
                let windows = cut(&inputs, span, width);
                Some(Plan { inputs: inputs.iter().map(|part| part.number).collect(), windows })
            })
        })
    }

    /// Those of some parts, the oldest first, whose merge pays and is allowed.
    fn worthwhile(&self, members: &[Candidate], window: TimeRange) -> Option<Vec<Candidate>> {
        let width = window.to.saturating_sub(window.from);
        let moved_on = window != TimeRange::ALL && window.to.saturating_add(width) <= self.newest;
        let cold = self.effort != Effort::Steady || moved_on;
        let (count, ratio) = if cold { (2, RATIO_COLD) } else { (PARTS_HOT, RATIO_HOT) };
        let mut chosen = members.to_vec();
        while chosen.len() >= count {
            let largest = *chosen.iter().max_by_key(|part| part.size).expect("there are at least two");
            let pays = largest.size <= (size(&chosen) - largest.size).saturating_mul(ratio);
            if !pays && self.effort != Effort::Full {
                chosen.retain(|part| part.number != largest.number);
                continue;
            }
            if let Some(place) = self.between(&chosen) {
                chosen.retain(|part| part.place >= place);
            } else if let Some(span) = self.hole(&chosen) {
                let (before, after): (Vec<_>, Vec<_>) = chosen.iter().partition(|part| part.span.from < span.from);
                chosen = if before.len() > after.len() { before } else { after };
            } else {
                return Some(chosen);
            }
        }
        None
    }

    /// Where a part stands that stays out, though it is newer than one that it overlaps and not newer than another: parts
    /// that one merge made stand at one place.
    fn between(&self, chosen: &[Candidate]) -> Option<(u64, u64)> {
        let inside: BTreeSet<u64> = chosen.iter().map(|part| part.number).collect();
        let newest = chosen.iter().map(|part| part.place).max()?;
        let outside = self.parts.iter().filter(|part| !inside.contains(&part.number) && part.place <= newest);
        let covers =
            |other: &&Candidate| chosen.iter().any(|part| part.place < other.place && part.span.shares(other.span));
        outside.filter(covers).map(|part| part.place).max()
    }

    /// The times of a part that stays out and overlaps none of those that go in, but would overlap what they become.
    fn hole(&self, chosen: &[Candidate]) -> Option<TimeRange> {
        let hull = chosen.iter().map(|part| part.span).reduce(TimeRange::hull)?;
        let goes_in = |other: &Candidate| chosen.iter().any(|part| part.number == other.number);
        let apart = |other: &&Candidate| chosen.iter().all(|part| !part.span.shares(other.span));
        let outside = self.parts.iter().filter(|other| other.span.shares(hull) && !goes_in(other));
        outside.filter(apart).map(|part| part.span).next()
    }
}

fn size(parts: &[Candidate]) -> u64 {
    parts.iter().map(|part| part.size).sum()
}

/// Whether any of some parts overlap.
fn overlapping(parts: &[Candidate]) -> bool {
    parts.iter().enumerate().any(|(at, part)| parts[..at].iter().any(|other| other.span.shares(part.span)))
}

/// The window of a width that a span lies in wholly.
fn index(span: TimeRange, width: Option<i64>) -> Option<i64> {
    let Some(width) = width else { return Some(0) };
    let first = span.from.div_euclid(width);
    (span != TimeRange::ALL && first == span.to.saturating_sub(1).div_euclid(width)).then_some(first)
}

/// Windows narrower than `below` for parts that fill the span: the widest of which none is likely to hold too much.
fn cut(parts: &[Candidate], span: TimeRange, below: Option<i64>) -> Vec<TimeRange> {
    let few = |&width: &i64| {
        below.is_none_or(|below| width < below)
            && span.to.div_euclid(width).saturating_sub(span.from.div_euclid(width)) < WINDOWS_MAX
    };
    let windows = |width: i64| -> Vec<TimeRange> {
        let last = span.to.saturating_sub(1).div_euclid(width);
        (span.from.div_euclid(width)..=last).map(|index| window::window(index, width)).collect()
    };
    let narrowest = LADDER_US.iter().copied().find(few);
    let widths = LADDER_US.iter().copied().rev().filter(few);
    let mut fitting = widths.filter(|&width| windows(width).iter().all(|&window| share(parts, window) <= SIZE_MAX));
    match fitting.next().or(narrowest).filter(|_| span != TimeRange::ALL) {
        Some(width) => windows(width),
        None => vec![span],
    }
}

/// The bytes that parts likely have in a window.
fn share(parts: &[Candidate], window: TimeRange) -> u64 {
    let length = |range: TimeRange| u128::try_from(i128::from(range.to) - i128::from(range.from)).unwrap_or(0);
    let share = |part: &Candidate| {
        let common = part.span.intersect(window);
        u128::from(part.size) * length(common) / length(part.span).max(1)
    };
    u64::try_from(parts.iter().map(share).sum::<u128>()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
