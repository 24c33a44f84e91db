//! Tests of training, of both twins of inference and of their agreement.

use super::{Params, Trees, UNIT, train};
use crate::twin::{noise, twin_test};
use crate::{BINS, Bins, Codes, Device, Error};

const FEATURES: usize = 5;

/// Rows of five numbers; class 1 where the first two agree in sign, more or less, which no single feature tells.
fn sample(rows: usize) -> (Vec<u8>, Vec<bool>) {
    let value = |feature: usize, row: usize| noise(row * FEATURES + feature);
    let labels = (0..rows).map(|row| value(0, row) * value(1, row) + 0.1 * value(2, row) > 0.0).collect();
    let mut codes = Vec::new();
    for feature in 0..FEATURES {
        let column: Vec<f64> = (0..rows).map(|row| value(feature, row)).collect();
        Bins::fit(&column).code(&column, &mut codes);
    }
    (codes, labels)
}

fn small() -> Params {
    Params { trees: 60, ..Params::default() }
}

fn trained(rows: usize) -> (Vec<u8>, Vec<bool>, Trees) {
    let (codes, labels) = sample(rows);
    let trees = train(&Device::cpu(), &Codes::new(&codes, rows, FEATURES).unwrap(), &labels, &[], &small()).unwrap();
    (codes, labels, trees)
}

twin_test! {
    fn an_interaction_is_learned_and_unseen_rows_are_told_apart(device) {
        let (codes, labels) = sample(6_000);
        let part = |rows: std::ops::Range<usize>| -> Vec<u8> {
            (0..FEATURES).flat_map(|feature| &codes[feature * 6_000..][rows.clone()]).copied().collect()
        };
        let (known, unseen) = (part(0..4_000), part(4_000..6_000));
        let trees = train(device, &Codes::new(&known, 4_000, FEATURES).unwrap(), &labels[..4_000], &[], &small()).unwrap();
        let margins = trees.margins(device, &Codes::new(&unseen, 2_000, FEATURES).unwrap()).unwrap().margins;
        let right = margins.iter().zip(&labels[4_000..]).filter(|(margin, label)| (**margin > 0.0) == **label).count();
        assert!(right > 1_850, "{right} of 2000 rows are told apart");
    }
}

twin_test! {
    fn a_margin_is_the_base_and_the_leaves_that_the_questions_lead_to(device) {
        let (codes, _, trees) = trained(1_500);
        let got = trees.margins(device, &Codes::new(&codes, 1_500, FEATURES).unwrap()).unwrap().margins;
        for row in [0, 31, 32, 511, 512, 1_499] {
            let leaf = |tree: &super::Tree| {
                let bits = (0..6).map(|level| {
                    let code = codes[usize::from(tree.features[level]) * 1_500 + row];
                    usize::from(code > tree.cuts[level]) << level
                });
                i32::from(tree.leaves[bits.sum::<usize>()])
            };
            let sum = trees.base + trees.trees.iter().map(leaf).sum::<i32>();
            assert_eq!(got[row], f64::from(sum) * UNIT, "row {row}");
        }
    }
}

#[test]
fn a_model_follows_from_data_and_seed_and_not_from_threads() {
    let (codes, labels) = sample(2_000);
    let codes = Codes::new(&codes, 2_000, FEATURES).unwrap();
    let with = |threads: usize, seed: u64| {
        train(&Device::cpu_with_threads(threads), &codes, &labels, &[], &Params { seed, ..small() }).unwrap()
    };
    assert_eq!(with(1, 7), with(3, 7));
    assert_ne!(with(1, 7), with(1, 8));
}

#[test]
fn one_class_or_no_rows_give_the_base_alone() {
    let codes = Codes::new(&[1; 10], 10, 1).unwrap();
    let trees = train(&Device::cpu(), &codes, &[false; 10], &[], &small()).unwrap();
    assert!(trees.trees.is_empty());
    assert_eq!(trees.margins(&Device::cpu(), &codes).unwrap().margins, vec![-10.0; 10]);
    let none = Codes::new(&[], 0, 1).unwrap();
    let trees = train(&Device::cpu(), &none, &[], &[], &small()).unwrap();
    assert!(trees.margins(&Device::cpu(), &none).unwrap().margins.is_empty());
}

#[test]
fn a_column_that_is_constant_is_never_asked() {
    let (mut codes, labels) = sample(500);
    codes[..500].fill(9);
    let trees = train(&Device::cpu(), &Codes::new(&codes, 500, FEATURES).unwrap(), &labels, &[], &small()).unwrap();
    for tree in &trees.trees {
        assert!(tree.features.iter().zip(tree.cuts).all(|(feature, cut)| *feature != 0 || cut == 255));
    }
}

#[test]
fn weights_move_the_base_and_bad_calls_are_refused() {
    let (codes, labels) = sample(200);
    let codes = Codes::new(&codes, 200, FEATURES).unwrap();
    let heavy: Vec<f64> = labels.iter().map(|label| if *label { 5.0 } else { 1.0 }).collect();
    let base = |weights: &[f64]| train(&Device::cpu(), &codes, &labels, weights, &small()).unwrap().base;
    assert!(base(&heavy) > base(&[]));
    let with = |params| train(&Device::cpu(), &codes, &labels, &[], &params);
    assert!(matches!(with(Params { trees: 0, ..small() }), Err(Error::Parameter(_))));
    assert!(matches!(with(Params { rate: f64::NAN, ..small() }), Err(Error::Parameter(_))));
    assert!(matches!(with(Params { rows: 1.5, ..small() }), Err(Error::Parameter(_))));
    assert!(matches!(with(Params { ridge: 0.0, ..small() }), Err(Error::Parameter(_))));
    assert!(matches!(train(&Device::cpu(), &codes, &labels[1..], &[], &small()), Err(Error::Shape(_))));
    assert!(matches!(Codes::new(&[BINS as u8], 1, 1), Err(Error::Shape(_))));
    assert!(matches!(Codes::new(&[0; 5], 2, 2), Err(Error::Shape(_))));
    let (_, _, trees) = trained(200);
    assert!(matches!(trees.margins(&Device::cpu(), &Codes::new(&[0; 4], 2, 2).unwrap()), Err(Error::Shape(_))));
}

/// Trees of random questions and leaves, the largest and the smallest among them.
fn random_trees(features: usize, count: usize) -> Trees {
    let mut random = crate::splitmix::SplitMix::new(3, 5);
    let tree = |_| super::Tree {
        features: std::array::from_fn(|_| random.below(features) as u16),
        cuts: std::array::from_fn(|_| if random.below(9) == 0 { 255 } else { random.below(BINS) as u8 }),
        leaves: std::array::from_fn(|leaf| if leaf == 0 { i16::MAX } else { random.next() as i16 }),
    };
    Trees { base: -77, features, trees: (0..count).map(tree).collect() }
}

fn random_codes(rows: usize, features: usize) -> Vec<u8> {
    (0..rows * features).map(|i| (crate::splitmix::mixed(i as u64 + 1) % BINS as u64) as u8).collect()
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use crate::twin::run_on_host;
    let (rows, features) = (700, 40);
    let (trees, codes) = (random_trees(features, 50), random_codes(rows, features));
    let codes = Codes::new(&codes, rows, features).unwrap();
    let batch = super::cuda::Batch::new(&trees, &codes, 0..rows);
    let Some(results) = run_on_host("oblivious_trees", 2, 64, &batch.arguments()) else { return };
    let expected = trees.margins(&Device::cpu(), &codes).unwrap().margins;
    let got: Vec<f64> = results[4].iter().map(|sum| (f64::from(trees.base) + sum) * UNIT).collect();
    assert_eq!(got, expected);
}

twin_test! {
    fn the_twins_agree(device) {
        for (rows, features, count) in [(1, 1, 1), (513, 3, 9), (5_000, 40, 200)] {
            let (trees, codes) = (random_trees(features, count), random_codes(rows, features));
            let codes = Codes::new(&codes, rows, features).unwrap();
            let own = trees.margins(device, &codes).unwrap().margins;
            assert_eq!(own, trees.margins(&Device::cpu(), &codes).unwrap().margins);
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
