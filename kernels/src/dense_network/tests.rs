//! Tests of both passes, of learning, of both twins of the forward pass and of their agreement.

use super::{Adam, Network, WIDTH_MAX};
use crate::twin::noise;
#[cfg(feature = "cuda")]
use crate::twin::{run_on_host, twin_test};
use crate::{Device, Error};

fn inputs(rows: usize, width: usize) -> Vec<f64> {
    (0..rows * width).map(|i| 2.0 * noise(i)).collect()
}

/// The squared loss against fixed targets, and its derivative by the outputs.
fn loss(outputs: &[f64]) -> (f64, Vec<f64>) {
    let target = |i: usize| noise(i + 5_000);
    let total = outputs.iter().enumerate().map(|(i, y)| (y - target(i)).powi(2)).sum();
    (total, outputs.iter().enumerate().map(|(i, y)| 2.0 * (y - target(i))).collect())
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    for widths in [&[3, 2][..], &[4, 7, 3], &[5, 8, 6, 2]] {
        let network = Network::new(widths, 11).unwrap();
        let rows = inputs(9, widths[0]);
        let trace = network.forward_traced(&rows).unwrap();
        let gradient = network.backward(&trace, &loss(trace.outputs()).1).unwrap();
        assert_eq!(gradient.len(), network.parameters().len());
        for (at, analytic) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut other = network.clone();
                other.parameters_mut()[at] += by;
                loss(other.forward_traced(&rows).unwrap().outputs()).0
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (numeric - analytic).abs() < 1e-6 * (1.0 + analytic.abs()),
                "{widths:?} {at}: {numeric} {analytic}"
            );
        }
    }
}

#[test]
fn a_network_learns_what_no_linear_map_can() {
    let rows: Vec<f64> = inputs(200, 2);
    let target: Vec<f64> = rows.chunks(2).map(|x| x[0] * x[1]).collect();
    let error = |outputs: &[f64]| outputs.iter().zip(&target).map(|(y, t)| (y - t).powi(2)).sum::<f64>() / 200.0;
    let fitted = |widths: &[usize]| {
        let mut network = Network::new(widths, 3).unwrap();
        let mut adam = Adam::new(&network);
        for _ in 0..2_000 {
            let trace = network.forward_traced(&rows).unwrap();
            let by: Vec<f64> = trace.outputs().iter().zip(&target).map(|(y, t)| (y - t) / 100.0).collect();
            let gradient = network.backward(&trace, &by).unwrap();
            assert!(adam.step(&mut network, &gradient, 1e-2));
        }
        error(network.forward_traced(&rows).unwrap().outputs())
    };
    let (linear, deep) = (fitted(&[2, 1]), fitted(&[2, 16, 1]));
    assert!(deep < 0.02 && linear > 20.0 * deep, "linear {linear}, with a hidden layer {deep}");
}

#[test]
fn first_weights_follow_from_the_seed_and_stay_in_their_bounds() {
    let with = |seed| Network::new(&[6, 20, 4], seed).unwrap();
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
    let bound = (6.0f64 / 26.0).sqrt();
    assert!(with(1).parameters()[..120].iter().all(|w| w.abs() <= bound));
    assert!(with(1).parameters()[120..140].iter().all(|b| *b == 0.0));
}

#[test]
fn a_row_does_not_depend_on_its_batch_nor_on_threads() {
    let network = Network::new(&[7, 33, 5], 2).unwrap();
    let rows = inputs(301, 7);
    let all = network.forward(&Device::cpu_with_threads(1), &rows).unwrap().values;
    assert_eq!(all, network.forward(&Device::cpu_with_threads(3), &rows).unwrap().values);
    assert_eq!(all, network.forward_traced(&rows).unwrap().outputs());
    let alone = network.forward(&Device::cpu(), &rows[150 * 7..151 * 7]).unwrap().values;
    assert_eq!(alone, all[150 * 5..151 * 5]);
}

#[test]
fn a_missing_value_spoils_its_own_row_only() {
    let network = Network::new(&[3, 4, 2], 5).unwrap();
    let mut rows = inputs(3, 3);
    let clean = network.forward(&Device::cpu(), &rows).unwrap().values;
    rows[4] = f64::NAN;
    let spoilt = network.forward(&Device::cpu(), &rows).unwrap().values;
    assert!(spoilt[2].is_nan() && spoilt[3].is_nan());
    assert_eq!((spoilt[..2].to_vec(), spoilt[4..].to_vec()), (clean[..2].to_vec(), clean[4..].to_vec()));
}

#[test]
fn a_gradient_that_is_not_finite_or_does_not_fit_changes_nothing() {
    let mut network = Network::new(&[2, 2], 5).unwrap();
    let (before, mut adam) = (network.clone(), Adam::new(&network));
    assert!(!adam.step(&mut network, &[1.0, 1.0, f64::NAN, 1.0, 1.0, 1.0], 0.1));
    assert!(!adam.step(&mut network, &[1.0], 0.1));
    assert_eq!(network, before);
    assert!(adam.step(&mut network, &[1.0; 6], 0.1));
    assert!(
        (before.parameters()[0] - network.parameters()[0] - 0.1).abs() < 1e-6,
        "the first step is as long as the rate"
    );
}

#[test]
fn bad_calls_are_refused() {
    for widths in [&[][..], &[3], &[3, 0], &[0, 2], &[3, WIDTH_MAX + 1], &[2; 10]] {
        assert!(matches!(Network::new(widths, 0), Err(Error::Parameter(_))), "{widths:?}");
    }
    assert!(matches!(Network::from_parts(&[2, 1], vec![0.0; 4]), Err(Error::Shape(_))));
    let network = Network::from_parts(&[2, 1], vec![1.0, 2.0, 3.0]).unwrap();
    assert_eq!(network.forward(&Device::cpu(), &[10.0, 100.0]).unwrap().values, [213.0]);
    assert!(matches!(network.forward(&Device::cpu(), &[1.0]), Err(Error::Shape(_))));
    assert!(network.forward(&Device::cpu(), &[]).unwrap().values.is_empty());
    let trace = network.forward_traced(&[1.0, 2.0]).unwrap();
    assert!(matches!(network.backward(&trace, &[1.0, 2.0]), Err(Error::Shape(_))));
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    for (widths, rows) in [(&[12, 32, 24][..], 7), (&[3, 2], 5), (&[40, 65, 9, 1], 4)] {
        let network = Network::new(widths, 8).unwrap();
        let rows_in = inputs(rows, widths[0]);
        let batch = super::cuda::Batch::new(&network, &rows_in, 0..rows);
        let Some(results) = run_on_host("dense_network", 3, 32, &batch.arguments()) else { return };
        assert_eq!(results[3], network.forward(&Device::cpu(), &rows_in).unwrap().values, "{widths:?}");
    }
}

twin_test! {
    fn the_twins_agree(device) {
        for (widths, rows) in [(&[1, 1][..], 1), (&[13, 32, 36], 5_000), (&[40, 256, 256, 9], 700), (&[2, 3], 0)] {
            let network = Network::new(widths, 8).unwrap();
            let rows = inputs(rows, widths[0]);
            let own = network.forward(device, &rows).unwrap().values;
            assert_eq!(own, network.forward(&Device::cpu(), &rows).unwrap().values);
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
