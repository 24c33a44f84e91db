//! Which row groups and pages of a part can hold rows that a scan wants.
//!
//! **Invariant:** leaves out only what certainly holds none: unknown statistics mean reading.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection};

use super::Part;
use crate::key::KeyView;
use crate::memtable::Run;
use crate::{Comparison, FieldFilter, PartRead, Result, ScanRequest, TableSchema, TimeRange};

/// What is read of a part.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    pub(crate) row_groups: Vec<usize>,
    /// Rows within these row groups; all where absent.
    pub(crate) selection: Option<RowSelection>,
    /// Row groups in the part.
    pub(crate) row_groups_all: usize,
    /// Rows that are read.
    pub(crate) rows: u64,
}

impl ReadPlan {
    /// The same as several plans of at most so many row groups each. They share no key, since rows are sorted by key. One
    /// that reads only some rows of its row groups stays whole.
    pub(crate) fn divided(self, row_groups_max: usize) -> Vec<Self> {
        let count = self.row_groups.len();
        if self.selection.is_some() || count <= row_groups_max {
            return vec![self];
        }
        let mut pruned = self.row_groups_all - count;
        let part = |groups: &[usize]| Self {
            row_groups: groups.to_vec(),
            selection: None,
            row_groups_all: groups.len() + std::mem::take(&mut pruned),
            rows: self.rows * groups.len() as u64 / count as u64,
        };
        self.row_groups.chunks(row_groups_max).map(part).collect()
    }
}

/// What a row must satisfy in one column.
enum Wanted {
    Time(TimeRange),
    /// Sorted values of a key column, of its own type.
    Keys(ArrayRef),
    /// Sorted.
    Strings(Vec<String>),
}

impl Part {
    /// What a scan must read of this part.
    pub(crate) fn plan(&self, schema: &TableSchema, request: &ScanRequest) -> Result<ReadPlan> {
        self.plan_for(&wanted(schema, request))
    }

    /// What a search for keys must read of this part.
    pub(crate) fn plan_keys(&self, schema: &TableSchema, request: &ScanRequest, keys: &Run) -> Result<ReadPlan> {
        let mut wanted = wanted(schema, request);
        let first = &schema.columns[schema.key[0]].name;
        if let Some(column) = keys.batch.column_by_name(first).filter(|column| column.null_count() == 0) {
            wanted.push((first, Wanted::Keys(Arc::clone(column))));
        }
        self.plan_for(&wanted)
    }

    /// What reading the columns of these names takes by a plan.
    pub(crate) fn cost(&self, plan: &ReadPlan, names: &BTreeSet<&str>) -> Result<PartRead> {
        let footer = self.footer()?;
        let fields = footer.schema().fields().iter().enumerate();
        let columns: Vec<usize> =
            fields.filter(|(_, field)| names.contains(field.name().as_str())).map(|(i, _)| i).collect();
        let group = |&group: &usize| {
            let group = footer.metadata().row_group(group);
            let bytes: i64 = columns.iter().map(|&column| group.column(column).compressed_size()).sum();
            (u64::try_from(bytes).unwrap_or(0), u64::try_from(group.num_rows()).unwrap_or(0))
        };
        let (bytes, rows) =
            plan.row_groups.iter().map(group).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
        // Pages have about the same number of rows.
        let bytes = u128::from(bytes) * u128::from(plan.rows) / u128::from(rows.max(1));
        Ok(PartRead {
            part: self.record.number,
            row_groups: plan.row_groups.len(),
            row_groups_all: plan.row_groups_all,
            bytes: u64::try_from(bytes).expect("a share of a u64"),
        })
    }

    fn plan_for(&self, wanted: &[(&str, Wanted)]) -> Result<ReadPlan> {
        let footer = self.footer()?;
        let groups = footer.metadata().row_groups();
        let mut row_groups: Vec<usize> = (0..groups.len()).collect();
        for (column, wanted) in wanted {
            let Some(statistics) = converter(&footer, column)? else { continue };
            let min = statistics.row_group_mins(row_groups.iter().map(|&group| &groups[group]))?;
            let max = statistics.row_group_maxes(row_groups.iter().map(|&group| &groups[group]))?;
            let keep = wanted.possible(&min, &max);
            row_groups =
                row_groups.into_iter().zip(&keep).filter(|(_, keep)| keep.unwrap_or(true)).map(|(g, _)| g).collect();
        }
        let selection = select_pages(&footer, wanted, &row_groups)?;
        let all = row_groups.iter().map(|&group| u64::try_from(groups[group].num_rows()).unwrap_or(0)).sum();
        let rows = selection.as_ref().map_or(all, |selection| selection.row_count() as u64);
        if rows == 0 {
            row_groups.clear();
        }
        Ok(ReadPlan { row_groups, selection: selection.filter(|_| rows > 0), row_groups_all: groups.len(), rows })
    }
}

/// The columns that a request says something about.
fn wanted<'a>(schema: &'a TableSchema, request: &ScanRequest) -> Vec<(&'a str, Wanted)> {
    let mut wanted = Vec::new();
    for tag in request.tags.iter().filter(|tag| schema.tags().contains(&tag.column)) {
        let mut any_of = tag.any_of.clone();
        any_of.sort_unstable();
        wanted.push((schema.columns[tag.column].name.as_str(), Wanted::Strings(any_of)));
    }
    if let Some(time) = schema.time().filter(|_| request.time != TimeRange::ALL) {
        wanted.push((schema.columns[time].name.as_str(), Wanted::Time(request.time)));
    }
    // All versions of a row have its key, so that none of them is where the key cannot be.
    let equal = |filter: &&FieldFilter| schema.key.contains(&filter.column) && filter.comparison == Comparison::Equal;
    for filter in request.fields.iter().filter(equal) {
        let value = filter.value.clone().into_inner();
        // Statistics of floats leave NaN out.
        if value.null_count() == 0 && !value.data_type().is_floating() {
            wanted.push((schema.columns[filter.column].name.as_str(), Wanted::Keys(value)));
        }
    }
    wanted
}

fn converter<'a>(footer: &'a ArrowReaderMetadata, column: &str) -> Result<Option<StatisticsConverter<'a>>> {
    match footer.schema().index_of(column) {
        Ok(_) => Ok(Some(StatisticsConverter::try_new(column, footer.schema(), footer.parquet_schema())?)),
        Err(_) => Ok(None),
    }
}

fn select_pages(
    footer: &ArrowReaderMetadata,
    wanted: &[(&str, Wanted)],
    row_groups: &[usize],
) -> Result<Option<RowSelection>> {
    let metadata = footer.metadata();
    let (Some(columns), Some(offsets)) = (metadata.column_index(), metadata.offset_index()) else { return Ok(None) };
    let mut selection: Option<RowSelection> = None;
    for (column, wanted) in wanted {
        let Some(statistics) = converter(footer, column)? else { continue };
        let min = statistics.data_page_mins(columns, offsets, row_groups)?;
        let max = statistics.data_page_maxes(columns, offsets, row_groups)?;
        let Some(rows) = statistics.data_page_row_counts(offsets, metadata.row_groups(), row_groups)? else { continue };
        if rows.len() != min.len() || rows.null_count() > 0 {
            continue;
        }
        let pages = selected(&wanted.possible(&min, &max), &rows);
        selection = Some(match selection {
            Some(earlier) => earlier.intersection(&pages),
            None => pages,
        });
    }
    Ok(selection)
}

fn selected(keep: &BooleanArray, rows: &UInt64Array) -> RowSelection {
    let mut start = 0;
    let mut ranges = Vec::new();
    for (keep, &rows) in keep.iter().zip(rows.values()) {
        let end = start + usize::try_from(rows).expect("a page's rows fit in memory");
        if keep.unwrap_or(true) {
            ranges.push(start..end);
        }
        start = end;
    }
    RowSelection::from_consecutive_ranges(ranges.into_iter(), start)
}

impl Wanted {
    /// For each pair of bounds whether a wanted value can lie between them.
    fn possible(&self, min: &ArrayRef, max: &ArrayRef) -> BooleanArray {
        let rows = min.len();
        let known = |row: usize| min.is_valid(row) && max.is_valid(row);
        match (self, min.data_type(), max.data_type()) {
            (Self::Time(range), DataType::Timestamp(_, _), DataType::Timestamp(_, _)) => {
                let (min, max) =
                    (min.as_primitive::<TimestampMicrosecondType>(), max.as_primitive::<TimestampMicrosecondType>());
                (0..rows).map(|row| Some(!known(row) || range.overlaps(min.value(row), max.value(row)))).collect()
            }
            (Self::Strings(any_of), DataType::Utf8, DataType::Utf8) => {
                let (min, max) = (min.as_string::<i32>(), max.as_string::<i32>());
                let within = |row: usize| {
                    let first = any_of.partition_point(|value| value.as_str() < min.value(row));
                    any_of.get(first).is_some_and(|value| value.as_str() <= max.value(row))
                };
                (0..rows).map(|row| Some(!known(row) || within(row))).collect()
            }
            (Self::Keys(keys), low, high) if low == keys.data_type() && high == keys.data_type() => {
                let view = |array: &ArrayRef| KeyView::new([array], array.len());
                let (Ok(keys), Ok(low), Ok(high)) = (view(keys), view(min), view(max)) else { return all(rows) };
                let within = |row: usize| {
                    let first = keys.gallop(0, keys.len(), &low, row);
                    first < keys.len() && keys.compare(first, &high, row).is_le()
                };
                (0..rows).map(|row| Some(!known(row) || within(row))).collect()
            }
            _ => all(rows),
        }
    }
}

fn all(rows: usize) -> BooleanArray {
    (0..rows).map(|_| Some(true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divided_plan_reads_each_row_group_once() {
        let plan = ReadPlan { row_groups: vec![1, 2, 4, 5, 6], selection: None, row_groups_all: 7, rows: 500 };
        let parts = plan.clone().divided(2);
        let groups: Vec<_> = parts.iter().map(|part| part.row_groups.as_slice()).collect();
        assert_eq!(groups, [&[1, 2][..], &[4, 5], &[6]]);
        assert_eq!(parts.iter().map(|part| part.row_groups_all).sum::<usize>(), 7);
        assert_eq!(parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [200, 200, 100]);
        assert_eq!(plan.divided(5).len(), 1);
    }
}
