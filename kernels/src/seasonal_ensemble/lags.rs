//! The lag sets of the autoregressions, for any season.
//!
//! **Invariant:** pure; lags ascend, start at 1 or above and leave rows to fit in every lane.

use super::frame::Frame;

/// Which lags an autoregression looks at. Named for a day of 24 hours within a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lags {
    /// The last six points, the season and its multiples up to seven with their neighbours.
    Week,
    /// The same and two weeks.
    TwoWeeks,
    /// Every lag up to a season, and multiples.
    Dense,
    /// The last points, the season, its neighbours and multiples.
    Sparse,
    /// For what is left after a profile or a season's difference.
    Rest,
    /// For what is left after the outer season's difference.
    OuterRest,
    /// The last two points and the season.
    Small,
}

/// How many sets there are.
pub(super) const SETS: usize = 7;
/// No set reaches beyond so many lags of neighbouring points where the season is long.
const DENSE_MAX: usize = 27;

impl Lags {
    /// The lags for the seasons of `frame`; `None` where too few rows would be left.
    pub(super) fn of(self, frame: &Frame) -> Option<Vec<usize>> {
        let m = frame.main;
        let week = if frame.outer > 0 { frame.outer } else { 7 * m };
        let mut lags = match self {
            Self::Week | Self::TwoWeeks => (1..=6).collect::<Vec<_>>(),
            Self::Dense => (1..=(m + 3).clamp(12, DENSE_MAX)).collect(),
            Self::Sparse => vec![1, 2, 3, 4],
            Self::Rest => vec![1, 2, 3],
            Self::OuterRest => vec![1, 2, 3],
            Self::Small => vec![1, 2, 3],
        };
        if m > 0 {
            let around: &[(usize, usize)] = match self {
                Self::Week | Self::TwoWeeks => &[(1, 2), (2, 1), (3, 1), (4, 0), (5, 0), (6, 1), (7, 1)],
                Self::Dense => &[(1, 3), (2, 1), (3, 0), (4, 0), (5, 0), (6, 0), (7, 2)],
                Self::Sparse => &[(1, 2), (2, 1), (3, 0), (6, 0), (7, 1)],
                Self::Rest | Self::OuterRest => &[(1, 1), (2, 0), (3, 0)],
                Self::Small => &[(1, 1)],
            };
            for (multiple, reach) in around {
                let centre = multiple * m;
                lags.extend(centre - (*reach).min(centre - 1)..=centre + reach);
            }
            if self == Self::TwoWeeks {
                lags.extend(week + m - 1..=week + m + 1);
                lags.extend(2 * week - 1..=2 * week + 1);
            }
            if matches!(self, Self::Rest | Self::OuterRest) {
                lags.push(week);
            }
            if frame.outer > 0 && frame.outer != 7 * m && !matches!(self, Self::Small) {
                lags.extend(week - 1..=week + 1);
            }
        }
        lags.sort_unstable();
        lags.dedup();
        let room = frame.shortest.saturating_sub(3 * lags.len());
        let had = lags.len();
        lags.retain(|lag| *lag <= room);
        let whole = had == lags.len() || self == Self::Week || self == Self::Rest;
        (whole && !lags.is_empty()).then_some(lags)
    }

    /// The same for histories of which the shortest has `points` values; `None` too where that leaves no rows.
    pub(super) fn before(self, frame: &Frame, points: usize) -> Option<Vec<usize>> {
        self.of(frame).filter(|lags| lags.last().is_some_and(|last| points >= last + 3))
    }
}
