//! The output of a COPY TO: batches in, rows of the format out, each in a message of its own where a client takes them.
//!
//! **Invariant:** whatever the number of rows, the output is whole: it has its header and its end.

use arrow::array::ArrayRef;
use arrow::array::timezone::Tz;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, Bytes};
use juno_sql::{CopyFormat, CopyHeader, CopyOptions, Error, Result};
use parquet::arrow::ArrowWriter;

use super::{binary, csv, text};
use crate::pgwire::column::Column;
use crate::pgwire::encode::{self, CHUNK_BYTES, Chunk, Chunks, Encode};

/// Writes the rows of one COPY TO.
pub(super) struct Output {
    columns: Vec<Column>,
    /// By column: always quoted.
    quoted: Vec<bool>,
    options: CopyOptions,
    zone: Tz,
    /// Whether bytes travel in CopyData messages.
    framed: bool,
    begun: bool,
    parquet: Option<Box<ArrowWriter<Vec<u8>>>>,
}

impl Output {
    pub(super) fn new(schema: &SchemaRef, options: CopyOptions, zone: Tz, framed: bool) -> Result<Output> {
        let parquet = match options.format {
            CopyFormat::Parquet => {
                Some(Box::new(ArrowWriter::try_new(vec![], schema.clone(), None).map_err(unwritable)?))
            }
            _ => None,
        };
        let formats: &[i16] = if options.format == CopyFormat::Binary { &[1] } else { &[] };
        let columns = if parquet.is_some() { Vec::new() } else { Column::all(schema, formats)? };
        let quoted = columns.iter().map(|column| options.force_quote.has(column.field.name())).collect();
        Ok(Output { columns, quoted, options, zone, framed, begun: false, parquet })
    }

    /// Starts a message; gives where its length must go.
    fn open(&self, out: &mut Vec<u8>) -> usize {
        if self.framed {
            out.put_u8(b'd');
            out.put_i32(0);
        }
        out.len()
    }

    fn close(&self, out: &mut [u8], start: usize) -> Result<()> {
        if self.framed { encode::patch_length(out, start - 4) } else { Ok(()) }
    }

    /// The first line of text and CSV.
    fn header_line(&self, out: &mut Vec<u8>) -> Result<()> {
        if self.options.header == CopyHeader::None {
            return Ok(());
        }
        let start = self.open(out);
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.put_u8(self.options.delimiter);
            }
            let at = out.len();
            out.put_slice(column.field.name().as_bytes());
            self.escape(out, at, false);
        }
        out.put_u8(b'\n');
        self.close(out, start)
    }

    fn escape(&self, out: &mut Vec<u8>, start: usize, always: bool) {
        match self.options.format {
            CopyFormat::Csv => csv::quote(out, start, &self.options, always),
            CopyFormat::Text => text::escape(out, start, self.options.delimiter),
            CopyFormat::Binary | CopyFormat::Parquet => {}
        }
    }

    fn row(&mut self, arrays: &[ArrayRef], row: usize, out: &mut Vec<u8>) -> Result<()> {
        let binary = self.options.format == CopyFormat::Binary;
        let first = !std::mem::replace(&mut self.begun, true);
        if first && !binary {
            self.header_line(out)?;
        }
        let start = self.open(out);
        if first && binary {
            // The header shares the first row's message: readers of rows rely on it.
            out.put_slice(binary::HEADER);
        }
        if binary {
            out.put_i16(arrays.len() as i16);
        }
        for (index, (array, column)) in arrays.iter().zip(&self.columns).enumerate() {
            if binary {
                encode::write_counted(array.as_ref(), row, column, &self.zone, out)?;
                continue;
            }
            if index > 0 {
                out.put_u8(self.options.delimiter);
            }
            let at = out.len();
            if encode::write(array.as_ref(), row, column, &self.zone, out)? {
                self.escape(out, at, self.quoted[index]);
            } else {
                out.put_slice(self.options.null.as_bytes());
            }
        }
        if !binary {
            out.put_u8(b'\n');
        }
        self.close(out, start)
    }

    /// Bytes of a Parquet file that are written by now, in messages.
    fn framed_bytes(&self, bytes: &[u8]) -> Result<Bytes> {
        let mut out = Vec::with_capacity(bytes.len() + 5);
        for block in bytes.chunks(CHUNK_BYTES) {
            let start = self.open(&mut out);
            out.put_slice(block);
            self.close(&mut out, start)?;
        }
        Ok(Bytes::from(out))
    }

    fn parquet_rows(&mut self, batch: &RecordBatch) -> Result<Chunk> {
        let Some(writer) = &mut self.parquet else { return Ok(Chunk::default()) };
        writer.write(batch).map_err(unwritable)?;
        let written = std::mem::take(writer.inner_mut());
        let bytes = self.framed_bytes(&written)?;
        Ok(Chunk { ends: vec![bytes.len(); batch.num_rows()], bytes })
    }
}

impl Encode for Output {
    fn chunks<'a>(&'a mut self, batch: &RecordBatch) -> Result<Chunks<'a>> {
        if self.parquet.is_some() {
            let chunk = self.parquet_rows(batch);
            return Ok(Box::new(std::iter::once(chunk)));
        }
        let arrays = encode::arrays(&self.columns, batch)?;
        let rows = batch.num_rows();
        Ok(encode::in_chunks(rows, move |row, out| self.row(&arrays, row, out)))
    }

    fn tail(&mut self) -> Result<Bytes> {
        if let Some(writer) = self.parquet.take() {
            let rest = writer.into_inner().map_err(unwritable)?;
            return self.framed_bytes(&rest);
        }
        let mut out = Vec::new();
        let begun = std::mem::replace(&mut self.begun, true);
        if self.options.format == CopyFormat::Binary {
            let start = self.open(&mut out);
            if !begun {
                out.put_slice(binary::HEADER);
            }
            out.put_slice(binary::TRAILER);
            self.close(&mut out, start)?;
        } else if !begun {
            self.header_line(&mut out)?;
        }
        Ok(Bytes::from(out))
    }
}

fn unwritable(error: parquet::errors::ParquetError) -> Error {
    Error::Internal(format!("the rows cannot be written as Parquet: {error}"))
}
