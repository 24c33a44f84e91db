//! Rollups as callers see them: declared, kept by parts, gone again.
//!
//! **Invariant:** what blocks say is compared with rows in `blocks`; here it is where they are and when.

use std::path::Path;

use super::fields::wide;
use super::support::*;
use crate::system::{Disk, MemoryDisk};
use crate::{Alteration, Blocks, Db, Error, Measure, Rollup, RollupStatus, TimeRange};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

fn roll_up(db: &Db, name: &str, width_us: i64, columns: &[&str]) -> Result<(), Error> {
    let columns = columns.iter().map(|&name| name.into()).collect();
    db.alter_table("cpu", Alteration::AddRollup(Rollup { name: name.into(), width_us, columns }))
}

/// Rows every ten seconds of two hosts, from a minute on.
fn rows(db: &Db, from: i64, minutes: i64) {
    let row = |host: &'static str| {
        move |at: i64| ((Some(host.to_owned()), None, from * MINUTE + at * 10_000_000), Some(at as f64 / 4.0))
    };
    let rows: Vec<CpuRow> = ["a", "b"].into_iter().flat_map(|host| (0..minutes * 6).map(row(host))).collect();
    db.commit(vec![cpu_write(&rows)]).unwrap();
}

/// Rows that blocks of a width speak for, and from which rollup.
fn spanned(db: &Db, width_us: i64, column: &str) -> (u64, Vec<String>) {
    let snapshot = db.snapshot();
    let knows = |blocks: &Blocks| blocks.knows(column, Measure::Sum);
    let spans = snapshot.table("cpu").unwrap().block_spans(&[TimeRange::ALL], width_us, knows).unwrap();
    let mut names: Vec<String> = spans.iter().filter_map(|span| Some(span.blocks.rollup()?.to_owned())).collect();
    names.dedup();
    (spans.iter().map(|span| span.rows).sum(), names)
}

fn status(db: &Db) -> Vec<RollupStatus> {
    db.snapshot().table("cpu").unwrap().rollup_status().unwrap()
}

fn parts(status: &RollupStatus) -> (usize, usize, usize) {
    (status.parts, status.parts_done, status.parts_with_blocks)
}

#[test]
fn parts_keep_a_rollup_from_its_declaration_on_and_compaction_gives_it_to_those_before() {
    let (disk, db) = opened_with(&[wide()]);
    rows(&db, 0, 120);
    db.flush(None).unwrap();
    roll_up(&db, "fine", MINUTE, &[]).unwrap();
    assert_eq!(spanned(&db, MINUTE, "usage"), (0, vec![]), "the part does not have it yet");
    rows(&db, 24 * 60, 120);
    db.flush(None).unwrap();
    assert_eq!(spanned(&db, MINUTE, "usage"), (1440, vec!["fine".into()]));
    assert_eq!(parts(&status(&db)[0]), (2, 1, 1));
    let before = cpu_all(&db);
    db.compact(None).unwrap();
    assert_eq!(spanned(&db, MINUTE, "usage").0, 2880);
    assert_eq!((spanned(&db, HOUR, "usage").1, cpu_all(&db)), (vec![], before.clone()));
    let whole = status(&db);
    assert!(whole[0].parts == whole[0].parts_with_blocks && whole[0].bytes > 0, "{whole:?}");
    assert_eq!(db.compact(None).unwrap(), [], "nothing is left to do");
    drop(db);
    let look = |disk: &MemoryDisk| {
        let db = open(disk);
        assert_eq!((spanned(&db, MINUTE, "usage").0, status(&db), cpu_all(&db)), (2880, whole.clone(), before.clone()));
    };
    look(&disk);
    look(&disk.after_crash(0));
}

#[test]
fn a_crash_before_or_after_the_rewriting_leaves_the_rollup_and_the_rows() {
    let disk = MemoryDisk::default();
    let db = open(&disk);
    db.create_table(wide()).unwrap();
    rows(&db, 0, 60);
    db.flush(None).unwrap();
    roll_up(&db, "fine", MINUTE, &["usage"]).unwrap();
    let before = cpu_all(&db);
    for seed in 0..40 {
        let crashed = disk.after_crash(seed);
        let db = open(&crashed);
        assert_eq!((status(&db).len(), cpu_all(&db)), (1, before.clone()));
        db.compact(None).unwrap();
        let again = open(&crashed.after_crash(seed));
        assert_eq!((spanned(&again, MINUTE, "usage").0, cpu_all(&again)), (720, before.clone()));
    }
}

#[test]
fn late_rows_and_deletes_take_their_blocks_away_until_parts_are_merged() {
    let (_disk, db) = opened_with(&[wide()]);
    roll_up(&db, "fine", MINUTE, &[]).unwrap();
    rows(&db, 0, 120);
    db.flush(None).unwrap();
    assert_eq!(spanned(&db, MINUTE, "usage").0, 1440);
    let row = |host: &str, at: i64| ((Some(host.to_owned()), None, at), Some(9.0));
    db.commit(vec![cpu_write(&[row("a", 7 * MINUTE + 1)])]).unwrap();
    assert_eq!(spanned(&db, MINUTE, "usage").0, 1440 - 12);
    db.flush(None).unwrap();
    db.commit(vec![cpu_delete(&[row("b", 9 * MINUTE)])]).unwrap();
    db.flush(None).unwrap();
    assert_eq!(spanned(&db, MINUTE, "usage").0, 1440 - 24);
    db.compact(None).unwrap();
    assert_eq!(spanned(&db, MINUTE, "usage").0, 1440);
}

#[test]
fn a_rollup_goes_with_its_last_column_or_its_table_and_stays_through_renames_and_truncation() {
    let (disk, db) = opened_with(&[wide()]);
    roll_up(&db, "some", MINUTE, &["usage"]).unwrap();
    roll_up(&db, "both", 5 * MINUTE, &["idle", "usage", "usage"]).unwrap();
    rows(&db, 0, 60);
    db.flush(None).unwrap();
    assert_eq!(spanned(&db, MINUTE, "idle").0, 0, "a column that it does not name is not known");
    let rename = Alteration::RenameColumn { from: "usage".into(), to: "load".into() };
    db.alter_table("cpu", rename).unwrap();
    assert_eq!(spanned(&db, MINUTE, "load"), (720, vec!["some".into()]));
    assert_eq!(status(&db)[1].rollup.columns, ["idle", "load"]);
    db.alter_table("cpu", Alteration::DropColumn("load".into())).unwrap();
    let names = |db: &Db| -> Vec<String> { status(db).into_iter().map(|status| status.rollup.name).collect() };
    assert_eq!((names(&db), status(&db)[0].rollup.columns.len()), (vec!["both".to_owned()], 1));
    assert_eq!(spanned(&db, MINUTE, "idle").0, 0, "what is left in the part is not used");
    db.truncate("cpu").unwrap();
    assert_eq!(names(&db), ["both"]);
    drop(db);
    let db = open(&disk);
    assert_eq!(names(&db), ["both"]);
    db.alter_table("cpu", Alteration::DropRollup("both".into())).unwrap();
    assert!(status(&db).is_empty());
    db.drop_table("cpu").unwrap();
    db.create_table(wide()).unwrap();
    roll_up(&db, "both", MINUTE, &[]).unwrap();
}

#[test]
fn what_cannot_be_rolled_up_is_refused() {
    let (_disk, db) = opened_with(&[wide(), users()]);
    roll_up(&db, "one", MINUTE, &[]).unwrap();
    let refused = |result: Result<(), Error>| result.unwrap_err().to_string();
    assert!(refused(roll_up(&db, "one", HOUR, &[])).contains("exists already"));
    assert!(refused(roll_up(&db, "two", 7 * MINUTE, &[])).contains("multiple"));
    assert!(refused(roll_up(&db, "two", MINUTE, &["host"])).contains("beside tags"));
    assert!(refused(roll_up(&db, "two", MINUTE, &["nosuch"])).contains("does not exist"));
    assert!(refused(db.alter_table("cpu", Alteration::DropRollup("two".into()))).contains("no rollup"));
    let keyed = Rollup { name: "two".into(), width_us: MINUTE, columns: Vec::new() };
    assert!(refused(db.alter_table("users", Alteration::AddRollup(keyed))).contains("telemetry"));
}

#[test]
fn sparse_parts_are_done_and_have_no_blocks() {
    let (_disk, db) = opened_with(&[wide()]);
    roll_up(&db, "fine", 10_000_000, &[]).unwrap();
    rows(&db, 0, 120);
    db.flush(None).unwrap();
    assert_eq!(parts(&status(&db)[0]), (1, 1, 0), "a row per block is no gain");
    assert_eq!(db.compact(None).unwrap(), []);
}

#[test]
fn blocks_in_several_chunks_are_those_in_one() {
    let (_disk, db) = opened_with(&[wide()]);
    roll_up(&db, "fine", 1_000_000, &["usage"]).unwrap();
    let hosts = ["a", "b", "c"];
    let row = |host: &str, at: i64| ((Some(host.to_owned()), None, at * 500_000), Some(at as f64));
    let rows: Vec<CpuRow> = hosts.iter().flat_map(|host| (0..60_000).map(|at| row(host, at))).collect();
    db.commit(vec![cpu_write(&rows)]).unwrap();
    db.flush(None).unwrap();
    let snapshot = db.snapshot();
    let table = snapshot.table("cpu").unwrap();
    let spans = table.block_spans(&[TimeRange::ALL], 1_000_000, |_| true).unwrap();
    let blocks: std::collections::BTreeSet<u64> = spans.iter().map(|span| span.blocks.len() as u64).collect();
    assert!(blocks.iter().sum::<u64>() == 90_000 && spans.len() == 30_000, "{blocks:?}");
    let one = arrow::array::BooleanArray::from(vec![false, false, true]);
    let picked = spans[0].blocks.select(&one, &[29_998..40_000, 50_000..50_001]).unwrap();
    let sums = picked.measure("usage", &arrow::datatypes::DataType::Float64, Measure::Sum).unwrap().unwrap();
    let sums = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&sums);
    assert_eq!(sums.values(), &[119_993.0, 119_997.0]);
    assert_eq!(picked.series().values(), &[2, 2]);
}

#[test]
fn blocks_of_the_first_version_answer_and_are_written_anew_for_a_rollup() {
    let disk = MemoryDisk::default();
    let files: [(&str, &[u8]); 3] = [
        ("db/CURRENT", include_bytes!("../../../fixtures/v1-blocks/CURRENT")),
        ("db/manifest/0000000001.manifest", include_bytes!("../../../fixtures/v1-blocks/manifest/0000000001.manifest")),
        ("db/parts/0000000001.parquet", include_bytes!("../../../fixtures/v1-blocks/parts/0000000001.parquet")),
    ];
    for (path, bytes) in files {
        disk.create(Path::new(path)).unwrap().append(&[bytes]).unwrap();
    }
    let db = open(&disk);
    let before = cpu_all(&db);
    assert_eq!((before.len(), spanned(&db, HOUR, "usage").0), (2400, 2400));
    let hourly = |db: &Db| -> Vec<f64> {
        let snapshot = db.snapshot();
        let spans = snapshot.table("cpu").unwrap().block_spans(&[TimeRange::ALL], HOUR, |_| true).unwrap();
        let blocks = &spans[0].blocks;
        assert_eq!((blocks.series(), blocks.len()), (2, 42));
        let one = arrow::array::BooleanArray::from(vec![false, true]);
        let picked = blocks.select(&one, std::slice::from_ref(&(0..21))).unwrap();
        let sums = picked.measure("usage", &arrow::datatypes::DataType::Float64, Measure::Sum).unwrap().unwrap();
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&sums).values().to_vec()
    };
    let sums = hourly(&db);
    assert_eq!(sums[..2], [(30..60).sum::<i64>() as f64 / 4.0, (60..120).sum::<i64>() as f64 / 4.0]);
    roll_up(&db, "fine", 5 * MINUTE, &[]).unwrap();
    db.compact(None).unwrap();
    assert_eq!((spanned(&db, 5 * MINUTE, "usage").0, hourly(&db), cpu_all(&db)), (2400, sums, before));
}
