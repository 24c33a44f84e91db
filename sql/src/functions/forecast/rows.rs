//! What kernels made of series, as lists of rows.
//!
//! **Invariant:** copies, computes nothing but times; numbers that are not finite are null.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use datafusion::common::Result;
use juno_kernels::seasonal_ar;
use juno_kernels::seasonal_ensemble::Accuracy;
use juno_kernels::seasonal_trend::{Decomposition, Season};

use super::request::Request;
use super::series::{Batch, Key, Place};
use super::task::Task;
use crate::functions::refusal::invalid;
use crate::types::timestamptz;

const DAY_US: i64 = 86_400_000_000;

/// The results of one launch, series by series.
pub(super) enum Done {
    Forecast(seasonal_ar::Forecast),
    Accuracy(Vec<Accuracy>),
    Seasons(Vec<Vec<Season>>),
    Parts(Decomposition),
}

/// One column's rows as a column of lists.
pub(super) fn list(request: &Request, places: &[Place], done: &BTreeMap<Key, (Batch, Done)>) -> Result<ListArray> {
    let (task, by_level) = (request.task, request.levels.are_named());
    let mut rows = Rows { by_level, ..Rows::default() };
    for place in places {
        let before = rows.length;
        if let Some((key, index)) = place {
            let (batch, done) = &done[key];
            rows.push(key, batch, done, *index);
        }
        rows.lengths.push(rows.length - before);
    }
    if i32::try_from(rows.length).is_err() {
        let hint = if task == Task::Parts { "ask for fewer points" } else { "ask for a shorter horizon" };
        return Err(invalid(format!("{}: {} rows are more than one result holds: {hint}", task.name(), rows.length)));
    }
    let lengths = OffsetBuffer::from_lengths(rows.lengths.iter().copied());
    let rows = StructArray::new(task.fields(by_level), rows.columns(task), None);
    let item = Arc::new(Field::new_list_field(DataType::Struct(task.fields(by_level)), true));
    Ok(ListArray::new(item, lengths, Arc::new(rows), None))
}

/// Columns that grow row by row; a task fills those it has.
#[derive(Default)]
struct Rows {
    /// Whether the levels have a column.
    by_level: bool,
    length: usize,
    lengths: Vec<usize>,
    times: Vec<Option<i64>>,
    counts: [Vec<i64>; 2],
    periods: Vec<IntervalMonthDayNano>,
    levels: Vec<f64>,
    numbers: [Vec<Option<f64>>; 7],
}

impl Rows {
    fn push(&mut self, key: &Key, batch: &Batch, done: &Done, index: usize) {
        match done {
            Done::Forecast(forecast) => {
                let steps = key.steps;
                let mean = &forecast.mean[index * steps..][..steps];
                let first = index * key.levels().count();
                for (place, level) in key.levels().enumerate() {
                    self.times.extend((1..=steps as i64).map(|step| batch.ends[index].after(step)));
                    self.levels.extend(std::iter::repeat_n(level, steps));
                    let ends = [&forecast.lower, &forecast.upper].map(|ends| &ends[(first + place) * steps..][..steps]);
                    self.numbers([mean, ends[0], ends[1]]);
                }
            }
            Done::Accuracy(all) => {
                for (level, coverage) in key.levels().zip(&all[index].coverage) {
                    self.levels.push(level);
                    self.accuracy(&all[index], *coverage);
                }
            }
            Done::Seasons(all) => self.seasons(&all[index], batch.ends[index].step_us),
            Done::Parts(parts) => {
                let own = batch.range(index);
                let behind = own.len() as i64 - 1;
                self.times.extend((-behind..=0).map(|step| batch.ends[index].after(step)));
                let columns = [&batch.values, &parts.trend, &parts.season, &parts.outer, &parts.remainder];
                self.numbers(columns.map(|values| &values[own.clone()]));
            }
        }
    }

    fn numbers<const N: usize>(&mut self, columns: [&[f64]; N]) {
        self.length += columns[0].len();
        for (to, from) in self.numbers.iter_mut().zip(columns) {
            to.extend(from.iter().map(|value| value.is_finite().then_some(*value)));
        }
    }

    fn accuracy(&mut self, one: &Accuracy, coverage: f64) {
        self.counts[0].push(one.origins as i64);
        self.counts[1].push(one.season as i64);
        let (model, naive) = (&one.model, &one.naive);
        let numbers = [model.mase, model.smape, model.wape, coverage, naive.mase, naive.smape, naive.wape].map(|v| [v]);
        self.numbers(numbers.each_ref().map(|number| &number[..]));
    }

    fn seasons(&mut self, seasons: &[Season], step_us: i64) {
        for season in seasons {
            let steps = season.steps as i64;
            self.counts[0].push(steps);
            let (days, rest) = (steps.saturating_mul(step_us) / DAY_US, steps.saturating_mul(step_us) % DAY_US);
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            self.periods.push(IntervalMonthDayNano::new(0, days, rest * 1_000));
            self.numbers([&[season.strength][..]]);
        }
    }

    /// The columns of the task, in the order of its fields.
    fn columns(self, task: Task) -> Vec<ArrayRef> {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(self.times).with_data_type(timestamptz()));
        let [first, second] = self.counts.map(|counts| Arc::new(Int64Array::from(counts)) as ArrayRef);
        let periods: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(self.periods));
        let numbers = self.numbers.into_iter().map(|column| Arc::new(Float64Array::from(column)) as ArrayRef);
        let mut before = match task {
            Task::Forecast | Task::Parts => vec![times],
            Task::Accuracy => vec![first, second],
            Task::Seasons => vec![first, periods],
        };
        if self.by_level {
            before.push(Arc::new(Float64Array::from(self.levels)));
        }
        let left = task.fields(self.by_level).len() - before.len();
        before.into_iter().chain(numbers.take(left)).collect()
    }
}
