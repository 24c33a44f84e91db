//! Backups, what is restored of them, and checks that find what is damaged.
//!
//! **Invariant:** a disk in memory, no threads besides the engine's.

use std::path::Path;

use super::support::*;
use crate::system::{Disk, MemoryDisk, System};
use crate::{Db, Error, check, restore};

const COPY: &str = "copy";

fn system(disk: &MemoryDisk) -> System {
    options(disk).system
}

/// Rows in parts, rows that are newer than parts, rows in memory, and a deletion.
fn filled() -> (MemoryDisk, Db) {
    let (disk, db) = opened_with(&[cpu(), users()]);
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 1.0), cpu_row("b", 2, 2.0)]), insert(&[(1, "x"), (2, "y")])]).unwrap();
    db.flush(None).unwrap();
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 3.0)]), delete_users(&[2])]).unwrap();
    db.commit(vec![insert(&[(3, "z")])]).unwrap();
    (disk, db)
}

#[test]
fn a_backup_opens_as_the_database_was_and_both_go_their_own_ways() {
    let (disk, db) = filled();
    let report = db.backup(COPY).unwrap();
    assert_eq!((report.tables, report.sequence), (2, db.snapshot().sequence()));
    let before = (cpu_all(&db), users_all(&db));
    db.commit(vec![cpu_write(&[cpu_row("c", 1, 1.0)])]).unwrap();
    let copy = Db::open_with(COPY, options(&disk)).unwrap();
    assert_eq!((cpu_all(&copy), users_all(&copy)), before);
    copy.commit(vec![insert(&[(2, "again")])]).unwrap();
    drop(copy);
    let copy = Db::open_with(COPY, options(&disk)).unwrap();
    assert_eq!(users_all(&copy).len(), 3);
    assert_eq!(users_all(&db).len(), 2);
}

#[test]
fn rows_in_memory_are_backed_up_where_nothing_can_be_flushed() {
    let (disk, db) = filled();
    disk.fail_once_at(disk.operations() + 1);
    let report = db.backup(COPY).unwrap();
    let log = disk.list(Path::new("copy/log")).unwrap();
    assert_eq!(log.len(), 1, "{report:?}");
    let copy = Db::open_with(COPY, options(&disk)).unwrap();
    assert_eq!((cpu_all(&copy), users_all(&copy)), (cpu_all(&db), users_all(&db)));
    assert_eq!(copy.snapshot().sequence(), db.snapshot().sequence());
}

#[test]
fn a_restored_directory_equals_the_backup_and_needs_an_empty_place() {
    let (disk, db) = filled();
    db.backup(COPY).unwrap();
    let wanted = (cpu_all(&db), users_all(&db));
    db.close().unwrap();
    let again = restore(COPY, "new", &system(&disk)).unwrap();
    let opened = Db::open_with("new", options(&disk)).unwrap();
    assert_eq!((cpu_all(&opened), users_all(&opened)), wanted);
    assert_eq!(again.sequence, opened.snapshot().sequence());
    for target in ["new", DIR, COPY] {
        assert!(matches!(restore(COPY, target, &system(&disk)), Err(Error::Io { .. })), "{target}");
    }
    assert!(matches!(restore("new", "other", &system(&disk)), Err(Error::Locked { .. })));
}

#[test]
fn a_backup_that_a_crash_cut_short_is_never_taken_for_a_whole_one() {
    let (disk, db) = filled();
    let first = disk.operations();
    db.backup(COPY).unwrap();
    let whole = disk.operations() - first;
    drop(db);
    for operation in 1..=whole {
        let (disk, db) = filled();
        let wanted = (cpu_all(&db), users_all(&db));
        disk.crash_at(disk.operations() + operation, operation);
        let done = db.backup(COPY).is_ok();
        drop(db);
        let disk = disk.after_crash(operation);
        match restore(COPY, "new", &system(&disk)) {
            Ok(_) => {
                let opened = Db::open_with("new", options(&disk)).unwrap();
                assert_eq!((cpu_all(&opened), users_all(&opened)), wanted, "stopped at change {operation}");
            }
            Err(error) => assert!(!done, "{operation}: {}", error.chain()),
        }
        let db = open(&disk);
        assert_eq!((cpu_all(&db), users_all(&db)), wanted, "the database itself is whole");
    }
}

#[test]
fn a_check_of_what_is_whole_finds_nothing_and_changes_nothing() {
    let (disk, db) = filled();
    assert!(matches!(check(DIR, &system(&disk)), Err(Error::Locked { .. })));
    assert_eq!(db.check().unwrap().damages, []);
    drop(db);
    let before = disk.operations();
    let report = check(DIR, &system(&disk)).unwrap();
    assert_eq!(report.damages, []);
    let tables: Vec<_> = report.tables.iter().map(|table| (table.name.as_str(), table.parts, table.rows)).collect();
    assert_eq!(tables, [("cpu", 1, 2), ("users", 1, 2)]);
    assert!(report.manifest_bytes > 0 && report.log_bytes > 0);
    assert_eq!(disk.operations(), before);
    assert!(matches!(check("nowhere", &system(&disk)), Err(Error::Io { .. })));
}

#[test]
fn a_check_names_every_damaged_file() {
    let (disk, db) = filled();
    drop(db);
    for (file, place) in [
        ("db/CURRENT", 3),
        ("db/manifest/0000000001.manifest", 40),
        ("db/log/0000000002.log", 40),
        ("db/parts/0000000001.parquet", 50),
        ("db/parts/0000000002.parquet", 20),
    ] {
        let spoilt = disk.after_crash(0);
        spoilt.damage(Path::new(file), |bytes| bytes[place] ^= 1).unwrap();
        let report = check(DIR, &system(&spoilt)).unwrap();
        let files: Vec<_> = report.damages.iter().map(|damage| damage.file.clone()).collect();
        assert_eq!(files, [Path::new(file)], "{:?}", report.damages);
        assert!(restore(DIR, "new", &system(&spoilt)).is_err());
    }
    let spoilt = disk.after_crash(0);
    for part in ["db/parts/0000000001.parquet", "db/parts/0000000002.parquet"] {
        spoilt.damage(Path::new(part), |bytes| bytes[10] ^= 1).unwrap();
    }
    let db = open(&spoilt);
    let damages = db.check().unwrap().damages;
    assert_eq!(damages.iter().map(|damage| damage.table.as_deref()).collect::<Vec<_>>(), [Some("cpu"), Some("users")]);
    spoilt.damage(Path::new("db/log/0000000002.log"), |bytes| bytes[3] ^= 1).unwrap();
    assert_eq!(db.check().unwrap().damages.len(), 3, "the log of an open database is read too");
    assert!(matches!(db.backup(COPY), Err(Error::Corrupt { .. })), "damage is not backed up");
}
