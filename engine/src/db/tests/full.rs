//! Writes that fail: a full disk, and single failures of it at every place of a flush.
//!
//! **Invariant:** what was acknowledged stays, what was refused leaves no trace, and a mended disk mends the database.

use std::path::Path;

use super::support::*;
use crate::system::{Disk, MemoryDisk};
use crate::{Db, Error, Options};

fn rows(from: i64) -> Vec<CpuRow> {
    (from..from + 50).map(|time| cpu_row("a", time, time as f64)).collect()
}

fn left_in(disk: &MemoryDisk, dir: &str) -> usize {
    disk.list(Path::new(dir)).unwrap().len()
}

#[test]
fn a_full_disk_refuses_commits_whole_and_takes_them_when_there_is_room() {
    for room in [0, 1, 40, 500, 1500] {
        let (disk, db) = opened_with(&[cpu()]);
        let (before, refused, after) = (rows(0), rows(100), rows(200));
        db.commit(vec![cpu_write(&before)]).unwrap();
        disk.set_capacity(Some(disk.used() + room));
        for _ in 0..2 {
            let error = db.commit(vec![cpu_write(&refused)]).unwrap_err();
            assert!(matches!(&error, Error::DiskFull { .. }), "{error}");
            assert!(error.to_string().contains("free some space and try again"), "{error}");
        }
        assert_eq!(db.status().read_only, None);
        assert_eq!(cpu_all(&db), cpu_expected(&before));
        disk.set_capacity(None);
        db.commit(vec![cpu_write(&after)]).unwrap();
        let wanted = cpu_expected(&[before, after].concat());
        assert_eq!(cpu_all(&db), wanted);
        drop(db);
        assert_eq!(cpu_all(&open(&disk.after_crash(room))), wanted, "{room} bytes of room");
    }
}

#[test]
fn a_new_log_segment_that_finds_no_room_is_begun_again() {
    for room in [0, 10] {
        let (disk, db) = opened_with(&[cpu()]);
        db.flush(None).unwrap();
        disk.set_capacity(Some(disk.used() + room));
        assert!(matches!(db.commit(vec![cpu_write(&rows(0))]), Err(Error::DiskFull { .. })));
        assert!(cpu_all(&db).is_empty());
        disk.set_capacity(None);
        db.commit(vec![cpu_write(&rows(0))]).unwrap();
        assert_eq!(cpu_all(&open(&disk.after_crash(room))), cpu_expected(&rows(0)));
    }
}

#[test]
fn a_flush_that_finds_the_disk_full_keeps_the_rows_and_leaves_no_file() {
    let (disk, db) = opened_with(&[cpu()]);
    db.commit(vec![cpu_write(&rows(0))]).unwrap();
    for room in [0, 100, 1000] {
        disk.set_capacity(Some(disk.used() + room));
        let error = db.flush(None).unwrap_err();
        assert!(matches!(&error, Error::DiskFull { .. }), "{}", error.chain());
        let status = db.status();
        assert_eq!(status.read_only, None);
        assert!(status.flush_failing.unwrap().contains("the disk is full"));
        assert_eq!((status.memtable_rows, left_in(&disk, "db/parts")), (50, 0));
    }
    disk.set_capacity(None);
    db.flush(None).unwrap();
    let status = db.status();
    assert_eq!((status.flush_failing, status.memtable_rows, status.parts), (None, 0, 1));
    assert_eq!(cpu_all(&open(&disk.after_crash(0))), cpu_expected(&rows(0)));
}

#[test]
fn any_single_failure_in_a_flush_either_passes_or_makes_the_database_read_only() {
    let mut refused = 0;
    for operation in 1.. {
        let (disk, db) = opened_with(&[cpu()]);
        db.commit(vec![cpu_write(&rows(0))]).unwrap();
        let start = disk.operations();
        disk.fail_once_at(start + operation);
        let flushed = db.flush(None);
        if disk.operations() < start + operation {
            assert!(operation > 8 && flushed.is_ok());
            break;
        }
        let read_only = db.status().read_only;
        refused += usize::from(read_only.is_some());
        match &read_only {
            Some(reason) => assert!(reason.contains("could not sync"), "{reason}"),
            None => {
                drop(db.flush(None).unwrap());
                db.commit(vec![cpu_write(&rows(100))]).unwrap();
                assert_eq!((db.status().parts, left_in(&disk, "db/parts")), (1, 1), "{operation}: {flushed:?}");
            }
        }
        let written = if read_only.is_none() { [rows(0), rows(100)].concat() } else { rows(0) };
        assert_eq!(cpu_all(&db), cpu_expected(&written), "{operation}");
        drop(db);
        assert_eq!(cpu_all(&open(&disk.after_crash(operation))), cpu_expected(&written), "{operation}");
    }
    assert!((1..=3).contains(&refused), "only syncs of the manifest and of the log's directory: {refused}");
}

#[test]
fn while_flushes_fail_and_memory_is_full_commits_are_refused_rather_than_held() {
    let disk = MemoryDisk::default();
    let limits = Options { memtable_bytes_max: 1, frozen_bytes_max: 1, ..options(&disk) };
    let db = Db::open_with(DIR, limits).unwrap();
    db.create_table(cpu()).unwrap();
    // A flush needs more room than a commit here.
    disk.set_capacity(Some(disk.used() + 6000));
    let refused =
        (0..100).find_map(|time| db.commit(vec![cpu_write(&[cpu_row("a", time, 1.0)])]).err().zip(Some(time)));
    let (error, accepted) = refused.unwrap();
    assert!(matches!(&error, Error::DiskFull { .. }), "{error}");
    disk.set_capacity(None);
    db.flush(None).unwrap();
    db.commit(vec![cpu_write(&[cpu_row("b", 0, 1.0)])]).unwrap();
    assert_eq!(cpu_all(&db).len(), usize::try_from(accepted).unwrap() + 1);
}

#[test]
fn a_start_on_a_full_disk_reads_all_and_goes_on_once_there_is_room() {
    for (seed, room) in (0..40).zip([0, 10, 100, 300].into_iter().cycle()) {
        let (disk, db) = opened_with(&[cpu()]);
        db.commit(vec![cpu_write(&rows(0))]).unwrap();
        db.flush(None).unwrap();
        db.commit(vec![cpu_write(&rows(100))]).unwrap();
        // A commit that the log has and that no later sync makes durable.
        disk.fail_once_at(disk.operations() + 2);
        assert!(matches!(db.commit(vec![cpu_write(&rows(200))]), Err(Error::ReadOnly { .. })));
        drop(db);
        let disk = disk.after_kill();
        disk.set_capacity(Some(disk.used() + room));
        let db = open(&disk);
        assert_eq!(cpu_all(&db), cpu_expected(&[rows(0), rows(100), rows(200)].concat()));
        assert!(matches!(db.commit(vec![cpu_write(&rows(300))]), Err(Error::DiskFull { .. })));
        assert!(matches!(db.flush(None), Err(Error::DiskFull { .. })));
        disk.set_capacity(None);
        db.commit(vec![cpu_write(&rows(300))]).unwrap();
        if seed % 2 == 0 {
            db.flush(None).unwrap();
        }
        drop(db);
        let wanted = cpu_expected(&[rows(0), rows(100), rows(200), rows(300)].concat());
        assert_eq!(cpu_all(&open(&disk.after_crash(seed))), wanted, "seed {seed}");
    }
}
