//! Tests of learning and of surprises.

use super::{Histograms, ROWS_MAX};
use crate::splitmix::mixed;
use crate::twin::twin_test;
use crate::{BINS, Codes, Device, Error};

/// Two entities: the first always shows code 3, the second always 9; the other feature is even.
fn learned() -> Histograms {
    let mut histograms = Histograms::new(2, 2).unwrap();
    let rows = 400;
    let entities: Vec<u32> = (0..rows).map(|row| row % 2).collect();
    let mut codes: Vec<u8> = entities.iter().map(|entity| if *entity == 0 { 3 } else { 9 }).collect();
    codes.extend((0..rows).map(|row| (row / 2 % 4) as u8));
    histograms.learn(&Codes::new(&codes, rows as usize, 2).unwrap(), &entities).unwrap();
    histograms
}

fn surprise(histograms: &Histograms, codes: [u8; 2], entity: u32) -> f64 {
    histograms.surprises().score(&Device::cpu(), &Codes::new(&codes, 1, 2).unwrap(), &[entity]).unwrap()[0]
}

#[test]
fn what_is_usual_for_one_entity_is_a_surprise_for_another() {
    let histograms = learned();
    let (own, other) = (surprise(&histograms, [3, 0], 0), surprise(&histograms, [9, 0], 0));
    assert!(own < 1.0 && other > own + 2.0, "{own} {other}");
    let unknown = surprise(&histograms, [3, 0], 7);
    assert!(unknown > own + 5.0, "an entity that was never seen is itself a surprise: {unknown}");
    assert_eq!(unknown, surprise(&histograms, [3, 0], 2));
}

#[test]
fn one_feature_adds_at_most_the_cap_and_a_surprise_is_worked_out_by_hand() {
    let histograms = learned();
    let base = surprise(&histograms, [3, 0], 0);
    assert!(surprise(&histograms, [50, 0], 0) - base <= 4.0 + 1e-6);
    let (g3, g9) = (200.05f64 / 403.2, 200.05f64 / 403.2);
    let expected = ((200.0 + 30.0 * g3) / (30.0 * g9)).ln() - (200.3f64 / 400.0).ln();
    assert!((surprise(&histograms, [9, 0], 0) - expected).abs() < 1e-5);
}

#[test]
fn streams_may_be_cut_anywhere_and_counts_stay_bounded() {
    let mut parts = Histograms::new(1, 1).unwrap();
    let mut whole = Histograms::new(1, 1).unwrap();
    let codes: Vec<u8> = (0..100).map(|row| row % 7).collect();
    whole.learn(&Codes::new(&codes, 100, 1).unwrap(), &[0; 100]).unwrap();
    for part in codes.chunks(30) {
        parts.learn(&Codes::new(part, part.len(), 1).unwrap(), &vec![0; part.len()]).unwrap();
    }
    assert_eq!(parts, whole);
    let many = vec![1u8; 500_000];
    for _ in 0..5 {
        parts.learn(&Codes::new(&many, many.len(), 1).unwrap(), &vec![0; many.len()]).unwrap();
    }
    assert!(parts.rows()[0] < ROWS_MAX);
}

#[test]
fn slices_that_do_not_fit_are_refused_and_nothing_learned_still_scores() {
    let mut histograms = learned();
    let codes = Codes::new(&[0; 4], 4, 1).unwrap();
    assert!(matches!(histograms.learn(&codes, &[0; 4]), Err(Error::Shape(_))));
    let codes = Codes::new(&[0; 4], 2, 2).unwrap();
    assert!(matches!(histograms.surprises().score(&Device::cpu(), &codes, &[0; 3]), Err(Error::Shape(_))));
    assert!(matches!(Histograms::new(1 << 20, 1), Err(Error::Parameter(_))));
    let empty = Histograms::new(0, 2).unwrap().surprises().score(&Device::cpu(), &codes, &[0; 2]).unwrap();
    assert!(empty.iter().all(|score| score.is_finite()));
}

/// Histograms of entities of very different numbers of rows, rows of them and of unknown entities.
fn many(rows: usize, features: usize) -> (Histograms, Vec<u8>, Vec<u32>) {
    let random = |i: usize, end: usize| mixed(i as u64 + 1) as usize % end;
    let codes: Vec<u8> = (0..rows * features).map(|i| random(i, BINS) as u8).collect();
    let entity = |row: usize| [0, 1, 2 + random(row, 5), 900, u32::MAX as usize][random(row + 7, 5)] as u32;
    let entities: Vec<u32> = (0..rows).map(entity).collect();
    let mut histograms = Histograms::new(9, features).unwrap();
    histograms.learn(&Codes::new(&codes, rows, features).unwrap(), &entities).unwrap();
    (histograms, codes, entities)
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use crate::twin::run_on_host;
    let (histograms, codes, entities) = many(700, 11);
    let (table, codes) = (histograms.surprises(), Codes::new(&codes, 700, 11).unwrap());
    let part = 100..680;
    let batch = super::cuda::Batch::new(&table, &codes, &entities, part.clone());
    let Some(results) = run_on_host("conditional_histograms", 3, 64, &batch.arguments()) else { return };
    assert_eq!(results[5], table.score(&Device::cpu(), &codes, &entities).unwrap()[part]);
}

twin_test! {
    fn the_twins_agree(device) {
        for (rows, features) in [(1, 1), (2_000, 40)] {
            let (histograms, codes, entities) = many(rows, features);
            let (table, codes) = (histograms.surprises(), Codes::new(&codes, rows, features).unwrap());
            let reference = table.score(&Device::cpu(), &codes, &entities).unwrap();
            assert_eq!(table.score(device, &codes, &entities).unwrap(), reference);
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
