//! Conformal intervals from the residuals of the rolling origins.
//!
//! Residuals are taken on the logarithm where the series is positive, else on the scale of the values. The typical size
//! of a residual is estimated for each step from all origins and the neighbouring steps; residuals divided by it are
//! pooled over all steps, and their quantile at the level, widened by a fixed factor for the few origins, times the
//! typical size is the half-width of the interval (split conformal prediction; Vovk et al. 2005, Lei et al. 2018).
//!
//! **Invariant:** host code shared by both twins; sees residuals of past origins only.

use super::plan::{Modelled, Plan};

/// By how much the pooled quantile is widened: chosen on rolling origins inside the histories of M4 Hourly.
pub(crate) const WIDEN: f64 = 1.15;
/// How many steps to each side share one estimate of a residual's size.
const NEIGHBOURS: usize = 6;

/// The lower and upper ends around the forecast, levels × horizon.
pub(crate) fn around(plan: &Plan, modelled: &Modelled, levels: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let logarithmic = plan.transforms == 3;
    let residuals = residuals(plan, &modelled.rolled, logarithmic);
    let sizes = sizes(&residuals, plan.steps);
    let mut pooled: Vec<f64> =
        residuals.chunks(plan.steps).flat_map(|row| row.iter().zip(&sizes).map(|(r, size)| r / size)).collect();
    let low = plan.values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = plan.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let end = |width: f64, sign: f64, step: usize, mean: f64| {
        let half = width * beyond(plan, &sizes, step);
        let end = match logarithmic {
            true => mean * (sign * half).exp(),
            false => mean + sign * half,
        };
        // A whole range beyond all known values is wide enough for any level.
        end.max((2.0 * low - high).min(mean)).min((2.0 * high - low).max(mean))
    };
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for level in levels {
        let width = modelled.widen * quantile(&mut pooled, *level);
        for (ends, sign) in [(&mut lower, -1.0), (&mut upper, 1.0)] {
            ends.extend(modelled.mean.iter().enumerate().map(|(step, mean)| end(width, sign, step, *mean)));
        }
    }
    (lower, upper)
}

/// The magnitudes of the residuals, origins × steps.
fn residuals(plan: &Plan, rolled: &[f64], logarithmic: bool) -> Vec<f64> {
    let n = plan.values.len();
    let rows = rolled.chunks(plan.steps).zip(&plan.cuts[1..]);
    rows.flat_map(|(row, cut)| row.iter().zip(&plan.values[n - cut..]))
        .map(|(forecast, actual)| if logarithmic { (actual / forecast).ln().abs() } else { (actual - forecast).abs() })
        .collect()
}

/// The typical residual at each step: the mean over the origins and the neighbouring steps, not below a tenth of the
/// overall mean.
fn sizes(residuals: &[f64], steps: usize) -> Vec<f64> {
    let mut by_step = vec![0.0; steps];
    for row in residuals.chunks(steps) {
        by_step.iter_mut().zip(row).for_each(|(sum, r)| *sum += r);
    }
    let origins = (residuals.len() / steps) as f64;
    let floor = (0.1 * by_step.iter().sum::<f64>() / residuals.len() as f64).max(1e-12);
    (0..steps)
        .map(|step| {
            let near = &by_step[step.saturating_sub(NEIGHBOURS)..(step + NEIGHBOURS + 1).min(steps)];
            (near.iter().sum::<f64>() / (near.len() as f64 * origins)).max(floor)
        })
        .collect()
}

/// The typical residual at any step of the horizon: past the judged steps the last one, growing with the root of time
/// where no season holds the series.
fn beyond(plan: &Plan, sizes: &[f64], step: usize) -> f64 {
    let last = sizes.len() - 1;
    let growth = if step > last && plan.season == 1 { ((step + 1) as f64 / (last + 1) as f64).sqrt() } else { 1.0 };
    sizes[step.min(last)] * growth
}

/// The `level` quantile of the values, between the two nearest ranks.
pub(crate) fn quantile(values: &mut [f64], level: f64) -> f64 {
    let place = level * (values.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let (_, low, larger) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let high = larger.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    low * (1.0 - share) + high * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let mut values = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert_eq!(quantile(&mut values, 0.0), 1.0);
        assert_eq!(quantile(&mut values, 0.5), 3.0);
        assert_eq!(quantile(&mut values, 1.0), 5.0);
        assert!((quantile(&mut values, 0.9) - 4.6).abs() < 1e-12);
        assert_eq!(quantile(&mut [7.0], 0.95), 7.0);
    }

    #[test]
    fn sizes_follow_the_steps_and_never_vanish() {
        let residuals: Vec<f64> = (0..40).map(|at| if at % 20 < 10 { 0.0 } else { 1.0 }).collect();
        let sizes = sizes(&residuals, 20);
        assert!((sizes[0] - 0.05).abs() < 1e-12 && sizes[19] == 1.0 && sizes[8] < sizes[12]);
    }
}
