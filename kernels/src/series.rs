//! A batch of series in compressed rows: one slice of values and where each series starts.
//!
//! **Invariant:** borrows, never copies; a `Series` that exists has offsets that ascend and stay inside the values.

use crate::{Error, Result};

/// Many series in one slice. Series `i` is `values[offsets[i]..offsets[i + 1]]`; NaN means a missing value.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    values: &'a [f64],
    offsets: &'a [usize],
}

impl<'a> Series<'a> {
    /// Borrows `values` as the series that `offsets` cuts it into: one offset more than there are series, the first 0,
    /// ascending, the last the number of values.
    ///
    /// # Errors
    /// [`Error::Shape`] when the offsets break that rule.
    pub fn new(values: &'a [f64], offsets: &'a [usize]) -> Result<Self> {
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return Err(Error::Shape("a batch of series needs at least one offset, the 0 it starts with".to_owned()));
        };
        if *first != 0 || *last != values.len() {
            let text = format!("offsets run from {first} to {last}, but must run from 0 to {}", values.len());
            return Err(Error::Shape(text));
        }
        match offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            Some(at) => Err(Error::Shape(format!("series {at} ends before it starts: offsets must ascend"))),
            None => Ok(Self { values, offsets }),
        }
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no series at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of series `i`, oldest first.
    ///
    /// # Panics
    /// When `i` is not below [`Series::len`].
    #[must_use]
    pub fn get(&self, i: usize) -> &'a [f64] {
        &self.values[self.offsets[i]..self.offsets[i + 1]]
    }

    /// All values, series after series.
    #[must_use]
    pub fn values(&self) -> &'a [f64] {
        self.values
    }

    /// Where each series starts, and the end of the last.
    #[must_use]
    pub fn offsets(&self) -> &'a [usize] {
        self.offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_cut_where_the_offsets_say() {
        let series = Series::new(&[1.0, 2.0, 3.0], &[0, 2, 2, 3]).unwrap();
        assert_eq!(series.len(), 3);
        assert_eq!(series.get(0), [1.0, 2.0]);
        assert!(series.get(1).is_empty());
        assert_eq!(series.get(2), [3.0]);
    }

    #[test]
    fn offsets_that_do_not_fit_the_values_are_refused() {
        for offsets in [&[][..], &[1, 3], &[0, 2], &[0, 2, 1, 3], &[0, 4]] {
            assert!(matches!(Series::new(&[1.0, 2.0, 3.0], offsets), Err(Error::Shape(_))), "{offsets:?}");
        }
    }

    #[test]
    fn no_series_is_a_valid_batch() {
        assert!(Series::new(&[], &[0]).unwrap().is_empty());
    }
}
