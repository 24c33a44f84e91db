//! `juno import`: files into a data directory, with a progress bar.
//!
//! A reader thread parses while the session stores. A file is stored whole, in one step, or not at all. Only of line protocol
//! each part is one commit, since one file may hold many tables: after an error the parts before it are stored, and since
//! rows of the same series and time are one, in which later values win, importing the mended file again is safe.
//!
//! **Invariant:** holds a few batches and what the engine holds of an import, never a file.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use juno_sql::engine::Db;
use juno_sql::{Incoming, Session};

use crate::config::ImportArgs;
use crate::ingest::known::Tables;
use crate::ingest::line_protocol::{self, Rejected};
use crate::ingest::precision::Precision;
use crate::ingest::read::{self, Format};
use crate::ingest::refusal::Refusal;
use crate::ingest::shape::{self, Wanted};

/// Parsed batches that wait to be stored.
const WAITING_MAX: usize = 2;
/// Line protocol is parsed in parts of this size.
const PART_BYTES: usize = 4 << 20;
/// Bad lines that are printed per file; all are counted.
const PRINTED_LINES_MAX: usize = 20;

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("\"{}\": {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file's rows cannot be stored; of line protocol, earlier parts are.
    #[error("\"{}\": {text} ({stored} rows of it were stored)", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        text: String,
        /// Rows that were stored before.
        stored: u64,
    },
}

/// What an import did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Rows stored.
    pub rows: u64,
    /// Lines of line protocol that were refused.
    pub refused: u64,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rows(Format),
    LineProtocol,
}

/// Imports the files of the command line into an open session's database.
pub async fn run(session: &Session, args: &ImportArgs) -> Result<Summary, Error> {
    let kinds =
        args.files.iter().map(|path| kind(path).map(|kind| (path.clone(), kind))).collect::<Result<Vec<_>, _>>()?;
    if args.table.is_none() && kinds.iter().any(|(_, kind)| *kind != Kind::LineProtocol) {
        return Err(Error::Usage("say which table the rows are for: --table NAME".into()));
    }
    let precision = match args.precision.as_deref() {
        None => None,
        Some(text) => {
            let odd = || Error::Usage(format!("--precision \"{text}\" is not one of {}", Precision::NAMES));
            Some(Precision::read(text).ok_or_else(odd)?)
        }
    };
    let wanted = Wanted {
        table: args.table.clone().unwrap_or_default(),
        time: args.time.clone(),
        tags: args.tags.as_deref().map(shape::names),
        precision,
    };
    let mut summary = Summary::default();
    for (path, kind) in kinds {
        let bar = progress(&path);
        let one = import(session, &path, kind, &wanted, &bar).await;
        bar.finish_and_clear();
        let one = one?;
        summary.rows += one.rows;
        summary.refused += one.refused;
    }
    Ok(summary)
}

/// Something that the reader thread hands over.
enum Item {
    Rows(Vec<Incoming>),
    Refused(Vec<Rejected>, u64),
    Failed(String),
    /// The file was read to its end.
    End,
}

async fn import(
    session: &Session,
    path: &Path,
    kind: Kind,
    wanted: &Wanted,
    bar: &ProgressBar,
) -> Result<Summary, Error> {
    let (sender, items) = sync_channel(WAITING_MAX);
    let reader = Reader { path: path.to_owned(), kind, wanted: wanted.clone(), db: session.db().clone(), sender };
    let thread = std::thread::spawn(move || reader.run());
    let mut summary = Summary::default();
    let stored = match kind {
        Kind::Rows(_) => import_rows(session, items, bar, &mut summary).await,
        Kind::LineProtocol => import_lines(session, items, path, bar, &mut summary).await,
    };
    let failed = |text: String, stored| Error::Rows { path: path.to_owned(), text, stored };
    match thread.join() {
        Ok(Ok(())) => match stored {
            Ok(()) => Ok(summary),
            Err(Failed(text)) => Err(failed(text, summary.rows)),
        },
        Ok(Err(source)) => Err(Error::File { path: path.to_owned(), source }),
        // The Parquet and Arrow readers may panic on bytes that are damaged on purpose.
        Err(_) => Err(failed("the file is damaged".into(), summary.rows)),
    }
}

/// Stores all batches in one step.
async fn import_rows(
    session: &Session,
    items: Receiver<Item>,
    bar: &ProgressBar,
    summary: &mut Summary,
) -> Result<(), Failed> {
    let (bar, mut ended) = (bar.clone(), false);
    let batches = std::iter::from_fn(move || {
        loop {
            match items.recv() {
                Ok(Item::Rows(incoming)) => {
                    let Some(batch) = incoming.into_iter().next() else { continue };
                    bar.inc(batch.rows.num_rows() as u64);
                    return Some(Ok(batch));
                }
                Ok(Item::Refused(..)) => {}
                Ok(Item::Failed(text)) => return Some(Err(Failed(text))),
                Ok(Item::End) => ended = true,
                Err(_) if ended => return None,
                // The reader's thread died before the file's end.
                Err(_) => return Some(Err(Failed("the file is damaged".into()))),
            }
        }
    });
    summary.rows = session.import(batches).await?;
    Ok(())
}

/// Stores each part of the lines in a commit.
async fn import_lines(
    session: &Session,
    items: Receiver<Item>,
    path: &Path,
    bar: &ProgressBar,
    summary: &mut Summary,
) -> Result<(), Failed> {
    while let Ok(item) = items.recv() {
        match item {
            Item::Rows(incoming) => {
                let rows: usize = incoming.iter().map(|incoming| incoming.rows.num_rows()).sum();
                session.ingest(incoming).await?;
                summary.rows += rows as u64;
                bar.inc(rows as u64);
            }
            Item::Refused(lines, total) => {
                let printed = summary.refused.min(PRINTED_LINES_MAX as u64) as usize;
                for bad in lines.iter().take(PRINTED_LINES_MAX - printed) {
                    bar.suspend(|| eprintln!("{}:{}: {}", path.display(), bad.line, bad.message));
                }
                summary.refused += total;
            }
            Item::Failed(text) => return Err(Failed(text)),
            Item::End => break,
        }
    }
    Ok(())
}

/// Why rows could not be stored.
struct Failed(String);

impl From<juno_sql::Error> for Failed {
    fn from(error: juno_sql::Error) -> Self {
        Self(error.to_string())
    }
}

struct Reader {
    path: PathBuf,
    kind: Kind,
    wanted: Wanted,
    db: Db,
    sender: SyncSender<Item>,
}

impl Reader {
    /// Reads the file to its end, or until nobody wants its rows any more.
    fn run(self) -> io::Result<()> {
        match self.kind {
            Kind::LineProtocol => self.lines(),
            Kind::Rows(format) => match self.rows(format)? {
                Ok(()) => {
                    let _ = self.sender.send(Item::End);
                    Ok(())
                }
                Err(refusal) => {
                    let _ = self.sender.send(Item::Failed(refusal.to_string()));
                    Ok(())
                }
            },
        }
    }

    fn rows(&self, format: Format) -> io::Result<Result<(), Refusal>> {
        let format = match format {
            Format::ArrowStream if read::starts_as_arrow_file(&mut BufReader::new(open(&self.path)?))? => {
                Format::ArrowFile
            }
            other => other,
        };
        let file = File::open(&self.path)?;
        let mut tables = Tables::new(self.db.catalog());
        let path = self.path.clone();
        let batches =
            read::file(format, file, move || open(&path), &self.wanted, tables.get(&self.wanted.table).as_ref());
        Ok(batches.and_then(|batches| {
            let mut rows = 0;
            for batch in batches {
                let batch = batch?;
                let incoming = shape::shape(&batch, rows, &self.wanted, tables.get(&self.wanted.table).as_ref())?;
                rows += batch.num_rows();
                tables.learn(&incoming);
                if self.sender.send(Item::Rows(vec![incoming])).is_err() {
                    break;
                }
            }
            Ok(())
        }))
    }

    fn lines(&self) -> io::Result<()> {
        let precision = self.wanted.precision.unwrap_or(Precision::Nanoseconds);
        let renamed = Some(&self.wanted.table).filter(|table| !table.is_empty());
        let mut tables = Tables::new(self.db.catalog());
        let (mut source, mut text, mut lines_before) = (open(&self.path)?, Vec::with_capacity(PART_BYTES), 0);
        loop {
            let read = source.by_ref().take(PART_BYTES as u64).read_to_end(&mut text)?;
            let now_us = self.db.system().clock().now_us();
            let lookup = |name: &str| tables.get(renamed.map_or(name, String::as_str));
            let mut parsed = line_protocol::parse_part(&text, read == 0, precision, now_us, &lookup);
            for incoming in &mut parsed.incoming {
                if let Some(table) = renamed {
                    incoming.table.clone_from(table);
                }
                tables.learn(incoming);
            }
            for bad in &mut parsed.rejected {
                bad.line += lines_before;
            }
            lines_before += parsed.lines;
            text.drain(..parsed.consumed);
            let refused = Item::Refused(parsed.rejected, parsed.rejected_total);
            if self.sender.send(refused).is_err() || self.sender.send(Item::Rows(parsed.incoming)).is_err() || read == 0
            {
                return Ok(());
            }
        }
    }
}

/// The file's bytes, unzipped where its name ends in `.gz`.
fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let file = File::open(path)?;
    let zipped = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    Ok(if zipped { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) })
}

fn kind(path: &Path) -> Result<Kind, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Ok(match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("parquet" | "pq") => Kind::Rows(Format::Parquet),
        Some("csv") => Kind::Rows(Format::Csv),
        Some("ndjson" | "jsonl" | "json") => Kind::Rows(Format::Ndjson),
        Some("arrow" | "arrows" | "ipc" | "feather") => Kind::Rows(Format::ArrowStream),
        Some("lp" | "line" | "influx") => Kind::LineProtocol,
        _ => {
            let text = "names must end in .parquet, .csv, .ndjson, .jsonl, .arrow or .lp; text may be zipped as .gz";
            return Err(Error::Usage(format!("\"{}\": the format is not known: {text}", path.display())));
        }
    })
}

fn progress(path: &Path) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}: {human_pos} rows, {per_sec}, {elapsed}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("the template is a constant"));
    bar.set_message(path.display().to_string());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_says_what_a_file_is() {
        let of = |name: &str| kind(Path::new(name)).ok();
        assert_eq!(of("a/cpu.parquet"), Some(Kind::Rows(Format::Parquet)));
        assert_eq!(of("CPU.CSV.GZ"), Some(Kind::Rows(Format::Csv)));
        assert_eq!(of("x.lp"), Some(Kind::LineProtocol));
        assert_eq!(of("x.jsonl.gz"), Some(Kind::Rows(Format::Ndjson)));
        assert_eq!(of("x.txt"), None);
        assert_eq!(of("parquet"), None);
    }
}
