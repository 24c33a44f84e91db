//! Points: the lines of one text that have the same tags and time are one row.
//!
//! InfluxDB keeps the union of their fields, and writers count on it: Telegraf sends one reading of a system as several lines.
//!
//! **Invariant:** pure; the later line wins field by field, and rows of which no two are one point are not copied.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

/// The identity of a row: its time, and its tags by their places in the dictionaries, which hold each text once.
#[derive(Clone, Copy)]
struct Point<'a> {
    row: usize,
    times_us: &'a [i64],
    tags: &'a [&'a Int32Array],
}

impl Point<'_> {
    fn tags(&self) -> impl Iterator<Item = Option<i32>> {
        self.tags.iter().map(|tag| tag.is_valid(self.row).then(|| tag.value(self.row)))
    }
}

impl Hash for Point<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.times_us[self.row].hash(state);
        self.tags().for_each(|tag| tag.hash(state));
    }
}

impl PartialEq for Point<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.times_us[self.row] == other.times_us[other.row] && self.tags().eq(other.tags())
    }
}

impl Eq for Point<'_> {}

/// Makes one row of all rows of a point, where its first row stood. The first column holds the times, dictionaries are tags.
pub(super) fn merged(rows: RecordBatch) -> RecordBatch {
    let Some((places, firsts)) = places(&rows) else { return rows };
    let merge = |column: &ArrayRef| {
        let mut from = firsts.clone();
        for (row, place) in places.iter().enumerate() {
            if column.is_valid(row) {
                from[*place] = row as u32;
            }
        }
        take(column, &UInt32Array::from(from), None).expect("every index is a row")
    };
    let columns = rows.columns().iter().map(merge).collect();
    RecordBatch::try_new(rows.schema(), columns).expect("all columns were taken at one length")
}

/// Which merged row each row belongs to, and the first row of each; None where every row is a point of its own.
fn places(rows: &RecordBatch) -> Option<(Vec<usize>, Vec<u32>)> {
    let times_us: &[i64] = rows.column(0).as_primitive::<TimestampMicrosecondType>().values();
    if times_us.is_sorted_by(|before, after| before < after) {
        return None;
    }
    let tags: Vec<&Int32Array> =
        rows.columns().iter().filter_map(|column| Some(column.as_dictionary_opt::<Int32Type>()?.keys())).collect();
    let mut found = HashMap::with_capacity(times_us.len());
    let (mut places, mut firsts) = (Vec::with_capacity(times_us.len()), vec![]);
    for row in 0..times_us.len() {
        let place = *found.entry(Point { row, times_us, tags: &tags }).or_insert(firsts.len());
        if place == firsts.len() {
            firsts.push(row as u32);
        }
        places.push(place);
    }
    (firsts.len() < places.len()).then_some((places, firsts))
}
