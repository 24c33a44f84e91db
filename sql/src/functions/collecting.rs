//! An aggregate that collects the points of its groups and makes something of them in the end.
//!
//! **Invariant:** knows points and when they are taken; what is made of them is for who finishes them.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, ListArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::points::Points;

/// Makes lists of points into results, one for each.
pub(super) trait Finish: Debug + Send + Sync + 'static {
    /// Which arguments are time and value.
    const TIME_AND_VALUE: [usize; 2] = [0, 1];

    fn finish(&mut self, points: ListArray) -> Result<ArrayRef>;
}

/// The points of one group or of many, and what to make of them.
#[derive(Debug)]
pub(super) struct Collecting<F> {
    points: Points,
    work: F,
}

impl<F: Finish> Collecting<F> {
    /// The points of any number of groups.
    pub(super) fn groups(work: F) -> Self {
        Self { points: Points::default(), work }
    }

    /// The points of one group.
    pub(super) fn one(work: F) -> Self {
        let mut collecting = Self::groups(work);
        collecting.points.resize(1);
        collecting
    }

    fn finish(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.work.finish(self.points.take(emit_to))
    }
}

impl<F: Finish> GroupsAccumulator for Collecting<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.points.resize(total);
        let [time, value] = F::TIME_AND_VALUE;
        self.points.add(&values[time], &values[value], groups, filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.finish(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.points.take(emit_to))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.points.resize(total);
        self.points.merge(&values[0], groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows: Vec<usize> = (0..values[0].len()).collect();
        let mut points = Points::default();
        points.resize(rows.len());
        let [time, value] = F::TIME_AND_VALUE;
        points.add(&values[time], &values[value], &rows, filter)?;
        Ok(vec![Arc::new(points.take(EmitTo::All))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.points.size_bytes()
    }
}

impl<F: Finish> Accumulator for Collecting<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [time, value] = F::TIME_AND_VALUE;
        self.points.add(&values[time], &values[value], &vec![0; values[0].len()], None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let one = self.finish(EmitTo::All)?;
        self.points.resize(1);
        ScalarValue::try_from_array(&one, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = self.points.take(EmitTo::All);
        self.points.resize(1);
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.points.merge(&states[0], &vec![0; states[0].len()])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.points.size_bytes()
    }
}
