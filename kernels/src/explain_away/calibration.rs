//! Whether probabilities are calibrated: Brier scores over seeded incidents whose cause is known.
//!
//! The score of an incident is the sum of (p − y)² over its candidates, y being 1 for the cause and 0 for the others (Brier,
//! *Verification of Forecasts Expressed in Terms of Probability*, Monthly Weather Review 1950). Beside it stands that of the base
//! rate, which gives each candidate the same share.
//!
//! **Invariant:** an incident follows from its seed alone; nothing of the kernel is fitted to any of them.

use super::{Incident, Metric, rank};
use crate::{Device, Series, SplitMix};

const SERVICES: usize = 6;
/// Memory, processor and latency of each service.
const KINDS: usize = 3;
const LATENCY: usize = 2;
const BEFORE: usize = 40;
const DURING: usize = 10;
const INCIDENTS: u64 = 600;

/// An incident whose cause is known.
struct Known {
    metrics: Vec<Metric>,
    before: Vec<f64>,
    during: Vec<f64>,
    calls: Vec<(usize, usize)>,
    symptom: Option<usize>,
    cause: usize,
}

/// Means over incidents: the score of the kernel and that of the base rate; how often the first candidate was the cause, and how
/// probable it was called.
#[derive(Debug, Default, PartialEq)]
struct Judged {
    brier: f64,
    base: f64,
    right: f64,
    told: f64,
}

/// Who calls each service: a tree, with service 0 on top.
fn callers(random: &mut SplitMix) -> Vec<usize> {
    (1..SERVICES).map(|service| random.below(service)).collect()
}

fn calls(callers: &[usize]) -> Vec<(usize, usize)> {
    callers.iter().copied().zip(1..).collect()
}

/// A fault moves one metric of one service by 1.5 to 30 deviations, with it, less and less, those that are farther from the ground,
/// and the latency of who calls the service, directly or not.
fn without_symptom(seed: u64) -> Known {
    let mut random = SplitMix::new(seed, 0);
    let callers = callers(&mut random);
    let (root, kind) = (random.below(SERVICES), random.below(KINDS));
    let mut moved = [[0.0; KINDS]; SERVICES];
    moved[root][kind] = 1.5 * 20f64.powf(random.unit());
    for above in kind + 1..KINDS {
        moved[root][above] = moved[root][above - 1] * (0.3 + 0.4 * random.unit());
    }
    let mut at = root;
    while at > 0 {
        moved[callers[at - 1]][LATENCY] = moved[at][LATENCY] * (0.3 + 0.4 * random.unit());
        at = callers[at - 1];
    }
    let shape: Vec<f64> = (0..DURING).map(|_| 0.5 + random.unit()).collect();
    let (mut metrics, mut before, mut during) = (Vec::new(), Vec::new(), Vec::new());
    for (service, moved) in moved.iter().enumerate() {
        for (name, moved) in moved.iter().enumerate() {
            metrics.push(Metric { service, name, depth: name as u8 });
            let level = 10.0 + 90.0 * random.unit();
            let noise = level * (0.02 + 0.08 * random.unit());
            before.extend((0..BEFORE).map(|_| level + noise * random.normal()));
            during.extend(shape.iter().map(|shape| level + noise * (random.normal() + moved * shape)));
        }
    }
    Known { metrics, before, during, calls: calls(&callers), symptom: None, cause: KINDS * root + kind }
}

/// A delay of one service by a fifth of its own latency to twenty times that; latencies add up along the calls, and that of service
/// 0 is the symptom.
fn with_symptom(seed: u64) -> Known {
    let mut random = SplitMix::new(seed, 1);
    let callers = callers(&mut random);
    let root = 1 + random.below(SERVICES - 1);
    let own: Vec<f64> = (0..SERVICES).map(|_| 10.0 + 90.0 * random.unit()).collect();
    let delay = own[root] * 0.2 * 100f64.powf(random.unit());
    let noise: Vec<f64> = (0..SERVICES).map(|_| 0.02 + 0.08 * random.unit()).collect();
    let mut series = |points: usize, delay: f64| {
        let mut all = vec![0.0; SERVICES * points];
        for t in 0..points {
            let mut values: Vec<f64> =
                own.iter().zip(&noise).map(|(own, noise)| own * (1.0 + noise * random.normal())).collect();
            values[root] += delay * (0.5 + random.unit());
            for service in (1..SERVICES).rev() {
                values[callers[service - 1]] += values[service];
            }
            for (service, value) in values.into_iter().enumerate() {
                all[service * points + t] = value;
            }
        }
        all
    };
    let (before, during) = (series(BEFORE, 0.0), series(DURING, delay));
    let metrics = (0..SERVICES).map(|service| Metric { service, name: LATENCY, depth: 2 }).collect();
    Known { metrics, before, during, calls: calls(&callers), symptom: Some(0), cause: root }
}

impl Known {
    /// The candidates with their probabilities, most probable first.
    fn candidates(&self) -> Vec<(usize, f64)> {
        let offsets = |points: usize| (0..=self.metrics.len()).map(|i| points * i).collect::<Vec<_>>();
        let (before_offsets, during_offsets) = (offsets(BEFORE), offsets(DURING));
        let incident = Incident {
            metrics: &self.metrics,
            before: Series::new(&self.before, &before_offsets).unwrap(),
            during: Series::new(&self.during, &during_offsets).unwrap(),
            calls: &self.calls,
            symptom: self.symptom,
        };
        rank(&Device::cpu(), &incident).unwrap().iter().map(|cause| (cause.metric, cause.probability)).collect()
    }
}

fn judged(incident: fn(u64) -> Known) -> Judged {
    let mut sum = Judged::default();
    for seed in 0..INCIDENTS {
        let known = incident(seed);
        let candidates = known.candidates();
        let truth = |metric: usize| if metric == known.cause { 1.0 } else { 0.0 };
        let even = 1.0 / candidates.len() as f64;
        for (metric, probability) in &candidates {
            sum.brier += (probability - truth(*metric)).powi(2);
            sum.base += (even - truth(*metric)).powi(2);
        }
        sum.right += truth(candidates[0].0);
        sum.told += candidates[0].1;
    }
    let mean = |sum: f64| sum / INCIDENTS as f64;
    Judged { brier: mean(sum.brier), base: mean(sum.base), right: mean(sum.right), told: mean(sum.told) }
}

#[test]
fn probabilities_without_a_symptom_beat_the_base_rate_and_promise_no_more_than_they_keep() {
    let judged = judged(without_symptom);
    assert!(judged.brier < 0.5 * judged.base, "{judged:?}");
    assert!(judged.told <= judged.right, "{judged:?}");
}

#[test]
fn probabilities_with_a_symptom_beat_the_base_rate_and_promise_little_more_than_they_keep() {
    let judged = judged(with_symptom);
    assert!(judged.brier < 0.5 * judged.base, "{judged:?}");
    assert!(judged.told < judged.right + 0.15, "{judged:?}");
}

#[test]
fn scores_follow_from_the_seeds() {
    assert_eq!(judged(with_symptom), judged(with_symptom));
}
