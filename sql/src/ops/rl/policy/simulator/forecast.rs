//! The simulator's own forecaster: how far above its level the load may go while a replica starts.
//!
//! y = ln(the largest load of the next start-up and a slot, over the level) by ridge on logarithms of lags, of lagged
//! maxima, on volatility, on the same window yesterday and a week ago and on the time of day; the spread is a second regression, on the
//! logarithm of the absolute residual. Means are clipped to the 99.95 % quantile of the training part.
//!
//! **Invariant:** the forecast at a slot follows from the load up to that slot and from coefficients of the training part.

use std::collections::VecDeque;

use super::load::DAY_SLOTS;
use super::track::trailing_mean;
use crate::ops::rl::policy::ridge::Normal;

/// Numbers of a row.
const TERMS: usize = 20;
/// Lags of the level, in slots: one minute to one hour.
const LAGS: [usize; 7] = [4, 8, 12, 20, 40, 80, 240];
const RIDGE: f64 = 10.0;
/// A ratio's logarithm is held within ±.
const RATIO_MAX: f64 = 3.0;
/// Minus the mean of ln|z| over the standard normal distribution.
const LOG_RESIDUAL: f64 = 0.635;
/// Of the absolute residual, below which the spread does not follow.
const RESIDUAL_MIN: f64 = 2e-3;

/// Mean and spread of y at every slot, and how much more the load rose of late than was foreseen.
pub(super) struct Forecast {
    pub(super) mean: Vec<f64>,
    pub(super) spread: Vec<f64>,
    pub(super) surprise: Vec<f64>,
}

/// Learns from the first `training` slots and forecasts at all.
pub(super) fn fit(load: &[f64], level: &[f64], startup_slots: usize, training: usize) -> Forecast {
    let ahead = startup_slots + 1;
    let rows = rows(load, level, ahead);
    let actual = rises(load, level, ahead);
    // The last targets of the training part would need the load behind its end.
    let learn = DAY_SLOTS.min(training / 2)..training - ahead;
    let mut normal = Normal::new(TERMS, 1);
    learn.clone().for_each(|slot| normal.add(&rows[slot], &[actual[slot]]));
    let by_mean = &normal.solve(RIDGE)[0];
    let mut clip: Vec<f64> = actual[learn.clone()].to_vec();
    clip.sort_by(f64::total_cmp);
    let clip = clip[(clip.len() - 1) * 9_995 / 10_000];
    let mean: Vec<f64> = rows.iter().map(|row| dot(row, by_mean).clamp(-0.3, clip.max(0.0))).collect();
    let mut normal = Normal::new(TERMS, 1);
    for slot in learn {
        normal.add(&rows[slot], &[((actual[slot] - mean[slot]).abs() + RESIDUAL_MIN).ln()]);
    }
    let by_spread = &normal.solve(RIDGE)[0];
    let spread: Vec<f64> = rows.iter().map(|row| (dot(row, by_spread) + LOG_RESIDUAL).exp().clamp(2e-3, 1.0)).collect();
    let surprise = surprise(&actual, &mean, &spread, ahead);
    Forecast { mean, spread, surprise }
}

fn dot(row: &[f64; TERMS], coefficients: &[f64]) -> f64 {
    row.iter().zip(coefficients).map(|(x, c)| x * c).sum()
}

/// y of every slot; what lies behind the end counts as no rise.
fn rises(load: &[f64], level: &[f64], ahead: usize) -> Vec<f64> {
    let top = trailing_max(load, ahead);
    let at = |slot: usize| top.get(slot + ahead).map_or(0.0, |top| (top / level[slot]).ln());
    (0..load.len()).map(at).collect()
}

/// The mean over the last hour of how many spreads above its mean y came, as far as it is known by then.
fn surprise(actual: &[f64], mean: &[f64], spread: &[f64], ahead: usize) -> Vec<f64> {
    let known = |slot: usize| {
        slot.checked_sub(ahead).map_or(0.0, |then| ((actual[then] - mean[then]) / spread[then]).clamp(-9.0, 9.0))
    };
    let mut state = 0.0;
    let step = |slot: usize| {
        state += (known(slot) - state) / 240.0;
        state
    };
    (0..actual.len()).map(step).collect()
}

fn rows(load: &[f64], level: &[f64], ahead: usize) -> Vec<[f64; TERMS]> {
    let (short, long) = (trailing_max(load, 20), trailing_max(load, 240));
    let change: Vec<f64> = (0..load.len()).map(|i| (load[i] / load[i.saturating_sub(1)]).ln()).collect();
    let square = trailing_mean(&change.iter().map(|x| x * x).collect::<Vec<_>>(), 20);
    let ratio = |a: f64, b: f64| (a / b).ln().clamp(-RATIO_MAX, RATIO_MAX);
    let top = trailing_max(load, ahead);
    let row = |slot: usize| {
        let mut row = [0.0; TERMS];
        row[0] = 1.0;
        for (cell, lag) in row[1..8].iter_mut().zip(LAGS) {
            *cell = ratio(level[slot.saturating_sub(lag)], level[slot]);
        }
        row[8] = ratio(short[slot], level[slot]);
        row[9] = ratio(long[slot], level[slot]);
        row[10] = square[slot].sqrt();
        row[11] = ratio(load[slot], level[slot]);
        for (cells, days) in row[12..16].chunks_exact_mut(2).zip([1, 7]) {
            if let Some(then) = slot.checked_sub(days * DAY_SLOTS) {
                cells[0] = ratio(top[then + ahead], level[then]);
                cells[1] = ratio(level[then + ahead], level[then]);
            }
        }
        let turn = std::f64::consts::TAU * (slot % DAY_SLOTS) as f64 / DAY_SLOTS as f64;
        row[16..].copy_from_slice(&[turn.sin(), turn.cos(), (2.0 * turn).sin(), (2.0 * turn).cos()]);
        row
    };
    (0..load.len()).map(row).collect()
}

/// The largest of each value and of up to `window` − 1 before it.
fn trailing_max(values: &[f64], window: usize) -> Vec<f64> {
    let mut falling: VecDeque<usize> = VecDeque::new();
    let largest = |place: usize| {
        while falling.back().is_some_and(|last| values[*last] <= values[place]) {
            falling.pop_back();
        }
        falling.push_back(place);
        while falling.front().is_some_and(|first| first + window <= place) {
            falling.pop_front();
        }
        falling.front().map_or(values[place], |first| values[*first])
    };
    (0..values.len()).map(largest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rl::policy::simulator::load::generated;

    #[test]
    fn the_forecast_covers_what_came_and_knows_nothing_of_it() {
        let load = generated(6, 3).unwrap();
        let level = trailing_mean(&load, 4);
        let training = 3 * DAY_SLOTS;
        let whole = fit(&load, &level, 6, training);
        let actual = rises(&load, &level, 7);
        let rest = training..load.len() - 10;
        let covered = rest.clone().filter(|i| actual[*i] < whole.mean[*i] + 2.0 * whole.spread[*i]).count();
        let share = covered as f64 / rest.len() as f64;
        assert!((0.93..=0.999).contains(&share), "two spreads cover {share}");
        let cut = training + 1_000;
        let early = fit(&load[..cut], &level[..cut], 6, training);
        assert_eq!((early.mean[cut - 1], early.surprise[cut - 1]), (whole.mean[cut - 1], whole.surprise[cut - 1]));
    }

    #[test]
    fn the_largest_of_a_window_is_found() {
        assert_eq!(trailing_max(&[3.0, 1.0, 2.0, 0.0, 5.0, 4.0], 3), [3.0, 3.0, 3.0, 2.0, 5.0, 5.0]);
    }
}
