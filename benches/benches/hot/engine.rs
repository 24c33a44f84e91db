//! The engine: commits, and parts as they are written and read.
//!
//! **Invariant:** nothing compacts in the background.

use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use juno_benches::rows;
use juno_sql::engine::system::{MemoryDisk, System};
use juno_sql::engine::{Db, Options, ScanRequest, Write};

use crate::Hot;

const HOSTS: usize = 100;
const STEP_US: i64 = 10_000_000;
/// Ticks of a batch of 10,000 rows.
const BATCH_TICKS: usize = 100;
/// Ticks of a part of 144,000 rows.
const PART_TICKS: usize = 1440;
const WRITERS: usize = 8;
const COMMITS: usize = 25;

/// A database in memory with the table.
fn database(options: Options) -> Db {
    let system = System::real().with_disk(Arc::new(MemoryDisk::default()));
    let db = Db::open_with("db", Options { compact_in_background: false, system, ..options }).expect("memory");
    db.create_table(rows::table("cpu")).expect("a good table");
    db
}

/// A database with one part of 100 hosts × 4 hours.
pub(crate) fn with_part(options: Options) -> Db {
    let db = database(options);
    write(&db, batch(0..HOSTS, 0..PART_TICKS));
    db.flush(None).expect("memory");
    assert_eq!(db.status().parts, 1, "one flush of one day makes one part");
    db
}

fn batch(hosts: Range<usize>, ticks: Range<usize>) -> RecordBatch {
    rows::batch(hosts, ticks, rows::START_US, STEP_US).expect("some rows")
}

fn write(db: &Db, rows: RecordBatch) {
    db.commit(vec![Write::rows("cpu", rows)]).expect("memory");
}

/// Log, group commit and memtable.
pub(crate) fn commits(hot: &mut Hot) {
    let db = database(Options::default());
    let mut tick = 0;
    let mut next = |ticks: usize| {
        tick += ticks;
        tick - ticks..tick
    };
    hot.run("commit one row", 1, || batch(0..1, next(1)), |rows| write(&db, rows));
    let many = || batch(0..HOSTS, next(BATCH_TICKS));
    hot.run("commit 10,000 rows", HOSTS * BATCH_TICKS, many, |rows| write(&db, rows));
    let each = || {
        let ticks = next(COMMITS);
        let of = |writer: usize| -> Vec<RecordBatch> {
            ticks.clone().map(|tick| batch(writer..writer + 1, tick..tick + 1)).collect()
        };
        (0..WRITERS).map(of).collect::<Vec<_>>()
    };
    let together = |writers: Vec<Vec<RecordBatch>>| {
        std::thread::scope(|scope| {
            for batches in writers {
                scope.spawn(|| batches.into_iter().for_each(|rows| write(&db, rows)));
            }
        });
    };
    hot.run("commit one row each, 25 times by 8 writers", WRITERS * COMMITS, each, together);
}

/// Parts.
pub(crate) fn parts(hot: &mut Hot) {
    let items = HOSTS * PART_TICKS;
    let rows = batch(0..HOSTS, 0..PART_TICKS);
    let filled = || {
        let db = database(Options::default());
        write(&db, rows.clone());
        db
    };
    let flush = |db: Db| {
        db.flush(None).expect("memory");
        db
    };
    hot.run("write a part", items, filled, flush);
    let decoding = with_part(Options { column_cache_bytes_max: 0, ..Options::default() });
    hot.run("scan a part, decoding it", items, || (), |()| assert_eq!(scan(&decoding), items, "all rows"));
    let cached = with_part(Options::default());
    hot.run("scan a part, columns in memory", items, || (), |()| assert_eq!(scan(&cached), items, "all rows"));
}

/// Rows of the whole table.
fn scan(db: &Db) -> usize {
    let snapshot = db.snapshot();
    let table = snapshot.table("cpu").expect("the table");
    let request = ScanRequest { projection: (0..table.schema().columns.len()).collect(), ..ScanRequest::default() };
    let mut rows = 0;
    for slice in table.scan(&request).expect("a part") {
        for batch in slice.read().expect("memory") {
            rows += batch.expect("memory").num_rows();
        }
    }
    rows
}
