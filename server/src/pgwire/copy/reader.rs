//! Rows on their way in: the values of one row after the other, gathered into batches.
//!
//! **Invariant:** every column has the same number of values between rows; an error names table, line and column.

use arrow::array::timezone::Tz;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use juno_sql::{CopyIn, CopyRows, Error, Result};

use super::column::ColumnReader;
use crate::pgwire::column::Format;

/// Rows of a batch.
const BATCH_ROWS: usize = 65_536;
/// Bytes of values after which a batch is given out, however few its rows are.
const BATCH_BYTES: usize = 32 << 20;
/// The most characters of a value that an error shows.
const SHOWN_CHARS_MAX: usize = 100;

/// Gathers rows of a table.
pub(super) struct RowReader {
    copy: CopyIn,
    columns: Vec<ColumnReader>,
    lines: Vec<u64>,
    bytes: usize,
}

impl RowReader {
    pub(super) fn new(copy: &CopyIn, format: Format, zone: Tz) -> Result<RowReader> {
        let columns = copy.schema.fields().iter().map(|field| ColumnReader::new(field, format, zone));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(RowReader { copy: copy.clone(), columns, lines: Vec::new(), bytes: 0 })
    }

    /// The number of columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The name of a column.
    pub(super) fn name(&self, column: usize) -> &str {
        self.columns[column].field.name()
    }

    /// Takes one row that begins on `line`; None is a null.
    pub(super) fn row<'a>(&mut self, line: u64, values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<()> {
        for (index, value) in values.enumerate() {
            let column = &mut self.columns[index];
            let taken = match value {
                Some(value) => {
                    self.bytes += value.len();
                    column.value(value)
                }
                None if column.field.is_nullable() => column.null(),
                None => Err(Error::NotNullViolation {
                    table: self.copy.table().to_owned(),
                    column: column.field.name().clone(),
                }),
            };
            taken.map_err(|error| self.at(line, Some(index), value, error))?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// An error with the place where it happened.
    pub(super) fn at(&self, line: u64, column: Option<usize>, value: Option<&[u8]>, cause: Error) -> Error {
        let mut place = format!("COPY {}, line {line}", self.copy.table());
        if let Some(column) = column {
            place.push_str(&format!(", column {}", self.name(column)));
        }
        if let Some(text) = value.and_then(|value| std::str::from_utf8(value).ok()) {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            let dots = if shown.len() < text.len() { "..." } else { "" };
            place.push_str(&format!(": \"{shown}{dots}\""));
        }
        Error::Row { place, cause: Box::new(cause) }
    }

    /// Whether enough rows are there for a batch.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The rows that are there; None where there are none.
    pub(super) fn take(&mut self) -> Result<Option<CopyRows>> {
        if self.lines.is_empty() {
            return Ok(None);
        }
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        let arrays = self.columns.iter_mut().map(ColumnReader::finish).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
        let rows = RecordBatch::try_new_with_options(self.copy.schema.clone(), arrays, &options)?;
        Ok(Some(CopyRows { rows, lines }))
    }
}
