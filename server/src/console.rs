//! `juno sql`: statements on a data directory, rows on the standard output.
//!
//! **Invariant:** rows are printed as they come; at most [`CHUNK_ROWS`] of them are held to align columns.

use std::io::{self, BufWriter, ErrorKind, Write};

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use futures::StreamExt;
use juno_sql::{Outcome, Session};

use crate::config::Format;
use crate::json::{self, RowShape};
use crate::pgwire::copy::{self, CopyOut};
use crate::{csv, error};

/// Rows that are aligned together in the table format.
const CHUNK_ROWS: usize = 10_000;

/// Why the statements were not all run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("{} (SQLSTATE {})", .0, error::sqlstate(.0))]
    Sql(#[from] juno_sql::Error),
    /// The output cannot be written.
    #[error("cannot write the rows: {0}")]
    Output(#[from] io::Error),
}

/// Runs all statements of a text in order and prints what they give. A closed pipe ends it without an error.
pub async fn run(session: &Session, sql: &str, format: Format) -> Result<(), Error> {
    let mut out = BufWriter::new(io::stdout());
    let result = print_all(session, sql, format, &mut out).await;
    let result = result.and_then(|()| Ok(out.flush()?));
    match result {
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

async fn print_all(session: &Session, sql: &str, format: Format, out: &mut impl Write) -> Result<(), Error> {
    for statement in session.parse(sql)? {
        let prepared = session.prepare(statement, &[]).await?;
        match session.execute(&prepared, vec![]).await? {
            Outcome::Rows { mut stream, .. } => {
                let schema = prepared.schema.clone().unwrap_or_else(|| stream.schema());
                let mut printer = Printer::new(format, schema);
                printer.begin(out)?;
                while let Some(batch) = stream.next().await {
                    printer.batch(batch.map_err(juno_sql::Error::from)?, out)?;
                }
                printer.end(out)?;
            }
            Outcome::CopyIn(copy) => done(copy::from_file(session, &copy).await?, format, out)?,
            Outcome::CopyOut { schema, options, place, stream } => {
                done(copy::to_file(session, CopyOut { schema, options, place, stream }).await?, format, out)?;
            }
            outcome => done(outcome, format, out)?,
        }
    }
    Ok(())
}

/// Prints the outcome of a statement without rows.
fn done(outcome: Outcome, format: Format, out: &mut impl Write) -> Result<(), Error> {
    if let Outcome::Done { tag, notices } = outcome {
        for notice in notices {
            eprintln!("{notice}");
        }
        if format == Format::Table {
            writeln!(out, "{tag}")?;
        }
    }
    Ok(())
}

/// Prints the rows of one statement.
struct Printer {
    format: Format,
    schema: SchemaRef,
    rows: usize,
    held: Vec<RecordBatch>,
    first: bool,
}

impl Printer {
    fn new(format: Format, schema: SchemaRef) -> Printer {
        Printer { format, schema, rows: 0, held: vec![], first: true }
    }

    fn begin(&mut self, out: &mut impl Write) -> Result<(), Error> {
        match self.format {
            Format::Table => {}
            Format::Csv => {
                let mut text = String::new();
                csv::header(&self.schema, &mut text);
                out.write_all(text.as_bytes())?;
            }
            Format::Json => out.write_all(b"[")?,
        }
        Ok(())
    }

    fn batch(&mut self, batch: RecordBatch, out: &mut impl Write) -> Result<(), Error> {
        self.rows += batch.num_rows();
        let mut text = String::new();
        match self.format {
            Format::Table => {
                self.held.push(batch);
                if self.held.iter().map(RecordBatch::num_rows).sum::<usize>() >= CHUNK_ROWS {
                    self.table(out)?;
                }
            }
            Format::Csv => csv::rows(&batch, &mut text).map_err(juno_sql::Error::from)?,
            Format::Json => {
                json::rows(&self.schema, &batch, RowShape::Object, (",\n ", &mut self.first, ""), &mut text)
                    .map_err(juno_sql::Error::from)?
            }
        }
        Ok(out.write_all(text.as_bytes())?)
    }

    fn end(&mut self, out: &mut impl Write) -> Result<(), Error> {
        match self.format {
            Format::Table => {
                if !self.held.is_empty() || self.rows == 0 {
                    self.table(out)?;
                }
                let s = if self.rows == 1 { "" } else { "s" };
                writeln!(out, "({} row{s})", self.rows)?;
            }
            Format::Csv => {}
            Format::Json => out.write_all(b"]\n")?,
        }
        Ok(())
    }

    fn table(&mut self, out: &mut impl Write) -> Result<(), Error> {
        let held = std::mem::take(&mut self.held);
        let schema = held.first().map_or_else(|| self.schema.clone(), RecordBatch::schema);
        let batch = concat_batches(&schema, &held).map_err(juno_sql::Error::from)?;
        let options = FormatOptions::new().with_display_error(true);
        let text = pretty_format_batches_with_options(&[batch], &options).map_err(juno_sql::Error::from)?;
        Ok(writeln!(out, "{text}")?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn printed(format: Format, batches: usize) -> String {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let (mut out, mut printer) = (vec![], Printer::new(format, batch.schema()));
        printer.begin(&mut out).unwrap();
        for _ in 0..batches {
            printer.batch(batch.clone(), &mut out).unwrap();
        }
        printer.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_format_is_whole_with_and_without_rows() {
        assert_eq!(printed(Format::Csv, 1), "n\r\n1\r\n2\r\n");
        assert_eq!(printed(Format::Json, 0), "[]\n");
        let json: serde_json::Value = serde_json::from_str(&printed(Format::Json, 2)).unwrap();
        assert_eq!(json[3]["n"], 2);
        assert!(printed(Format::Table, 2).ends_with("(4 rows)\n"));
        assert!(printed(Format::Table, 0).contains("| n |") && printed(Format::Table, 0).ends_with("(0 rows)\n"));
    }
}
