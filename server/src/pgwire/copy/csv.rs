//! CSV as PostgreSQL's COPY reads and writes it: a value in quotes may hold delimiters and line ends.
//!
//! <https://www.postgresql.org/docs/16/sql-copy.html>, "CSV Format".
//!
//! **Invariant:** knows no types: bytes of a line in, bytes of its values out, and the other way round.

use bytes::BufMut;
use juno_sql::CopyOptions;

use super::input::{Line, Values};

/// Finds the first line that ends outside of quotes. None where its end is not there yet.
pub(super) fn line(input: &[u8], options: &CopyOptions) -> Option<Line> {
    let (mut at, mut quoted) = (0, false);
    while at < input.len() {
        match input[at] {
            byte if quoted && byte == options.escape && options.escape != options.quote => at += 1,
            byte if byte == options.quote => quoted = !quoted,
            b'\n' if !quoted => return Some(Line { end: at, next: at + 1 }),
            b'\r' if !quoted => {
                let next = *input.get(at + 1)?;
                return Some(Line { end: at, next: at + 1 + usize::from(next == b'\n') });
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether the last line of an input ends inside quotes.
pub(super) fn is_unterminated(line: &[u8], options: &CopyOptions) -> bool {
    let (mut at, mut quoted) = (0, false);
    while at < line.len() {
        match line[at] {
            byte if quoted && byte == options.escape && options.escape != options.quote => at += 1,
            byte if byte == options.quote => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    quoted
}

/// The columns whose null text is read in another way.
pub(super) struct Forced {
    /// By column: the null text is a value.
    pub(super) not_null: Vec<bool>,
    /// By column: the null text is a null in quotes too.
    pub(super) null: Vec<bool>,
}

/// Cuts a line into its values.
pub(super) fn split(line: &[u8], options: &CopyOptions, forced: &Forced, values: &mut Values) {
    let null = options.null.as_bytes();
    let is = |flags: &[bool], column: usize| flags.get(column).copied().unwrap_or(false);
    let mut start = 0;
    for column in 0.. {
        let special = |byte: &u8| *byte == options.delimiter || *byte == options.quote;
        let stop = line[start..].iter().position(special).map_or(line.len(), |at| start + at);
        let end = if line.get(stop) == Some(&options.quote) {
            let mut end = start;
            values.written(|out| end = unquote(line, start, options, out));
            if is(&forced.null, column) && values.last() == null {
                values.last_is_null();
            }
            end
        } else {
            let raw = &line[start..stop];
            if raw == null && !is(&forced.not_null, column) {
                values.null();
            } else {
                values.raw(start..stop);
            }
            stop
        };
        if end >= line.len() {
            return;
        }
        start = end + 1;
    }
}

/// Writes a value without its quotes, and gives the place of the delimiter after it.
fn unquote(line: &[u8], start: usize, options: &CopyOptions, out: &mut Vec<u8>) -> usize {
    let (mut at, mut quoted) = (start, false);
    while at < line.len() {
        let (byte, next) = (line[at], line.get(at + 1).copied());
        let escapes = next.is_some_and(|next| next == options.quote || next == options.escape);
        if quoted && byte == options.escape && escapes {
            out.push(line[at + 1]);
            at += 1;
        } else if byte == options.quote {
            quoted = !quoted;
        } else if byte == options.delimiter && !quoted {
            return at;
        } else {
            out.push(byte);
        }
        at += 1;
    }
    at
}

/// Puts the value that stands from `start` on in quotes, where it must be or where `always` says so.
pub(super) fn quote(out: &mut Vec<u8>, start: usize, options: &CopyOptions, always: bool) {
    let value = &out[start..];
    let special = |byte: &u8| *byte == options.delimiter || *byte == options.quote || matches!(*byte, b'\n' | b'\r');
    let misread = value == options.null.as_bytes() || value == b"\\.";
    if !always && !misread && !value.iter().any(special) {
        return;
    }
    let value = out.split_off(start);
    out.put_u8(options.quote);
    for byte in &value {
        if *byte == options.quote || *byte == options.escape {
            out.put_u8(options.escape);
        }
        out.put_u8(*byte);
    }
    out.put_u8(options.quote);
}
