//! Keys of rows, compared across batches without copying them.
//!
//! **Invariant:** orders nulls first, strings by their bytes; knows nothing of where rows are kept.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StringArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::{Error, Result, TableSchema, TimeRange};

/// The key columns of one batch, typed once so that comparing two rows costs no dispatch on arrays.
#[derive(Debug, Clone)]
pub(crate) struct KeyView {
    columns: Vec<KeyColumn>,
    len: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum KeyColumn {
    Tag { keys: ScalarBuffer<i32>, nulls: Option<NullBuffer>, values: StringArray },
    Text(StringArray),
    Bytes(BinaryArray),
    Bool(BooleanArray),
    I16(ScalarBuffer<i16>),
    I32(ScalarBuffer<i32>),
    I64(ScalarBuffer<i64>),
    U64(ScalarBuffer<u64>),
    I128(ScalarBuffer<i128>),
}

impl KeyView {
    /// A view of these columns; all have `len` rows.
    pub(crate) fn new<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>, len: usize) -> Result<Self> {
        let columns = columns.into_iter().map(KeyColumn::new).collect::<Result<_>>()?;
        Ok(Self { columns, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn columns(&self) -> &[KeyColumn] {
        &self.columns
    }

    /// Compares row `row` of this batch with row `other_row` of another batch of the same table.
    pub(crate) fn compare(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let pairs = self.columns.iter().zip(&other.columns);
        pairs.map(|(a, b)| a.compare(row, b, other_row)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// The first row from `from` on (and at most `to`) that is not less than the other row. Looks near `from` first.
    pub(crate) fn gallop(&self, from: usize, to: usize, other: &Self, other_row: usize) -> usize {
        let less = |row: usize| self.compare(row, other, other_row).is_lt();
        let (mut low, mut step) = (from, 1);
        while low < to && less((low + step - 1).min(to - 1)) {
            low = (low + step).min(to);
            step *= 2;
        }
        let mut high = (low + step - 1).min(to);
        while low < high {
            let middle = low + (high - low) / 2;
            if less(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Series: keys that share all but their last column, which is a time.
impl KeyView {
    /// Of each series the last row whose time is in the range. Rows are sorted.
    pub(crate) fn last_of_series(&self, span: TimeRange) -> Vec<u32> {
        let Some((KeyColumn::I64(times), _)) = self.columns.split_last() else { return Vec::new() };
        let (mut picked, mut start) = (Vec::new(), 0);
        while start < self.len {
            let end = self.series_end(start);
            let before = |&time: &i64| time < span.from || span.contains(time);
            let last = start + times[start..end].partition_point(before);
            if last > start && span.contains(times[last - 1]) {
                picked.push(u32::try_from(last - 1).expect("a batch has less than 2^32 rows"));
            }
            start = end;
        }
        picked
    }

    /// For each row, one per series, whether the other view, sorted too, has none of its series.
    pub(crate) fn series_not_in(&self, other: &Self) -> Vec<bool> {
        let mut at = 0;
        let missing = |row: usize| {
            while at < other.len && other.compare_series(at, self, row).is_lt() {
                at += 1;
            }
            at == other.len || other.compare_series(at, self, row).is_gt()
        };
        (0..self.len).map(missing).collect()
    }

    /// The row behind the series that a row begins.
    fn series_end(&self, start: usize) -> usize {
        let same = |row: usize| self.compare_series(start, self, row).is_eq();
        let (mut low, mut step) = (start + 1, 1);
        while low < self.len && same((low + step - 1).min(self.len - 1)) {
            low = (low + step).min(self.len);
            step *= 2;
        }
        let mut high = (low + step - 1).min(self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if same(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn compare_series(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let tags = self.columns.len().saturating_sub(1);
        let pairs = self.columns[..tags].iter().zip(&other.columns);
        pairs.map(|(a, b)| a.compare(row, b, other_row)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl KeyColumn {
    fn new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Dictionary(_, _) => {
                let tags = array.as_dictionary::<Int32Type>();
                Self::Tag {
                    keys: tags.keys().values().clone(),
                    nulls: tags.keys().nulls().cloned(),
                    values: tags.values().as_string::<i32>().clone(),
                }
            }
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Binary => Self::Bytes(array.as_binary::<i32>().clone()),
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int16 => Self::I16(array.as_primitive::<Int16Type>().values().clone()),
            DataType::Int32 => Self::I32(array.as_primitive::<Int32Type>().values().clone()),
            DataType::Date32 => Self::I32(array.as_primitive::<Date32Type>().values().clone()),
            DataType::Int64 => Self::I64(array.as_primitive::<Int64Type>().values().clone()),
            DataType::Timestamp(_, _) => Self::I64(array.as_primitive::<TimestampMicrosecondType>().values().clone()),
            DataType::UInt64 => Self::U64(array.as_primitive::<UInt64Type>().values().clone()),
            DataType::Decimal128(_, _) => Self::I128(array.as_primitive::<Decimal128Type>().values().clone()),
            other => {
                let reason = format!("a key column has type {other}, which has no order here");
                return Err(Error::InvalidSchema { table: String::new(), reason });
            }
        })
    }

    fn compare(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        match (self, other) {
            (Self::I64(a), Self::I64(b)) => a[row].cmp(&b[other_row]),
            (
                Self::Tag { keys, nulls, values },
                Self::Tag { keys: other_keys, nulls: other_nulls, values: other_values },
            ) => {
                let null = nulls.as_ref().is_some_and(|n| n.is_null(row));
                let other_null = other_nulls.as_ref().is_some_and(|n| n.is_null(other_row));
                match (null, other_null) {
                    (false, false) => tag(keys, values, row).cmp(tag(other_keys, other_values, other_row)),
                    _ => other_null.cmp(&null),
                }
            }
            (Self::Text(a), Self::Text(b)) => a.value(row).cmp(b.value(other_row)),
            (Self::Bytes(a), Self::Bytes(b)) => a.value(row).cmp(b.value(other_row)),
            (Self::Bool(a), Self::Bool(b)) => a.value(row).cmp(&b.value(other_row)),
            (Self::I16(a), Self::I16(b)) => a[row].cmp(&b[other_row]),
            (Self::I32(a), Self::I32(b)) => a[row].cmp(&b[other_row]),
            (Self::U64(a), Self::U64(b)) => a[row].cmp(&b[other_row]),
            (Self::I128(a), Self::I128(b)) => a[row].cmp(&b[other_row]),
            _ => unreachable!("both batches are of one table, whose key columns keep their types"),
        }
    }
}

fn tag<'a>(keys: &ScalarBuffer<i32>, values: &'a StringArray, row: usize) -> &'a str {
    values.value(usize::try_from(keys[row]).expect("dictionary keys are not negative"))
}

/// A key as `(host, time)=(a, 2026-01-01T00:00:00)`, for messages.
pub(crate) fn key_text(schema: &TableSchema, columns: &[ArrayRef], row: usize) -> Result<String> {
    let options = FormatOptions::new().with_null("null");
    let names: Vec<_> = schema.key.iter().map(|&index| schema.columns[index].name.as_str()).collect();
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        values.push(ArrayFormatter::try_new(column.as_ref(), &options)?.value(row).to_string());
    }
    Ok(format!("({})=({})", names.join(", "), values.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, TimestampMicrosecondArray};

    use super::*;

    fn view(tags: Vec<Option<&str>>, times: Vec<i64>) -> KeyView {
        let tags: DictionaryArray<Int32Type> = tags.into_iter().collect();
        let columns: [ArrayRef; 2] = [Arc::new(tags), Arc::new(TimestampMicrosecondArray::from(times.clone()))];
        KeyView::new(&columns, times.len()).unwrap()
    }

    #[test]
    fn nulls_come_first_and_dictionaries_compare_by_their_strings() {
        let a = view(vec![None, Some("b"), Some("a")], vec![5, 1, 1]);
        let b = view(vec![Some("a"), None], vec![1, 6]);
        assert_eq!(a.compare(0, &b, 0), Ordering::Less);
        assert_eq!(a.compare(0, &b, 1), Ordering::Less);
        assert_eq!(a.compare(1, &b, 0), Ordering::Greater);
        assert_eq!(a.compare(2, &b, 0), Ordering::Equal);
    }

    #[test]
    fn galloping_finds_the_same_bound_as_counting() {
        let times: Vec<i64> = (0..100).map(|t| t * 2).collect();
        let a = view(vec![Some("a"); 100], times.clone());
        for wanted in -1..202 {
            let b = view(vec![Some("a")], vec![wanted]);
            for from in [0, 1, 7, 99, 100] {
                let expected = times.iter().filter(|&&t| t < wanted).count().max(from);
                assert_eq!(a.gallop(from, 100, &b, 0), expected, "{wanted} from {from}");
            }
        }
    }
}
