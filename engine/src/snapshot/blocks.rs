//! Where block aggregates speak for the rows of a table.
//!
//! **Invariant:** a span is named only where one part alone has rows, without marks, so that no row elsewhere can change or
//! hide what its blocks say.

use std::sync::Arc;

use super::TableSnapshot;
use crate::part::aggregate::Blocks;
use crate::retention::kept;
use crate::{Result, TimeRange};

/// A time that whole blocks of one part speak for.
#[derive(Debug, Clone)]
pub struct BlockSpan {
    /// The blocks of the part.
    pub blocks: Arc<Blocks>,
    /// The number of the block since 1970: its start divided by the width.
    pub number: i64,
    /// The times of the block that the part has rows in. No other source has rows there.
    pub time: TimeRange,
    /// Rows in it; zero for a time between blocks that no source has rows in.
    pub rows: u64,
}

impl TableSnapshot {
    /// The spans of time within `range` for which blocks speak, in order; they do not overlap. Rows outside must be read.
    ///
    /// # Errors
    /// What reading parts may answer.
    pub fn block_spans(&self, range: TimeRange) -> Result<Vec<BlockSpan>> {
        // Callers know columns by the names of now, and blocks know them by those under which they are stored.
        if self.state.definition.renames() {
            return Ok(Vec::new());
        }
        let range = range.intersect(kept(&self.state));
        let parts = self.state.parts.iter().map(|part| part.record.time);
        let sources: Vec<Option<(i64, i64)>> = parts.chain(self.state.runs().map(|run| run.time)).collect();
        let mut spans = Vec::new();
        for (index, part) in self.state.parts.iter().enumerate() {
            let Some((min, max)) = part.record.time.filter(|&(min, max)| range.overlaps(min, max)) else { continue };
            let Some(blocks) = part.blocks()? else { continue };
            let others = sources.iter().enumerate().filter(|(other, _)| *other != index);
            let others: Vec<_> = others.filter_map(|(_, time)| *time).filter(|&(a, b)| a <= max && min <= b).collect();
            spans.extend(alone(&blocks, (min, max), &others, range));
        }
        spans.sort_by_key(|span| span.time.from);
        Ok(spans)
    }
}

/// The blocks that lie in the range and that none of the other sources touches, and the times between them without rows.
fn alone(blocks: &Arc<Blocks>, (min, max): (i64, i64), others: &[(i64, i64)], range: TimeRange) -> Vec<BlockSpan> {
    let width = blocks.width_us();
    let mut spans = Vec::new();
    let mut add = |number: i64, first: i64, last: i64, rows: u64| {
        let touched = others.iter().any(|&(a, b)| a <= last && first <= b);
        if !touched && first <= last && range.covers(first, last) && last < i64::MAX {
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
