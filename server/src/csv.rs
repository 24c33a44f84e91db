//! Arrow values as CSV text (RFC 4180): a header line, `,` and CRLF, quotes where needed.
//!
//! Null is the empty field, the empty text is `""`. Times are RFC 3339 with microseconds.
//!
//! **Invariant:** knows neither HTTP nor SQL.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Writes the names of the columns.
pub(crate) fn header(schema: &Schema, out: &mut String) {
    for (at, column) in schema.fields().iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        field(column.name(), out);
    }
    out.push_str("\r\n");
}

/// Writes rows.
pub(crate) fn rows(batch: &RecordBatch, out: &mut String) -> Result<(), ArrowError> {
    let options = FormatOptions::new();
    // A column of type Null says that none of its values is null; logically all of them are.
    let nulls: Vec<_> = batch.columns().iter().map(Array::logical_nulls).collect();
    let columns = batch.columns().iter();
    let formats =
        columns.clone().map(|array| ArrayFormatter::try_new(array, &options)).collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        for (at, ((array, format), nulls)) in columns.clone().zip(&formats).zip(&nulls).enumerate() {
            if at > 0 {
                out.push(',');
            }
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            match array.data_type() {
                DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                    let mut quoted = String::new();
                    let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                    crate::json::time(micros, zone.is_some(), &mut quoted);
                    out.push_str(quoted.trim_matches('"'));
                }
                _ => field(&format.value(row).try_to_string()?, out),
            }
        }
        out.push_str("\r\n");
    }
    Ok(())
}

fn field(text: &str, out: &mut String) {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, NullArray, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn a_column_of_nothing_but_null_is_empty_fields() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(NullArray::new(2)) as ArrayRef)]).unwrap();
        let mut out = String::new();
        rows(&batch, &mut out).unwrap();
        assert_eq!(out, "\r\n\r\n");
    }

    #[test]
    fn null_and_the_empty_text_differ_and_times_are_rfc_3339() {
        let texts = StringArray::from(vec![None, Some(""), Some("a\nb")]);
        let times = TimestampMicrosecondArray::from(vec![0, 1, 2]).with_timezone("+00:00");
        let fields = vec![Field::new("s", DataType::Utf8, true), Field::new("t", times.data_type().clone(), true)];
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(texts), Arc::new(times)]).unwrap();
        let mut out = String::new();
        rows(&batch, &mut out).unwrap();
        let first = out.lines().next().unwrap();
        assert_eq!(first, ",1970-01-01T00:00:00.000000Z");
        assert!(out.contains("\"\",1970") && out.contains("\"a\nb\","), "{out}");
    }
}
