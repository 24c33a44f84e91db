//! The text format: a row a line, values by a delimiter, a backslash before what would be misread.
//!
//! <https://www.postgresql.org/docs/16/sql-copy.html>, "Text Format".
//!
//! **Invariant:** knows no types: bytes of a line in, bytes of its values out, and the other way round.

use bytes::BufMut;
use juno_sql::CopyOptions;

use super::input::{Line, Values};

/// Finds the first line. None where its end is not there yet.
pub(super) fn line(input: &[u8]) -> Option<Line> {
    let mut at = 0;
    while at < input.len() {
        match input[at] {
            // What follows belongs to the value, even a line's end.
            b'\\' => at += 1,
            b'\n' => return Some(Line { end: at, next: at + 1 }),
            b'\r' => {
                let next = *input.get(at + 1)?;
                return Some(Line { end: at, next: at + 1 + usize::from(next == b'\n') });
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Cuts a line into its values.
pub(super) fn split(line: &[u8], options: &CopyOptions, values: &mut Values) {
    let mut start = 0;
    loop {
        let (mut end, mut escaped) = (start, false);
        while end < line.len() && line[end] != options.delimiter {
            if line[end] == b'\\' {
                escaped = true;
                end += 1;
            }
            end += 1;
        }
        let end = end.min(line.len());
        let raw = &line[start..end];
        if raw == options.null.as_bytes() {
            values.null();
        } else if escaped {
            values.written(|out| unescape(raw, out));
        } else {
            values.raw(start..end);
        }
        if end == line.len() {
            return;
        }
        start = end + 1;
    }
}

/// Writes a value with its escapes resolved.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let Some((&escaped, after)) = rest.split_first().filter(|_| byte == b'\\') else {
            out.push(byte);
            continue;
        };
        rest = after;
        out.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => number(u32::from(escaped - b'0'), &mut rest, 2, 8),
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => number(0, &mut rest, 2, 16),
            other => other,
        });
    }
}

/// Reads at most `most` digits more of a byte's number.
fn number(first: u32, rest: &mut &[u8], most: usize, base: u32) -> u8 {
    let mut value = first;
    for _ in 0..most {
        let Some(digit) = rest.first().and_then(|byte| char::from(*byte).to_digit(base)) else { break };
        value = value * base + digit;
        *rest = &rest[1..];
    }
    value as u8
}

/// Escapes the value that stands from `start` on.
pub(super) fn escape(out: &mut Vec<u8>, start: usize, delimiter: u8) {
    let special = |byte: &u8| *byte == delimiter || matches!(*byte, b'\\' | 0x08..=0x0d);
    if !out[start..].iter().any(special) {
        return;
    }
    let value = out.split_off(start);
    for byte in &value {
        let letter = match *byte {
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0b => b'v',
            0x0c => b'f',
            b'\r' => b'r',
            other if special(&other) => other,
            other => {
                out.put_u8(other);
                continue;
            }
        };
        out.put_u8(b'\\');
        out.put_u8(letter);
    }
}
