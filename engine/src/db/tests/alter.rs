//! Tables that change while they hold rows: in memory, in the log and in parts.
//!
//! **Invariant:** every change is looked at three times: as made, after a restart, and after a flush and a restart.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::support::*;
use crate::system::MemoryDisk;
use crate::{Alteration, Column, Db, Error, ScanRequest, Write};

/// Every row of a table as text by column, sorted; nulls are left out.
fn rows_of(db: &Db, table: &str) -> Vec<BTreeMap<String, String>> {
    let snapshot = db.snapshot();
    let width = snapshot.table(table).unwrap().schema().columns.len();
    let request = ScanRequest { projection: (0..width).collect(), ..ScanRequest::default() };
    let mut rows = Vec::new();
    for batch in scan(&snapshot, table, &request).unwrap() {
        let options = FormatOptions::new().with_null("");
        for row in 0..batch.num_rows() {
            let cell = |(column, field): (&arrow::array::ArrayRef, &std::sync::Arc<arrow::datatypes::Field>)| {
                let text = ArrayFormatter::try_new(column.as_ref(), &options).unwrap().value(row).to_string();
                (field.name().clone(), text)
            };
            let cells = batch.columns().iter().zip(batch.schema_ref().fields()).map(cell);
            rows.push(cells.filter(|(name, text)| name != "time" && !text.is_empty()).collect());
        }
    }
    rows.sort();
    rows
}

fn row(cells: &[(&str, &str)]) -> BTreeMap<String, String> {
    cells.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
}

/// Looks at a database as it is, as the log has it, and as parts have it.
fn three_times(disk: &MemoryDisk, db: Db, look: impl Fn(&Db)) -> Db {
    look(&db);
    drop(db);
    let db = open(disk);
    look(&db);
    db.flush(None).unwrap();
    look(&db);
    drop(db);
    let db = open(disk);
    look(&db);
    db
}

/// Rows in a part, in a frozen state of affairs and in memory.
fn spread() -> (MemoryDisk, Db) {
    let (disk, db) = opened_with(&[cpu()]);
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 1.0), cpu_row("b", 1, 2.0)])]).unwrap();
    db.flush(None).unwrap();
    db.commit(vec![cpu_write(&[cpu_row("b", 2, 3.0)])]).unwrap();
    (disk, db)
}

#[test]
fn a_dropped_column_is_gone_and_comes_back_empty() {
    let (disk, db) = spread();
    db.alter_table("cpu", Alteration::DropColumn("usage".into())).unwrap();
    let gone = |db: &Db| assert!(rows_of(db, "cpu").iter().all(|row| !row.contains_key("usage")));
    let db = three_times(&disk, db, gone);
    assert!(matches!(db.commit(vec![cpu_write(&[cpu_row("a", 1, 1.0)])]), Err(Error::UnknownColumn { .. })));
    db.add_columns("cpu", vec![Column::new("usage", DataType::Float64, true)]).unwrap();
    let db = three_times(&disk, db, gone);
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 7.0)])]).unwrap();
    three_times(&disk, db, |db| {
        let found: Vec<_> = rows_of(db, "cpu").iter().filter_map(|row| row.get("usage").cloned()).collect();
        assert_eq!(found, ["7.0"]);
    });
}

#[test]
fn renames_keep_every_value_and_free_the_name() {
    let (disk, db) = spread();
    let rename = |from: &str, to: &str| Alteration::RenameColumn { from: from.into(), to: to.into() };
    db.alter_table("cpu", rename("usage", "load")).unwrap();
    db.alter_table("cpu", rename("host", "node")).unwrap();
    db.add_columns("cpu", vec![Column::new("usage", DataType::Int64, true)]).unwrap();
    db.alter_table("cpu", Alteration::RenameTable("machines".into())).unwrap();
    let snapshot = db.snapshot();
    let db = three_times(&disk, db, |db| {
        assert!(db.catalog().table("cpu").is_none());
        let a = row(&[("node", "a"), ("region", "r-a"), ("load", "1.0")]);
        let b = |load| row(&[("node", "b"), ("region", "r-b"), ("load", load)]);
        assert_eq!(rows_of(db, "machines"), [a, b("2.0"), b("3.0")]);
    });
    db.create_table(cpu()).unwrap();
    assert!(cpu_all(&db).is_empty(), "the name is free, and nothing of the old table is in the new one");
    assert!(snapshot.table("machines").is_some());
    let taken = db.alter_table("machines", Alteration::RenameTable("cpu".into())).unwrap_err();
    assert!(matches!(&taken, Error::TableExists { table } if table == "cpu"), "{taken}");
}

#[test]
fn a_new_tag_tells_new_rows_apart_and_is_null_in_old_ones() {
    let (disk, db) = spread();
    db.alter_table("cpu", Alteration::AddTags(vec!["rack".into()])).unwrap();
    let key: Vec<_> = db.catalog().table("cpu").unwrap().key.clone();
    assert_eq!(key, [1, 2, 4, 0]);
    // One row with the tag at a key that is there without it, and one without that updates the old row.
    let with_tag = |rack: Option<&str>, usage: f64| {
        let batch = cpu_rows(&[cpu_row("b", 1, usage)]);
        let racks: arrow::array::StringArray = vec![rack].into_iter().collect();
        let columns = batch.schema_ref().fields().iter().map(|f| f.name().clone()).zip(batch.columns().to_vec());
        let rack = ("rack".to_string(), std::sync::Arc::new(racks) as arrow::array::ArrayRef);
        let all = columns.chain([rack]).map(|(name, column)| (name, column, true));
        Write::rows("cpu", RecordBatch::try_from_iter_with_nullable(all).unwrap())
    };
    db.commit(vec![with_tag(Some("r1"), 8.0)]).unwrap();
    db.commit(vec![with_tag(None, 9.0)]).unwrap();
    let base = |host: &str, usage: &str| row(&[("host", host), ("region", &format!("r-{host}")), ("usage", usage)]);
    let mut tagged = base("b", "8.0");
    tagged.insert("rack".into(), "r1".into());
    let mut wanted = vec![base("a", "1.0"), base("b", "9.0"), base("b", "3.0"), tagged];
    wanted.sort();
    three_times(&disk, db, |db| {
        assert_eq!(rows_of(db, "cpu"), wanted);
        for batch in scan(&db.snapshot(), "cpu", &ScanRequest { projection: vec![1, 4], ..Default::default() }).unwrap()
        {
            let text = |column: usize| cast(batch.column(column), &DataType::Utf8).unwrap();
            let (hosts, racks) = (text(0), text(1));
            let keys: Vec<_> = hosts.as_string::<i32>().iter().zip(racks.as_string::<i32>().iter()).collect();
            assert!(keys.is_sorted(), "{keys:?}");
        }
    });
}

#[test]
fn a_truncated_table_is_empty_for_good_and_its_files_go() {
    let (disk, db) = spread();
    let before = db.snapshot();
    db.truncate("cpu").unwrap();
    assert_eq!((db.status().parts, db.status().memtable_rows), (0, 0));
    assert_eq!(cpu_contents(&before, ScanRequest::default()).len(), 3, "a snapshot stays as it was");
    drop(before);
    let db = three_times(&disk, db, |db| assert!(cpu_all(db).is_empty()));
    let rows = [cpu_row("b", 2, 5.0)];
    db.commit(vec![cpu_write(&rows)]).unwrap();
    let db = three_times(&disk, db, |db| assert_eq!(cpu_all(db), cpu_expected(&rows)));
    assert_eq!(db.status().parts, 1);
    assert!(matches!(db.truncate("gone"), Err(Error::UnknownTable { .. })));
}

#[test]
fn writers_go_on_while_the_table_changes_under_them() {
    let (disk, db) = opened_with(&[cpu()]);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let db = db.clone();
                scope.spawn(move || {
                    for time in 0..60 {
                        db.commit(vec![cpu_write(&[cpu_row(&format!("h{writer}"), time, 1.0)])]).unwrap();
                    }
                })
            })
            .collect();
        for number in 0..20 {
            db.alter_table("cpu", Alteration::AddTags(vec![format!("t{number}")])).unwrap();
            db.add_columns("cpu", vec![Column::new(format!("f{number}"), DataType::Int64, true)]).unwrap();
            db.alter_table("cpu", Alteration::DropColumn(format!("f{number}"))).unwrap();
            if number % 5 == 0 {
                db.flush(None).unwrap();
            }
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    three_times(&disk, db, |db| assert_eq!(cpu_all(db).len(), 180));
}

#[test]
fn metadata_and_retention_last_and_nonsense_is_refused() {
    let (disk, db) = spread();
    let metadata = BTreeMap::from([("unit".to_string(), "percent".to_string())]);
    let change = Alteration::SetMetadata { column: "usage".into(), metadata: metadata.clone() };
    db.alter_table("cpu", change).unwrap();
    db.alter_table("cpu", Alteration::SetRetention(Some(i64::MAX))).unwrap();
    let db = three_times(&disk, db, |db| {
        let catalog = db.catalog();
        let table = catalog.table("cpu").unwrap();
        assert_eq!((&table.columns[3].metadata, table.retention), (&metadata, Some(i64::MAX)));
    });
    db.create_table(users()).unwrap();
    assert!(db.alter_table("users", Alteration::SetRetention(Some(1))).is_err());
    assert!(db.alter_table("users", Alteration::AddTags(vec!["t".into()])).is_err());
    assert!(matches!(db.alter_table("gone", Alteration::SetRetention(None)), Err(Error::UnknownTable { .. })));
}
