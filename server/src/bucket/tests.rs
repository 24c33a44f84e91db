//! Parts in a bucket, with a directory as the bucket.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use juno_sql::engine::{Column, Db, OnConflict, Options, ScanRequest, TableKind, TableSchema, TimeRange, Write};
use tempfile::TempDir;

use super::*;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.path("bucket")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bucket(&self, cache_bytes_max: u64) -> Bucket {
        Bucket { url: Url::from_directory_path(self.path("bucket")).unwrap(), cache_bytes_max }
    }

    fn open(&self, data: &str, cache_bytes_max: u64) -> io::Result<Db> {
        let mut options = Options::default();
        let disk = BucketDisk::open(&self.path(data), &self.bucket(cache_bytes_max))?;
        options.system = options.system.with_disk(Arc::new(disk));
        Ok(Db::open_with(self.path(data), options).unwrap())
    }

    fn parts(&self, dir: &str) -> usize {
        let Ok(found) = std::fs::read_dir(self.path(dir)) else { return 0 };
        found.filter(|entry| is_part(&entry.as_ref().unwrap().path())).count()
    }
}

fn tag() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn create(db: &Db) {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let columns = vec![
        Column::new("time", time, false),
        Column::new("host", tag(), true),
        Column::new("usage", DataType::Float64, true),
    ];
    let kind = TableKind::Telemetry { time: 0 };
    db.create_table(TableSchema { name: "cpu".into(), columns, key: vec![1, 0], kind, retention: None }).unwrap();
}

fn write(db: &Db, times: Range<i64>) {
    let rows = times.end - times.start;
    let time = TimestampMicrosecondArray::from_iter_values(times.clone()).with_timezone("+00:00");
    let hosts: ArrayRef = Arc::new(StringArray::from(vec!["a"; usize::try_from(rows).unwrap()]));
    let usage = Float64Array::from_iter_values(times.map(|time| time as f64));
    let columns: [(&str, ArrayRef); 3] =
        [("time", Arc::new(time)), ("host", cast(&hosts, &tag()).unwrap()), ("usage", Arc::new(usage))];
    let rows = Some(RecordBatch::try_from_iter(columns).unwrap());
    db.commit(vec![Write { table: "cpu".into(), rows, deletes: None, on_conflict: OnConflict::Replace }]).unwrap();
}

fn rows(db: &Db) -> usize {
    let request = ScanRequest { projection: vec![0, 2], time: TimeRange::ALL, tags: Vec::new(), fields: Vec::new() };
    let slices = db.snapshot().table("cpu").unwrap().scan(&request).unwrap();
    slices.iter().flat_map(|slice| slice.read().unwrap()).map(|batch| batch.unwrap().num_rows()).sum()
}

#[test]
fn parts_are_in_the_bucket_and_are_read_from_there_where_no_copy_is_kept() {
    let place = Place::new();
    let db = place.open("data", 0).unwrap();
    create(&db);
    write(&db, 0..1000);
    db.flush(None).unwrap();
    assert_eq!((place.parts("data/parts"), place.parts("bucket")), (0, 1));
    assert_eq!(rows(&db), 1000);
    db.close().unwrap();
    let db = place.open("data", 0).unwrap();
    assert_eq!(rows(&db), 1000);
    db.drop_table("cpu").unwrap();
    db.close().unwrap();
    drop(db);
    assert_eq!(place.parts("bucket"), 0);
}

#[test]
fn copies_are_kept_up_to_the_limit_and_a_lost_copy_is_no_loss() {
    let place = Place::new();
    let db = place.open("data", 1 << 20).unwrap();
    create(&db);
    write(&db, 0..1000);
    db.flush(None).unwrap();
    assert_eq!((place.parts("data/parts"), place.parts("bucket")), (1, 1));
    db.close().unwrap();
    drop(db);
    std::fs::remove_dir_all(place.path("data/parts")).unwrap();
    assert_eq!(rows(&place.open("data", 1 << 20).unwrap()), 1000);
}

#[test]
fn a_database_that_was_local_moves_its_parts_on_the_first_start_with_a_bucket() {
    let place = Place::new();
    let db = Db::open(place.path("data")).unwrap();
    create(&db);
    write(&db, 0..1000);
    db.close().unwrap();
    drop(db);
    let db = place.open("data", 0).unwrap();
    assert_eq!((place.parts("data/parts"), place.parts("bucket")), (0, 1));
    assert_eq!(rows(&db), 1000);
}

#[test]
fn a_prefix_has_one_owner_and_a_database_one_bucket() {
    let place = Place::new();
    drop(place.open("data", 0).unwrap());
    let error = place.open("other", 0).err().unwrap().to_string();
    assert!(error.contains("belongs to another database"), "{error}");
    let error = refuse_without(&place.path("data")).unwrap_err().to_string();
    assert!(error.contains("JUNO_OBJECT_STORE") && error.contains("bucket"), "{error}");
    assert!(refuse_without(&place.path("other")).is_ok());
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let elsewhere = Bucket { url: Url::from_directory_path(place.path("elsewhere")).unwrap(), cache_bytes_max: 0 };
    let error = BucketDisk::open(&place.path("data"), &elsewhere).err().unwrap().to_string();
    assert!(error.contains("are in file://"), "{error}");
}
