//! What a detector reads and writes through the engine: its own table, to know what was judged, and the watched one.
//!
//! **Invariant:** reads of one table give each series' rows in order of time; decides nothing about points.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use juno_engine::{Alteration, Db, ScanRequest, TableSchema, TimeRange, Write};

use super::judge::{Columns, key};
use super::{Detector, RESULTS};
use crate::{Error, Result, column};

/// So many warm-ups before the last judged point are read again to have a series' state back.
const REPLAYED_WARM_UPS: i64 = 100;

/// What of a series was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    first_us: i64,
    last_us: i64,
    points: i64,
}

impl Extent {
    fn with(self, time_us: i64) -> Self {
        Self { first_us: self.first_us.min(time_us), last_us: self.last_us.max(time_us), points: self.points + 1 }
    }

    /// From where on its points are read again.
    fn replay_from_us(self, warm_up: usize) -> i64 {
        let step = (self.last_us - self.first_us) / (self.points - 1).max(1);
        let span = step.saturating_mul(REPLAYED_WARM_UPS).saturating_mul(i64::try_from(warm_up).unwrap_or(i64::MAX));
        self.last_us.saturating_sub(span)
    }
}

/// What was judged of all series when a detector begins.
#[derive(Debug, Default)]
pub(super) struct Known {
    series: HashMap<String, Extent>,
}

impl Known {
    /// Reads a detector's own table.
    pub(super) fn read(db: &Db, detector: &Detector) -> Result<Self> {
        let table = found(db, &detector.name)?;
        let columns = columns(&table, RESULTS[0])?;
        let mut known = Self::default();
        let wanted: Vec<&String> = columns.tags.iter().chain([&columns.time]).collect();
        scan(db, &table, &wanted, i64::MIN, |batch| {
            let tags = batch.columns()[..columns.tags.len()].iter();
            let tags = tags.map(|tag| Ok(cast(tag, &DataType::Utf8)?)).collect::<Result<Vec<ArrayRef>>>()?;
            let times = cast(batch.column(columns.tags.len()), &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let names: Vec<&String> = columns.tags.iter().collect();
            for row in 0..batch.num_rows() {
                let time = times.value(row);
                let fresh = Extent { first_us: time, last_us: time, points: 0 };
                let entry = known.series.entry(key(&names, &tags, row)).or_insert(fresh);
                *entry = entry.with(time);
            }
            Ok(())
        })?;
        Ok(known)
    }

    /// Whether the judgement of a point is in the table.
    pub(super) fn has(&self, series: &str, time_us: i64) -> bool {
        self.series.get(series).is_some_and(|extent| time_us <= extent.last_us)
    }

    /// From where on the watched table is read.
    pub(super) fn begins_us(&self, warm_up: usize) -> i64 {
        self.series.values().map(|extent| extent.replay_from_us(warm_up)).min().unwrap_or(i64::MIN)
    }
}

/// The names of time, tags and a value in a table.
pub(super) fn columns(table: &TableSchema, value: &str) -> Result<Columns> {
    let time = table.time().ok_or_else(|| Error::WrongKind(format!("\"{}\" is no telemetry table", table.name)))?;
    let name = |index: usize| table.columns[index].name.clone();
    Ok(Columns { time: name(time), tags: table.tags().iter().map(|&tag| name(tag)).collect(), value: value.to_owned() })
}

/// A table of this name.
pub(super) fn found(db: &Db, name: &str) -> Result<std::sync::Arc<TableSchema>> {
    let table = db.catalog().table(name).cloned();
    table.ok_or_else(|| Error::UndefinedTable(format!("relation \"{name}\" does not exist any more")))
}

/// Reads the watched table from a time on.
pub(super) fn watched(
    db: &Db,
    table: &TableSchema,
    columns: &Columns,
    from_us: i64,
    take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let wanted: Vec<&String> = columns.tags.iter().chain([&columns.time, &columns.value]).collect();
    scan(db, table, &wanted, from_us, take)
}

fn scan(
    db: &Db,
    table: &TableSchema,
    wanted: &[&String],
    from_us: i64,
    mut take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let projection = wanted.iter().map(|name| {
        let index = table.column(name);
        index.ok_or_else(|| Error::UndefinedColumn(format!("column \"{name}\" of \"{}\" does not exist", table.name)))
    });
    let projection = projection.collect::<Result<Vec<_>>>()?;
    let time = TimeRange { from: from_us, to: i64::MAX };
    let snapshot = db.snapshot();
    let Some(found) = snapshot.table(&table.name) else { return Ok(()) };
    // Slices come in order of time.
    for slice in found.scan(&ScanRequest { projection, time, ..ScanRequest::default() })? {
        for batch in slice.read()? {
            take(batch?)?;
        }
    }
    Ok(())
}

/// Writes judgements to a detector's table, which gets the tags that it lacks.
pub(super) fn write(db: &Db, detector: &Detector, rows: &RecordBatch) -> Result<()> {
    let table = found(db, &detector.name)?;
    let schema = rows.schema();
    let lacking: BTreeSet<String> = schema
        .fields()
        .iter()
        .filter(|field| table.column(field.name()).is_none())
        .map(|field| field.name().clone())
        .collect();
    let table = match lacking.is_empty() {
        true => table,
        false => {
            db.alter_table(&detector.name, Alteration::AddTags(lacking.into_iter().collect()))?;
            found(db, &detector.name)?
        }
    };
    let rows = column::conform(&table, rows)?;
    db.commit(vec![Write::rows(&*detector.name, rows)])?;
    Ok(())
}
