//! The points that groups collect before something is made of a whole series.
//!
//! **Invariant:** keeps points in the order they came; sorting and averaging is for who takes them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, resources_datafusion_err};
use datafusion::logical_expr::EmitTo;

/// The most points that one accumulator holds: 4 GiB of them.
const POINTS_MAX: usize = 1 << 28;

/// A time in microseconds since 1970 and a value, NaN where there is none.
pub(super) type Point = (i64, f64);

fn point_fields() -> Fields {
    vec![Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), true), number("value")].into()
}

fn number(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Struct(point_fields()), true))
}

/// A group's points as a column: a list of (time, value).
pub(super) fn points_type() -> DataType {
    DataType::List(item())
}

/// The points of many groups.
#[derive(Debug, Default)]
pub(super) struct Points {
    groups: Vec<Vec<Point>>,
    len: usize,
    /// Points that the groups have room for.
    room: usize,
}

impl Points {
    /// Makes room for this many groups.
    pub(super) fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups.max(self.groups.len()), Vec::new);
    }

    /// Adds a row to each row's group, but for rows without a time and rows that the filter leaves out.
    pub(super) fn add(
        &mut self,
        times: &ArrayRef,
        values: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let (times, values) = (micros(times)?, cast(values, &DataType::Float64)?);
        let (times, values) = (times.as_primitive::<TimestampMicrosecondType>(), values.as_primitive::<Float64Type>());
        self.limit(groups.len())?;
        for (row, group) in groups.iter().enumerate() {
            let kept = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if kept && times.is_valid(row) {
                let value = if values.is_valid(row) { values.value(row) } else { f64::NAN };
                self.push(*group, &[(times.value(row), value)]);
            }
        }
        Ok(())
    }

    /// Adds the points that another accumulator gave with [`Points::take`].
    pub(super) fn merge(&mut self, lists: &ArrayRef, groups: &[usize]) -> Result<()> {
        let lists = lists.as_list::<i32>();
        let mut points = Vec::new();
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| lists.is_valid(*row)) {
            points.clear();
            read(lists, row, &mut points);
            self.limit(points.len())?;
            self.push(*group, &points);
        }
        Ok(())
    }

    fn push(&mut self, group: usize, points: &[Point]) {
        let group = &mut self.groups[group];
        let before = group.capacity();
        group.extend_from_slice(points);
        self.len += points.len();
        self.room += group.capacity() - before;
    }

    fn limit(&self, more: usize) -> Result<()> {
        if self.len + more > POINTS_MAX {
            return Err(resources_datafusion_err!(
                "an aggregate over series holds at most {POINTS_MAX} points per partition: average them first, \
                 for instance GROUP BY time_bucket('5 minutes', time)"
            ));
        }
        Ok(())
    }

    /// Gives the first groups away, a list per group; the others move up.
    pub(super) fn take(&mut self, emit_to: EmitTo) -> ListArray {
        let groups = emit_to.take_needed(&mut self.groups);
        self.room -= groups.iter().map(Vec::capacity).sum::<usize>();
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let mut times = Vec::with_capacity(offsets.last().map_or(0, |last| *last as usize));
        let mut values = Vec::with_capacity(times.capacity());
        for group in groups {
            times.extend(group.iter().map(|point| point.0));
            values.extend(group.iter().map(|point| point.1));
        }
        self.len -= times.len();
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
        let points = StructArray::new(point_fields(), vec![times, Arc::new(Float64Array::from(values))], None);
        ListArray::new(item(), offsets, Arc::new(points), None)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Vec<Point>>() + self.room * size_of::<Point>()
    }
}

/// Appends the points of one row of a column that [`Points::take`] gave.
pub(super) fn read(lists: &ListArray, row: usize, into: &mut Vec<Point>) {
    let offsets = lists.value_offsets();
    let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
    let points = lists.values().as_struct();
    let times = points.column(0).as_primitive::<TimestampMicrosecondType>().values();
    let values = points.column(1).as_primitive::<Float64Type>().values();
    into.extend(times[from..to].iter().copied().zip(values[from..to].iter().copied()));
}

/// One group's points as a list, of which [`read`] gives them back.
pub(super) fn list(points: &[Point]) -> ListArray {
    let mut group = Points::default();
    group.resize(1);
    group.push(0, points);
    group.take(EmitTo::All)
}

/// One point per row; a row without a time has the value NaN.
pub(super) fn points_of_rows(times: &ArrayRef, values: &ArrayRef) -> Result<Vec<Point>> {
    let (times, values) = (micros(times)?, cast(values, &DataType::Float64)?);
    let (times, values) = (times.as_primitive::<TimestampMicrosecondType>(), values.as_primitive::<Float64Type>());
    let point =
        |(time, value): (Option<i64>, Option<f64>)| (time.unwrap_or_default(), time.and(value).unwrap_or(f64::NAN));
    Ok(times.iter().zip(values).map(point).collect())
}

/// Times in microseconds, whatever their unit and zone.
fn micros(times: &ArrayRef) -> Result<ArrayRef> {
    let zone = match times.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    Ok(cast(times, &DataType::Timestamp(TimeUnit::Microsecond, zone))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rows: &[(usize, i64, f64)]) -> Points {
        let mut points = Points::default();
        for (group, time, value) in rows {
            points.resize(group + 1);
            points.push(*group, &[(*time, *value)]);
        }
        points
    }

    #[test]
    fn groups_given_away_are_no_longer_counted_and_the_others_move_up() {
        let mut points = points(&[(0, 1, 1.0), (1, 2, 2.0), (1, 3, 3.0)]);
        let before = points.size_bytes();
        let first = points.take(EmitTo::First(1));
        assert_eq!((first.len(), points.len, points.groups.len()), (1, 2, 1));
        assert!(points.size_bytes() <= before);
        let rest = points.take(EmitTo::All);
        let mut read_back = Vec::new();
        read(&rest, 0, &mut read_back);
        assert_eq!(read_back, [(2, 2.0), (3, 3.0)]);
        assert_eq!((points.len, points.room), (0, 0));
    }

    #[test]
    fn state_merges_into_its_group() {
        let state: ArrayRef = Arc::new(points(&[(0, 1, 1.0), (1, 2, 2.0)]).take(EmitTo::All));
        let mut merged = points(&[(0, 7, 7.0)]);
        merged.resize(2);
        merged.merge(&state, &[1, 0]).expect("within the limit");
        assert_eq!(merged.groups, [vec![(7, 7.0), (2, 2.0)], vec![(1, 1.0)]]);
    }

    #[test]
    fn times_of_any_unit_become_microseconds() {
        let seconds: ArrayRef = Arc::new(arrow::array::TimestampSecondArray::from(vec![Some(2), None]));
        let seconds = cast(&seconds, &DataType::Timestamp(TimeUnit::Second, Some("+02:00".into()))).expect("same unit");
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0)]));
        let mut points = Points::default();
        points.resize(1);
        points.add(&seconds, &values, &[0, 0], None).expect("within the limit");
        assert_eq!(points.groups[0].len(), 1, "a row without a time is left out");
        let micros = micros(&seconds).expect("in range");
        assert_eq!(points.groups[0][0].0, micros.as_primitive::<TimestampMicrosecondType>().value(0));
    }
}
