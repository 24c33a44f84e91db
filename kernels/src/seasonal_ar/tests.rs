//! Tests of the forecasts, of both twins and of their agreement.

use proptest::prelude::*;

use super::batch::{Batch, THREADS};
use super::plan::Plan;
use super::{Forecast, HORIZON_STEPS_MAX, INTERVAL_LEVELS_MAX, Params, Prepared, cpu, forecast};
use crate::twin::{noise, run_on_host, series_of_all_kinds, twin_test, wave};
use crate::{Device, Error, Series};

const PARAMS: Params = Params { horizon: 48, levels: &[0.95] };

fn forecast_of(device: &Device, values: &[f64], horizon: usize) -> Forecast {
    let params = Params { horizon, ..PARAMS };
    forecast(device, &Series::new(values, &[0, values.len()]).unwrap(), &params).unwrap()
}

fn weekly(t: usize) -> f64 {
    let weekend = if t / 24 % 7 >= 5 { 0.6 } else { 1.0 };
    weekend * (100.0 + 40.0 * wave(t, 24)) + 0.01 * t as f64
}

/// The mean magnitude of the error against `truth`, relative to its mean magnitude.
fn error(mean: &[f64], truth: impl Fn(usize) -> f64) -> f64 {
    let sums = mean.iter().enumerate().fold((0.0, 0.0), |sums, (step, forecast)| {
        let actual = truth(step);
        (sums.0 + (forecast - actual).abs(), sums.1 + actual.abs())
    });
    sums.0 / sums.1
}

twin_test! {
    fn every_kind_of_series_gets_a_row_and_only_nothing_known_is_nan(device) {
        let (values, offsets) = series_of_all_kinds();
        let series = Series::new(&values, &offsets).unwrap();
        let result = forecast(device, &series, &PARAMS).unwrap();
        assert_eq!((result.mean.len(), result.seasons.len(), result.launches), (series.len() * 48, series.len(), 1));
        for i in 0..series.len() {
            let known = series.get(i).iter().any(|v| v.is_finite());
            for at in i * 48..(i + 1) * 48 {
                let (lower, mean, upper) = (result.lower[at], result.mean[at], result.upper[at]);
                let missing = lower.is_nan() && mean.is_nan() && upper.is_nan();
                let sound = if known { lower <= mean && mean <= upper } else { missing };
                assert!(sound, "series {i}: {lower} {mean} {upper}");
            }
        }
    }
}

twin_test! {
    fn days_weeks_and_trend_go_on(device) {
        let values: Vec<f64> = (0..24 * 35).map(|t| weekly(t) + 2.0 * noise(t)).collect();
        let result = forecast_of(device, &values, 168);
        assert_eq!(result.seasons, [24]);
        let error = error(&result.mean, |step| weekly(24 * 35 + step));
        assert!(error < 0.02, "relative error {error}");
    }
}

twin_test! {
    fn four_weeks_of_five_minute_points_are_forecast_a_day_ahead(device) {
        let load = |t: usize| 50.0 + 20.0 * wave(t, 288) + if t / 288 % 7 >= 5 { -10.0 } else { 0.0 };
        let values: Vec<f64> = (0..8_064).map(|t| load(t) + 2.0 * noise(t)).collect();
        let result = forecast_of(device, &values, 288);
        assert_eq!(result.seasons, [288]);
        let error = error(&result.mean, |step| load(8_064 + step));
        assert!(error < 0.02, "relative error {error}");
    }
}

twin_test! {
    fn intervals_hold_about_the_share_they_promise(device) {
        let length = 700;
        let value = |series: usize, t: usize| 60.0 + 25.0 * wave(t + 3 * series, 24) + 8.0 * noise(series * 10_000 + t);
        let values: Vec<f64> = (0..40).flat_map(|series| (0..length).map(move |t| value(series, t))).collect();
        let offsets: Vec<usize> = (0..=40).map(|series| series * length).collect();
        for (level, low, high) in [(0.8, 0.74, 0.92), (0.95, 0.92, 0.995)] {
            let series = Series::new(&values, &offsets).unwrap();
            let result = forecast(device, &series, &Params { horizon: 48, levels: &[level] }).unwrap();
            let held = |at: &usize| {
                let actual = value(at / 48, length + at % 48);
                result.lower[*at] <= actual && actual <= result.upper[*at]
            };
            let share = (0..40 * 48).filter(held).count() as f64 / (40.0 * 48.0);
            assert!((low..high).contains(&share), "level {level} holds {share}");
        }
    }
}

twin_test! {
    fn gaps_do_not_derail_the_forecast(device) {
        let gap = |t: usize| t % 41 < 2 || (300..350).contains(&t) || t >= 835;
        let values: Vec<f64> = (0..24 * 35).map(|t| if gap(t) { f64::NAN } else { weekly(t) }).collect();
        let result = forecast_of(device, &values, 48);
        let error = error(&result.mean, |step| weekly(24 * 35 + step));
        assert!(error < 0.05, "relative error {error}");
    }
}

twin_test! {
    fn a_constant_goes_on_and_a_stopped_series_stays_stopped(device) {
        let constant = forecast_of(device, &[7.5; 100], 5);
        assert_eq!((constant.mean, constant.lower, constant.upper), (vec![7.5; 5], vec![7.5; 5], vec![7.5; 5]));
        let mut values: Vec<f64> = (0..400).map(|t| 10.0 + noise(t)).collect();
        values.extend([0.0; 60]);
        assert_eq!(forecast_of(device, &values, 6).mean, [0.0; 6]);
    }
}

twin_test! {
    fn a_short_series_holds_its_last_value_with_a_widening_interval(device) {
        let result = forecast_of(device, &[1.0, 3.0, 2.0, 4.0], 3);
        assert_eq!(result.mean, [4.0; 3]);
        let widths: Vec<f64> = result.upper.iter().zip(&result.lower).map(|(upper, lower)| upper - lower).collect();
        assert!(widths[0] > 0.0 && widths[0] < widths[1] && widths[1] < widths[2], "{widths:?}");
    }
}

twin_test! {
    fn positive_series_keep_positive_intervals_and_negative_ones_work(device) {
        let positive: Vec<f64> = (0..500).map(|t| (3.0 * wave(t, 24) + 0.5 * noise(t)).exp()).collect();
        assert!(forecast_of(device, &positive, 48).lower.iter().all(|v| *v > 0.0));
        let negative: Vec<f64> = (0..500).map(|t| -weekly(t)).collect();
        let error = error(&forecast_of(device, &negative, 48).mean, |step| -weekly(500 + step));
        assert!(error < 0.05, "relative error {error}");
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    let none = Series::new(&[], &[0]).unwrap();
    let refused = |params: Params| matches!(forecast(&Device::cpu(), &none, &params), Err(Error::Parameter(_)));
    assert!([0, HORIZON_STEPS_MAX + 1].into_iter().all(|horizon| refused(Params { horizon, ..PARAMS })));
    assert!([0.0, 1.0, -1.0, f64::NAN].into_iter().all(|level| refused(Params { levels: &[0.5, level], ..PARAMS })));
    assert!(refused(Params { levels: &[], ..PARAMS }));
    assert!(refused(Params { levels: &[0.5; INTERVAL_LEVELS_MAX + 1], ..PARAMS }));
    assert!(forecast(&Device::cpu(), &none, &PARAMS).unwrap().mean.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_series_is_ever_an_error(
        values in prop::collection::vec(prop::num::f64::ANY, 0..300),
        horizon in 1usize..100,
    ) {
        let result = forecast_of(&Device::cpu(), &values, horizon);
        let known = values.iter().any(|v| v.is_finite());
        for ((mean, lower), upper) in result.mean.iter().zip(&result.lower).zip(&result.upper) {
            let sound = if known { mean.is_finite() && lower <= mean && mean <= upper } else { mean.is_nan() };
            prop_assert!(sound, "{lower} {mean} {upper}");
        }
    }

    #[test]
    fn a_forecast_moves_with_the_unit(seed in 0usize..10_000, unit in 1e-6f64..1e6) {
        let values: Vec<f64> = (0..300).map(|t| 10.0 + 3.0 * wave(t, 24) + noise(seed + t)).collect();
        let other: Vec<f64> = values.iter().map(|v| v * unit).collect();
        let (one, other) = (forecast_of(&Device::cpu(), &values, 24), forecast_of(&Device::cpu(), &other, 24));
        for (a, b) in one.mean.iter().zip(&other.mean) {
            prop_assert!((a * unit - b).abs() <= 1e-6 * b.abs(), "{a} times {unit} is not {b}");
        }
    }
}

#[test]
fn a_forecast_does_not_depend_on_the_batch() {
    let (values, offsets) = series_of_all_kinds();
    let series = Series::new(&values, &offsets).unwrap();
    let together = forecast(&Device::cpu(), &series, &PARAMS).unwrap();
    for i in 0..series.len() {
        let alone = forecast_of(&Device::cpu(), series.get(i), 48).mean;
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&alone), bits(&together.mean[i * 48..(i + 1) * 48]), "series {i}");
    }
}

#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    let (values, offsets) = series_of_all_kinds();
    let series = Series::new(&values, &offsets).unwrap();
    let params = Params { horizon: 30, ..PARAMS };
    let prepared: Vec<Prepared> = (0..series.len()).map(|i| Prepared::new(series.get(i), &params)).collect();
    let plans: Vec<&Plan> = prepared.iter().filter_map(Prepared::plan).collect();
    assert!(plans.len() >= 8 && (1..=3).all(|count| plans.iter().any(|plan| plan.transforms == count)));
    let batch = Batch::new(&plans, 30);
    let Some(results) = run_on_host("seasonal_ar", 3, THREADS, &batch.arguments(3)) else { return };
    let modelled = Batch::take_apart(&plans, &results[6], &results[7], 30);
    for (i, (plan, modelled)) in plans.iter().zip(&modelled).enumerate() {
        let expected = cpu::model(&mut cpu::Work::default(), plan, 30);
        let pairs = modelled.mean.iter().zip(&expected.mean).chain(modelled.rolled.iter().zip(&expected.rolled));
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(modelled.rolled.len() == expected.rolled.len() && worst < 1e-6, "plan {i} differs by up to {worst}");
    }
}

twin_test! {
    fn the_twins_agree(device) {
        let (values, offsets) = series_of_all_kinds();
        let series = Series::new(&values, &offsets).unwrap();
        let own = forecast(device, &series, &PARAMS).unwrap();
        let reference = forecast(&Device::cpu(), &series, &PARAMS).unwrap();
        assert_eq!(own.seasons, reference.seasons);
        for i in 0..series.len() {
            let top = series.get(i).iter().filter(|v| v.is_finite()).fold(0.0, |top: f64, v| top.max(v.abs()));
            for at in i * 48..(i + 1) * 48 {
                let (a, b) = (own.mean[at], reference.mean[at]);
                assert!((a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * top, "series {i}: {a} and {b}");
            }
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
