//! InfluxDB line protocol into columns. Tags become dictionary columns, `1i` i64, `1u` u64, `1` f64, `"x"` text, `t` bool.
//!
//! A bad line is named and left out, the others are kept. A line whose quotes do not close swallows nothing behind it: it is
//! refused and reading goes on with the next line of the text.
//!
//! Source: <https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>.
//!
//! Lines of one text with the same table, tags and time are one point, as in InfluxDB: their rows are stored in the order of
//! the lines, and rows of one series and time merge.
//!
//! **Invariant:** pure; a line adds all of its values or none.

mod plain;
mod rows;

use std::collections::HashMap;

use influxdb_line_protocol::{ParsedLine, parse_lines};
use juno_sql::Incoming;
use serde::Serialize;

use super::known::Known;
use super::precision::Precision;
use plain::Plain;
use rows::{Series, TableRows};

/// The longest line, newlines inside quotes included.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Bad lines that are kept with their message; all are counted.
const REJECTED_KEPT_MAX: usize = 1000;

/// A line that was not stored.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Its number, from 1.
    pub(crate) line: u64,
    pub(crate) message: String,
}

/// The lines of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The number of the first one.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: u64,
}

/// What a text held.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// One batch per table.
    pub(crate) incoming: Vec<Incoming>,
    /// Where each of these batches comes from.
    pub(crate) origins: Vec<Origin>,
    /// Lines in these batches.
    pub(crate) accepted: u64,
    /// The first bad lines.
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) rejected_total: u64,
    /// Bytes that were looked at; less than all only where more text was announced.
    pub(crate) consumed: usize,
    /// Lines that were looked at.
    pub(crate) lines: u64,
}

/// Looks up what is known of a table.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<Known>;

/// Parses a whole text.
pub(crate) fn parse(text: &[u8], precision: Precision, now_us: i64, lookup: Lookup<'_>) -> Parsed {
    parse_part(text, true, precision, now_us, lookup)
}

/// Parses a text; unless it is the `last` part, a line that may go on behind its end is left unconsumed.
pub(crate) fn parse_part<'a>(
    text: &'a [u8],
    last: bool,
    precision: Precision,
    now_us: i64,
    lookup: Lookup<'a>,
) -> Parsed {
    let mut parsed = Parsed::default();
    let mut tables = Tables { rows: vec![], index: HashMap::new(), recent: 0, series: SeriesSeen::default(), lookup };
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let newline = memchr::memchr(b'\n', rest).or(last.then_some(rest.len())).filter(|len| *len < LINE_BYTES_MAX);
        if let Some(end) = newline
            && tables.add_plain(&rest[..end], parsed.lines + 1, precision, now_us).is_some()
        {
            parsed.accepted += 1;
            parsed.lines += 1;
            at += end + 1;
            continue;
        }
        let end = line_end(rest);
        if end.is_none() && !last && rest.len() < LINE_BYTES_MAX {
            break;
        }
        let physical = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let mut line = &rest[..end.unwrap_or(rest.len().min(LINE_BYTES_MAX))];
        let mut result = one(line, parsed.lines + 1, precision, now_us, &mut tables);
        if result.is_err() && physical < line.len() {
            // The quotes did not close: only the first line of the text is at fault.
            line = &rest[..physical];
            result = one(line, parsed.lines + 1, precision, now_us, &mut tables).and(result);
        }
        let consumed = line.len().max(if result.is_err() { physical } else { 0 });
        match result {
            Ok(added) => parsed.accepted += u64::from(added),
            Err(message) => parsed.reject(message),
        }
        parsed.lines += 1 + line.iter().filter(|byte| **byte == b'\n').count() as u64;
        at += consumed + 1;
    }
    parsed.consumed = at.min(text.len());
    for rows in tables.rows {
        let origin = Origin { first: rows.first_line, count: rows.accepted() };
        if let Some(incoming) = rows.finish() {
            parsed.incoming.push(incoming);
            parsed.origins.push(origin);
        }
    }
    parsed
}

impl Parsed {
    /// Counts the lines of a table that could not be stored as bad, under the first of them.
    pub(crate) fn refuse(&mut self, lines: Origin, message: String) {
        self.accepted -= lines.count;
        self.rejected_total += lines.count;
        let at = self.rejected.partition_point(|bad| bad.line < lines.first);
        self.rejected.insert(at, Rejected { line: lines.first, message });
    }

    fn reject(&mut self, message: String) {
        self.rejected_total += 1;
        if self.rejected.len() < REJECTED_KEPT_MAX {
            self.rejected.push(Rejected { line: self.lines + 1, message });
        }
    }
}

struct Tables<'a> {
    rows: Vec<TableRows>,
    index: HashMap<String, usize>,
    /// Lines come in runs of one table.
    recent: usize,
    series: SeriesSeen<'a>,
    lookup: Lookup<'a>,
}

/// Series by the text before the first space.
#[derive(Default)]
struct SeriesSeen<'a> {
    /// In the order in which they came.
    all: Vec<(&'a [u8], Series)>,
    places: HashMap<&'a [u8], usize>,
    /// The place of the next one, where they come in the same order again, as from a host that reports all at once.
    next: usize,
}

impl<'a> SeriesSeen<'a> {
    /// A series that came before.
    fn find(&mut self, text: &[u8]) -> Option<&Series> {
        let place = match self.all.get(self.next) {
            Some((next, _)) if *next == text => self.next,
            _ => *self.places.get(text)?,
        };
        self.next = if place + 1 == self.all.len() { 0 } else { place + 1 };
        Some(&self.all[place].1)
    }

    fn add(&mut self, text: &'a [u8], series: Series) {
        self.places.insert(text, self.all.len());
        self.all.push((text, series));
    }
}

impl<'a> Tables<'a> {
    /// Adds a plain line whose table, tags and fields came before; None where it is none.
    fn add_plain(&mut self, line: &'a [u8], number: u64, precision: Precision, now_us: i64) -> Option<()> {
        let line = Plain::cut(line)?;
        let time_us = line.time_us(precision, now_us)?;
        if let Some(series) = self.series.find(line.series) {
            return self.rows[series.table].add_plain(&series.tags, line.fields, number, time_us);
        }
        let (measurement, tags) = line.tags()?;
        let table = *self.index.get(measurement)?;
        let series = Series { table, tags: self.rows[table].find_tags(&tags)? };
        let added = self.rows[table].add_plain(&series.tags, line.fields, number, time_us);
        self.series.add(line.series, series);
        added
    }

    fn table(&mut self, name: &str) -> &mut TableRows {
        if self.rows.get(self.recent).is_none_or(|rows| rows.name != name) {
            self.recent = match self.index.get(name) {
                Some(at) => *at,
                None => {
                    self.rows.push(TableRows::new(name, (self.lookup)(name)));
                    self.index.insert(name.to_owned(), self.rows.len() - 1);
                    self.rows.len() - 1
                }
            };
        }
        &mut self.rows[self.recent]
    }
}

/// Adds one line; false for a blank line or a comment.
fn one(line: &[u8], number: u64, precision: Precision, now_us: i64, tables: &mut Tables<'_>) -> Result<bool, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| *byte == b'#') {
        return Ok(false);
    }
    if line.len() >= LINE_BYTES_MAX {
        return Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"));
    }
    let text =
        std::str::from_utf8(line).map_err(|error| format!("the line is not UTF-8 at byte {}", error.valid_up_to()))?;
    let mut found = parse_lines(text);
    let (first, second) = (found.next(), found.next());
    let parsed: ParsedLine<'_> = match (first, second) {
        (Some(Ok(parsed)), None) => parsed,
        (Some(Err(error)), _) => return Err(explain(&error, text)),
        _ => return Err("the line breaks off".into()),
    };
    let time_us = match parsed.timestamp {
        None => now_us,
        Some(count) => {
            precision.to_us(count).ok_or_else(|| format!("timestamp {count} is out of range for this precision"))?
        }
    };
    tables.table(parsed.series.measurement.as_str()).add(&parsed, number, time_us)?;
    Ok(true)
}

/// The parser's error, said so that the writer of the line can mend it.
fn explain(error: &influxdb_line_protocol::Error, text: &str) -> String {
    let text: String = text.chars().take(120).collect();
    let lower = text.to_lowercase();
    if ["=nan", "=inf", "=+inf", "=-inf"].iter().any(|odd| lower.contains(odd)) {
        return format!("NaN and infinities are not values, leave the field out: '{text}'");
    }
    let what = match error {
        influxdb_line_protocol::Error::GenericParsingError { .. } => "the line cannot be parsed".into(),
        influxdb_line_protocol::Error::FieldSetMissing => "no valid field".into(),
        other => {
            let mut message = other.to_string();
            if let Some(first) = message.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            message
        }
    };
    format!("{what}: '{text}'")
}

/// Where the line that starts the text ends: at a newline that is neither escaped nor in quotes of a field value. The rules are
/// those of InfluxDB's `scanLine`. None where the text ends first or the line is too long.
fn line_end(text: &[u8]) -> Option<usize> {
    let (mut quoted, mut fields, mut escaped) = (false, false, false);
    let (mut equals, mut commas) = (0_u32, 0_u32);
    for (at, byte) in text.iter().enumerate().take(LINE_BYTES_MAX) {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' => escaped = true,
            b' ' => fields = true,
            b'=' if fields && !quoted => equals += 1,
            b',' if fields && !quoted => commas += 1,
            b'"' if fields && equals > commas => quoted = !quoted,
            b'\n' if !quoted => return Some(at),
            b'#' if at == 0 => return text.iter().position(|byte| *byte == b'\n'),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
