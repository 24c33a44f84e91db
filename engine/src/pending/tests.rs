//! What waits is seen by its own transaction, and comes all at once or not at all.
//!
//! **Invariant:** each test has a directory of its own.

use arrow::array::{AsArray, Int32Array};
use arrow::datatypes::{DataType, Int32Type};
use arrow::record_batch::RecordBatch;

use super::*;
use crate::{Column, Db, OnConflict, ScanRequest, TableKind, TableSchema};

fn keyed(name: &str) -> TableSchema {
    let columns = vec![Column::new("id", DataType::Int32, false)];
    TableSchema { name: name.into(), columns, key: vec![0], kind: TableKind::Keyed, retention: None }
}

fn insert(ids: &[i32]) -> Write {
    let ids = Arc::new(Int32Array::from(ids.to_vec()));
    let rows = RecordBatch::try_from_iter([("id", ids as _)]).unwrap();
    Write { on_conflict: OnConflict::Error, ..Write::rows("t", rows) }
}

fn delete(ids: &[i32]) -> Write {
    Write { deletes: insert(ids).rows, rows: None, on_conflict: OnConflict::Replace, table: "t".into() }
}

fn ids(snapshot: &Snapshot) -> Vec<i32> {
    ids_of(snapshot, "t")
}

fn ids_of(snapshot: &Snapshot, table: &str) -> Vec<i32> {
    let request = ScanRequest { projection: vec![0], ..ScanRequest::default() };
    let slices = snapshot.table(table).unwrap().scan(&request).unwrap();
    let batches = slices.iter().flat_map(|slice| slice.read().unwrap()).map(|batch| batch.unwrap());
    let mut ids: Vec<i32> =
        batches.flat_map(|batch| batch.column(0).as_primitive::<Int32Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

fn push(pending: &mut Pending, db: &Db, write: Write) -> Result<()> {
    let prepared = pending.over(&db.snapshot()).prepare(&[write])?;
    pending.push(prepared)
}

#[test]
fn pending_writes_show_over_a_snapshot_can_be_undone_and_are_checked_again() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path()).unwrap();
    db.create_table(keyed("t")).unwrap();
    db.commit(vec![insert(&[1, 2])]).unwrap();
    let mut pending = Pending::default();
    for id in 10..60 {
        push(&mut pending, &db, insert(&[id])).unwrap();
    }
    push(&mut pending, &db, delete(&[1])).unwrap();
    push(&mut pending, &db, insert(&[1])).unwrap();
    assert!(matches!(push(&mut pending, &db, insert(&[10])), Err(Error::Duplicate { .. })));
    let mark = pending.mark();
    push(&mut pending, &db, delete(&[2, 1])).unwrap();
    assert_eq!(ids(&pending.over(&db.snapshot())), (10..60).collect::<Vec<_>>());
    pending.undo_to(&mark);
    assert_eq!(ids(&pending.over(&db.snapshot())), [1, 2].into_iter().chain(10..60).collect::<Vec<_>>());
    assert_eq!(ids(&db.snapshot()), [1, 2]);
    let mut rival = Pending::default();
    push(&mut rival, &db, insert(&[10])).unwrap();
    db.commit_pending(pending).unwrap();
    assert_eq!(ids(&db.snapshot()).len(), 52);
    assert!(matches!(db.commit_pending(rival), Err(Error::Duplicate { .. })));
}

#[test]
fn tables_that_a_transaction_makes_changes_and_drops_come_with_its_rows_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path()).unwrap();
    for name in ["t", "gone", "emptied"] {
        db.create_table(keyed(name)).unwrap();
    }
    db.commit(vec![insert(&[1, 2]), Write { table: "emptied".into(), ..insert(&[1]) }]).unwrap();
    let mut pending = Pending::default();
    let define = |pending: &mut Pending, change| pending.define(&db.snapshot(), change);
    push(&mut pending, &db, insert(&[3])).unwrap();
    let mark = pending.mark();
    define(&mut pending, TableChange::Create(keyed("u"))).unwrap();
    push(&mut pending, &db, Write { table: "u".into(), ..insert(&[7]) }).unwrap();
    pending.undo_to(&mark);
    assert!(pending.over(&db.snapshot()).table("u").is_none());
    define(&mut pending, TableChange::Create(keyed("u"))).unwrap();
    define(&mut pending, TableChange::Create(keyed("v"))).unwrap();
    assert!(matches!(define(&mut pending, TableChange::Create(keyed("u"))), Err(Error::TableExists { .. })));
    push(&mut pending, &db, Write { table: "u".into(), ..insert(&[5]) }).unwrap();
    push(&mut pending, &db, Write { table: "v".into(), ..insert(&[6]) }).unwrap();
    define(&mut pending, TableChange::Drop("gone".into())).unwrap();
    define(&mut pending, TableChange::Truncate("emptied".into())).unwrap();
    let more = Alteration::AddColumns(vec![Column::new("more", DataType::Int32, true)]);
    define(&mut pending, TableChange::Alter("t".into(), more)).unwrap();
    define(&mut pending, TableChange::Alter("t".into(), Alteration::RenameTable("w".into()))).unwrap();
    push(&mut pending, &db, Write { table: "w".into(), ..insert(&[4]) }).unwrap();
    let seen = |snapshot: &Snapshot| {
        assert!(snapshot.table("gone").is_none() && snapshot.table("t").is_none());
        assert_eq!(snapshot.table("w").unwrap().schema().columns.len(), 2);
        ["u", "v", "w", "emptied"].map(|table| ids_of(snapshot, table))
    };
    let rows = [vec![5], vec![6], vec![1, 2, 3, 4], vec![]];
    assert_eq!(seen(&pending.over(&db.snapshot())), rows);
    assert_eq!(db.catalog().tables.len(), 3, "nobody else sees it");
    db.commit_pending(pending).unwrap();
    assert_eq!(seen(&db.snapshot()), rows);
    drop(db);
    let db = Db::open(directory.path()).unwrap();
    assert_eq!(seen(&db.snapshot()), rows, "after a start from the log");
    db.flush(None).unwrap();
    drop(db);
    let db = Db::open(directory.path()).unwrap();
    assert_eq!(seen(&db.snapshot()), rows, "after a start from parts");
}

#[test]
fn a_table_that_others_changed_meanwhile_is_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path()).unwrap();
    db.create_table(keyed("t")).unwrap();
    let changed = |change| {
        let mut pending = Pending::default();
        pending.define(&db.snapshot(), change).unwrap();
        pending
    };
    let (drops, creates) = (changed(TableChange::Drop("t".into())), changed(TableChange::Create(keyed("u"))));
    db.add_columns("t", vec![Column::new("more", DataType::Int32, true)]).unwrap();
    db.create_table(keyed("u")).unwrap();
    assert!(matches!(db.commit_pending(drops), Err(Error::Stale { .. })));
    assert!(matches!(db.commit_pending(creates), Err(Error::TableExists { .. })));
}
