//! How much the connections of a pair of hosts look like a beacon: software that calls home by a clock (ATT&CK T1071, T1573).
//!
//! **Formula.** After RITA, four scores of 0 to 1 and their mean. With Q the quartiles of some numbers and MAD the median
//! distance from Q2: the skew score is 1 − |Q1 + Q3 − 2·Q2| / (Q3 − Q1), which is 1 where Q3 = Q1, and the dispersion
//! score is max(0, 1 − MAD / Q2), which is 1 where both are 0.
//! 1. *Interval*: the mean of both over the times between connections that follow each other.
//! 2. *Size*: the mean of both over the bytes sent.
//! 3. *Duration*: the share of the observed span between first and last connection, or, where that is more, the most
//!    neighbouring twenty-fourths of the span with a connection, over 12, at most 1.
//! 4. *Histogram*: max(0, 1 − deviation / mean) of the connections in each twenty-fourth of the span.
//!
//! **Rules.** Connections come in any order; NaN times are left out, NaN sizes count as 0. Fewer than four connections, or a
//! span that is not positive, score 0 throughout. Times outside the span count in its first or last part.
//!
//! **Order of reduction.** Sorted numbers, in 64 bits. There is a CPU twin only.
//!
//! **Source.** Active Countermeasures, *RITA* v5, beacon analysis; the quartile skew is Bowley's.
//!
//! **Invariant:** a pair's scores depend on its connections and the span alone.

use crate::{Device, Error, Result, Series, lanes};

/// The fewest connections of a beacon.
pub const CONNECTIONS_MIN: usize = 4;
/// Parts of the observed span.
const PARTS: usize = 24;
/// Neighbouring parts that make a full duration score.
const RUN: f64 = 12.0;

/// The scores of one pair of hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Beacon {
    /// The mean of the four.
    pub score: f64,
    /// How even the times between connections are.
    pub interval: f64,
    /// How even the sizes are.
    pub size: f64,
    /// How much of the span it goes on.
    pub duration: f64,
    /// How evenly it is spread over the span.
    pub histogram: f64,
}

/// Scores every pair: `times` in seconds and `sizes` in bytes are cut into pairs alike; `span` is the first and the last
/// second that were observed.
///
/// # Errors
/// [`Error::Shape`] when times and sizes are not cut alike.
pub fn score(device: &Device, times: &Series, sizes: &Series, span: (f64, f64)) -> Result<Vec<Beacon>> {
    if times.offsets() != sizes.offsets() {
        return Err(Error::Shape("times and sizes of connections must be cut into pairs alike".to_owned()));
    }
    lanes::map(device, times.len(), || (), |(), pair| of_pair(times.get(pair), sizes.get(pair), span))
}

fn of_pair(times: &[f64], sizes: &[f64], span: (f64, f64)) -> Beacon {
    let length = span.1 - span.0;
    let mut sorted: Vec<f64> = times.iter().copied().filter(|time| !time.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted.len() < CONNECTIONS_MIN || !(length > 0.0 && length.is_finite()) {
        return Beacon::default();
    }
    let gaps: Vec<f64> = sorted.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let sizes: Vec<f64> = sizes.iter().map(|size| if size.is_nan() { 0.0 } else { *size }).collect();
    let mut parts = [0.0f64; PARTS];
    for time in &sorted {
        let part = ((time - span.0) / length * PARTS as f64).clamp(0.0, PARTS as f64 - 1.0);
        parts[part as usize] += 1.0;
    }
    let covered = ((sorted[sorted.len() - 1] - sorted[0]) / length).clamp(0.0, 1.0);
    let mut run = 0.0f64;
    let longest = parts.iter().fold(0.0f64, |longest, count| {
        run = if *count > 0.0 { run + 1.0 } else { 0.0 };
        longest.max(run)
    });
    let mean = parts.iter().sum::<f64>() / PARTS as f64;
    let deviation = (parts.iter().map(|count| (count - mean) * (count - mean)).sum::<f64>() / PARTS as f64).sqrt();
    let mut beacon = Beacon {
        score: 0.0,
        interval: evenness(gaps),
        size: evenness(sizes),
        duration: covered.max((longest / RUN).min(1.0)),
        histogram: (1.0 - deviation / mean).max(0.0),
    };
    beacon.score = (beacon.interval + beacon.size + beacon.duration + beacon.histogram) / 4.0;
    beacon
}

/// The mean of the skew score and the dispersion score.
fn evenness(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(&numbers, share));
    let mut distances: Vec<f64> = numbers.iter().map(|number| (number - middle).abs()).collect();
    distances.sort_unstable_by(f64::total_cmp);
    let distance = quantile(&distances, 0.5);
    let skew = if high > low { 1.0 - ((low + high - 2.0 * middle) / (high - low)).abs() } else { 1.0 };
    let dispersion = match (distance, middle) {
        (0.0, _) => 1.0,
        (_, middle) if middle > 0.0 => (1.0 - distance / middle).max(0.0),
        _ => 0.0,
    };
    let even = (skew + dispersion) / 2.0;
    if even.is_nan() { 0.0 } else { even }
}

/// The quantile of ascending numbers, by straight lines between them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    if below == above { below } else { below + (above - below) * at.fract() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::noise;

    const DAY: (f64, f64) = (0.0, 86_400.0);

    fn one(times: &[f64], sizes: &[f64]) -> Beacon {
        let offsets = [0, times.len()];
        let (times, sizes) = (Series::new(times, &offsets).unwrap(), Series::new(sizes, &offsets).unwrap());
        score(&Device::cpu(), &times, &sizes, DAY).unwrap()[0]
    }

    #[test]
    fn a_jittered_beacon_stands_out_from_browsing() {
        let beacon: Vec<f64> = (0..288).rev().map(|i| 300.0 * i as f64 + 20.0 * noise(i)).collect();
        let sizes: Vec<f64> = (0..288).map(|i| 500.0 + 10.0 * noise(i + 9)).collect();
        let found = one(&beacon, &sizes);
        assert!(found.score > 0.9 && found.interval > 0.85 && found.histogram > 0.9, "{found:?}");
        let browsing: Vec<f64> = (0..288).map(|i| 30_000.0 + 9_000.0 * noise(i).powi(3)).collect();
        let sizes: Vec<f64> = (0..288).map(|i| (8.0 + 4.0 * noise(i + 99)).exp()).collect();
        let found = one(&browsing, &sizes);
        assert!(found.score < 0.55, "{found:?}");
    }

    #[test]
    fn few_missing_and_hostile_connections_have_finite_scores() {
        assert_eq!(one(&[1.0, 2.0, 3.0], &[1.0; 3]), Beacon::default());
        assert_eq!(one(&[f64::NAN; 9], &[1.0; 9]), Beacon::default());
        for times in [[5.0; 6], [f64::INFINITY; 6], [-1e300, 1e300, 0.0, 1.0, f64::NAN, 2.0]] {
            let found = one(&times, &[f64::NAN, 0.0, 1.0, 1e308, f64::INFINITY, -1.0]);
            assert!((0.0..=1.0).contains(&found.score), "{found:?}");
        }
        let (offsets, other) = ([0, 2], [0, 1, 2]);
        let (a, b) = (Series::new(&[1.0, 2.0], &offsets).unwrap(), Series::new(&[1.0, 2.0], &other).unwrap());
        assert!(matches!(score(&Device::cpu(), &a, &b, DAY), Err(Error::Shape(_))));
        assert_eq!(one(&[0.0, 28_800.0, 57_600.0, 86_400.0], &[7.0; 4]).interval, 1.0);
    }
}
