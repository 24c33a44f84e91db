//! What a caller asks of a scan.
//!
//! **Invariant:** a scan returns the rows that satisfy every filter, as they are after all versions of a row were merged, and no
//! other.

use arrow::array::{ArrayRef, Scalar};

/// Columns wanted and rows worth reading.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// Indices into the table's columns, in the order wanted.
    pub projection: Vec<usize>,
    /// The times of interest; meaningless for a keyed table.
    pub time: TimeRange,
    /// Tags of interest; a row must satisfy all.
    pub tags: Vec<TagFilter>,
    /// Values of interest; a row must satisfy all.
    pub fields: Vec<FieldFilter>,
}

/// A column that must compare so with a value. Null does not; of floats NaN is the greatest, and -0 is less than 0.
#[derive(Debug, Clone)]
pub struct FieldFilter {
    /// The index of a column.
    pub column: usize,
    /// How the column's value stands to `value`.
    pub comparison: Comparison,
    /// A value of the column's own type.
    pub value: Scalar<ArrayRef>,
}

/// How a value stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Is the same.
    Equal,
    /// Is another.
    NotEqual,
    /// Comes before.
    Less,
    /// Comes before or is the same.
    LessOrEqual,
    /// Comes behind.
    Greater,
    /// Comes behind or is the same.
    GreaterOrEqual,
}

/// Times from `from` (inclusive) to `to` (exclusive), in microseconds since 1970. `to == i64::MAX` includes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first time.
    pub from: i64,
    /// The time after the last.
    pub to: i64,
}

impl Default for TimeRange {
    fn default() -> Self {
        Self::ALL
    }
}

impl TimeRange {
    /// All times.
    pub const ALL: Self = Self { from: i64::MIN, to: i64::MAX };

    pub(crate) fn contains(self, time: i64) -> bool {
        self.from <= time && (time < self.to || self.to == i64::MAX)
    }

    /// Whether any time from `min` to `max`, both inclusive, is in the range.
    pub(crate) fn overlaps(self, min: i64, max: i64) -> bool {
        self.from <= max && (min < self.to || self.to == i64::MAX)
    }

    /// Whether all times from `min` to `max`, both inclusive, are in the range.
    pub(crate) fn covers(self, min: i64, max: i64) -> bool {
        self.contains(min) && self.contains(max)
    }

    /// Whether the ranges have times in common.
    pub(crate) fn shares(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The narrowest range that holds both.
    pub fn hull(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }

    pub(crate) fn intersect(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }
}

/// A tag that must have one of these values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    /// The index of a tag column.
    pub column: usize,
    /// The values wanted; null is never among them.
    pub any_of: Vec<String>,
}
