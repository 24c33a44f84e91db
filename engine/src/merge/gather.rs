//! Puts pieces of batches together to one batch.
//!
//! **Invariant:** one piece alone is not copied. Dictionaries come out with the strings in use only, so that a batch made
//! of many sources does not carry all their dictionaries.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, BooleanBuilder, DictionaryArray, Int32Builder, MutableArrayData,
    StringArray, make_array,
};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::{Piece, Sorted};
use crate::Result;

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
    ranges: Vec<(usize, usize, usize)>,
    rows: usize,
}

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

/// The deletion marks of the pieces' rows; none where no row is marked.
pub(crate) fn deleted(pieces: &[Piece]) -> Option<BooleanArray> {
    let mut marks = BooleanBuilder::new();
    let mut any = false;
    for piece in pieces {
        match &piece.from.deleted {
            Some(deleted) => {
                let slice = deleted.slice(piece.rows.start, piece.rows.len());
                any |= slice.true_count() > 0;
                slice.values().iter().for_each(|mark| marks.append_value(mark));
            }
            None => marks.append_n(piece.rows.len(), false),
        }
    }
    any.then(|| marks.finish())
}

impl<'a> Layout<'a> {
    fn new(pieces: &'a [Piece]) -> Self {
        let mut layout = Self { batches: Vec::new(), ranges: Vec::with_capacity(pieces.len()), rows: 0 };
        for piece in pieces {
            let known = layout.batches.iter().position(|batch| Arc::ptr_eq(batch, &piece.from));
            let batch = known.unwrap_or_else(|| {
                layout.batches.push(&piece.from);
                layout.batches.len() - 1
            });
            layout.ranges.push((batch, piece.rows.start, piece.rows.end));
            layout.rows += piece.rows.len();
        }
        layout
    }

    fn column(&self, column: usize) -> Result<ArrayRef> {
        let arrays: Vec<_> = self.batches.iter().map(|batch| batch.batch.column(column)).collect();
        match (self.ranges.as_slice(), arrays.first().map(|array| array.data_type())) {
            (&[(_, start, end)], _) => Ok(arrays[0].slice(start, end - start)),
            (_, Some(DataType::Dictionary(_, _))) => self.tags(&arrays),
            _ => self.values(&arrays),
        }
    }

    fn values(&self, arrays: &[&ArrayRef]) -> Result<ArrayRef> {
        let data: Vec<ArrayData> = arrays.iter().map(|array| array.to_data()).collect();
        let mut gathered = MutableArrayData::new(data.iter().collect(), false, self.rows);
        for &(batch, start, end) in &self.ranges {
            gathered.try_extend(batch, start, end)?;
        }
        Ok(make_array(gathered.freeze()))
    }

    fn tags(&self, arrays: &[&ArrayRef]) -> Result<ArrayRef> {
        let arrays: Vec<_> = arrays.iter().map(|array| array.as_dictionary::<Int32Type>()).collect();
        let mut interned: HashMap<&str, i32> = HashMap::new();
        let mut strings: Vec<&str> = Vec::new();
        let mut keys = Int32Builder::with_capacity(self.rows);
        for &(batch, start, end) in &self.ranges {
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
