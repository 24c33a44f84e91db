//! Compaction as callers see it: fewer parts, the same rows.
//!
//! **Invariant:** contents are compared before, after, and after a restart.

use std::path::Path;

use super::support::*;
use crate::system::{Disk, MemoryDisk};
use crate::{Db, Error, Options, ScanRequest};

const HOUR: i64 = 3_600_000_000;

fn files(disk: &MemoryDisk) -> usize {
    disk.list(Path::new("db/parts")).unwrap().len()
}

fn flushed(db: &Db, rows: &[CpuRow]) {
    db.commit(vec![cpu_write(rows)]).unwrap();
    db.flush(None).unwrap();
}

#[test]
fn overlapping_parts_become_one_and_snapshots_keep_the_old_ones() {
    let (disk, db) = opened_with(&[cpu()]);
    for round in 0..5 {
        flushed(&db, &[cpu_row("a", 1, round as f64), cpu_row("a", 10 + round, 1.0), cpu_row("b", round, 2.0)]);
    }
    let (before, held) = (cpu_all(&db), db.snapshot());
    assert_eq!(before.len(), 11);
    let report = db.compact(Some("cpu")).unwrap();
    assert_eq!((report.len(), report[0].merged, report[0].parts, report[0].rows), (1, 5, 1, 11));
    assert_eq!((db.status().parts, files(&disk)), (1, 6), "the files stay for the snapshot");
    assert!(db.status().compacted_bytes == report[0].bytes && db.status().flushed_bytes > 0);
    assert_eq!(cpu_contents(&held, ScanRequest::default()), before);
    drop(held);
    assert_eq!(files(&disk), 1);
    assert_eq!(cpu_all(&db), before);
    assert_eq!(db.compact(None).unwrap(), [], "nothing is left to do");
    drop(db);
    assert_eq!(cpu_all(&open(&disk)), before);
}

#[test]
fn deleted_keys_are_forgotten_only_where_nothing_older_lies_below() {
    let (disk, db) = opened_with(&[cpu()]);
    flushed(&db, &[cpu_row("a", 1, 1.0), cpu_row("b", 1, 1.0)]);
    db.commit(vec![cpu_delete(&[cpu_row("a", 1, 0.0)])]).unwrap();
    db.flush(None).unwrap();
    flushed(&db, &[cpu_row("a", 1, 3.0).without_usage(), cpu_row("c", 1, 1.0)]);
    let wanted = cpu_all(&db);
    assert_eq!(wanted[&cpu_key(&cpu_row("a", 1, 0.0).0)], None, "the old value does not shine through the deletion");
    assert_eq!(db.compact(None).unwrap()[0].rows, 3, "no deleted key is left");
    assert_eq!(cpu_all(&db), wanted);
    assert_eq!(cpu_all(&open(&disk.after_crash(0))), wanted);
}

trait WithoutUsage {
    fn without_usage(self) -> Self;
}

impl WithoutUsage for CpuRow {
    fn without_usage(self) -> Self {
        (self.0, None)
    }
}

#[test]
fn small_neighbours_are_joined_and_a_dropped_column_leaves_the_files() {
    let (disk, db) = opened_with(&[cpu()]);
    for hour in 0..30 {
        flushed(&db, &[cpu_row("a", hour * HOUR, hour as f64)]);
    }
    let before = cpu_all(&db);
    db.compact(None).unwrap();
    assert_eq!((db.status().parts, cpu_all(&db)), (1, before.clone()));
    let bytes = db.status().part_bytes;
    db.alter_table("cpu", crate::Alteration::DropColumn("usage".into())).unwrap();
    db.commit(vec![cpu_delete(&[cpu_row("a", 0, 0.0)])]).unwrap();
    db.flush(None).unwrap();
    db.compact(None).unwrap();
    assert!(db.status().part_bytes < bytes);
    db.alter_table("cpu", crate::Alteration::AddColumns(vec![cpu().columns[3].clone()])).unwrap();
    drop(db);
    let found = cpu_all(&open(&disk));
    assert!(found.len() == before.len() - 1 && found.values().all(Option::is_none));
}

#[test]
fn the_thread_in_the_background_keeps_parts_few() {
    let disk = MemoryDisk::default();
    let db = Db::open_with(DIR, Options { compact_in_background: true, ..options(&disk) }).unwrap();
    db.create_table(cpu()).unwrap();
    let mut rows = Vec::new();
    // Until the compaction in the background has caught up, which no clock decides.
    for time in 0.. {
        rows.push(cpu_row("a", time, 1.0));
        flushed(&db, &rows[rows.len() - 1..]);
        if db.status().parts < 4 && time > 40 {
            break;
        }
    }
    assert!(db.status().compacted_bytes > 0);
    assert_eq!(cpu_all(&db), cpu_expected(&rows));
    drop(db);
    assert_eq!(cpu_all(&open(&disk)), cpu_expected(&rows));
}

#[test]
fn a_compaction_that_fails_leaves_all_as_it_was() {
    for operation in 1.. {
        let (disk, db) = opened_with(&[cpu()]);
        (0..4).for_each(|round| flushed(&db, &[cpu_row("a", round, 1.0), cpu_row("b", 0, round as f64)]));
        let before = cpu_all(&db);
        let start = disk.operations();
        disk.fail_once_at(start + operation);
        let outcome = db.compact(None);
        assert_eq!(cpu_all(&db), before, "{operation}");
        if disk.operations() < start + operation {
            assert!(operation > 8 && outcome.is_ok());
            break;
        }
        match db.status().read_only {
            Some(reason) => assert!(reason.contains("could not sync"), "{reason}"),
            None => {
                db.compact(None).unwrap();
                assert_eq!(db.status().parts, 1, "{operation}");
                assert!(files(&disk) <= 2, "at most one file could not be removed: {operation}");
            }
        }
        drop(db);
        let db = open(&disk.after_crash(operation));
        assert_eq!(cpu_all(&db), before, "{operation}");
    }
}

#[test]
fn a_full_disk_stops_compaction_and_nothing_else() {
    let (disk, db) = opened_with(&[cpu()]);
    (0..4).for_each(|round| flushed(&db, &[cpu_row("a", round, 1.0)]));
    disk.set_capacity(Some(disk.used() + 500));
    let error = db.compact(None).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!((db.status().parts, files(&disk), db.status().read_only), (4, 4, None));
    disk.set_capacity(None);
    db.compact(None).unwrap();
    assert_eq!((db.status().parts, cpu_all(&db).len()), (1, 4));
}

#[test]
fn a_damaged_part_keeps_its_own_table_from_being_merged_and_no_other() {
    let (disk, db) = opened_with(&[cpu(), users()]);
    for round in 0..5 {
        flushed(&db, &[cpu_row("a", round, 1.0)]);
    }
    for id in 0..5 {
        db.commit(vec![insert(&[(id, "ann")])]).unwrap();
        db.flush(None).unwrap();
    }
    let part = Path::new("db/parts/0000000002.parquet");
    disk.damage(part, |bytes| bytes[100] ^= 1).unwrap();
    let error = db.compact(None).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { file, .. } if file == part), "{error}");
    assert_eq!(db.status().parts, 5 + 1);
    assert_eq!(db.status().read_only, None);
    assert_eq!(users_all(&db).len(), 5);
}
