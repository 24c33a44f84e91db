//! Rows of bin codes, one column after the other.
//!
//! **Invariant:** borrows, never copies; every code is below [`BINS`].

use crate::{BINS, Error, Result};

/// The most features of a row.
pub const FEATURES_MAX: usize = 4_096;

/// Codes of many rows: feature f of row i is `codes[f * rows + i]`.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    codes: &'a [u8],
    rows: usize,
    features: usize,
}

impl<'a> Codes<'a> {
    /// Borrows the codes of `features` columns of `rows` rows each.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are fewer or more codes, a code is out of range, or there are no or too many features.
    pub fn new(codes: &'a [u8], rows: usize, features: usize) -> Result<Self> {
        if !(1..=FEATURES_MAX).contains(&features) {
            return Err(Error::Shape(format!("{features} features are out of range: use 1 to {FEATURES_MAX}")));
        }
        if rows.checked_mul(features) != Some(codes.len()) {
            let text = format!("{rows} rows of {features} features need as many codes, not {}", codes.len());
            return Err(Error::Shape(text));
        }
        match codes.iter().fold(0, |most, code| most.max(*code)) {
            most if usize::from(most) < BINS => Ok(Self { codes, rows, features }),
            most => Err(Error::Shape(format!("a code of {most} is out of range: codes are below {BINS}"))),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The codes of a feature.
    ///
    /// # Panics
    /// When there is no such feature.
    #[must_use]
    pub fn column(&self, feature: usize) -> &'a [u8] {
        &self.codes[feature * self.rows..][..self.rows]
    }

    /// All codes.
    #[cfg(feature = "cuda")]
    pub(crate) fn all(&self) -> &'a [u8] {
        self.codes
    }
}
