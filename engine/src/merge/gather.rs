//! Puts pieces of batches together to one batch.
//!
//! **Invariant:** one piece alone is not copied. A null takes on the value of the newest older row of its key that has one,
//! where the piece lists any. Dictionaries come out with the strings in use only, so that a batch made
//! of many sources does not carry all their dictionaries.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, BooleanBuilder, DictionaryArray, Int32Builder, MutableArrayData,
    StringArray, make_array,
};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::{Piece, Sorted};
use crate::Result;
use crate::mark::Marks;

/// Gathers some columns of the pieces.
pub(crate) struct Gather {
    /// Positions in the pieces' batches.
    columns: Vec<usize>,
    schema: SchemaRef,
}

/// Pieces as positions in a list of distinct batches.
struct Layout<'a> {
    batches: Vec<&'a Arc<Sorted>>,
    /// For each piece: which batch, first row, row after the last.
    ranges: Vec<Span>,
    /// For pieces with older rows: which piece, and where these are in `older`.
    stacks: Vec<(usize, Range<usize>)>,
    /// Which batch and which row.
    older: Vec<(usize, usize)>,
    rows: usize,
}

/// A batch, a first row, and the row after the last.
type Span = (usize, usize, usize);

impl Gather {
    /// Column `i` of the result is column `columns[i]` of the pieces, under the fields of `schema`.
    pub(crate) fn new(columns: Vec<usize>, schema: SchemaRef) -> Self {
        Self { columns, schema }
    }

    /// One batch of all the pieces' rows.
    pub(crate) fn batch(&self, pieces: &[Piece]) -> Result<RecordBatch> {
        let layout = Layout::new(pieces);
        let columns = self.columns.iter().map(|&column| layout.column(column)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(layout.rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The marks of the pieces' rows.
pub(crate) fn marks(pieces: &[Piece]) -> Marks {
    let deleted = gather_marks(pieces, |marks| marks.deleted.as_ref(), |_| false);
    let whole = gather_marks(pieces, |marks| marks.whole.as_ref(), |piece| piece.whole);
    Marks::new(deleted, whole)
}

/// One kind of mark; none where neither a batch nor a piece has any.
fn gather_marks(
    pieces: &[Piece],
    of_batch: impl Fn(&Marks) -> Option<&BooleanArray>,
    of_piece: impl Fn(&Piece) -> bool,
) -> Option<BooleanArray> {
    if pieces.iter().all(|piece| of_batch(&piece.from.marks).is_none() && !of_piece(piece)) {
        return None;
    }
    let mut gathered = BooleanBuilder::new();
    for piece in pieces {
        match of_batch(&piece.from.marks) {
            Some(marks) if !of_piece(piece) => {
                let slice = marks.slice(piece.rows.start, piece.rows.len());
                slice.values().iter().for_each(|mark| gathered.append_value(mark));
            }
            _ => gathered.append_n(piece.rows.len(), of_piece(piece)),
        }
    }
    Some(gathered.finish())
}

impl<'a> Layout<'a> {
    fn new(pieces: &'a [Piece]) -> Self {
        let ranges = Vec::with_capacity(pieces.len());
        let mut layout = Self { batches: Vec::new(), ranges, stacks: Vec::new(), older: Vec::new(), rows: 0 };
        for piece in pieces {
            let batch = layout.number(&piece.from);
            if !piece.older.is_empty() {
                let first = layout.older.len();
                for (from, row) in &piece.older {
                    let batch = layout.number(from);
                    layout.older.push((batch, *row));
                }
                layout.stacks.push((layout.ranges.len(), first..layout.older.len()));
            }
            layout.ranges.push((batch, piece.rows.start, piece.rows.end));
            layout.rows += piece.rows.len();
        }
        layout
    }

    /// The number of a batch, a new one where it is met first.
    fn number(&mut self, batch: &'a Arc<Sorted>) -> usize {
        let known = self.batches.iter().position(|other| Arc::ptr_eq(other, batch));
        known.unwrap_or_else(|| {
            self.batches.push(batch);
            self.batches.len() - 1
        })
    }

    fn column(&self, column: usize) -> Result<ArrayRef> {
        let arrays: Vec<_> = self.batches.iter().map(|batch| batch.batch.column(column)).collect();
        let spans = self.spans(&arrays);
        match (spans.as_ref(), arrays.first().map(|array| array.data_type())) {
            (&[(batch, start, end)], _) => Ok(arrays[batch].slice(start, end - start)),
            (_, Some(DataType::Dictionary(_, _))) => self.tags(&arrays, &spans),
            _ => self.values(&arrays, &spans),
        }
    }

    /// Where the values of one column come from: the ranges, but for nulls that an older row has a value for.
    fn spans(&self, arrays: &[&ArrayRef]) -> Cow<'_, [Span]> {
        if self.stacks.is_empty() {
            return Cow::Borrowed(&self.ranges);
        }
        let mut spans: Vec<Span> = Vec::with_capacity(self.ranges.len());
        let mut stacks = self.stacks.iter().peekable();
        for (piece, &range) in self.ranges.iter().enumerate() {
            let mut span = range;
            if let Some((_, older)) = stacks.next_if(|(stacked, _)| *stacked == piece)
                && arrays[range.0].is_null(range.1)
                && let Some(&(batch, row)) =
                    self.older[older.clone()].iter().find(|&&(batch, row)| arrays[batch].is_valid(row))
            {
                span = (batch, row, row + 1);
            }
            match spans.last_mut() {
                Some(last) if (last.0, last.2) == (span.0, span.1) => last.2 = span.2,
                _ => spans.push(span),
            }
        }
        Cow::Owned(spans)
    }

    fn values(&self, arrays: &[&ArrayRef], spans: &[Span]) -> Result<ArrayRef> {
        let data: Vec<ArrayData> = arrays.iter().map(|array| array.to_data()).collect();
        let mut gathered = MutableArrayData::new(data.iter().collect(), false, self.rows);
        for &(batch, start, end) in spans {
            gathered.try_extend(batch, start, end)?;
        }
        Ok(make_array(gathered.freeze()))
    }

    fn tags(&self, arrays: &[&ArrayRef], spans: &[Span]) -> Result<ArrayRef> {
        let arrays: Vec<_> = arrays.iter().map(|array| array.as_dictionary::<Int32Type>()).collect();
        let mut interned: HashMap<&str, i32> = HashMap::new();
        let mut strings: Vec<&str> = Vec::new();
        let mut keys = Int32Builder::with_capacity(self.rows);
        for &(batch, start, end) in spans {
            let (source, values) = (arrays[batch].keys(), arrays[batch].values().as_string::<i32>());
            let mut row = start;
            while row < end {
                // Rows are sorted by tags, so the next row mostly has the same one.
                let null = source.is_null(row);
                let key = source.value(row);
                let same = |&next: &usize| source.is_null(next) == null && (null || source.value(next) == key);
                let run = (row..end).take_while(same).count();
                if null {
                    keys.append_nulls(run);
                } else {
                    let text = values.value(usize::try_from(key).expect("dictionary keys are not negative"));
                    let number = *interned.entry(text).or_insert_with(|| {
                        strings.push(text);
                        i32::try_from(strings.len() - 1).expect("a batch has less than 2^31 rows")
                    });
                    keys.append_value_n(number, run);
                }
                row += run;
            }
        }
        let values = StringArray::from(strings);
        Ok(Arc::new(DictionaryArray::try_new(keys.finish(), Arc::new(values))?))
    }
}
