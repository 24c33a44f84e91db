//! Merges sorted sources into one sorted stream with one row per key: the newest source wins.
//!
//! Ranges are merged, not rows: as long as one source's keys are below all others', a galloping search finds how far it
//! goes. Sources are kept in a list ordered by their next key, so that a step costs a binary search among them.
//!
//! **Invariant:** knows keys and deletion marks only; where rows come from and what else they hold is no matter.

mod gather;
mod source;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::record_batch::RecordBatch;

pub(crate) use self::gather::{Gather, deleted};
pub(crate) use self::source::{Columns, PartSource, RunSource, project, slices};
use crate::key::KeyView;
use crate::{BATCH_ROWS_MAX, Result};

/// A range at least this long goes out as it is rather than being copied together with others.
const RANGE_ROWS_UNCOPIED: usize = BATCH_ROWS_MAX / 2;

/// Some rows of a source, sorted by key, one per key.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) batch: RecordBatch,
    pub(crate) key: KeyView,
    pub(crate) deleted: Option<BooleanArray>,
}

/// Gives sorted batches, each behind the one before.
pub(crate) type Source = Box<dyn Iterator<Item = Result<Sorted>> + Send>;

/// Neighbouring rows of one batch.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) from: Arc<Sorted>,
    pub(crate) rows: Range<usize>,
}

/// A merge under way.
pub(crate) struct Merge {
    /// The oldest first.
    sources: Vec<Source>,
    heads: Vec<Option<Head>>,
    /// Sources with rows left, by their next key; of equal keys the newest source first.
    order: VecDeque<usize>,
    keep_deleted: bool,
    started: bool,
}

#[derive(Debug)]
struct Head {
    from: Arc<Sorted>,
    row: usize,
}

impl Merge {
    /// A merge of sources given from the oldest to the newest. Deleted keys come out only where `keep_deleted`.
    pub(crate) fn new(sources: Vec<Source>, keep_deleted: bool) -> Self {
        let heads = sources.iter().map(|_| None).collect();
        Self { sources, heads, order: VecDeque::new(), keep_deleted, started: false }
    }

    /// The next rows, at most a batch of them, as pieces to be put together; none at the end.
    pub(crate) fn next_pieces(&mut self) -> Result<Vec<Piece>> {
        if !self.started {
            self.started = true;
            for source in 0..self.sources.len() {
                self.refill(source)?;
            }
        }
        let (mut pieces, mut rows) = (Vec::new(), 0);
        while rows < BATCH_ROWS_MAX && !self.order.is_empty() {
            let range = self.next_range(BATCH_ROWS_MAX - rows);
            if rows > 0 && range.rows.len() >= RANGE_ROWS_UNCOPIED {
                break;
            }
            self.advance(&range)?;
            rows += self.keep(range, &mut pieces);
        }
        Ok(pieces)
    }

    /// The longest range, up to `limit`, that the first source can give before another has its turn.
    fn next_range(&self, limit: usize) -> Piece {
        let head = self.head(self.order[0]);
        let from = Arc::clone(&head.from);
        let end = (head.row + limit).min(from.key.len());
        let end = match self.order.get(1).map(|&second| self.head(second)) {
            None => end,
            Some(second) => from.key.gallop(head.row, end, &second.from.key, second.row).max(head.row + 1),
        };
        Piece { rows: head.row..end, from }
    }

    /// Steps over a range, and over older rows that have the same key.
    fn advance(&mut self, range: &Piece) -> Result<()> {
        let first = self.order.pop_front().expect("the range came from it");
        // Only a range of one row can meet its own key in another source.
        while range.rows.len() == 1 {
            let Some(&next) = self.order.front() else { break };
            let head = self.head(next);
            if range.from.key.compare(range.rows.start, &head.from.key, head.row).is_ne() {
                break;
            }
            self.order.pop_front();
            self.step(next, 1)?;
        }
        self.step(first, range.rows.len())
    }

    fn step(&mut self, source: usize, rows: usize) -> Result<()> {
        let head = self.heads[source].as_mut().expect("only sources with rows are stepped");
        head.row += rows;
        if head.row == head.from.key.len() {
            self.heads[source] = None;
            return self.refill(source);
        }
        self.queue(source);
        Ok(())
    }

    fn refill(&mut self, source: usize) -> Result<()> {
        for batch in self.sources[source].by_ref() {
            let batch = batch?;
            if batch.key.len() > 0 {
                self.heads[source] = Some(Head { from: Arc::new(batch), row: 0 });
                self.queue(source);
                break;
            }
        }
        Ok(())
    }

    fn queue(&mut self, source: usize) {
        let head = self.head(source);
        let before = |&other: &usize| {
            let other_head = self.head(other);
            match other_head.from.key.compare(other_head.row, &head.from.key, head.row) {
                Ordering::Equal => other > source,
                order => order.is_lt(),
            }
        };
        let place = self.order.partition_point(before);
        self.order.insert(place, source);
    }

    fn head(&self, source: usize) -> &Head {
        self.heads[source].as_ref().expect("queued sources have rows")
    }

    /// Keeps the rows of a range that are to come out; answers how many.
    fn keep(&self, range: Piece, pieces: &mut Vec<Piece>) -> usize {
        let deleted = match &range.from.deleted {
            Some(deleted) if !self.keep_deleted => deleted,
            _ => {
                let rows = range.rows.len();
                push(pieces, range);
                return rows;
            }
        };
        let mut kept = 0;
        for row in range.rows.clone().filter(|&row| !deleted.value(row)) {
            push(pieces, Piece { from: Arc::clone(&range.from), rows: row..row + 1 });
            kept += 1;
        }
        kept
    }
}

/// Appends a piece, to the last one where it goes on from there.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last) if Arc::ptr_eq(&last.from, &piece.from) && last.rows.end == piece.rows.start => {
            last.rows.end = piece.rows.end;
        }
        _ => pieces.push(piece),
    }
}
