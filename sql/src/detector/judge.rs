//! The states of all series that a detector watches, and how a batch of rows is judged with them.
//!
//! **Invariant:** pure but for its own states. A series' points are judged in order of time, each once: rows that are not
//! newer than the last one of their series, and rows without a value, are left out.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, UInt32Array};
use arrow::compute::{cast, partition, take};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use juno_kernels::record_ratio::{Params, Point, State};

use super::{DAY_US, Detector, RESULTS, points_per_day};
use crate::Result;

/// Series that one detector keeps states of; a state takes up to 130 kB.
const SERIES_MAX: usize = 10_000;
/// The points per day follow from the median of so many steps.
const STEPS: usize = 64;

/// Where a batch has what is judged.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) time: String,
    pub(crate) tags: Vec<String>,
    pub(crate) value: String,
}

/// All series of a detector.
pub(crate) struct Judge {
    params: Params,
    false_alarms: f64,
    /// Series beyond are refused.
    pub(super) series_max: usize,
    series: HashMap<String, Series>,
    /// Points that were judged, and those of them that are alarms.
    pub(crate) points: u64,
    pub(crate) alarms: u64,
    /// Points of series beyond the limit.
    pub(crate) refused: u64,
    /// The newest time that was judged.
    pub(crate) newest_us: Option<i64>,
}

struct Series {
    state: State,
    last_us: i64,
    steps: VecDeque<i64>,
}

impl Series {
    fn push(&mut self, time_us: i64, value: f64, false_alarms: f64) -> (Point, bool) {
        if self.last_us > i64::MIN {
            if self.steps.len() == STEPS {
                self.steps.pop_front();
            }
            self.steps.push_back(time_us.saturating_sub(self.last_us));
        }
        self.last_us = time_us;
        let point = self.state.push(value, Some(time_us.div_euclid(1_000_000)));
        // Most points do not stand out, and need no limit.
        let alarm =
            point.p_value < 1.0 && point.p_value <= false_alarms / points_per_day(self.steps.iter().copied().collect());
        (point, alarm)
    }
}

/// The judgements of a batch, and the rows that they are of.
#[derive(Default)]
struct Judged {
    rows: Vec<u32>,
    values: Vec<f64>,
    points: Vec<Point>,
    alarms: Vec<bool>,
}

impl Judge {
    pub(crate) fn new(detector: &Detector) -> Self {
        Self {
            params: detector.params(),
            false_alarms: detector.false_alarms,
            series_max: SERIES_MAX,
            series: HashMap::new(),
            points: 0,
            alarms: 0,
            refused: 0,
            newest_us: None,
        }
    }

    /// How many series it knows.
    pub(crate) fn series(&self) -> usize {
        self.series.len()
    }

    /// The values that a tag has, once for each series.
    pub(super) fn values_of<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a str> {
        self.series.keys().filter_map(move |key| value_of(key, tag))
    }

    /// The time after which nothing of a series was judged yet, for the series that is furthest behind; series that are more than a
    /// day behind the newest do not count.
    pub(crate) fn behind_us(&self) -> i64 {
        let Some(newest) = self.newest_us else { return i64::MIN };
        let floor = newest.saturating_sub(DAY_US as i64);
        self.series.values().map(|series| series.last_us.max(floor)).min().unwrap_or(i64::MIN)
    }

    /// Judges rows that are sorted by tags and time; the rows of the detector's table that come of it. `is_known` says of a series
    /// and a time that the table has the judgement already.
    pub(crate) fn push(
        &mut self,
        batch: &RecordBatch,
        columns: &Columns,
        is_known: &dyn Fn(&str, i64) -> bool,
    ) -> Result<Option<RecordBatch>> {
        let Some(values) = batch.column_by_name(&columns.value) else { return Ok(None) };
        let Some(times) = batch.column_by_name(&columns.time) else { return Ok(None) };
        let values = cast(values, &DataType::Float64)?;
        let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let (values, times) =
            (values.as_primitive::<Float64Type>(), times.as_primitive::<TimestampMicrosecondType>().values());
        let tags: Vec<ArrayRef> = columns
            .tags
            .iter()
            .filter_map(|tag| batch.column_by_name(tag))
            .map(|tag| text(tag))
            .collect::<Result<_>>()?;
        let names: Vec<&String> = columns.tags.iter().filter(|tag| batch.column_by_name(tag).is_some()).collect();
        let mut judged = Judged::default();
        for range in ranges(&tags, batch.num_rows())? {
            let key = key(&names, &tags, range.start);
            self.push_series(&key, range, values, times, is_known, &mut judged);
        }
        self.alarms += judged.alarms.iter().filter(|alarm| **alarm).count() as u64;
        if judged.rows.is_empty() { Ok(None) } else { judged.table(batch, columns).map(Some) }
    }

    fn push_series(
        &mut self,
        key: &str,
        range: Range<usize>,
        values: &Float64Array,
        times: &[i64],
        is_known: &dyn Fn(&str, i64) -> bool,
        judged: &mut Judged,
    ) {
        if !self.series.contains_key(key) {
            if self.series.len() >= self.series_max {
                self.refused += range.len() as u64;
                return;
            }
            let state = self.params.state().expect("the parameters were checked when the detector was made");
            self.series.insert(key.to_owned(), Series { state, last_us: i64::MIN, steps: VecDeque::new() });
        }
        let Some(series) = self.series.get_mut(key) else { return };
        for row in range {
            let time = times[row];
            if time <= series.last_us || values.is_null(row) {
                continue;
            }
            let value = values.value(row);
            let (point, alarm) = series.push(time, value, self.false_alarms);
            if !is_known(key, time) {
                self.points += 1;
                judged.rows.push(u32::try_from(row).unwrap_or(u32::MAX));
                judged.values.push(value);
                judged.points.push(point);
                judged.alarms.push(alarm);
            }
        }
        self.newest_us = self.newest_us.max(Some(series.last_us));
    }
}

impl Judged {
    /// The rows of the detector's table.
    fn table(self, batch: &RecordBatch, columns: &Columns) -> Result<RecordBatch> {
        let rows = UInt32Array::from(self.rows);
        let mut named: Vec<(&str, ArrayRef)> = Vec::new();
        for name in columns.tags.iter().chain([&columns.time]) {
            if let Some(column) = batch.column_by_name(name) {
                named.push((name, take(column, &rows, None)?));
            }
        }
        let known = |number: f64| (!number.is_nan()).then_some(number);
        let numbers = |of: fn(&Point) -> f64| -> ArrayRef {
            Arc::new(self.points.iter().map(|point| known(of(point))).collect::<Float64Array>())
        };
        let alarms =
            self.points.iter().zip(&self.alarms).map(|(point, alarm)| (!point.p_value.is_nan()).then_some(*alarm));
        let results: [ArrayRef; RESULTS.len()] = [
            Arc::new(self.values.iter().map(|value| known(*value)).collect::<Float64Array>()),
            numbers(|point| point.score),
            numbers(|point| point.p_value),
            Arc::new(self.points.iter().map(|point| point.kind.name()).collect::<StringArray>()),
            Arc::new(alarms.collect::<BooleanArray>()),
        ];
        named.extend(RESULTS.into_iter().zip(results));
        Ok(RecordBatch::try_from_iter_with_nullable(named.into_iter().map(|(name, column)| (name, column, true)))?)
    }
}

/// A tag as plain text.
fn text(tag: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(tag, &DataType::Utf8)?)
}

/// The rows of each series: those that stand together with the same tags.
fn ranges(tags: &[ArrayRef], rows: usize) -> Result<Vec<Range<usize>>> {
    match tags {
        _ if rows == 0 => Ok(Vec::new()),
        [] => Ok(std::iter::once(0..rows).collect()),
        tags => Ok(partition(tags)?.ranges()),
    }
}

/// What tells a series from others: the tags that it has. A tag that the table got later is null in older rows, and does not make
/// another series of them.
pub(super) fn key(names: &[&String], tags: &[ArrayRef], row: usize) -> String {
    let mut key = String::new();
    for (name, tag) in names.iter().zip(tags) {
        let tag = tag.as_string::<i32>();
        if tag.is_valid(row) {
            let value = tag.value(row);
            key.push_str(&format!("{}:{name}{}:{value}", name.len(), value.len()));
        }
    }
    key
}

/// The value of a tag in a key.
fn value_of<'a>(key: &'a str, tag: &str) -> Option<&'a str> {
    let mut rest = key;
    while !rest.is_empty() {
        let mut part = || {
            let (length, after) = rest.split_once(':')?;
            let (text, after) = after.split_at_checked(length.parse().ok()?)?;
            rest = after;
            Some(text)
        };
        let (name, value) = (part()?, part()?);
        if name == tag {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use juno_kernels::{Device, Series as Many, record_ratio};

    use super::*;

    fn detector() -> Detector {
        Detector { name: "d".into(), table: "t".into(), column: "v".into(), warm_up: 32, false_alarms: 1.0 }
    }

    fn columns() -> Columns {
        Columns { time: "time".into(), tags: vec!["host".into(), "zone".into()], value: "v".into() }
    }

    fn batch(rows: &[(&str, i64, Option<f64>)]) -> RecordBatch {
        let hosts: StringArray = rows.iter().map(|row| Some(row.0)).collect();
        let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.1 * 60_000_000)).collect();
        let values: Float64Array = rows.iter().map(|row| row.2).collect();
        let columns: [(&str, ArrayRef); 3] =
            [("host", Arc::new(hosts)), ("time", Arc::new(times)), ("v", Arc::new(values))];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn wave(at: i64) -> f64 {
        let noise = (at * 7919 % 101) as f64 / 101.0;
        if at == 150 { 40.0 } else { (at as f64 / 9.0).sin() + noise }
    }

    #[test]
    fn points_that_come_in_many_batches_get_the_scores_of_one_run_over_all() {
        let mut judge = Judge::new(&detector());
        let mut scores: HashMap<String, Vec<f64>> = HashMap::new();
        for start in (0..200).step_by(8) {
            let rows: Vec<_> =
                ["a", "b"].iter().flat_map(|host| (start..start + 8).map(|at| (*host, at, Some(wave(at))))).collect();
            let judged = judge.push(&batch(&rows), &columns(), &|_, _| false).unwrap().unwrap();
            let hosts = judged.column_by_name("host").unwrap().as_string::<i32>().clone();
            let found = judged.column_by_name("score").unwrap().as_primitive::<Float64Type>().clone();
            for (host, score) in hosts.iter().zip(&found) {
                scores.entry(host.unwrap().into()).or_default().push(score.unwrap());
            }
        }
        let values: Vec<f64> = (0..200).map(wave).collect();
        let seconds: Vec<i64> = (0..200).map(|at| at * 60).collect();
        let offsets = [0, 200];
        let series = Many::new(&values, &offsets).unwrap();
        let expected = record_ratio::score(&Device::cpu(), &series, Some(&seconds), &detector().params()).unwrap();
        let expected: Vec<f64> = expected.iter().map(|point| point.score).collect();
        assert!(expected[150] > 0.0);
        assert_eq!((&scores["a"], &scores["b"]), (&expected, &expected));
        assert_eq!((judge.points, judge.series()), (400, 2));
        assert!(judge.alarms >= 2, "{}", judge.alarms);
    }

    #[test]
    fn a_key_gives_back_its_tags() {
        let tags: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["a:3:b"])), Arc::new(StringArray::from(vec!["é"]))];
        let names = ["host".to_owned(), "service".to_owned()];
        let key = key(&names.iter().collect::<Vec<_>>(), &tags, 0);
        assert_eq!((value_of(&key, "host"), value_of(&key, "service")), (Some("a:3:b"), Some("é")));
        assert_eq!(value_of(&key, "zone"), None);
    }

    #[test]
    fn old_rows_and_rows_without_a_value_are_left_out() {
        let mut judge = Judge::new(&detector());
        let judged =
            judge.push(&batch(&[("a", 1, Some(1.0)), ("a", 9, None), ("b", 1, Some(2.0))]), &columns(), &|_, _| false);
        let judged = judged.unwrap().unwrap();
        assert_eq!(judged.num_rows(), 2);
        let again = judge
            .push(&batch(&[("a", 1, Some(9.0)), ("b", 2, Some(2.0))]), &columns(), &|_, _| false)
            .unwrap()
            .unwrap();
        assert_eq!(again.num_rows(), 1);
        let known = judge.push(&batch(&[("a", 3, Some(1.0))]), &columns(), &|_, _| true).unwrap();
        assert!(known.is_none());
        assert!(judge.push(&batch(&[("a", 3, Some(1.0))]), &columns(), &|_, _| false).unwrap().is_none());
        assert_eq!((judge.newest_us, judge.behind_us()), (Some(180_000_000), 120_000_000));
    }
}
