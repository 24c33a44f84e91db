//! How the members' forecasts are weighed: by their errors at the origins, then by how their errors go together.
//!
//! A member's score is ½ its mean absolute error + ½ its mean symmetric percentage error, each relative to the median
//! member's. The prior share is score^−[`SHARPNESS`], normalised. The shares then minimise the squared errors of the
//! combination (capped, relative to the members' mean squared error) plus [`SHRINK`] times the squared distance to the
//! prior, over all shares that are non-negative and add up to 1, by projected gradient steps. Three fifths of the result
//! and two fifths of softer shares by score alone, score^−[`SOFTNESS`], are the members' shares.
//!
//! **Invariant:** sees origins' forecasts and values only.
//!
//! Papers: Bates and Granger 1969; Breiman 1996 (stacked regressions); Duchi et al. 2008 (projection onto the simplex).

use super::frame::Member;

/// How sharply prior shares follow the scores.
const SHARPNESS: i32 = 10;
/// How sharply the softer shares do, and their part.
const SOFTNESS: i32 = 4;
const SOFT: f64 = 0.4;
/// The pull towards the prior.
const SHRINK: f64 = 6.0;
/// Gradient steps.
const ROUNDS: usize = 100;
/// Errors beyond this quantile of their magnitudes are cut off.
const CAP: f64 = 0.98;

/// The members' shares, from their forecasts of the `actual` values (origins' steps behind each other).
pub(super) fn shares(forecasts: &[Vec<f64>], actual: &[f64]) -> Vec<f64> {
    let scores = scores(forecasts, actual);
    let (prior, soft) = (by_score(&scores, SHARPNESS), by_score(&scores, SOFTNESS));
    let errors = capped_errors(forecasts, actual);
    let gram = gram(&errors);
    let norm = gram.iter().flatten().map(|v| v * v).sum::<f64>().sqrt() + SHRINK;
    let mut shares = prior.clone();
    for _ in 0..ROUNDS {
        let gradient = |i: usize| -> f64 {
            let pull = SHRINK * (shares[i] - prior[i]);
            gram[i].iter().zip(&shares).map(|(g, share)| g * share).sum::<f64>() + pull
        };
        let moved: Vec<f64> = (0..shares.len()).map(|i| shares[i] - gradient(i) / norm).collect();
        shares = onto_simplex(&moved);
    }
    shares.iter().zip(&soft).map(|(share, soft)| (1.0 - SOFT) * share + SOFT * soft).collect()
}

/// Shares by score alone.
fn by_score(scores: &[f64], sharpness: i32) -> Vec<f64> {
    let merits: Vec<f64> = scores.iter().map(|score| score.powi(-sharpness)).collect();
    let total: f64 = merits.iter().sum();
    merits.iter().map(|merit| merit / total).collect()
}

/// The weighted median of the members at a step of a lane.
pub(super) fn median(members: &[Member], shares: &[f64], step: usize, lane: usize) -> f64 {
    let mut values: Vec<(f64, f64)> = members.iter().zip(shares).map(|(m, share)| (m[step][lane], *share)).collect();
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut sum = 0.0;
    let half = |(_, share): &&(f64, f64)| {
        sum += share;
        sum >= 0.5
    };
    values.iter().find(half).or(values.last()).map_or(0.0, |(value, _)| *value)
}

/// The median of actual minus forecast.
pub(super) fn middle_error(forecast: &[f64], actual: &[f64]) -> f64 {
    let mut errors: Vec<f64> = pairs(forecast, actual).map(|(y, f)| y - f).collect();
    let half = errors.len() / 2;
    *errors.select_nth_unstable_by(half, f64::total_cmp).1
}

/// The members' scores: 1 is the median member's.
fn scores(forecasts: &[Vec<f64>], actual: &[f64]) -> Vec<f64> {
    let absolute: Vec<f64> = forecasts.iter().map(|f| pairs(f, actual).map(|(y, f)| (y - f).abs()).sum()).collect();
    let relative = |f: &Vec<f64>| pairs(f, actual).map(|(y, f)| (y - f).abs() / (y.abs() + f.abs()).max(1e-9)).sum();
    let relative: Vec<f64> = forecasts.iter().map(relative).collect();
    let (middle_absolute, middle_relative) = (middle(&absolute) + 1e-12, middle(&relative) + 1e-12);
    let score = |(a, r): (&f64, &f64)| 0.5 * a / middle_absolute + 0.5 * r / middle_relative + 1e-3;
    absolute.iter().zip(&relative).map(score).collect()
}

fn pairs<'a>(forecast: &'a [f64], actual: &'a [f64]) -> impl Iterator<Item = (f64, f64)> {
    actual.iter().copied().zip(forecast.iter().copied())
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Forecast minus actual, member by member, cut off at the same magnitude for all.
fn capped_errors(forecasts: &[Vec<f64>], actual: &[f64]) -> Vec<Vec<f64>> {
    let mut errors: Vec<Vec<f64>> = forecasts.iter().map(|f| pairs(f, actual).map(|(y, f)| f - y).collect()).collect();
    let mut magnitudes: Vec<f64> = errors.iter().flatten().map(|e| e.abs()).collect();
    let place = ((magnitudes.len() - 1) as f64 * CAP) as usize;
    let cap = *magnitudes.select_nth_unstable_by(place, f64::total_cmp).1;
    errors.iter_mut().flatten().for_each(|e| *e = e.clamp(-cap, cap));
    errors
}

/// The products of the members' errors, relative to a member's mean squared error.
fn gram(errors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let count = errors.len();
    let mut gram = vec![vec![0.0; count]; count];
    for i in 0..count {
        for j in 0..=i {
            let sum = errors[i].iter().zip(&errors[j]).map(|(a, b)| a * b).sum();
            (gram[i][j], gram[j][i]) = (sum, sum);
        }
    }
    let mean = (0..count).map(|i| gram[i][i]).sum::<f64>() / count as f64 + 1e-300;
    gram.iter_mut().flatten().for_each(|v| *v /= mean);
    gram
}

/// The nearest point whose coordinates are non-negative and add up to 1.
fn onto_simplex(point: &[f64]) -> Vec<f64> {
    let mut sorted = point.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut shift) = (0.0, 0.0);
    for (index, value) in sorted.iter().enumerate() {
        sum += value;
        let candidate = (sum - 1.0) / (index + 1) as f64;
        if value - candidate > 0.0 {
            shift = candidate;
        }
    }
    point.iter().map(|v| (v - shift).max(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_projected_onto_the_simplex() {
        assert_eq!(onto_simplex(&[0.25, 0.75]), [0.25, 0.75]);
        assert_eq!(onto_simplex(&[2.0, 0.0, -1.0]), [1.0, 0.0, 0.0]);
        let even = onto_simplex(&[5.0, 5.0, 5.0]);
        assert!(even.iter().all(|v| (v - 1.0 / 3.0).abs() < 1e-12), "{even:?}");
    }

    #[test]
    fn the_better_member_gets_more_and_opposite_errors_are_used_together() {
        let actual = vec![10.0; 40];
        let off = |by: f64| -> Vec<f64> { (0..40).map(|t| 10.0 + if t % 2 == 0 { by } else { -by }).collect() };
        let by_error = shares(&[off(1.0), off(4.0)], &actual);
        assert!(by_error[0] > 0.99, "{by_error:?}");
        let together = shares(&[off(1.0), off(-1.2), off(1.1)], &actual);
        let alike = shares(&[off(1.0), off(1.2), off(1.1)], &actual);
        assert!(together[1] > alike[1] + 0.05, "{together:?} against {alike:?}");
        assert!((together.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
