//! The rows of a call on their way to a kernel: times, texts as numbers, numbers.
//!
//! **Rules.** A row without a time or without a text that is needed is left out. A text that is null or empty is unknown, a
//! number that is null is NaN.
//!
//! **Invariant:** after sorting neither the order nor the numbers of texts depend on how rows came in.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, LargeStringArray, ListArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, resources_datafusion_err};
use juno_kernels::behaviours::UNKNOWN;

use super::{Behaviour, Kind};
use crate::types::timestamptz;

/// The most rows of one call.
const ROWS_MAX: usize = 1 << 27;

/// What was taken in.
#[derive(Debug)]
pub(super) struct Events {
    behaviour: &'static Behaviour,
    times_us: Vec<i64>,
    columns: Vec<Values>,
    /// Every text once, and the number of each.
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    texts_bytes: usize,
}

/// The values of a column after the time.
#[derive(Debug)]
enum Values {
    Texts(Vec<u32>),
    Numbers(Vec<f64>),
}

impl Events {
    pub(super) fn new(behaviour: &'static Behaviour) -> Self {
        let empty = |kind| match kind {
            Kind::Number => Values::Numbers(Vec::new()),
            Kind::Text | Kind::Time => Values::Texts(Vec::new()),
        };
        let columns = behaviour.columns.iter().skip(1).map(|column| empty(column.kind)).collect();
        let (texts, numbers) = (Vec::new(), HashMap::new());
        Self { behaviour, times_us: Vec::new(), columns, texts, numbers, texts_bytes: 0 }
    }

    /// Takes rows in; texts may be of either size.
    pub(super) fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let times = cast(&columns[0], &timestamptz())?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let needed = |column: usize| self.behaviour.columns[column].needed;
        let is_text = |column: usize| self.behaviour.columns[column].kind == Kind::Text;
        let texts = (1..columns.len()).map(|column| {
            if is_text(column) { cast(&columns[column], &DataType::LargeUtf8).map(Some) } else { Ok(None) }
        });
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let known = |column: usize, row: usize| match &texts[column - 1] {
            Some(texts) => texts.is_valid(row) && !texts.as_string::<i64>().value(row).is_empty(),
            None => columns[column].is_valid(row),
        };
        let kept = |row: &usize| {
            times.is_valid(*row) && (1..columns.len()).all(|column| !needed(column) || known(column, *row))
        };
        let rows: Vec<usize> = (0..times.len()).filter(kept).collect();
        if self.times_us.len() + rows.len() > ROWS_MAX {
            let name = self.behaviour.name;
            return Err(resources_datafusion_err!("{name} takes at most {ROWS_MAX} rows: choose a shorter time"));
        }
        self.times_us.extend(rows.iter().map(|row| times.value(*row)));
        for (column, texts) in texts.iter().enumerate() {
            match texts {
                Some(texts) => self.add_texts(column, texts.as_string::<i64>(), &rows),
                None => {
                    let given = columns[column + 1].as_primitive::<Float64Type>();
                    let value = |row: &usize| if given.is_valid(*row) { given.value(*row) } else { f64::NAN };
                    if let Values::Numbers(own) = &mut self.columns[column] {
                        own.extend(rows.iter().map(value));
                    }
                }
            }
        }
        Ok(())
    }

    fn add_texts(&mut self, column: usize, given: &LargeStringArray, rows: &[usize]) {
        let mut added = Vec::with_capacity(rows.len());
        for row in rows {
            let text = if given.is_valid(*row) { given.value(*row) } else { "" };
            added.push(self.number_of(text));
        }
        if let Values::Texts(own) = &mut self.columns[column] {
            own.append(&mut added);
        }
    }

    fn number_of(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return UNKNOWN;
        }
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let (number, text) = (self.texts.len() as u32, Arc::<str>::from(text));
        self.texts_bytes += text.len() + 64;
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    /// Sorts rows by time, then by their values, and numbers texts in their order.
    pub(super) fn sort(&mut self) {
        let mut by_text: Vec<u32> = (0..self.texts.len() as u32).collect();
        by_text.sort_unstable_by(|a, b| self.texts[*a as usize].cmp(&self.texts[*b as usize]));
        let mut places = vec![0; by_text.len()];
        for (place, old) in by_text.iter().enumerate() {
            places[*old as usize] = place as u32;
        }
        self.texts = by_text.iter().map(|old| Arc::clone(&self.texts[*old as usize])).collect();
        self.numbers = self.texts.iter().enumerate().map(|(place, text)| (Arc::clone(text), place as u32)).collect();
        for column in &mut self.columns {
            if let Values::Texts(texts) = column {
                texts.iter_mut().filter(|text| **text != UNKNOWN).for_each(|text| *text = places[*text as usize]);
            }
        }
        let mut order: Vec<usize> = (0..self.times_us.len()).collect();
        order.sort_unstable_by(|a, b| {
            let values = |column: &Values| match column {
                Values::Texts(texts) => texts[*a].cmp(&texts[*b]),
                Values::Numbers(numbers) => numbers[*a].total_cmp(&numbers[*b]),
            };
            let rest = self.columns.iter().map(values).find(|ordering| ordering.is_ne());
            self.times_us[*a].cmp(&self.times_us[*b]).then(rest.unwrap_or(std::cmp::Ordering::Equal))
        });
        self.times_us = order.iter().map(|row| self.times_us[*row]).collect();
        for column in &mut self.columns {
            match column {
                Values::Texts(texts) => *texts = order.iter().map(|row| texts[*row]).collect(),
                Values::Numbers(numbers) => *numbers = order.iter().map(|row| numbers[*row]).collect(),
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.times_us.len()
    }

    /// Seconds since 1970.
    pub(super) fn time(&self, row: usize) -> f64 {
        self.times_us[row] as f64 / 1e6
    }

    /// The numbers of a column's texts.
    pub(super) fn ids(&self, column: &str) -> &[u32] {
        match &self.columns[self.place(column)] {
            Values::Texts(texts) => texts,
            Values::Numbers(_) => &[],
        }
    }

    /// A column's numbers.
    pub(super) fn values(&self, column: &str) -> &[f64] {
        match &self.columns[self.place(column)] {
            Values::Numbers(numbers) => numbers,
            Values::Texts(_) => &[],
        }
    }

    fn place(&self, column: &str) -> usize {
        let mut columns = self.behaviour.columns.iter().skip(1);
        columns.position(|own| own.name == column).expect("a behaviour asks for its own columns")
    }

    /// The text of a number; none where it is unknown.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(|text| &**text)
    }

    /// The rows whose times lie in a span of seconds.
    pub(super) fn within(&self, span: (f64, f64)) -> std::ops::Range<usize> {
        let us = |seconds: f64| (seconds * 1e6).round() as i64;
        let (from, to) = (us(span.0), us(span.1));
        self.times_us.partition_point(|time| *time < from)..self.times_us.partition_point(|time| *time <= to)
    }

    pub(super) fn size_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| match column {
            Values::Texts(texts) => texts.capacity() * size_of::<u32>(),
            Values::Numbers(numbers) => numbers.capacity() * size_of::<f64>(),
        });
        self.times_us.capacity() * size_of::<i64>() + columns.sum::<usize>() + self.texts_bytes
    }

    fn fields(behaviour: &Behaviour) -> Fields {
        let data_type = |kind| match kind {
            Kind::Time => timestamptz(),
            Kind::Text => DataType::LargeUtf8,
            Kind::Number => DataType::Float64,
        };
        behaviour.columns.iter().map(|column| Field::new(column.name, data_type(column.kind), true)).collect()
    }

    /// The type of [`Events::list`].
    pub(super) fn list_type(behaviour: &Behaviour) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Struct(Self::fields(behaviour)), true)))
    }

    /// All rows, as another accumulator takes them.
    pub(super) fn list(&self) -> Result<ScalarValue> {
        let times = TimestampMicrosecondArray::from(self.times_us.clone()).with_timezone("+00:00");
        let column = |values: &Values| -> ArrayRef {
            match values {
                Values::Texts(texts) => {
                    Arc::new(texts.iter().map(|text| self.text(*text)).collect::<LargeStringArray>())
                }
                Values::Numbers(numbers) => Arc::new(Float64Array::from(numbers.clone())),
            }
        };
        let columns = std::iter::once(Arc::new(times) as ArrayRef).chain(self.columns.iter().map(column)).collect();
        let fields = Self::fields(self.behaviour);
        let rows = StructArray::try_new(fields.clone(), columns, None)?;
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths([self.len()]), Arc::new(rows), None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }
}
