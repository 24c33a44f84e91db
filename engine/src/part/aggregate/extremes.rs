//! Count, sum, smallest and largest value of each block of a column, and its first and last.
//!
//! **Invariant:** sums are added up in the order of the rows; what cannot be told without them is left out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, AsArray, Int64Array, PrimitiveArray, UInt32Array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{ArrowNumericType, DataType, Field, Float64Type, Int64Type};

use super::{Measure, number};
use crate::Result;

/// Neighbouring rows of one block.
pub(super) struct Segment {
    pub(super) rows: Range<usize>,
    /// Whether the batch before ended in the same block.
    pub(super) goes_on: bool,
}

/// Values of some rows, batch by batch.
#[derive(Default)]
pub(super) struct Pieces(pub(super) Vec<ArrayRef>);

impl Pieces {
    pub(super) fn whole(&self) -> Result<ArrayRef> {
        Ok(concat(&self.0.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
    }
}

/// What is known of a column, by block.
pub(super) struct FieldBlocks {
    pub(super) name: String,
    data_type: DataType,
    count: Vec<i64>,
    numbers: Option<Numbers>,
    first: Pieces,
    last: Pieces,
}

enum Numbers {
    Floats(Extremes<Float64Type>),
    Integers(Extremes<Int64Type>),
}

impl FieldBlocks {
    pub(super) fn new(field: &Field) -> Self {
        let numbers = match field.data_type() {
            DataType::Float64 => Some(Numbers::Floats(Extremes::new())),
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(Numbers::Integers(Extremes::new())),
            _ => None,
        };
        Self {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            count: Vec::new(),
            numbers,
            first: Pieces::default(),
            last: Pieces::default(),
        }
    }

    /// The same column without any block.
    pub(super) fn emptied(&self) -> Self {
        Self::new(&Field::new(&self.name, self.data_type.clone(), true))
    }

    pub(super) fn add(
        &mut self,
        column: &ArrayRef,
        segments: &[Segment],
        firsts: &UInt32Array,
        lasts: &UInt32Array,
    ) -> Result<()> {
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        for segment in segments {
            let rows = &segment.rows;
            let nulls = nulls.map_or(0, |nulls| nulls.slice(rows.start, rows.len()).null_count());
            let count = i64::try_from(rows.len() - nulls).expect("a batch is small");
            match self.count.last_mut().filter(|_| segment.goes_on) {
                Some(last) => *last += count,
                None => self.count.push(count),
            }
        }
        match &mut self.numbers {
            Some(Numbers::Floats(extremes)) => extremes.add(column.as_primitive(), segments),
            Some(Numbers::Integers(extremes)) => {
                extremes.add(cast(column, &DataType::Int64)?.as_primitive(), segments);
            }
            None => {}
        }
        if self.numbers.is_some() {
            self.first.0.push(take(column, firsts, None)?);
        }
        // The block that goes on has another last row now.
        if let Some(last) = self.last.0.last_mut().filter(|_| segments[0].goes_on) {
            *last = last.slice(0, last.len() - 1);
        }
        self.last.0.push(take(column, lasts, None)?);
        Ok(())
    }

    /// Puts neighbouring blocks together.
    pub(super) fn merge(&mut self, segments: &[Segment], firsts: &UInt32Array, lasts: &UInt32Array) -> Result<()> {
        self.count = segments.iter().map(|segment| self.count[segment.rows.clone()].iter().sum()).collect();
        match &mut self.numbers {
            Some(Numbers::Floats(extremes)) => extremes.merge(segments),
            Some(Numbers::Integers(extremes)) => extremes.merge(segments),
            None => {}
        }
        if self.numbers.is_some() {
            self.first.0 = vec![take(&self.first.whole()?, firsts, None)?];
        }
        self.last.0 = vec![take(&self.last.whole()?, lasts, None)?];
        Ok(())
    }

    /// The columns of the measures, of blocks with so many rows each.
    pub(super) fn columns(&self, rows: &[i64], columns: &mut Vec<(String, ArrayRef)>) -> Result<()> {
        let mut push = |measure: Measure, column: ArrayRef| -> Result<()> {
            columns.push((measure.column(&self.name), number::narrowed(&column)?));
            Ok(())
        };
        if self.count != rows {
            push(Measure::Count, Arc::new(Int64Array::from(self.count.clone())))?;
        }
        match &self.numbers {
            Some(Numbers::Floats(extremes)) => extremes.columns(&self.count, &mut push)?,
            Some(Numbers::Integers(extremes)) => extremes.columns(&self.count, &mut push)?,
            None => {}
        }
        if self.numbers.is_some() {
            push(Measure::First, self.first.whole()?)?;
        }
        let last =
            if self.last.0.is_empty() { new_null_array(&self.data_type, rows.len()) } else { self.last.whole()? };
        push(Measure::Last, last)
    }
}

/// Sums of integers can overflow, floats may be no numbers.
trait Number: ArrowNumericType {
    fn is_number(value: Self::Native) -> bool;
}

impl Number for Float64Type {
    fn is_number(value: f64) -> bool {
        !value.is_nan()
    }
}

impl Number for Int64Type {
    fn is_number(_: i64) -> bool {
        true
    }
}

/// Sum, smallest and largest value of each block.
struct Extremes<T: ArrowNumericType> {
    sum: Vec<T::Native>,
    min: Vec<T::Native>,
    max: Vec<T::Native>,
    /// Whether sums did not overflow.
    sums: bool,
    /// Whether all values are numbers.
    numbers: bool,
}

impl<T: Number> Extremes<T> {
    fn new() -> Self {
        Self { sum: Vec::new(), min: Vec::new(), max: Vec::new(), sums: true, numbers: true }
    }

    fn add(&mut self, column: &PrimitiveArray<T>, segments: &[Segment]) {
        let (values, nulls) = (column.values(), column.nulls().filter(|nulls| nulls.null_count() > 0));
        for segment in segments {
            let (sum, min, max) = self.of(values, nulls, segment.rows.clone());
            if segment.goes_on {
                let at = self.sum.len() - 1;
                self.sum[at] = self.plus(self.sum[at], sum);
                self.min[at] = least::<T>(self.min[at], min);
                self.max[at] = most::<T>(self.max[at], max);
            } else {
                self.sum.push(sum);
                self.min.push(min);
                self.max.push(max);
            }
        }
    }

    /// Of the values that are not null; where there are none a sum of zero and bounds that no value passes.
    fn of(
        &mut self,
        values: &[T::Native],
        nulls: Option<&NullBuffer>,
        rows: Range<usize>,
    ) -> (T::Native, T::Native, T::Native) {
        let zero = T::Native::ZERO;
        let (mut sum, mut min, mut max) = (zero, T::Native::MAX_TOTAL_ORDER, T::Native::MIN_TOTAL_ORDER);
        let mut numbers = true;
        let mut see = |value: T::Native, sums: &mut bool| {
            numbers &= T::is_number(value);
            sum = sum.add_checked(value).unwrap_or_else(|_| {
                *sums = false;
                zero
            });
            min = least::<T>(min, value);
            max = most::<T>(max, value);
        };
        match nulls {
            None => values[rows].iter().for_each(|&value| see(value, &mut self.sums)),
            Some(nulls) => {
                rows.filter(|&row| nulls.is_valid(row)).for_each(|row| see(values[row], &mut self.sums));
            }
        }
        self.numbers &= numbers;
        (sum, min, max)
    }

    fn plus(&mut self, a: T::Native, b: T::Native) -> T::Native {
        a.add_checked(b).unwrap_or_else(|_| {
            self.sums = false;
            T::Native::ZERO
        })
    }

    fn merge(&mut self, segments: &[Segment]) {
        let mut sums = Vec::with_capacity(segments.len());
        for segment in segments {
            let parts = self.sum[segment.rows.clone()].to_vec();
            sums.push(parts.into_iter().fold(T::Native::ZERO, |sum, part| self.plus(sum, part)));
        }
        let fold = |values: &[T::Native], of: fn(T::Native, T::Native) -> T::Native| -> Vec<T::Native> {
            let of =
                |rows: Range<usize>| values[rows.start + 1..rows.end].iter().fold(values[rows.start], |a, &b| of(a, b));
            segments.iter().map(|segment| of(segment.rows.clone())).collect()
        };
        (self.min, self.max) = (fold(&self.min, least::<T>), fold(&self.max, most::<T>));
        self.sum = sums;
    }

    fn columns(&self, count: &[i64], push: &mut impl FnMut(Measure, ArrayRef) -> Result<()>) -> Result<()> {
        let column = |values: &[T::Native]| -> ArrayRef {
            let known = values.iter().zip(count).map(|(&value, &count)| (count > 0).then_some(value));
            Arc::new(known.collect::<PrimitiveArray<T>>())
        };
        if !self.numbers {
            return Ok(());
        }
        push(Measure::Min, column(&self.min))?;
        push(Measure::Max, column(&self.max))?;
        if self.sums { push(Measure::Sum, column(&self.sum)) } else { Ok(()) }
    }
}

fn least<T: Number>(a: T::Native, b: T::Native) -> T::Native {
    if b.is_lt(a) { b } else { a }
}

fn most<T: Number>(a: T::Native, b: T::Native) -> T::Native {
    if b.is_gt(a) { b } else { a }
}
