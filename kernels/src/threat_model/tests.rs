//! Tests of training, scoring, explaining, calibrating and of the bytes.

use proptest::prelude::*;

use super::{Kind, Params, ThreatModel, Values, train};
use crate::twin::noise;
use crate::{Device, Error, oblivious_trees};

const SERVICES: [&str; 3] = ["http", "dns", "ssh"];

/// Connections: attacks send much for their service; the odd payload belongs to attacks too.
struct Sample {
    bytes: Vec<f64>,
    pause: Vec<f64>,
    service: Vec<&'static str>,
    payload: Vec<String>,
    attacks: Vec<bool>,
}

fn sample(rows: std::ops::Range<usize>) -> Sample {
    let attack = |i: usize| i.is_multiple_of(5);
    let usual = |i: usize| [1_000.0, 50.0, 300.0][i % 3] * (1.0 + 0.3 * noise(i));
    Sample {
        bytes: rows.clone().map(|i| usual(i) * if attack(i) { 8.0 } else { 1.0 }).collect(),
        pause: rows.clone().map(|i| if i % 50 == 7 { f64::NAN } else { noise(i + 77).abs() }).collect(),
        service: rows.clone().map(|i| SERVICES[i % 3]).collect(),
        payload: rows
            .clone()
            .map(|i| if attack(i) { format!("id={i}' or 1=1--") } else { format!("user {} page {}", i * 7, i % 90) })
            .collect(),
        attacks: rows.map(attack).collect(),
    }
}

const NAMES: [&str; 4] = ["bytes", "pause", "service", "payload"];

/// Runs something on the columns of a sample.
fn with<T>(sample: &Sample, run: impl FnOnce(&[Values]) -> T) -> T {
    let payload: Vec<&str> = sample.payload.iter().map(String::as_str).collect();
    run(&[
        Values::Numbers(&sample.bytes),
        Values::Numbers(&sample.pause),
        Values::Texts(&sample.service),
        Values::Texts(&payload),
    ])
}

fn params() -> Params {
    Params { trees: oblivious_trees::Params { trees: 20, ..Default::default() }, ..Params::default() }
}

fn trained(labelled: bool) -> ThreatModel {
    let sample = sample(0..3_000);
    let ordinary = Sample { attacks: Vec::new(), ..only(&sample, false) };
    match labelled {
        true => with(&sample, |v| train(&Device::cpu(), &NAMES, v, Some(&sample.attacks), &params())).unwrap(),
        false => with(&ordinary, |v| train(&Device::cpu(), &NAMES, v, None, &params())).unwrap(),
    }
}

/// The attacks of a sample, or the rest.
fn only(sample: &Sample, attacks: bool) -> Sample {
    let rows: Vec<usize> = (0..sample.bytes.len()).filter(|row| sample.attacks[*row] == attacks).collect();
    Sample {
        bytes: rows.iter().map(|row| sample.bytes[*row]).collect(),
        pause: rows.iter().map(|row| sample.pause[*row]).collect(),
        service: rows.iter().map(|row| sample.service[*row]).collect(),
        payload: rows.iter().map(|row| sample.payload[*row].clone()).collect(),
        attacks: rows.iter().map(|_| attacks).collect(),
    }
}

#[test]
fn attacks_score_high_and_two_percent_of_ordinary_rows_above_the_threshold() {
    let new = sample(3_000..9_000);
    for labelled in [true, false] {
        let model = trained(labelled);
        let share = |attacks: bool| {
            let scores = with(&only(&new, attacks), |v| model.score(&Device::cpu(), v)).unwrap().scores;
            scores.iter().filter(|score| **score >= 0.98).count() as f64 / scores.len() as f64
        };
        assert!(share(true) > 0.95, "labelled {labelled}: {} of the attacks found", share(true));
        assert!(share(false) < 0.04, "labelled {labelled}: {} false alarms", share(false));
    }
}

#[test]
fn columns_are_told_apart_and_detectors_divide_the_budget() {
    let model = trained(true);
    let kinds: Vec<Kind> = model.features().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [Kind::Number, Kind::Number, Kind::Category, Kind::Text]);
    let detectors = model.detectors();
    let names: Vec<&str> = detectors.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["trees", "n-grams of payload", "histograms by service", "surprise of payload"];
    assert_eq!(names, expected);
    let budget: f64 = detectors.iter().map(|(_, share)| share).sum();
    assert!((budget - 1.0).abs() < 1e-12 && (detectors[0].1 - 0.4).abs() < 1e-12);
    assert_eq!(trained(false).detectors().len(), 2);
    let numbers: Vec<f64> = (0..500).map(noise).collect();
    let plain = train(&Device::cpu(), &["a", "b"], &[Values::Numbers(&numbers); 2], None, &params()).unwrap();
    let names: Vec<String> = plain.detectors().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["histograms", "isolation forest"]);
}

#[test]
fn an_explanation_names_the_feature_that_was_changed() {
    let model = trained(true);
    let mut one = only(&sample(6_000..6_020), false);
    one.bytes[3] = 1e7;
    one.payload[4] = "x' union select 1--".to_owned();
    let parts = with(&one, |v| model.explain(&Device::cpu(), v)).unwrap();
    let most = |row: usize| (0..4).max_by(|a, b| parts[row * 4 + a].total_cmp(&parts[row * 4 + b])).unwrap();
    assert_eq!((most(3), most(4)), (0, 3), "{:?}", &parts[12..20]);
}

#[test]
fn equal_seeds_give_equal_bytes_and_bytes_come_back() {
    for labelled in [true, false] {
        let model = trained(labelled);
        let bytes = model.to_bytes();
        assert_eq!(bytes, trained(labelled).to_bytes());
        let again = ThreatModel::from_bytes(&bytes).unwrap();
        assert_eq!(again, model);
        let new = sample(3_000..3_100);
        let scores = |model: &ThreatModel| with(&new, |v| model.score(&Device::cpu(), v)).unwrap().p_values;
        assert_eq!(scores(&again), scores(&model));
    }
}

#[test]
fn cut_damaged_and_foreign_bytes_are_refused() {
    let bytes = trained(true).to_bytes();
    let refused = |bytes: &[u8]| match ThreatModel::from_bytes(bytes) {
        Err(Error::Artefact(text)) => text,
        other => panic!("{:?} was not refused", other.map(|_| ())),
    };
    for length in [0, 7, 20, 100, bytes.len() - 1] {
        refused(&bytes[..length]);
    }
    for at in [9, 15, 40, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(refused(&damaged).contains("checksum"));
    }
    assert!(refused(b"PK\x03\x04 something else altogether").contains("JUNOTHRT"));
    let mut newer = bytes[..bytes.len() - 4].to_vec();
    newer[8] = 2;
    newer.extend(crate::crc::crc32(&newer).to_le_bytes());
    assert!(refused(&newer).contains("version 2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn bodies_of_any_bytes_are_refused_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"JUNOTHRT\x01\0\0\0".to_vec();
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(&body);
        bytes.extend(crate::crc::crc32(&bytes).to_le_bytes());
        prop_assert!(matches!(ThreatModel::from_bytes(&bytes), Err(Error::Artefact(_))));
    }
}

#[test]
fn a_place_of_other_habits_alarms_until_it_is_calibrated() {
    let model = trained(true);
    let mut there = only(&sample(9_000..17_000), false);
    there.bytes.iter_mut().for_each(|bytes| *bytes *= 2.5);
    let device = Device::cpu();
    let drift_by = |model: &ThreatModel| {
        let scores = with(&there, |v| model.score(&device, v)).unwrap();
        model.drift_of(&scores.p_values).unwrap()
    };
    let drift = drift_by(&model);
    assert!(drift.alarm && drift.share > drift.level, "{drift:?}");
    let local = with(&there, |v| model.recalibrated(&device, v)).unwrap();
    assert!(!drift_by(&local).alarm);
    assert_eq!(local.calibrated_rows(), there.bytes.len() as u32);
    assert_eq!(local.schema_hash(), model.schema_hash());
}

#[test]
fn calls_that_do_not_fit_are_refused() {
    let model = trained(true);
    let device = Device::cpu();
    let numbers = [1.0];
    let wrong = [Values::Numbers(&numbers); 4];
    assert!(matches!(model.score(&device, &wrong), Err(Error::Shape(_))));
    assert!(matches!(model.score(&device, &wrong[..3]), Err(Error::Shape(_))));
    assert!(matches!(model.recalibrated(&device, &[]), Err(Error::Shape(_))));
    let bad = Params { novelty: 1.5, ..params() };
    assert!(matches!(train(&device, &["a"], &wrong[..1], None, &bad), Err(Error::Parameter(_))));
    assert!(matches!(train(&device, &["a"], &wrong[..1], Some(&[true]), &params()), Err(Error::Parameter(_))));
    assert!(matches!(train(&device, &[], &[], None, &params()), Err(Error::Shape(_))));
}
