//! What a row must satisfy to come out of a scan.
//!
//! **Invariant:** exact: a row that satisfies all is kept, any other is not. Null satisfies nothing.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::kernels::cmp;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::{Comparison, FieldFilter, Result, ScanRequest, TableSchema, TimeRange};

/// The conditions of one scan, by column name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) time: Option<(String, TimeRange)>,
    /// The values wanted, sorted.
    pub(crate) tags: Vec<(String, Vec<String>)>,
    pub(crate) fields: Vec<(String, FieldFilter)>,
}

impl Conditions {
    /// The conditions of a request, with its times narrowed to `time`.
    pub(crate) fn new(table: &TableSchema, request: &ScanRequest, time: TimeRange) -> Self {
        let name = |column: usize| table.columns[column].name.clone();
        let tags = request.tags.iter().filter(|filter| table.tags().contains(&filter.column)).map(|filter| {
            let mut any_of = filter.any_of.clone();
            any_of.sort_unstable();
            (name(filter.column), any_of)
        });
        let fields = request.fields.iter().map(|filter| (name(filter.column), filter.clone()));
        Self {
            time: table.time().filter(|_| time != TimeRange::ALL).map(|column| (name(column), time)),
            tags: tags.collect(),
            fields: fields.collect(),
        }
    }

    /// Those that only the key decides: they hold before versions of a row are merged.
    pub(crate) fn of_key(&self, table: &TableSchema) -> Self {
        let fields = self.fields.iter().filter(|(_, filter)| table.key.contains(&filter.column)).cloned().collect();
        Self { fields, ..self.clone() }
    }

    /// Without the time, where all rows are known to satisfy it.
    pub(crate) fn without_time(&self) -> Self {
        Self { time: None, ..self.clone() }
    }

    /// The columns that are looked at.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let time = self.time.iter().map(|(name, _)| name.as_str());
        let tags = self.tags.iter().map(|(name, _)| name.as_str());
        time.chain(tags).chain(self.fields.iter().map(|(name, _)| name.as_str()))
    }

    /// Which rows of a batch satisfy all conditions; all of them where absent.
    pub(crate) fn keep(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let mut keep: Option<BooleanArray> = None;
        let mut add = |more: BooleanArray| -> Result<()> {
            keep = Some(match keep.take() {
                Some(keep) => arrow::compute::and(&keep, &more)?,
                None => more,
            });
            Ok(())
        };
        let none = || BooleanArray::from(vec![false; batch.num_rows()]);
        if let Some((name, range)) = &self.time {
            add(batch.column_by_name(name).map_or_else(none, |times| within(times, *range)))?;
        }
        for (name, any_of) in &self.tags {
            add(batch.column_by_name(name).map_or_else(none, |tags| among(tags, any_of)))?;
        }
        for (name, filter) in &self.fields {
            add(match batch.column_by_name(name) {
                Some(values) => filter.keep(values)?,
                None => none(),
            })?;
        }
        Ok(keep.filter(|keep| keep.true_count() < keep.len()))
    }
}

impl FieldFilter {
    /// Which values satisfy it.
    pub(crate) fn keep(&self, values: &ArrayRef) -> Result<BooleanArray> {
        let compare = match self.comparison {
            Comparison::Equal => cmp::eq,
            Comparison::NotEqual => cmp::neq,
            Comparison::Less => cmp::lt,
            Comparison::LessOrEqual => cmp::lt_eq,
            Comparison::Greater => cmp::gt,
            Comparison::GreaterOrEqual => cmp::gt_eq,
        };
        let found = compare(values, &self.value)?;
        Ok(if found.null_count() > 0 { arrow::compute::prep_null_mask_filter(&found) } else { found })
    }
}

/// Which times lie in a range.
pub(crate) fn within(times: &ArrayRef, range: TimeRange) -> BooleanArray {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    times.values().iter().map(|&time| Some(range.contains(time))).collect()
}

/// Which tags are among some sorted ones.
pub(crate) fn among(tags: &ArrayRef, any_of: &[String]) -> BooleanArray {
    let tags = tags.as_dictionary::<Int32Type>();
    let wanted = |text: &str| any_of.binary_search_by(|other| other.as_str().cmp(text)).is_ok();
    let entries: Vec<bool> = tags.values().as_string::<i32>().iter().map(|text| text.is_some_and(wanted)).collect();
    let entry = |key: Option<i32>| key.and_then(|key| usize::try_from(key).ok()).is_some_and(|key| entries[key]);
    tags.keys().iter().map(|key| Some(entry(key))).collect()
}
