//! Where in a batch a group's rows begin and end, and which group it is.
//!
//! **Invariant:** a group is looked up once for each run of its rows; strings are compared once for each distinct one of a batch.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, HashMap, Result};

use super::GroupBy;
use crate::Error;

/// Values that are looked at together.
const BLOCK: usize = 16;
/// The number of a name that was not looked up.
const UNKNOWN: u32 = u32::MAX;

/// Neighbouring rows of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The number of the group.
    pub(super) group: usize,
}

/// The groups met so far.
#[derive(Debug)]
pub(super) struct Groups {
    by: Vec<GroupBy>,
    /// By tag of `by`.
    tags: Vec<Names>,
    /// Combinations of tags.
    series: HashMap<Box<[u32]>, u32>,
    series_tags: Vec<Box<[u32]>>,
    numbers: HashMap<(u32, i64), usize>,
    /// By group: the combination of tags and the bucket's start.
    keys: Vec<(u32, i64)>,
}

/// Distinct values of a tag, null among them.
#[derive(Debug, Default)]
struct Names {
    values: Vec<Option<String>>,
    numbers: HashMap<Option<String>, u32>,
}

impl Names {
    fn number(&mut self, value: Option<&str>) -> u32 {
        let value = value.map(str::to_owned);
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            u32::try_from(self.values.len() - 1).expect("fewer values than 2^32 fit in memory")
        })
    }
}

/// A tag of a batch: rows that show the same number have the same value.
struct TagColumn {
    keys: ScalarBuffer<i32>,
    /// By key that there is, what it is among all names; the last is for null.
    names: Vec<u32>,
}

impl Groups {
    pub(super) fn new(by: &[GroupBy]) -> Self {
        let tags = by.iter().filter(|by| matches!(by, GroupBy::Tag { .. })).map(|_| Names::default());
        Self {
            by: by.to_vec(),
            tags: tags.collect(),
            series: HashMap::default(),
            series_tags: Vec::new(),
            numbers: HashMap::default(),
            keys: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The runs of a batch, in its order.
    pub(super) fn runs(&mut self, batch: &RecordBatch) -> Result<Vec<Run>> {
        let tags = self.tag_columns(batch);
        let bucket = self.by.iter().find_map(|by| match by {
            GroupBy::Bucket { column, width_us, origin_us, .. } => Some((*column, *width_us, *origin_us)),
            GroupBy::Tag { .. } => None,
        });
        let times = bucket.map(|(column, ..)| batch.column(column).as_primitive::<TimestampMicrosecondType>().values());
        let mut runs = Vec::new();
        let mut row = 0;
        while row < batch.num_rows() {
            let tag_end = tags.iter().map(|tag| tag.same_until(row)).min().unwrap_or(batch.num_rows());
            let names: Box<[u32]> = tags.iter().map(|tag| tag.name(row)).collect();
            let series = self.series_number(names);
            while row < tag_end {
                let (mut end, mut start) = (tag_end, 0);
                if let (Some(times), Some((_, width, origin))) = (times, bucket) {
                    let next;
                    (start, next) = bucket_of(times[row], width, origin)?;
                    end = row + same(&times[row..tag_end], |time| start <= time && time < next);
                }
                runs.push(Run { start: row, end, group: self.number(series, start) });
                row = end;
            }
        }
        Ok(runs)
    }

    fn tag_columns(&mut self, batch: &RecordBatch) -> Vec<TagColumn> {
        let columns = self.by.iter().filter_map(|by| match by {
            GroupBy::Tag { column } => Some(batch.column(*column)),
            GroupBy::Bucket { .. } => None,
        });
        columns.zip(&mut self.tags).map(|(column, names)| TagColumn::new(column, names)).collect()
    }

    fn series_number(&mut self, names: Box<[u32]>) -> u32 {
        if let Some(&number) = self.series.get(&names) {
            return number;
        }
        let number = u32::try_from(self.series_tags.len()).expect("fewer series than 2^32 fit in memory");
        self.series_tags.push(names.clone());
        self.series.insert(names, number);
        number
    }

    fn number(&mut self, series: u32, start: i64) -> usize {
        *self.numbers.entry((series, start)).or_insert_with(|| {
            self.keys.push((series, start));
            self.keys.len() - 1
        })
    }

    /// For each group of another the number that it has here.
    pub(super) fn take_in(&mut self, other: &Self) -> Vec<usize> {
        let own = |(mine, theirs): (&mut Names, &Names)| -> Vec<u32> {
            theirs.values.iter().map(|value| mine.number(value.as_deref())).collect()
        };
        let names: Vec<Vec<u32>> = self.tags.iter_mut().zip(&other.tags).map(own).collect();
        let own = |name: (&Vec<u32>, &u32)| name.0[*name.1 as usize];
        let tags = other.series_tags.iter().map(|tags| names.iter().zip(tags.iter()).map(own).collect());
        let tags: Vec<Box<[u32]>> = tags.collect();
        let series: Vec<u32> = tags.into_iter().map(|tags| self.series_number(tags)).collect();
        other.keys.iter().map(|&(theirs, start)| self.number(series[theirs as usize], start)).collect()
    }

    /// The groups' names as columns of these types, in the order of the groups.
    pub(super) fn columns(&self, types: &[&DataType]) -> Result<Vec<ArrayRef>> {
        let mut tag = 0;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.by.len());
        for (by, data_type) in self.by.iter().zip(types) {
            columns.push(match by {
                GroupBy::Bucket { unit_ns: 1, .. } => {
                    let starts = self.keys.iter().map(|key| {
                        key.1.checked_mul(1_000).ok_or_else(|| {
                            let reason = format!("{} µs since 1970 cannot be told in nanoseconds", key.1);
                            DataFusionError::from(Error::DatetimeOutOfRange(reason))
                        })
                    });
                    let starts = TimestampNanosecondArray::from(starts.collect::<Result<Vec<_>>>()?);
                    Arc::new(starts.with_data_type((*data_type).clone()))
                }
                GroupBy::Bucket { .. } => {
                    let starts = TimestampMicrosecondArray::from_iter_values(self.keys.iter().map(|key| key.1));
                    Arc::new(starts.with_data_type((*data_type).clone()))
                }
                GroupBy::Tag { .. } => {
                    tag += 1;
                    self.tag(tag - 1)?
                }
            });
        }
        Ok(columns)
    }

    fn tag(&self, tag: usize) -> Result<ArrayRef> {
        let names = &self.tags[tag].values;
        let key = |&(series, _): &(u32, i64)| {
            let name = self.series_tags[series as usize][tag];
            names[name as usize].is_some().then(|| i32::try_from(name).ok()).flatten()
        };
        let keys: Int32Array = self.keys.iter().map(key).collect();
        let values: StringArray = names.iter().map(|name| Some(name.as_deref().unwrap_or_default())).collect();
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(values))?))
    }
}

impl TagColumn {
    fn new(column: &ArrayRef, names: &mut Names) -> Self {
        let tags = column.as_dictionary::<Int32Type>();
        let values = tags.values().as_string::<i32>();
        let null = i32::try_from(values.len()).expect("a dictionary's keys are of 32 bits");
        let keys = match tags.keys().nulls() {
            None => tags.keys().values().clone(),
            Some(_) => tags.keys().iter().map(|key| key.unwrap_or(null)).collect(),
        };
        let mut numbers = vec![UNKNOWN; values.len() + 1];
        let mut row = 0;
        while row < keys.len() {
            let now = keys[row];
            let key = at(now);
            if numbers[key] == UNKNOWN {
                let value = (key < values.len() && values.is_valid(key)).then(|| values.value(key));
                numbers[key] = names.number(value);
            }
            row += same(&keys[row..], |other| other == now);
        }
        Self { keys, names: numbers }
    }

    fn name(&self, row: usize) -> u32 {
        self.names[at(self.keys[row])]
    }

    /// The first row behind `row` with another value.
    fn same_until(&self, row: usize) -> usize {
        let key = self.keys[row];
        row + same(&self.keys[row..], |other| other == key)
    }
}

/// How many values, from the first on, are as they should be. Looks at blocks of them, which needs no branch for each.
fn same<T: Copy>(values: &[T], holds: impl Fn(T) -> bool) -> usize {
    let (blocks, _) = values.as_chunks::<BLOCK>();
    let whole = |block: &&[T; BLOCK]| block.iter().fold(true, |all, &value| all & holds(value));
    let sure = blocks.iter().take_while(whole).count() * BLOCK;
    sure + values[sure..].iter().take_while(|&&value| holds(value)).count()
}

fn at(key: i32) -> usize {
    usize::try_from(key).expect("dictionary keys are not negative")
}

/// The first time of a bucket, and that of the next.
fn bucket_of(time: i64, width: i64, origin: i64) -> Result<(i64, i64)> {
    let (wide, from) = (i128::from(width), i128::from(time) - i128::from(origin));
    let start = i64::try_from(i128::from(time) - from.rem_euclid(wide)).map_err(|_| {
        let reason = format!("{time} µs since 1970 has no bucket in range");
        DataFusionError::from(Error::DatetimeOutOfRange(reason))
    })?;
    Ok((start, start.saturating_add(width)))
}
