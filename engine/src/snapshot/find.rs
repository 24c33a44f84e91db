//! Rows by their keys.
//!
//! **Invariant:** answers what a scan of the same snapshot would show for these keys, and reads no more than may hold them.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::record_batch::RecordBatch;

use super::TableSnapshot;
use super::slice::{Shared, Slice};
use crate::append::conform_keys;
use crate::key::KeyView;
use crate::memtable::{Run, key_columns};
use crate::retention::kept;
use crate::{Result, ScanRequest, TimeRange};

impl TableSnapshot {
    /// The rows with these keys that exist: all columns, sorted by key. `keys` holds the key columns by name, in
    /// any order and as often as the caller likes.
    ///
    /// # Errors
    /// What a write of such keys would answer, and what reading may.
    pub fn find(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        let (definition, schema) = (&self.state.definition, &self.state.schema);
        let wanted = Run::sorted(schema, conform_keys(&definition.table, schema, keys)?, None)?;
        let time = wanted.time.map_or(TimeRange::ALL, |(min, max)| TimeRange { from: min, to: max.saturating_add(1) });
        let request = ScanRequest { projection: (0..schema.columns.len()).collect(), time, ..ScanRequest::default() };
        let mut parts = Vec::new();
        for part in self.state.parts.iter().filter(|part| part.record.time.is_none_or(|(a, b)| time.overlaps(a, b))) {
            let plan = part.plan_keys(schema, &request, &wanted)?;
            if !plan.row_groups.is_empty() {
                parts.push((Arc::clone(part), plan));
            }
        }
        let mut runs = Vec::new();
        for run in self.state.runs() {
            let among = among(&run.key, &wanted.key);
            if among.true_count() > 0 {
                runs.push(Arc::new(run.filter(schema, &among)?));
            }
        }
        let kept = kept(&self.state);
        let slice = Slice::new(Arc::new(Shared::new(definition, &request, kept)), kept, parts, runs);
        let mut found = Vec::new();
        for batch in slice.read()? {
            let batch = batch?;
            let keys = KeyView::new(&key_columns(&definition.table, &batch), batch.num_rows())?;
            found.push(filter_record_batch(&batch, &among(&keys, &wanted.key))?);
        }
        Ok(concat_batches(slice.schema(), &found)?)
    }
}

/// Which of some sorted rows have one of some sorted keys.
fn among(rows: &KeyView, keys: &KeyView) -> BooleanArray {
    let mut among = vec![false; rows.len()];
    let mut at = 0;
    for key in 0..keys.len() {
        at = rows.gallop(at, rows.len(), keys, key);
        if at == rows.len() {
            break;
        }
        among[at] = rows.compare(at, keys, key).is_eq();
    }
    among.into()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, Int32Array};
    use arrow::datatypes::{DataType, Int32Type};

    use super::*;
    use crate::{Column, Db, OnConflict, TableKind, TableSchema, Write};

    fn rows(ids: &[i32], value: i32) -> RecordBatch {
        let ids = Arc::new(Int32Array::from(ids.to_vec()));
        let values = Arc::new(Int32Array::from(vec![value; ids.len()]));
        RecordBatch::try_from_iter([("id", ids as _), ("v", values as _)]).unwrap()
    }

    #[test]
    fn rows_are_found_in_memory_and_in_parts_and_deleted_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(directory.path()).unwrap();
        let columns = vec![Column::new("id", DataType::Int32, false), Column::new("v", DataType::Int32, true)];
        let table = TableSchema { name: "t".into(), columns, key: vec![0], kind: TableKind::Keyed, retention: None };
        db.create_table(table).unwrap();
        db.commit(vec![Write::rows("t", rows(&(0..1000).collect::<Vec<_>>(), 1))]).unwrap();
        db.flush(None).unwrap();
        let keys = |ids: &[i32]| rows(ids, 0).project(&[0]).unwrap();
        let delete =
            Write { table: "t".into(), rows: None, deletes: Some(keys(&[7])), on_conflict: OnConflict::Replace };
        db.commit(vec![Write::rows("t", rows(&[5, 2000], 2)), delete]).unwrap();
        let snapshot = db.snapshot();
        let found = snapshot.table("t").unwrap().find(&keys(&[2000, 5, 7, 6, 5, -1])).unwrap();
        let column = |index: usize| found.column(index).as_primitive::<Int32Type>().values().to_vec();
        assert_eq!((column(0), column(1)), (vec![5, 6, 2000], vec![2, 1, 2]));
        assert_eq!(snapshot.table("t").unwrap().find(&keys(&[-5])).unwrap().num_rows(), 0);
        assert_eq!(found.column(0).null_count(), 0);
    }
}
