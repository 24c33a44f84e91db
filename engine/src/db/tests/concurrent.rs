//! Several threads at once.
//!
//! **Invariant:** asserts on outcomes only, never on timing.

use std::thread;

use super::support::*;
use crate::system::MemoryDisk;
use crate::{Db, Error, Options, ScanRequest};

#[test]
fn of_many_that_insert_one_key_exactly_one_succeeds() {
    let (_disk, db) = opened_with(&[users()]);
    let attempt = |thread: usize| {
        let won = |id: &i64| match db.commit(vec![insert(&[(*id, &thread.to_string())])]) {
            Ok(_) => true,
            Err(Error::Duplicate { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        (0..40).filter(won).count()
    };
    let won: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|thread| scope.spawn(move || attempt(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(won, 40);
    assert_eq!(users_all(&db).len(), 40);
}

#[test]
fn a_commit_over_two_tables_is_never_seen_half() {
    let disk = MemoryDisk::default();
    let small = Options { memtable_bytes_max: 20_000, frozen_bytes_max: 40_000, ..options(&disk) };
    let db = Db::open_with(DIR, small).unwrap();
    db.create_table(cpu()).unwrap();
    db.create_table(users()).unwrap();
    thread::scope(|scope| {
        let writers: Vec<_> = ["a", "b"]
            .into_iter()
            .enumerate()
            .map(|(number, host)| {
                let db = &db;
                scope.spawn(move || {
                    for time in 0..200 {
                        let id = time * 2 + number as i64;
                        db.commit(vec![cpu_write(&[cpu_row(host, time, 1.0)]), insert(&[(id, host)])]).unwrap();
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            let snapshot = db.snapshot();
            let rows = cpu_contents(&snapshot, ScanRequest::default()).len();
            assert_eq!(rows, user_contents(&snapshot).len());
        }
    });
    assert_eq!(users_all(&db).len(), 400);
    drop(db);
    let db = open(&disk);
    assert_eq!((cpu_all(&db).len(), users_all(&db).len()), (400, 400));
}

#[test]
fn memory_stays_bounded_while_flushes_lag_behind() {
    let disk = MemoryDisk::default();
    let small = Options { memtable_bytes_max: 50_000, frozen_bytes_max: 50_000, ..options(&disk) };
    let db = Db::open_with(DIR, small).unwrap();
    db.create_table(cpu()).unwrap();
    let mut rows = Vec::new();
    for batch in 0..40 {
        let fresh: Vec<_> = (0..500).map(|i| cpu_row("a", batch * 500 + i, 1.0)).collect();
        db.commit(vec![cpu_write(&fresh)]).unwrap();
        assert!(db.status().memtable_bytes < 200_000, "{:?}", db.status());
        rows.extend(fresh);
    }
    assert!(db.status().parts > 0);
    assert_eq!(cpu_all(&db), cpu_expected(&rows));
}
