//! Imports: past the log, in one step, over what was there.
//!
//! **Invariant:** the same rows by commits give the same table.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampMicrosecondArray};

use super::support::*;
use crate::system::{Disk, MemoryDisk};
use crate::{Db, Error, Options, Result};

const HOUR_US: i64 = 3_600_000_000;

/// A database whose imports hold so many bytes in memory.
fn opened(import_bytes_max: u64) -> (MemoryDisk, Db) {
    let disk = MemoryDisk::default();
    let db = Db::open_with(DIR, Options { import_bytes_max, ..options(&disk) }).unwrap();
    db.create_table(cpu()).unwrap();
    (disk, db)
}

fn import(db: &Db, batches: &[Vec<CpuRow>]) -> Result<crate::ImportReport> {
    db.import("cpu", batches.iter().map(|rows| Ok(cpu_rows(rows))))
}

/// Batches of rows of three hosts; with `strides` of both signs keys come again and again.
fn batches(count: i64, stride: i64) -> Vec<Vec<CpuRow>> {
    let row = |batch: i64, row: i64| {
        let (key, usage) =
            cpu_row(["c", "a", "b"][(row % 3) as usize], (batch * stride + row) * HOUR_US / 40, row as f64);
        // Where there is a null, the value of an earlier batch stays.
        (key, usage.filter(|_| (row + batch) % 5 > 0))
    };
    (0..count).map(|batch| (0..100).map(|at| row(batch, at)).collect()).collect()
}

#[test]
fn an_import_gives_the_table_that_commits_of_its_batches_give() {
    for bytes_max in [0, 20_000, 1 << 30] {
        for stride in [100, 30, 0, -30, -100] {
            let batches = batches(12, stride);
            let (_, expected) = opened(bytes_max);
            for rows in &batches {
                expected.commit(vec![cpu_write(rows)]).unwrap();
            }
            let (disk, db) = opened(bytes_max);
            let report = import(&db, &batches).unwrap();
            assert_eq!(report.rows, 1200);
            assert_eq!(report.parts, db.status().parts);
            assert_eq!(db.status().memtable_rows, 0);
            assert_eq!(cpu_all(&db), cpu_all(&expected), "stride {stride}, {bytes_max} bytes");
            drop(db);
            assert_eq!(cpu_all(&open(&disk)), cpu_all(&expected));
        }
    }
}

#[test]
fn rows_in_order_of_time_end_in_one_part_for_each_window() {
    const BATCH_ROWS: i64 = 50_000;
    let (_, db) = opened(14 << 20);
    let batch = |batch: i64| {
        let times = (0..BATCH_ROWS).map(|row| (batch * BATCH_ROWS + row) * HOUR_US / (8 * BATCH_ROWS));
        let times: TimestampMicrosecondArray = times.map(Some).collect();
        let usage: Float64Array = times.values().iter().map(|time| Some((time % 7) as f64)).collect();
        let columns: [(&str, ArrayRef); 2] = [("time", Arc::new(times)), ("usage", Arc::new(usage))];
        Ok::<_, Error>(RecordBatch::try_from_iter(columns).unwrap())
    };
    let report = db.import("cpu", (0..16).map(batch)).unwrap();
    assert_eq!((report.rows, report.parts), (16 * BATCH_ROWS as u64, 2));
    let snapshot = db.snapshot();
    let slices = snapshot.table("cpu").unwrap().scan(&crate::ScanRequest::default()).unwrap();
    let read: Vec<_> = slices.iter().map(|slice| (slice.stats().parts, slice.stats().rows)).collect();
    assert_eq!(read, [(1, 8 * BATCH_ROWS as u64); 2], "each part is a slice of its own");
    assert!(db.status().part_bytes < report.rows, "small numbers take less than a byte");
}

#[test]
fn rows_committed_before_an_import_lie_below_it_and_rows_after_it_above() {
    let (disk, db) = opened(0);
    let at = |time, usage| cpu_row("a", time, usage);
    db.commit(vec![cpu_write(&[at(1, 1.0), at(2, 1.0)])]).unwrap();
    import(&db, &[vec![at(2, 2.0), at(3, 2.0), at(4, 2.0)]]).unwrap();
    db.commit(vec![cpu_write(&[at(3, 3.0)]), cpu_delete(&[at(4, 0.0)])]).unwrap();
    let expected = cpu_expected(&[at(1, 1.0), at(2, 2.0), at(3, 3.0)]);
    assert_eq!(cpu_all(&db), expected);
    drop(db);
    let db = open(&disk);
    assert_eq!(cpu_all(&db), expected);
    db.flush(None).unwrap();
    assert_eq!(cpu_all(&db), expected);
}

#[test]
fn a_failed_import_leaves_neither_rows_nor_files() {
    let (disk, db) = opened(0);
    let files = || disk.list(&Path::new(DIR).join("parts")).unwrap();
    let good = || Ok(cpu_rows(&[cpu_row("a", 1, 1.0)]));
    let odd = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
    let failed = db.import("cpu", [good(), good(), Err(Error::Closed)]);
    assert!(matches!(failed, Err(Error::Closed)));
    assert_eq!((cpu_all(&db).len(), files().len()), (0, 0));
    assert!(matches!(db.import("gone", [good()]), Err(Error::UnknownTable { .. })));
    assert_eq!(db.import("cpu", [Ok::<_, Error>(odd)]).unwrap(), crate::ImportReport::default());
    let wrong = user_rows(&[(1, "ann")]);
    assert!(matches!(db.import("cpu", [good(), Ok(wrong)]), Err(Error::UnknownColumn { .. })));
    assert_eq!((cpu_all(&db).len(), files().len()), (0, 0));
    let dropped = db.import("cpu", [good(), good()].into_iter().inspect(|_| drop(db.drop_table("cpu"))));
    assert!(matches!(dropped, Err(Error::UnknownTable { .. })));
    assert_eq!(files().len(), 0);
}

#[test]
fn an_import_into_a_keyed_table_replaces_rows_and_is_seen_by_inserts() {
    let (_, db) = opened_with(&[users()]);
    db.commit(vec![insert(&[(1, "ann"), (2, "bob")])]).unwrap();
    let batches = [user_rows(&[(3, "cid"), (2, "ben")]), user_rows(&[(3, "cy")])];
    db.import("users", batches.map(Ok::<_, Error>)).unwrap();
    assert_eq!(users_all(&db), [(1, "ann".into()), (2, "ben".into()), (3, "cy".into())]);
    assert!(matches!(db.commit(vec![insert(&[(3, "dan")])]), Err(Error::Duplicate { .. })));
}
