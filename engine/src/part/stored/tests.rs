//! **Invariant:** doubles go through and come back bit by bit, or stay doubles.

use arrow::array::{Int64Array, RecordBatch};

use super::*;
use crate::schema::TableSchema;
use crate::{Column, TableKind};

fn batch(column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("v", column, true)]).unwrap()
}

/// How a part stores these columns, having read them back.
fn through(pieces: &[ArrayRef]) -> DataType {
    let kind = pieces[0].data_type().clone();
    let columns = vec![Column::new("k", DataType::Int32, false), Column::new("v", kind.clone(), true)];
    let table = TableSchema { name: "t".into(), columns, key: vec![0], kind: TableKind::Keyed, retention: None };
    let mut profile = Profile::new(&table, &batch(Arc::clone(&pieces[0])).schema());
    pieces.iter().for_each(|piece| profile.add(&batch(Arc::clone(piece))));
    let stored = profile.stored();
    for piece in pieces {
        let back = restore(store(&batch(Arc::clone(piece)), &stored).unwrap()).unwrap();
        assert_eq!(back.column(0).data_type(), &kind);
        let bits = |array: &ArrayRef| match kind {
            DataType::Float64 => array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect(),
            _ => array.as_primitive::<Int64Type>().iter().map(|v| v.map(i64::cast_unsigned)).collect::<Vec<_>>(),
        };
        assert_eq!(bits(back.column(0)), bits(piece));
    }
    stored.field(0).data_type().clone()
}

fn doubles(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

#[test]
fn doubles_that_are_decimals_are_stored_with_the_scale_that_they_need() {
    assert_eq!(through(&[doubles((-500..500).map(f64::from))]), DataType::Decimal32(9, 0));
    assert_eq!(through(&[doubles((-5000..5000).map(|i| f64::from(i) / 100.0))]), DataType::Decimal32(9, 2));
    assert_eq!(through(&[doubles([1.0, 2.0]), doubles([0.001, 3.5])]), DataType::Decimal32(9, 3));
    assert_eq!(through(&[doubles([0.1]), doubles([123_456_789.0])]), DataType::Decimal64(18, 1));
    assert_eq!(through(&[doubles([1e15, -1e15])]), DataType::Decimal64(18, 0));
    assert_eq!(through(&[doubles([0.000_000_001, 999_999.0])]), DataType::Decimal64(18, 9));
    let gaps: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.25), None, Some(-7.0)]));
    assert_eq!(through(&[gaps]), DataType::Decimal32(9, 2));
    assert_eq!(through(&[Arc::new(Float64Array::from(vec![None, None])) as ArrayRef]), DataType::Decimal32(9, 0));
}

#[test]
fn one_value_that_is_no_decimal_keeps_all_doubles() {
    let neighbour = f64::from_bits(0.1_f64.to_bits() + 1);
    for odd in [-0.0, f64::NAN, f64::INFINITY, -f64::INFINITY, 1e16, 1e-10, neighbour, f64::MIN_POSITIVE, 2e15 + 1.0] {
        assert_eq!(through(&[doubles([1.0, 2.5]), doubles((0..3000).map(f64::from).chain([odd]))]), DataType::Float64);
        assert_eq!(through(&[doubles([odd]), doubles([1.0])]), DataType::Float64, "{odd}");
    }
    // Each is a decimal, but together they need more digits than there are.
    assert_eq!(through(&[doubles([1e15]), doubles([0.5])]), DataType::Float64);
}

#[test]
fn small_integers_are_stored_narrow() {
    let integers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    assert_eq!(through(&[integers(vec![1, -5]), integers(vec![i32::MAX.into()])]), DataType::Int32);
    assert_eq!(through(&[integers(vec![1]), integers(vec![i64::from(i32::MAX) + 1])]), DataType::Int64);
    assert_eq!(through(&[integers(vec![i64::MIN])]), DataType::Int64);
}

#[test]
fn storing_checks_every_value_again() {
    let stored = Arc::new(Schema::new(vec![Field::new("v", DataType::Decimal32(9, 1), true)]));
    assert!(store(&batch(doubles([0.5])), &stored).is_ok());
    for odd in [0.25, -0.0, f64::NAN, 1e9] {
        assert!(store(&batch(doubles([0.5, odd])), &stored).is_err(), "{odd}");
    }
}

proptest::proptest! {
    #[test]
    fn any_doubles_come_back_as_they_were(values in proptest::collection::vec(proptest::num::f64::ANY, 1..50), scale in 0..12_i32) {
        through(&[doubles(values.clone())]);
        through(&[doubles(values.iter().map(|v| (v % 1e6 * 10_f64.powi(scale)).round() / 10_f64.powi(scale)))]);
    }
}
