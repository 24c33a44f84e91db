//! Tests of both models of texts.

use super::{Linear, Reader};
use crate::Device;
use crate::twin::twin_test;

const NAMES: [&str; 8] = ["maria", "calle mayor 12", "lopez", "28014", "ana ruiz", "plaza 3", "toledo", "jose48"];

fn ordinary(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{} {}", NAMES[i % 8], NAMES[(i * 5 + i / 8) % 8])).collect()
}

fn attacks(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{}' or {i}={i}--", NAMES[i % 8])).collect()
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn a_linear_model_tells_attacks_from_names_it_has_not_seen() {
    let (good, bad) = (ordinary(200), attacks(200));
    let texts: Vec<&str> = borrowed(&good[..150]).into_iter().chain(borrowed(&bad[..150])).collect();
    let labels: Vec<bool> = (0..300).map(|row| row >= 150).collect();
    let model = Linear::train(&texts, &labels, 1).unwrap();
    assert_eq!(model, Linear::train(&texts, &labels, 1).unwrap());
    let device = Device::cpu();
    assert!(model.margins(&device, &borrowed(&good[150..])).unwrap().iter().all(|margin| *margin < 0.0));
    assert!(model.margins(&device, &borrowed(&bad[150..])).unwrap().iter().all(|margin| *margin > 0.0));
    assert!(Linear::train(&texts, &labels[1..], 1).is_err());
}

#[test]
fn a_reader_of_ordinary_texts_is_surprised_by_an_attack_and_not_by_a_new_name() {
    let good = ordinary(400);
    let mut reader = Reader::default();
    reader.read(&borrowed(&good));
    let scores = reader.surprises(&Device::cpu(), &["maria lopez", "marta gomez 7", "1' or 1=1--", ""]).unwrap();
    assert!(scores[0] < 1.0 && scores[3] > 0.0, "{scores:?}");
    assert!(scores[2] > 2.0 * scores[1], "{scores:?}");
    let mut parts = Reader::default();
    good.chunks(7).for_each(|part| parts.read(&borrowed(part)));
    assert_eq!(parts, reader);
    assert_eq!(Reader::from_counts(reader.counts().to_vec()).unwrap(), reader);
    assert!(Reader::from_counts(vec![0; 3]).is_none());
}

#[test]
fn hostile_texts_have_finite_scores() {
    let long = "é'".repeat(100_000);
    let texts = ["", "\0\0\0", "日本語", &long];
    let reader = Reader::default();
    let model = Linear::train(&texts, &[true, false, true, false], 0).unwrap();
    for device in [Device::cpu(), Device::cpu_with_threads(1)] {
        assert!(reader.surprises(&device, &texts).unwrap().iter().all(|score| score.is_finite()));
        assert!(model.margins(&device, &texts).unwrap().iter().all(|score| score.is_finite()));
    }
    assert_eq!(Linear::train(&[], &[], 0).unwrap().margins(&Device::cpu(), &["a"]).unwrap(), [0.0]);
}

/// Both models, and texts of every kind.
fn input() -> (Linear, Reader, Vec<String>) {
    let (good, bad) = (ordinary(60), attacks(60));
    let labels: Vec<bool> = (0..120).map(|row| row >= 60).collect();
    let mut reader = Reader::default();
    reader.read(&borrowed(&good));
    let mut texts = [ordinary(90), attacks(40)].concat();
    texts.extend(["", "a", "\0\0\0", "日本語", "Zz9 \u{7f}"].map(str::to_owned));
    texts.push("é'".repeat(5_000));
    (Linear::train(&borrowed(&[good.as_slice(), &bad].concat()), &labels, 1).unwrap(), reader, texts)
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max)
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_sources_run_on_the_host_agree_with_the_cpu_twins() {
    use crate::twin::run_on_host;
    let (linear, reader, texts) = input();
    let (texts, device) = (borrowed(&texts), Device::cpu());
    let batch = super::cuda::Batch::new(&texts, 5..texts.len());
    let Some(results) = run_on_host("hashed_ngrams", 2, 64, &batch.arguments(&linear.on_device())) else { return };
    assert_eq!(results[5], linear.margins(&device, &texts).unwrap()[5..]);
    let Some(results) = run_on_host("hashed_ngrams", 2, 64, &batch.arguments(&reader.on_device())) else { return };
    assert!(worst(&results[4], &reader.surprises(&device, &texts).unwrap()[5..]) < 1e-12);
}

twin_test! {
    fn the_twins_agree(device) {
        let (linear, reader, texts) = input();
        let texts = borrowed(&texts);
        let margins = linear.margins(&Device::cpu(), &texts).unwrap();
        assert_eq!(linear.margins(device, &texts).unwrap(), margins);
        let surprises = reader.surprises(&Device::cpu(), &texts).unwrap();
        assert!(worst(&reader.surprises(device, &texts).unwrap(), &surprises) < 1e-12);
        assert!(reader.surprises(device, &[]).unwrap().is_empty());
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::MARGINS.source);
}
