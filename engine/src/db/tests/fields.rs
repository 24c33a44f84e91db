//! Rows of one key in a telemetry table merge by column.
//!
//! **Invariant:** expectations are checked in memory, after flushes and after reopening.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::support::*;
use crate::system::{MemoryDisk, read_all};
use crate::{Column, Db, OnConflict, ScanRequest, Snapshot, TableSchema, Write};

/// How many fields [`wide`] has.
pub(super) const FIELDS: usize = 4;
/// The index of the first of them.
const FIRST_FIELD: usize = 3;

/// A value per field.
pub(super) type Fields = [Option<i64>; FIELDS];

/// What a table holds.
pub(super) type Contents = BTreeMap<CpuKey, Fields>;

/// `cpu` with fields of several types.
pub(super) fn wide() -> TableSchema {
    let mut table = cpu();
    table.columns.push(Column::new("idle", DataType::Int64, true));
    table.columns.push(Column::new("note", DataType::Utf8, true));
    table.columns.push(Column::new("zone", TableSchema::tag_type(), true));
    table
}

/// Rows that name only the fields that `named` says, on top of deleted keys.
pub(super) fn write(rows: &[(CpuKey, Fields)], named: [bool; FIELDS], deletes: &[CpuKey]) -> Write {
    let keys = |keys: Vec<CpuKey>| cpu_keys(&keys.into_iter().map(|key| (key, None)).collect::<Vec<_>>());
    let table = wide();
    let key = keys(rows.iter().map(|row| row.0.clone()).collect());
    let names = key.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let mut columns: Vec<(String, ArrayRef)> = names.into_iter().zip(key.columns().to_vec()).collect();
    for field in (0..FIELDS).filter(|&field| named[field]) {
        let column = &table.columns[FIRST_FIELD + field];
        let values: Int64Array = rows.iter().map(|row| row.1[field]).collect();
        let values: ArrayRef = match column.data_type {
            DataType::Dictionary(_, _) => {
                Arc::new(values.iter().map(|v| v.map(|v| v.to_string())).collect::<StringArray>())
            }
            _ => cast(&values, &column.data_type).unwrap(),
        };
        columns.push((column.name.clone(), values));
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    Write {
        table: "cpu".into(),
        rows: Some(batch).filter(|batch| batch.num_rows() > 0),
        deletes: Some(keys(deletes.to_vec())).filter(|batch| batch.num_rows() > 0),
        on_conflict: OnConflict::Replace,
    }
}

/// What a scan of the key and some fields gives; the other fields are none.
pub(super) fn contents(snapshot: &Snapshot, request: ScanRequest, named: [bool; FIELDS]) -> Contents {
    let wanted: Vec<usize> = (0..FIELDS).filter(|&field| named[field]).collect();
    let projection = wanted.iter().map(|field| FIRST_FIELD + field).chain([0, 1, 2]).collect();
    let mut rows = Contents::new();
    for batch in scan(snapshot, "cpu", &ScanRequest { projection, ..request }).unwrap() {
        let columns: Vec<_> = batch.columns().iter().map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
        let text = |column: usize, row: usize| {
            let column = columns[column].as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_string())
        };
        let times = batch.column(wanted.len()).as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let mut fields = Fields::default();
            for (column, &field) in wanted.iter().enumerate() {
                fields[field] = text(column, row).map(|text| text.trim_end_matches(".0").parse().unwrap());
            }
            let key = (text(wanted.len() + 1, row), text(wanted.len() + 2, row), times.value(row));
            assert_eq!(rows.insert(key.clone(), fields), None, "{key:?} came twice");
        }
    }
    rows
}

const ALL: [bool; FIELDS] = [true; FIELDS];

fn key(time: i64) -> CpuKey {
    (Some("a".into()), None, time)
}

fn one(field: usize, value: i64) -> (Fields, [bool; FIELDS]) {
    let (mut fields, mut named) = (Fields::default(), [false; FIELDS]);
    fields[field] = Some(value);
    named[field] = true;
    (fields, named)
}

/// Writes one field of the row at time 1.
fn set(db: &Db, field: usize, value: i64) {
    let (fields, named) = one(field, value);
    db.commit(vec![write(&[(key(1), fields)], named, &[])]).unwrap();
}

/// Writes one field of the row at time 1 in place of the whole row.
fn replace(db: &Db, field: usize, value: i64) {
    let (fields, named) = one(field, value);
    db.commit(vec![write(&[(key(1), fields)], named, &[key(1)])]).unwrap();
}

fn delete(db: &Db) {
    db.commit(vec![write(&[], ALL, &[key(1)])]).unwrap();
}

/// The table holds just the row at time 1, whatever fields are asked for.
fn check(db: &Db, fields: Fields) {
    for bits in 0..1 << FIELDS {
        let named = std::array::from_fn(|field| bits >> field & 1 == 1);
        let wanted = std::array::from_fn(|field| fields[field].filter(|_| named[field]));
        let found = contents(&db.snapshot(), ScanRequest::default(), named);
        assert_eq!(found, Contents::from([(key(1), wanted)]), "fields {named:?}");
    }
}

/// So now, when opened again, after a flush, and when opened after that.
fn check_everywhere(disk: &MemoryDisk, db: Db, fields: Fields) {
    check(&db, fields);
    drop(db);
    let db = open(disk);
    check(&db, fields);
    db.flush(None).unwrap();
    check(&db, fields);
    drop(db);
    check(&open(disk), fields);
}

/// Runs a story with flushes after any selection of its steps.
fn told(steps: &[&dyn Fn(&Db)], fields: Fields) {
    for flushes in 0..1_u32 << steps.len() {
        let (disk, db) = opened_with(&[wide()]);
        for (number, step) in steps.iter().enumerate() {
            step(&db);
            if flushes >> number & 1 == 1 {
                db.flush(None).unwrap();
            }
        }
        check_everywhere(&disk, db, fields);
    }
}

#[test]
fn fields_written_one_after_the_other_come_together() {
    told(
        &[&|db| set(db, 0, 1), &|db| set(db, 2, 3), &|db| set(db, 3, 4), &|db| set(db, 0, 5)],
        [Some(5), None, Some(3), Some(4)],
    );
}

#[test]
fn a_null_leaves_the_value_in_place() {
    let row = (key(1), [None, Some(2), None, None]);
    let null = |db: &Db| {
        db.commit(vec![write(std::slice::from_ref(&row), ALL, &[])]).unwrap();
    };
    told(&[&|db| set(db, 0, 1), &null], [Some(1), Some(2), None, None]);
}

#[test]
fn a_row_written_with_its_key_deleted_stands_alone() {
    told(&[&|db| set(db, 0, 1), &|db| replace(db, 1, 2)], [None, Some(2), None, None]);
    told(&[&|db| set(db, 0, 1), &|db| replace(db, 1, 2), &|db| set(db, 2, 3)], [None, Some(2), Some(3), None]);
    told(&[&|db| set(db, 0, 1), &|db| replace(db, 1, 2), &|db| replace(db, 3, 4)], [None, None, None, Some(4)]);
}

#[test]
fn nothing_shows_through_from_before_a_deletion() {
    told(&[&|db| set(db, 0, 1), &delete, &|db| set(db, 1, 2)], [None, Some(2), None, None]);
    told(&[&|db| set(db, 0, 1), &delete, &|db| set(db, 1, 2), &|db| set(db, 2, 3)], [None, Some(2), Some(3), None]);
}

#[test]
fn runs_merged_in_memory_still_hide_what_a_part_holds() {
    let (disk, db) = opened_with(&[wide()]);
    set(&db, 0, 1);
    db.flush(None).unwrap();
    delete(&db);
    for value in 0..20 {
        set(&db, 1 + usize::try_from(value % 2).unwrap(), value);
    }
    check(&db, [None, Some(18), Some(19), None]);
    replace(&db, 3, 7);
    for value in 0..20 {
        set(&db, 2, value);
    }
    check_everywhere(&disk, db, [None, None, Some(19), Some(7)]);
}

#[test]
fn rows_of_one_key_in_one_write_merge_too_above_its_deletes() {
    let rows = [
        (key(1), [Some(1), None, Some(1), None]),
        (key(2), [Some(7); FIELDS]),
        (key(1), [None, None, Some(2), Some(2)]),
        (key(1), [None, None, None, Some(3)]),
    ];
    for (deletes, idle) in [(vec![], Some(9)), (vec![key(1), key(2)], None)] {
        let (_disk, db) = opened_with(&[wide()]);
        set(&db, 1, 9);
        db.flush(None).unwrap();
        db.commit(vec![write(&rows, ALL, &deletes)]).unwrap();
        for _ in 0..2 {
            let found = contents(&db.snapshot(), ScanRequest::default(), ALL);
            assert_eq!(found[&key(1)], [Some(1), idle, Some(2), Some(3)]);
            assert_eq!(found[&key(2)], [Some(7); FIELDS]);
            db.flush(None).unwrap();
        }
    }
}

#[test]
fn a_row_of_a_keyed_table_is_replaced_whole() {
    let (disk, db) = opened_with(&[users()]);
    db.commit(vec![insert(&[(1, "ann")])]).unwrap();
    db.flush(None).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    db.commit(vec![Write::rows("users", RecordBatch::try_from_iter([("id", ids)]).unwrap())]).unwrap();
    assert_eq!(users_all(&db), [(1, String::new())]);
    db.flush(None).unwrap();
    assert_eq!(users_all(&db), [(1, String::new())]);
    drop(db);
    assert_eq!(users_all(&open(&disk)), [(1, String::new())]);
}

/// The names of the columns that a part has and its table does not.
fn hidden_columns(disk: &MemoryDisk, part: u64) -> Vec<String> {
    let file = read_all(disk, &Path::new("db/parts").join(format!("{part:010}.parquet"))).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    let names = builder.schema().fields().iter().map(|field| field.name().clone());
    names.filter(|name| wide().column(name).is_none()).collect()
}

#[test]
fn only_a_part_over_older_ones_says_which_rows_stand_alone() {
    let (disk, db) = opened_with(&[wide()]);
    set(&db, 0, 1);
    replace(&db, 0, 2);
    db.flush(None).unwrap();
    set(&db, 0, 3);
    db.flush(None).unwrap();
    replace(&db, 1, 4);
    db.flush(None).unwrap();
    delete(&db);
    db.flush(None).unwrap();
    assert_eq!(hidden_columns(&disk, 1), [""; 0]);
    assert_eq!(hidden_columns(&disk, 2), [""; 0]);
    assert_eq!(hidden_columns(&disk, 3), ["__whole"]);
    assert_eq!(hidden_columns(&disk, 4), ["__deleted", "__whole"]);
}
