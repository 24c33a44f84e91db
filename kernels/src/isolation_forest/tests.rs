//! Tests of growing, of both twins of scoring and of their agreement.

use super::{Forest, grow};
use crate::twin::{noise, twin_test};
use crate::{Device, Error};

#[test]
fn what_lies_apart_scores_higher_and_threads_change_nothing() {
    let a: Vec<f64> = (0..2_000).map(noise).collect();
    let b: Vec<f64> = (0..2_000).map(|i| noise(i + 5_000)).collect();
    let forest = grow(&Device::cpu_with_threads(1), &[&a, &b], 100, 1).unwrap();
    assert_eq!(forest, grow(&Device::cpu_with_threads(3), &[&a, &b], 100, 1).unwrap());
    assert_ne!(forest, grow(&Device::cpu(), &[&a, &b], 100, 2).unwrap());
    let probes: [&[f64]; 2] = [&[0.0, 8.0, 0.9, f64::NAN, f64::INFINITY], &[0.0, -8.0, 0.9, 0.0, 0.0]];
    let scores = forest.score(&Device::cpu(), &probes).unwrap();
    assert!(scores[0] < 0.55 && scores[1] > 0.6 && scores[2] < scores[1], "{scores:?}");
    assert!(scores[3] > scores[0] && scores[4] > scores[0], "missing and infinite values stand out: {scores:?}");
}

#[test]
fn few_and_constant_rows_have_scores_too() {
    for column in [&[][..], &[1.0], &[2.0; 50]] {
        let forest = grow(&Device::cpu(), &[column], 10, 0).unwrap();
        assert!(forest.score(&Device::cpu(), &[&[1.0, 5.0]]).unwrap().iter().all(|score| score.is_finite()));
    }
    assert!(matches!(grow(&Device::cpu(), &[&[1.0]], 0, 0), Err(Error::Parameter(_))));
    assert!(matches!(grow(&Device::cpu(), &[&[1.0], &[]], 1, 0), Err(Error::Shape(_))));
}

/// A forest of numbers of all magnitudes, and rows for it with everything a number can be.
fn input(rows: usize) -> (Forest, Vec<Vec<f64>>) {
    let column = |c: usize, scale: f64| (0..rows).map(|i| scale * noise(i + 10_000 * c)).collect::<Vec<f64>>();
    let mut columns = vec![column(0, 1.0), column(1, 1e9), column(2, 1e-9), vec![3.0; rows]];
    let borrowed: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let forest = grow(&Device::cpu(), &borrowed, 30, 4).unwrap();
    let hostile = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0, 5e-324];
    for (i, value) in hostile.iter().enumerate() {
        columns[i % 4][(7 * i) % rows] = *value;
    }
    (forest, columns)
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use crate::twin::run_on_host;
    let (forest, columns) = input(500);
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let batch = super::cuda::Batch::new(&forest, &columns, 3..490);
    let Some(results) = run_on_host("isolation_forest", 2, 64, &batch.arguments()) else { return };
    let scores: Vec<f64> = results[5].iter().map(|path| forest.score_of(*path)).collect();
    assert_eq!(scores, forest.score(&Device::cpu(), &columns).unwrap()[3..490]);
}

twin_test! {
    fn the_twins_agree(device) {
        for rows in [1, 3_000] {
            let (forest, columns) = input(rows);
            let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
            let reference = forest.score(&Device::cpu(), &columns).unwrap();
            assert_eq!(forest.score(device, &columns).unwrap(), reference);
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
