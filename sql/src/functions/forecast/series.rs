//! From collected points to rows: even grids, one kernel call, lists.
//!
//! **Invariant:** pure but for the launch it counts; series that ask for the same share a launch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ListArray};
use datafusion::common::{Result, resources_datafusion_err};
use juno_kernels::seasonal_ensemble::{Model, backtest, forecast};
use juno_kernels::{Device, Series, regular_grid, seasonal_ar, seasonal_trend};

use super::launches;
use super::request::Request;
use super::rows::{Done, list};
use super::task::Task;
use crate::functions::points::{Point, read};
use crate::functions::refusal::invalid;

/// The fewest distinct times that make a series: two tell no step from a gap.
pub(super) const POINTS_MIN: usize = 3;

/// The most slots that the grids of one call have together: 4 GiB of them.
const SLOTS_MAX: usize = 1 << 29;
/// How many numbers a point that is taken apart takes.
const PART_NUMBERS: usize = 11;

/// One column of collected points and what to make of it.
pub(super) struct Wanted<'a> {
    pub(super) points: &'a ListArray,
    pub(super) request: &'a Request,
}

impl Wanted<'_> {
    /// How many numbers a step of a forecast takes: a mean and two ends a level from the kernel, and five a level in the result.
    fn step_numbers(&self) -> usize {
        1 + 7 * self.request.levels.as_slice().len()
    }
}

/// The lists of each wanted column, row by row, and what they cost.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) lists: Vec<ListArray>,
    pub(super) launches: u64,
    pub(super) series: usize,
}

/// Works on every row of every column; `reserve` is told how many bytes will be needed before they are.
///
/// # Errors
/// A horizon of too many steps, too many slots or too little memory for them, and what the kernel refuses.
pub(super) fn work(device: &Device, wanted: &[Wanted], mut reserve: impl FnMut(usize) -> Result<()>) -> Result<Lists> {
    let (mut places, mut layout) = (Vec::with_capacity(wanted.len()), Layout::default());
    for column in wanted {
        let rows = (0..column.points.len()).map(|row| layout.add(column, row, &mut reserve));
        places.push((column.request, rows.collect::<Result<Vec<_>>>()?));
    }
    let mut done = BTreeMap::new();
    let (mut launched, mut series) = (0, 0);
    for (key, batch) in layout.batches {
        let (results, launches) = batch.run(device, &key)?;
        launched += launches;
        series += batch.ends.len();
        done.insert(key, (batch, results));
    }
    let lists = places.iter().map(|(request, places)| list(request, places, &done)).collect::<Result<_>>()?;
    Ok(Lists { lists, launches: launched, series })
}

/// What series must agree on to share a launch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    task: Task,
    /// Steps of the horizon; 0 for a task without.
    pub(super) steps: usize,
    /// The bits of the levels.
    levels: Arc<[u64]>,
    model: Model,
    origins: usize,
}

impl Key {
    pub(super) fn levels(&self) -> impl Iterator<Item = f64> {
        self.levels.iter().copied().map(f64::from_bits)
    }
}

/// Where a row's results are: in which launch, as which series. None for a row that has none.
pub(super) type Place = Option<(Key, usize)>;

/// The series of one launch.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) values: Vec<f64>,
    offsets: Vec<usize>,
    pub(super) ends: Vec<End>,
}

/// The last slot of a series' grid and the distance between slots.
#[derive(Clone, Copy)]
pub(super) struct End {
    last_us: i64,
    pub(super) step_us: i64,
}

impl Batch {
    fn run(&self, device: &Device, key: &Key) -> Result<(Done, u64)> {
        let failed = |error: juno_kernels::Error| invalid(format!("{}: {error}", key.task.name()));
        let offsets: Vec<usize> = std::iter::once(0).chain(self.offsets.iter().copied()).collect();
        let series = Series::new(&self.values, &offsets).map_err(failed)?;
        let levels: Vec<f64> = key.levels().collect();
        let params = seasonal_ar::Params { horizon: key.steps, levels: &levels };
        let (done, launched) = match key.task {
            Task::Forecast => {
                let forecast = forecast(device, &series, &params, key.model).map_err(failed)?;
                let launches = forecast.launches;
                (Done::Forecast(forecast), launches)
            }
            Task::Accuracy => {
                let (accuracy, launches) =
                    backtest(device, &series, &params, key.model, key.origins).map_err(failed)?;
                (Done::Accuracy(accuracy), launches)
            }
            Task::Seasons => (Done::Seasons(seasonal_trend::detect(device, &series).map_err(failed)?), 1),
            Task::Parts => (Done::Parts(seasonal_trend::decompose(device, &series).map_err(failed)?), 1),
        };
        launches::count(launched, series.len());
        Ok((done, launched))
    }

    /// Where the values of a series are.
    pub(super) fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.offsets[index - 1] };
        start..self.offsets[index]
    }
}

/// The launches to be made, and how many slots they have together.
#[derive(Default)]
struct Layout {
    batches: BTreeMap<Key, Batch>,
    slots: usize,
}

impl Layout {
    /// Lays one row's points on a grid and adds it to the launch it belongs to.
    fn add(&mut self, column: &Wanted, row: usize, reserve: &mut impl FnMut(usize) -> Result<()>) -> Result<Place> {
        let mut points = Vec::new();
        read(column.points, row, &mut points);
        let (times, values) = distinct(points);
        if times.len() < POINTS_MIN {
            return Ok(None);
        }
        let Some(grid) = regular_grid(&times, &values) else { return Ok(None) };
        let slots = grid.values.len();
        let last_us = grid.start_us.saturating_add(grid.step_us.saturating_mul(slots as i64 - 1));
        let end = End { last_us, step_us: grid.step_us };
        let request = column.request;
        let steps = match &request.horizon {
            Some(horizon) => horizon.steps(request.task, end.last_us, end.step_us)?,
            None => 0,
        };
        if steps == 0 && request.horizon.is_some() {
            return Ok(None);
        }
        self.slots += slots;
        if self.slots > SLOTS_MAX {
            return Err(resources_datafusion_err!(
                "{} takes at most {SLOTS_MAX} points of all series, gaps included: average them first, \
                 for instance GROUP BY time_bucket('5 minutes', time)",
                request.task.name()
            ));
        }
        let numbers = match request.task {
            Task::Forecast => slots + steps * column.step_numbers(),
            Task::Accuracy => slots * (1 + request.origins) + steps * request.origins * column.step_numbers(),
            Task::Seasons => slots,
            Task::Parts => slots * (1 + PART_NUMBERS),
        };
        reserve(numbers * size_of::<f64>())?;
        let Request { task, ref levels, model, origins, .. } = *request;
        let levels = levels.as_slice().iter().map(|level| level.to_bits()).collect();
        let key = Key { task, steps, levels, model, origins };
        let batch = self.batches.entry(key.clone()).or_default();
        batch.values.extend(grid.values);
        batch.offsets.push(batch.values.len());
        batch.ends.push(end);
        Ok(Some((key, batch.ends.len() - 1)))
    }
}

/// Points in time order, one per time: the mean of the values that are numbers, NaN where there are none.
fn distinct(mut points: Vec<Point>) -> (Vec<i64>, Vec<f64>) {
    points.sort_by_key(|point| point.0);
    let same_time = points.chunk_by(|a, b| a.0 == b.0);
    same_time
        .map(|points| {
            let known = points.iter().map(|point| point.1).filter(|value| value.is_finite());
            let (count, mean) =
                known.fold((0.0, 0.0), |(count, mean), value| (count + 1.0, mean + (value - mean) / (count + 1.0)));
            (points[0].0, if count > 0.0 { mean } else { f64::NAN })
        })
        .unzip()
}

impl End {
    /// The time of a step after the end, before it where negative; null where time ends before.
    pub(super) fn after(self, step: i64) -> Option<i64> {
        self.last_us.checked_add(self.step_us.checked_mul(step)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_equal_times_are_averaged_and_gaps_stay_gaps() {
        let points = vec![(3, f64::NAN), (1, 1.0), (2, 4.0), (1, 3.0), (2, f64::NAN), (4, f64::INFINITY)];
        let (times, values) = distinct(points);
        assert_eq!(times, [1, 2, 3, 4]);
        assert_eq!(values[..2], [2.0, 4.0]);
        assert!(values[2].is_nan() && values[3].is_nan());
    }

    #[test]
    fn the_mean_of_huge_values_is_finite() {
        assert_eq!(distinct(vec![(1, 1e308), (1, 1e308), (1, 1e308)]).1, [1e308]);
    }

    #[test]
    fn steps_beyond_the_end_of_time_have_no_time() {
        let end = End { last_us: i64::MAX - 5, step_us: 3 };
        assert_eq!((end.after(1), end.after(2)), (Some(i64::MAX - 2), None));
    }
}
