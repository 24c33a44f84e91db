//! The M4 competition's measures of a forecast.
//!
//! For one series with history x, truth y and forecast f over h steps and season m:
//! sMAPE = 200/h · Σ |y−f| / (|y|+|f|); MASE = mean |y−f| / s with s = mean |x_t − x_{t−m}|;
//! OWA = ½ (sMAPE / sMAPE of Naive2 + MASE / MASE of Naive2), each averaged over the series first;
//! MSIS = mean(u−l + 2/α·(l−y)⁺ + 2/α·(y−u)⁺) / s at level 1−α.
//! Source: Makridakis et al., The M4 Competition, IJF 36 (2020) 54–74.
//!
//! **Invariant:** pure; the histories never hold a value of the test part.

/// One series: what was known, and what came.
pub struct Case {
    /// Name of the series.
    pub name: String,
    /// Values before the forecast's origin.
    pub history: Vec<f64>,
    /// Values after it.
    pub truth: Vec<f64>,
}

/// Means over all series.
#[derive(Debug, Clone, Copy, Default)]
pub struct Score {
    /// Symmetric mean absolute percentage error, in percent.
    pub smape: f64,
    /// Mean absolute scaled error.
    pub mase: f64,
}

impl Score {
    /// The overall weighted average against a benchmark's score.
    pub fn owa(&self, benchmark: &Score) -> f64 {
        0.5 * (self.smape / benchmark.smape + self.mase / benchmark.mase)
    }
}

/// How wide intervals are and how often the truth is inside them.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntervalScore {
    /// Share of true values inside, 0 to 1.
    pub coverage: f64,
    /// Mean scaled interval score.
    pub msis: f64,
}

/// The seasonal naive's one-step error on the history: the scale of MASE and MSIS.
pub fn scale(history: &[f64], season: usize) -> f64 {
    let errors = history.iter().skip(season).zip(history).map(|(now, before)| (now - before).abs());
    errors.sum::<f64>() / history.len().saturating_sub(season).max(1) as f64
}

/// The forecast that repeats the last season.
pub fn seasonal_naive(history: &[f64], season: usize, horizon: usize) -> Vec<f64> {
    let last = &history[history.len() - season..];
    (0..horizon).map(|step| last[step % season]).collect()
}

/// The score of one forecast per case.
pub fn score<'a>(cases: &[Case], forecasts: impl Iterator<Item = &'a [f64]>, season: usize) -> Score {
    let mut total = Score::default();
    for (case, forecast) in cases.iter().zip(forecasts) {
        let pairs = || case.truth.iter().zip(forecast);
        let steps = case.truth.len() as f64;
        total.smape += pairs().map(|(y, f)| 200.0 * (y - f).abs() / (y.abs() + f.abs())).sum::<f64>() / steps;
        total.mase += pairs().map(|(y, f)| (y - f).abs()).sum::<f64>() / steps / scale(&case.history, season);
    }
    let count = cases.len() as f64;
    Score { smape: total.smape / count, mase: total.mase / count }
}

/// 1 − WAPE of one forecast per case, WAPE = Σ |y−f| / Σ |y| at most 1: mean and median over the cases.
pub fn accuracy<'a>(cases: &[Case], forecasts: impl Iterator<Item = &'a [f64]>) -> (f64, f64) {
    let one = |(case, forecast): (&Case, &[f64])| {
        let errors: f64 = case.truth.iter().zip(forecast).map(|(y, f)| (y - f).abs()).sum();
        let total: f64 = case.truth.iter().map(|y| y.abs()).sum();
        1.0 - (errors / total.max(1e-9)).min(1.0)
    };
    let mut each: Vec<f64> = cases.iter().zip(forecasts).map(one).collect();
    each.sort_by(f64::total_cmp);
    (each.iter().sum::<f64>() / each.len() as f64, each[each.len() / 2])
}

/// The score of one pair of bounds per case, at a level such as 0.95.
pub fn interval_score<'a>(
    cases: &[Case],
    bounds: impl Iterator<Item = (&'a [f64], &'a [f64])>,
    level: f64,
    season: usize,
) -> IntervalScore {
    let penalty = 2.0 / (1.0 - level);
    let (mut inside, mut steps, mut msis) = (0usize, 0usize, 0.0);
    for (case, (lower, upper)) in cases.iter().zip(bounds) {
        let mut width = 0.0;
        for ((y, l), u) in case.truth.iter().zip(lower).zip(upper) {
            inside += usize::from(l <= y && y <= u);
            width += u - l + penalty * ((l - y).max(0.0) + (y - u).max(0.0));
        }
        steps += case.truth.len();
        msis += width / case.truth.len() as f64 / scale(&case.history, season);
    }
    IntervalScore { coverage: inside as f64 / steps as f64, msis: msis / cases.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measures_agree_with_a_case_worked_by_hand() {
        let case = Case { name: "a".into(), history: vec![1.0, 2.0, 3.0, 4.0], truth: vec![4.0, 6.0] };
        assert_eq!(scale(&case.history, 2), 2.0);
        assert_eq!(seasonal_naive(&case.history, 2, 3), vec![3.0, 4.0, 3.0]);
        let cases = [case];
        let got = score(&cases, [[4.0, 4.0].as_slice()].into_iter(), 2);
        assert!((got.smape - 20.0).abs() < 1e-12 && (got.mase - 0.5).abs() < 1e-12, "{got:?}");
        let bounds = [([3.0, 3.0].as_slice(), [5.0, 5.0].as_slice())].into_iter();
        let interval = interval_score(&cases, bounds, 0.95, 2);
        assert!((interval.coverage - 0.5).abs() < 1e-12);
        assert!((interval.msis - (2.0 + (2.0 + 40.0)) / 2.0 / 2.0).abs() < 1e-9, "{interval:?}");
    }
}
