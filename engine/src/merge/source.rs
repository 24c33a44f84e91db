//! What a merge reads: runs in memory and parts on the disk, brought to the same columns.
//!
//! **Invariant:** adds nulls for columns that a source lacks; changes no value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::Sorted;
use crate::condition::Conditions;
use crate::key::KeyView;
use crate::mark::Marks;
use crate::memtable::Run;
use crate::part::{Part, PartReader, PartRows, ReadPlan};
use crate::schema::{DELETED, WHOLE};
use crate::{BATCH_ROWS_MAX, Result, TableSchema, TimeRange};

/// The columns that a merge carries: the key first, then what else is wanted.
#[derive(Debug)]
pub(crate) struct Columns {
    /// Indices into the table's columns.
    pub(crate) indices: Vec<usize>,
    /// All nullable: rows of deleted keys hold nothing else.
    pub(crate) schema: SchemaRef,
    key_len: usize,
    /// Whether rows with one key merge by column.
    pub(super) merges_fields: bool,
}

impl Columns {
    pub(crate) fn new(table: &TableSchema, wanted: &[usize]) -> Self {
        let others = wanted.iter().filter(|index| !table.key.contains(index));
        let mut indices = table.key.clone();
        for &index in others {
            if !indices[table.key.len()..].contains(&index) {
                indices.push(index);
            }
        }
        let field =
            |&index: &usize| Field::new(&table.columns[index].name, table.columns[index].data_type.clone(), true);
        let schema = Arc::new(Schema::new(indices.iter().map(field).collect::<Vec<_>>()));
        Self { indices, schema, key_len: table.key.len(), merges_fields: table.merges_fields() }
    }

    /// Those of the rows, which must have a time as the last of their key, that lie in a range of times.
    pub(crate) fn within(&self, rows: Sorted, range: TimeRange) -> Result<Sorted> {
        let times = rows.batch.column(self.key_len - 1).as_primitive::<TimestampMicrosecondType>();
        let keep: BooleanArray = times.values().iter().map(|&time| Some(range.contains(time))).collect();
        if keep.true_count() == keep.len() {
            return Ok(rows);
        }
        let batch = arrow::compute::filter_record_batch(&rows.batch, &keep)?;
        self.conform(&batch, rows.marks.filter(&keep)?)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.schema.fields().iter().map(|field| field.name().as_str())
    }

    /// The batch with these columns and nothing else.
    fn conform(&self, batch: &RecordBatch, marks: Marks) -> Result<Sorted> {
        let columns = pick(batch, &self.schema);
        let key = KeyView::new(&columns[..self.key_len], batch.num_rows())?;
        let gaps = self.merges_fields && columns[self.key_len..].iter().any(|column| column.null_count() > 0);
        Ok(Sorted { batch: RecordBatch::try_new(Arc::clone(&self.schema), columns)?, key, marks, gaps })
    }
}

/// Columns by name, null where the batch lacks one.
fn pick(batch: &RecordBatch, schema: &Schema) -> Vec<ArrayRef> {
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    schema.fields().iter().map(column).collect()
}

/// Columns by name under a schema of their own, null where the batch lacks one.
pub(crate) fn project(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), pick(batch, schema), &options)?)
}

/// Rows of a run.
pub(crate) struct RunSource {
    rest: Option<Sorted>,
}

impl RunSource {
    /// The rows that `keep` selects; all where absent.
    pub(crate) fn new(columns: &Columns, run: &Run, keep: Option<&BooleanArray>) -> Result<Self> {
        let mut sorted = columns.conform(&run.batch, run.marks.clone())?;
        if let Some(keep) = keep {
            let batch = arrow::compute::filter_record_batch(&sorted.batch, keep)?;
            sorted = columns.conform(&batch, sorted.marks.filter(keep)?)?;
        }
        Ok(Self { rest: Some(sorted) })
    }
}

impl Iterator for RunSource {
    type Item = Result<Sorted>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.take().map(Ok)
    }
}

/// Rows of a part.
pub(crate) struct PartSource {
    columns: Arc<Columns>,
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
}

impl PartSource {
    /// All rows that a plan selects.
    pub(crate) fn new(columns: &Arc<Columns>, part: &Arc<Part>, plan: &ReadPlan) -> Result<Self> {
        let reader = PartReader::new(part, columns.names().chain([DELETED, WHOLE]), plan)?;
        Ok(Self { columns: Arc::clone(columns), batches: Box::new(reader) })
    }

    /// The rows whose keys satisfy conditions, by way of the columns in memory.
    pub(crate) fn of_keys(columns: &Arc<Columns>, part: &Arc<Part>, plan: &ReadPlan, keys: Conditions) -> Result<Self> {
        let footer = part.footer()?;
        let marks = [DELETED, WHOLE].into_iter().filter(|name| footer.schema().index_of(name).is_ok());
        let marks = marks.map(|name| Arc::new(Field::new(name, DataType::Boolean, true)));
        let fields: Vec<_> = columns.schema.fields().iter().cloned().chain(marks).collect();
        let rows = PartRows::new(part, &Arc::new(Schema::new(fields)), keys, plan)?;
        Ok(Self { columns: Arc::clone(columns), batches: Box::new(rows) })
    }
}

impl Iterator for PartSource {
    type Item = Result<Sorted>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batches.next()?.and_then(|batch| self.columns.conform(&batch, Marks::of(&batch))))
    }
}

/// Rows of a batch in batches of at most [`BATCH_ROWS_MAX`], without copying.
pub(crate) fn slices(batch: RecordBatch) -> impl Iterator<Item = RecordBatch> + Send {
    let starts = (0..batch.num_rows()).step_by(BATCH_ROWS_MAX);
    starts.map(move |start| batch.slice(start, BATCH_ROWS_MAX.min(batch.num_rows() - start)))
}
