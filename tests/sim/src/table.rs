//! Tables of the model as tables of the engine, and rows there and back.
//!
//! **Invariant:** checks what every scan promises: slices sorted by key, no key twice, batches of the right size.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use juno_engine::{
    BATCH_ROWS_MAX, Column, OnConflict, Result, ScanRequest, Slice, TableKind, TableSchema, TableSnapshot, TagFilter,
    TimeRange, Write as EngineWrite,
};

use crate::model::{Fields, Key, Kind, Table, Write};
use crate::world::START_US;

/// The definition of a new table.
pub(crate) fn schema(name: &str, kind: Kind) -> TableSchema {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let (key, of_kind) = match kind {
        Kind::Telemetry => {
            let tag = Column::new("tag", TableSchema::tag_type(), true);
            (vec![1, 0], (vec![Column::new("at", time, false), tag], TableKind::Telemetry { time: 0 }))
        }
        Kind::Keyed => (vec![0], (vec![Column::new("at", DataType::Int64, false)], TableKind::Keyed)),
    };
    let (mut columns, kind) = of_kind;
    columns.push(field("f0"));
    TableSchema { name: name.into(), columns, key, kind, retention: None }
}

/// The tag that a table may get later.
pub(crate) const ZONE: &str = "zone";

/// A column that holds values; the first letter of its name says of which type.
pub(crate) fn field(name: &str) -> Column {
    let data_type = match name.as_bytes().first() {
        Some(b'f') => DataType::Float64,
        Some(b's') => DataType::Utf8,
        _ => DataType::Int64,
    };
    Column::new(name, data_type, true)
}

/// The names of a table's columns besides the key.
pub(crate) fn fields(schema: &TableSchema) -> Vec<String> {
    let fields = (0..schema.columns.len()).filter(|index| !schema.key.contains(index));
    fields.map(|index| schema.columns[index].name.clone()).collect()
}

/// How long rows may be kept, so that some of the heaps of times expire, whatever the clock says within some hours.
pub(crate) const RETENTIONS_US: [i64; 3] =
    [START_US - 7_000_000_000_000, START_US - 14_000_000_000_000, START_US - 21_000_000_000_000];

/// The time before which rows expire that are kept so long. A retention advances in 256 steps.
pub(crate) fn kept_from(retention_us: i64) -> i64 {
    let step = retention_us / 256;
    (START_US - retention_us) / step * step
}

/// A write as the engine takes it.
pub(crate) fn write(write: &Write, kind: Kind) -> EngineWrite {
    let deletes: Vec<Key> = write.deletes.clone();
    let deletes = (!deletes.is_empty()).then(|| batch(keys(&deletes, kind)));
    let rows = (!write.rows.is_empty()).then(|| {
        let mut columns = keys(&write.rows.iter().map(|(key, _)| *key).collect::<Vec<_>>(), kind);
        let mut names: Vec<&String> = write.rows.iter().flat_map(|(_, fields)| fields.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let values: Vec<Option<i64>> = write.rows.iter().map(|(_, fields)| fields.get(name).copied()).collect();
            columns.push((name.clone(), values_of(name, &values)));
        }
        batch(columns)
    });
    let on_conflict = if write.must_be_absent { OnConflict::Error } else { OnConflict::Replace };
    EngineWrite { table: write.table.clone(), rows, deletes, on_conflict }
}

fn batch(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn keys(keys: &[Key], kind: Kind) -> Vec<(String, ArrayRef)> {
    let at = keys.iter().map(|key| Some(key.at));
    match kind {
        Kind::Keyed => vec![("at".into(), Arc::new(at.collect::<Int64Array>()))],
        Kind::Telemetry => {
            let tags: StringArray = keys.iter().map(|key| key.tag.map(tag_text)).collect();
            let zones: StringArray = keys.iter().map(|key| key.zone.map(tag_text)).collect();
            let times: ArrayRef = Arc::new(at.collect::<TimestampMicrosecondArray>());
            let mut columns = vec![("tag".into(), Arc::new(tags) as ArrayRef), ("at".into(), times)];
            if zones.null_count() < zones.len() {
                columns.push((ZONE.into(), Arc::new(zones)));
            }
            columns
        }
    }
}

fn tag_text(tag: u8) -> String {
    format!("host-{tag:03}")
}

fn values_of(name: &str, values: &[Option<i64>]) -> ArrayRef {
    let values = values.iter().copied();
    match field(name).data_type {
        DataType::Float64 => {
            Arc::new(values.map(|value| value.map(|value| value as f64 / 8.0)).collect::<Float64Array>())
        }
        DataType::Utf8 => Arc::new(values.map(|value| value.map(|value| format!("{value}"))).collect::<StringArray>()),
        _ => Arc::new(values.collect::<Int64Array>()),
    }
}

/// Which rows of a table are read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Times from and to, the latter exclusive; all where absent.
    pub(crate) time: Option<(i64, i64)>,
    /// Tags; all where absent.
    pub(crate) tags: Option<Vec<u8>>,
}

impl Wanted {
    /// Every row.
    pub(crate) const ALL: Self = Self { time: None, tags: None };

    /// The rows of a table that are wanted.
    pub(crate) fn of(&self, table: &Table) -> Table {
        let rows = table.rows.iter().filter(|(key, _)| self.matches(**key));
        Table { rows: rows.map(|(key, row)| (*key, row.clone())).collect(), ..table.clone() }
    }

    fn matches(&self, key: Key) -> bool {
        self.time.is_none_or(|(from, to)| (from..to).contains(&key.at))
            && self.tags.as_ref().is_none_or(|tags| key.tag.is_some_and(|tag| tags.contains(&tag)))
    }
}

/// Reads a table.
pub(crate) fn read(table: &TableSnapshot, wanted: &Wanted) -> Result<Table> {
    let schema = table.schema();
    let kind = if schema.time().is_some() { Kind::Telemetry } else { Kind::Keyed };
    let (fields, rows) = (fields(schema).into_iter().collect(), BTreeMap::new());
    let (keep, expired) = (schema.retention.map(kept_from), BTreeSet::from([i64::MIN]));
    let zoned = schema.column(ZONE).is_some();
    let mut found = Table { kind, zoned, fields, rows, keep, expired };
    let time = wanted.time.map_or(TimeRange::ALL, |(from, to)| TimeRange { from, to });
    let tags = wanted.tags.iter().filter_map(|tags| {
        let column = *schema.tags().first()?;
        Some(TagFilter { column, any_of: tags.iter().map(|tag| tag_text(*tag)).collect() })
    });
    let request = ScanRequest {
        projection: (0..schema.columns.len()).collect(),
        time,
        tags: tags.collect(),
        ..Default::default()
    };
    for slice in table.scan(&request)? {
        read_slice(&slice, wanted, &mut found)?;
    }
    if *wanted == Wanted::ALL && kind == Kind::Telemetry {
        check_blocks(table, &found)?;
    }
    Ok(found)
}

/// Blocks that speak for a time know how many rows there are.
fn check_blocks(table: &TableSnapshot, found: &Table) -> Result<()> {
    for width_us in table.block_widths(TimeRange::ALL)? {
        for span in table.block_spans(&[TimeRange::ALL], width_us, |_| true)? {
            let rows = found.rows.keys().filter(|key| (span.time.from..span.time.to).contains(&key.at)).count();
            assert_eq!(rows as u64, span.rows, "blocks of {width_us} µs at {:?}", span.time);
        }
    }
    Ok(())
}

fn read_slice(slice: &Slice, wanted: &Wanted, found: &mut Table) -> Result<()> {
    let mut last = None;
    for batch in slice.read()? {
        let batch = batch?;
        assert!((1..=BATCH_ROWS_MAX).contains(&batch.num_rows()), "a batch of {} rows", batch.num_rows());
        for (key, row) in rows(&batch, found) {
            assert!(last.is_none_or(|last| last < key), "{key:?} follows {last:?} in one slice");
            last = Some(key);
            if wanted.matches(key) {
                assert!(found.rows.insert(key, row).is_none(), "{key:?} came twice");
            }
        }
    }
    Ok(())
}

fn rows(batch: &RecordBatch, table: &Table) -> Vec<(Key, Fields)> {
    let column = |name: &str| batch.column_by_name(name).expect("a column that was asked for");
    let texts = |name: &str, there: bool| there.then(|| cast(column(name), &DataType::Utf8).expect("tags are text"));
    let (tags, zones) = (texts("tag", table.kind == Kind::Telemetry), texts(ZONE, table.zoned));
    let at: Vec<i64> = match table.kind {
        Kind::Telemetry => column("at").as_primitive::<TimestampMicrosecondType>().values().to_vec(),
        Kind::Keyed => column("at").as_primitive::<Int64Type>().values().to_vec(),
    };
    let tag = |tags: &Option<ArrayRef>, row: usize| {
        let tags = tags.as_ref().filter(|tags| tags.is_valid(row))?.as_string::<i32>();
        Some(tags.value(row).strip_prefix("host-").and_then(|tag| tag.parse().ok()).expect("a tag that was written"))
    };
    let keys = at.iter().enumerate().map(|(row, &at)| Key { tag: tag(&tags, row), zone: tag(&zones, row), at });
    let mut rows: Vec<(Key, Fields)> = keys.map(|key| (key, Fields::new())).collect();
    for name in &table.fields {
        for (row, value) in values(name, column(name)).into_iter().enumerate() {
            rows[row].1.extend(value.map(|value| (name.clone(), value)));
        }
    }
    rows
}

fn values(name: &str, column: &ArrayRef) -> Vec<Option<i64>> {
    match field(name).data_type {
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().map(|value| value.map(|value| (value * 8.0) as i64)).collect()
        }
        DataType::Utf8 => {
            let number = |text: &str| text.parse().expect("a text that was written");
            column.as_string::<i32>().iter().map(|value| value.map(number)).collect()
        }
        _ => column.as_primitive::<Int64Type>().iter().collect(),
    }
}
