//! Nearest windows: what followed the stretches of the past that look most like the newest one.
//!
//! Windows start at the same place in the main season as the forecast does. Each is compared after its own last
//! season's mean is taken off; the last season counts in full, what lies before it three tenths. The nearest are
//! averaged with weights e^(−1.5 d / d of the farthest of them).
//!
//! **Invariant:** a lane's windows and what followed them end before the lane does.

use super::frame::Frame;
use crate::seasonal_ar::normal::{LANES, Lanes};

/// How many windows are averaged.
const NEIGHBOURS: usize = 6;
/// What a point before the last season counts.
const EARLIER: f64 = 0.3;

/// The forecasts of standardised values from windows of `seasons` main seasons; `None` where there are too few.
pub(super) fn forecast(frame: &Frame, z: &[f64], seasons: usize) -> Option<Vec<Lanes>> {
    if !are_enough(frame, seasons) {
        return None;
    }
    let mut steps = vec![[0.0; LANES]; frame.horizon];
    for (w, end) in frame.ends.iter().enumerate() {
        lane(&z[..*end], seasons * frame.main, frame.main, &mut steps, w);
    }
    Some(steps)
}

/// Whether every lane has windows enough.
pub(super) fn are_enough(frame: &Frame, seasons: usize) -> bool {
    let m = frame.main;
    m > 0 && frame.shortest >= seasons * m + frame.horizon.next_multiple_of(m) + m * NEIGHBOURS
}

fn lane(z: &[f64], length: usize, m: usize, steps: &mut [Lanes], w: usize) {
    let n = z.len();
    let mean = |end: usize| z[end - m..end].iter().sum::<f64>() / m as f64;
    let (query, query_mean) = (&z[n - length..], mean(n));
    let back = steps.len().next_multiple_of(m);
    let ends = (0..).map(|cycle| n.wrapping_sub(back + cycle * m)).take_while(|end| (length..n).contains(end));
    let mut near: Vec<(f64, usize)> = ends
        .map(|end| {
            let shift = query_mean - mean(end);
            let gap = |(a, b): (&f64, &f64)| (a - b - shift) * (a - b - shift);
            let (early, late) = (length - m, end - m);
            let earlier: f64 = query[..early].iter().zip(&z[end - length..late]).map(gap).sum();
            let later: f64 = query[early..].iter().zip(&z[late..end]).map(gap).sum();
            (EARLIER * earlier + later, end)
        })
        .collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0));
    near.truncate(NEIGHBOURS);
    let farthest = near.last().map_or(0.0, |last| last.0) + 1e-12;
    let total: f64 = near.iter().map(|(distance, _)| (-1.5 * distance / farthest).exp()).sum();
    for (distance, end) in &near {
        let share = (-1.5 * distance / farthest).exp() / total;
        let shift = query_mean - mean(*end);
        for (step, value) in steps.iter_mut().zip(&z[*end..]) {
            step[w] += share * (value + shift);
        }
    }
}
