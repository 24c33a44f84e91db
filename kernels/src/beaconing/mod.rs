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
//! **Rules.** Connections come in any order; NaN and infinite times are left out, NaN sizes count as 0. Fewer than four
//! connections, or a span that is not positive, score 0 throughout. Times outside the span count in its first or last part.
//!
//! **Order of reduction.** Sorted numbers, in 64 bits. Tolerance between the twins: none, they agree bit by bit.
//!
//! **Source.** Active Countermeasures, *RITA* v5, beacon analysis; the quartile skew is Bowley's.
//!
//! **Invariant:** a pair's scores depend on its connections and the span alone.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod tests;

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
    #[cfg(feature = "cuda")]
    if let Some(beacons) = device.offload("beaconing", |gpu| cuda::score(device, gpu, times, sizes, span))? {
        return Ok(beacons);
    }
    lanes::map(device, times.len(), || (), |(), pair| of_pair(times.get(pair), sizes.get(pair), span))
}

/// The times that count.
fn known(times: &[f64]) -> impl Iterator<Item = f64> {
    times.iter().copied().filter(|time| time.is_finite())
}

/// The sizes as they count.
fn counted(sizes: &[f64]) -> impl Iterator<Item = f64> {
    sizes.iter().map(|size| if size.is_nan() { 0.0 } else { *size })
}

/// Whether a span is one.
fn is_positive(span: (f64, f64)) -> bool {
    let length = span.1 - span.0;
    length > 0.0 && length.is_finite()
}

fn of_pair(times: &[f64], sizes: &[f64], span: (f64, f64)) -> Beacon {
    let length = span.1 - span.0;
    let mut sorted: Vec<f64> = known(times).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted.len() < CONNECTIONS_MIN || !is_positive(span) {
        return Beacon::default();
    }
    let gaps: Vec<f64> = sorted.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let sizes: Vec<f64> = counted(sizes).collect();
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
