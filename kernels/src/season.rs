//! Finds the seasons of an evenly spaced series by its autocorrelation.
//!
//! The series is detrended (least-squares line), its outliers are pulled in (median ± 10 robust deviations), and its
//! autocorrelation r is taken by FFT. A season m shows as a hill: the *prominence* of m is r(m) − ½ (r(m/2) + r(3m/2)),
//! which a slow drift leaves near zero and which even multiples of m do not have. The shortest hill that is nearly as
//! prominent as the tallest is the main season; an outer season is a multiple of it that rises above its neighbours.
//!
//! **Invariant:** knows neither time nor calendar; sees only the slice it is given; host code shared by both twins.

use crate::fft;

/// Fewer points than this show no season.
const POINTS_MIN: usize = 24;

/// A hill of this share of the tallest one's prominence is nearly as prominent: a day within a strong week is.
const NEARLY: f64 = 0.4;

/// Seasons of telemetry in steps of usual lengths (hours, days, weeks): a hill within 2 % of one of these is that one.
const USUAL_STEPS: [usize; 17] = [7, 12, 24, 30, 48, 52, 60, 96, 144, 168, 288, 336, 672, 1_008, 1_440, 2_016, 10_080];

/// The seasons of a series, in steps; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seasons {
    /// The main season.
    pub(crate) main: usize,
    /// A longer season, a multiple of the main one.
    pub(crate) outer: usize,
}

/// The seasons of `values` (finite, no gaps) up to a third of their number.
pub(crate) fn find(values: &[f64]) -> Seasons {
    if values.len() < POINTS_MIN {
        return Seasons::default();
    }
    let Some(level) = flattened(values) else { return Seasons::default() };
    let r = fft::autocorrelation(&level, values.len() / 2 + 1);
    let Some(hill) = main_hill(&r, values.len()) else { return Seasons::default() };
    let main = usual(&r, refined(&r, hill));
    Seasons { main, outer: outer(&r, main, values.len()) }
}

/// The series with outliers pulled in and without its line; `None` when nothing varies.
fn flattened(values: &[f64]) -> Option<Vec<f64>> {
    let mut sorted = values.to_vec();
    let half = sorted.len() / 2;
    let median = *sorted.select_nth_unstable_by(half, f64::total_cmp).1;
    sorted.iter_mut().for_each(|v| *v = (*v - median).abs());
    let spread = *sorted.select_nth_unstable_by(half, f64::total_cmp).1;
    let reach = if spread > 0.0 { 10.0 * 1.4826 * spread } else { f64::INFINITY };
    let mut level: Vec<f64> = values.iter().map(|v| v.clamp(median - reach, median + reach)).collect();
    let n = values.len() as f64;
    let middle = (n - 1.0) / 2.0;
    let mean = level.iter().sum::<f64>() / n;
    let slope = level.iter().enumerate().map(|(t, v)| (t as f64 - middle) * (v - mean)).sum::<f64>()
        / (n * (n * n - 1.0) / 12.0);
    level.iter_mut().enumerate().for_each(|(t, v)| *v -= mean + slope * (t as f64 - middle));
    let top = values.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
    let varies = level.iter().any(|v| v.abs() > 1e-12 * top);
    level.iter_mut().for_each(|v| *v /= top);
    varies.then_some(level)
}

/// How much r rises at `m` above the valleys on both sides.
fn prominence(r: &[f64], m: usize) -> f64 {
    r[m] - 0.5 * (r[m / 2] + r[(3 * m / 2).min(r.len() - 1)])
}

/// The shortest hill that is nearly as prominent as the tallest one and stands out of the noise.
fn main_hill(r: &[f64], n: usize) -> Option<usize> {
    let noise = 1.0 / (n as f64).sqrt();
    let is_hill = |m: &usize| {
        let reach = (m / 8).max(1);
        r[*m] > 2.5 * noise && r[m - reach..=m + reach].iter().all(|beside| *beside <= r[*m])
    };
    let hills: Vec<usize> = (2..=n / 3).filter(is_hill).collect();
    let tallest = hills.iter().map(|m| prominence(r, *m)).fold(0.0, f64::max);
    let least = (NEARLY * tallest).max(4.0 * noise).max(0.1);
    let first = *hills.iter().find(|m| prominence(r, **m) >= least)?;
    // Two or three humps a day: the second or third hill is then clearly higher than the first.
    let higher = [2, 3].into_iter().map(|q| q * first).filter(|m| *m <= n / 3);
    Some(higher.fold(first, |best, m| if r[m] > r[best] + 0.1 { m } else { best }))
}

/// `m` with the fraction that its multiples show: the hill near q·m, divided by q.
fn refined(r: &[f64], m: usize) -> usize {
    let mut length = m as f64;
    for q in 2..=7 {
        let centre = (length * f64::from(q)).round() as usize;
        let reach = 1 + m / 24;
        if centre + reach + 1 >= r.len() {
            break;
        }
        let top = (centre - reach..=centre + reach).max_by(|a, b| r[*a].total_cmp(&r[*b])).unwrap_or(centre);
        if top > centre - reach && top < centre + reach {
            length = top as f64 / f64::from(q);
        }
    }
    length.round() as usize
}

/// The usual season within 2 % of `m`, if it fits the series about as well.
fn usual(r: &[f64], m: usize) -> usize {
    let slack = 0.01 + 0.25 * (1.0 - r[m]).max(0.0);
    let near = |c: &&usize| c.abs_diff(m) <= (**c / 50).max(1) && **c < r.len() && r[**c] > r[m] - slack;
    USUAL_STEPS.iter().filter(near).min_by_key(|c| c.abs_diff(m)).copied().unwrap_or(m)
}

/// The multiple of the main season, 4 to 12 of them, that rises most above its neighbours; 0 if none clearly does.
fn outer(r: &[f64], main: usize, n: usize) -> usize {
    let rise = |q: usize| r[q * main] - r[(q - 1) * main].max(r[(q + 1) * main]);
    let candidates = (4..=12).filter(|q| q * main <= n / 3 && (q + 1) * main < r.len());
    let best = candidates.max_by(|a, b| rise(*a).total_cmp(&rise(*b)));
    best.filter(|q| rise(*q) > (1.0 / (n as f64).sqrt()).max(0.02)).map_or(0, |q| q * main)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::{noise, wave};

    #[test]
    fn a_daily_season_under_noise_and_trend_is_found() {
        for season in [7, 24, 96, 288] {
            let values: Vec<f64> =
                (0..season * 9).map(|t| wave(t, season) + 0.5 * noise(t) + 0.01 * t as f64).collect();
            assert_eq!(find(&values).main, season);
        }
    }

    #[test]
    fn days_within_weeks_are_both_found() {
        let weekend = |t: usize| if t / 24 % 7 >= 5 { 0.3 } else { 1.0 };
        let values: Vec<f64> = (0..24 * 35).map(|t| weekend(t) * (2.0 + wave(t, 24)) + 0.1 * noise(t)).collect();
        assert_eq!(find(&values), Seasons { main: 24, outer: 168 });
    }

    #[test]
    fn two_humps_a_day_are_a_day_and_not_half_a_day() {
        let values: Vec<f64> = (0..24 * 30).map(|t| wave(t, 24) + wave(t, 12) + 0.2 * noise(t)).collect();
        assert_eq!(find(&values).main, 24);
    }

    #[test]
    fn a_season_of_no_usual_length_is_found() {
        let values: Vec<f64> = (0..1_000).map(|t| wave(t, 37) + 0.3 * noise(t)).collect();
        assert_eq!(find(&values).main, 37);
    }

    #[test]
    fn noise_drift_and_constants_have_no_season() {
        assert_eq!(find(&(0..1_000).map(noise).collect::<Vec<_>>()), Seasons::default());
        let mut level = 0.0;
        let walk: Vec<f64> = (0..1_000)
            .map(|t| {
                level += noise(t);
                level
            })
            .collect();
        assert_eq!(find(&walk), Seasons::default());
        assert_eq!(find(&[3.0; 500]), Seasons::default());
        assert_eq!(find(&(0..500).map(f64::from).collect::<Vec<_>>()), Seasons::default());
        assert_eq!(find(&[]), Seasons::default());
    }

    #[test]
    fn one_spike_does_not_hide_the_season() {
        let mut values: Vec<f64> = (0..480).map(|t| wave(t, 24)).collect();
        values[200] = 1e6;
        assert_eq!(find(&values).main, 24);
    }
}
