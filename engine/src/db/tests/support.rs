//! Tables, rows and disks for tests.
//!
//! **Invariant:** small and deterministic.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};

use crate::system::{MemoryDisk, System};
use crate::{Column, Db, OnConflict, Options, Result, ScanRequest, Snapshot, TableKind, TableSchema, Write};

pub(super) const DIR: &str = "db";

/// A telemetry table: time, host, region, usage.
pub(super) fn cpu() -> TableSchema {
    TableSchema {
        name: "cpu".into(),
        columns: vec![
            Column::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Column::new("host", TableSchema::tag_type(), true),
            Column::new("region", TableSchema::tag_type(), true),
            Column::new("usage", DataType::Float64, true),
        ],
        key: vec![1, 2, 0],
        kind: TableKind::Telemetry { time: 0 },
        retention: None,
    }
}

/// A keyed table: id, name.
pub(super) fn users() -> TableSchema {
    TableSchema {
        name: "users".into(),
        columns: vec![Column::new("id", DataType::Int64, false), Column::new("name", DataType::Utf8, true)],
        key: vec![0],
        kind: TableKind::Keyed,
        retention: None,
    }
}

pub(super) fn options(disk: &MemoryDisk) -> Options {
    Options {
        compact_in_background: false,
        system: System::real().with_disk(Arc::new(disk.clone())),
        ..Options::default()
    }
}

pub(super) fn open(disk: &MemoryDisk) -> Db {
    Db::open_with(DIR, options(disk)).unwrap()
}

pub(super) fn opened_with(tables: &[TableSchema]) -> (MemoryDisk, Db) {
    let disk = MemoryDisk::default();
    let db = open(&disk);
    tables.iter().for_each(|table| db.create_table(table.clone()).unwrap());
    (disk, db)
}

/// Host, region and time.
pub(super) type CpuKey = (Option<String>, Option<String>, i64);

/// Key and value of a row in `cpu`.
pub(super) type CpuRow = (CpuKey, Option<f64>);

pub(super) fn cpu_row(host: &str, time: i64, usage: f64) -> CpuRow {
    ((Some(host.into()), Some(format!("r-{host}")), time), Some(usage))
}

pub(super) fn cpu_keys(rows: &[CpuRow]) -> RecordBatch {
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.0.2)).collect();
    let hosts: StringArray = rows.iter().map(|row| row.0.0.clone()).collect();
    let regions: StringArray = rows.iter().map(|row| row.0.1.clone()).collect();
    let columns: [(&str, ArrayRef); 3] =
        [("time", Arc::new(times)), ("host", Arc::new(hosts)), ("region", Arc::new(regions))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

pub(super) fn cpu_rows(rows: &[CpuRow]) -> RecordBatch {
    let usage: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>());
    let keys = cpu_keys(rows);
    let named =
        keys.schema().fields().iter().map(|f| f.name().clone()).zip(keys.columns().to_vec()).collect::<Vec<_>>();
    let all = named.into_iter().chain([("usage".to_string(), usage)]);
    RecordBatch::try_from_iter_with_nullable(all.map(|(name, column)| (name, column, true))).unwrap()
}

pub(super) fn cpu_write(rows: &[CpuRow]) -> Write {
    Write::rows("cpu", cpu_rows(rows))
}

pub(super) fn cpu_delete(rows: &[CpuRow]) -> Write {
    Write { table: "cpu".into(), rows: None, deletes: Some(cpu_keys(rows)), on_conflict: OnConflict::Replace }
}

pub(super) fn user_rows(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>());
    let names: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>());
    RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap()
}

pub(super) fn insert(rows: &[(i64, &str)]) -> Write {
    Write { on_conflict: OnConflict::Error, ..Write::rows("users", user_rows(rows)) }
}

pub(super) fn delete_users(ids: &[i64]) -> Write {
    let ids: ArrayRef = Arc::new(ids.iter().copied().map(Some).collect::<Int64Array>());
    let keys = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    Write { table: "users".into(), rows: None, deletes: Some(keys), on_conflict: OnConflict::Replace }
}

/// All batches of a scan, slice after slice; checks what every scan promises.
pub(super) fn scan(snapshot: &Snapshot, table: &str, request: &ScanRequest) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    let Some(table) = snapshot.table(table) else { return Ok(batches) };
    for slice in table.scan(request)? {
        let reader = slice.read()?;
        let schema = Arc::clone(reader.schema());
        for batch in reader {
            let batch = batch?;
            assert_eq!(batch.schema(), schema);
            assert!((1..=crate::BATCH_ROWS_MAX).contains(&batch.num_rows()), "{} rows", batch.num_rows());
            batches.push(batch);
        }
    }
    Ok(batches)
}

fn text(column: &ArrayRef, row: usize) -> Option<String> {
    let column = cast(column, &DataType::Utf8).unwrap();
    column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_string())
}

/// The rows of `cpu`, in a map that fails where a key comes twice.
pub(super) fn cpu_rows_found(snapshot: &Snapshot, request: ScanRequest) -> BTreeMap<CpuKey, Option<f64>> {
    let request = ScanRequest { projection: vec![3, 0, 1, 2], ..request };
    let mut rows = BTreeMap::new();
    for batch in scan(snapshot, "cpu", &request).unwrap() {
        let (usage, times) = (batch.column(0).as_primitive::<Float64Type>(), batch.column(1));
        let (hosts, regions) =
            (cast(batch.column(2), &DataType::Utf8).unwrap(), cast(batch.column(3), &DataType::Utf8).unwrap());
        for row in 0..batch.num_rows() {
            let time = times.as_primitive::<TimestampMicrosecondType>().value(row);
            let key = (text(&hosts, row), text(&regions, row), time);
            let usage = usage.is_valid(row).then(|| usage.value(row));
            assert_eq!(rows.insert(key.clone(), usage), None, "{key:?} came twice");
        }
    }
    rows
}

pub(super) fn cpu_contents(snapshot: &Snapshot, request: ScanRequest) -> BTreeMap<String, Option<f64>> {
    cpu_rows_found(snapshot, request).into_iter().map(|(key, usage)| (cpu_key(&key), usage)).collect()
}

pub(super) fn cpu_key((host, region, time): &CpuKey) -> String {
    format!("{host:?} {region:?} {time:?}")
}

pub(super) fn cpu_all(db: &Db) -> BTreeMap<String, Option<f64>> {
    cpu_contents(&db.snapshot(), ScanRequest::default())
}

pub(super) fn cpu_expected(rows: &[CpuRow]) -> BTreeMap<String, Option<f64>> {
    rows.iter().map(|(key, usage)| (cpu_key(key), *usage)).collect()
}

/// The rows of `users`.
pub(super) fn user_contents(snapshot: &Snapshot) -> BTreeMap<i64, String> {
    let request = ScanRequest { projection: vec![0, 1], ..ScanRequest::default() };
    let mut rows = BTreeMap::new();
    for batch in scan(snapshot, "users", &request).unwrap() {
        for row in 0..batch.num_rows() {
            let id = batch.column(0).as_primitive::<Int64Type>().value(row);
            let name = text(batch.column(1), row).unwrap_or_default();
            assert_eq!(rows.insert(id, name), None, "{id} came twice");
        }
    }
    rows
}

pub(super) fn users_all(db: &Db) -> Vec<(i64, String)> {
    user_contents(&db.snapshot()).into_iter().collect()
}
