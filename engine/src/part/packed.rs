//! Columns of a part in memory, small: what sorted telemetry repeats is not kept twice.
//!
//! Tags are runs of one value, times are runs of one step, doubles that are decimals and integers are kept as narrow
//! integers. Everything else is kept as it is.
//!
//! **Invariant:** what comes out is bit by bit what went in.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::array::{BooleanBufferBuilder, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};

use crate::{Result, TimeRange};

/// The most digits behind the point of a double that is kept as an integer.
const DIGITS_MAX: usize = 4;
/// Ten to the power of the digits.
const POWERS: [f64; DIGITS_MAX + 1] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// Times are kept as steps where a run of them has so many rows on average.
const STEP_ROWS_MIN: usize = 8;
/// Adding and taking this away rounds a double of less than 2^51 to an integer.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Some rows of one column.
#[derive(Debug)]
pub(crate) enum Packed {
    /// As they are.
    Plain(ArrayRef),
    /// Runs of one tag.
    Tags(Tags),
    /// Runs of times of one distance.
    Times(Times),
    /// Doubles, times a power of ten.
    Doubles { values: Narrow, power: f64, nulls: Option<NullBuffer> },
    /// Integers of 64 bits.
    Integers { values: Narrow, nulls: Option<NullBuffer> },
}

/// Runs of one tag: run `i` is rows `ends[i - 1]..ends[i]`.
#[derive(Debug)]
pub(crate) struct Tags {
    pub(super) ends: Vec<usize>,
    /// Which of the values; negative where null.
    pub(super) keys: Vec<i32>,
    pub(super) values: Arc<StringArray>,
}

/// Runs of times of one distance.
#[derive(Debug)]
pub(crate) struct Times {
    pub(super) ends: Vec<usize>,
    pub(super) firsts: Vec<i64>,
    pub(super) steps: Vec<i64>,
    data_type: DataType,
}

/// Integers in as few bytes as the largest needs.
#[derive(Debug)]
pub(crate) enum Narrow {
    One(Vec<i8>),
    Two(Vec<i16>),
    Four(Vec<i32>),
}

impl Packed {
    /// Packs rows that come in pieces; all are of one type.
    pub(super) fn new(pieces: &[ArrayRef]) -> Result<Self> {
        let arrays: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
        let Some(first) = arrays.first() else { return Ok(Self::Plain(Arc::new(Int32Array::new_null(0)))) };
        if matches!(first.data_type(), DataType::Dictionary(_, _)) {
            return Ok(Self::Tags(Tags::new(pieces)));
        }
        let whole = concat(&arrays)?;
        let packed = match whole.data_type() {
            DataType::Timestamp(_, _) => Times::new(&whole).map(Self::Times),
            DataType::Float64 => doubles(whole.as_primitive::<Float64Type>()),
            DataType::Int64 => {
                let integers = whole.as_primitive::<Int64Type>();
                let narrow = Narrow::new(integers.values());
                narrow.map(|values| Self::Integers { values, nulls: integers.nulls().cloned() })
            }
            _ => None,
        };
        Ok(packed.unwrap_or(Self::Plain(whole)))
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let bits = |nulls: &Option<NullBuffer>| nulls.as_ref().map_or(0, |nulls| nulls.len() / 8);
        let own = match self {
            Self::Plain(array) => array.get_array_memory_size(),
            Self::Tags(tags) => tags.ends.capacity() * 12 + tags.values.get_array_memory_size(),
            Self::Times(times) => times.ends.capacity() * 24,
            Self::Doubles { values, nulls, .. } | Self::Integers { values, nulls } => values.bytes() + bits(nulls),
        };
        own + size_of::<Self>()
    }

    /// The rows of some ranges, one after the other; `rows` in all.
    pub(super) fn unpack(&self, ranges: &[Range<usize>], rows: usize) -> Result<ArrayRef> {
        Ok(match self {
            Self::Plain(array) => match ranges {
                [range] => array.slice(range.start, range.len()),
                _ => {
                    let pieces: Vec<_> = ranges.iter().map(|range| array.slice(range.start, range.len())).collect();
                    concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())?
                }
            },
            Self::Tags(tags) => tags.unpack(ranges, rows),
            Self::Times(times) => times.unpack(ranges, rows),
            Self::Doubles { values, power, nulls } => {
                let doubles = match *power {
                    1.0 => values.unpack(ranges, rows, f64::from),
                    power => values.unpack(ranges, rows, |value| f64::from(value) / power),
                };
                Arc::new(Float64Array::new(doubles.into(), valid(nulls.as_ref(), ranges, rows)))
            }
            Self::Integers { values, nulls } => {
                let integers = values.unpack(ranges, rows, i64::from);
                Arc::new(Int64Array::new(integers.into(), valid(nulls.as_ref(), ranges, rows)))
            }
        })
    }
}

/// The validity of the rows of some ranges.
fn valid(nulls: Option<&NullBuffer>, ranges: &[Range<usize>], rows: usize) -> Option<NullBuffer> {
    let nulls = nulls?;
    if let [range] = ranges {
        return Some(nulls.slice(range.start, range.len()));
    }
    let mut bits = BooleanBufferBuilder::new(rows);
    for range in ranges {
        bits.append_buffer(nulls.slice(range.start, range.len()).inner());
    }
    Some(NullBuffer::new(bits.finish()))
}

fn doubles(array: &Float64Array) -> Option<Packed> {
    let mut integers = Vec::with_capacity(array.len());
    for power in POWERS {
        integers.clear();
        let mut exact = true;
        // In blocks, so that a wrong power is given up early and the rest has no branches.
        for block in array.values().chunks(256) {
            for &value in block {
                let rounded = (value * power + ROUND) - ROUND;
                #[expect(clippy::cast_possible_truncation, reason = "what does not come back the same is not packed")]
                let integer = rounded as i32;
                exact &= (f64::from(integer) / power).to_bits() == value.to_bits();
                integers.push(integer);
            }
            if !exact {
                break;
            }
        }
        if exact {
            let nulls = array.nulls().cloned();
            return Some(Packed::Doubles { values: Narrow::of(integers), power, nulls });
        }
    }
    None
}

impl Narrow {
    /// None where a value needs more than four bytes.
    fn new(values: &[i64]) -> Option<Self> {
        values.iter().map(|&value| i32::try_from(value).ok()).collect::<Option<Vec<_>>>().map(Self::of)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the least and the greatest were looked at")]
    fn of(values: Vec<i32>) -> Self {
        let (min, max) = values.iter().fold((0, 0), |(min, max), &value| (value.min(min), value.max(max)));
        let fits = |least: i32, most: i32| least <= min && max <= most;
        if fits(i8::MIN.into(), i8::MAX.into()) {
            Self::One(values.into_iter().map(|value| value as i8).collect())
        } else if fits(i16::MIN.into(), i16::MAX.into()) {
            Self::Two(values.into_iter().map(|value| value as i16).collect())
        } else {
            Self::Four(values)
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::One(values) => values.capacity(),
            Self::Two(values) => values.capacity() * 2,
            Self::Four(values) => values.capacity() * 4,
        }
    }

    fn unpack<T>(&self, ranges: &[Range<usize>], rows: usize, convert: impl Fn(i32) -> T) -> Vec<T> {
        let mut out = Vec::with_capacity(rows);
        for range in ranges.iter().cloned() {
            match self {
                Self::One(values) => out.extend(values[range].iter().map(|&value| convert(value.into()))),
                Self::Two(values) => out.extend(values[range].iter().map(|&value| convert(value.into()))),
                Self::Four(values) => out.extend(values[range].iter().map(|&value| convert(value))),
            }
        }
        out
    }
}

/// Calls `give` with the number and the rows of each run within a range.
fn runs_within(ends: &[usize], range: &Range<usize>, mut give: impl FnMut(usize, Range<usize>)) {
    let mut row = range.start;
    let mut run = ends.partition_point(|&end| end <= row);
    while row < range.end {
        let end = ends[run].min(range.end);
        give(run, row..end);
        (row, run) = (end, run + 1);
    }
}

impl Tags {
    fn new(pieces: &[ArrayRef]) -> Self {
        let (mut ends, mut keys, mut strings) = (Vec::new(), Vec::new(), Vec::new());
        let mut numbers: HashMap<String, i32> = HashMap::new();
        let mut rows = 0;
        for piece in pieces {
            let tags = piece.as_dictionary::<Int32Type>();
            let (source, values) = (tags.keys(), tags.values().as_string::<i32>());
            let mut row = 0;
            while row < source.len() {
                let null = source.is_null(row);
                let same = |next: usize| {
                    source.is_null(next) == null && (null || source.values()[next] == source.values()[row])
                };
                let end = (row + 1..source.len()).find(|&next| !same(next)).unwrap_or(source.len());
                let key = if null {
                    -1
                } else {
                    let value = usize::try_from(source.value(row)).expect("dictionary keys are not negative");
                    let text = values.value(value);
                    *numbers.entry(text.to_owned()).or_insert_with(|| {
                        strings.push(text.to_owned());
                        i32::try_from(strings.len() - 1).expect("fewer values than rows")
                    })
                };
                if keys.last() == Some(&key) {
                    ends.pop();
                    keys.pop();
                }
                ends.push(rows + end);
                keys.push(key);
                row = end;
            }
            rows += source.len();
        }
        ends.shrink_to_fit();
        keys.shrink_to_fit();
        Self { ends, keys, values: Arc::new(StringArray::from(strings)) }
    }

    fn unpack(&self, ranges: &[Range<usize>], rows: usize) -> ArrayRef {
        let mut keys = Vec::with_capacity(rows);
        for range in ranges {
            runs_within(&self.ends, range, |run, rows| keys.resize(keys.len() + rows.len(), self.keys[run]));
        }
        let nulls = self.keys.contains(&-1).then(|| keys.iter().map(|&key| key >= 0).collect::<NullBuffer>());
        if nulls.is_some() {
            keys.iter_mut().for_each(|key| *key = (*key).max(0));
        }
        let keys = Int32Array::new(ScalarBuffer::from(keys), nulls);
        let tags = DictionaryArray::try_new(keys, Arc::clone(&self.values) as ArrayRef);
        Arc::new(tags.expect("each key is the number of a value"))
    }

    /// The rows among `within` whose value is among some sorted ones.
    pub(super) fn select(&self, any_of: &[String], within: &[Range<usize>]) -> Vec<Range<usize>> {
        let wanted = |text: &str| any_of.binary_search_by(|other| other.as_str().cmp(text)).is_ok();
        let wanted: Vec<bool> = self.values.iter().map(|text| text.is_some_and(wanted)).collect();
        let mut found = Vec::new();
        for range in within {
            runs_within(&self.ends, range, |run, rows| {
                if usize::try_from(self.keys[run]).is_ok_and(|key| wanted[key]) {
                    append(&mut found, rows);
                }
            });
        }
        found
    }
}

impl Times {
    /// None where there are no steps worth it.
    fn new(array: &ArrayRef) -> Option<Self> {
        let times = array.as_primitive::<TimestampMicrosecondType>();
        if times.null_count() > 0 {
            return None;
        }
        let times = times.values();
        let (mut ends, mut firsts, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = 0;
        while row < times.len() {
            let first = times[row];
            let step = times.get(row + 1).map_or(0, |next| next.wrapping_sub(first));
            let mut end = (row + 1).min(times.len());
            while end < times.len() && times[end].wrapping_sub(times[end - 1]) == step {
                end += 1;
            }
            ends.push(end);
            firsts.push(first);
            steps.push(step);
            row = end;
            if ends.len() > 64 && ends.len() * STEP_ROWS_MIN > row {
                return None;
            }
        }
        ends.shrink_to_fit();
        firsts.shrink_to_fit();
        steps.shrink_to_fit();
        Some(Self { ends, firsts, steps, data_type: array.data_type().clone() })
    }

    fn at(&self, run: usize, row: usize) -> i64 {
        let start = run.checked_sub(1).map_or(0, |before| self.ends[before]);
        let steps = i64::try_from(row - start).expect("rows are few");
        self.firsts[run].wrapping_add(self.steps[run].wrapping_mul(steps))
    }

    fn unpack(&self, ranges: &[Range<usize>], rows: usize) -> ArrayRef {
        let mut times = Vec::with_capacity(rows);
        for range in ranges {
            runs_within(&self.ends, range, |run, rows| {
                let (first, step) = (self.at(run, rows.start), self.steps[run]);
                let count = i64::try_from(rows.len()).expect("rows are few");
                times.extend((0..count).map(|number| first.wrapping_add(step.wrapping_mul(number))));
            });
        }
        Arc::new(TimestampMicrosecondArray::from(times).with_data_type(self.data_type.clone()))
    }

    /// The rows among `within` whose time is in a range.
    pub(super) fn select(&self, wanted: TimeRange, within: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for range in within {
            runs_within(&self.ends, range, |run, rows| {
                let (first, step) = (self.at(run, rows.start), self.steps[run]);
                if step <= 0 {
                    let inside = rows.filter(|&row| wanted.contains(self.at(run, row)));
                    return inside.for_each(|row| append(&mut found, row..row + 1));
                }
                let before = |time: i64| rows_before(time, first, step).min(rows.len());
                let end = if wanted.to == i64::MAX { rows.len() } else { before(wanted.to) };
                let start = before(wanted.from);
                if start < end {
                    append(&mut found, rows.start + start..rows.start + end);
                }
            });
        }
        found
    }
}

/// How many times `first`, `first + step`, … lie before a time; steps are positive.
fn rows_before(time: i64, first: i64, step: i64) -> usize {
    let distance = i128::from(time) - i128::from(first);
    let step = i128::from(step);
    usize::try_from((distance + step - 1).div_euclid(step).max(0)).unwrap_or(usize::MAX)
}

/// Adds a range behind others, to the last where they touch.
pub(super) fn append(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(array: ArrayRef) -> Packed {
        let half = array.len() / 2;
        let pieces = [array.slice(0, half), array.slice(half, array.len() - half)];
        let packed = Packed::new(&pieces).unwrap();
        let whole = std::slice::from_ref(&(0..array.len())).to_vec();
        assert_eq!(packed.unpack(&whole, array.len()).unwrap().as_ref(), array.as_ref());
        let ranges: Vec<Range<usize>> =
            (0..array.len()).step_by(3).map(|row| row..(row + 2).min(array.len())).collect();
        let rows = ranges.iter().map(Range::len).sum();
        let expected: Vec<_> = ranges.iter().map(|range| array.slice(range.start, range.len())).collect();
        let unpacked = packed.unpack(&ranges, rows).unwrap();
        match expected.iter().map(AsRef::as_ref).collect::<Vec<_>>().as_slice() {
            [] => assert_eq!(unpacked.len(), 0),
            expected => {
                let utf8 = |array: &dyn Array| match array.data_type() {
                    DataType::Dictionary(_, _) => arrow::compute::cast(array, &DataType::Utf8).unwrap(),
                    _ => arrow::array::make_array(array.to_data()),
                };
                assert_eq!(utf8(unpacked.as_ref()).as_ref(), utf8(concat(expected).unwrap().as_ref()).as_ref());
            }
        }
        packed
    }

    fn bits(packed: &Packed, len: usize) -> Vec<u64> {
        let whole = packed.unpack(std::slice::from_ref(&(0..len)), len).unwrap();
        whole.as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn any_double_comes_back_bit_by_bit(
            plain in prop::collection::vec(prop_oneof![any::<f64>(), Just(-0.0), Just(f64::NAN), Just(1e300)], 0..600),
            decimals in prop::collection::vec(-3_000_000_i32..3_000_000, 1..600),
            power in 0..POWERS.len(),
        ) {
            let packed = Packed::new(&[Arc::new(Float64Array::from(plain.clone())) as ArrayRef]).unwrap();
            prop_assert_eq!(bits(&packed, plain.len()), plain.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            let decimals: Vec<f64> = decimals.iter().map(|&v| f64::from(v) / POWERS[power]).collect();
            let packed = round_trip(Arc::new(Float64Array::from(decimals.clone())));
            let small = matches!(packed, Packed::Doubles { .. });
            prop_assert!(small);
            prop_assert_eq!(bits(&packed, decimals.len()), decimals.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }

        #[test]
        fn tags_integers_and_times_come_back(
            tags in prop::collection::vec((prop::option::of(0..3_u8), 1..20_usize), 1..30),
            values in prop::collection::vec(prop::option::of(any::<i64>()), 1..200),
            small in prop::collection::vec(prop::option::of(-40_000_i64..40_000), 1..200),
            steps in prop::collection::vec((any::<i64>(), -5_i64..5, 1..30_i64), 1..9),
        ) {
            let names = ["a", "b", ""];
            let tags = tags.iter().flat_map(|&(tag, count)| std::iter::repeat_n(tag.map(|t| names[usize::from(t)]), count));
            round_trip(Arc::new(tags.collect::<DictionaryArray<Int32Type>>()));
            round_trip(Arc::new(Int64Array::from(values)));
            let narrow = matches!(round_trip(Arc::new(Int64Array::from(small))), Packed::Integers { .. });
            prop_assert!(narrow);
            let times: Vec<i64> = steps
                .iter()
                .flat_map(|&(first, step, count)| (0..count).map(move |n| first.wrapping_add(step.wrapping_mul(n))))
                .collect();
            round_trip(Arc::new(TimestampMicrosecondArray::from(times).with_timezone("+00:00")));
        }

        #[test]
        fn times_are_selected_as_if_each_row_were_looked_at(
            steps in prop::collection::vec((-100_i64..100, -2_i64..5, 1..30_i64), 1..9),
            from in -120_i64..200,
            len in prop_oneof![0_i64..300, Just(i64::MAX)],
            skip in 0..5_usize,
        ) {
            let times: Vec<i64> =
                steps.iter().flat_map(|&(first, step, count)| (0..count).map(move |n| first + step * n)).collect();
            let wanted = TimeRange { from, to: from.saturating_add(len) };
            let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.clone()));
            let Some(packed) = Times::new(&array) else { return Ok(()) };
            let skip = skip.min(times.len());
            let found = packed.select(wanted, std::slice::from_ref(&(skip..times.len())));
            let found: Vec<usize> = found.into_iter().flatten().collect();
            let expected: Vec<usize> = (skip..times.len()).filter(|&row| wanted.contains(times[row])).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
