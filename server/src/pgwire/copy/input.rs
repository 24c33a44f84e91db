//! The input of a COPY FROM: bytes in blocks of any size in, batches of rows out.
//!
//! **Invariant:** holds one row and one batch besides the block that came last; a Parquet file, whose end must be read first,
//! waits in a temporary file.

use std::fs::File;
use std::io::{Seek, Write};
use std::ops::Range;

use arrow::array::timezone::Tz;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use juno_sql::{CopyFormat, CopyHeader, CopyIn, CopyOptions, CopyRows, Error, Result};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use tokio::sync::mpsc;

use super::binary::{self, Tuple};
use super::csv::{self, Forced};
use super::reader::RowReader;
use super::text;
use crate::pgwire::column::Format;
use crate::pgwire::socket::MESSAGE_BYTES_MAX;

/// Blocks that may wait to be read.
const BLOCKS_WAITING: usize = 4;
/// Rows of a batch from Parquet.
const BATCH_ROWS: usize = 65_536;
/// The longest row, in bytes.
const ROW_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Where a line ends, and where the next begins.
pub(super) struct Line {
    pub(super) end: usize,
    pub(super) next: usize,
}

/// The values of one row: places in the input, or bytes that had to be written anew.
#[derive(Default)]
pub(super) struct Values {
    spans: Vec<Span>,
    bytes: Vec<u8>,
}

enum Span {
    Null,
    Raw(Range<usize>),
    Written(Range<usize>),
}

impl Values {
    fn clear(&mut self) {
        self.spans.clear();
        self.bytes.clear();
    }

    pub(super) fn null(&mut self) {
        self.spans.push(Span::Null);
    }

    /// A value that stands in the input as it is.
    pub(super) fn raw(&mut self, place: Range<usize>) {
        self.spans.push(Span::Raw(place));
    }

    /// A value that is written.
    pub(super) fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.spans.push(Span::Written(start..self.bytes.len()));
    }

    /// The value that was written last.
    pub(super) fn last(&self) -> &[u8] {
        match self.spans.last() {
            Some(Span::Written(place)) => &self.bytes[place.clone()],
            _ => &[],
        }
    }

    pub(super) fn last_is_null(&mut self) {
        self.spans.pop();
        self.spans.push(Span::Null);
    }

    fn of<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.spans.iter().map(move |span| match span {
            Span::Null => None,
            Span::Raw(place) => Some(&input[place.clone()]),
            Span::Written(place) => Some(&self.bytes[place.clone()]),
        })
    }
}

/// The input of one COPY FROM.
pub(super) struct Input {
    style: Style,
    pending: BytesMut,
    /// Bytes that must be there before another look is worth it: a long row is not read again for every block.
    look_at: usize,
    line: u64,
    /// The client has said that nothing follows.
    closed: bool,
    /// No row follows.
    ended: bool,
}

enum Style {
    Lines { options: CopyOptions, forced: Option<Forced>, header: bool, rows: RowReader, values: Values },
    Binary { header: bool, rows: RowReader, values: Values },
    Parquet(Parquet),
}

impl Input {
    pub(super) fn new(copy: &CopyIn, zone: Tz) -> Result<Input> {
        let options = copy.options.clone();
        let style = match options.format {
            CopyFormat::Text | CopyFormat::Csv => {
                let flags = |columns: &juno_sql::CopyColumns| {
                    copy.schema.fields().iter().map(|field| columns.has(field.name())).collect()
                };
                let forced = (options.format == CopyFormat::Csv)
                    .then(|| Forced { not_null: flags(&options.force_not_null), null: flags(&options.force_null) });
                let header = options.header != CopyHeader::None;
                let rows = RowReader::new(copy, Format::Text, zone)?;
                Style::Lines { options, forced, header, rows, values: Values::default() }
            }
            CopyFormat::Binary => {
                let rows = RowReader::new(copy, Format::Binary, zone)?;
                Style::Binary { header: true, rows, values: Values::default() }
            }
            CopyFormat::Parquet => Style::Parquet(Parquet::new(copy)),
        };
        Ok(Input { style, pending: BytesMut::new(), look_at: 0, line: 1, closed: false, ended: false })
    }

    /// Takes the file itself, where it is Parquet.
    pub(super) fn open(&mut self, file: File) -> Result<()> {
        if let Style::Parquet(parquet) = &mut self.style {
            parquet.open(file)?;
            self.closed = true;
        }
        Ok(())
    }

    /// Takes a block.
    pub(super) fn block(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.style {
            Style::Parquet(parquet) => parquet.spool(bytes),
            _ => {
                if !self.ended {
                    self.pending.extend_from_slice(bytes);
                }
                Ok(())
            }
        }
    }

    /// Nothing follows.
    pub(super) fn close(&mut self) -> Result<()> {
        self.closed = true;
        if let Style::Parquet(parquet) = &mut self.style { parquet.close() } else { Ok(()) }
    }

    /// The next batch; None where more input is needed, or nothing is left.
    pub(super) fn batch(&mut self) -> Result<Option<CopyRows>> {
        while !self.ended {
            if let Style::Parquet(parquet) = &mut self.style {
                let batch = if self.closed { parquet.batch()? } else { return Ok(None) };
                self.ended = batch.is_none();
                return Ok(batch);
            }
            if self.pending.len() < self.look_at && !self.closed {
                return Ok(None);
            }
            let taken = match &mut self.style {
                Style::Lines { .. } => self.text_row()?,
                _ => self.binary_row()?,
            };
            if !taken {
                if self.pending.len() > ROW_BYTES_MAX {
                    return Err(Error::BadCopy(format!(
                        "the row on line {} has more than {ROW_BYTES_MAX} bytes",
                        self.line
                    )));
                }
                self.look_at = self.pending.len() * 2;
                if self.closed {
                    self.ended = true;
                    break;
                }
                return Ok(None);
            }
            self.look_at = 0;
            if let Style::Lines { rows, .. } | Style::Binary { rows, .. } = &mut self.style
                && rows.is_full()
            {
                return rows.take();
            }
        }
        match &mut self.style {
            Style::Lines { rows, .. } | Style::Binary { rows, .. } => rows.take(),
            Style::Parquet(_) => Ok(None),
        }
    }

    /// Takes one row; false where none is whole.
    fn text_row(&mut self) -> Result<bool> {
        let Style::Lines { options, forced, header, rows, values } = &mut self.style else { return Ok(false) };
        let found = match forced {
            Some(_) => csv::line(&self.pending, options),
            None => text::line(&self.pending),
        };
        let line = match found {
            Some(line) => line,
            None if !self.closed || self.pending.is_empty() => return Ok(false),
            None => {
                if forced.is_some() && csv::is_unterminated(&self.pending, options) {
                    return Err(rows.at(self.line, None, None, Error::BadCopy("unterminated CSV quoted field".into())));
                }
                let next = self.pending.len();
                Line { end: next - usize::from(self.pending.ends_with(b"\r")), next }
            }
        };
        let input = &self.pending[..line.end];
        if input == b"\\." {
            self.ended = true;
            self.pending.clear();
            return Ok(true);
        }
        values.clear();
        match forced {
            Some(forced) => csv::split(input, options, forced, values),
            None => text::split(input, options, values),
        }
        if std::mem::take(header) {
            check_header(rows, options, values, input)?;
        } else {
            let width = rows.width();
            let fault = match values.spans.len() {
                given if given > width => Some("extra data after last expected column".to_owned()),
                given if given < width => Some(format!("missing data for column \"{}\"", rows.name(given))),
                _ => None,
            };
            if let Some(fault) = fault {
                return Err(rows.at(self.line, None, Some(input), Error::BadCopy(fault)));
            }
            rows.row(self.line, values.of(input))?;
        }
        self.line += 1 + input.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.pending.advance(line.next);
        Ok(true)
    }

    fn binary_row(&mut self) -> Result<bool> {
        let Style::Binary { header, rows, values } = &mut self.style else { return Ok(false) };
        let cut = || Error::BadCopy("unexpected EOF in COPY data".into());
        if *header {
            match binary::header(&self.pending)? {
                Some(length) => self.pending.advance(length),
                None if self.closed => return Err(Error::BadCopy("COPY file signature not recognized".into())),
                None => return Ok(false),
            }
            *header = false;
        }
        values.clear();
        let tuple = binary::tuple(&self.pending, rows.width(), values);
        match tuple.map_err(|error| rows.at(self.line, None, None, error))? {
            Tuple::Partial if self.closed && !self.pending.is_empty() => Err(rows.at(self.line, None, None, cut())),
            Tuple::Partial => Ok(false),
            Tuple::Trailer if self.pending.len() > binary::TRAILER.len() => {
                Err(Error::BadCopy("received copy data after EOF marker".into()))
            }
            Tuple::Trailer => {
                self.ended = true;
                Ok(true)
            }
            Tuple::Row(length) => {
                rows.row(self.line, values.of(&self.pending))?;
                self.pending.advance(length);
                self.line += 1;
                Ok(true)
            }
        }
    }
}

/// With HEADER MATCH the first line must name the columns in their order.
fn check_header(rows: &RowReader, options: &CopyOptions, values: &Values, input: &[u8]) -> Result<()> {
    if options.header != CopyHeader::Match {
        return Ok(());
    }
    let given: Vec<_> = values.of(input).map(|name| String::from_utf8_lossy(name.unwrap_or_default())).collect();
    let wanted: Vec<_> = (0..rows.width()).map(|column| rows.name(column)).collect();
    if given == wanted {
        return Ok(());
    }
    let fault = format!("the header names {} and the columns are {}", given.join(", "), wanted.join(", "));
    Err(rows.at(1, None, None, Error::BadCopy(fault)))
}

/// A Parquet file, whose columns are found by their names.
struct Parquet {
    wanted: SchemaRef,
    spool: Option<File>,
    reader: Option<ParquetRecordBatchReader>,
    rows: u64,
}

impl Parquet {
    fn new(copy: &CopyIn) -> Parquet {
        Parquet { wanted: copy.schema.clone(), spool: None, reader: None, rows: 0 }
    }

    fn spool(&mut self, bytes: &[u8]) -> Result<()> {
        let file = match &mut self.spool {
            Some(file) => file,
            None => self.spool.insert(tempfile::tempfile().map_err(unwritable)?),
        };
        file.write_all(bytes).map_err(unwritable)
    }

    fn close(&mut self) -> Result<()> {
        if self.reader.is_some() {
            return Ok(());
        }
        let mut file = self.spool.take().ok_or_else(|| Error::BadCopy("no Parquet file was sent".into()))?;
        file.rewind().map_err(unwritable)?;
        self.open(file)
    }

    fn open(&mut self, file: File) -> Result<()> {
        let bad =
            |error: parquet::errors::ParquetError| Error::BadCopy(format!("this is not a whole Parquet file: {error}"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(bad)?;
        let found = builder.schema();
        for field in self.wanted.fields() {
            let Ok(given) = found.field_with_name(field.name()) else {
                let names: Vec<_> = found.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(Error::UndefinedColumn(format!(
                    "the file has no column \"{}\": name those to copy, COPY … ({})",
                    field.name(),
                    names.join(", ")
                )));
            };
            if !converts(given.data_type(), field.data_type()) {
                return Err(Error::TypeMismatch(format!(
                    "column \"{}\" is {} in the file and {} in the table",
                    field.name(),
                    given.data_type(),
                    field.data_type()
                )));
            }
        }
        self.reader = Some(builder.with_batch_size(BATCH_ROWS).build().map_err(bad)?);
        Ok(())
    }

    fn batch(&mut self) -> Result<Option<CopyRows>> {
        let Some(batch) = self.reader.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let batch = batch.map_err(|error| Error::BadCopy(format!("the Parquet file cannot be read: {error}")))?;
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let column = |field: &arrow::datatypes::FieldRef| {
            let array = batch.column_by_name(field.name());
            let array = array.ok_or_else(|| Error::Internal("a column of the file went missing".into()))?;
            Ok(cast_with_options(array, field.data_type(), &options)?)
        };
        let arrays = self.wanted.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let lines = (self.rows + 1..=self.rows + batch.num_rows() as u64).collect::<Vec<_>>();
        self.rows += batch.num_rows() as u64;
        // Built without the NOT NULL of the table: that is checked where the line can be named.
        let rows = RecordBatch::try_from_iter_with_nullable(
            self.wanted.fields().iter().zip(arrays).map(|(field, array)| (field.name(), array, true)),
        )?;
        Ok(Some(CopyRows { rows, lines }))
    }
}

/// Whether values of one type are taken for the other: fractions are not cut off without a word.
fn converts(from: &DataType, to: &DataType) -> bool {
    let fraction = from.is_floating() && to.is_integer();
    from == to || !fraction && can_cast_types(from, to)
}

fn unwritable(error: std::io::Error) -> Error {
    Error::OutOfMemory(format!("the rows cannot be kept in a temporary file: {error}"))
}

/// What travels to the reader of an input.
pub(super) enum Part {
    Block(Bytes),
    End,
    Failed(Error),
}

/// Feeds an input from elsewhere. Dropped without `end`, it makes the COPY fail.
pub(super) struct Feed(pub(super) mpsc::Sender<Part>);

impl Feed {
    /// Hands a block over. One that nobody reads any more is dropped: the reader's own result says why.
    pub(super) async fn data(&self, block: Bytes) {
        let _ = self.0.send(Part::Block(block)).await;
    }

    /// The regular end.
    pub(super) async fn end(self) {
        let _ = self.0.send(Part::End).await;
    }
}

/// An input that is fed from elsewhere, and its batches.
pub(super) fn pipe(input: Input) -> (Feed, impl Stream<Item = Result<CopyRows>> + Send) {
    let (sender, parts) = mpsc::channel(BLOCKS_WAITING);
    (Feed(sender), batches(input, parts))
}

fn batches(input: Input, parts: mpsc::Receiver<Part>) -> impl Stream<Item = Result<CopyRows>> + Send {
    futures::stream::try_unfold((input, parts), |(mut input, mut parts)| async move {
        loop {
            if let Some(batch) = input.batch()? {
                return Ok(Some((batch, (input, parts))));
            }
            if input.closed {
                return Ok(None);
            }
            match parts.recv().await {
                Some(Part::Block(block)) => input.block(&block)?,
                Some(Part::End) => input.close()?,
                Some(Part::Failed(error)) => return Err(error),
                None => return Err(Error::Cancelled),
            }
        }
    })
}
