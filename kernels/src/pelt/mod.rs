//! Change points of the mean of many series: the segmentation of least cost, found exactly by PELT.
//!
//! **Formula.** Minimise Σ over segments of Σ(x − mean of the segment)²/σ² + penalty · ln n for every change.
//! 1. σ² is the long-run variance of a first-order autoregression, from differences, so that neither changes nor slow
//!    noise inflate it or look like changes: with m₁ and m₂ the medians of |x(t+1) − x(t)| and |x(t+2) − x(t)|,
//!    ρ = m₂²/m₁² − 1 within [0, 0.9], γ = (1.4826·m₁)²/(2 − 2ρ), σ² = γ·(1 + ρ)/(1 − ρ). Where more than half of the steps
//!    are zero, m₁ is the mean step instead.
//! 2. Single outliers are no changes: a value is cut to 4·√γ around the median of the five values around it.
//! 3. PELT with segments of at least `least` points. More than 8,192 values are first averaged in equal blocks; then each
//!    change is moved to the best point within a block of where it was found, and one that is not worth its cost is dropped.
//!
//! **Missing values.** NaN, infinite values and those beyond 1e140 are left out; places count all values. A series with fewer
//! than twice the shortest segment has no change.
//!
//! **Penalty.** 2·ln n for each change is the classical choice (a change costs its place and its mean); the default of 6 is
//! that with room for noise that is not normal. Larger finds fewer changes.
//!
//! **Twins.** The CUDA twin searches; noise, outliers and refinement are the host's. Of equal costs the earliest start wins.
//! Tolerance between the twins: none, they agree bit by bit.
//!
//! **Papers.** Killick, Fearnhead and Eckley, *Optimal Detection of Changepoints with a Linear Computational Cost*, JASA
//! 2012; Chakar et al., *A Robust Approach for Estimating Change-Points in the Mean of an AR(1) Process*, Bernoulli 2017.
//!
//! **Invariant:** a pure function of one series; time grows at most with 8,192² whatever its length.

#[cfg(feature = "cuda")]
mod cuda;
mod search;
#[cfg(test)]
mod tests;

use self::search::Prepared;
use crate::{Device, Error, Result, Series, lanes};

/// Magnitudes beyond this are left out: their squares would be infinite.
const VALUE_MAX: f64 = 1e140;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// What a change costs, in units of ln n; above zero.
    pub penalty: f64,
    /// The shortest segment, in points; at least 1.
    pub least: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { penalty: 6.0, least: 5 }
    }
}

/// A change of the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The place, in its series, of the first value after the change.
    pub at: usize,
    /// The mean of the segment before.
    pub before: f64,
    /// The mean of the segment after.
    pub after: f64,
    /// The difference of the means in standard errors.
    pub strength: f64,
}

/// The changes of every series, in order.
///
/// # Errors
/// [`Error::Parameter`] when the penalty or the shortest segment is out of range. Data never makes an error.
pub fn change_points(device: &Device, series: &Series, params: &Params) -> Result<Vec<Vec<Change>>> {
    if !(params.penalty > 0.0 && params.penalty.is_finite()) {
        return Err(Error::Parameter(format!("a penalty of {} is out of range: use one above 0", params.penalty)));
    }
    if params.least == 0 {
        return Err(Error::Parameter("a segment of 0 points is out of range: use 1 or more".to_owned()));
    }
    #[cfg(feature = "cuda")]
    if let Some(changes) = device.offload("pelt", |gpu| on_gpu(device, gpu, series, params))? {
        return Ok(changes);
    }
    let found = |prepared: Prepared| prepared.changes(prepared.segments());
    lanes::map(device, series.len(), || (), |(), i| Prepared::of(series.get(i), params).map_or_else(Vec::new, found))
}

/// The same with every search on the CUDA device.
#[cfg(feature = "cuda")]
fn on_gpu(
    device: &Device,
    gpu: &crate::device::gpu::Gpu,
    series: &Series,
    params: &Params,
) -> std::result::Result<Vec<Vec<Change>>, crate::device::fault::Fault> {
    let prepared = lanes::map(device, series.len(), || (), |(), i| Prepared::of(series.get(i), params))?;
    let searched: Vec<&Prepared> = prepared.iter().flatten().collect();
    let mut ends = cuda::segments(device, gpu, &searched)?.into_iter();
    let paired: Vec<_> = prepared.iter().map(|one| one.as_ref().zip(one.as_ref().and_then(|_| ends.next()))).collect();
    let changes = |i: usize| paired[i].as_ref().map_or_else(Vec::new, |(one, ends)| one.changes(ends.clone()));
    Ok(lanes::map(device, paired.len(), || (), |(), i| changes(i))?)
}
