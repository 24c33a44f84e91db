//! Where block aggregates speak for the rows of a table.
//!
//! **Invariant:** a span is named only where one part alone has rows, without marks, so that no row elsewhere can change or
//! hide what its blocks say.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::TableSnapshot;
use crate::part::Part;
use crate::part::aggregate::Blocks;
use crate::retention::kept;
use crate::{Result, Rollup, TimeRange};

/// A time that whole blocks of one part speak for.
#[derive(Debug, Clone)]
pub struct BlockSpan {
    /// The blocks of the part of this width.
    pub blocks: Arc<Blocks>,
    /// The number of the block since 1970: its start divided by the width.
    pub number: i64,
    /// The times of the block that the part has rows in. No other source has rows there.
    pub time: TimeRange,
    /// Rows in it; zero for a time between blocks that no source has rows in.
    pub rows: u64,
}

/// A rollup, and how far it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupStatus {
    /// What is declared.
    pub rollup: Rollup,
    /// Parts of the table.
    pub parts: usize,
    /// Parts that need not be written anew for it.
    pub parts_done: usize,
    /// Parts that have blocks for it: those where that is worth it.
    pub parts_with_blocks: usize,
    /// Bytes of these blocks.
    pub bytes: u64,
}

impl TableSnapshot {
    /// The rollups of the table, in the order in which they were declared.
    pub fn rollups(&self) -> Vec<Rollup> {
        self.state.definition.rollups().map(|(_, rollup)| rollup).collect()
    }

    /// The rollups of the table and how far they are kept.
    ///
    /// # Errors
    /// What reading the parts' footers may answer.
    pub fn rollup_status(&self) -> Result<Vec<RollupStatus>> {
        let (definition, parts) = (&self.state.definition, &self.state.parts);
        let status = definition.rollups().map(|(id, rollup)| {
            let done = |part: &&Arc<Part>| part.record.rollups.contains(&id);
            let parts_done = parts.iter().filter(done).count();
            let mut status = RollupStatus { rollup, parts: parts.len(), parts_done, parts_with_blocks: 0, bytes: 0 };
            for part in parts {
                if let Some(bytes) = part.rollup_bytes(definition, id)? {
                    status.parts_with_blocks += 1;
                    status.bytes += bytes;
                }
            }
            Ok(status)
        });
        status.collect()
    }

    /// The widths in microseconds that blocks of parts with rows in a range have, the widest first.
    ///
    /// # Errors
    /// What reading the parts' footers may answer.
    pub fn block_widths(&self, range: TimeRange) -> Result<Vec<i64>> {
        let mut widths = BTreeSet::new();
        let within = |part: &&Arc<Part>| part.record.time.is_some_and(|(min, max)| range.overlaps(min, max));
        for part in self.state.parts.iter().filter(within) {
            widths.extend(part.block_widths(&self.state.definition)?);
        }
        Ok(widths.into_iter().rev().collect())
    }

    /// The spans of time within some ranges, given in order, for which blocks of a width speak that are `wanted`, in order;
    /// they do not overlap. Rows outside must be read.
    ///
    /// # Errors
    /// What reading parts may answer.
    pub fn block_spans(
        &self,
        ranges: &[TimeRange],
        width_us: i64,
        wanted: impl Fn(&Blocks) -> bool,
    ) -> Result<Vec<BlockSpan>> {
        let ranges: Vec<TimeRange> = ranges.iter().map(|range| range.intersect(kept(&self.state))).collect();
        let parts = self.state.parts.iter().map(|part| part.record.time);
        let sources: Vec<Option<(i64, i64)>> = parts.chain(self.state.runs().map(|run| run.time)).collect();
        let mut spans = Vec::new();
        for (index, part) in self.state.parts.iter().enumerate() {
            let Some((min, max)) = part.record.time else { continue };
            if !ranges.iter().any(|range| range.overlaps(min, max)) {
                continue;
            }
            let blocks = part.blocks(&self.state.definition, width_us)?;
            let Some(blocks) = blocks.into_iter().find(&wanted).map(Arc::new) else { continue };
            let others = sources.iter().enumerate().filter(|(other, _)| *other != index);
            let others: Vec<_> = others.filter_map(|(_, time)| *time).filter(|&(a, b)| a <= max && min <= b).collect();
            spans.extend(alone(&blocks, (min, max), &others, &ranges));
        }
        spans.sort_by_key(|span| span.time.from);
        Ok(spans)
    }
}

/// The blocks that lie in a range and that none of the other sources touches, and the times between them without rows.
fn alone(blocks: &Arc<Blocks>, (min, max): (i64, i64), others: &[(i64, i64)], ranges: &[TimeRange]) -> Vec<BlockSpan> {
    let width = blocks.width_us();
    let mut spans = Vec::new();
    let mut add = |number: i64, first: i64, last: i64, rows: u64| {
        let touched = others.iter().any(|&(a, b)| a <= last && first <= b);
        let within = |first, last| {
            let at = ranges.partition_point(|range| range.from <= first);
            at > 0 && ranges[at - 1].covers(first, last)
        };
        if !touched && first <= last && within(first, last) && last < i64::MAX {
            let time = TimeRange { from: first, to: last + 1 };
            spans.push(BlockSpan { blocks: Arc::clone(blocks), number, time, rows });
        }
    };
    let mut next = min;
    for &(number, rows) in blocks.numbers() {
        let start = number.saturating_mul(width);
        let (first, last) = (start.max(min), start.saturating_add(width - 1).min(max));
        add(number, next, first.saturating_sub(1), 0);
        add(number, first, last, rows);
        next = last.saturating_add(1);
    }
    spans
}
