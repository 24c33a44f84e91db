//! Autoregression with sines and cosines of the seasons as further columns.
//!
//! **Invariant:** the columns depend on time alone, so that all lanes share the products: running sums over time, read
//! at each lane's end.

use std::f64::consts::TAU;

use super::frame::Frame;
use super::lags::Lags;
use crate::seasonal_ar::normal::{LANES, Lanes, Normal, triangle};

/// Sines and cosines of each season.
const HARMONICS: usize = 4;
/// The constant and the waves of two seasons, filled up to whole vectors.
const COLUMNS: usize = (1 + 4 * HARMONICS).next_multiple_of(4);

/// The columns at one time.
type Row = [f64; COLUMNS];

/// Buffers for regressions on waves.
#[derive(Default)]
pub(super) struct Fourier {
    normal: Normal,
    waves: Vec<Row>,
    seasons: (usize, usize),
}

impl Fourier {
    /// The forecasts of standardised values; `None` where there is no season or too little history.
    pub(super) fn forecast(
        &mut self,
        frame: &Frame,
        z: &[f64],
        lags: Lags,
        ridge: f64,
        ridge_waves: f64,
    ) -> Option<Vec<Lanes>> {
        let (lags, used) = (lags_of(frame, lags)?, columns_of(frame));
        let p = *lags.last()?;
        self.prepare(frame, frame.values.len() + frame.horizon);
        self.fill(z, &lags, &frame.ends, used);
        self.normal.solve(ridge, ridge_waves);
        let mut path: Vec<Lanes> = (0..p).map(|at| frame.ends.map(|end| z[end - p + at])).collect();
        let slopes = self.normal.weights[lags.len()..].to_vec();
        let waves = &self.waves;
        self.normal.roll(&lags, frame.horizon, &mut path, |step| {
            std::array::from_fn(|w| slopes.iter().zip(&waves[frame.ends[w] + step]).map(|(b, x)| b[w] * x).sum())
        });
        path.drain(..p);
        Some(path)
    }

    /// The waves for times up to `length`, kept from series to series.
    fn prepare(&mut self, frame: &Frame, length: usize) {
        let seasons = (frame.main, frame.outer);
        if self.seasons != seasons {
            self.waves.clear();
            self.seasons = seasons;
        }
        for t in self.waves.len()..length {
            let mut row = [0.0; COLUMNS];
            row[0] = 1.0;
            for (season, start) in [(seasons.0, 1), (seasons.1, 1 + 2 * HARMONICS)] {
                for harmonic in (1..=HARMONICS).filter(|_| season > 0) {
                    let (sin, cos) = (TAU * ((harmonic * t) % season) as f64 / season as f64).sin_cos();
                    row[start + 2 * harmonic - 2] = sin;
                    row[start + 2 * harmonic - 1] = cos;
                }
            }
            self.waves.push(row);
        }
    }

    /// Fills the system: the lags, then the waves, then the target.
    fn fill(&mut self, z: &[f64], lags: &[usize], ends: &[usize; LANES], used: usize) {
        let (k, p) = (lags.len(), lags[lags.len() - 1]);
        self.normal.reset(k, used);
        let mut stops: Vec<usize> = ends.to_vec();
        stops.sort_unstable();
        stops.dedup();
        for (row, lag) in lags.iter().copied().chain([0]).enumerate() {
            let (row, columns) = if row == k { (k + used, k) } else { (row, row + 1) };
            for (column, other) in lags[..columns].iter().enumerate() {
                let product = |t: usize| z[t - lag] * z[t - other];
                self.normal.system[triangle(row, column)] =
                    prefix(ends, &stops, p, |from, to| (from..to).map(product).sum());
            }
            let mut running = [0.0; COLUMNS];
            let mut from = p;
            for stop in &stops {
                for t in from..*stop {
                    let v = z[t - lag];
                    running.iter_mut().zip(&self.waves[t]).for_each(|(sum, wave)| *sum += v * wave);
                }
                from = *stop;
                for (wave, sum) in running.iter().enumerate().take(used) {
                    let place = if row < k { triangle(k + wave, row) } else { triangle(row, k + wave) };
                    set(&mut self.normal.system[place], ends, *stop, *sum);
                }
            }
        }
        for row in 0..used {
            for column in 0..=row {
                let product = |t: usize| self.waves[t][row] * self.waves[t][column];
                self.normal.system[triangle(k + row, k + column)] =
                    prefix(ends, &stops, p, |from, to| (from..to).map(product).sum());
            }
        }
        self.normal.rows = ends.map(|end| (end - p) as f64);
        self.normal.penalty = ends.map(|end| {
            let known = &z[..end];
            let mean = known.iter().sum::<f64>() / end as f64;
            (known.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / end as f64).max(1e-6) * (end - p) as f64
        });
    }
}

/// The constant and the waves of the seasons that there are.
pub(super) fn columns_of(frame: &Frame) -> usize {
    1 + 2 * HARMONICS * (1 + usize::from(frame.outer > 0))
}

/// The lags beside the waves; `None` where there is no season or too little history.
pub(super) fn lags_of(frame: &Frame, lags: Lags) -> Option<Vec<usize>> {
    let leaves_rows = |lags: &Vec<usize>| {
        lags.last().is_some_and(|last| frame.shortest >= last + 2 * (lags.len() + columns_of(frame)))
    };
    lags.of(frame).filter(|lags| frame.main >= 2 * HARMONICS && leaves_rows(lags))
}

/// Writes `value` to the lanes that end at `stop`.
fn set(lanes: &mut Lanes, ends: &[usize; LANES], stop: usize, value: f64) {
    lanes.iter_mut().zip(ends).filter(|(_, end)| **end == stop).for_each(|(lane, _)| *lane = value);
}

/// The running sum from `start` at each lane's end, given the sum between two times.
fn prefix(ends: &[usize; LANES], stops: &[usize], start: usize, sum: impl Fn(usize, usize) -> f64) -> Lanes {
    let mut lanes = [0.0; LANES];
    let (mut total, mut from) = (0.0, start);
    for stop in stops {
        total += sum(from, *stop);
        from = *stop;
        set(&mut lanes, ends, *stop, total);
    }
    lanes
}
