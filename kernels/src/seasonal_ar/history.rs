//! The history of one series as the twins take it: finite, without gaps, scaled to at most 1.
//!
//! **Invariant:** looks at one series only; never invents a value outside the range of the known ones.

use crate::season::{self, Seasons};

/// The longest history that is fitted, in points; older points are left out, which bounds the cost of a series.
pub(crate) const HISTORY_POINTS_MAX: usize = 16_384;

/// One series' history, ready to be modelled.
pub(crate) struct History {
    /// Values divided by `scale`, oldest first, all finite.
    pub(crate) values: Vec<f64>,
    /// The largest magnitude among the known values; 1 when all are zero.
    pub(crate) scale: f64,
    /// The seasons found.
    pub(crate) seasons: Seasons,
}

/// The newest [`HISTORY_POINTS_MAX`] values from the first known one on, gaps filled; `None` if no value is finite.
///
/// Infinities count as missing. A gap is filled along the straight line between its ends; one longer than a quarter of
/// the season, or at the end, by the last known value at the same place in the season.
pub(crate) fn prepare(raw: &[f64]) -> Option<History> {
    prepare_whole(&raw[raw.len().saturating_sub(HISTORY_POINTS_MAX)..])
}

/// The same for all values; seasons are found in the newest [`HISTORY_POINTS_MAX`].
pub(crate) fn prepare_whole(raw: &[f64]) -> Option<History> {
    let raw = &raw[raw.iter().position(|v| v.is_finite())?..];
    let top = raw.iter().filter(|v| v.is_finite()).fold(0.0, |top: f64, v| top.max(v.abs()));
    let scale = if top > 0.0 { top } else { 1.0 };
    let mut values: Vec<f64> = raw.iter().map(|v| if v.is_finite() { v / scale } else { f64::NAN }).collect();
    let gaps = gaps(&values);
    for gap in &gaps {
        fill_line(&mut values, gap);
    }
    let seasons = season::find(&values[values.len().saturating_sub(HISTORY_POINTS_MAX)..]);
    let n = values.len();
    for gap in gaps.iter().filter(|gap| is_long(gap, n, seasons.main)) {
        fill_season(&mut values, gap, seasons);
    }
    Some(History { values, scale, seasons })
}

/// A run of missing values, `start..end`.
type Gap = std::ops::Range<usize>;

/// The runs of NaN; the first value is known.
fn gaps(values: &[f64]) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for at in (0..values.len()).filter(|at| values[*at].is_nan()) {
        match gaps.last_mut() {
            Some(gap) if gap.end == at => gap.end += 1,
            _ => gaps.push(at..at + 1),
        }
    }
    gaps
}

/// Fills a gap along the line between its ends, or with the last value where it has no right end.
fn fill_line(values: &mut [f64], gap: &Gap) {
    let left = values[gap.start - 1];
    let right = values.get(gap.end).copied().unwrap_or(left);
    let steps = (gap.len() + 1) as f64;
    for at in gap.clone() {
        let share = (at + 1 - gap.start) as f64 / steps;
        values[at] = left * (1.0 - share) + right * share;
    }
}

/// Whether a line is a poor guess for the gap.
fn is_long(gap: &Gap, n: usize, season: usize) -> bool {
    season > 0 && (gap.len() > season / 4 || gap.end == n)
}

/// Fills a gap with what stood there one season before, the outer one where there is one, oldest first: long gaps
/// repeat the last known season.
fn fill_season(values: &mut [f64], gap: &Gap, seasons: Seasons) {
    for at in gap.clone() {
        let before = [seasons.outer, seasons.main].into_iter().find(|season| (1..=at).contains(season));
        if let Some(season) = before {
            values[at] = values[at - season];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_is_no_history() {
        assert!(prepare(&[]).is_none());
        assert!(prepare(&[f64::NAN, f64::INFINITY]).is_none());
    }

    #[test]
    fn a_short_gap_becomes_a_line_and_missing_ends_are_cut_or_held() {
        let history = prepare(&[f64::NAN, 1.0, f64::NAN, f64::NEG_INFINITY, 4.0, f64::NAN]).unwrap();
        assert_eq!(history.scale, 4.0);
        let expected = [0.25, 0.5, 0.75, 1.0, 1.0];
        assert!(history.values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{:?}", history.values);
    }

    #[test]
    fn a_long_gap_repeats_the_season_before_it() {
        let mut raw: Vec<f64> = (0..24 * 12).map(|t| f64::from(t % 24)).collect();
        raw[24 * 8..24 * 9 + 5].fill(f64::NAN);
        let history = prepare(&raw).unwrap();
        assert_eq!(history.seasons.main, 24);
        for t in 24 * 8..24 * 9 + 5 {
            assert!((history.values[t] * history.scale - (t % 24) as f64).abs() < 1e-12, "at {t}");
        }
    }

    #[test]
    fn only_the_newest_points_are_kept_and_huge_values_do_not_overflow() {
        let raw = vec![1e308; HISTORY_POINTS_MAX + 5];
        let history = prepare(&raw).unwrap();
        assert_eq!(history.values.len(), HISTORY_POINTS_MAX);
        assert!(history.values.iter().all(|v| *v == 1.0));
    }
}
