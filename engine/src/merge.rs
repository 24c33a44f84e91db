//! Merges sorted sources into one sorted stream with one row per key.
//!
//! The newest source wins. In a telemetry table it wins column by column: where its row has a null, the newest older row
//! with a value shows through, back to where the key was deleted or a row is marked as whole. Only a key that several
//! sources have costs anything for that.
//!
//! Ranges are merged, not rows: as long as one source's keys are below all others', a galloping search finds how far it
//! goes. Sources are kept in a list ordered by their next key, so that a step costs a binary search among them.
//!
//! **Invariant:** knows keys, marks and nulls only; where rows come from and what else they hold is no matter.

mod gather;
mod source;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

pub(crate) use self::gather::{Gather, marks};
pub(crate) use self::source::{Columns, PartSource, RunSource, project, slices};
use crate::key::KeyView;
use crate::mark::Marks;
use crate::{BATCH_ROWS_MAX, Result};

/// A range at least this long goes out as it is rather than being copied together with others.
const RANGE_ROWS_UNCOPIED: usize = BATCH_ROWS_MAX / 2;

/// Some rows of a source, sorted by key, one per key.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) batch: RecordBatch,
    pub(crate) key: KeyView,
    pub(crate) marks: Marks,
    /// Whether older rows can show through: there are nulls beside the key, and rows merge by column.
    pub(crate) gaps: bool,
}

/// Gives sorted batches, each behind the one before.
pub(crate) type Source = Box<dyn Iterator<Item = Result<Sorted>> + Send>;

/// Neighbouring rows of one batch.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) from: Arc<Sorted>,
    pub(crate) rows: Range<usize>,
    /// Older rows of the same key, the newest first, that show through where the piece's only row has nulls.
    pub(crate) older: Vec<(Arc<Sorted>, usize)>,
    /// Whether the piece's only row hides what is older than this merge, beside what its batch marks.
    pub(crate) whole: bool,
}

impl Piece {
    fn new(from: Arc<Sorted>, rows: Range<usize>) -> Self {
        Self { from, rows, older: Vec::new(), whole: false }
    }

    fn is_plain(&self) -> bool {
        self.older.is_empty() && !self.whole
    }
}

/// A merge under way.
pub(crate) struct Merge {
    /// The oldest first.
    sources: Vec<Source>,
    heads: Vec<Option<Head>>,
    /// Sources with rows left, by their next key; of equal keys the newest source first.
    order: VecDeque<usize>,
    merges_fields: bool,
    keep_marks: bool,
    started: bool,
}

#[derive(Debug)]
struct Head {
    from: Arc<Sorted>,
    row: usize,
}

impl Merge {
    /// A merge of sources of these columns, given from the oldest to the newest. With `keep_marks` deleted keys come out
    /// too, and rows are marked that hide what is older than all sources.
    pub(crate) fn new(columns: &Columns, sources: Vec<Source>, keep_marks: bool) -> Self {
        let heads = sources.iter().map(|_| None).collect();
        let merges_fields = columns.merges_fields;
        Self { sources, heads, order: VecDeque::new(), merges_fields, keep_marks, started: false }
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
            let mut range = self.next_range(BATCH_ROWS_MAX - rows);
            if rows > 0 && range.rows.len() >= RANGE_ROWS_UNCOPIED {
                break;
            }
            self.advance(&mut range)?;
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
        Piece::new(from, head.row..end)
    }

    /// Steps over a range, and over older rows that have the same key.
    fn advance(&mut self, range: &mut Piece) -> Result<()> {
        let first = self.order.pop_front().expect("the range came from it");
        // Only a range of one row can meet its own key in another source.
        if range.rows.len() == 1 {
            self.pass_older(range)?;
        }
        self.step(first, range.rows.len())
    }

    /// Steps over older rows of the key of a piece of one row, and takes down those that show through it.
    fn pass_older(&mut self, newest: &mut Piece) -> Result<()> {
        let row = newest.rows.start;
        let mut hidden = !self.merges_fields || newest.from.marks.hides_older(row);
        while let Some(&next) = self.order.front() {
            let head = self.head(next);
            if newest.from.key.compare(row, &head.from.key, head.row).is_ne() {
                break;
            }
            if !hidden {
                hidden = head.from.marks.hides_older(head.row);
                newest.whole = hidden && self.keep_marks;
                if newest.from.gaps && !head.from.marks.is_deleted(head.row) {
                    newest.older.push((Arc::clone(&head.from), head.row));
                }
            }
            self.order.pop_front();
            self.step(next, 1)?;
        }
        Ok(())
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
        let deleted = match &range.from.marks.deleted {
            // A row that older ones show through is not deleted.
            Some(deleted) if !self.keep_marks && range.older.is_empty() => deleted,
            _ => {
                let rows = range.rows.len();
                push(pieces, range);
                return rows;
            }
        };
        let mut kept = 0;
        for row in range.rows.clone().filter(|&row| !deleted.value(row)) {
            push(pieces, Piece::new(Arc::clone(&range.from), row..row + 1));
            kept += 1;
        }
        kept
    }
}

/// Appends a piece, to the last one where it goes on from there.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last)
            if Arc::ptr_eq(&last.from, &piece.from)
                && last.rows.end == piece.rows.start
                && last.is_plain()
                && piece.is_plain() =>
        {
            last.rows.end = piece.rows.end;
        }
        _ => pieces.push(piece),
    }
}
