//! Tests of the scores, of both twins and of their agreement.

use super::{Beacon, score};
use crate::twin::{noise, twin_test};
use crate::{Device, Error, Series};

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

/// Pairs of every kind: times, sizes, offsets.
fn input() -> (Vec<f64>, Vec<f64>, Vec<usize>) {
    let hostile = |i: usize| [f64::INFINITY, f64::NAN, f64::NEG_INFINITY, 1e308, -1e308, 0.0, -0.0, 5e-324][i % 8];
    let kinds: Vec<(Vec<f64>, Vec<f64>)> = vec![
        ((0..288).map(|i| 300.0 * i as f64 + 20.0 * noise(i)).collect(), (0..288).map(|i| 500.0 + noise(i)).collect()),
        (
            (0..131).map(|i| 43_200.0 + 43_000.0 * noise(i)).collect(),
            (0..131).map(|i| (9.0 * noise(i)).exp()).collect(),
        ),
        ((0..40).map(|i| 43_200.0 + 9.0 * noise(i)).collect(), (0..40).map(hostile).collect()),
        ((0..64).map(hostile).collect(), (0..64).map(|i| hostile(i + 3)).collect()),
        (vec![7.0; 129], vec![0.0; 129]),
        (vec![1.0, 2.0, 3.0], vec![1.0; 3]),
        (vec![0.0, 28_800.0, 57_600.0, 86_400.0], vec![-5.0, -4.0, 3.0, 8.0]),
        (vec![f64::NAN; 5], vec![1.0; 5]),
        (Vec::new(), Vec::new()),
        ((0..5).map(|i| -1e308 + 4e307 * i as f64).collect(), vec![f64::INFINITY; 5]),
    ];
    let mut offsets = vec![0];
    kinds.iter().for_each(|(times, _)| offsets.push(offsets[offsets.len() - 1] + times.len()));
    let (times, sizes): (Vec<_>, Vec<_>) = kinds.into_iter().unzip();
    (times.concat(), sizes.concat(), offsets)
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use crate::twin::run_on_host;
    let (times, sizes, offsets) = input();
    let (times, sizes) = (Series::new(&times, &offsets).unwrap(), Series::new(&sizes, &offsets).unwrap());
    let batch = super::cuda::Batch::new(&times, &sizes, DAY, 1..times.len());
    let Some(results) = run_on_host("beaconing", 3, super::cuda::KERNEL.threads, &batch.arguments(3)) else { return };
    let beacons: Vec<Beacon> = results[7].as_chunks().0.iter().map(super::cuda::beacon_of).collect();
    assert_eq!(beacons, score(&Device::cpu(), &times, &sizes, DAY).unwrap()[1..]);
}

twin_test! {
    fn the_twins_agree(device) {
        let (times, sizes, offsets) = input();
        let (times, sizes) = (Series::new(&times, &offsets).unwrap(), Series::new(&sizes, &offsets).unwrap());
        for span in [DAY, (5.0, 5.0), (0.0, f64::INFINITY), (-1e9, 1e9)] {
            let reference = score(&Device::cpu(), &times, &sizes, span).unwrap();
            assert_eq!(score(device, &times, &sizes, span).unwrap(), reference);
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
