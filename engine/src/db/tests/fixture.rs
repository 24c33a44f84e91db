//! Data directories that earlier junos wrote: each opens with all its rows.
//!
//! **Invariant:** a fixture is never written anew, since those that wrote such files are out there; a new format gets another.

use std::path::Path;

use arrow::datatypes::DataType;

use super::support::*;
use crate::system::{Disk, MemoryDisk};
use crate::{Alteration, Column, Db, Error, Options};

/// A thousand years, in microseconds.
const LONG: i64 = 1000 * 365 * 86_400_000_000;

/// A disk with these files.
fn disk(files: &[(&str, &[u8])]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    for (path, bytes) in files {
        disk.create(&Path::new(DIR).join(path)).unwrap().append(&[bytes]).unwrap();
    }
    disk
}

macro_rules! files {
    ($folder:literal: $($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../../fixtures/", $folder, "/", $name)).as_slice())),*]
    };
}

fn altered_rows() -> Vec<CpuRow> {
    let flushed = (0..20).map(|n| cpu_row("a", n * 1_000_000, n as f64 / 4.0));
    let merged = (20..30).map(|n| cpu_row("b", n * 1_000_000, 0.1 + n as f64));
    let imported = (30..40).map(|n| cpu_row("c", n * 1_000_000, 1e300 / n as f64));
    flushed.chain(merged).chain(imported).chain([cpu_row("d", 1, 4.5)]).collect()
}

#[test]
fn a_database_whose_tables_were_altered_truncated_imported_and_compacted_opens_with_all_its_rows() {
    let disk = disk(&files!("v1-altered":
        "CURRENT", "manifest/0000000001.manifest", "log/0000000004.log", "parts/0000000003.parquet",
        "parts/0000000004.parquet"));
    let db = open(&disk);
    assert_eq!(cpu_all(&db), cpu_expected(&altered_rows()[1..]));
    assert_eq!(users_all(&db), [(2, "bob".to_string())]);
    let table = db.catalog().table("cpu").unwrap().clone();
    let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["time", "host", "region", "usage", "rack", "spare"]);
    assert_eq!((table.tags().len(), table.retention), (3, Some(LONG)));
    assert!(db.catalog().table("gone").is_none());
    db.flush(None).unwrap();
    db.compact(None).unwrap();
    assert_eq!(cpu_all(&open(&disk.after_crash(0))), cpu_expected(&altered_rows()[1..]));
}

/// Writes the fixture: `FIXTURE_DIR=… cargo test -p juno-engine -- --ignored altered_fixture`.
#[test]
#[ignore = "writes files; for a new fixture only"]
fn write_the_altered_fixture() {
    let options = Options { compact_in_background: false, ..Options::default() };
    let db = Db::open_with(std::env::var_os("FIXTURE_DIR").unwrap(), options).unwrap();
    let rows = altered_rows();
    let alter = |alteration| db.alter_table("cpu", alteration).unwrap();
    db.create_table(cpu()).unwrap();
    db.commit(vec![cpu_write(&rows[..20])]).unwrap();
    db.flush(None).unwrap();
    db.add_columns("cpu", vec![Column::new("idle", DataType::Float64, true)]).unwrap();
    alter(Alteration::AddTags(vec!["rack".into()]));
    alter(Alteration::RenameColumn { from: "idle".into(), to: "spare".into() });
    db.commit(vec![cpu_write(&rows[20..30])]).unwrap();
    db.flush(None).unwrap();
    assert_eq!(db.compact(None).unwrap().len(), 1);
    db.import("cpu", [Ok::<_, Error>(cpu_rows(&rows[30..40]))]).unwrap();
    alter(Alteration::SetRetention(Some(LONG)));
    db.expire().unwrap();
    db.create_table(users()).unwrap();
    db.commit(vec![insert(&[(1, "ann")])]).unwrap();
    db.flush(None).unwrap();
    db.truncate("users").unwrap();
    db.create_table(crate::TableSchema { name: "gone".into(), ..users() }).unwrap();
    db.drop_table("gone").unwrap();
    alter(Alteration::DropColumn("spare".into()));
    db.add_columns("cpu", vec![Column::new("spare", DataType::Int64, true)]).unwrap();
    db.commit(vec![insert(&[(2, "bob")]), cpu_write(&rows[40..]), cpu_delete(&rows[..1])]).unwrap();
}
