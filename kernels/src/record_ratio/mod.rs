//! Anomalies of many series at once, found as they stream by: features of the newest point as ratios to their own
//! fading records.
//!
//! **Formula.** P is the warm-up, a number of points known at the start.
//! 1. *Features* f ≥ 0 of a point, differences in an upward and a downward part: residuals against exponential means
//!    (rates 0.3 and 0.1), step, distance from the long exponential mean (rate 1/P), means of the last w/4 and w points
//!    less that of 4w (w = max(4, P/13)), deviation over w/4 and w, mean step over w, residuals against half hour of the day
//!    and hour of the week (UTC; where times are given), distance of the last 4 points, pooled by P/52, P/104 and
//!    P/208, from their nearest neighbours among 1,024 pooled points, novelty of sequences of levels, how long the
//!    value has not moved, how long ago the point before was.
//! 2. *Ratio* r = f/M, at most 50, with the record M ← max(M·e^(−1/8P), f). Neighbours nearer than half the record
//!    count as zero.
//! 3. *Strength* S = (Σ wᵍ⁵ · mean(r⁵ in group g))^(1/5): residuals 0.35, level 1, spread 0.35, season 0.7, neighbours 1,
//!    sequences 0.7, flat line 0.35, silence 0.25.
//! 4. A point *stands out* when S is above 1.03 times the largest S of the P/4 points before and, within
//!    0.4·P of the last point that stood out, above that one's. Its score is S/(1 + S), any other's 0: an anomaly that
//!    lasts is told when it begins and when it grows.
//! 5. *p-value*: how many points per warm-up stand out with S or more, by a table of calm series and by the series' own
//!    past, over P: on calm data a point has a p-value below x about once in 1/x points. A budget of a false alarms
//!    per series and day, at n points a day, is the limit a/n. Where that is below what the past can show, 1/1000 P,
//!    the figure rests on the table alone.
//! 6. *Kind*: silence or flat line where that ratio says so, else the first of point (residuals), level shift (means) and
//!    pattern (anything else) with a ratio of at least 0.7 of those after it.
//!
//! **Order of reduction.** A point after another; features, then groups, in the order above.
//!
//! **Missing values.** A NaN is judged NaN and teaches nothing; the time it spans shows as silence. An infinite
//! value, or one beyond 1e140, is judged the strongest anomaly and teaches nothing. The first P usable points teach and
//! stand for nothing; a series that is not longer is never judged.
//!
//! **Causal.** A judgement depends on the past and present of its own series; [`State`] carries it from one call to the
//! next, and points pushed in many calls get what they get in one. A state is of bounded size: up to 130 kB.
//!
//! **Twins.** On a device one block judges one series, and its threads share the search for neighbours. Both twins run the
//! same operations in the same order, without fused multiply-adds; only exp, log and pow may round differently.
//! Tolerance: 1e-9 per score, and 1e-9 of a p-value. [`resume`] goes on with states of the host, and runs there.
//!
//! **Papers.** Lavin and Ahmad, *Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark*, ICMLA
//! 2015 (causal scores, probation); Lu et al., *Matrix Profile XXIV (DAMP)*, KDD 2022 (left nearest neighbours, searched
//! until near enough).
//!
//! **Invariant:** state of bounded size per series; reads no clock: times come with the values.

#[cfg(any(test, feature = "cuda"))]
mod batch;
#[cfg(feature = "cuda")]
mod cuda;
mod features;
mod grams;
mod model;
mod neighbours;
mod rate;
mod record;
mod rolling;
#[cfg(test)]
mod tests;

pub use model::State;

use crate::{Device, Error, Result, Series, lanes};

/// The shortest and the longest warm-up, in points.
pub const WARM_UP_POINTS: std::ops::RangeInclusive<usize> = 32..=100_000;
/// Magnitudes beyond this count as infinite: sums of their squares would be.
const VALUE_MAX: f64 = 1e140;

/// How to score.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// How many usable points of each series only teach; within [`WARM_UP_POINTS`].
    pub warm_up: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { warm_up: 288 }
    }
}

impl Params {
    /// A state before the first point of a series.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the warm-up is out of range.
    pub fn state(&self) -> Result<State> {
        if WARM_UP_POINTS.contains(&self.warm_up) {
            return Ok(State::new(self.warm_up));
        }
        let (least, most) = (WARM_UP_POINTS.start(), WARM_UP_POINTS.end());
        let text = format!("a warm-up of {} points is out of range: use {least} to {most}", self.warm_up);
        Err(Error::Parameter(text))
    }
}

/// What kind of anomaly a point is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Kind {
    /// None: the point does not stand out.
    #[default]
    None,
    /// A single value far from the ones before.
    Point,
    /// A mean that moved.
    LevelShift,
    /// A course that this series has not shown, or not at this time of day or week, or another spread.
    Pattern,
    /// No value for longer than usual before this one.
    Silence,
    /// The same value for longer than usual.
    Flatline,
}

impl Kind {
    /// Its name; none of a point that does not stand out.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Kind::None => None,
            Kind::Point => Some("point"),
            Kind::LevelShift => Some("level_shift"),
            Kind::Pattern => Some("pattern"),
            Kind::Silence => Some("silence"),
            Kind::Flatline => Some("flatline"),
        }
    }
}

/// The judgement of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// 0 up to below 1: 0 where the point does not stand out from the points before, NaN where the value is NaN.
    pub score: f64,
    /// The probability that a calm point stands out as much: 1 where it does not, NaN where the value is NaN.
    pub p_value: f64,
    /// What kind of anomaly it is.
    pub kind: Kind,
}

impl Point {
    /// Nothing to tell.
    fn calm() -> Self {
        Self { score: 0.0, p_value: 1.0, kind: Kind::None }
    }

    /// As strong as can be.
    fn strongest() -> Self {
        let strength = record::RATIO_MAX;
        Self { score: strength / (1.0 + strength), p_value: rate::P_MIN, kind: Kind::Point }
    }

    /// Of a missing value.
    fn missing() -> Self {
        Self { score: f64::NAN, p_value: f64::NAN, kind: Kind::None }
    }
}

/// Judges every value of every series. `seconds` are the values' times since the epoch, if known.
///
/// # Errors
/// [`Error::Parameter`] when the warm-up is out of range, [`Error::Shape`] when there is not one time per value.
pub fn score(device: &Device, series: &Series, seconds: Option<&[i64]>, params: &Params) -> Result<Vec<Point>> {
    let fresh = params.state()?;
    check(series, seconds)?;
    #[cfg(feature = "cuda")]
    if let Some(points) =
        device.offload("record_ratio", |gpu| cuda::score(device, gpu, series, seconds, params.warm_up))?
    {
        return Ok(points);
    }
    let rows = run(device, series, seconds, |i, points| points.judge(i, &mut fresh.clone()))?;
    Ok(rows.concat())
}

/// Judges the next values of series whose states are known, one state for each series; gives the states after them.
///
/// # Errors
/// [`Error::Shape`] when there is not one state per series, or not one time per value.
pub fn resume(
    device: &Device,
    states: &[State],
    series: &Series,
    seconds: Option<&[i64]>,
) -> Result<(Vec<Point>, Vec<State>)> {
    if states.len() != series.len() {
        return Err(Error::Shape(format!("{} states for {} series: give one each", states.len(), series.len())));
    }
    let rows = run(device, series, seconds, |i, points| {
        let mut state = states[i].clone();
        (points.judge(i, &mut state), state)
    })?;
    let (points, states): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    Ok((points.concat(), states))
}

/// Values with their times.
struct Points<'a> {
    series: &'a Series<'a>,
    seconds: Option<&'a [i64]>,
}

impl Points<'_> {
    /// Pushes series `i` to a state.
    fn judge(&self, i: usize, state: &mut State) -> Vec<Point> {
        let start = self.series.offsets()[i];
        let at = |k: usize| self.seconds.map(|seconds| seconds[start + k]);
        self.series.get(i).iter().enumerate().map(|(k, value)| state.push(*value, at(k))).collect()
    }
}

/// One piece of work for every series.
fn run<T: Send>(
    device: &Device,
    series: &Series,
    seconds: Option<&[i64]>,
    work: impl Fn(usize, &Points) -> T + Sync,
) -> Result<Vec<T>> {
    check(series, seconds)?;
    let points = Points { series, seconds };
    lanes::map(device, series.len(), || (), |(), i| work(i, &points))
}

/// That there is one time per value.
fn check(series: &Series, seconds: Option<&[i64]>) -> Result<()> {
    let values = series.values().len();
    match seconds.filter(|seconds| seconds.len() != values) {
        Some(seconds) => Err(Error::Shape(format!("{} times for {values} values: give one each", seconds.len()))),
        None => Ok(()),
    }
}

/// A judgement as the device gives it: score, p-value, number of the kind.
#[cfg(any(test, feature = "cuda"))]
fn point_of(numbers: &[f64]) -> Point {
    const KINDS: [Kind; 5] = [Kind::Point, Kind::LevelShift, Kind::Pattern, Kind::Silence, Kind::Flatline];
    let kind = KINDS.iter().zip(1..).find(|(_, number)| f64::from(*number) == numbers[2]);
    Point { score: numbers[0], p_value: numbers[1], kind: kind.map_or(Kind::None, |(kind, _)| *kind) }
}
