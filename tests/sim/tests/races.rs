//! Races that once broke a promise, each in a scenario of a few steps under many schedules.
//!
//! **Invariant:** a scenario needs a handful of scheduling decisions only, so that a few hundred schedules meet the bad one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::DataType;
use juno_engine::system::{MemoryDisk, System};
use juno_engine::{Column, Db, Error, OnConflict, Options, TableKind, TableSchema, Write};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, FailurePersistence, Runner};

const SCHEDULES: usize = 300;

/// Runs a scenario under many schedules.
fn under_many_schedules(scenario: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 4 << 20;
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    Runner::new(RandomScheduler::new_from_seed(2026, SCHEDULES), config).run(scenario);
}

fn open(disk: &MemoryDisk) -> Db {
    let system = System::real().with_disk(Arc::new(disk.clone()));
    let options = Options { compact_in_background: false, system, ..Options::default() };
    Db::open_with("db", options).unwrap_or_else(|error| panic!("it does not open: {}", error.chain()))
}

fn jobs() -> TableSchema {
    let columns = vec![Column::new("id", DataType::Int64, false), Column::new("n", DataType::Int64, true)];
    TableSchema { name: "jobs".into(), columns, key: vec![0], kind: TableKind::Keyed, retention: None }
}

fn rows(ids: &[i64], n: i64) -> RecordBatch {
    let id: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![n; ids.len()]));
    RecordBatch::try_from_iter([("id", id), ("n", n)]).expect("columns of one length")
}

/// All rows: id and n.
fn contents(db: &Db) -> Vec<(i64, i64)> {
    let snapshot = db.snapshot();
    let table = snapshot.table("jobs").expect("it is there");
    let request = juno_engine::ScanRequest { projection: vec![0, 1], ..Default::default() };
    let mut found = Vec::new();
    for slice in table.scan(&request).expect("a scan") {
        for batch in slice.read().expect("a slice") {
            let batch = batch.expect("a batch");
            let column = |at: usize| {
                batch.column(at).as_any().downcast_ref::<Int64Array>().expect("an integer").values().to_vec()
            };
            found.extend(column(0).into_iter().zip(column(1)));
        }
    }
    found.sort_unstable();
    found
}

/// The table was looked for before the definitions were saved; dropped between the two it was gone from the manifest that the
/// edit of its parts was appended to, and no start could read that.
#[test]
fn a_table_dropped_while_it_is_flushed_leaves_a_manifest_that_opens() {
    under_many_schedules(|| {
        let disk = MemoryDisk::default();
        let db = open(&disk);
        db.create_table(jobs()).expect("a new table");
        db.commit(vec![Write::rows("jobs", rows(&[1], 1))]).expect("a commit");
        let flusher = db.clone();
        let flusher = shuttle::thread::spawn(move || match flusher.flush(None) {
            Ok(_) | Err(Error::UnknownTable { .. }) => {}
            Err(error) => panic!("{}", error.chain()),
        });
        db.drop_table("jobs").expect("it is there");
        flusher.join().expect("a panic ends the simulation");
        drop(db);
        assert!(open(&disk.after_crash(0)).snapshot().table("jobs").is_none());
    });
}

/// Rows that were committed while an import came to its end stayed in memory above its parts, and were flushed to a part below
/// them: they changed without anybody changing them.
#[test]
fn rows_committed_while_an_import_ends_do_not_change_when_they_are_flushed() {
    under_many_schedules(|| {
        let disk = MemoryDisk::default();
        let db = open(&disk);
        db.create_table(jobs()).expect("a new table");
        let importer = db.clone();
        let importer = shuttle::thread::spawn(move || {
            let batches = [Ok::<_, Error>(rows(&[1, 2, 3], 7))];
            importer.import("jobs", batches).expect("an import");
        });
        for n in 0..3 {
            db.commit(vec![Write::rows("jobs", rows(&[1, 2], n))]).expect("a commit");
        }
        importer.join().expect("a panic ends the simulation");
        let before = contents(&db);
        db.flush(None).expect("a flush");
        assert_eq!(contents(&db), before, "a flush changes no row");
        drop(db);
        assert_eq!(contents(&open(&disk.after_crash(0))), before, "nor does a start");
    });
}

/// Of two inserts of one key in one write to the log the second was told that the key exists, though the write failed and
/// the first was refused, too.
#[test]
fn an_insert_does_not_lose_to_one_that_the_disk_refused() {
    under_many_schedules(|| {
        let disk = MemoryDisk::default();
        let db = open(&disk);
        db.create_table(jobs()).expect("a new table");
        disk.set_capacity(Some(disk.used()));
        let insert = |db: Db| {
            let write = Write { on_conflict: OnConflict::Error, ..Write::rows("jobs", rows(&[1], 1)) };
            shuttle::thread::spawn(move || db.commit(vec![write]))
        };
        for thread in [insert(db.clone()), insert(db.clone()), insert(db.clone())] {
            let answer = thread.join().expect("a panic ends the simulation");
            assert!(matches!(answer, Err(Error::DiskFull { .. })), "{answer:?}");
        }
    });
}
