//! Files: damage, failed syncs, locks, and what other programs can read.
//!
//! **Invariant:** one test uses real files, the others a disk in memory.

use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::support::*;
use crate::system::{Disk, MemoryDisk, RealDisk, read_all};
use crate::{Column, Db, Error, Options, ScanRequest};

fn log_file(disk: &MemoryDisk) -> PathBuf {
    let dir = Path::new("db/log");
    dir.join(disk.list(dir).unwrap().last().unwrap())
}

fn three_commits() -> (MemoryDisk, [CpuRow; 3]) {
    let (disk, db) = opened_with(&[cpu()]);
    let rows = [cpu_row("a", 1, 1.0), cpu_row("a", 2, 2.0), cpu_row("a", 3, 3.0)];
    for row in &rows {
        db.commit(vec![cpu_write(std::slice::from_ref(row))]).unwrap();
    }
    drop(db);
    (disk, rows)
}

#[test]
fn a_torn_end_of_the_log_is_cut_off_and_the_rest_is_kept() {
    for cut in [1, 100, 400] {
        let (disk, rows) = three_commits();
        disk.damage(&log_file(&disk), |bytes| bytes.truncate(bytes.len() - cut)).unwrap();
        assert_eq!(cpu_all(&open(&disk)), cpu_expected(&rows[..2]), "{cut} bytes cut");
        let db = open(&disk);
        db.commit(vec![cpu_write(&rows[2..])]).unwrap();
        drop(db);
        assert_eq!(cpu_all(&open(&disk)), cpu_expected(&rows), "and it can be written again");
    }
}

#[test]
fn damage_before_a_whole_record_names_file_and_offset() {
    let (disk, _) = three_commits();
    let file = log_file(&disk);
    let size = disk.open(&file).unwrap().size().unwrap();
    disk.damage(&file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
    .unwrap();
    let error = Db::open_with(DIR, options(&disk)).err().unwrap();
    let Error::Corrupt { file: named, offset, .. } = &error else { panic!("{error}") };
    assert_eq!(named, &file);
    assert!((32..size / 2 + 1).contains(offset), "{offset}");
    assert!(error.to_string().contains("0000000001.log"), "{error}");
}

#[test]
fn a_missing_segment_or_part_is_damage() {
    let (disk, rows) = three_commits();
    for row in &rows {
        let db = open(&disk);
        db.commit(vec![cpu_write(std::slice::from_ref(row))]).unwrap();
    }
    let whole = disk.after_crash(0);
    whole.remove(Path::new("db/log/0000000002.log")).unwrap();
    assert!(matches!(Db::open_with(DIR, options(&whole)), Err(Error::Corrupt { .. })));
    let whole = disk.after_crash(0);
    open(&whole).close().unwrap();
    assert_eq!(whole.list(Path::new("db/log")).unwrap(), Vec::<PathBuf>::new(), "after close no log is left");
    whole.remove(Path::new("db/parts/0000000001.parquet")).unwrap();
    let error = Db::open_with(DIR, options(&whole)).err().unwrap();
    assert!(matches!(&error, Error::Corrupt { file, .. } if file.ends_with("0000000001.parquet")), "{error}");
}

#[test]
fn a_damaged_part_is_named_when_it_is_read() {
    let (disk, _) = three_commits();
    open(&disk).close().unwrap();
    let part = Path::new("db/parts/0000000001.parquet");
    let size = disk.open(part).unwrap().size().unwrap();
    for place in [10, size / 2, size - 3] {
        let spoilt = disk.after_crash(0);
        spoilt.damage(part, |bytes| bytes[usize::try_from(place).unwrap()] ^= 1).unwrap();
        let db = open(&spoilt);
        let error = scan(&db.snapshot(), "cpu", &Default::default()).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { file, .. } if file == part), "{}", error.chain());
    }
    let cut = disk.after_crash(0);
    cut.damage(part, |bytes| bytes.truncate(bytes.len() - 1)).unwrap();
    assert!(matches!(scan(&open(&cut).snapshot(), "cpu", &Default::default()), Err(Error::Corrupt { .. })));
}

#[test]
fn a_read_that_the_disk_refuses_is_no_damage_and_the_next_one_succeeds() {
    let (disk, rows) = three_commits();
    open(&disk).close().unwrap();
    let mut refused = 0;
    for number in 1.. {
        let db = open(&disk);
        let next = disk.reads() + number;
        disk.fail_reads(next..next + 1);
        let read = scan(&db.snapshot(), "cpu", &ScanRequest { projection: vec![0, 1, 2, 3], ..Default::default() });
        if disk.reads() < next {
            assert!(read.is_ok());
            break;
        }
        let error = read.unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("0000000001.parquet")), "{}", error.chain());
        assert_eq!(db.status().read_only, None);
        assert_eq!(cpu_all(&db), cpu_expected(&rows));
        refused += 1;
    }
    assert!(refused > 3, "the file is opened and read more than once: {refused}");
}

#[test]
fn a_failed_sync_makes_the_database_read_only_and_says_why() {
    let (disk, db) = opened_with(&[cpu()]);
    let rows = [cpu_row("a", 1, 1.0), cpu_row("a", 2, 2.0)];
    db.commit(vec![cpu_write(&rows[..1])]).unwrap();
    disk.fail_once_at(disk.operations() + 2);
    let again = || db.commit(vec![cpu_write(&rows[1..])]).unwrap_err();
    for error in [again(), again(), db.flush(None).unwrap_err(), db.create_table(users()).unwrap_err()] {
        assert!(matches!(&error, Error::ReadOnly { reason } if reason.contains("injected fault")), "{error}");
    }
    assert!(db.status().read_only.unwrap().contains("could not sync"));
    assert_eq!(cpu_all(&db), cpu_expected(&rows[..1]), "reading goes on, and the failed commit is not seen");
    drop(db);
    let db = open(&disk.after_crash(1));
    assert!(cpu_all(&db).contains_key(&cpu_key(&rows[0].0)));
    assert_eq!(db.status().read_only, None);
}

#[test]
fn a_flush_that_fails_loses_nothing() {
    let (disk, db) = opened_with(&[cpu()]);
    let rows = [cpu_row("a", 1, 1.0)];
    db.commit(vec![cpu_write(&rows)]).unwrap();
    disk.fail_once_at(disk.operations() + 3);
    assert!(db.flush(None).is_err());
    assert_eq!(cpu_all(&db), cpu_expected(&rows));
    drop(db);
    let db = open(&disk.after_crash(3));
    assert_eq!(cpu_all(&db), cpu_expected(&rows));
    db.flush(None).unwrap();
    assert_eq!(cpu_all(&db), cpu_expected(&rows));
}

#[test]
fn a_directory_opens_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let error = Db::open(dir.path()).err().unwrap();
    assert!(matches!(&error, Error::Locked { path } if path == dir.path()), "{error}");
    assert!(error.to_string().contains("another juno"), "{error}");
    drop(db);
    let db = Db::open(dir.path()).unwrap();
    db.close().unwrap();
    Db::open(dir.path()).unwrap();
}

#[test]
fn a_part_is_plain_parquet_sorted_by_key_with_the_tables_columns() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.create_table(cpu()).unwrap();
    db.commit(vec![cpu_write(&[cpu_row("b", 1, 1.5), cpu_row("a", 2, 2.5), cpu_row("a", 1, 3.5)])]).unwrap();
    assert_eq!(db.flush(Some("cpu")).unwrap()[0].parts, 1);
    let file = read_all(&RealDisk, &dir.path().join("parts/0000000001.parquet")).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    assert!(builder.metadata().column_index().is_none(), "unless asked for");
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    let names: Vec<_> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["time", "host", "region", "usage"]);
    let hosts = cast(batches[0].column(1), &DataType::Utf8).unwrap();
    let hosts: Vec<_> = hosts.as_string::<i32>().iter().flatten().collect();
    assert_eq!(hosts, ["a", "a", "b"]);
    assert_eq!(batches[0].column(3).data_type(), &DataType::Decimal128(9, 1), "doubles that are decimals are DECIMAL");
    let usage = cast(batches[0].column(3), &DataType::Float64).unwrap();
    assert_eq!(usage.as_primitive::<arrow::datatypes::Float64Type>().values().to_vec(), [3.5, 2.5, 1.5]);
}

#[test]
fn a_long_log_flushes_the_table_that_holds_it_back_and_is_cut() {
    let disk = MemoryDisk::default();
    let limits = Options { log_segment_bytes_max: 4096, log_bytes_max: 20_000, ..options(&disk) };
    let db = Db::open_with(DIR, limits).unwrap();
    db.create_table(users()).unwrap();
    db.create_table(cpu()).unwrap();
    db.commit(vec![insert(&[(1, "ann")])]).unwrap();
    let mut expected = Vec::new();
    // Until the flush in the background has caught up, which no clock decides.
    for time in (0..).take_while(|_| db.status().parts == 0) {
        expected.push(cpu_row("a", time, 1.0));
        db.commit(vec![cpu_write(&expected[expected.len() - 1..])]).unwrap();
    }
    db.flush(None).unwrap();
    assert_eq!(db.status().log_bytes, 0, "nothing is left that only the log has");
    assert_eq!(cpu_all(&db), cpu_expected(&expected));
    drop(db);
    let db = open(&disk);
    assert_eq!(cpu_all(&db), cpu_expected(&expected));
    assert_eq!(users_all(&db), [(1, "ann".to_string())]);
}

#[test]
fn files_that_nobody_knows_are_removed_at_the_start() {
    let (disk, _) = three_commits();
    for name in ["0000000099.parquet", "0000000098.tmp"] {
        disk.create(&Path::new("db/parts").join(name)).unwrap();
    }
    let _db = open(&disk);
    assert_eq!(disk.list(Path::new("db/parts")).unwrap(), Vec::<PathBuf>::new());
}

/// The database of `fixtures/v1` holds this.
fn fixture_rows() -> [CpuRow; 3] {
    [cpu_row("a", 1, 1.5), cpu_row("a", 3_600_000_000, 2.5), cpu_row("b", 2, 4.5)]
}

#[test]
fn a_database_written_by_version_1_opens_with_all_its_rows() {
    let disk = MemoryDisk::default();
    let files: [(&str, &[u8]); 4] = [
        ("db/CURRENT", include_bytes!("../../../fixtures/v1/CURRENT")),
        ("db/manifest/0000000001.manifest", include_bytes!("../../../fixtures/v1/manifest/0000000001.manifest")),
        ("db/log/0000000002.log", include_bytes!("../../../fixtures/v1/log/0000000002.log")),
        ("db/parts/0000000001.parquet", include_bytes!("../../../fixtures/v1/parts/0000000001.parquet")),
    ];
    for (path, bytes) in files {
        disk.create(Path::new(path)).unwrap().append(&[bytes]).unwrap();
    }
    let db = open(&disk);
    assert_eq!(cpu_all(&db), cpu_expected(&fixture_rows()));
    assert_eq!(users_all(&db), [(1, "ann".to_string())]);
    assert_eq!(db.catalog().table("cpu").unwrap().columns[4].metadata["unit"], "percent");
    assert_eq!(db.status().parts, 1);
}

/// Writes the fixture anew, for a new version of a format: `FIXTURE_DIR=… cargo test -p juno-engine -- --ignored fixture`.
#[test]
#[ignore = "writes files; for a new version of a format only"]
fn write_the_fixture_of_this_version() {
    let db = Db::open(std::env::var_os("FIXTURE_DIR").unwrap()).unwrap();
    db.create_table(cpu()).unwrap();
    let rows = fixture_rows();
    db.commit(vec![cpu_write(&rows[..1]), cpu_write(&[cpu_row("b", 2, 3.5), cpu_row("c", 9, 9.5)])]).unwrap();
    db.flush(None).unwrap();
    db.create_table(users()).unwrap();
    let mut idle = Column::new("idle", DataType::Float64, true);
    idle.metadata.insert("unit".into(), "percent".into());
    db.add_columns("cpu", vec![idle]).unwrap();
    db.commit(vec![cpu_write(&rows[1..]), cpu_delete(&[cpu_row("c", 9, 9.5)]), insert(&[(1, "ann")])]).unwrap();
}

/// The number of a commit's append and of its sync, behind what the disk has done before.
const APPEND: u64 = 1;
const SYNC: u64 = 2;

#[test]
fn what_only_the_systems_cache_had_when_the_process_was_killed_is_durable_before_a_commit_follows_it() {
    for failed in [APPEND, SYNC] {
        for seed in 0..20 {
            let (disk, db) = opened_with(&[cpu()]);
            let rows = [cpu_row("a", 1, 1.0), cpu_row("a", 2, 2.0), cpu_row("a", 3, 3.0)];
            db.commit(vec![cpu_write(&rows[..1])]).unwrap();
            disk.crash_at(disk.operations() + failed, seed);
            assert!(db.commit(vec![cpu_write(&rows[1..2])]).is_err());
            drop(db);
            let disk = disk.after_kill();
            let db = open(&disk);
            let found = cpu_all(&db);
            assert!(found == cpu_expected(&rows[..1]) || found == cpu_expected(&rows[..2]), "{found:?}");
            db.commit(vec![cpu_write(&rows[2..])]).unwrap();
            drop(db);
            let mut wanted = found;
            wanted.extend(cpu_expected(&rows[2..]));
            assert_eq!(cpu_all(&open(&disk.after_crash(seed))), wanted);
        }
    }
}
