//! Rows written, replaced, deleted and read.
//!
//! **Invariant:** no crashes and no threads here.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, Scalar};
use arrow::datatypes::DataType;

use super::support::*;
use crate::{Column, Comparison, Error, FieldFilter, OnConflict, ScanRequest, TagFilter, TimeRange, Write};

const HOUR: i64 = 3_600_000_000;

#[test]
fn the_later_write_wins_in_memory_in_parts_and_across_both() {
    let (_disk, db) = opened_with(&[cpu()]);
    let write = |usage| db.commit(vec![cpu_write(&[cpu_row("a", 1, usage), cpu_row("b", 1, usage)])]).unwrap();
    let expect = |usage| assert_eq!(cpu_all(&db), cpu_expected(&[cpu_row("a", 1, usage), cpu_row("b", 1, usage)]));
    write(1.0);
    write(2.0);
    expect(2.0);
    db.flush(None).unwrap();
    expect(2.0);
    write(3.0);
    expect(3.0);
    db.flush(None).unwrap();
    expect(3.0);
    assert_eq!(db.status().parts, 2);
}

#[test]
fn a_deleted_row_stays_away_over_older_parts_and_comes_back_when_written() {
    let (_disk, db) = opened_with(&[cpu()]);
    let rows = [cpu_row("a", 1, 1.0), cpu_row("b", 1, 2.0)];
    db.commit(vec![cpu_write(&rows)]).unwrap();
    db.flush(None).unwrap();
    db.commit(vec![cpu_delete(&rows[..1])]).unwrap();
    assert_eq!(cpu_all(&db), cpu_expected(&rows[1..]));
    db.flush(None).unwrap();
    assert_eq!(cpu_all(&db), cpu_expected(&rows[1..]));
    db.commit(vec![cpu_write(&rows[..1])]).unwrap();
    assert_eq!(cpu_all(&db), cpu_expected(&rows));
}

#[test]
fn deletions_with_nothing_below_leave_no_trace_on_the_disk() {
    let (_disk, db) = opened_with(&[cpu()]);
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 1.0)])]).unwrap();
    db.commit(vec![cpu_delete(&[cpu_row("a", 1, 1.0)])]).unwrap();
    let reports = db.flush(None).unwrap();
    assert_eq!((reports[0].rows, reports[0].parts, db.status().parts), (0, 0, 0));
    assert!(cpu_all(&db).is_empty());
}

#[test]
fn a_snapshot_stays_as_it_is_while_rows_are_written_flushed_and_dropped() {
    let (disk, db) = opened_with(&[cpu()]);
    let old = [cpu_row("a", 1, 1.0), cpu_row("a", 2, 1.0)];
    db.commit(vec![cpu_write(&old)]).unwrap();
    db.flush(None).unwrap();
    db.commit(vec![cpu_write(&[cpu_row("a", 3, 1.0)])]).unwrap();
    let snapshot = db.snapshot();
    let expected = cpu_contents(&snapshot, ScanRequest::default());
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 9.0)]), cpu_delete(&old[1..])]).unwrap();
    db.flush(None).unwrap();
    db.add_columns("cpu", vec![Column::new("idle", DataType::Float64, true)]).unwrap();
    assert_eq!(cpu_contents(&snapshot, ScanRequest::default()), expected);
    db.drop_table("cpu").unwrap();
    assert_eq!(cpu_contents(&snapshot, ScanRequest::default()), expected);
    assert!(db.snapshot().table("cpu").is_none());
    assert_eq!(part_files(&disk), 1, "the part that the snapshot reads");
    drop(snapshot);
    assert_eq!(part_files(&disk), 0, "the last snapshot takes the dropped table's files along");
}

fn part_files(disk: &crate::system::MemoryDisk) -> usize {
    use crate::system::Disk;
    disk.list(std::path::Path::new("db/parts")).unwrap().len()
}

#[test]
fn a_table_made_anew_under_an_old_name_is_empty() {
    let (disk, db) = opened_with(&[cpu()]);
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 1.0)])]).unwrap();
    db.drop_table("cpu").unwrap();
    db.create_table(cpu()).unwrap();
    assert!(cpu_all(&db).is_empty());
    drop(db);
    assert!(cpu_all(&open(&disk)).is_empty());
}

#[test]
fn a_widened_table_reads_old_rows_with_nulls_and_keeps_metadata() {
    let (disk, db) = opened_with(&[cpu()]);
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 1.0)])]).unwrap();
    db.flush(None).unwrap();
    db.commit(vec![cpu_write(&[cpu_row("a", 2, 2.0)])]).unwrap();
    let mut idle = Column::new("idle", DataType::Float64, true);
    idle.metadata.insert("unit".into(), "percent".into());
    db.add_columns("cpu", vec![idle.clone()]).unwrap();
    db.add_columns("cpu", vec![idle.clone()]).unwrap();
    let rows = cpu_rows(&[cpu_row("a", 3, 3.0)]);
    let mut columns: Vec<_> = rows.columns().to_vec();
    columns[3] = Arc::new(Float64Array::from(vec![7.0]));
    let names = ["time", "host", "region", "idle"].into_iter().zip(columns).map(|(name, column)| (name, column, true));
    let rows = arrow::array::RecordBatch::try_from_iter_with_nullable(names).unwrap();
    db.commit(vec![Write::rows("cpu", rows)]).unwrap();
    drop(db);
    for _ in 0..2 {
        let db = open(&disk);
        let request = ScanRequest { projection: vec![4, 3], ..ScanRequest::default() };
        let batches = scan(&db.snapshot(), "cpu", &request).unwrap();
        let found = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        assert_eq!(found.schema().field(0), &idle.field());
        let wanted =
            [Float64Array::from(vec![None, None, Some(7.0)]), Float64Array::from(vec![Some(1.0), Some(2.0), None])];
        assert_eq!(found.column(0).as_ref(), &wanted[0]);
        assert_eq!(found.column(1).as_ref(), &wanted[1]);
        let other = Column::new("idle", DataType::Int64, true);
        assert!(matches!(db.add_columns("cpu", vec![other]), Err(Error::ColumnType { .. })));
        let strict = Column::new("busy", DataType::Int64, false);
        assert!(matches!(db.add_columns("cpu", vec![strict]), Err(Error::InvalidSchema { .. })));
        db.close().unwrap();
    }
}

#[test]
fn filters_prune_parts_pages_and_rows_in_memory_but_lose_nothing() {
    let (_disk, db) = opened_with(&[cpu()]);
    let host = |i: i64| format!("host-{:02}", i % 40);
    let rows: Vec<_> = (0..40_000).map(|i| cpu_row(&host(i), (i / 40) * 60_000_000, i as f64)).collect();
    db.commit(vec![cpu_write(&rows)]).unwrap();
    let wanted = |row: &&CpuRow| row.0.0.as_deref() == Some("host-07") && (HOUR..2 * HOUR).contains(&row.0.2);
    let expected = cpu_expected(&rows.iter().filter(wanted).cloned().collect::<Vec<_>>());
    let request = ScanRequest {
        projection: vec![],
        time: TimeRange { from: HOUR, to: 2 * HOUR },
        tags: vec![TagFilter { column: 1, any_of: vec!["nobody".into(), "host-07".into()] }],
        fields: vec![],
    };
    let in_memory = cpu_contents(&db.snapshot(), request.clone());
    assert_eq!(in_memory, expected, "rows in memory are filtered exactly");
    db.flush(None).unwrap();
    let snapshot = db.snapshot();
    let found = cpu_contents(&snapshot, request.clone());
    assert_eq!(found, expected, "rows of parts are filtered exactly");
    let table = snapshot.table("cpu").unwrap();
    let read: u64 = table.scan(&request).unwrap().iter().map(|slice| slice.stats().rows).sum();
    assert!(read < table.rows_estimate() / 2, "{read} rows were to be read");
    let elsewhere = TagFilter { column: 1, any_of: vec!["zzz".into()] };
    let none = table.scan(&ScanRequest { tags: vec![elsewhere], ..request.clone() }).unwrap();
    assert!(none.is_empty(), "no row group can hold it");
}

#[test]
fn slices_do_not_share_windows_and_rows_in_memory_fall_into_the_right_ones() {
    let (_disk, db) = opened_with(&[cpu()]);
    let hours = |hours: &[i64]| hours.iter().map(|h| cpu_row("a", h * HOUR, *h as f64)).collect::<Vec<_>>();
    let (old, new) = (hours(&[0, 24 * 400]), hours(&[0, 100, 24 * 400, 24 * 900]));
    db.commit(vec![cpu_write(&old)]).unwrap();
    db.flush(None).unwrap();
    assert_eq!(db.status().parts, 2);
    db.commit(vec![cpu_write(&new)]).unwrap();
    let snapshot = db.snapshot();
    let slices =
        snapshot.table("cpu").unwrap().scan(&ScanRequest { projection: vec![3], ..ScanRequest::default() }).unwrap();
    assert_eq!(slices.len(), 4, "two parts, the gap between them, and the time behind");
    assert_eq!(cpu_all(&db), cpu_expected(&new));
}

#[test]
fn inserting_a_key_that_exists_fails_whole_and_names_the_key() {
    let (_disk, db) = opened_with(&[users(), cpu()]);
    db.commit(vec![insert(&[(1, "ann"), (2, "bob")])]).unwrap();
    for flushed in [false, true] {
        if flushed {
            db.flush(None).unwrap();
        }
        let both = vec![cpu_write(&[cpu_row("a", 1, 1.0)]), insert(&[(3, "cyd"), (2, "eve")])];
        let error = db.commit(both).unwrap_err();
        assert!(matches!(&error, Error::Duplicate { table, key } if table == "users" && key == "(id)=(2)"), "{error}");
        assert!(cpu_all(&db).is_empty());
        assert_eq!(users_all(&db), [(1, "ann".to_string()), (2, "bob".to_string())]);
    }
}

#[test]
fn keys_are_found_on_every_page_of_a_part_and_those_between_them_are_not() {
    let (_disk, db) = opened_with(&[users()]);
    let even: Vec<_> = (0..30_000).map(|id| (id * 2, "even")).collect();
    db.commit(vec![insert(&even)]).unwrap();
    db.flush(None).unwrap();
    for id in [0, 2, 16_382, 16_384, 31_998, 59_998] {
        let error = db.commit(vec![insert(&[(-1, "new"), (id, "again"), (99_999, "new")])]).unwrap_err();
        assert!(matches!(&error, Error::Duplicate { key, .. } if *key == format!("(id)=({id})")), "{error}");
    }
    db.commit(vec![insert(&[(-1, "new"), (1, "new"), (16_383, "new"), (59_999, "new")])]).unwrap();
    assert_eq!(users_all(&db).len(), 30_004);
}

#[test]
fn a_deleted_key_can_be_inserted_again_also_in_the_same_commit() {
    let (_disk, db) = opened_with(&[users()]);
    db.commit(vec![insert(&[(1, "ann"), (2, "bob")])]).unwrap();
    db.flush(None).unwrap();
    db.commit(vec![delete_users(&[1])]).unwrap();
    db.commit(vec![insert(&[(1, "amy")])]).unwrap();
    db.commit(vec![delete_users(&[2]), insert(&[(2, "ben")])]).unwrap();
    assert_eq!(users_all(&db), [(1, "amy".to_string()), (2, "ben".to_string())]);
    let renumber = Write { deletes: delete_users(&[1, 2]).deletes, ..insert(&[(2, "amy"), (3, "ben")]) };
    db.commit(vec![renumber]).unwrap();
    assert_eq!(users_all(&db), [(2, "amy".to_string()), (3, "ben".to_string())]);
}

#[test]
fn wrong_calls_are_told_what_is_wrong() {
    let (_disk, db) = opened_with(&[users()]);
    assert!(matches!(db.create_table(users()), Err(Error::TableExists { .. })));
    assert!(matches!(db.drop_table("nobody"), Err(Error::UnknownTable { .. })));
    assert!(matches!(db.flush(Some("nobody")), Err(Error::UnknownTable { .. })));
    assert!(matches!(db.add_columns("nobody", vec![]), Err(Error::UnknownTable { .. })));
    let elsewhere = Write { table: "nobody".into(), ..insert(&[(1, "ann")]) };
    assert!(matches!(db.commit(vec![elsewhere]), Err(Error::UnknownTable { .. })));
    let request = ScanRequest { projection: vec![9], ..ScanRequest::default() };
    assert!(matches!(db.snapshot().table("users").unwrap().scan(&request), Err(Error::UnknownColumn { .. })));
    db.close().unwrap();
    db.close().unwrap();
    let write = Write { on_conflict: OnConflict::Replace, ..insert(&[(1, "ann")]) };
    assert!(matches!(db.commit(vec![write]), Err(Error::Closed)));
    assert!(matches!(db.create_table(cpu()), Err(Error::Closed)));
    assert!(matches!(db.flush(None), Err(Error::Closed)));
}

#[test]
fn an_empty_projection_still_counts_rows() {
    let (_disk, db) = opened_with(&[cpu()]);
    db.commit(vec![cpu_write(&[cpu_row("a", 1, 1.0), cpu_row("b", 1, 2.0)])]).unwrap();
    for _ in 0..2 {
        let batches = scan(&db.snapshot(), "cpu", &ScanRequest::default()).unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
        db.flush(None).unwrap();
    }
}

#[test]
fn every_stored_type_comes_back_as_written_from_memory_log_and_parts() {
    use crate::{TableKind, TableSchema};
    use arrow::array::{Array, Decimal128Array, new_null_array};
    use arrow::compute::cast;
    use arrow::datatypes::TimeUnit;

    let zoned = |zone: &str| DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
    let types = [
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        zoned("UTC"),
        zoned("+00:00"),
        DataType::Decimal128(10, 2),
        TableSchema::tag_type(),
    ];
    let column = |(i, t): (usize, &DataType)| Column::new(format!("c{i}"), t.clone(), i > 0);
    let mut table = TableSchema {
        name: "all".into(),
        columns: types.iter().enumerate().map(column).collect(),
        key: vec![0],
        kind: TableKind::Keyed,
        retention: None,
    };
    table.columns[0] = Column::new("c0", DataType::Int64, false);
    let ids = Int64Array::from(vec![1, 2]);
    let mut rows: Vec<(String, ArrayRef)> = vec![("c0".into(), Arc::new(ids.clone()))];
    for (i, t) in types.iter().enumerate().skip(1) {
        let value: ArrayRef = match t {
            DataType::Decimal128(..) => {
                Arc::new(Decimal128Array::from(vec![125]).with_precision_and_scale(10, 2).unwrap())
            }
            DataType::Binary => Arc::new(arrow::array::BinaryArray::from(vec![&b"x"[..]])),
            DataType::Utf8 => Arc::new(arrow::array::StringArray::from(vec!["x"])),
            DataType::Dictionary(..) => cast(&arrow::array::StringArray::from(vec!["x"]), t).unwrap(),
            DataType::Date32 => Arc::new(arrow::array::Date32Array::from(vec![7])),
            _ => cast(&Int64Array::from(vec![7]), t).unwrap(),
        };
        let null = new_null_array(t, 1);
        rows.push((format!("c{i}"), arrow::compute::concat(&[value.as_ref(), null.as_ref()]).unwrap()));
    }
    let rows =
        arrow::array::RecordBatch::try_from_iter_with_nullable(rows.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let (disk, db) = opened_with(&[table]);
    db.commit(vec![Write::rows("all", rows.clone())]).unwrap();
    let check = |db: &crate::Db| {
        let request = ScanRequest { projection: (0..types.len()).collect(), ..ScanRequest::default() };
        let found = scan(&db.snapshot(), "all", &request).unwrap();
        for (found, written) in found[0].columns().iter().zip(rows.columns()) {
            assert_eq!(found.data_type(), written.data_type());
            assert_eq!(found.as_ref(), written.as_ref());
        }
    };
    check(&db);
    drop(db);
    let db = open(&disk);
    check(&db);
    db.flush(None).unwrap();
    check(&db);
    db.commit(vec![Write::rows("all", rows.slice(0, 1))]).unwrap();
    check(&db);
}

#[test]
fn a_database_and_what_it_gives_can_go_to_other_threads() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<crate::Db>();
    shared::<crate::Snapshot>();
    shared::<crate::Slice>();
    sent::<crate::SliceReader>();
}

#[test]
fn a_look_up_by_key_reads_a_page_of_each_part_and_finds_the_newest_version() {
    const ROWS: i64 = 60_000;
    let (_disk, db) = opened_with(&[users()]);
    let names = |ids: &[i64], name: &str| {
        Write::rows("users", user_rows(&ids.iter().map(|&id| (id, name)).collect::<Vec<_>>()))
    };
    for (remainder, name) in [(0, "even"), (1, "odd")] {
        let ids: Vec<i64> = (0..ROWS).filter(|id| id % 2 == remainder).collect();
        db.commit(vec![names(&ids, name)]).unwrap();
        db.flush(None).unwrap();
    }
    db.commit(vec![names(&[12_344], "newer"), delete_users(&[12_346])]).unwrap();
    let look_up = |id: i64| {
        let value = Scalar::new(Arc::new(Int64Array::from(vec![id])) as ArrayRef);
        let fields = vec![FieldFilter { column: 0, comparison: Comparison::Equal, value }];
        let request = ScanRequest { projection: vec![0, 1], fields, ..ScanRequest::default() };
        let snapshot = db.snapshot();
        let slices = snapshot.table("users").unwrap().scan(&request).unwrap();
        let looked_at: u64 = slices.iter().map(|slice| slice.stats().rows).sum();
        assert!(looked_at < 35_000, "{looked_at} rows are looked at");
        let batches = scan(&snapshot, "users", &request).unwrap();
        let names = batches.iter().flat_map(|batch| {
            let names = batch.column(1).as_string::<i32>();
            names.iter().map(|name| name.unwrap_or_default().to_owned()).collect::<Vec<_>>()
        });
        names.collect::<Vec<_>>()
    };
    for flushed in [false, true] {
        assert_eq!(look_up(12_342), ["even"], "flushed: {flushed}");
        assert_eq!(look_up(12_345), ["odd"]);
        assert_eq!(look_up(12_344), ["newer"]);
        assert_eq!(look_up(12_346), [""; 0]);
        assert_eq!(look_up(ROWS), [""; 0]);
        db.flush(None).unwrap();
    }
}

#[test]
fn a_table_that_takes_no_nulls_is_flushed_when_its_last_write_deletes() {
    let mut table = users();
    table.columns[1].nullable = false;
    let (disk, db) = opened_with(&[table]);
    for id in 1..=3 {
        db.commit(vec![insert(&[(id, "a")])]).unwrap();
    }
    db.commit(vec![delete_users(&[3])]).unwrap();
    db.flush(None).unwrap();
    drop(db);
    assert_eq!(user_contents(&open(&disk).snapshot()).into_keys().collect::<Vec<_>>(), [1, 2]);
}
