//! What the encoder writes, read back by the decoders of the Rust driver and compared with PostgreSQL's own spelling.
//!
//! **Invariant:** every test fails when its value is written in another form.

use std::collections::HashMap;

use arrow::array::*;
use arrow::datatypes::*;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use tokio_postgres::types::{FromSqlOwned, Type};

use super::*;
use crate::pgwire::numeric;

/// One row of one column as the client gets it: None for a null.
fn encoded(array: ArrayRef, metadata: &str, format: i16) -> Result<Option<Vec<u8>>> {
    let metadata = HashMap::from([("juno.type".to_owned(), metadata.to_owned())]);
    let field = Field::new("c", array.data_type().clone(), true).with_metadata(metadata);
    let schema = SchemaRef::new(Schema::new(vec![field]));
    let columns = Column::all(&schema, &[format])?.into();
    let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
    let mut encoder = Encoder::new(columns, "UTC".parse().unwrap());
    let chunk = encoder.chunks(&batch)?.next().unwrap()?;
    let message = &chunk.bytes[..chunk.ends[0]];
    assert_eq!((message[0], &message[5..7]), (b'D', &[0, 1][..]));
    assert_eq!(u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize, message.len() - 1);
    let length = i32::from_be_bytes(message[7..11].try_into().unwrap());
    assert_eq!(message.len() - 11, usize::try_from(length).unwrap_or(0));
    Ok((length >= 0).then(|| message[11..].to_vec()))
}

fn text(array: impl Array + 'static) -> String {
    String::from_utf8(encoded(Arc::new(array), "", 0).unwrap().expect("not null")).unwrap()
}

fn binary<T: FromSqlOwned>(array: impl Array + 'static, metadata: &str, kind: &Type) -> T {
    assert!(T::accepts(kind));
    let bytes = encoded(Arc::new(array), metadata, 1).unwrap().expect("not null");
    T::from_sql(kind, &bytes).unwrap()
}

#[test]
fn numbers_read_back_in_binary() {
    assert_eq!(binary::<i16>(Int8Array::from(vec![-5]), "", &Type::INT2), -5);
    assert_eq!(binary::<i16>(UInt8Array::from(vec![255]), "", &Type::INT2), 255);
    assert_eq!(binary::<i32>(UInt16Array::from(vec![65_535]), "", &Type::INT4), 65_535);
    assert_eq!(binary::<i32>(Int32Array::from(vec![i32::MIN]), "", &Type::INT4), i32::MIN);
    assert_eq!(binary::<i64>(UInt32Array::from(vec![u32::MAX]), "", &Type::INT8), i64::from(u32::MAX));
    assert_eq!(binary::<f32>(Float32Array::from(vec![1.5]), "", &Type::FLOAT4), 1.5);
    assert!(binary::<f64>(Float64Array::from(vec![f64::NAN]), "", &Type::FLOAT8).is_nan());
    assert!(binary::<bool>(BooleanArray::from(vec![true]), "", &Type::BOOL));
}

#[test]
fn unsigned_values_are_numeric_so_that_none_is_out_of_range() {
    for value in [0, 7, 10_000, u64::MAX] {
        let array: ArrayRef = Arc::new(UInt64Array::from(vec![value]));
        assert_eq!(text(array.clone()), value.to_string());
        let bytes = encoded(array, "", 1).unwrap().expect("not null");
        assert_eq!(numeric::text_of_binary(&bytes).unwrap(), value.to_string());
    }
    let list = ListArray::from_iter_primitive::<UInt64Type, _, _>(vec![Some(vec![Some(u64::MAX), None])]);
    assert_eq!(text(list), "{18446744073709551615,NULL}");
}

#[test]
fn text_types_read_back_in_binary() {
    assert_eq!(binary::<String>(StringArray::from(vec!["ä"]), "", &Type::TEXT), "ä");
    assert_eq!(binary::<String>(LargeStringArray::from(vec!["b"]), "varchar(5)", &Type::VARCHAR), "b");
    assert_eq!(binary::<String>(StringViewArray::from(vec!["c"]), "", &Type::TEXT), "c");
    let id = "01932d7a-5c00-7000-8000-000000000001";
    assert_eq!(binary::<uuid::Uuid>(StringArray::from(vec![id]), "uuid", &Type::UUID).to_string(), id);
    let json = StringArray::from(vec![r#"{"a":[1,null]}"#]);
    let wanted = serde_json::json!({"a": [1, null]});
    assert_eq!(binary::<serde_json::Value>(json.clone(), "jsonb", &Type::JSONB), wanted);
    assert_eq!(binary::<serde_json::Value>(json, "json", &Type::JSON), wanted);
    assert_eq!(binary::<Vec<u8>>(BinaryArray::from_vec(vec![b"\0\xff"]), "", &Type::BYTEA), b"\0\xff");
    assert_eq!(text(BinaryArray::from_vec(vec![b"\0\xff"])), "\\x00ff");
}

#[test]
fn a_dictionary_is_sent_as_its_value_and_its_null_as_null() {
    let values = Arc::new(StringArray::from(vec![Some("host_7"), None]));
    let tags = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![Some(0), Some(1), None]), values);
    assert_eq!(text(tags.slice(0, 1)), "host_7");
    assert_eq!(binary::<String>(tags.slice(0, 1), "", &Type::TEXT), "host_7");
    for row in [1, 2] {
        assert_eq!(encoded(Arc::new(tags.slice(row, 1)), "", 1).unwrap(), None);
    }
    assert_eq!(encoded(Arc::new(NullArray::new(1)), "", 0).unwrap(), None);
}

#[test]
fn times_of_every_unit_are_the_same_instant() {
    let second = 1_795_449_600;
    let wanted = DateTime::<Utc>::from_timestamp(second, 0).unwrap();
    let arrays: [ArrayRef; 4] = [
        Arc::new(TimestampSecondArray::from(vec![second]).with_timezone("UTC")),
        Arc::new(TimestampMillisecondArray::from(vec![second * 1_000]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![second * 1_000_000]).with_timezone("UTC")),
        Arc::new(TimestampNanosecondArray::from(vec![second * 1_000_000_000]).with_timezone("+00:00")),
    ];
    for array in arrays {
        let bytes = encoded(array.clone(), "", 1).unwrap().unwrap();
        assert_eq!(<DateTime<Utc> as FromSqlOwnedExt>::read(&Type::TIMESTAMPTZ, &bytes), wanted);
        assert_eq!(encoded(array, "", 0).unwrap().unwrap(), b"2026-11-23 16:00:00+00");
    }
    let naive = TimestampMicrosecondArray::from(vec![second * 1_000_000 + 1]);
    let wanted = NaiveDateTime::parse_from_str("2026-11-23 16:00:00.000001", "%F %T%.f").unwrap();
    assert_eq!(binary::<NaiveDateTime>(naive, "", &Type::TIMESTAMP), wanted);
}

/// Shorthand for reading bytes of a type.
trait FromSqlOwnedExt: FromSqlOwned {
    fn read(kind: &Type, bytes: &[u8]) -> Self {
        Self::from_sql(kind, bytes).unwrap()
    }
}

impl<T: FromSqlOwned> FromSqlOwnedExt for T {}

#[test]
fn dates_and_clock_times_read_back() {
    let date = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
    assert_eq!(binary::<NaiveDate>(Date32Array::from(vec![20_780]), "", &Type::DATE), date);
    assert_eq!(text(Date64Array::from(vec![20_780 * 86_400_000])), "2026-11-23");
    let clock = NaiveTime::from_hms_opt(16, 0, 1).unwrap();
    assert_eq!(binary::<NaiveTime>(Time32SecondArray::from(vec![57_601]), "", &Type::TIME), clock);
    assert_eq!(text(Time64NanosecondArray::from(vec![57_601_500_000_000])), "16:00:01.5");
    assert_eq!(text(DurationMillisecondArray::from(vec![90_061_000])), "1 day 01:01:01");
    let span = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3_000_000_000)]);
    assert_eq!(text(span.clone()), "1 mon 2 days 00:00:03");
    let bytes = encoded(Arc::new(span), "", 1).unwrap().unwrap();
    assert_eq!(bytes, [3_000_000i64.to_be_bytes().to_vec(), vec![0, 0, 0, 2, 0, 0, 0, 1]].concat());
}

#[test]
fn decimals_of_every_width_keep_their_digits() {
    let narrow = Decimal64Array::from(vec![-1250]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(text(narrow), "-12.50");
    let wide = "12345678901234567890123456789012345678".parse::<i128>().unwrap();
    let wide = Decimal128Array::from(vec![wide]).with_precision_and_scale(38, 10).unwrap();
    assert_eq!(text(wide.clone()), "1234567890123456789012345678.9012345678");
    let bytes = encoded(Arc::new(wide), "", 1).unwrap().unwrap();
    let read = numeric::text_of_binary(&bytes).unwrap();
    assert_eq!(read, "1234567890123456789012345678.9012345678");
}

#[test]
fn lists_are_arrays() {
    let numbers = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None, Some(3)])]);
    assert_eq!(text(numbers.clone()), "{1,NULL,3}");
    assert_eq!(binary::<Vec<Option<i64>>>(numbers, "", &Type::INT8_ARRAY), [Some(1), None, Some(3)]);
    let empty = ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(Vec::<Option<f64>>::new())]);
    assert_eq!(text(empty.clone()), "{}");
    assert_eq!(binary::<Vec<f64>>(empty, "", &Type::FLOAT8_ARRAY), [0.0; 0]);
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([Some("a"), Some(""), Some("NULL"), Some("b c"), Some("d\"e\\f"), Some("{}"), None]);
    let words = words.finish();
    assert_eq!(text(words.clone()), r#"{a,"","NULL","b c","d\"e\\f","{}",NULL}"#);
    assert_eq!(binary::<Vec<Option<String>>>(words, "", &Type::TEXT_ARRAY)[4].as_deref(), Some("d\"e\\f"));
}

#[test]
fn lists_in_lists_are_dimensions_and_ragged_ones_are_refused_in_binary() {
    let nested = |rows: &[&[i32]]| {
        let mut builder = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
        rows.iter().for_each(|row| builder.values().append_value(row.iter().copied().map(Some)));
        builder.append(true);
        builder.finish()
    };
    assert_eq!(text(nested(&[&[1, 2], &[3, 4]])), "{{1,2},{3,4}}");
    let bytes = encoded(Arc::new(nested(&[&[1, 2], &[3, 4]])), "", 1).unwrap().unwrap();
    let header: Vec<i32> = bytes[..28].chunks(4).map(|word| i32::from_be_bytes(word.try_into().unwrap())).collect();
    assert_eq!(header, [2, 0, 23, 2, 1, 2, 1]);
    assert_eq!(bytes.len(), 28 + 4 * 8);
    let ragged = encoded(Arc::new(nested(&[&[1, 2], &[3]])), "", 1);
    assert!(matches!(ragged, Err(Error::Unsupported(_))));
}

#[test]
fn structs_are_records() {
    let fields = vec![
        Arc::new(Field::new("a", DataType::Int32, true)),
        Arc::new(Field::new("b", DataType::Utf8, true)),
        Arc::new(Field::new("c", DataType::Utf8, true)),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1])),
        Arc::new(StringArray::from(vec![None::<&str>])),
        Arc::new(StringArray::from(vec!["x \"y\""])),
    ];
    let record = StructArray::new(fields.into(), columns, None);
    assert_eq!(text(record.clone()), r#"(1,,"x ""y""")"#);
    let bytes = encoded(Arc::new(record), "", 1).unwrap().unwrap();
    assert_eq!(&bytes[..16], [0, 0, 0, 3, 0, 0, 0, 23, 0, 0, 0, 4, 0, 0, 0, 1]);
    assert_eq!(&bytes[16..24], [0, 0, 0, 25, 255, 255, 255, 255]);
}

#[test]
fn chunks_are_cut_by_size_and_split_by_rows() {
    let rows = 5_000;
    let array: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{row:0100}"))));
    let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
    let columns: Arc<[Column]> = Column::all(&batch.schema(), &[]).unwrap().into();
    let mut encoder = Encoder::new(columns, "UTC".parse().unwrap());
    let chunks: Vec<Chunk> = encoder.chunks(&batch).unwrap().map(|chunk| chunk.unwrap()).collect();
    assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.bytes.len() < 2 * CHUNK_BYTES));
    assert_eq!(chunks.iter().map(|chunk| chunk.ends.len()).sum::<usize>(), rows);
    let mut rest = chunks.into_iter().next().unwrap();
    let (size, count) = (rest.bytes.len(), rest.ends.len());
    let head = rest.split_to(2);
    assert_eq!((head.ends.len(), rest.ends.len()), (2, count - 2));
    assert_eq!(head.bytes.len() + rest.bytes.len(), size);
    assert_eq!((rest.bytes[0], rest.ends[0]), (b'D', head.ends[0]));
    assert_eq!(rest.ends.last(), Some(&rest.bytes.len()));
}

#[test]
fn a_column_of_another_type_than_was_described_is_cast() {
    let described = Schema::new(vec![Field::new("c", DataType::Int64, true)]);
    let columns = Column::all(&described, &[1]).unwrap().into();
    let mut encoder = Encoder::new(columns, "UTC".parse().unwrap());
    let array: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
    let chunk = encoder.chunks(&batch).unwrap().next().unwrap().unwrap();
    assert_eq!(&chunk.bytes[7..], [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
}

/// A row put together value by value.
fn by_value(arrays: &[ArrayRef], columns: &[Column], zone: &Tz, row: usize) -> Vec<u8> {
    let mut out = vec![b'D', 0, 0, 0, 0, 0, arrays.len() as u8];
    for (array, column) in arrays.iter().zip(columns) {
        write_counted(array.as_ref(), row, column, zone, &mut out).unwrap();
    }
    patch_length(&mut out, 1).unwrap();
    out
}

#[test]
fn whole_rows_are_their_values_one_after_the_other() {
    let rows = 3_000;
    let some = |row: i64, every: i64| (row % every != 1).then_some(row);
    let all = || 0..rows;
    let tag = |width: i64| {
        let values = all().map(move |row| some(row / width, 7).map(|value| format!("host_{}", value % 9)));
        let tags: DictionaryArray<Int32Type> = values.collect::<Vec<_>>().iter().map(Option::as_deref).collect();
        Arc::new(tags) as ArrayRef
    };
    let micros = |row: i64| row * 43_210_987_654 - 62_135_600_000_000_000;
    let nulls_in_values = Arc::new(StringArray::from(vec![Some("a"), None]));
    let keys: Int32Array = all().map(|row| some(row, 5).map(|row| (row % 2) as i32)).collect();
    let arrays: Vec<ArrayRef> = vec![
        tag(10),
        tag(100),
        Arc::new(DictionaryArray::new(keys, nulls_in_values)),
        Arc::new(all().map(|row| some(row, 3).map(|row| row as f64 / 8.0 - 9.0)).collect::<Float64Array>()),
        Arc::new(all().map(|row| some(row, 11)).collect::<Int64Array>()),
        Arc::new(all().map(|row| some(row, 2).map(|row| -(row as i32))).collect::<Int32Array>()),
        Arc::new(all().map(|row| Some(row as i16)).collect::<Int16Array>()),
        Arc::new(all().map(|row| Some((row * 1_000 - 1_500_000) as i32)).collect::<Date32Array>()),
        tag(1),
        Arc::new(all().map(|row| some(row, 4).map(micros)).collect::<TimestampMicrosecondArray>()),
        Arc::new(all().map(|row| Some(row * 1_000_000_007)).collect::<TimestampNanosecondArray>().with_timezone("UTC")),
        Arc::new(all().map(Some).collect::<TimestampSecondArray>().with_timezone("+00:00")),
        Arc::new(all().map(|row| some(row, 6).map(|row| "x".repeat(row as usize % 90))).collect::<StringArray>()),
        Arc::new(all().map(|row| Some(row as u64)).collect::<UInt64Array>()),
        Arc::new(all().map(|row| some(row, 9).map(|row| row % 2 == 0)).collect::<BooleanArray>()),
    ];
    let batch =
        RecordBatch::try_from_iter(arrays.iter().enumerate().map(|(at, array)| (at.to_string(), array.clone())));
    let batch = batch.unwrap();
    for (format, zone) in [(0, "UTC"), (0, "Asia/Kolkata"), (1, "UTC")] {
        let (columns, zone): (Arc<[Column]>, Tz) =
            (Column::all(&batch.schema(), &[format]).unwrap().into(), zone.parse().unwrap());
        let mut encoder = Encoder::new(Arc::clone(&columns), zone);
        let mut row = 0;
        for chunk in encoder.chunks(&batch).unwrap().map(|chunk| chunk.unwrap()) {
            let mut start = 0;
            for end in chunk.ends {
                assert_eq!(&chunk.bytes[start..end], by_value(&arrays, &columns, &zone, row), "row {row}");
                (start, row) = (end, row + 1);
            }
        }
        assert_eq!(row as i64, rows);
    }
}
