//! Values as the text that PostgreSQL's casts to text give.
//!
//! **Invariant:** text stays as it is; null stays null.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use chrono::DateTime;

use crate::Result;

/// The column as text.
pub(crate) fn texts(array: &ArrayRef) -> Result<StringArray> {
    Ok(match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().iter();
            values.map(|value| value.map(|value| float(&format!("{value:e}"), &value.to_string(), 15))).collect()
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().iter();
            values.map(|value| value.map(|value| float(&format!("{value:e}"), &value.to_string(), 6))).collect()
        }
        DataType::Timestamp(_, zone) => {
            let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            micros.iter().map(|at| timestamp(at?, zone.is_some())).collect()
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let bytes = cast(array, &DataType::Binary)?;
            bytes.as_binary::<i32>().iter().map(|bytes| bytes.map(|bytes| format!("\\x{}", hex(bytes)))).collect()
        }
        DataType::Interval(_) | DataType::Duration(_) | DataType::List(_) | DataType::Struct(_) => (0..array.len())
            .map(|row| if array.is_valid(row) { array_value_to_string(array, row).map(Some) } else { Ok(None) })
            .collect::<Result<_, _>>()?,
        _ => cast(array, &DataType::Utf8)?.as_string::<i32>().clone(),
    })
}

/// A float by its shortest digits: fixed where its exponent is -4 to below `fixed_below`.
fn float(scientific: &str, fixed: &str, fixed_below: i32) -> String {
    match scientific {
        "inf" => return "Infinity".into(),
        "-inf" => return "-Infinity".into(),
        _ => {}
    }
    match scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..fixed_below).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => fixed.to_owned(),
    }
}

fn timestamp(at: i64, zone: bool) -> Option<String> {
    let at = DateTime::from_timestamp_micros(at)?;
    let fraction = at.timestamp_subsec_micros();
    let mut text = at.format("%Y-%m-%d %H:%M:%S").to_string();
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    Some(if zone { text + "+00" } else { text })
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, TimestampMicrosecondArray};

    use super::*;

    fn first(array: impl Array + 'static) -> String {
        let array: ArrayRef = Arc::new(array);
        texts(&array).expect("has a text").value(0).to_owned()
    }

    #[test]
    fn floats_and_times_are_spelled_as_postgresql_spells_them() {
        for (value, text) in [
            (1000.0, "1000"),
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (1e14, "100000000000000"),
            (1e-5, "1e-05"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(first(Float64Array::from(vec![value])), text);
        }
        assert_eq!(first(Float64Array::from(vec![f64::NEG_INFINITY])), "-Infinity");
        let half = TimestampMicrosecondArray::from(vec![1_500_000]);
        assert_eq!(first(half), "1970-01-01 00:00:01.5");
        let zoned = TimestampMicrosecondArray::from(vec![0]).with_timezone("+00:00");
        assert_eq!(first(zoned), "1970-01-01 00:00:00+00");
    }
}
