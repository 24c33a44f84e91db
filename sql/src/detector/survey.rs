//! A survey of all telemetry that names a service: every numeric column is judged as it is committed, and what stands out is told.
//!
//! Nothing is written: a survey is for those who act on alarms, and begins anew with its process.
//!
//! A table with more series than are left of [`SERIES_MAX`] is left to `CREATE DETECTOR`.
//!
//! **Invariant:** bounded: so many series are judged, and none beyond; a point is judged once.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use juno_engine::{Db, Follower, TableSchema};

use super::judge::{Columns, Judge};
use super::source;
use super::{DAY_US, Detector, RESULTS};
use crate::Result;
use crate::healing::alarm::{Alarm, Kind};
use crate::ops::healing::HEALTH;
use crate::ops::is_system_table;

/// The tag without which a series is nobody's.
const SERVICE: &str = "service";
/// Series that are judged at most, over all tables.
const SERIES_MAX: usize = 2_000;
/// How much of the past teaches what is usual.
const PAST_US: i64 = 7 * DAY_US as i64;
/// Points that teach before the first judgement.
const WARM_UP: usize = 100;
/// Weaker alarms are told too: those that meet can be an incident.
const FALSE_ALARMS: f64 = 1.0;

/// One table.
struct Watched {
    follower: Follower,
    judges: BTreeMap<String, Judge>,
    /// Whether its past must be read.
    is_behind: bool,
}

/// A survey.
#[derive(Default)]
pub struct Survey {
    tables: BTreeMap<String, Watched>,
    /// Tables with too many series.
    left: BTreeSet<String>,
}

/// How many series each service has.
pub type Surveyed = BTreeMap<String, usize>;

impl Survey {
    /// Judges what was committed since it was last asked, and gives what stands out since `from_us`; blocks on the engine.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn alarms(&mut self, db: &Db, from_us: i64) -> Result<(Vec<Alarm>, Surveyed)> {
        let catalog = db.catalog();
        self.tables.retain(|name, _| catalog.table(name).is_some());
        let mut found = (Vec::new(), Surveyed::default());
        for (name, table) in &catalog.tables {
            let numbers = numbers(table);
            if numbers.is_empty()
                || is_of_a_detector(table)
                || self.left.contains(name)
                || name == HEALTH
                || is_system_table(name)
            {
                continue;
            }
            self.table(db, table, &numbers, from_us, &mut found)?;
            if self.tables.get(name).is_some_and(Watched::is_too_much) {
                tracing::info!(
                    table = name,
                    "it has too many series to be watched without being asked: CREATE DETECTOR does that"
                );
                self.tables.remove(name);
                self.left.insert(name.clone());
            }
        }
        Ok(found)
    }

    fn table(
        &mut self,
        db: &Db,
        table: &TableSchema,
        numbers: &[String],
        from_us: i64,
        (alarms, surveyed): &mut (Vec<Alarm>, Surveyed),
    ) -> Result<()> {
        let others: usize = self.tables.values().map(Watched::series).sum();
        let name = &table.name;
        if !self.tables.contains_key(name) {
            let follower = db.follow(name, || ())?;
            self.tables.insert(name.clone(), Watched { follower, judges: BTreeMap::new(), is_behind: true });
        }
        let Some(watched) = self.tables.get_mut(name) else { return Ok(()) };
        let followed = watched.follower.take()?;
        let mut room = SERIES_MAX.saturating_sub(others - watched.series());
        for column in numbers {
            let columns = source::columns(table, column)?;
            let is_new = !watched.judges.contains_key(column);
            let judge = watched.judges.entry(column.clone()).or_insert_with(|| Judge::new(&detector(name, column)));
            judge.series_max = room;
            let mut take = |judge: &mut Judge, rows: &RecordBatch| -> Result<()> {
                if let Some(judged) = judge.push(rows, &columns, &|_, _| false)? {
                    told(&judged, &columns, name, from_us, alarms)?;
                }
                Ok(())
            };
            if is_new || watched.is_behind || followed.lost {
                let past_us = db.system().clock().now_us() - PAST_US;
                let begins_us = if is_new { past_us } else { judge.behind_us() };
                source::watched(db, table, &columns, begins_us, |rows| take(judge, &rows))?;
            }
            for rows in &followed.rows {
                take(judge, rows)?;
            }
            room = room.saturating_sub(judge.series());
            for service in judge.values_of(SERVICE) {
                *surveyed.entry(service.to_owned()).or_default() += 1;
            }
        }
        watched.is_behind = false;
        Ok(())
    }
}

impl Watched {
    fn series(&self) -> usize {
        self.judges.values().map(Judge::series).sum()
    }

    fn is_too_much(&self) -> bool {
        self.judges.values().any(|judge| judge.refused > 0)
    }
}

fn detector(table: &str, column: &str) -> Detector {
    let (table, column) = (table.to_owned(), column.to_owned());
    Detector { name: String::new(), table, column, warm_up: WARM_UP, false_alarms: FALSE_ALARMS }
}

/// The numeric fields of telemetry that names a service.
fn numbers(table: &TableSchema) -> Vec<String> {
    let names_service = table.tags().iter().any(|tag| table.columns[*tag].name == SERVICE);
    if table.time().is_none() || !names_service {
        return Vec::new();
    }
    let fields = table
        .columns
        .iter()
        .enumerate()
        .filter(|(index, column)| !table.key.contains(index) && column.data_type.is_numeric());
    fields.map(|(_, column)| column.name.clone()).collect()
}

/// Whether a table holds the judgements of a detector.
fn is_of_a_detector(table: &TableSchema) -> bool {
    RESULTS.iter().all(|name| table.column(name).is_some())
}

/// Adds the alarms among judgements that are not older than `from_us`.
fn told(judged: &RecordBatch, columns: &Columns, table: &str, from_us: i64, alarms: &mut Vec<Alarm>) -> Result<()> {
    let column = |name: &str| judged.column_by_name(name);
    let (Some(times), Some(p_values), Some(kinds), Some(is_alarm)) =
        (column(&columns.time), column("p_value"), column("kind"), column("is_alarm"))
    else {
        return Ok(());
    };
    let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    let (p_values, kinds) = (p_values.as_primitive::<Float64Type>(), kinds.as_string::<i32>());
    let is_alarm = is_alarm.as_boolean();
    for row in 0..judged.num_rows() {
        if times[row] < from_us || !is_alarm.is_valid(row) || !is_alarm.value(row) {
            continue;
        }
        let mut labels = BTreeMap::new();
        for tag in &columns.tags {
            let Some(values) = column(tag) else { continue };
            let values = cast(values, &DataType::Utf8)?;
            let values = values.as_string::<i32>();
            if values.is_valid(row) {
                labels.insert(tag.clone(), values.value(row).to_owned());
            }
        }
        let Some(service) = labels.remove(SERVICE) else { continue };
        alarms.push(Alarm {
            service,
            metric: format!("{table}.{}", columns.value),
            labels,
            at_us: times[row],
            p_value: p_values.value(row),
            kind: kind(kinds.value(row)),
        });
    }
    Ok(())
}

fn kind(name: &str) -> Kind {
    match name {
        "level_shift" => Kind::LevelShift,
        "pattern" => Kind::Pattern,
        "silence" => Kind::Silence,
        "flatline" => Kind::Flatline,
        _ => Kind::Point,
    }
}
