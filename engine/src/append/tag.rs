//! Dictionaries of tags: sorted, without strings that no row uses.
//!
//! **Invariant:** equal strings have one entry, so that keys of one dictionary order like their strings.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int32Type;

use crate::Result;

/// The same tags over a sorted dictionary of just the strings in use.
pub(super) fn compact(tags: &ArrayRef) -> Result<ArrayRef> {
    let tags = tags.as_dictionary::<Int32Type>();
    let values = tags.values().as_string::<i32>();
    let keys = tags.keys();
    let position = |row: usize| {
        let position = keys.is_valid(row).then(|| usize::try_from(keys.value(row)).expect("keys are not negative"))?;
        values.is_valid(position).then_some(position)
    };
    let mut used = vec![false; values.len()];
    let mut last = None;
    for row in 0..keys.len() {
        let position = position(row);
        if let Some(position) = position.filter(|_| position != last) {
            used[position] = true;
        }
        last = position;
    }
    let (sorted, renumbered) = sort(values, &used);
    let fresh = (0..keys.len()).map(|row| position(row).map_or(0, |position| renumbered[position])).collect::<Vec<_>>();
    let nulls = match (keys.null_count(), values.null_count()) {
        (0, 0) => None,
        (_, 0) => keys.nulls().cloned(),
        _ => Some(NullBuffer::from_iter((0..keys.len()).map(|row| position(row).is_some()))),
    };
    Ok(Arc::new(DictionaryArray::try_new(Int32Array::new(fresh.into(), nulls), Arc::new(sorted))?))
}

/// The used strings in order, and for each string its new position.
fn sort(values: &StringArray, used: &[bool]) -> (StringArray, Vec<i32>) {
    let mut order: Vec<usize> = (0..values.len()).filter(|&position| used[position]).collect();
    order.sort_unstable_by(|&a, &b| values.value(a).cmp(values.value(b)));
    let mut renumbered = vec![0; values.len()];
    let mut sorted: Vec<&str> = Vec::with_capacity(order.len());
    for position in order {
        let value = values.value(position);
        if sorted.last() != Some(&value) {
            sorted.push(value);
        }
        renumbered[position] = i32::try_from(sorted.len() - 1).expect("no more strings than the dictionary had");
    }
    (StringArray::from(sorted), renumbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_keeps_the_strings_in_use_once_and_sorted() {
        let values = StringArray::from(vec![Some("b"), Some("unused"), Some("a"), Some("b"), None]);
        let keys = Int32Array::from(vec![Some(0), Some(3), None, Some(2), Some(4)]);
        let tags: ArrayRef = Arc::new(DictionaryArray::try_new(keys, Arc::new(values)).unwrap());
        let compact = compact(&tags).unwrap();
        let compact = compact.as_dictionary::<Int32Type>();
        assert_eq!(compact.values().as_string::<i32>(), &StringArray::from(vec!["a", "b"]));
        assert_eq!(compact.keys(), &Int32Array::from(vec![Some(1), Some(1), None, Some(0), None]));
    }
}
