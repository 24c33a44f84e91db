//! Arrow values as JSON text, written straight into a buffer.
//!
//! Decimals are numbers, JSON and JSONB columns are nested JSON, times are RFC 3339 with microseconds (with `Z` where the
//! type has a zone), bytes are hex behind `\x`, NaN and infinities are null, since JSON has no name for them.
//!
//! **Invariant:** knows neither HTTP nor SQL; what is written is valid JSON for every input.

use std::fmt::Write as _;

use arrow::array::{
    Array, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, PrimitiveArray, RecordBatch,
    StringArray, StringViewArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::DateTime;

/// The field metadata key by which a session names a type that Arrow has no word for.
const TYPE_KEY: &str = "juno.type";

/// The SQL name of a result column's type, as `POST /api/v4/query` shows it.
pub(crate) fn type_name(field: &Field) -> String {
    if let Some(name) = field.metadata().get(TYPE_KEY) {
        return name.clone();
    }
    match field.data_type() {
        DataType::Null => "unknown".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "bigint unsigned".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea".into()
        }
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("numeric({precision},{scale})")
        }
        DataType::Dictionary(_, value) => type_name(&Field::new("", value.as_ref().clone(), true)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("{}[]", type_name(item))
        }
        other => other.to_string().to_lowercase(),
    }
}

/// One column of a batch, ready to be written row by row.
pub(crate) struct JsonColumn<'a> {
    array: &'a dyn Array,
    value: Value<'a>,
}

/// Appends the value of a row.
type WriteRow<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

enum Value<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Integer(WriteRow<'a>),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal(&'a Decimal128Array),
    Text(&'a StringArray),
    View(&'a StringViewArray),
    Json(&'a StringArray),
    Micros { array: &'a PrimitiveArray<TimestampMicrosecondType>, utc: bool },
    Dictionary { keys: Vec<Option<usize>>, values: Box<JsonColumn<'a>> },
    List { items: WriteRow<'a> },
    Display(ArrayFormatter<'a>),
}

impl<'a> JsonColumn<'a> {
    /// Looks at the column's type once, so that each row is a plain write.
    pub(crate) fn new(field: &Field, array: &'a dyn Array) -> Result<JsonColumn<'a>, ArrowError> {
        let value = match field.data_type() {
            DataType::Null => Value::Null,
            DataType::Boolean => Value::Boolean(array.as_boolean()),
            DataType::Int8 => integer::<Int8Type>(array),
            DataType::Int16 => integer::<Int16Type>(array),
            DataType::Int32 => integer::<Int32Type>(array),
            DataType::Int64 => integer::<Int64Type>(array),
            DataType::UInt8 => integer::<UInt8Type>(array),
            DataType::UInt16 => integer::<UInt16Type>(array),
            DataType::UInt32 => integer::<UInt32Type>(array),
            DataType::UInt64 => integer::<UInt64Type>(array),
            DataType::Float32 => Value::Float32(array.as_primitive()),
            DataType::Float64 => Value::Float64(array.as_primitive()),
            DataType::Decimal128(_, _) => Value::Decimal(array.as_primitive()),
            DataType::Utf8 if is_json(field) => Value::Json(array.as_string()),
            DataType::Utf8 => Value::Text(array.as_string()),
            DataType::Utf8View if !is_json(field) => Value::View(array.as_string_view()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Value::Micros { array: array.as_primitive(), utc: zone.is_some() }
            }
            DataType::Dictionary(_, item) => {
                let dictionary = array.as_any_dictionary();
                let keys = dictionary.normalized_keys();
                let keys = keys.into_iter().enumerate().map(|(row, key)| array.is_valid(row).then_some(key)).collect();
                let item = field.clone().with_data_type(item.as_ref().clone());
                Value::Dictionary { keys, values: Box::new(JsonColumn::new(&item, dictionary.values().as_ref())?) }
            }
            DataType::List(item) => list(item, array)?,
            _ => Value::Display(ArrayFormatter::try_new(array, &DISPLAY)?),
        };
        Ok(JsonColumn { array, value })
    }

    /// Appends the value of a row.
    pub(crate) fn write(&self, row: usize, out: &mut String) {
        if self.array.is_null(row) {
            return out.push_str("null");
        }
        match &self.value {
            Value::Null => out.push_str("null"),
            Value::Boolean(array) => out.push_str(if array.value(row) { "true" } else { "false" }),
            Value::Integer(write) => write(row, out),
            Value::Float32(array) => number(array.value(row), array.value(row).is_finite(), out),
            Value::Float64(array) => number(array.value(row), array.value(row).is_finite(), out),
            Value::Decimal(array) => out.push_str(&array.value_as_string(row)),
            Value::Text(array) => string(array.value(row), out),
            Value::View(array) => string(array.value(row), out),
            Value::Json(array) => nested(array.value(row), out),
            Value::Micros { array, utc } => time(array.value(row), *utc, out),
            Value::Dictionary { keys, values } => match keys[row] {
                Some(key) => values.write(key, out),
                None => out.push_str("null"),
            },
            Value::List { items } => items(row, out),
            Value::Display(formatter) => string(&formatter.value(row).to_string(), out),
        }
    }
}

const DISPLAY: FormatOptions<'static> = FormatOptions::new().with_display_error(true);

fn is_json(field: &Field) -> bool {
    field.metadata().get(TYPE_KEY).is_some_and(|name| name == "jsonb" || name == "json")
}

fn integer<'a, T: ArrowPrimitiveType>(array: &'a dyn Array) -> Value<'a>
where
    T::Native: std::fmt::Display,
{
    let array = array.as_primitive::<T>();
    Value::Integer(Box::new(move |row, out| {
        write!(out, "{}", array.value(row)).expect("a String takes every write");
    }))
}

fn list<'a>(item: &Field, array: &'a dyn Array) -> Result<Value<'a>, ArrowError> {
    let list = array.as_list::<i32>();
    let values = JsonColumn::new(item, list.values().as_ref())?;
    let items = Box::new(move |row: usize, out: &mut String| {
        out.push('[');
        let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
        for at in from..to {
            if at > from {
                out.push(',');
            }
            values.write(at, out);
        }
        out.push(']');
    });
    Ok(Value::List { items })
}

/// Debug form: 1.0 keeps its point, so that a float stays a float in the client, and 1e300 is short.
fn number(value: impl std::fmt::Debug, finite: bool, out: &mut String) {
    match finite {
        true => write!(out, "{value:?}").expect("a String takes every write"),
        false => out.push_str("null"),
    }
}

fn nested(text: &str, out: &mut String) {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => out.push_str(text),
        Err(_) => string(text, out),
    }
}

/// Appends a time as RFC 3339 with microseconds, or as a bare number of microseconds where the calendar ends.
pub(crate) fn time(micros: i64, utc: bool, out: &mut String) {
    let zone = if utc { "Z" } else { "" };
    match DateTime::from_timestamp_micros(micros) {
        Some(at) => {
            write!(out, "\"{}{zone}\"", at.format("%Y-%m-%dT%H:%M:%S%.6f")).expect("a String takes every write")
        }
        None => write!(out, "{micros}").expect("a String takes every write"),
    }
}

/// Appends a JSON string with everything escaped that must be.
pub(crate) fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => write!(out, "\\u{:04x}", c as u32).expect("a String takes every write"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// How the rows of a batch are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowShape {
    /// `[1,2]`, in the order of the columns.
    Array,
    /// `{"a":1,"b":2}`.
    Object,
}

/// Writes a batch's rows. `separator` is what stands in front of each row but the very first of the answer, whether the next
/// row is that first one, and what follows each row.
pub(crate) fn rows(
    schema: &Schema,
    batch: &RecordBatch,
    shape: RowShape,
    separator: (&str, &mut bool, &str),
    out: &mut String,
) -> Result<(), ArrowError> {
    let (between, first, end) = separator;
    let columns = schema.fields().iter().zip(batch.columns());
    let columns =
        columns.map(|(field, array)| JsonColumn::new(field, array.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = schema.fields().iter().map(|field| name_and_colon(field.name())).collect();
    for row in 0..batch.num_rows() {
        if !std::mem::replace(first, false) {
            out.push_str(between);
        }
        out.push(if shape == RowShape::Array { '[' } else { '{' });
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            if shape == RowShape::Object {
                out.push_str(&names[at]);
            }
            column.write(row, out);
        }
        out.push(if shape == RowShape::Array { ']' } else { '}' });
        out.push_str(end);
    }
    Ok(())
}

fn name_and_colon(name: &str) -> String {
    let mut out = String::new();
    string(name, &mut out);
    out.push(':');
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, ListArray, TimestampMicrosecondArray};

    use super::*;

    fn written(field: Field, array: ArrayRef) -> String {
        let schema = Schema::new(vec![field]);
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![array]).unwrap();
        let (mut out, mut first) = (String::new(), true);
        rows(&schema, &batch, RowShape::Array, (",", &mut first, ""), &mut out).unwrap();
        serde_json::from_str::<serde_json::Value>(&format!("[{out}]")).expect("valid JSON");
        out
    }

    #[test]
    fn decimals_are_numbers_and_not_a_number_is_null() {
        let decimals = Decimal128Array::from(vec![Some(-1234), None]).with_precision_and_scale(5, 2).unwrap();
        assert_eq!(written(Field::new("d", DataType::Decimal128(5, 2), true), Arc::new(decimals)), "[-12.34],[null]");
        let floats = Float64Array::from(vec![1.5, f64::NAN, f64::INFINITY]);
        assert_eq!(written(Field::new("f", DataType::Float64, true), Arc::new(floats)), "[1.5],[null],[null]");
    }

    #[test]
    fn jsonb_is_nested_and_damaged_jsonb_is_still_valid_json() {
        let metadata = HashMap::from([(TYPE_KEY.to_owned(), "jsonb".to_owned())]);
        let field = Field::new("j", DataType::Utf8, true).with_metadata(metadata);
        let array = StringArray::from(vec![r#"{"a":[1]}"#, "{oops"]);
        assert_eq!(written(field, Arc::new(array)), r#"[{"a":[1]}],["{oops"]"#);
    }

    #[test]
    fn times_are_rfc_3339_with_microseconds_and_a_zone_only_where_the_type_has_one() {
        let kind = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let times = TimestampMicrosecondArray::from(vec![1_700_000_000_000_001, -1]);
        let utc = written(Field::new("t", kind(Some("+00:00")), true), Arc::new(times.clone().with_timezone("+00:00")));
        assert_eq!(utc, r#"["2023-11-14T22:13:20.000001Z"],["1969-12-31T23:59:59.999999Z"]"#);
        let local = written(Field::new("t", kind(None), true), Arc::new(times));
        assert!(local.starts_with(r#"["2023-11-14T22:13:20.000001"]"#), "{local}");
    }

    #[test]
    fn tags_lists_and_control_characters_come_out_whole() {
        let tags: DictionaryArray<Int32Type> = vec![Some("a\"\u{1}"), None].into_iter().collect();
        let kind = tags.data_type().clone();
        assert_eq!(written(Field::new("t", kind, true), Arc::new(tags)), r#"["a\"\u0001"],[null]"#);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]);
        let kind = lists.data_type().clone();
        assert_eq!(written(Field::new("l", kind, true), Arc::new(lists)), "[[1,null]],[null]");
        let big = Int64Array::from(vec![i64::MAX]);
        assert_eq!(written(Field::new("i", DataType::Int64, true), Arc::new(big)), "[9223372036854775807]");
    }

    #[test]
    fn a_float_that_is_huge_or_tiny_is_a_number_still() {
        let floats = Float64Array::from(vec![1e300, 5e-324, -0.0]);
        let text = written(Field::new("f", DataType::Float64, true), Arc::new(floats));
        let back: Vec<Vec<f64>> = serde_json::from_str(&format!("[{text}]")).unwrap();
        assert_eq!(back, [[1e300], [5e-324], [-0.0]]);
    }
}
