//! Shaping: widening, times, tags, refusals.

use arrow::array::{Float32Array, Int16Array, Int64Array, ListArray, StringArray, TimestampNanosecondArray};
use arrow::datatypes::TimestampMicrosecondType;

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn times() -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(vec![1_999, -1]))
}

fn wanted() -> Wanted {
    Wanted { table: "t".into(), ..Wanted::default() }
}

fn refused(batch: &RecordBatch, wanted: &Wanted, known: Option<&Known>) -> String {
    shape(batch, 10, wanted, known).unwrap_err().to_string()
}

fn known(field: &str, kind: DataType) -> Known {
    Known {
        name: "t".into(),
        time: Some("at".into()),
        tags: vec!["host".into()],
        fields: [(field.to_owned(), kind)].into(),
    }
}

#[test]
fn numbers_widen_times_round_down_and_texts_become_tags() {
    let batch = batch(vec![
        ("ts", times()),
        ("host", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("load", Arc::new(Float32Array::from(vec![0.5, f32::NAN]))),
        ("cores", Arc::new(Int16Array::from(vec![1, 2]))),
    ]);
    let incoming = shape(&batch, 0, &wanted(), None).unwrap();
    assert_eq!((incoming.time.as_str(), &incoming.tags), ("ts", &vec!["host".to_owned()]));
    assert_eq!(incoming.rows["ts"].as_primitive::<TimestampMicrosecondType>().values(), &[1, -1]);
    assert!(incoming.rows["load"].is_null(1), "NaN is a missing value");
    assert_eq!(incoming.rows["cores"].data_type(), &DataType::Int64);
    assert!(matches!(incoming.rows["host"].data_type(), DataType::Dictionary(_, _)));
    let none = shape(&batch, 0, &Wanted { tags: Some(vec![]), ..wanted() }, None).unwrap();
    assert_eq!((none.tags.len(), none.rows["host"].data_type()), (0, &DataType::Utf8));
}

#[test]
fn times_as_text_and_as_integers_are_read() {
    let texts =
        batch(vec![("timestamp", Arc::new(StringArray::from(vec!["2014-04-01 00:05:00", "2014-04-01T00:05:00Z"])))]);
    let incoming = shape(&texts, 0, &wanted(), None).unwrap();
    let micros = incoming.rows["timestamp"].as_primitive::<TimestampMicrosecondType>();
    assert_eq!(micros.value(0), micros.value(1));
    let integers = batch(vec![("time", Arc::new(Int64Array::from(vec![1, 2])))]);
    assert!(refused(&integers, &wanted(), None).contains("precision="));
    let seconds = Wanted { precision: Some(Precision::Seconds), ..wanted() };
    let incoming = shape(&integers, 0, &seconds, None).unwrap();
    assert_eq!(incoming.rows["time"].as_primitive::<TimestampMicrosecondType>().value(1), 2_000_000);
}

#[test]
fn a_time_that_is_missing_odd_or_out_of_range_is_refused_with_its_row() {
    let seconds = Wanted { precision: Some(Precision::Seconds), ..wanted() };
    let integers = batch(vec![("time", Arc::new(Int64Array::from(vec![1, i64::MAX])))]);
    assert!(refused(&integers, &seconds, None).contains("row 12"));
    let texts = batch(vec![("time", Arc::new(StringArray::from(vec![Some("2014-01-01"), None])))]);
    assert!(refused(&texts, &wanted(), None).contains("row 12"));
    let odd = batch(vec![("time", Arc::new(StringArray::from(vec!["2014-01-01", "soon"])))]);
    assert!(refused(&odd, &wanted(), None).contains("row 12"));
    let none = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
    assert!(refused(&none, &wanted(), None).contains("time=NAME"));
}

#[test]
fn nested_columns_and_infinities_are_refused_by_name() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]), None]);
    let nested = batch(vec![("ts", times()), ("items", Arc::new(list))]);
    assert!(refused(&nested, &wanted(), None).contains("\"items\" is List"));
    let infinite = batch(vec![("ts", times()), ("v", Arc::new(Float64Array::from(vec![1.0, f64::INFINITY])))]);
    assert!(refused(&infinite, &wanted(), None).contains("\"v\" is infinite in row 12"));
}

#[test]
fn an_existing_table_keeps_its_time_its_tags_and_its_types() {
    let integers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let rows =
        batch(vec![("ts", times()), ("host", Arc::new(StringArray::from(vec!["a", "b"]))), ("v", integers.clone())]);
    let incoming = shape(&rows, 0, &wanted(), Some(&known("v", DataType::Float64))).unwrap();
    assert_eq!((incoming.time.as_str(), incoming.rows["v"].data_type()), ("at", &DataType::Float64));
    let floats = batch(vec![("ts", times()), ("v", Arc::new(Float64Array::from(vec![1.5, 2.0])))]);
    assert!(refused(&floats, &wanted(), Some(&known("v", DataType::Int64))).contains("\"v\" is Int64 in the table"));
    let other = Wanted { tags: Some(vec!["v".into()]), ..wanted() };
    assert!(refused(&rows, &other, Some(&known("v", DataType::Float64))).contains("(host)"));
}

#[test]
fn a_table_with_a_primary_key_takes_no_upload() {
    let key_table = Known { name: "threat_events".into(), ..Known::default() };
    assert!(refused(&batch(vec![("ts", times())]), &wanted(), Some(&key_table)).contains("by SQL"));
}
