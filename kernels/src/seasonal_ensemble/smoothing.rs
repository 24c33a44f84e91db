//! Double-seasonal exponential smoothing with an autocorrelated error (Taylor 2003), on a grid of parameters.
//!
//! One run over the series judges eight parameter sets at once, and its running errors are read at every lane's end, so
//! that all lanes choose from the same runs.
//!
//! **Invariant:** a lane's choice and state come from the values before its end.

use super::frame::Frame;
use crate::seasonal_ar::normal::{LANES, Lanes};

const LEVEL: [f64; 5] = [0.001, 0.01, 0.05, 0.15, 0.4];
const SEASON: [f64; 4] = [0.0, 0.05, 0.15, 0.35];
const CARRY: [f64; 5] = [0.0, 0.4, 0.7, 0.9, 0.97];
/// Smoothing constants that add up to more overshoot.
const SUM_MAX: f64 = 1.3;
/// Seasons longer than this are not smoothed.
const OUTER_STEPS_MAX: usize = 2_100;
/// Parameter sets of one run.
const WIDTH: usize = 8;

/// Level, main season, outer season, share of the last error that carries on.
pub(super) type Set = [f64; 4];

/// The forecasts of standardised values; `None` where there is no season or too little history.
pub(super) fn forecast(frame: &Frame, z: &[f64]) -> Option<Vec<Lanes>> {
    let (m, outer) = (frame.main, outer_of(frame)?);
    let sets = sets(frame.outer > 0);
    let mut best = [(f64::INFINITY, 0); LANES];
    for (index, chunk) in sets.chunks(WIDTH).enumerate() {
        let mut run = Run::<WIDTH>::new(z, m, outer, |i| chunk[i.min(chunk.len() - 1)]);
        run.errors_at(z, &frame.ends, |w, errors| {
            for (i, error) in errors.iter().enumerate().take(chunk.len()) {
                if *error < best[w].0 {
                    best[w] = (*error, index * WIDTH + i);
                }
            }
        });
    }
    let mut steps = vec![[0.0; LANES]; frame.horizon];
    for (w, end) in frame.ends.iter().enumerate() {
        let set = sets[best[w].1];
        let mut run = Run::<1>::new(z, m, outer, |_| set);
        run.go(z, 0, *end);
        steps.iter_mut().enumerate().for_each(|(step, lanes)| lanes[w] = run.ahead(*end, step));
    }
    Some(steps)
}

/// The longer of the seasons; `None` where there is none or too little history.
pub(super) fn outer_of(frame: &Frame) -> Option<usize> {
    let outer = frame.outer.max(frame.main);
    (frame.main > 0 && frame.shortest >= 2 * outer && outer <= OUTER_STEPS_MAX).then_some(outer)
}

/// All parameter sets that do not overshoot, of two seasons or of one.
pub(super) fn sets(two: bool) -> Vec<Set> {
    let mut sets = Vec::new();
    for level in LEVEL {
        for main in SEASON {
            for outer in SEASON.into_iter().take(if two { SEASON.len() } else { 1 }) {
                let carries = CARRY.into_iter().filter(|_| level + main + outer <= SUM_MAX);
                sets.extend(carries.map(|carry| [level, main, outer, carry]));
            }
        }
    }
    sets
}

/// The state of `W` parameter sets.
struct Run<const W: usize> {
    sets: [[f64; W]; 4],
    level: [f64; W],
    main: Vec<[f64; W]>,
    outer: Vec<[f64; W]>,
    error: [f64; W],
    total: [f64; W],
    warm: usize,
}

impl<const W: usize> Run<W> {
    /// Starts from the means of the first two outer seasons.
    fn new(z: &[f64], m: usize, outer: usize, set: impl Fn(usize) -> Set) -> Self {
        let start = 2 * outer;
        let level = z[..start].iter().sum::<f64>() / start as f64;
        let mut mains = vec![0.0; m];
        for (t, v) in z[..start].iter().enumerate() {
            mains[t % m] += (v - level) / (start / m) as f64;
        }
        let mut outers = vec![0.0; outer];
        for (t, v) in z[..start].iter().enumerate() {
            outers[t % outer] += (v - level - mains[t % m]) / (start / outer) as f64;
        }
        Self {
            sets: std::array::from_fn(|p| std::array::from_fn(|i| set(i)[p])),
            level: [level; W],
            main: mains.into_iter().map(|v| [v; W]).collect(),
            outer: outers.into_iter().map(|v| [v; W]).collect(),
            error: [0.0; W],
            total: [0.0; W],
            warm: outer,
        }
    }

    /// Takes in the values of `from..to`.
    fn go(&mut self, z: &[f64], from: usize, to: usize) {
        let [level, main, outer, carry] = self.sets;
        let (m, o) = (self.main.len(), self.outer.len());
        let (mut i, mut j) = (from % m, from % o);
        for (t, v) in z[from..to].iter().enumerate() {
            let counts = f64::from(u8::from(from + t >= self.warm));
            let (mains, outers) = (&mut self.main[i], &mut self.outer[j]);
            for w in 0..W {
                let base = self.level[w] + mains[w] + outers[w];
                let error = v - base - carry[w] * self.error[w];
                self.total[w] += counts * error.abs();
                self.level[w] += level[w] * error;
                mains[w] += main[w] * error;
                outers[w] += outer[w] * error;
                self.error[w] = v - base;
            }
            i = if i + 1 == m { 0 } else { i + 1 };
            j = if j + 1 == o { 0 } else { j + 1 };
        }
    }

    /// Runs over the whole series and reports the errors summed so far at each lane's end.
    fn errors_at(&mut self, z: &[f64], ends: &[usize; LANES], mut report: impl FnMut(usize, &[f64; W])) {
        let mut lanes: Vec<usize> = (0..LANES).collect();
        lanes.sort_by_key(|w| ends[*w]);
        let mut from = 0;
        for w in lanes {
            self.go(z, from, ends[w]);
            from = ends[w];
            report(w, &self.total);
        }
    }

    /// The first set's forecast `step` steps after `end`.
    fn ahead(&self, end: usize, step: usize) -> f64 {
        let t = end + step;
        let power = i32::try_from(step + 1).unwrap_or(i32::MAX);
        self.level[0]
            + self.main[t % self.main.len()][0]
            + self.outer[t % self.outer.len()][0]
            + self.sets[3][0].powi(power) * self.error[0]
    }
}
