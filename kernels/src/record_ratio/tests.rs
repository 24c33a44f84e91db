//! Tests of the judgements.

use proptest::prelude::*;

use super::batch::{Batch, THREADS};
use super::{Kind, Params, Point, point_of, resume, score};
use crate::twin::{noise, run_on_host, series_of_all_kinds, twin_test, wave};
use crate::{Device, Error, Series};

/// The sum of twelve uniform numbers: close to a normal distribution.
fn normal(i: usize) -> f64 {
    (0..12).map(|j| noise(12 * i + j)).sum::<f64>() / 2.0
}

/// A value every five minutes with a daily course.
fn daily(t: usize) -> f64 {
    100.0 + 30.0 * wave(t, 288) + normal(t)
}

fn every_five_minutes(points: usize) -> Vec<i64> {
    (0..points as i64).map(|t| 300 * t).collect()
}

fn judged(values: &[f64], seconds: &[i64]) -> Vec<Point> {
    let series = [0, values.len()];
    score(&Device::cpu(), &Series::new(values, &series).unwrap(), Some(seconds), &Params::default()).unwrap()
}

/// The lowest p-value between two points, and its kind.
fn strongest(points: &[Point], range: std::ops::Range<usize>) -> (f64, Kind) {
    let best = points[range].iter().min_by(|a, b| a.p_value.total_cmp(&b.p_value)).unwrap();
    (best.p_value, best.kind)
}

#[test]
fn every_value_gets_a_judgement_in_range_and_a_missing_one_none() {
    let (values, offsets) = series_of_all_kinds();
    let points =
        score(&Device::cpu(), &Series::new(&values, &offsets).unwrap(), None, &Params { warm_up: 64 }).unwrap();
    assert_eq!(points.len(), values.len());
    for (value, point) in values.iter().zip(&points) {
        let sound = (0.0..1.0).contains(&point.score) && point.p_value > 0.0 && point.p_value <= 1.0;
        assert!(if value.is_nan() { point.score.is_nan() } else { sound }, "{value}: {point:?}");
    }
}

#[test]
fn a_p_value_is_a_false_alarm_rate_on_calm_data() {
    let calm: [fn(usize) -> f64; 3] = [normal, daily, |t| 5.0 + (normal(t) * 0.5).exp()];
    for (kind, calm) in calm.iter().enumerate() {
        let points = 40_000;
        let values: Vec<f64> = (0..points).map(calm).collect();
        let judged = judged(&values, &every_five_minutes(points));
        for p in [1e-3, 5e-4] {
            let share = judged.iter().filter(|point| point.p_value <= p).count() as f64 / points as f64;
            assert!(share < 2.0 * p, "{share} of the points of kind {kind} have a p-value below {p}");
        }
    }
}

#[test]
fn kinds_are_told_apart() {
    let points = 8_000;
    let mut values: Vec<f64> = (0..points).map(daily).collect();
    let mut seconds = every_five_minutes(points);
    values[3_000] += 60.0;
    values[4_000..].iter_mut().for_each(|v| *v += 25.0);
    values[6_000..6_060].fill(80.0);
    seconds[7_000..].iter_mut().for_each(|second| *second += 7_200);
    let judged = judged(&values, &seconds);
    for (range, kind) in [
        (3_000..3_001, Kind::Point),
        (4_001..4_060, Kind::LevelShift),
        (6_003..6_060, Kind::Flatline),
        (7_000..7_001, Kind::Silence),
    ] {
        let found = judged[range.clone()].iter().filter(|point| point.p_value < 1e-3).map(|point| point.kind);
        assert!(found.clone().any(|found| found == kind), "{range:?}: {:?}, not {kind:?}", found.collect::<Vec<_>>());
    }
}

#[test]
fn a_line_that_was_flat_from_the_start_is_normal_and_its_first_change_is_not() {
    let mut values = vec![3.0; 6_000];
    values[5_000] = 3.1;
    let judged = judged(&values, &every_five_minutes(6_000));
    assert!(judged[..5_000].iter().all(|point| point.p_value == 1.0));
    assert!(judged[5_000].p_value < 1e-4, "{:?}", judged[5_000]);
}

#[test]
fn a_missing_daily_peak_is_a_pattern() {
    let mut values: Vec<f64> = (0..6_000).map(daily).collect();
    values[5_240..5_330].iter_mut().enumerate().for_each(|(t, v)| *v = 100.0 + normal(90_000 + t));
    let (p_value, _) = strongest(&judged(&values, &every_five_minutes(6_000)), 5_240..5_340);
    assert!(p_value < 1e-3, "{p_value}");
}

#[test]
fn an_infinite_value_is_the_strongest_anomaly_and_teaches_nothing() {
    let mut values: Vec<f64> = (0..900).map(normal).collect();
    let seconds = every_five_minutes(900);
    values[600] = f64::INFINITY;
    let infinite = judged(&values, &seconds);
    values[600] = f64::NAN;
    let missing = judged(&values, &seconds);
    assert!(infinite[600].score > 0.98 && infinite[600].p_value < 1e-9 && missing[600].score.is_nan());
    assert_eq!(infinite[601..], missing[601..]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (device, none) = (Device::cpu(), Series::new(&[], &[0]).unwrap());
    let refused = score(&device, &none, None, &Params { warm_up: 3 });
    assert!(matches!(refused, Err(Error::Parameter(text)) if text.contains("3 points")));
    let refused = score(&device, &none, Some(&[1]), &Params::default());
    assert!(matches!(refused, Err(Error::Shape(text)) if text.contains("1 times for 0 values")));
    let state = Params::default().state().unwrap();
    assert!(matches!(resume(&device, &[state], &none, None), Err(Error::Shape(_))));
}

/// Equal, or both missing.
fn same(a: &Point, b: &Point) -> bool {
    a == b || (a.score.is_nan() && b.score.is_nan())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_values_at_any_times_get_judgements_in_range(
        points in prop::collection::vec((prop::num::f64::ANY, any::<i64>()), 0..400),
    ) {
        let (values, seconds): (Vec<f64>, Vec<i64>) = points.into_iter().unzip();
        let series = [0, values.len()];
        let series = Series::new(&values, &series).unwrap();
        let points = score(&Device::cpu(), &series, Some(&seconds), &Params { warm_up: 32 }).unwrap();
        for (value, point) in values.iter().zip(points) {
            let sound = (0.0..1.0).contains(&point.score) && point.p_value > 0.0 && point.p_value <= 1.0;
            prop_assert!(if value.is_nan() { point.score.is_nan() } else { sound }, "{value}: {point:?}");
        }
    }

    #[test]
    fn points_in_many_calls_get_what_they_get_in_one(
        seed in 0usize..1_000_000,
        lengths in prop::collection::vec(0usize..700, 1..4),
        cuts in prop::collection::vec(0.0f64..1.0, 0..4),
        warm_up in 32usize..200,
    ) {
        let value = |t: usize| match t % 89 { 7 => f64::NAN, 11 => 30.0, 50..60 => 1.0, _ => wave(t, 24) + noise(seed + t) };
        let rows: Vec<Vec<f64>> = lengths.iter().map(|length| (0..*length).map(value).collect()).collect();
        let params = Params { warm_up };
        let device = Device::cpu();
        let whole: Vec<Vec<Point>> = rows.iter().map(|row| {
            let seconds: Vec<i64> = (0..row.len() as i64).map(|t| 600 * t).collect();
            score(&device, &Series::new(row, &[0, row.len()]).unwrap(), Some(&seconds), &params).unwrap()
        }).collect();
        let mut cuts = cuts;
        cuts.extend([0.0, 1.0]);
        cuts.sort_by(f64::total_cmp);
        let mut states = vec![params.state().unwrap(); rows.len()];
        let mut parts = vec![Vec::new(); rows.len()];
        for pair in cuts.windows(2) {
            let (mut values, mut seconds, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
            for row in &rows {
                let [from, to] = [pair[0], pair[1]].map(|cut| (cut * row.len() as f64) as usize);
                values.extend(&row[from..to]);
                seconds.extend((from..to).map(|t| 600 * t as i64));
                offsets.push(values.len());
            }
            let series = Series::new(&values, &offsets).unwrap();
            let (points, after) = resume(&device, &states, &series, Some(&seconds)).unwrap();
            states = after;
            for (part, pair) in parts.iter_mut().zip(offsets.windows(2)) {
                part.extend(&points[pair[0]..pair[1]]);
            }
        }
        for (whole, parts) in whole.iter().zip(&parts) {
            prop_assert_eq!(whole.len(), parts.len());
            prop_assert!(whole.iter().zip(parts).all(|(a, b)| same(a, b)));
        }
    }
}

/// How far two judgements are apart; infinitely far where one misses or the kinds differ.
fn difference(a: &Point, b: &Point) -> f64 {
    match () {
        () if a.score.is_nan() && b.score.is_nan() => 0.0,
        () if a.kind == b.kind => (a.score - b.score).abs().max((a.p_value / b.p_value - 1.0).abs()),
        () => f64::INFINITY,
    }
}

fn worst(own: &[Point], reference: &[Point]) -> f64 {
    assert_eq!(own.len(), reference.len());
    own.iter().zip(reference).map(|(a, b)| difference(a, b)).fold(0.0, f64::max)
}

/// Series of all kinds, the first long enough to forget, at uneven times.
fn input() -> (Vec<f64>, Vec<usize>, Vec<i64>) {
    let (mut values, mut offsets) = (Vec::new(), vec![0]);
    values.extend((0..1_500).map(|t| if t % 400 == 399 { 140.0 } else { daily(t) }));
    offsets.push(values.len());
    let (others, ends) = series_of_all_kinds();
    offsets.extend(ends[1..].iter().map(|end| values.len() + end));
    values.extend(others);
    let seconds = (0..values.len() as i64).map(|t| 600 * t + if t % 250 > 200 { 90_000 } else { 0 }).collect();
    (values, offsets, seconds)
}

#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    let (values, offsets, seconds) = input();
    let series = Series::new(&values, &offsets).unwrap();
    for (warm_up, seconds) in [(48, Some(seconds.as_slice())), (120, None)] {
        let batch = Batch::new(&series, seconds, 0..series.len(), warm_up);
        let Some(results) = run_on_host("record_ratio", 2, THREADS, &batch.arguments(2)) else { return };
        let own: Vec<Point> = results[8].chunks_exact(3).map(point_of).collect();
        let reference = score(&Device::cpu(), &series, seconds, &Params { warm_up }).unwrap();
        assert!(reference.iter().any(|point| point.kind != Kind::None));
        let worst = worst(&own, &reference);
        assert!(worst < 1e-9, "the twins differ by up to {worst} at a warm-up of {warm_up}");
    }
}

twin_test! {
    fn the_twins_agree(device) {
        let (values, offsets, seconds) = input();
        let series = Series::new(&values, &offsets).unwrap();
        let params = Params { warm_up: 60 };
        let own = score(device, &series, Some(&seconds), &params).unwrap();
        let reference = score(&Device::cpu(), &series, Some(&seconds), &params).unwrap();
        let worst = worst(&own, &reference);
        assert!(worst < 1e-9, "the twins differ by up to {worst}");
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
