//! PostgreSQL's binary format: a signature, rows as counted lengths and values, a trailer.
//!
//! ```text
//! header   "PGCOPY\n\xff\r\n\0", flags u32 (bit 16: with OIDs), length of an extension u32, the extension
//! row      number of columns i16; each: length i32 (-1 = null), the bytes
//! trailer  -1 as i16
//! ```
//! All numbers big-endian. <https://www.postgresql.org/docs/16/sql-copy.html>, "Binary Format".
//!
//! **Invariant:** a length that goes beyond the input is waited for, never trusted.

use juno_sql::{Error, Result};

use super::input::Values;

/// What every file begins with.
pub(super) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// The whole header as juno writes it: no flags, no extension.
pub(super) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What every file ends with.
pub(super) const TRAILER: &[u8; 2] = b"\xff\xff";
/// Flags that a reader must know; of them only "with OIDs" was ever used.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// The length of the header; None where it is not whole yet.
pub(super) fn header(input: &[u8]) -> Result<Option<usize>> {
    let begun = input.len().min(SIGNATURE.len());
    if input[..begun] != SIGNATURE[..begun] {
        return Err(Error::BadCopy("COPY file signature not recognized".into()));
    }
    let (Some(flags), Some(extension)) = (word(input, 11), word(input, 15)) else { return Ok(None) };
    if flags & CRITICAL_FLAGS != 0 {
        return Err(Error::BadCopy("invalid COPY file header: flags that juno does not know".into()));
    }
    let length = HEADER.len() + extension as usize;
    Ok((input.len() >= length).then_some(length))
}

/// What stands at the front.
pub(super) enum Tuple {
    /// A row of so many bytes; its values were taken.
    Row(usize),
    Trailer,
    /// Not whole yet.
    Partial,
}

/// Reads one row of `width` columns.
pub(super) fn tuple(input: &[u8], width: usize, values: &mut Values) -> Result<Tuple> {
    let Some(count) = input.first_chunk::<2>().map(|bytes| i16::from_be_bytes(*bytes)) else {
        return Ok(Tuple::Partial);
    };
    if count == -1 {
        return Ok(Tuple::Trailer);
    }
    if usize::try_from(count) != Ok(width) {
        return Err(Error::BadCopy(format!("row field count is {count}, expected {width}")));
    }
    let mut at = 2;
    for _ in 0..width {
        let Some(length) = word(input, at) else { return Ok(Tuple::Partial) };
        at += 4;
        match length as i32 {
            -1 => values.null(),
            length => {
                let length = usize::try_from(length);
                let length = length.map_err(|_| Error::BadCopy("invalid field size".into()))?;
                if input.len() < at + length {
                    return Ok(Tuple::Partial);
                }
                values.raw(at..at + length);
                at += length;
            }
        }
    }
    Ok(Tuple::Row(at))
}

fn word(input: &[u8], at: usize) -> Option<u32> {
    input.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}
