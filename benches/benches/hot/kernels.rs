//! The kernels on the CPU.
//!
//! **Invariant:** many series in one call, as a query hands them over.

use juno_benches::rows;
use juno_sql::kernels::{Device, Series, robust_residual, seasonal_ar};

use crate::Hot;

const SERIES: usize = 16;
const POINTS: usize = 24 * 28;

pub(crate) fn kernels(hot: &mut Hot) {
    let value = |at: usize| {
        let (series, point) = (at / POINTS, at % POINTS);
        let season = (point as f64 * std::f64::consts::TAU / 24.0).sin() * 20.0;
        season + rows::value(series, point, 0) / 10.0
    };
    let values: Vec<f64> = (0..SERIES * POINTS).map(value).collect();
    let offsets: Vec<usize> = (0..=SERIES).map(|series| series * POINTS).collect();
    let series = Series::new(&values, &offsets).expect("offsets in order");
    let device = Device::cpu();
    let params = seasonal_ar::Params { horizon: 24, levels: &[0.95] };
    let forecast = |()| seasonal_ar::forecast(&device, &series, &params).expect("good parameters");
    hot.run("seasonal_ar, 16 series of 672 points, 24 steps", SERIES, || (), forecast);
    let params = robust_residual::Params::default();
    let score = |()| robust_residual::score(&device, &series, &params).expect("good parameters");
    hot.run("robust_residual, 16 series of 672 points", SERIES, || (), score);
}
