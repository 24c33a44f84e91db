//! The manifest on a disk that tears and loses.
//!
//! **Invariant:** no tables with rows; those are tested through `Db`.

use super::*;
use crate::system::MemoryDisk;

fn table(id: u64) -> TableRecord {
    let column =
        ColumnRecord { name: "id".into(), stored: None, data_type: "i64".into(), nullable: false, metadata: [].into() };
    TableRecord {
        id,
        name: format!("t{id}"),
        columns: vec![column],
        key: vec![0],
        time: None,
        retention: None,
        retired: [].into(),
        rollups: Vec::new(),
    }
}

fn part(number: u64) -> PartRecord {
    PartRecord {
        number,
        rows: 1,
        bytes: 2,
        deletes: false,
        sequence: 3,
        age: None,
        window: None,
        time: Some((4, 5)),
        checksums: vec![6],
        rollups: [].into(),
    }
}

fn open(disk: &MemoryDisk) -> Result<(Manifest, Contents)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Manifest::open(&disk, Path::new("db"))
}

#[test]
fn edits_read_back_and_dropped_tables_take_their_parts_along() {
    let disk = MemoryDisk::default();
    let (mut manifest, empty) = open(&disk).unwrap();
    assert!(empty.tables.is_empty());
    manifest.append(&Edit::Catalog { sequence: 2, tables: vec![table(1), table(2)] }).unwrap();
    manifest.append(&Edit::Flush { table: 1, sequence: 3, parts: vec![part(1)] }).unwrap();
    manifest.append(&Edit::Flush { table: 2, sequence: 4, parts: vec![part(2)] }).unwrap();
    manifest.append(&Edit::Catalog { sequence: 5, tables: vec![table(2)] }).unwrap();
    let (manifest, contents) = open(&disk).unwrap();
    assert_eq!(manifest.catalog_saved, 5);
    assert_eq!(
        contents.tables,
        [TableContents { record: table(2), flushed: 4, parts: vec![part(2)], kept_from: i64::MIN }]
    );
}

#[test]
fn a_torn_edit_is_dropped_and_damage_before_a_whole_one_is_named() {
    let disk = MemoryDisk::default();
    let (mut manifest, _) = open(&disk).unwrap();
    let path = manifest_path(Path::new("db/manifest"), 1);
    manifest.append(&Edit::Catalog { sequence: 1, tables: vec![table(1)] }).unwrap();
    let before = read_all(&disk, &path).unwrap().len();
    manifest.append(&Edit::Flush { table: 1, sequence: 3, parts: vec![part(1)] }).unwrap();
    let damaged = disk.after_crash(0);
    damaged.damage(&path, |bytes| bytes[before - 2] ^= 1).unwrap();
    let error = open(&damaged).err().unwrap();
    assert!(matches!(error, Error::Corrupt { file, .. } if file == path));

    let disk = damaged.after_crash(0);
    disk.damage(&path, |bytes| {
        bytes[before - 2] ^= 1;
        bytes.pop();
    })
    .unwrap();
    let (_, contents) = open(&disk).unwrap();
    assert_eq!(contents.tables, [TableContents { record: table(1), flushed: 0, parts: vec![], kept_from: i64::MIN }]);
    let (_, again) = open(&disk).unwrap();
    assert_eq!(again.tables, contents.tables, "the rewritten manifest says the same");
}

#[test]
fn a_long_manifest_is_replaced_by_a_short_one_with_the_same_contents() {
    let disk = MemoryDisk::default();
    let (mut manifest, _) = open(&disk).unwrap();
    manifest.append(&Edit::Catalog { sequence: 1, tables: vec![table(1)] }).unwrap();
    for number in 0..300 {
        manifest.append(&Edit::Flush { table: 1, sequence: number, parts: vec![part(number)] }).unwrap();
    }
    let (_, long) = open(&disk).unwrap();
    let (_, short) = open(&disk).unwrap();
    assert_eq!(long.tables, short.tables);
    assert!(short.edits < 5);
    assert_eq!(disk.list(Path::new("db/manifest")).unwrap().len(), 1);
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    assert_eq!(header()[..12], *b"junoman\0\x01\0\0\0");
    assert_eq!(current_line("0000000007"), "0000000007 9e06ed55\n");
    let edit = Edit::Flush { table: 1, sequence: 3, parts: vec![part(9)] };
    let json = r#"{"edit":"flush","table":1,"sequence":3,"parts":[{"number":9,"rows":1,"bytes":2,"deletes":false,"sequence":3,"window":null,"time":[4,5],"checksums":[6]}]}"#;
    assert_eq!(frame(&edit)[EDIT_LEN..], *json.as_bytes());
}

#[test]
fn a_missing_current_beside_a_log_is_damage() {
    let disk = MemoryDisk::default();
    disk.create(Path::new("db/log/0000000001.log")).unwrap();
    assert!(matches!(open(&disk), Err(Error::Corrupt { .. })));
}

/// A manifest whose last edit was written and not made durable, though a later sync of the file claims so.
fn with_a_lost_edit(edit: &Edit) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let (mut manifest, _) = open(&disk).unwrap();
    manifest.append(&Edit::Catalog { sequence: 1, tables: vec![table(1)] }).unwrap();
    disk.fail_once_at(disk.operations() + 2);
    assert!(matches!(manifest.append(edit), Err(Failure::Unknown(_))));
    disk.after_kill()
}

#[test]
fn nothing_is_appended_behind_an_edit_whose_sync_failed() {
    let expire = Edit::Expire { table: 1, before: 7, removed: vec![] };
    let flush = Edit::Flush { table: 1, sequence: 2, parts: vec![] };
    let catalog = Edit::Catalog { sequence: 2, tables: vec![table(1)] };
    for lost in [expire, flush, catalog] {
        for seed in 0..20 {
            let disk = with_a_lost_edit(&lost);
            let (mut manifest, _) = open(&disk).unwrap();
            manifest.append(&Edit::Flush { table: 1, sequence: 3, parts: vec![part(1)] }).unwrap();
            let (_, contents) = open(&disk.after_crash(seed)).unwrap();
            assert_eq!(contents.tables[0].parts, [part(1)], "after {lost:?}");
        }
    }
}

#[test]
fn on_a_full_disk_a_manifest_is_read_and_the_first_edit_that_finds_room_writes_it_anew() {
    let lost = Edit::Flush { table: 1, sequence: 2, parts: vec![part(1)] };
    for seed in 0..20 {
        let disk = with_a_lost_edit(&lost);
        for _ in 0..3 {
            disk.set_capacity(Some(disk.used() + seed * 10));
            let (mut manifest, contents) = open(&disk).unwrap();
            assert_eq!(contents.tables[0].parts, [part(1)]);
            assert!(!manifest.settled());
            let more = Edit::Flush { table: 1, sequence: 3, parts: vec![part(2)] };
            assert!(matches!(manifest.append(&more), Err(Failure::Undone(Error::DiskFull { .. }))));
            assert_eq!(disk.list(Path::new("db/manifest")).unwrap().len(), 1, "no try is left over");
        }
        let (mut manifest, _) = open(&disk).unwrap();
        disk.set_capacity(None);
        manifest.append(&Edit::Flush { table: 1, sequence: 3, parts: vec![part(2)] }).unwrap();
        assert!(manifest.settled());
        manifest.append(&Edit::Flush { table: 1, sequence: 4, parts: vec![part(3)] }).unwrap();
        let (_, contents) = open(&disk.after_crash(seed)).unwrap();
        assert_eq!(contents.tables[0].parts, [part(1), part(2), part(3)]);
    }
}
