//! Rows as bytes of a format: JSON, NDJSON, CSV, Arrow stream, Parquet.
//!
//! JSON is `{"columns":[{"name","type"}],"rows":[[…],…],"command":"SELECT 2"}`: rows as arrays, because names may repeat.
//! CSV is RFC 4180 with a header; null is empty, the empty text is `""`.
//!
//! **Invariant:** takes batches in, gives bytes out; holds no more than what was not taken yet.

use std::fmt::Write as _;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use juno_sql::{Error, Result};
use parquet::arrow::ArrowWriter;

use crate::csv;
use crate::http::accept::Format;
use crate::json::{self, RowShape};

/// Writes the batches of one result.
pub(crate) struct Encoder {
    schema: SchemaRef,
    rows: u64,
    writer: Writer,
}

enum Writer {
    Json { out: String, first: bool },
    Ndjson { out: String, first: bool },
    Csv { out: String },
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Encoder {
    /// Starts an answer; what comes before its first row is pending at once.
    pub(crate) fn new(format: Format, schema: SchemaRef) -> Result<Encoder> {
        let writer = match format {
            Format::Json => {
                let mut out = String::from("{\"columns\":");
                columns(&schema, &mut out);
                out.push_str(",\"rows\":[");
                Writer::Json { out, first: true }
            }
            Format::Ndjson => Writer::Ndjson { out: String::new(), first: true },
            Format::Csv => {
                let mut out = String::new();
                csv::header(&schema, &mut out);
                Writer::Csv { out }
            }
            Format::Arrow => Writer::Arrow(Box::new(StreamWriter::try_new(vec![], &schema)?)),
            Format::Parquet => {
                Writer::Parquet(Box::new(ArrowWriter::try_new(vec![], schema.clone(), None).map_err(parquet)?))
            }
            Format::OpenMetrics | Format::Prometheus => {
                return Err(Error::Internal("rows are no metrics of the server".into()));
            }
        };
        Ok(Encoder { schema, rows: 0, writer })
    }

    /// Adds rows.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Json { out, first } => json::rows(&self.schema, batch, RowShape::Array, (",", first, ""), out)?,
            Writer::Ndjson { out, first } => json::rows(&self.schema, batch, RowShape::Object, ("", first, "\n"), out)?,
            Writer::Csv { out } => csv::rows(batch, out)?,
            Writer::Arrow(writer) => writer.write(&conform(&self.schema, batch)?)?,
            Writer::Parquet(writer) => writer.write(&conform(&self.schema, batch)?).map_err(parquet)?,
        }
        Ok(())
    }

    /// Bytes that could be taken now.
    pub(crate) fn pending(&self) -> usize {
        match &self.writer {
            Writer::Json { out, .. } | Writer::Ndjson { out, .. } | Writer::Csv { out } => out.len(),
            Writer::Arrow(writer) => writer.get_ref().len(),
            Writer::Parquet(_) => 0,
        }
    }

    /// Takes what is pending.
    pub(crate) fn take(&mut self) -> Bytes {
        match &mut self.writer {
            Writer::Json { out, .. } | Writer::Ndjson { out, .. } | Writer::Csv { out } => std::mem::take(out).into(),
            Writer::Arrow(writer) => std::mem::take(writer.get_mut()).into(),
            Writer::Parquet(_) => Bytes::new(),
        }
    }

    /// Ends the answer; `tag` is the statement's command, to which SELECT adds the number of rows.
    pub(crate) fn finish(self, tag: &str) -> Result<Bytes> {
        Ok(match self.writer {
            Writer::Json { mut out, .. } => {
                out.push_str("],\"command\":");
                match tag {
                    "SELECT" => writeln!(out, "\"{tag} {}\"}}", self.rows),
                    _ => writeln!(out, "\"{tag}\"}}"),
                }
                .expect("a String takes every write");
                out.into()
            }
            Writer::Ndjson { out, .. } | Writer::Csv { out } => out.into(),
            Writer::Arrow(writer) => writer.into_inner()?.into(),
            Writer::Parquet(writer) => writer.into_inner().map_err(parquet)?.into(),
        })
    }
}

/// The body for a statement that has no rows.
pub(crate) fn nothing(format: Format, tag: &str, notices: &[String]) -> Result<Vec<u8>> {
    match format {
        Format::Json => {
            let body = serde_json::json!({"columns": [], "rows": [], "command": tag, "notices": notices});
            Ok(format!("{body}\n").into_bytes())
        }
        Format::Csv | Format::Ndjson => Ok(vec![]),
        _ => Encoder::new(format, Schema::empty().into())?.finish(tag).map(Vec::from),
    }
}

fn columns(schema: &Schema, out: &mut String) {
    out.push('[');
    for (at, field) in schema.fields().iter().enumerate() {
        out.push_str(if at > 0 { ",{\"name\":" } else { "{\"name\":" });
        json::string(field.name(), out);
        out.push_str(",\"type\":");
        json::string(&json::type_name(field), out);
        out.push('}');
    }
    out.push(']');
}

/// Plans and streams may differ in metadata and nullability, never in types; the writers want them equal.
fn conform(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let rows = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(array, field)| match array.data_type() == field.data_type() {
        true => Ok(array.clone()),
        false => arrow::compute::cast(array, field.data_type()),
    });
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_, _>>()?, &rows)?)
}

fn parquet(error: ::parquet::errors::ParquetError) -> Error {
    Error::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn batch() -> RecordBatch {
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)];
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("a,\"b"), None]))];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn encoded(format: Format, batches: usize) -> Bytes {
        let mut encoder = Encoder::new(format, batch().schema()).unwrap();
        for _ in 0..batches {
            encoder.batch(&batch()).unwrap();
        }
        encoder.finish("SELECT").unwrap()
    }

    #[test]
    fn json_has_columns_rows_and_the_command() {
        let json: serde_json::Value = serde_json::from_slice(&encoded(Format::Json, 2)).unwrap();
        assert_eq!(json["columns"][1], serde_json::json!({"name": "s", "type": "text"}));
        assert_eq!(json["rows"][3], serde_json::json!([2, null]));
        assert_eq!(json["command"], "SELECT 4");
        let none: serde_json::Value = serde_json::from_slice(&encoded(Format::Json, 0)).unwrap();
        assert_eq!(none["rows"], serde_json::json!([]));
    }

    #[test]
    fn ndjson_and_csv_have_one_line_per_row() {
        assert_eq!(encoded(Format::Ndjson, 1), "{\"n\":1,\"s\":\"a,\\\"b\"}\n{\"n\":2,\"s\":null}\n");
        assert_eq!(encoded(Format::Csv, 1), "n,s\r\n1,\"a,\"\"b\"\r\n2,\r\n");
    }

    #[test]
    fn arrow_and_parquet_read_back() {
        let arrow = encoded(Format::Arrow, 2);
        let read: usize = StreamReader::try_new(&arrow[..], None).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(read, 4);
        let file = encoded(Format::Parquet, 2);
        let reader = ::parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100).unwrap();
        assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 4);
    }

    #[test]
    fn a_statement_without_rows_has_a_body_of_each_format() {
        for format in Format::ROWS {
            nothing(*format, "INSERT 0 1", &[]).unwrap();
        }
        let json: serde_json::Value =
            serde_json::from_slice(&nothing(Format::Json, "INSERT 0 1", &[]).unwrap()).unwrap();
        assert_eq!(json["command"], "INSERT 0 1");
    }
}
