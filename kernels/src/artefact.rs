//! The bytes of what was learnt: an envelope with magic, version, length and checksum, and what is in it.
//!
//! ```text
//! magic    8 bytes
//! version  u32
//! length   u64, bytes of the body
//! body
//! crc      u32, CRC-32 of all before
//! ```
//!
//! All numbers are little-endian; a list is a u32 count and the items.
//!
//! **Invariant:** bytes that are not whole and undamaged are an error, never a panic and never a large allocation; knows nothing of
//! what the body means.

use crate::crc::crc32;
use crate::{Error, Result};

/// Magic, version and length.
const HEAD_BYTES: usize = 20;

/// What an envelope holds.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// Its first bytes.
    pub magic: &'static [u8; 8],
    /// The version that is written and read.
    pub version: u32,
    /// What it is, for whoever gives other bytes.
    pub what: &'static str,
}

impl Envelope {
    /// The body in its envelope.
    #[must_use]
    pub fn seal(&self, body: Writer) -> Vec<u8> {
        let mut out = Writer(self.magic.to_vec());
        out.u32(self.version);
        out.0.extend((body.0.len() as u64).to_le_bytes());
        out.0.extend(body.0);
        let crc = crc32(&out.0);
        out.u32(crc);
        out.0
    }

    /// What `read` makes of the body, all of which it must read.
    ///
    /// # Errors
    /// [`Error::Artefact`] when the bytes are cut, damaged, of another version or something else, and what `read` says.
    pub fn open<T>(&self, bytes: &[u8], read: impl FnOnce(&mut Input) -> Result<T>) -> Result<T> {
        let damaged = |text: &str| Err(Error::Artefact(text.to_owned()));
        if bytes.len() < HEAD_BYTES + 4 || &bytes[..8] != self.magic {
            let (what, magic) = (self.what, String::from_utf8_lossy(self.magic));
            return damaged(&format!("the artefact is no {what}: it does not begin with {magic}"));
        }
        let (rest, crc) = bytes.split_at(bytes.len() - 4);
        if crc != crc32(rest).to_le_bytes() {
            return damaged("the artefact's checksum does not fit its bytes: it is cut or damaged");
        }
        let mut input = Input(&rest[8..]);
        let (version, known) = (input.u32()?, self.version);
        if version != known {
            return damaged(&format!("the artefact is of version {version}; this juno reads version {known}"));
        }
        let length = u64::from_le_bytes(input.take()?);
        if length != input.0.len() as u64 {
            return damaged("the artefact's length does not fit its bytes");
        }
        let made = read(&mut input)?;
        if input.0.is_empty() { Ok(made) } else { damaged("the artefact has bytes behind its end") }
    }
}

/// The checksum holds, but the parts contradict each other.
#[must_use]
pub fn senseless() -> Error {
    Error::Artefact("the artefact's parts do not fit together: it was not written by juno".to_owned())
}

/// A body that is written.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A number.
    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    /// A number.
    pub fn f64(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// A text with its length.
    pub fn str(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes(text.as_bytes());
    }

    /// How many items there are, then each.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(items.len() as u32);
        items.iter().for_each(|item| each(self, item));
    }
}

/// What is left to read of a body.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// The next bytes.
    ///
    /// # Errors
    /// [`senseless`] when there are fewer, as for all that follow.
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((first, rest)) = self.0.split_first_chunk::<N>() else { return Err(senseless()) };
        self.0 = rest;
        Ok(*first)
    }

    /// One byte.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take::<1>()?[0])
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.take()?))
    }

    /// A text.
    ///
    /// # Errors
    /// As [`Self::take`], and when it is not UTF-8.
    pub fn str(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(senseless());
        }
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| senseless())
    }

    /// A list.
    ///
    /// # Errors
    /// What an item answers.
    pub fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| each(self)).collect()
    }
}
