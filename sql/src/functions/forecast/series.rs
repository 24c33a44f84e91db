//! From collected points to forecasts: even grids, one kernel call, lists of steps.
//!
//! **Invariant:** pure but for the launch it counts; series that ask for equally many steps at the same level share a launch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, ListArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, resources_datafusion_err};
use juno_kernels::{Device, Series, regular_grid, seasonal_ar};

use super::request::Request;
use super::{launches, step_fields};
use crate::functions::points::{Point, read};
use crate::functions::refusal::invalid;
use crate::types::timestamptz;

/// The fewest distinct times that make a series: two tell no step from a gap.
pub(super) const POINTS_MIN: usize = 3;

/// The most slots that the grids of one call have together: 4 GiB of them.
const SLOTS_MAX: usize = 1 << 29;
/// How many numbers a step takes: three from the kernel, and those with a time in the result.
const STEP_NUMBERS: usize = 7;

/// One column of collected points and what to forecast of it.
pub(super) struct Wanted<'a> {
    pub(super) points: &'a ListArray,
    pub(super) request: &'a Request,
}

/// The forecasts of each wanted column, row by row, and what they cost.
#[derive(Debug)]
pub(super) struct Forecasts {
    pub(super) lists: Vec<ListArray>,
    pub(super) launches: u64,
    pub(super) series: usize,
}

/// Forecasts every row of every column; `reserve` is told how many bytes will be needed before they are.
///
/// # Errors
/// A horizon of too many steps, too many slots or too little memory for them, and what the kernel refuses.
pub(super) fn forecast(
    device: &Device,
    wanted: &[Wanted],
    mut reserve: impl FnMut(usize) -> Result<()>,
) -> Result<Forecasts> {
    let (mut places, mut layout) = (Vec::with_capacity(wanted.len()), Layout::default());
    for column in wanted {
        let rows = (0..column.points.len()).map(|row| layout.add(column, row, &mut reserve));
        places.push(rows.collect::<Result<Vec<_>>>()?);
    }
    let mut done = BTreeMap::new();
    let (mut launched, mut series) = (0, 0);
    for (key, batch) in layout.batches {
        let forecast = batch.run(device, key)?;
        launched += forecast.launches;
        series += batch.ends.len();
        done.insert(key, (batch.ends, forecast));
    }
    let lists = places.iter().map(|places| list(places, &done)).collect::<Result<_>>()?;
    Ok(Forecasts { lists, launches: launched, series })
}

/// What series must agree on to share a launch: steps, and the bits of the level.
type Key = (usize, u64);

/// Where a row's forecast is: in which launch, as which series. None for a row that has none.
type Place = Option<(Key, usize)>;

/// The series of one launch.
#[derive(Default)]
struct Batch {
    values: Vec<f64>,
    offsets: Vec<usize>,
    ends: Vec<End>,
}

/// The last slot of a series' grid and the distance between slots.
#[derive(Clone, Copy)]
struct End {
    last_us: i64,
    step_us: i64,
}

impl Batch {
    fn run(&self, device: &Device, (horizon, level): Key) -> Result<seasonal_ar::Forecast> {
        let failed = |error: juno_kernels::Error| invalid(format!("forecast: {error}"));
        let offsets: Vec<usize> = std::iter::once(0).chain(self.offsets.iter().copied()).collect();
        let series = Series::new(&self.values, &offsets).map_err(failed)?;
        let params = seasonal_ar::Params { horizon, level: f64::from_bits(level) };
        let forecast = seasonal_ar::forecast(device, &series, &params).map_err(failed)?;
        launches::count(forecast.launches, series.len());
        Ok(forecast)
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
        let steps = column.request.horizon.steps(end.last_us, end.step_us)?;
        if steps == 0 {
            return Ok(None);
        }
        self.slots += slots;
        if self.slots > SLOTS_MAX {
            return Err(resources_datafusion_err!(
                "forecast takes at most {SLOTS_MAX} points of all series, gaps included: average them first, \
                 for instance GROUP BY time_bucket('5 minutes', time)"
            ));
        }
        reserve((slots + steps * STEP_NUMBERS) * size_of::<f64>())?;
        let key = (steps, column.request.level.to_bits());
        let batch = self.batches.entry(key).or_default();
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

/// One column's forecasts as a column of lists.
fn list(places: &[Place], done: &BTreeMap<Key, (Vec<End>, seasonal_ar::Forecast)>) -> Result<ListArray> {
    let lengths = places.iter().map(|place| place.map_or(0, |((steps, _), _)| steps));
    let total: usize = lengths.clone().sum();
    if i32::try_from(total).is_err() {
        return Err(invalid(format!(
            "forecast: {total} steps are more than one result holds: ask for a shorter horizon"
        )));
    }
    let mut times = Vec::with_capacity(total);
    let mut columns = [const { Vec::new() }; 3];
    for (key, index) in places.iter().flatten() {
        let (ends, forecast) = &done[key];
        times.extend((1..=key.0 as i64).map(|step| ends[*index].after(step)));
        let own = index * key.0..(index + 1) * key.0;
        for (column, from) in columns.iter_mut().zip([&forecast.mean, &forecast.lower, &forecast.upper]) {
            column.extend(from[own.clone()].iter().map(|value| value.is_finite().then_some(*value)));
        }
    }
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times).with_data_type(timestamptz()));
    let numbers = columns.map(|column| Arc::new(Float64Array::from(column)) as ArrayRef);
    let steps = StructArray::new(step_fields(), std::iter::once(times).chain(numbers).collect(), None);
    let item = Arc::new(Field::new_list_field(DataType::Struct(step_fields()), true));
    Ok(ListArray::new(item, OffsetBuffer::from_lengths(lengths), Arc::new(steps), None))
}

impl End {
    /// The time of a step; null where time ends before.
    fn after(self, step: i64) -> Option<i64> {
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
