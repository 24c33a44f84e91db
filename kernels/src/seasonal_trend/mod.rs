//! Seasons of many series and their strength, and series taken apart into trend, seasons and remainder.
//!
//! **Formula.** Gaps are filled as for a forecast. Seasons are found by autocorrelation in the newest 16,384 points
//! (a main one m, an outer one M). Then, in a round
//! without and two with robustness weights, twice each:
//! 1. The trend is the weighted moving average over the longest season (over a tenth of the series, at least five points,
//!    where there is none) of the series without its seasons, in whole main seasons at the ends.
//! 2. For each season, longest last: what is left without the trend and the other season is averaged, place by place, over
//!    the three cycles before and after with weights (1 − (d/4)³)³ (their median in the first round), and its mean over a season is taken off.
//! 3. The remainder r is what is left. Robustness weights are (1 − (r / 6 median|r|)²)², 0 beyond (Cleveland et al.
//!    1990), so that outliers stay in the remainder; they are 1 throughout where median|r| is below a billionth of the
//!    largest magnitude, which is what rounding leaves.
//!
//! The strength of a season S is max(0, 1 − var(R) / var(S + R)), R the remainder (Wang, Smith and Hyndman 2006).
//!
//! **Missing values.** NaN and infinities are missing. The parts are finite wherever the series has begun; the remainder
//! is NaN where the value is missing. A series without a finite value is NaN throughout.
//!
//! **Short series.** Fewer than 24 points have no season. One point is its own trend.
//!
//! **Order of reduction.** Ascending time; the CUDA twin takes running sums in stretches. Gaps, the search for seasons and
//! their strengths are the host's. Tolerance between the twins: 1e-8 of the series' largest magnitude.
//!
//! **Papers.** Cleveland, Cleveland, McRae and Terpenning 1990 (STL); Bandara, Hyndman and Bergmeir 2021 (MSTL).
//!
//! **Invariant:** a series' parts depend on that series alone; value = trend + season + outer season + remainder.

#[cfg(feature = "cuda")]
mod cuda;
mod parts;
#[cfg(test)]
mod tests;

use self::parts::Parts;
use crate::seasonal_ar::history;
use crate::{Device, Result, Series, lanes};

/// A season of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Season {
    /// Its length in steps.
    pub steps: usize,
    /// Which share of the variance beside the trend and the other season it explains, 0 to 1.
    pub strength: f64,
}

/// The seasons of every series, the main one first; none, one or two each.
///
/// # Errors
/// [`Error::Stopped`](crate::Error::Stopped) where the device's work was stopped meanwhile.
pub fn detect(device: &Device, series: &Series) -> Result<Vec<Vec<Season>>> {
    let newest = |i: usize| {
        let raw = series.get(i);
        &raw[raw.len().saturating_sub(history::HISTORY_POINTS_MAX)..]
    };
    let found = each(device, &(0..series.len()).map(newest).collect::<Vec<_>>(), Parts::strengths)?;
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

/// What `finish` makes of every series' parts; `None` where no value is known.
fn each<T: Send>(device: &Device, raws: &[&[f64]], finish: impl Fn(&Parts) -> T + Sync) -> Result<Vec<Option<T>>> {
    #[cfg(feature = "cuda")]
    if let Some(parts) = device.offload("seasonal_trend", |gpu| {
        let mut parts = lanes::map(device, raws.len(), || (), |(), i| Parts::prepared(raws[i]))?;
        cuda::fit(device, gpu, &mut parts.iter_mut().flatten().collect::<Vec<_>>())?;
        Ok(parts)
    })? {
        return lanes::map(device, parts.len(), || (), |(), i| parts[i].as_ref().map(&finish));
    }
    lanes::map(device, raws.len(), || (), |(), i| Parts::of(raws[i]).as_ref().map(&finish))
}

/// The parts of a batch, each as long as the values and in their order and units.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decomposition {
    /// The level without seasons.
    pub trend: Vec<f64>,
    /// The main season; 0 where there is none.
    pub season: Vec<f64>,
    /// The outer season; 0 where there is none.
    pub outer: Vec<f64>,
    /// What the parts leave of the values.
    pub remainder: Vec<f64>,
}

/// Takes every series apart.
///
/// # Errors
/// [`Error::Stopped`](crate::Error::Stopped) where the device's work was stopped meanwhile.
pub fn decompose(device: &Device, series: &Series) -> Result<Decomposition> {
    let raws: Vec<&[f64]> = (0..series.len()).map(|i| series.get(i)).collect();
    let rows = each(device, &raws, Parts::in_units)?;
    let mut all = Decomposition::default();
    for (i, row) in rows.into_iter().enumerate() {
        let length = series.get(i).len();
        let row = row.unwrap_or_default();
        for (to, from) in [
            (&mut all.trend, row.trend),
            (&mut all.season, row.season),
            (&mut all.outer, row.outer),
            (&mut all.remainder, row.remainder),
        ] {
            // Nothing is known before the first value.
            to.extend(std::iter::repeat_n(f64::NAN, length - from.len()));
            to.extend(from);
        }
    }
    Ok(all)
}
