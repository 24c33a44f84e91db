//! Tests of found seasons and of series taken apart.

use proptest::prelude::*;

use super::{Decomposition, decompose, detect};
use crate::twin::{noise, series_of_all_kinds, twin_test, wave};
use crate::{Device, Series};

fn weekly(t: usize) -> f64 {
    let weekend = if t / 24 % 7 >= 5 { -30.0 } else { 0.0 };
    100.0 + weekend + 40.0 * wave(t, 24) + 0.05 * t as f64
}

#[test]
fn seasons_are_found_with_their_strength() {
    let clear: Vec<f64> = (0..24 * 35).map(|t| weekly(t) + noise(t)).collect();
    let faint: Vec<f64> = (0..24 * 35).map(|t| wave(t, 24) + 2.0 * noise(t)).collect();
    let none: Vec<f64> = (0..500).map(noise).collect();
    let values = [clear.clone(), faint, none].concat();
    let offsets = [0, 840, 1_680, 2_180];
    let found = detect(&Device::cpu(), &Series::new(&values, &offsets).unwrap()).unwrap();
    let steps = |i: usize| found[i].iter().map(|season| season.steps).collect::<Vec<_>>();
    assert_eq!((steps(0), steps(1)[0], steps(2)), (vec![24, 168], 24, vec![]));
    assert!(found[0].iter().all(|season| season.strength > 0.95), "{found:?}");
    assert!((0.1..0.9).contains(&found[1][0].strength), "{found:?}");
}

#[test]
fn the_parts_are_what_the_series_was_made_of() {
    let n = 24 * 42;
    let mut values: Vec<f64> = (0..n).map(|t| weekly(t) + noise(t)).collect();
    values[500] += 500.0;
    values[501] = f64::NAN;
    let parts = decompose(&Device::cpu(), &Series::new(&values, &[0, n]).unwrap()).unwrap();
    for (t, value) in values.iter().enumerate() {
        let sum = parts.trend[t] + parts.season[t] + parts.outer[t] + parts.remainder[t];
        assert!(t == 501 || (sum - value).abs() < 1e-9 * value.abs(), "at {t}");
    }
    assert!(parts.remainder[501].is_nan() && parts.trend[501].is_finite());
    assert!(parts.remainder[500] > 450.0, "an outlier stays in the remainder: {}", parts.remainder[500]);
    let largest = |from: usize, to: usize| {
        let sizes = (from..to).filter(|t| !(500..502).contains(t)).map(|t| parts.remainder[t].abs());
        sizes.fold(0.0, f64::max)
    };
    assert!(largest(100, n - 100) < 10.0, "{}", largest(100, n - 100));
    assert!((parts.trend[n - 200] - parts.trend[200] - 0.05 * (n - 400) as f64).abs() < 2.0);
}

#[test]
fn every_kind_of_series_has_parts_that_add_up() {
    let (values, offsets) = series_of_all_kinds();
    let series = Series::new(&values, &offsets).unwrap();
    let parts = decompose(&Device::cpu(), &series).unwrap();
    assert_eq!(parts.trend.len(), values.len());
    for i in 0..series.len() {
        let top = series.get(i).iter().filter(|v| v.is_finite()).fold(0.0, |top: f64, v| top.max(v.abs()));
        for (at, value) in (offsets[i]..offsets[i + 1]).zip(series.get(i)) {
            if value.is_finite() {
                let sum = parts.trend[at] + parts.season[at] + parts.outer[at] + parts.remainder[at];
                assert!((sum - value).abs() <= 1e-9 * top, "series {i}: {sum} is not {value}");
            }
        }
    }
}

/// Series of all kinds, and days within weeks with gaps and outliers.
fn input() -> (Vec<f64>, Vec<usize>) {
    let (mut values, mut offsets) = series_of_all_kinds();
    values.extend((0..24 * 40).map(|t| match t {
        300..340 => f64::NAN,
        501 | 777 => 900.0,
        _ => weekly(t) + noise(t),
    }));
    offsets.push(values.len());
    (values, offsets)
}

/// Asserts that two decompositions of a series agree.
fn assert_close(own: &Decomposition, reference: &Decomposition, top: f64, what: &str) {
    let parts = |of: &Decomposition| [&of.trend, &of.season, &of.outer, &of.remainder].map(Clone::clone);
    for (part, (a, b)) in parts(own).iter().zip(parts(reference)).enumerate() {
        assert_eq!(a.len(), b.len(), "{what}");
        let gap = |(a, b): (&f64, &f64)| if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() };
        let worst = a.iter().zip(&b).map(gap).fold(0.0, f64::max);
        assert!(worst <= 1e-8 * top, "{what}, part {part}: {worst}");
    }
}

fn top(values: &[f64]) -> f64 {
    values.iter().filter(|v| v.is_finite()).fold(0.0, |top: f64, v| top.max(v.abs()))
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use super::parts::Parts;
    use crate::twin::run_on_host;
    let (values, offsets) = input();
    let series = Series::new(&values, &offsets).unwrap();
    let raws: Vec<&[f64]> = (0..series.len()).map(|i| series.get(i)).filter(|raw| top(raw) > 0.0).collect();
    let mut own: Vec<Parts> = raws.iter().map(|raw| Parts::prepared(raw).unwrap()).collect();
    let batch = super::cuda::Batch::new(&own.iter().collect::<Vec<_>>());
    let arguments = batch.arguments(2);
    let Some(results) = run_on_host("seasonal_trend", 2, super::cuda::KERNEL.threads, &arguments) else { return };
    super::cuda::take_apart(&mut own.iter_mut().collect::<Vec<_>>(), &results[5]);
    for (i, (own, raw)) in own.iter().zip(&raws).enumerate() {
        assert_close(&own.in_units(), &Parts::of(raw).unwrap().in_units(), top(raw), &format!("series {i}"));
    }
}

twin_test! {
    fn the_twins_agree(device) {
        let (values, offsets) = input();
        for i in 0..offsets.len() - 1 {
            let values = &values[offsets[i]..offsets[i + 1]];
            let offsets = [0, values.len()];
            let series = Series::new(values, &offsets).unwrap();
            let own = decompose(device, &series).unwrap();
            assert_close(&own, &decompose(&Device::cpu(), &series).unwrap(), top(values), &format!("series {i}"));
            let (own, reference) = (detect(device, &series).unwrap(), detect(&Device::cpu(), &series).unwrap());
            for (own, reference) in own[0].iter().zip(&reference[0]) {
                assert!(own.steps == reference.steps && (own.strength - reference.strength).abs() < 1e-6);
            }
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_series_is_ever_an_error(values in prop::collection::vec(prop::num::f64::ANY, 0..300)) {
        let series = Series::new(&values, &[0, values.len()]).map(|series| {
            (decompose(&Device::cpu(), &series).unwrap().remainder.len(), detect(&Device::cpu(), &series).unwrap().len())
        });
        prop_assert_eq!(series.unwrap_or((values.len(), 1)), (values.len(), 1));
    }
}
