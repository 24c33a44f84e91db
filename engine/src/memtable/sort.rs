//! The order of rows by key.
//!
//! **Invariant:** of rows with one key the last stands for it; those before it are listed apart, so that keys that come
//! once cost nothing more.

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder, UInt32Array};

use crate::key::{KeyColumn, KeyView};

/// Bits of a packed key that are left for the row's number.
const ROW_BITS: u32 = 32;

/// How to bring rows into key order.
pub(super) enum Order {
    /// They are in order, and no key comes twice.
    Sorted,
    /// These rows, in this order.
    Rows(Versions),
}

/// Rows by key.
#[derive(Debug)]
pub(super) struct Versions {
    /// The newest row of each key, in key order.
    newest: Vec<u32>,
    /// For keys that come more than once.
    older: Vec<Older>,
}

/// The older rows of one key.
#[derive(Debug)]
struct Older {
    /// The key's place among the newest rows.
    at: usize,
    /// The oldest first.
    rows: Vec<u32>,
}

impl Versions {
    fn with_capacity(rows: usize) -> Self {
        Self { newest: Vec::with_capacity(rows), older: Vec::new() }
    }

    /// Adds the next row; whether its key is that of the row before it.
    fn push(&mut self, row: u32, same_key: bool) {
        let Some(last) = self.newest.last_mut().filter(|_| same_key) else {
            self.newest.push(row);
            return;
        };
        let before = std::mem::replace(last, row);
        let at = self.newest.len() - 1;
        match self.older.last_mut().filter(|older| older.at == at) {
            Some(older) => older.rows.push(before),
            None => self.older.push(Older { at, rows: vec![before] }),
        }
    }

    /// One row per key, the newest, whatever came before it.
    pub(super) fn replaced(self) -> Settled {
        Settled { newest: self.newest.into(), older: Vec::new(), whole: None }
    }

    /// One row per key, the newest, which takes on what it lacks from those before it, back to a deletion.
    pub(super) fn merged(mut self, deleted: Option<&BooleanArray>) -> Settled {
        let whole = deleted.map(|deleted| self.hide_deleted(deleted));
        Settled { newest: self.newest.into(), older: self.older, whole }
    }

    /// Forgets older rows that a deletion hides; answers which of the newest rows stand over one.
    fn hide_deleted(&mut self, deleted: &BooleanArray) -> BooleanArray {
        let deleted = |&row: &u32| deleted.value(row as usize);
        let mut whole = BooleanBufferBuilder::new(self.newest.len());
        whole.append_n(self.newest.len(), false);
        for older in &mut self.older {
            if deleted(&self.newest[older.at]) {
                older.rows.clear();
            } else if let Some(last) = older.rows.iter().rposition(deleted) {
                older.rows.drain(..=last);
                whole.set_bit(older.at, true);
            }
        }
        BooleanArray::new(whole.finish(), None)
    }
}

/// Which row stands for each key.
#[derive(Debug)]
pub(super) struct Settled {
    /// The newest of each key, in key order.
    pub(super) newest: UInt32Array,
    /// Rows that show through these.
    older: Vec<Older>,
    /// The newest rows over a deletion.
    pub(super) whole: Option<BooleanArray>,
}

impl Settled {
    /// For each key the row that gives the value of a column: the newest that has one, or else the newest.
    pub(super) fn rows(&self, column: &ArrayRef) -> UInt32Array {
        if self.older.is_empty() || column.null_count() == 0 {
            return self.newest.clone();
        }
        let valid = |row: u32| column.is_valid(row as usize);
        let mut rows = self.newest.values().to_vec();
        for older in self.older.iter().filter(|older| !valid(self.newest.value(older.at))) {
            if let Some(&row) = older.rows.iter().rev().find(|&&row| valid(row)) {
                rows[older.at] = row;
            }
        }
        rows.into()
    }
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
    let mut versions = Versions::with_capacity(packed.len());
    let mut before = None;
    for key in packed {
        let row = u32::try_from(key & u128::from(u32::MAX)).expect("the low half is a row number");
        versions.push(row, before == Some(key >> ROW_BITS));
        before = Some(key >> ROW_BITS);
    }
    Order::Rows(versions)
}

fn order_compared(key: &KeyView) -> Order {
    let ascending = |row: usize| key.compare(row, key, row + 1).is_lt();
    if (0..key.len().saturating_sub(1)).all(ascending) {
        return Order::Sorted;
    }
    let count = u32::try_from(key.len()).expect("a batch has less than 2^32 rows");
    let mut rows: Vec<u32> = (0..count).collect();
    rows.sort_by(|&a, &b| key.compare(a as usize, key, b as usize));
    let mut versions = Versions::with_capacity(rows.len());
    for row in rows {
        let before = versions.newest.last().copied();
        versions.push(row, before.is_some_and(|before| key.compare(before as usize, key, row as usize).is_eq()));
    }
    Order::Rows(versions)
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
        KeyColumn::Tag { values, .. } => (usize::BITS - Array::len(values).leading_zeros(), -1),
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
