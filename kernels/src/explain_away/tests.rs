//! Tests of the ranking.

use proptest::prelude::*;

use super::{Cause, Incident, Metric, rank};
use crate::twin::{noise, twin_test};
use crate::{Device, Error, Series};

/// A metric, its mean before and its mean during the incident.
type Moved = (usize, usize, u8, f64, f64);

fn ranked(moved: &[Moved], calls: &[(usize, usize)], symptom: Option<usize>) -> Vec<Cause> {
    let metrics: Vec<Metric> = moved
        .iter()
        .map(|(service, name, depth, ..)| Metric { service: *service, name: *name, depth: *depth })
        .collect();
    let values = |points: usize, of: fn(&Moved) -> f64| -> Vec<f64> {
        moved
            .iter()
            .enumerate()
            .flat_map(|(i, moved)| (0..points).map(move |t| of(moved) * (1.0 + 0.02 * noise(1_000 * i + t))))
            .collect()
    };
    let offsets = |points: usize| -> Vec<usize> { (0..=moved.len()).map(|i| points * i).collect() };
    let (before, during) = (values(50, |moved| moved.3), values(10, |moved| moved.4));
    let (before_offsets, during_offsets) = (offsets(50), offsets(10));
    let incident = Incident {
        metrics: &metrics,
        before: Series::new(&before, &before_offsets).unwrap(),
        during: Series::new(&during, &during_offsets).unwrap(),
        calls,
        symptom,
    };
    rank(&Device::cpu(), &incident).unwrap()
}

const CPU: usize = 0;
const MEMORY: usize = 1;
const LATENCY: usize = 2;

#[test]
fn the_metric_that_moved_most_comes_first_and_probabilities_share_one() {
    let causes = ranked(&[(0, CPU, 1, 10.0, 10.1), (1, CPU, 1, 10.0, 40.0), (2, CPU, 1, 10.0, 11.0)], &[], None);
    assert_eq!(causes.iter().map(|cause| cause.metric).collect::<Vec<_>>(), [1, 2, 0]);
    assert!((causes.iter().map(|cause| cause.probability).sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(causes[0].probability > 0.9 && (causes[0].during - 40.0).abs() < 1.0 && causes[0].deviation > 50.0);
}

#[test]
fn memory_explains_the_processor_of_its_own_service_and_not_the_other_way_round() {
    let memory = ranked(&[(0, CPU, 1, 1.0, 10.0), (0, MEMORY, 0, 100.0, 250.0)], &[], None);
    assert_eq!(memory[0].metric, 1);
    let processor = ranked(&[(0, CPU, 1, 1.0, 10.0), (0, MEMORY, 0, 100.0, 101.0)], &[], None);
    assert_eq!(processor[0].metric, 0);
}

#[test]
fn a_slow_callee_explains_its_callers() {
    // 0 calls 1 and 3, 1 calls 2; 4 is not called by anybody.
    let moved = [
        (0, LATENCY, 2, 100.0, 400.0),
        (1, LATENCY, 2, 50.0, 340.0),
        (2, LATENCY, 2, 20.0, 310.0),
        (3, LATENCY, 2, 20.0, 21.0),
        (4, LATENCY, 2, 20.0, 900.0),
    ];
    let causes = ranked(&moved, &[(0, 1), (1, 2), (0, 3)], Some(0));
    assert_eq!(causes[0].metric, 2);
    assert!(causes.iter().all(|cause| ![0, 4].contains(&cause.metric)));
    assert_eq!(ranked(&moved, &[], Some(0)).len(), 4);
}

#[test]
fn a_symptom_that_falls_is_caused_by_what_falls() {
    let moved = [(0, 7, 2, 100.0, 90.0), (1, 7, 2, 100.0, 85.0), (2, 7, 2, 50.0, 60.0)];
    assert_eq!(ranked(&moved, &[(0, 1), (0, 2)], Some(0))[0].metric, 1);
}

#[test]
fn a_circle_of_calls_ends() {
    let moved = [(0, LATENCY, 2, 10.0, 20.0), (1, LATENCY, 2, 10.0, 30.0)];
    assert_eq!(ranked(&moved, &[(0, 1), (1, 0), (1, 1)], Some(0)).len(), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (values, none) = ([1.0, 2.0, 3.0], Series::new(&[], &[0]).unwrap());
    let metrics = [Metric { service: 0, name: 0, depth: 0 }; 2];
    let uneven = Series::new(&values, &[0, 1, 3]).unwrap();
    let incident = |before, during, symptom| Incident { metrics: &metrics, before, during, calls: &[], symptom };
    for incident in [incident(none, uneven, None), incident(uneven, uneven, Some(0)), incident(uneven, uneven, Some(2))]
    {
        assert!(matches!(rank(&Device::cpu(), &incident), Err(Error::Shape(_))));
    }
    assert!(rank(&Device::cpu(), &incident(uneven, uneven, None)).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_values_are_ranked_in_falling_order(
        rows in prop::collection::vec((0usize..3, 0usize..2, 0u8..3, prop::collection::vec(prop::num::f64::ANY, 8..9)), 0..8),
        calls in prop::collection::vec((0usize..3, 0usize..3), 0..6),
        has_symptom: bool,
    ) {
        let metrics: Vec<Metric> = rows.iter().map(|(service, name, depth, _)| Metric { service: *service, name: *name, depth: *depth }).collect();
        let before: Vec<f64> = rows.iter().flat_map(|row| row.3[..5].to_vec()).collect();
        let during: Vec<f64> = rows.iter().flat_map(|row| row.3[5..].to_vec()).collect();
        let offsets = |points: usize| (0..=rows.len()).map(|i| points * i).collect::<Vec<_>>();
        let (five, three) = (offsets(5), offsets(3));
        let incident = Incident {
            metrics: &metrics,
            before: Series::new(&before, &five).unwrap(),
            during: Series::new(&during, &three).unwrap(),
            calls: &calls,
            symptom: (has_symptom && !rows.is_empty()).then_some(0),
        };
        let causes = rank(&Device::cpu(), &incident).unwrap();
        prop_assert!(causes.windows(2).all(|pair| pair[0].score >= pair[1].score));
        prop_assert!(causes.iter().all(|cause| (0.0..=1.0).contains(&cause.probability)));
    }
}

/// Metrics of every kind, their values before and during: values, offsets.
fn hostile(metrics: usize, during: bool) -> (Vec<f64>, Vec<usize>) {
    let (mut values, mut offsets) = (Vec::new(), vec![0]);
    for i in 0..metrics {
        let length = if during { 40 } else { 3 * i % 60 };
        values.extend((0..length).map(|t| match i % 8 {
            0 => 10.0 + noise(100 * i + t),
            1 => 1e308 * noise(t),
            2 => f64::NAN,
            3 => [f64::INFINITY, 1.0, f64::NEG_INFINITY, 2.0][t % 4],
            4 => 7.0,
            5 => 1e-300 * noise(t),
            6 => (if during { 50.0 } else { 0.0 }) + noise(t),
            _ => {
                if t % 5 == 0 {
                    f64::NAN
                } else {
                    noise(i + t)
                }
            }
        }));
        offsets.push(values.len());
    }
    (values, offsets)
}

/// Runs a check on an incident of hostile metrics, with a symptom and without.
fn with_incidents(check: impl Fn(&Incident)) {
    let (before, before_offsets) = hostile(90, false);
    let (during, during_offsets) = hostile(90, true);
    let metrics: Vec<Metric> = (0..90).map(|i| Metric { service: i / 3, name: i % 3, depth: (i % 3) as u8 }).collect();
    let calls = [(2, 4), (4, 6), (6, 8), (2, 9)];
    for symptom in [None, Some(6), Some(7), Some(2)] {
        let before = Series::new(&before, &before_offsets).unwrap();
        let during = Series::new(&during, &during_offsets).unwrap();
        check(&Incident { metrics: &metrics, before, during, calls: &calls, symptom });
    }
}

/// Numbers as bits, all NaN alike.
fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|number| if number.is_nan() { 0 } else { (number + 0.0).to_bits() }).collect()
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use crate::twin::run_on_host;
    with_incidents(|incident| {
        let batch = super::cuda::Batch::new(incident, 4..90);
        let Some(results) = run_on_host("explain_away", 1, 64, &batch.arguments()) else { return };
        for (i, numbers) in results[6].as_chunks::<5>().0.iter().enumerate() {
            let own = super::cuda::move_of(numbers);
            let numbers = |moved: super::Move| bits(&[moved.before, moved.during, moved.deviation, moved.correlation]);
            assert_eq!(own.map(numbers), super::Move::of(incident, i + 4).map(numbers), "metric {}", i + 4);
        }
    });
}

twin_test! {
    fn the_twins_agree(device) {
        with_incidents(|incident| {
            let numbers = |device: &Device| -> Vec<u64> {
                let causes = rank(device, incident).unwrap();
                causes.iter().flat_map(|cause| bits(&[cause.metric as f64, cause.score, cause.deviation])).collect()
            };
            assert_eq!(numbers(device), numbers(&Device::cpu()));
        });
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}
