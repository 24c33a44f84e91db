//! One aggregate of every group.
//!
//! Sums of doubles are taken in eight lanes within a run, so that their last bits can differ from a sum in order. Of doubles NaN
//! is the greatest, as in PostgreSQL. Integers wrap.
//!
//! **Invariant:** nulls count for nothing; a group without a value is null, or 0 where values are counted.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;

use super::groups::Run;
use super::{Aggregate, Measure};

/// Values that are folded side by side.
const LANES: usize = 8;

/// An aggregate's state by group.
#[derive(Debug)]
pub(super) struct Cells {
    aggregate: Aggregate,
    state: State,
    /// Values by group.
    counts: Vec<i64>,
}

#[derive(Debug)]
enum State {
    /// The counts are all there is.
    Counts,
    Doubles(Vec<f64>),
    Integers(Vec<i64>),
}

impl Cells {
    /// Bytes for each group.
    pub(super) const GROUP_BYTES: usize = 16;

    pub(super) fn new(aggregate: Aggregate, result: &DataType) -> Self {
        let state = match (aggregate.measure, result) {
            (Measure::Rows | Measure::Count, _) => State::Counts,
            (_, DataType::Int64) => State::Integers(Vec::new()),
            _ => State::Doubles(Vec::new()),
        };
        Self { aggregate, state, counts: Vec::new() }
    }

    fn widen(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        match &mut self.state {
            State::Counts => {}
            State::Doubles(values) => values.resize(groups, 0.0),
            State::Integers(values) => values.resize(groups, 0),
        }
    }

    /// Takes in the runs of a batch; there are `groups` groups by now.
    pub(super) fn push(&mut self, batch: &RecordBatch, runs: &[Run], groups: usize) -> Result<()> {
        self.widen(groups);
        let measure = self.aggregate.measure;
        if measure == Measure::Rows {
            runs.iter().for_each(|run| self.counts[run.group] += signed(run.end - run.start));
            return Ok(());
        }
        let column = batch.column(self.aggregate.column);
        let nulls = column.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        match &mut self.state {
            State::Counts => {
                for run in runs {
                    self.counts[run.group] += valid(nulls.as_ref(), run);
                }
            }
            State::Doubles(cells) => {
                let column = cast(column, &DataType::Float64)?;
                let values = column.as_primitive::<Float64Type>().values();
                fold(
                    cells,
                    &mut self.counts,
                    (values, nulls.as_ref()),
                    runs,
                    doubles(measure),
                    |values| match measure {
                        Measure::Min => least(values),
                        Measure::Max => greatest(values),
                        _ => sum(values),
                    },
                );
            }
            State::Integers(cells) => {
                let values = column.as_primitive::<Int64Type>().values();
                let combine = integers(measure);
                let whole = |values: &[i64]| values[1..].iter().fold(values[0], |a, &b| combine(a, b));
                fold(cells, &mut self.counts, (values, nulls.as_ref()), runs, combine, whole);
            }
        }
        Ok(())
    }

    /// Takes in the runs of a batch of states, which begin at the aggregate's column.
    pub(super) fn push_states(&mut self, batch: &RecordBatch, runs: &[Run], groups: usize) -> Result<()> {
        self.widen(groups);
        let column = batch.column(self.aggregate.column);
        let measure = self.aggregate.measure;
        if measure == Measure::Mean {
            let counts = cast(column, &DataType::Int64)?;
            let (counts, sums) = (counts.as_primitive::<Int64Type>(), batch.column(self.aggregate.column + 1));
            let sums = sums.as_primitive::<Float64Type>();
            let State::Doubles(cells) = &mut self.state else { return Ok(()) };
            for run in runs {
                for row in (run.start..run.end).filter(|&row| counts.value(row) > 0) {
                    put(&mut cells[run.group], self.counts[run.group], sums.value(row), doubles(measure));
                    self.counts[run.group] += counts.value(row);
                }
            }
            return Ok(());
        }
        let nulls = column.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let one_by_one = |values: &[f64]| values.iter().copied().reduce(doubles(measure)).unwrap_or_default();
        match &mut self.state {
            State::Counts => {
                let counts = column.as_primitive::<Int64Type>().values();
                runs.iter().for_each(|run| self.counts[run.group] += counts[run.start..run.end].iter().sum::<i64>());
            }
            State::Doubles(cells) => {
                let values = column.as_primitive::<Float64Type>().values();
                fold(cells, &mut self.counts, (values, nulls.as_ref()), runs, doubles(measure), one_by_one);
            }
            State::Integers(cells) => {
                let values = column.as_primitive::<Int64Type>().values();
                let combine = integers(measure);
                let whole = |values: &[i64]| values.iter().copied().reduce(combine).unwrap_or_default();
                fold(cells, &mut self.counts, (values, nulls.as_ref()), runs, combine, whole);
            }
        }
        Ok(())
    }

    /// Takes in another's groups; `numbers` says which is which here, of `groups` in all.
    pub(super) fn take_in(&mut self, other: &Self, numbers: &[usize], groups: usize) {
        self.widen(groups);
        for (theirs, &mine) in numbers.iter().enumerate().filter(|(theirs, _)| other.counts[*theirs] > 0) {
            match (&mut self.state, &other.state) {
                (State::Doubles(cells), State::Doubles(more)) => {
                    put(&mut cells[mine], self.counts[mine], more[theirs], doubles(self.aggregate.measure));
                }
                (State::Integers(cells), State::Integers(more)) => {
                    put(&mut cells[mine], self.counts[mine], more[theirs], integers(self.aggregate.measure));
                }
                _ => {}
            }
            self.counts[mine] += other.counts[theirs];
        }
    }

    /// The states of every group.
    pub(super) fn states(&self) -> Vec<ArrayRef> {
        match &self.state {
            State::Doubles(sums) if self.aggregate.measure == Measure::Mean => {
                let nulls = self.counts.iter().map(|&count| count > 0).collect::<NullBuffer>();
                let sums = Float64Array::new(sums.clone().into(), Some(nulls));
                vec![Arc::new(Int64Array::from(self.counts.clone())), Arc::new(sums)]
            }
            _ => vec![self.column()],
        }
    }

    /// The aggregate of every group.
    pub(super) fn column(&self) -> ArrayRef {
        let nulls = || Some(self.counts.iter().map(|&count| count > 0).collect::<NullBuffer>());
        match &self.state {
            State::Counts => Arc::new(Int64Array::from(self.counts.clone())),
            State::Integers(values) => Arc::new(Int64Array::new(values.clone().into(), nulls())),
            State::Doubles(values) if self.aggregate.measure == Measure::Mean => {
                let means = values.iter().zip(&self.counts).map(|(sum, &count)| sum / count as f64);
                Arc::new(Float64Array::new(means.collect(), nulls()))
            }
            State::Doubles(values) => Arc::new(Float64Array::new(values.clone().into(), nulls())),
        }
    }
}

/// Folds each run's values to one with `whole`, and into its group's cell with `combine`.
fn fold<T: Copy>(
    cells: &mut [T],
    counts: &mut [i64],
    (values, nulls): (&[T], Option<&NullBuffer>),
    runs: &[Run],
    combine: fn(T, T) -> T,
    whole: impl Fn(&[T]) -> T,
) {
    for run in runs {
        let (cell, count) = (&mut cells[run.group], &mut counts[run.group]);
        match nulls {
            None => {
                put(cell, *count, whole(&values[run.start..run.end]), combine);
                *count += signed(run.end - run.start);
            }
            Some(nulls) => {
                for row in (run.start..run.end).filter(|&row| nulls.is_valid(row)) {
                    put(cell, *count, values[row], combine);
                    *count += 1;
                }
            }
        }
    }
}

/// Puts one more value into a cell of `count` values.
fn put<T: Copy>(cell: &mut T, count: i64, value: T, combine: fn(T, T) -> T) {
    *cell = if count == 0 { value } else { combine(*cell, value) };
}

fn signed(rows: usize) -> i64 {
    i64::try_from(rows).expect("a batch has few rows")
}

fn valid(nulls: Option<&NullBuffer>, run: &Run) -> i64 {
    let rows = run.end - run.start;
    signed(nulls.map_or(rows, |nulls| rows - nulls.slice(run.start, rows).null_count()))
}

fn doubles(measure: Measure) -> fn(f64, f64) -> f64 {
    match measure {
        Measure::Min => |a, b| if b < a || a.is_nan() { b } else { a },
        Measure::Max => |a, b| if b > a || b.is_nan() { b } else { a },
        _ => |a, b| a + b,
    }
}

fn integers(measure: Measure) -> fn(i64, i64) -> i64 {
    match measure {
        Measure::Min => i64::min,
        Measure::Max => i64::max,
        _ => i64::wrapping_add,
    }
}

fn sum(values: &[f64]) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += value;
        }
    }
    if blocks.is_empty() { rest.iter().sum() } else { lanes.iter().sum::<f64>() + rest.iter().sum::<f64>() }
}

/// The greatest of at least one value.
fn greatest(values: &[f64]) -> f64 {
    extreme(values, |value, lane| value > lane, f64::NEG_INFINITY, true)
}

/// The least of at least one value.
fn least(values: &[f64]) -> f64 {
    extreme(values, |value, lane| value < lane, f64::INFINITY, false)
}

/// The value that `beats` all others. A NaN beats all where it wins, and none where it does not.
fn extreme(values: &[f64], beats: impl Fn(f64, f64) -> bool, begin: f64, nan_wins: bool) -> f64 {
    let (mut lanes, mut numbers, mut nans) = ([begin; LANES], [false; LANES], [false; LANES]);
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut look = |lane: usize, value: f64| {
        lanes[lane] = if beats(value, lanes[lane]) { value } else { lanes[lane] };
        nans[lane] |= value.is_nan();
        numbers[lane] |= !value.is_nan();
    };
    for block in blocks {
        for (lane, &value) in block.iter().enumerate() {
            look(lane, value);
        }
    }
    rest.iter().for_each(|&value| look(0, value));
    if nans.contains(&true) && (nan_wins || !numbers.contains(&true)) {
        return f64::NAN;
    }
    lanes.into_iter().reduce(|a, b| if beats(b, a) { b } else { a }).unwrap_or(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_greatest_and_the_least_only_where_it_is_alone() {
        for len in [1, 7, 8, 9, 30] {
            let mut values: Vec<f64> = (0..len).map(|i| f64::from(i * 7 % 5) - 2.0).collect();
            let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let min = values.iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!((greatest(&values), least(&values)), (max, min));
            assert_eq!(sum(&values), values.iter().sum::<f64>());
            values.push(f64::NAN);
            assert!(greatest(&values).is_nan());
            assert_eq!(least(&values), min);
        }
        assert!(least(&[f64::NAN; 9]).is_nan());
        assert_eq!(doubles(Measure::Min)(f64::NAN, 1.0), 1.0);
        assert!(doubles(Measure::Max)(1.0, f64::NAN).is_nan());
        assert!(doubles(Measure::Max)(f64::NAN, 1.0).is_nan());
    }
}
