//! From computed rows to writes: values held to their columns, keys found, doubles passed over.
//!
//! **Invariant:** pure but for the ids that rows without a key get.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use juno_engine::{OnConflict, TableKind, TableSchema, Write};

use crate::types::HIDDEN_PREFIX;
use crate::{Error, Result, column};

/// The most bytes of rows that one statement may change.
const CHANGE_BYTES_MAX: usize = 1 << 30;

/// The batches of a change as one, or none where they hold no row.
pub(crate) fn all_rows(batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    if bytes > CHANGE_BYTES_MAX {
        let most = CHANGE_BYTES_MAX >> 20;
        return Err(Error::OutOfMemory(format!("a statement may change {most} MiB of rows: change fewer at a time")));
    }
    match batches.iter().find(|batch| batch.num_rows() > 0) {
        Some(first) => Ok(Some(concat_batches(&first.schema(), batches)?)),
        None => Ok(None),
    }
}

/// The rows of an INSERT as the table stores them: all its columns, in its order.
pub(crate) fn inserted(table: &TableSchema, db: &juno_engine::Db, rows: RecordBatch) -> Result<RecordBatch> {
    let rows = column::conform(table, &with_row_ids(table, db, rows)?)?;
    let order = table.columns.iter().map(|column| rows.schema().index_of(&column.name));
    let order = order.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.project(&order)?)
}

/// Rows of a table without a key of its own get one.
fn with_row_ids(table: &TableSchema, db: &juno_engine::Db, rows: RecordBatch) -> Result<RecordBatch> {
    let Some(&key) = table.key.first() else { return Ok(rows) };
    let name = &table.columns[key].name;
    if !name.starts_with(HIDDEN_PREFIX) {
        return Ok(rows);
    }
    let ids: StringArray = (0..rows.num_rows()).map(|_| Some(db.system().uuid_v7().to_string())).collect();
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, DataType::Utf8, false)));
    let mut arrays = rows.columns().to_vec();
    arrays.push(Arc::new(ids));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// What a DELETE or an UPDATE comes to.
pub(crate) struct Settled {
    pub(crate) write: Write,
    /// The rows that were changed: as they are after an UPDATE, as they were before a DELETE.
    pub(crate) rows: RecordBatch,
    /// The columns that the plan gave behind those of the table.
    pub(crate) more: Vec<ArrayRef>,
}

/// The write of an UPDATE. The plan gave the old rows, then the values of the assigned columns, then other tables' columns.
pub(crate) fn updated(table: &TableSchema, assigned: &[usize], all: &RecordBatch, joined: bool) -> Result<Settled> {
    let width = table.columns.len();
    let all = if joined { once_each(table, all)? } else { all.clone() };
    let old = named(table, &all.columns()[..width])?;
    let mut new = all.columns()[..width].to_vec();
    for (place, &index) in assigned.iter().enumerate() {
        new[index] = Arc::clone(all.column(width + place));
    }
    let rows = column::conform(table, &named(table, &new)?)?;
    let moves = table.key.iter().any(|index| assigned.contains(index));
    // Rows of telemetry merge by column, so a null counts only where the old row is deleted first.
    let deletes =
        if moves || !matches!(table.kind, TableKind::Keyed) { Some(column::conform_keys(table, &old)?) } else { None };
    let on_conflict = if moves { OnConflict::Error } else { OnConflict::Replace };
    let write = Write { table: table.name.clone(), rows: Some(rows.clone()), deletes, on_conflict };
    Ok(Settled { write, rows, more: all.columns()[width + assigned.len()..].to_vec() })
}

/// The write of a DELETE. The plan gave the old rows' keys, or, for RETURNING, whole rows and then other tables' columns.
pub(crate) fn deleted(table: &TableSchema, all: &RecordBatch, joined: bool) -> Result<Settled> {
    let width = table.columns.len().min(all.num_columns());
    let rows = if joined { once_each(table, all)? } else { all.clone() };
    let deletes = Some(column::conform_keys(table, &rows)?);
    let write = Write { table: table.name.clone(), rows: None, deletes, on_conflict: OnConflict::Replace };
    let more = rows.columns()[width..].to_vec();
    Ok(Settled { write, rows, more })
}

/// A join may find a row several times; it is changed once, by the first.
fn once_each(table: &TableSchema, all: &RecordBatch) -> Result<RecordBatch> {
    let key = |index: &usize| {
        let name = &table.columns[*index].name;
        let missing = || Error::Internal(format!("key column \"{name}\" is missing"));
        all.column_by_name(name).cloned().ok_or_else(missing)
    };
    let keys = table.key.iter().map(key).collect::<Result<Vec<ArrayRef>>>()?;
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&keys)?;
    let mut seen = HashSet::with_capacity(rows.num_rows());
    let first: Vec<bool> = rows.iter().map(|key| seen.insert(key)).collect();
    if first.iter().all(|first| *first) {
        return Ok(all.clone());
    }
    Ok(filter_record_batch(all, &BooleanArray::from(first))?)
}

/// Columns in the table's order under their names.
fn named(table: &TableSchema, columns: &[ArrayRef]) -> Result<RecordBatch> {
    let field =
        |(column, array): (&juno_engine::Column, &ArrayRef)| Field::new(&column.name, array.data_type().clone(), true);
    let fields: Vec<_> = table.columns.iter().zip(columns).map(field).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec())?)
}
