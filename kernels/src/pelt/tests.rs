//! Tests of the search.

use proptest::prelude::*;

use super::{Change, Params, change_points};
use crate::twin::{noise, series_of_all_kinds, twin_test, wave};
use crate::{Device, Error, Series};

fn normal(i: usize) -> f64 {
    (0..12).map(|j| noise(12 * i + j)).sum::<f64>() / 2.0
}

fn changes(values: &[f64]) -> Vec<Change> {
    let series = [0, values.len()];
    change_points(&Device::cpu(), &Series::new(values, &series).unwrap(), &Params::default()).unwrap().remove(0)
}

fn at(changes: &[Change]) -> Vec<usize> {
    changes.iter().map(|change| change.at).collect()
}

#[test]
fn steps_are_found_where_they_are() {
    let level = |t: usize| match t {
        0..300 => 10.0,
        300..700 => 14.0,
        700..720 => 30.0,
        _ => 12.0,
    };
    let values: Vec<f64> = (0..1_000).map(|t| level(t) + normal(t)).collect();
    let found = changes(&values);
    for (found, expected) in at(&found).iter().zip([300, 700, 720]) {
        assert!(found.abs_diff(expected) <= 2, "{found}, not {expected}");
    }
    assert_eq!(found.len(), 3);
    assert!((found[0].before - 10.0).abs() < 0.3 && (found[0].after - 14.0).abs() < 0.3);
    assert!(found.iter().all(|change| change.strength > 10.0));
}

#[test]
fn noise_slow_noise_a_flat_line_and_single_spikes_have_no_change() {
    let mut slow = vec![0.0; 2_000];
    for t in 1..2_000 {
        slow[t] = 0.7 * slow[t - 1] + normal(t);
    }
    let mut spikes: Vec<f64> = (0..2_000).map(normal).collect();
    (100..2_000).step_by(300).for_each(|t| spikes[t] += 40.0);
    for (kind, values) in [(0..2_000).map(normal).collect(), slow, vec![7.0; 500], spikes].iter().enumerate() {
        assert_eq!(at(&changes(values)), Vec::<usize>::new(), "kind {kind}");
    }
}

#[test]
fn places_count_missing_values() {
    let mut values: Vec<f64> = (0..400).map(|t| if t < 200 { 0.0 } else { 9.0 } + normal(t)).collect();
    values[50..100].fill(f64::NAN);
    values[250] = f64::INFINITY;
    assert_eq!(at(&changes(&values)), [200]);
}

#[test]
fn a_step_of_a_flat_line_is_found_exactly() {
    let values: Vec<f64> = (0..60).map(|t| if t < 31 { 1.0 } else { 2.0 }).collect();
    assert_eq!(at(&changes(&values)), [31]);
}

#[test]
fn a_long_series_is_searched_in_blocks_and_its_changes_placed_exactly() {
    let values: Vec<f64> = (0..100_000).map(|t| if t < 54_321 { 0.0 } else { 6.0 } + normal(t)).collect();
    let found = at(&changes(&values));
    assert_eq!(found.len(), 1);
    assert!(found[0].abs_diff(54_321) <= 1, "{found:?}");
}

#[test]
fn parameters_out_of_range_are_refused() {
    let series = Series::new(&[], &[0]).unwrap();
    for params in [
        Params { penalty: 0.0, ..Params::default() },
        Params { penalty: f64::NAN, ..Params::default() },
        Params { least: 0, ..Params::default() },
    ] {
        assert!(matches!(change_points(&Device::cpu(), &series, &params), Err(Error::Parameter(_))));
    }
}

/// Series of all kinds, many short ones, and one that is searched in blocks.
fn input(long: usize) -> (Vec<f64>, Vec<usize>) {
    let (mut values, mut offsets) = series_of_all_kinds();
    let level = |t: usize| if t % 7_000 > 3_000 { 5.0 } else { 0.0 };
    let shorts = (0..40).map(|i| (0..i).map(|t| f64::from(u8::from(t > i / 2)) + noise(t)).collect());
    for more in shorts.chain([(0..long).map(|t| level(t) + normal(t)).collect::<Vec<_>>()]) {
        values.extend(more);
        offsets.push(values.len());
    }
    (values, offsets)
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use super::search::Prepared;
    use crate::twin::run_on_host;
    let (values, offsets) = input(0);
    let series = Series::new(&values, &offsets).unwrap();
    // Every step of the search costs the shim some thousand switches between threads: short series, but of all kinds.
    for (params, most) in [(Params::default(), 420), (Params { penalty: 0.5, least: 1 }, 160)] {
        let all = (0..series.len()).filter_map(|i| Prepared::of(series.get(i), &params));
        let prepared: Vec<Prepared> = all.filter(|one| one.bounds() < most).collect();
        let prepared: Vec<&Prepared> = prepared.iter().collect();
        assert!(prepared.len() > 20);
        let batch = super::cuda::Batch::new(&prepared);
        let Some(results) = run_on_host("pelt", 2, super::cuda::KERNEL.threads, &batch.arguments(2)) else { return };
        let ends = super::cuda::take_apart(&prepared, &results[5]);
        for (i, (ends, one)) in ends.iter().zip(&prepared).enumerate() {
            assert_eq!(*ends, one.segments(), "series {i}");
        }
    }
}

twin_test! {
    fn the_twins_agree(device) {
        let (values, offsets) = input(20_000);
        let series = Series::new(&values, &offsets).unwrap();
        for params in [Params::default(), Params { penalty: 0.5, least: 1 }] {
            let reference = change_points(&Device::cpu(), &series, &params).unwrap();
            assert_eq!(change_points(device, &series, &params).unwrap(), reference);
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
    fn any_values_have_changes_in_order_and_inside(values in prop::collection::vec(prop::num::f64::ANY, 0..300)) {
        let found = at(&changes(&values));
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(found.iter().all(|at| *at > 0 && *at < values.len()));
    }

    #[test]
    fn no_other_segmentation_costs_less(seed in 0usize..1_000_000) {
        // With one change at most, trying every place is an exact search.
        let values: Vec<f64> = (0..40).map(|t| 3.0 * wave(t, 40) + noise(seed + t)).collect();
        let found = changes(&values);
        if let [change] = found[..] {
            let cost = |part: &[f64]| {
                let mean = part.iter().sum::<f64>() / part.len() as f64;
                part.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
            };
            let total = |at: usize| cost(&values[..at]) + cost(&values[at..]);
            let best = (5..=35).map(total).fold(f64::INFINITY, f64::min);
            prop_assert!(total(change.at) <= best + 1e-9);
        }
    }
}
