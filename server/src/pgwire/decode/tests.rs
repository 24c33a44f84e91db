//! What the Rust driver's encoders write, read as parameters; and what no client should send.
//!
//! **Invariant:** every test fails when a value is read as another.

use arrow::array::{Array, AsArray};
use bytes::BytesMut;
use chrono::{DateTime, NaiveDate, Utc};
use proptest::prelude::*;
use tokio_postgres::types::ToSql;

use super::*;

fn utc() -> Tz {
    "UTC".parse().unwrap()
}

fn read(bytes: &[u8], format: Format, kind: &Type, target: DataType) -> Result<ScalarValue> {
    parameter(Some(bytes), format, kind, &FieldRef::new(Field::new("$1", target, true)), &utc())
}

fn from_driver(value: impl ToSql, kind: &Type, target: DataType) -> ScalarValue {
    let mut bytes = BytesMut::new();
    value.to_sql_checked(kind, &mut bytes).unwrap();
    read(&bytes, Format::Binary, kind, target).unwrap()
}

fn from_text(text: &str, kind: &Type, target: DataType) -> Result<ScalarValue> {
    read(text.as_bytes(), Format::Text, kind, target)
}

fn instant_type() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
}

#[test]
fn binary_numbers_become_what_the_statement_takes() {
    assert_eq!(from_driver(7i16, &Type::INT2, DataType::Int64), ScalarValue::from(7i64));
    assert_eq!(from_driver(7i64, &Type::INT8, DataType::Int32), ScalarValue::from(7i32));
    assert_eq!(from_driver(2i32, &Type::INT4, DataType::Float64), ScalarValue::from(2.0));
    assert_eq!(from_driver(1.5f32, &Type::FLOAT4, DataType::Float64), ScalarValue::from(1.5));
    assert_eq!(from_driver(true, &Type::BOOL, DataType::Boolean), ScalarValue::from(true));
    let too_large = read(&i64::MAX.to_be_bytes(), Format::Binary, &Type::INT8, DataType::Int32);
    assert!(matches!(too_large, Err(Error::NumericOutOfRange(_))));
}

#[test]
fn texts_uuids_and_json_become_text() {
    let wanted = |text: &str| ScalarValue::from(text);
    assert_eq!(from_driver("ä", &Type::TEXT, DataType::Utf8), wanted("ä"));
    let id = "01932d7a-5c00-7000-8000-000000000001";
    let uuid: uuid::Uuid = id.parse().unwrap();
    assert_eq!(from_driver(uuid, &Type::UUID, DataType::Utf8), wanted(id));
    assert_eq!(from_text(&id.to_uppercase(), &Type::UUID, DataType::Utf8).unwrap(), wanted(id));
    assert!(matches!(from_text("no uuid", &Type::UUID, DataType::Utf8), Err(Error::InvalidText(_))));
    let json = serde_json::json!({"a": 1});
    assert_eq!(from_driver(&json, &Type::JSONB, DataType::Utf8), wanted(r#"{"a":1}"#));
    assert_eq!(from_driver(&json, &Type::JSON, DataType::Utf8), wanted(r#"{"a":1}"#));
    let tag = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    assert_eq!(from_driver("h", &Type::TEXT, tag.clone()).data_type(), tag);
}

#[test]
fn times_become_microseconds_in_utc() {
    let time: DateTime<Utc> = "2026-11-23T16:00:00.5Z".parse().unwrap();
    let wanted = ScalarValue::TimestampMicrosecond(Some(1_795_449_600_500_000), Some("UTC".into()));
    assert_eq!(from_driver(time, &Type::TIMESTAMPTZ, instant_type()), wanted);
    for text in ["2026-11-23 16:00:00.5+00", "2026-11-23T17:00:00.5+01:00", "2026-11-23 16:00:00.5"] {
        assert_eq!(from_text(text, &Type::TIMESTAMPTZ, instant_type()).unwrap(), wanted, "{text}");
    }
    let date = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
    assert_eq!(from_driver(date, &Type::DATE, DataType::Date32), ScalarValue::Date32(Some(20_780)));
    assert_eq!(from_text("2026-11-23", &Type::DATE, DataType::Date32).unwrap(), ScalarValue::Date32(Some(20_780)));
    assert!(matches!(from_text("tomorrow-ish", &Type::DATE, DataType::Date32), Err(Error::InvalidText(_))));
    let infinity = read(&i64::MAX.to_be_bytes(), Format::Binary, &Type::TIMESTAMPTZ, instant_type());
    assert!(matches!(infinity, Err(Error::DatetimeOutOfRange(_))));
}

#[test]
fn numerics_keep_their_digits_where_the_column_is_decimal() {
    let decimal = DataType::Decimal128(5, 2);
    let wanted = ScalarValue::Decimal128(Some(-1250), 5, 2);
    assert_eq!(from_text("-12.5", &Type::NUMERIC, decimal.clone()).unwrap(), wanted);
    let binary = [0, 2, 0, 0, 0x40, 0, 0, 1, 0, 12, 0x13, 0x88];
    assert_eq!(read(&binary, Format::Binary, &Type::NUMERIC, decimal.clone()).unwrap(), wanted);
    let double = read(&binary, Format::Binary, &Type::NUMERIC, DataType::Float64).unwrap();
    assert_eq!(double, ScalarValue::from(-12.5));
    assert!(matches!(from_text("1000", &Type::NUMERIC, decimal), Err(Error::NumericOutOfRange(_))));
}

#[test]
fn numerics_become_unsigned_integers_whole_or_not_at_all() {
    let wanted = ScalarValue::from(u64::MAX);
    assert_eq!(from_text("18446744073709551615", &Type::NUMERIC, DataType::UInt64).unwrap(), wanted);
    let binary = [0, 5, 0, 4, 0, 0, 0, 0, 0x07, 0x34, 0x1a, 0x58, 0x02, 0xe1, 0x03, 0xbb, 0x06, 0x4f];
    assert_eq!(read(&binary, Format::Binary, &Type::NUMERIC, DataType::UInt64).unwrap(), wanted);
    for (text, target) in [
        ("-1", DataType::UInt64),
        ("18446744073709551616", DataType::UInt64),
        ("9223372036854775808", DataType::Int64),
        ("70000", DataType::Int16),
    ] {
        let error = from_text(text, &Type::NUMERIC, target).unwrap_err();
        assert!(matches!(error, Error::NumericOutOfRange(_)), "{text}: {error}");
    }
}

#[test]
fn texts_that_are_no_value_of_the_type_are_refused_with_its_code() {
    let code =
        |text: &str, kind: &Type, target: DataType| crate::error::sqlstate(&from_text(text, kind, target).unwrap_err());
    assert_eq!(code("x", &Type::INT4, DataType::Int32), "22P02");
    assert_eq!(code("99999999999", &Type::INT4, DataType::Int32), "22003");
    assert_eq!(code("99999999999999999999", &Type::INT8, DataType::Int64), "22003");
    assert_eq!(code("1e999", &Type::FLOAT8, DataType::Float64), "22003");
    assert_eq!(code("maybe", &Type::BOOL, DataType::Boolean), "22P02");
    assert_eq!(code("\\xZZ", &Type::BYTEA, DataType::Binary), "22P02");
    assert_eq!(code("a\0b", &Type::TEXT, DataType::Utf8), "22021");
}

#[test]
fn the_spellings_of_truth_and_infinity_are_understood() {
    for (text, wanted) in [("t", true), ("YES", true), (" on ", true), ("f", false), ("of", false), ("0", false)] {
        assert_eq!(from_text(text, &Type::BOOL, DataType::Boolean).unwrap(), ScalarValue::from(wanted));
    }
    let infinity = from_text("-Infinity", &Type::FLOAT8, DataType::Float64).unwrap();
    assert_eq!(infinity, ScalarValue::from(f64::NEG_INFINITY));
    assert_eq!(from_text("\\x00Ff", &Type::BYTEA, DataType::Binary).unwrap(), ScalarValue::Binary(Some(vec![0, 255])));
    let escaped = from_text("a\\134\\\\", &Type::BYTEA, DataType::Binary).unwrap();
    assert_eq!(escaped, ScalarValue::Binary(Some(b"a\\\\".to_vec())));
}

#[test]
fn a_null_has_the_type_that_the_statement_takes() {
    let field = FieldRef::new(Field::new("$1", DataType::Float64, true));
    let null = parameter(None, Format::Text, &Type::TEXT, &field, &utc()).unwrap();
    assert_eq!(null, ScalarValue::Float64(None));
}

#[test]
fn one_dimensional_arrays_are_lists() {
    let list = parameter_type(Type::TEXT_ARRAY.oid()).unwrap();
    let value = from_driver(vec![Some("a"), None], &Type::TEXT_ARRAY, list);
    let ScalarValue::List(list) = value else { panic!("no list: {value}") };
    let values = list.value(0);
    assert_eq!((values.as_string::<i32>().value(0), values.is_null(1)), ("a", true));
    let numbers = from_driver(vec![1i64, 2], &Type::INT8_ARRAY, parameter_type(Type::INT8_ARRAY.oid()).unwrap());
    assert_eq!(numbers.to_string(), "[1, 2]");
}

#[test]
fn array_texts_are_read_with_their_quotes_and_nulls() {
    let read = |text: &str| {
        let list = from_text(text, &Type::TEXT_ARRAY, parameter_type(Type::TEXT_ARRAY.oid()).unwrap());
        list.map(|value| {
            let ScalarValue::List(list) = value else { panic!("no list: {value}") };
            let values = list.value(0);
            values.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
        })
    };
    let some = |text: &str| Some(text.to_owned());
    let wanted = vec![some("a"), None, some("NULL"), some(""), some("b, \"c\\"), some("d e")];
    assert_eq!(read(r#"{a,NULL,"NULL","","b, \"c\\", d e }"#).unwrap(), wanted);
    assert_eq!(read("{}").unwrap(), []);
    for bad in ["", "a", "{a", "{a,}", "{,}", "{\"a}", "{{a}}", "{\"a\"b}"] {
        assert!(matches!(read(bad), Err(Error::InvalidText(_))), "{bad}");
    }
    let numbers = parameter_type(Type::INT8_ARRAY.oid()).unwrap();
    assert_eq!(from_text("{1, 2}", &Type::INT8_ARRAY, numbers.clone()).unwrap().to_string(), "[1, 2]");
    assert!(matches!(from_text("{1,x}", &Type::INT8_ARRAY, numbers), Err(Error::InvalidText(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        kind in proptest::sample::select(vec![
            Type::BOOL, Type::INT2, Type::INT8, Type::FLOAT4, Type::NUMERIC, Type::UUID, Type::JSONB, Type::TEXT,
            Type::TIMESTAMPTZ, Type::DATE, Type::TIME, Type::INTERVAL, Type::BYTEA, Type::INT4_ARRAY, Type::POINT,
        ]),
        binary in any::<bool>(),
    ) {
        let target = parameter_type(kind.oid()).unwrap_or(DataType::Float64);
        let format = if binary { Format::Binary } else { Format::Text };
        let _ = read(&bytes, format, &kind, target);
    }
}
