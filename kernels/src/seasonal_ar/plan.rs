//! What is fitted to one series: lags and rolling origins by its length and seasons, transforms by its smallest value.
//!
//! **Invariant:** pure and shared by both twins; what is planned for an origin looks at nothing after it.

use super::history::History;

/// The most lags of one autoregression: with the intercept they fill the 32 lanes of a warp.
pub(crate) const LAGS_MAX: usize = 31;
/// The most rolling origins that a series is validated on.
pub(crate) const ORIGINS_MAX: usize = 10;
/// Ridge penalties per row, relative to the variance of the fitted history: each makes a member of every transform.
pub(crate) const RIDGES: [f64; 2] = [1e-5, 1e-1];
/// Penalty per row on the intercept.
pub(crate) const RIDGE_INTERCEPT: f64 = 1e-6;
/// How sharply the members' shares follow their errors: the power of the inverse.
pub(crate) const SHARPNESS: i32 = 6;
/// A member's merit is lowered by this part of the best one's, so that poor members drop out, and without a jump.
pub(crate) const LEAST: f64 = 0.05;
/// The members that forecast a constant.
pub(crate) const LEVELS: usize = 3;
/// Series shorter than this are too short to fit.
pub(crate) const POINTS_MIN: usize = 24;

/// What is fitted to one series.
pub(crate) struct Plan {
    /// The history: finite, no gaps, magnitudes up to 1.
    pub(crate) values: Vec<f64>,
    /// The main season, or 1 where there is none.
    pub(crate) season: usize,
    /// The outer season, or 0 where there is none.
    pub(crate) outer: usize,
    /// The lags of the autoregression, ascending.
    pub(crate) lags: Vec<usize>,
    /// How many of the newest points each fit leaves out: 0 first (the forecast itself), then the rolling origins.
    pub(crate) cuts: Vec<usize>,
    /// How many steps each rolling origin is judged on.
    pub(crate) steps: usize,
    /// Constant forecasts at each cut: the last value, and the medians of the last day-like and week-like stretch.
    pub(crate) levels: Vec<[f64; LEVELS]>,
    /// How many of the transforms raw, square root, logarithm are fitted, in that order.
    pub(crate) transforms: usize,
}

/// What a twin hands back for one series, in the units of its plan.
pub(crate) struct Modelled {
    /// The forecast, one value per step of the horizon.
    pub(crate) mean: Vec<f64>,
    /// What the combined members forecast at each origin: origins × steps, row-major.
    pub(crate) rolled: Vec<f64>,
    /// By how much intervals are widened beyond the quantiles of the origins' residuals.
    pub(crate) widen: f64,
}

impl Plan {
    /// Plans the fit of `history` for a forecast of `horizon` steps.
    pub(crate) fn new(history: History, horizon: usize) -> Self {
        let values = history.values;
        let n = values.len();
        let season = history.seasons.main.max(1);
        let steps = horizon.min((n / 6).max(1));
        let lags = lags(history.seasons.main, history.seasons.outer, n);
        let reserve = lags.last().copied().unwrap_or(1) + 5 * (lags.len() + 1);
        let cuts = cuts(n, season, steps, reserve);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let transforms = if smallest > 1e-4 { 3 } else { 1 + usize::from(smallest >= 0.0) };
        let levels = cuts.iter().map(|cut| levels(&values[..n - cut], season)).collect();
        Self { values, season, outer: history.seasons.outer, lags, cuts, steps, levels, transforms }
    }
}

/// The lags for a series of `n` points with a main and an outer season (0: none): the last six points, the season and
/// its multiples up to seven with their neighbours, and the outer season where it is another multiple. Lags that would
/// leave too few rows are dropped.
fn lags(main: usize, outer: usize, n: usize) -> Vec<usize> {
    let mut lags: Vec<usize> = (1..=6).collect();
    let mut around = |centre: usize, reach: usize| lags.extend(centre - reach.min(centre - 1)..=centre + reach);
    if main > 0 {
        for (multiple, reach) in [(1, 2), (2, 1), (3, 1), (4, 0), (5, 0), (6, 1), (7, 1)] {
            around(multiple * main, reach);
        }
        if outer > 0 && outer != 7 * main {
            around(outer, 1);
        }
    }
    lags.sort_unstable();
    lags.dedup();
    lags.retain(|lag| *lag <= n * 2 / 5);
    lags.truncate(LAGS_MAX);
    lags
}

/// The cuts for a series of `n` points: as many rolling origins of `steps` steps as leave `reserve` points to fit,
/// evenly spaced, in the forecast's own phase of the season where there is room for it. Always at least one.
fn cuts(n: usize, season: usize, steps: usize, reserve: usize) -> Vec<usize> {
    let room = n.saturating_sub(reserve);
    let in_phase = season * (steps / 2 / season).max(1);
    let first = steps.div_ceil(season) * season;
    let (first, stride) = if first + 4 * in_phase <= room { (first, in_phase) } else { (steps, (steps / 2).max(1)) };
    let origins = (room.saturating_sub(first) / stride + 1).min(ORIGINS_MAX);
    std::iter::once(0).chain((0..origins).map(|origin| first + origin * stride)).collect()
}

/// The last value, the median of the last season (of 24 points where there is none or a very short one) and of the last
/// seven.
fn levels(known: &[f64], season: usize) -> [f64; LEVELS] {
    let stretch = if season < 6 { 24 } else { season };
    let median = |points: usize| {
        let mut tail = known[known.len().saturating_sub(points)..].to_vec();
        let half = tail.len() / 2;
        *tail.select_nth_unstable_by(half, f64::total_cmp).1
    };
    [known[known.len() - 1], median(stretch), median(7 * stretch)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hourly_lags_reach_back_a_week() {
        let expected =
            [1, 2, 3, 4, 5, 6, 22, 23, 24, 25, 26, 47, 48, 49, 71, 72, 73, 96, 120, 143, 144, 145, 167, 168, 169];
        assert_eq!(lags(24, 168, 700), expected);
        assert_eq!(lags(24, 0, 700), expected);
    }

    #[test]
    fn lags_that_leave_too_few_rows_are_dropped_and_none_is_below_one() {
        assert_eq!(lags(24, 0, 72), [1, 2, 3, 4, 5, 6, 22, 23, 24, 25, 26]);
        assert_eq!(lags(2, 0, 24), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!((2..700).all(|m| (24..2_100).step_by(97).all(|n| lags(m, 5 * m, n).iter().all(|lag| *lag >= 1))));
    }

    #[test]
    fn origins_keep_the_forecasts_phase_and_leave_rows_to_fit() {
        assert_eq!(cuts(700, 24, 48, 299), [0, 48, 72, 96, 120, 144, 168, 192, 216, 240, 264]);
        assert_eq!(cuts(8_064, 288, 288, 2_400)[..4], [0, 288, 576, 864]);
    }

    #[test]
    fn every_series_long_enough_to_fit_has_an_origin_with_rows_and_steps() {
        for n in (POINTS_MIN..1_000).step_by(13) {
            for season in [1, 2, 7, 24, 168].into_iter().filter(|season| *season <= n / 3) {
                for horizon in [1, 5, 48, 500] {
                    let steps = horizon.min(n / 6);
                    let longest = *lags(season, 0, n).last().unwrap();
                    let cuts = cuts(n, season, steps, longest + 100);
                    assert!(cuts.len() >= 2 && cuts.len() <= ORIGINS_MAX + 1);
                    assert!(cuts[1..].iter().all(|cut| *cut >= steps && n - cut > longest && n - cut >= season));
                }
            }
        }
    }
}
