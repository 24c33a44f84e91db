//! Tests of the scores, of both twins and of their agreement.

use proptest::prelude::*;

use super::batch::{Batch, THREADS};
use super::{Params, Scores, cpu, plan, ranks, score};
use crate::twin::{noise, run_on_host, series_of_all_kinds, twin_test, wave};
use crate::{Device, Error, Series};

fn scores_of(device: &Device, values: &[f64]) -> Vec<f64> {
    score(device, &Series::new(values, &[0, values.len()]).unwrap(), &Params::default()).unwrap().scores
}

/// The sum of twelve uniform numbers: close to a normal distribution.
fn normal(i: usize) -> f64 {
    (0..12).map(|j| noise(12 * i + j)).sum::<f64>() / 2.0
}

fn daily(t: usize) -> f64 {
    100.0 + 30.0 * wave(t, 96) + normal(t)
}

twin_test! {
    fn every_value_gets_a_score_in_range_and_a_missing_one_none(device) {
        let (values, offsets) = series_of_all_kinds();
        let series = Series::new(&values, &offsets).unwrap();
        let Scores { scores, launches } = score(device, &series, &Params::default()).unwrap();
        assert_eq!((scores.len(), launches), (values.len(), 1));
        for (value, score) in values.iter().zip(&scores) {
            assert!(if value.is_nan() { score.is_nan() } else { (0.0..1.0).contains(score) }, "{value} scores {score}");
        }
    }
}

twin_test! {
    fn on_plain_noise_a_level_is_a_false_alarm_rate(device) {
        let values: Vec<f64> = (0..60_000).map(normal).collect();
        let scores = &scores_of(device, &values)[1_000..];
        for (level, low, high) in [(0.95, 0.035, 0.055), (0.99, 0.006, 0.012), (0.999, 0.000_4, 0.001_6)] {
            let share = scores.iter().filter(|score| **score > level).count() as f64 / scores.len() as f64;
            assert!((low..high).contains(&share), "{share} of the points score above {level}");
        }
    }
}

twin_test! {
    fn a_spike_a_shift_and_a_missing_daily_peak_stand_out(device) {
        let mut values: Vec<f64> = (0..2_400).map(daily).collect();
        values[1_500] += 15.0;
        values[1_800..1_830].iter_mut().for_each(|v| *v += 8.0);
        values[2_120..2_136].fill(100.0);
        let scores = scores_of(device, &values);
        assert!(scores[1_500] > 0.999, "spike {}", scores[1_500]);
        for anomaly in [1_800..1_830, 2_120..2_136] {
            let top = scores[anomaly.clone()].iter().copied().fold(0.0, f64::max);
            assert!(top > 0.999, "{anomaly:?} scores at most {top}");
        }
        let calm = scores[1_000..1_490].iter().filter(|score| **score > 0.999).count();
        assert!(calm <= 3, "{calm} alarms in a calm stretch");
    }
}

twin_test! {
    fn a_season_is_learned_so_that_its_peaks_are_no_anomalies(device) {
        let bursts = |t: usize| if t % 96 == 40 { 50.0 } else { 0.0 } + normal(t);
        let scores = scores_of(device, &(0..3_000).map(bursts).collect::<Vec<_>>());
        let alarms = (10..31).filter(|day| scores[day * 96 + 40] > 0.99).count();
        assert!(alarms <= 2, "{alarms} of 21 regular bursts score above 0.99");
    }
}

twin_test! {
    fn a_flat_line_is_normal_and_its_first_change_is_not(device) {
        let mut values = vec![3.0; 500];
        values[400] = 3.1;
        let scores = scores_of(device, &values);
        assert!(scores[..400].iter().all(|score| *score < 0.5));
        assert!(scores[400] > 0.99, "{}", scores[400]);
    }
}

twin_test! {
    fn an_infinite_value_is_an_anomaly_that_teaches_nothing(device) {
        let mut values: Vec<f64> = (0..600).map(normal).collect();
        let before = scores_of(device, &values);
        values[300] = f64::INFINITY;
        let mut missing = values.clone();
        missing[300] = f64::NAN;
        let (infinite, missing) = (scores_of(device, &values), scores_of(device, &missing));
        assert!(infinite[300] > 0.999_999 && missing[300].is_nan());
        assert_eq!(infinite[..300], before[..300]);
        assert_eq!(infinite[301..], missing[301..]);
    }
}

#[test]
fn a_warm_up_that_is_too_short_is_refused() {
    let refused = score(&Device::cpu(), &Series::new(&[], &[0]).unwrap(), &Params { warm_up: 3 });
    assert!(matches!(refused, Err(Error::Parameter(text)) if text.contains("3 points")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_values_get_scores_in_range(values in prop::collection::vec(prop::num::f64::ANY, 0..400)) {
        for (value, score) in values.iter().zip(scores_of(&Device::cpu(), &values)) {
            let sound = if value.is_nan() { score.is_nan() } else { (0.0..1.0).contains(&score) };
            prop_assert!(sound, "{value} scores {score}");
        }
    }

    #[test]
    fn later_points_never_change_a_score(
        seed in 0usize..1_000_000,
        length in 1usize..1_400,
        cut in 0.0f64..1.0,
        season in 2usize..200,
    ) {
        let values: Vec<f64> = (0..length)
            .map(|t| match t % 89 { 7 => f64::NAN, 11 => 30.0, _ => 3.0 * wave(t, season) + noise(seed + t) })
            .collect();
        let known = (cut * length as f64) as usize;
        let (all, some) = (scores_of(&Device::cpu(), &values), scores_of(&Device::cpu(), &values[..known]));
        for (a, b) in all.iter().zip(&some) {
            prop_assert!(a == b || (a.is_nan() && b.is_nan()));
        }
    }
}

/// The difference of two scores; both missing is none.
fn difference(a: f64, b: f64) -> f64 {
    if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() }
}

#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    let (values, offsets) = series_of_all_kinds();
    let series = Series::new(&values, &offsets).unwrap();
    let looks: Vec<_> = (0..series.len()).map(|i| plan::looks(series.get(i))).collect();
    assert!(looks.iter().any(|looks| looks.iter().any(|look| look.outer.len() + look.main.len() > 2)));
    let batch = Batch::new(&series, &looks, 0..series.len(), 96);
    let prior = ranks::prior();
    let Some(results) = run_on_host("robust_residual", 1, THREADS, &batch.arguments(&prior, 1)) else { return };
    let expected: Vec<f64> = (0..series.len()).flat_map(|i| cpu::score(series.get(i), &looks[i], 96, &prior)).collect();
    let worst = results[8].iter().zip(&expected).map(|(a, b)| difference(*a, *b)).fold(0.0, f64::max);
    assert!(results[8].len() == expected.len() && worst < 1e-9, "the twins differ by up to {worst}");
}

twin_test! {
    fn the_twins_agree(device) {
        let (values, offsets) = series_of_all_kinds();
        let series = Series::new(&values, &offsets).unwrap();
        let own = score(device, &series, &Params::default()).unwrap().scores;
        let reference = score(&Device::cpu(), &series, &Params::default()).unwrap().scores;
        let worst = own.iter().zip(&reference).map(|(a, b)| difference(*a, *b)).fold(0.0, f64::max);
        assert!(worst < 1e-9, "the twins differ by up to {worst}");
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
