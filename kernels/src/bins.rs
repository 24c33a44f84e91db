//! Cutting a column of numbers into bins.
//!
//! **Invariant:** a value's bin follows from the edges alone; equal values share a bin, and bins ascend with the values.

/// Bins of a column: one for what is missing and the rest for numbers.
pub const BINS: usize = 64;
/// The most edges between the bins of numbers.
const EDGES_MAX: usize = BINS - 2;

/// The edges of one column. Bin 0 is NaN, bin 1 + k is for numbers above k edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    /// Ascending; filled up with infinities, so that the search takes the same steps for every value.
    edges: [f64; BINS],
    used: usize,
}

impl Bins {
    /// Edges that cut the values into bins of about equally many. A value that alone would fill a bin gets one of its own;
    /// with few distinct values each has one.
    #[must_use]
    pub fn fit(values: &[f64]) -> Self {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mut distinct: Vec<(f64, usize)> = Vec::new();
        for value in sorted {
            match distinct.last_mut() {
                Some((last, count)) if *last == value => *count += 1,
                _ => distinct.push((value, 1)),
            }
        }
        Self::of(&edges(&distinct))
    }

    /// The same with a bin of its own for numbers below all of the values, and one for numbers above: what was never seen
    /// is told from what was.
    #[must_use]
    pub fn fit_closed(values: &[f64]) -> Self {
        let known = || values.iter().copied().filter(|value| !value.is_nan());
        let low = known().fold(f64::INFINITY, f64::min);
        let high = known().fold(f64::NEG_INFINITY, f64::max);
        let inner = Self::fit(values);
        // Two edges of the inner ones make room where all are used.
        let spare = inner.used > EDGES_MAX - 2;
        let mut edges: Vec<f64> = inner
            .edges()
            .iter()
            .enumerate()
            .filter(|(at, _)| !(spare && (*at == 1 || *at == 3)))
            .map(|(_, e)| *e)
            .collect();
        if low.is_finite() && edges.first().is_none_or(|first| low.next_down() < *first) {
            edges.insert(0, low.next_down());
        }
        if high.is_finite() && edges.last().is_none_or(|last| *last < high) {
            edges.push(high);
        }
        Self::of(&edges)
    }

    /// The bins of these edges, which are ascending numbers, at most 62; `None` where they are not.
    #[must_use]
    pub fn from_edges(edges: &[f64]) -> Option<Self> {
        let fits = edges.len() <= EDGES_MAX
            && edges.iter().all(|edge| !edge.is_nan())
            && edges.windows(2).all(|pair| pair[0] < pair[1]);
        fits.then(|| Self::of(edges))
    }

    fn of(ascending: &[f64]) -> Self {
        let mut edges = [f64::INFINITY; BINS];
        edges[..ascending.len()].copy_from_slice(ascending);
        Self { edges, used: ascending.len() }
    }

    /// The edges, ascending.
    #[must_use]
    pub fn edges(&self) -> &[f64] {
        &self.edges[..self.used]
    }

    /// Appends the code of every value.
    pub fn code(&self, values: &[f64], codes: &mut Vec<u8>) {
        codes.extend(values.iter().map(|value| self.code_of(*value)));
    }

    /// The code of one value.
    #[must_use]
    pub fn code_of(&self, value: f64) -> u8 {
        let mut at = 0;
        for step in [32, 16, 8, 4, 2, 1] {
            at += if self.edges[(at + step - 1) & (BINS - 1)] < value { step } else { 0 };
        }
        if value.is_nan() { 0 } else { at as u8 + 1 }
    }
}

/// Where to cut values that come so often.
fn edges(distinct: &[(f64, usize)]) -> Vec<f64> {
    let mut edges = Vec::new();
    let mut left: usize = distinct.iter().map(|(_, count)| count).sum();
    let few = distinct.len() <= EDGES_MAX + 1;
    let mut filled = 0;
    for pair in distinct.windows(2) {
        let [(value, count), (next, next_count)] = [pair[0], pair[1]];
        filled += count;
        let bins_left = (EDGES_MAX + 1 - edges.len()).max(1);
        let share = (left as f64 / bins_left as f64).max(1.0);
        // A full bin ends; so does one before a value that fills a bin alone.
        let full = filled as f64 >= share || (next_count as f64 >= share && filled > 0);
        if few || (full && edges.len() < EDGES_MAX) {
            edges.push(between(value, next));
            left -= filled;
            filled = 0;
        }
    }
    edges
}

/// A number that is at least `low` and below `high`: their middle, where it is one.
fn between(low: f64, high: f64) -> f64 {
    let middle = low / 2.0 + high / 2.0;
    if middle >= low && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::noise;

    #[test]
    fn few_values_have_a_bin_each_and_missing_ones_another() {
        let bins = Bins::fit(&[3.0, 1.0, f64::NAN, 1.0, f64::INFINITY, 2.0]);
        let mut codes = Vec::new();
        bins.code(&[f64::NAN, -9.0, 1.0, 2.0, 2.4, 3.0, 1e300, f64::INFINITY, f64::NEG_INFINITY], &mut codes);
        assert_eq!(codes, [0, 1, 1, 2, 2, 3, 4, 4, 1]);
    }

    #[test]
    fn many_values_fill_all_bins_about_evenly() {
        let values: Vec<f64> = (0..20_000).map(|i| if i % 4 == 0 { 0.0 } else { noise(i).exp() }).collect();
        let bins = Bins::fit(&values);
        assert_eq!(bins.edges().len(), EDGES_MAX);
        let mut codes = Vec::new();
        bins.code(&values, &mut codes);
        let mut counts = [0usize; BINS];
        codes.iter().for_each(|code| counts[usize::from(*code)] += 1);
        assert_eq!((counts[0], counts[1]), (0, 5_000), "the frequent zero stands alone");
        assert!(counts[2..].iter().all(|count| (150..400).contains(count)), "{counts:?}");
    }

    #[test]
    fn closed_bins_tell_what_lies_outside() {
        for values in [vec![5.0; 9], (0..9_000).map(noise).collect::<Vec<_>>(), vec![0.0, 1.0, 0.0]] {
            let bins = Bins::fit_closed(&values);
            assert!(bins.edges().len() <= EDGES_MAX && Bins::from_edges(bins.edges()).is_some());
            let seen: Vec<u8> = values.iter().map(|value| bins.code_of(*value)).collect();
            assert!(!seen.contains(&bins.code_of(-10.0)) && !seen.contains(&bins.code_of(10.0)));
        }
        assert!(Bins::fit_closed(&[]).edges().is_empty());
        assert!(Bins::fit_closed(&[f64::INFINITY, f64::NEG_INFINITY]).edges().len() <= 1);
    }

    #[test]
    fn no_values_are_no_edges_and_edges_come_back() {
        assert!(Bins::fit(&[]).edges().is_empty() && Bins::fit(&[f64::NAN; 9]).edges().is_empty());
        let bins = Bins::fit(&(0..1_000).map(noise).collect::<Vec<_>>());
        assert_eq!(Bins::from_edges(bins.edges()).unwrap(), bins);
        for wrong in [&[1.0, 1.0][..], &[2.0, 1.0], &[f64::NAN], &[0.0; 63]] {
            assert!(Bins::from_edges(wrong).is_none());
        }
    }
}
