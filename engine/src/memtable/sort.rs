//! The order of rows by key.
//!
//! **Invariant:** of rows with one key only the last is kept.

use arrow::array::UInt32Array;

use crate::key::{KeyColumn, KeyView};

/// Bits of a packed key that are left for the row's number.
const ROW_BITS: u32 = 32;

/// How to bring rows into key order.
pub(super) enum Order {
    /// They are in order, and no key comes twice.
    Sorted,
    /// These rows, in this order.
    Rows(UInt32Array),
}

/// The order of a batch's rows. Dictionaries of tags must be sorted.
pub(super) fn order(key: &KeyView) -> Order {
    match pack(key) {
        Some(packed) => order_packed(packed),
        None => order_compared(key),
    }
}

fn order_packed(mut packed: Vec<u128>) -> Order {
    if packed.is_sorted_by(|a, b| a < b) {
        return Order::Sorted;
    }
    for (row, key) in packed.iter_mut().enumerate() {
        *key = (*key << ROW_BITS) | row as u128;
    }
    packed.sort_unstable();
    let last_of_key = |(i, key): (usize, &u128)| match packed.get(i + 1) {
        Some(next) if next >> ROW_BITS == key >> ROW_BITS => None,
        _ => Some(u32::try_from(key & u128::from(u32::MAX)).expect("the low half is a row number")),
    };
    Order::Rows(packed.iter().enumerate().filter_map(last_of_key).collect::<Vec<_>>().into())
}

fn order_compared(key: &KeyView) -> Order {
    let ascending = |row: usize| key.compare(row, key, row + 1).is_lt();
    if (0..key.len().saturating_sub(1)).all(ascending) {
        return Order::Sorted;
    }
    let count = u32::try_from(key.len()).expect("a batch has less than 2^32 rows");
    let mut rows: Vec<u32> = (0..count).collect();
    rows.sort_by(|&a, &b| key.compare(a as usize, key, b as usize));
    let mut kept: Vec<u32> = Vec::with_capacity(rows.len());
    for row in rows {
        match kept.last_mut() {
            Some(last) if key.compare(*last as usize, key, row as usize).is_eq() => *last = row,
            _ => kept.push(row),
        }
    }
    Order::Rows(kept.into())
}

/// All key columns of a row in one number that orders like the key, where they fit beside a row number.
fn pack(key: &KeyView) -> Option<Vec<u128>> {
    let widths: Vec<_> = key.columns().iter().map(width).collect::<Option<_>>()?;
    if widths.iter().map(|(bits, _)| bits).sum::<u32>() > u128::BITS - ROW_BITS {
        return None;
    }
    let mut packed = vec![0_u128; key.len()];
    for (column, (bits, base)) in key.columns().iter().zip(widths) {
        pack_column(column, bits, base, &mut packed);
    }
    Some(packed)
}

/// The bits that a column needs and the value that becomes zero.
fn width(column: &KeyColumn) -> Option<(u32, i128)> {
    fn span(values: impl Iterator<Item = i128> + Clone) -> (u32, i128) {
        let (min, max) = values.fold((i128::MAX, i128::MIN), |(min, max), v| (min.min(v), max.max(v)));
        if min > max { (0, 0) } else { (u128::BITS - (max - min).leading_zeros(), min) }
    }
    Some(match column {
        KeyColumn::Tag { values, .. } => (usize::BITS - arrow::array::Array::len(values).leading_zeros(), -1),
        KeyColumn::Bool(_) => (1, 0),
        KeyColumn::I16(values) => span(values.iter().map(|&v| v.into())),
        KeyColumn::I32(values) => span(values.iter().map(|&v| v.into())),
        KeyColumn::I64(values) => {
            let (min, max) = values.iter().fold((i64::MAX, i64::MIN), |(min, max), &v| (min.min(v), max.max(v)));
            span([i128::from(min), i128::from(max)].into_iter())
        }
        KeyColumn::U64(values) => span(values.iter().map(|&v| v.into())),
        KeyColumn::Text(_) | KeyColumn::Bytes(_) | KeyColumn::I128(_) => return None,
    })
}

fn pack_column(column: &KeyColumn, bits: u32, base: i128, packed: &mut [u128]) {
    let mut put = |row: usize, value: u64| packed[row] = (packed[row] << bits) | u128::from(value);
    let offset = |value: i128| u64::try_from(value - base).expect("a key column spans less than 2^64");
    match column {
        KeyColumn::Tag { keys, nulls, .. } => {
            for (row, &key) in keys.iter().enumerate() {
                let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                put(row, if null { 0 } else { offset(key.into()) });
            }
        }
        KeyColumn::Bool(values) => values.values().iter().enumerate().for_each(|(row, v)| put(row, v.into())),
        KeyColumn::I16(values) => values.iter().enumerate().for_each(|(row, &v)| put(row, offset(v.into()))),
        KeyColumn::I32(values) => values.iter().enumerate().for_each(|(row, &v)| put(row, offset(v.into()))),
        KeyColumn::I64(values) => {
            let base = i64::try_from(base).unwrap_or(0);
            values.iter().enumerate().for_each(|(row, &v)| put(row, v.wrapping_sub(base).cast_unsigned()));
        }
        KeyColumn::U64(values) => values.iter().enumerate().for_each(|(row, &v)| put(row, offset(v.into()))),
        KeyColumn::Text(_) | KeyColumn::Bytes(_) | KeyColumn::I128(_) => unreachable!("these have no width"),
    }
}
