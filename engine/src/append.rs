//! From a caller's write to a sorted run: columns are found, checked, given the table's types, and ordered by key.
//!
//! **Invariant:** looks only at the write and the table's definition, never at what the table holds.

mod tag;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::definition::Definition;
use crate::key::{KeyView, key_text};
use crate::memtable::{Run, key_columns};
use crate::{Error, OnConflict, Result, TableSchema, Write};

/// A write that is ready for the log.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Rows and deleted keys together.
    pub(crate) run: Run,
    /// Keys that must not exist, sorted; absent where replacing is fine.
    pub(crate) absent: Option<Run>,
}

/// Checks and sorts a write. `None` where it holds no row at all.
pub(crate) fn prepare(definition: &Definition, write: &Write) -> Result<Option<Prepared>> {
    let (table, schema) = (definition.table.as_ref(), definition.stored.as_ref());
    let rows = write.rows.as_ref().filter(|b| b.num_rows() > 0);
    let rows = rows.map(|rows| conform_rows(table, schema, rows)).transpose()?;
    let deletes = write.deletes.as_ref().filter(|b| b.num_rows() > 0);
    let deletes = deletes.map(|deletes| conform_keys(table, schema, deletes)).transpose()?;
    let absent = match (&rows, write.on_conflict) {
        (Some(rows), OnConflict::Error) => Some(must_be_absent(table, schema, rows, deletes.as_ref())?),
        _ => None,
    };
    let run = match (rows, deletes) {
        (None, None) => return Ok(None),
        (Some(rows), None) => Run::sorted(schema, rows, None)?,
        (rows, Some(deletes)) => {
            let rows = rows.unwrap_or_else(|| deletes.slice(0, 0));
            let marks = (0..deletes.num_rows() + rows.num_rows()).map(|row| Some(row < deletes.num_rows())).collect();
            Run::sorted(schema, stack(&deletes, &rows)?, Some(marks))?
        }
    };
    Ok(Some(Prepared { run, absent }))
}

/// The rows' columns in table order, of the table's types and under their stored names.
fn conform_rows(schema: &TableSchema, stored: &TableSchema, rows: &RecordBatch) -> Result<RecordBatch> {
    let mut found: Vec<Option<&ArrayRef>> = vec![None; schema.columns.len()];
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let unknown = || Error::UnknownColumn { table: schema.name.clone(), column: field.name().clone() };
        let index = schema.column(field.name()).ok_or_else(unknown)?;
        if found[index].replace(column).is_some() {
            let reason = format!("column \"{}\" is given twice", field.name());
            return Err(Error::InvalidRow { table: schema.name.clone(), reason });
        }
    }
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (index, column) in found.into_iter().enumerate() {
        let in_key = schema.key.contains(&index);
        let column = match column {
            Some(column) => conform(schema, index, column)?,
            None if !schema.columns[index].nullable => return Err(not_null(schema, index)),
            None if in_key => conform(schema, index, &new_null_array(&DataType::Utf8, rows.num_rows()))?,
            None => continue,
        };
        fields.push(Field::new(&stored.columns[index].name, column.data_type().clone(), true));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The key columns; tags that are not given are null.
pub(crate) fn conform_keys(schema: &TableSchema, stored: &TableSchema, keys: &RecordBatch) -> Result<RecordBatch> {
    for field in keys.schema_ref().fields() {
        let index = schema.column(field.name());
        if !index.is_some_and(|index| schema.key.contains(&index)) {
            let reason = format!("\"{}\" is not a key column; delete by the key columns only", field.name());
            return Err(Error::InvalidRow { table: schema.name.clone(), reason });
        }
    }
    let key_only = |schema: &TableSchema| TableSchema {
        columns: schema.key.iter().map(|&index| schema.columns[index].clone()).collect(),
        key: (0..schema.key.len()).collect(),
        ..schema.clone()
    };
    conform_rows(&key_only(schema), &key_only(stored), keys)
}

/// One column with the table's type; an error where it has another, or a null where none may be.
fn conform(schema: &TableSchema, index: usize, array: &ArrayRef) -> Result<ArrayRef> {
    let column = &schema.columns[index];
    let array = match (array.data_type(), &column.data_type) {
        (found, wanted) if found == wanted => Arc::clone(array),
        (found, wanted) if same_values(found, wanted) => cast(array, wanted)?,
        (found, wanted) => {
            let (table, column) = (schema.name.clone(), column.name.clone());
            return Err(Error::ColumnType { table, column, expected: wanted.clone(), found: found.clone() });
        }
    };
    let array = if column.data_type == TableSchema::tag_type() { tag::compact(&array)? } else { array };
    if !column.nullable && array.logical_null_count() > 0 {
        return Err(not_null(schema, index));
    }
    Ok(array)
}

/// Whether two types hold the same values in another form.
fn same_values(found: &DataType, wanted: &DataType) -> bool {
    fn text(data_type: &DataType) -> bool {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
            DataType::Dictionary(_, values) => text(values),
            _ => false,
        }
    }
    let binary = |t: &DataType| matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let none = matches!(found, DataType::Null);
    none || (text(found) && text(wanted)) || (binary(found) && binary(wanted))
}

fn not_null(schema: &TableSchema, index: usize) -> Error {
    Error::NotNull { table: schema.name.clone(), column: schema.columns[index].name.clone() }
}

/// The keys of rows that may neither exist in the table nor come twice; those that the same write deletes may exist.
fn must_be_absent(
    table: &TableSchema,
    schema: &TableSchema,
    rows: &RecordBatch,
    deletes: Option<&RecordBatch>,
) -> Result<Run> {
    let fields: Vec<_> =
        schema.key.iter().filter_map(|&i| rows.schema_ref().index_of(&schema.columns[i].name).ok()).collect();
    let keys = rows.project(&fields)?;
    let run = Run::sorted(schema, keys.clone(), None)?;
    if run.rows() < rows.num_rows() {
        return Err(Error::Duplicate { table: schema.name.clone(), key: twice(table, schema, &keys)? });
    }
    let Some(deletes) = deletes else { return Ok(run) };
    let deleted = Run::sorted(schema, deletes.clone(), None)?;
    let mut at = 0;
    let mut stays = Vec::with_capacity(run.rows());
    for row in 0..run.rows() {
        at = deleted.key.gallop(at, deleted.rows(), &run.key, row);
        stays.push(at == deleted.rows() || run.key.compare(row, &deleted.key, at).is_ne());
    }
    run.filter(schema, &BooleanArray::from(stays))
}

/// A key that a batch holds twice, for the message.
fn twice(table: &TableSchema, schema: &TableSchema, keys: &RecordBatch) -> Result<String> {
    let columns = key_columns(schema, keys);
    let view = KeyView::new(&columns, keys.num_rows())?;
    let mut rows: Vec<usize> = (0..view.len()).collect();
    rows.sort_by(|&a, &b| view.compare(a, &view, b));
    let pair = rows.windows(2).find(|pair| view.compare(pair[0], &view, pair[1]).is_eq());
    key_text(table, &columns, pair.map_or(0, |pair| pair[0]))
}

/// Two batches on top of each other; the second names all columns, the first may lack some.
fn stack(first: &RecordBatch, second: &RecordBatch) -> Result<RecordBatch> {
    let columns = second.schema_ref().fields().iter().zip(second.columns()).map(|(field, below)| {
        let above = first.column_by_name(field.name()).cloned();
        let above = above.unwrap_or_else(|| new_null_array(field.data_type(), first.num_rows()));
        let both = concat(&[above.as_ref(), below.as_ref()])?;
        if field.data_type() == &TableSchema::tag_type() { tag::compact(&both) } else { Ok(both) }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(first.num_rows() + second.num_rows()));
    Ok(RecordBatch::try_new_with_options(second.schema(), columns, &options)?)
}

#[cfg(test)]
mod tests;
