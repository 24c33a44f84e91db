//! Files and bodies as batches: Parquet, Arrow (stream and file), NDJSON, CSV.
//!
//! CSV and NDJSON do not say whether 1 is an integer: their numbers are f64, unless the table has the column as an integer.
//!
//! **Invariant:** reads lazily, batch by batch; what a batch means for a table is decided in `shape`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::sync::Arc;

use arrow::csv::reader::Format as CsvFormat;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use super::known::Known;
use super::refusal::Refusal;
use super::shape::{Wanted, is_text, time_column};

const BATCH_ROWS: usize = 65_536;

/// A format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    ArrowStream,
    ArrowFile,
    Ndjson,
    Csv,
}

/// Batches as they are read.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Refusal>> + Send>;

impl Format {
    /// The media types of uploads.
    pub(crate) const MEDIA: &'static str =
        "application/vnd.apache.parquet, application/vnd.apache.arrow.stream, application/x-ndjson, text/csv";

    /// The format of a Content-Type.
    pub(crate) fn of_media(media: &str) -> Option<Format> {
        let media = media.split(';').next().unwrap_or_default().trim().to_lowercase();
        Some(match media.as_str() {
            "application/vnd.apache.parquet" | "application/x-parquet" | "application/parquet" => Format::Parquet,
            "application/vnd.apache.arrow.stream" => Format::ArrowStream,
            "application/vnd.apache.arrow.file" => Format::ArrowFile,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Format::Ndjson
            }
            "text/csv" | "application/csv" => Format::Csv,
            _ => return None,
        })
    }

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::ArrowStream | Format::ArrowFile => "arrow",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
        }
    }
}

/// Reads a body.
pub(crate) fn bytes(format: Format, bytes: Bytes, wanted: &Wanted, known: Option<&Known>) -> Result<Batches, Refusal> {
    match format {
        Format::Parquet => parquet(bytes),
        _ => plain(format, || Ok(Box::new(bytes.clone().reader())), wanted, known),
    }
}

/// Reads an open file. `open` opens it anew, unzipped where it is zipped: text formats are read twice.
pub(crate) fn file(
    format: Format,
    file: File,
    open: impl Fn() -> std::io::Result<Box<dyn Read + Send>>,
    wanted: &Wanted,
    known: Option<&Known>,
) -> Result<Batches, Refusal> {
    match format {
        Format::Parquet => parquet(file),
        Format::ArrowFile => arrow_file(file),
        _ => plain(format, open, wanted, known),
    }
}

fn parquet<R: ChunkReader + 'static>(source: R) -> Result<Batches, Refusal> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(source)
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
    let reader = reader.map_err(|error| Refusal::Unreadable(format!("this is not a whole Parquet file: {error}")))?;
    Ok(Box::new(reader.map(|batch| batch.map_err(|error| unreadable("Parquet", &error)))))
}

fn arrow_file<R: Read + Seek + Send + 'static>(source: R) -> Result<Batches, Refusal> {
    let reader = arrow::ipc::reader::FileReader::try_new_buffered(source, None);
    let reader = reader.map_err(|error| unreadable("Arrow", &error))?;
    Ok(Box::new(reader.map(|batch| batch.map_err(|error| unreadable("Arrow", &error)))))
}

fn plain(
    format: Format,
    open: impl Fn() -> std::io::Result<Box<dyn Read + Send>>,
    wanted: &Wanted,
    known: Option<&Known>,
) -> Result<Batches, Refusal> {
    let opened = || {
        open().map(BufReader::new).map_err(|error| Refusal::Unreadable(format!("the input cannot be read: {error}")))
    };
    match format {
        Format::ArrowStream => {
            let reader = arrow::ipc::reader::StreamReader::try_new(opened()?, None)
                .map_err(|error| unreadable("Arrow", &error))?;
            Ok(Box::new(reader.map(|batch| batch.map_err(|error| unreadable("Arrow", &error)))))
        }
        Format::Csv => {
            let header = CsvFormat::default().with_header(true);
            let (found, _) = header.infer_schema(opened()?, None).map_err(|error| unreadable("CSV", &error))?;
            let schema = settle(found, wanted, known)?;
            let reader = arrow::csv::ReaderBuilder::new(schema).with_header(true).with_batch_size(BATCH_ROWS);
            let reader = reader.build_buffered(opened()?).map_err(|error| unreadable("CSV", &error))?;
            Ok(Box::new(reader.map(|batch| batch.map_err(|error| unreadable("CSV", &error)))))
        }
        Format::Ndjson => {
            let inferred = arrow::json::reader::infer_json_schema(opened()?, None);
            let (found, _) = inferred.map_err(|error| unreadable("NDJSON", &error))?;
            let schema = settle(found, wanted, known)?;
            let reader = arrow::json::ReaderBuilder::new(schema).with_batch_size(BATCH_ROWS);
            let reader = reader.build(opened()?).map_err(|error| unreadable("NDJSON", &error))?;
            Ok(Box::new(reader.map(|batch| batch.map_err(|error| unreadable("NDJSON", &error)))))
        }
        Format::ArrowFile => {
            let mut whole = vec![];
            opened()?.read_to_end(&mut whole).map_err(|error| Refusal::Unreadable(error.to_string()))?;
            arrow_file(std::io::Cursor::new(whole))
        }
        Format::Parquet => {
            let mut whole = vec![];
            opened()?.read_to_end(&mut whole).map_err(|error| Refusal::Unreadable(error.to_string()))?;
            parquet(Bytes::from(whole))
        }
    }
}

/// The types to read a text format with: numbers are f64, times and tags stay text, the table's own types come first.
fn settle(found: Schema, wanted: &Wanted, known: Option<&Known>) -> Result<SchemaRef, Refusal> {
    let time = time_column(&found, wanted, known)?;
    let tag = |name: &String| {
        wanted.tags.iter().flatten().any(|tag| tag == name) || known.is_some_and(|known| known.tags.contains(name))
    };
    let fields = found.fields().iter().map(|field| {
        let of_table = known.and_then(|known| known.fields.get(field.name())).filter(|kind| !is_text(kind));
        let kind = match field.data_type() {
            kind if *field.name() == time => kind.clone(),
            DataType::List(_) | DataType::Struct(_) => field.data_type().clone(),
            _ if tag(field.name()) => DataType::Utf8,
            kind => match (of_table, kind.is_numeric()) {
                (Some(of_table), _) => of_table.clone(),
                (None, true) => DataType::Float64,
                (None, false) => kind.clone(),
            },
        };
        Field::new(field.name(), kind, true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn unreadable(format: &str, error: &ArrowError) -> Refusal {
    let text = match error {
        ArrowError::ParseError(text) | ArrowError::CsvError(text) | ArrowError::JsonError(text) => text.clone(),
        ArrowError::IpcError(text) | ArrowError::ParquetError(text) => text.clone(),
        other => other.to_string(),
    };
    Refusal::Unreadable(format!("this is not valid {format}: {text}"))
}

/// True where the first bytes are those of an Arrow file rather than an Arrow stream.
pub(crate) fn starts_as_arrow_file(source: &mut impl BufRead) -> std::io::Result<bool> {
    Ok(source.fill_buf()?.starts_with(b"ARROW1"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn wanted() -> Wanted {
        Wanted { table: "t".into(), ..Wanted::default() }
    }

    fn read(format: Format, text: &[u8], known: Option<&Known>) -> Result<Vec<RecordBatch>, Refusal> {
        bytes(format, Bytes::copy_from_slice(text), &wanted(), known)?.collect()
    }

    fn parquet_file() -> Vec<u8> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let batch = RecordBatch::try_from_iter([("time", numbers)]).unwrap();
        let mut writer = ::parquet::arrow::ArrowWriter::try_new(vec![], batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn numbers_of_csv_are_floats_unless_the_table_says_otherwise() {
        let text = b"time,host,v\n2014-04-01 00:00:00,a,1\n2014-04-01 00:05:00,b,2\n";
        let rows = read(Format::Csv, text, None).unwrap();
        assert_eq!(rows[0]["v"].as_primitive::<Float64Type>().values(), &[1.0, 2.0]);
        let fields = [("v".to_owned(), DataType::Int64)].into();
        let known = Known { name: "t".into(), time: Some("time".into()), tags: vec![], fields };
        assert_eq!(read(Format::Csv, text, Some(&known)).unwrap()[0]["v"].data_type(), &DataType::Int64);
    }

    #[test]
    fn damaged_text_is_refused_with_its_line() {
        let short = read(Format::Csv, b"time,v\n2014-04-01,1\n2014-04-02\n", None).unwrap_err().to_string();
        assert!(short.contains("line 3") || short.contains("line: 3"), "{short}");
        assert!(matches!(read(Format::Ndjson, b"{\"time\":1}\n{\"time\":", None), Err(Refusal::Unreadable(_))));
        assert!(matches!(read(Format::ArrowStream, b"nonsense", None), Err(Refusal::Unreadable(_))));
    }

    #[test]
    fn ndjson_columns_are_the_union_of_its_lines() {
        let rows =
            read(Format::Ndjson, b"{\"time\":\"2014-04-01\",\"a\":1}\n{\"time\":\"2014-04-02\",\"b\":true}\n", None)
                .unwrap();
        assert_eq!(rows[0].num_columns(), 3);
        assert_eq!(rows[0]["a"].data_type(), &DataType::Float64);
        assert!(rows[0]["a"].is_null(1));
    }

    #[test]
    fn a_parquet_file_reads_whole_and_any_cut_of_it_is_refused() {
        let file = parquet_file();
        let rows: usize = read(Format::Parquet, &file, None).unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 1000);
        for keep in [0, 3, 8, file.len() / 2, file.len() - 1] {
            let error = read(Format::Parquet, &file[..keep], None).unwrap_err();
            assert!(matches!(error, Refusal::Unreadable(_)), "{keep} bytes: {error}");
        }
    }
}
