//! What a write must look like.
//!
//! **Invariant:** touches no disk.

use arrow::array::{DictionaryArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, TimeUnit};

use super::*;
use crate::{Column, TableKind};

fn defined() -> Definition {
    Definition::new(Arc::new(cpu()))
}

fn cpu() -> TableSchema {
    TableSchema {
        name: "cpu".into(),
        columns: vec![
            Column::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Column::new("host", TableSchema::tag_type(), true),
            Column::new("usage", DataType::Float64, true),
            Column::new("note", DataType::Utf8, true),
        ],
        key: vec![1, 0],
        kind: TableKind::Telemetry { time: 0 },
        retention: None,
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn times(times: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times))
}

fn write(rows: RecordBatch) -> Write {
    Write::rows("cpu", rows)
}

#[test]
fn rows_are_sorted_by_tags_and_time_and_the_last_of_a_key_wins() {
    let rows = batch(vec![
        ("usage", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0]))),
        ("host", Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]))),
        ("time", times(vec![5, 6, 7, 5])),
    ]);
    let run = prepare(&defined(), &write(rows)).unwrap().unwrap().run;
    let names: Vec<_> = run.batch.schema_ref().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["time", "host", "usage"], "columns that were not given stay away");
    assert_eq!(run.batch.column(2).as_ref(), &Float64Array::from(vec![2.0, 3.0, 4.0]));
    assert_eq!(run.time, Some((5, 7)));
}

#[test]
fn sorted_rows_are_taken_without_a_copy() {
    let usage: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    let host: DictionaryArray<Int32Type> = vec![Some("a"), Some("b")].into_iter().collect();
    let rows = batch(vec![("time", times(vec![1, 1])), ("host", Arc::new(host)), ("usage", Arc::clone(&usage))]);
    let run = prepare(&defined(), &write(rows)).unwrap().unwrap().run;
    assert!(Arc::ptr_eq(run.batch.column(2), &usage));
}

#[test]
fn a_missing_tag_is_null_and_a_missing_time_is_an_error() {
    let rows = batch(vec![("time", times(vec![1]))]);
    assert_eq!(prepare(&defined(), &write(rows)).unwrap().unwrap().run.batch.column(1).logical_null_count(), 1);
    let rows = batch(vec![("usage", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef)]);
    assert!(matches!(prepare(&defined(), &write(rows)), Err(Error::NotNull { column, .. }) if column == "time"));
}

#[test]
fn unknown_columns_wrong_types_and_deletes_by_other_columns_are_refused() {
    let extra = batch(vec![("time", times(vec![1])), ("x", times(vec![1]))]);
    assert!(matches!(prepare(&defined(), &write(extra)), Err(Error::UnknownColumn { column, .. }) if column == "x"));
    let typed = batch(vec![("time", times(vec![1])), ("usage", Arc::new(Int64Array::from(vec![1])))]);
    assert!(matches!(prepare(&defined(), &write(typed)), Err(Error::ColumnType { column, .. }) if column == "usage"));
    let usage = batch(vec![("usage", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef)]);
    let deletes = Write { rows: None, deletes: Some(usage), ..write(batch(vec![("time", times(vec![1]))])) };
    assert!(matches!(prepare(&defined(), &deletes), Err(Error::InvalidRow { .. })));
}

#[test]
fn deletes_apply_before_the_rows_of_the_same_write() {
    let host = |names: Vec<&str>| Arc::new(StringArray::from(names)) as ArrayRef;
    let rows = batch(vec![
        ("time", times(vec![1])),
        ("host", host(vec!["a"])),
        ("usage", Arc::new(Float64Array::from(vec![9.0]))),
    ]);
    let keys = batch(vec![("host", host(vec!["b", "a"])), ("time", times(vec![1, 1]))]);
    let both = Write { deletes: Some(keys), on_conflict: OnConflict::Error, ..write(rows) };
    let prepared = prepare(&defined(), &both).unwrap().unwrap();
    assert_eq!(prepared.run.marks.deleted, Some(BooleanArray::from(vec![false, true])));
    assert_eq!(prepared.run.marks.whole, Some(BooleanArray::from(vec![true, false])), "nothing older shows through");
    assert_eq!(prepared.absent.unwrap().rows(), 0, "the key that the write itself deletes may exist");
}

#[test]
fn a_key_twice_in_one_batch_is_a_duplicate_that_is_named() {
    let hosts = Arc::new(StringArray::from(vec!["a", "b", "a"]));
    let rows = batch(vec![("time", times(vec![1, 1, 1])), ("host", hosts)]);
    let twice = Write { on_conflict: OnConflict::Error, ..write(rows) };
    let error = prepare(&defined(), &twice).unwrap_err();
    assert!(
        matches!(&error, Error::Duplicate { key, .. } if key == "(host, time)=(a, 1970-01-01T00:00:00.000001)"),
        "{error}"
    );
}
