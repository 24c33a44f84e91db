//! From looks to the evidence that the policy judges.
//!
//! **Invariant:** what moved counts only where the last two looks agree: one may be chance.

use std::collections::BTreeMap;

use juno_sql::healing::evidence::{Evidence, Process};
use juno_sql::healing::verification::Sample;
use juno_sql::kernels::explain_away::{Incident, Metric, rank};
use juno_sql::kernels::{Device, Series};

use crate::detector::{Detector, is_good, median};
use crate::fleet::SERVICES;
use crate::scrape::{Look, SERIES};

/// Latencies below this are noise, in ms.
const LATENCY_LEAST_MS: f64 = 20.0;
/// How far from the ground each of [`SERIES`] is.
const DEPTHS: [u8; SERIES.len()] = [2, 3, 3, 0, 0, 1];
/// Over how many looks growth is measured.
const GROWTH_LOOKS: usize = 3;

/// What is known of every service: the past before the incident, and the looks since.
pub(crate) fn evidence(
    detector: &Detector,
    looks: &[BTreeMap<String, Look>],
    changes: &BTreeMap<String, i64>,
    now_us: i64,
) -> BTreeMap<String, Evidence> {
    let ranks = ranks(detector, looks);
    let of = |service: &str| {
        let mut evidence = moved(detector, looks, service);
        evidence.checks_failed = detector.failed(service);
        if let Some(look) = looks.last().and_then(|looks| looks.get(service)) {
            evidence.process = process(look);
            evidence.has_drifted = look.observed.has_drifted;
        }
        evidence.changed_s = changes.get(service).map(|at_us| (now_us - at_us) as f64 / 1e6);
        evidence.rank_share = ranks.get(service).copied();
        (service.to_owned(), evidence)
    };
    SERVICES.iter().map(|(service, _)| of(service)).collect()
}

fn process(look: &Look) -> Process {
    let states: Vec<&str> = look.observed.replicas.iter().map(|replica| replica.state.as_str()).collect();
    if look.observed.is_busy || look.observed.is_isolated {
        Process::Unknown
    } else if states.contains(&"gone") {
        Process::Gone
    } else if states.contains(&"halted") {
        Process::Halted
    } else if states.is_empty() {
        Process::Unknown
    } else {
        Process::Running
    }
}

/// What of a service's metrics moved.
fn moved(detector: &Detector, looks: &[BTreeMap<String, Look>], service: &str) -> Evidence {
    let usual = |series: usize| median(detector.past(service, series).into_iter());
    let last = |series: usize, back: usize| {
        let look = looks.len().checked_sub(back + 1).and_then(|at| looks[at].get(service));
        look.map(|look| look.values[series]).filter(|value| value.is_finite())
    };
    // The last look alone counts where there is no other yet.
    let steady = |series: usize| last(series, 0).map(|now| now.min(last(series, 1).unwrap_or(now)));
    let known = |value: f64| value.is_finite().then_some(value);
    let (rss, latency) = (usual(3), usual(0).max(LATENCY_LEAST_MS));
    let then = (1..=GROWTH_LOOKS).rev().find_map(|back| Some((last(3, back)?, back as f64)));
    let growth = last(3, 0).zip(then).map(|(now, (then, seconds))| (now - then) / seconds * 60.0 / rss);
    Evidence {
        latency_ratio: steady(0).map(|now| now / latency),
        error_share: steady(1),
        error_usual: known(usual(1)),
        call_error_share: steady(2),
        memory_ratio: last(3, 0).map(|now| now / rss),
        memory_growth: growth.filter(|growth| growth.is_finite()),
        disk_share: last(4, 0),
        traffic_ratio: steady(5).map(|now| now / usual(5).max(1.0)),
        ..Evidence::default()
    }
}

/// Each service's share of the probability that the kernel gives to its metrics.
fn ranks(detector: &Detector, looks: &[BTreeMap<String, Look>]) -> BTreeMap<String, f64> {
    let (mut metrics, mut before, mut during) = (Vec::new(), Vec::new(), Vec::new());
    let (mut before_at, mut during_at) = (vec![0], vec![0]);
    for (number, (service, _)) in SERVICES.iter().enumerate() {
        for (series, depth) in DEPTHS.into_iter().enumerate() {
            metrics.push(Metric { service: number, name: series, depth });
            before.extend(detector.past(service, series));
            before_at.push(before.len());
            during.extend(looks.iter().filter_map(|looks| looks.get(*service)).map(|look| look.values[series]));
            during_at.push(during.len());
        }
    }
    let index = |name: &str| SERVICES.iter().position(|(service, _)| *service == name).unwrap_or_default();
    let calls: Vec<(usize, usize)> = SERVICES
        .iter()
        .enumerate()
        .flat_map(|(caller, (_, callees))| callees.iter().map(move |callee| (caller, index(callee))))
        .collect();
    let (Ok(before), Ok(during)) = (Series::new(&before, &before_at), Series::new(&during, &during_at)) else {
        return BTreeMap::new();
    };
    let incident = Incident { metrics: &metrics, before, during, calls: &calls, symptom: None };
    let mut shares = BTreeMap::new();
    for cause in rank(&Device::cpu(), &incident).unwrap_or_default() {
        *shares.entry(SERVICES[metrics[cause.metric].service].0.to_owned()).or_default() += cause.probability;
    }
    shares
}

/// What verification sees of a service.
pub(crate) fn sample(evidence: &Evidence, look: &Look, now_us: i64) -> Sample {
    let excess = evidence.error_share.map(|share| share - evidence.error_usual.unwrap_or(0.0));
    let known = [
        ("healthy", Some(if is_good(look) { 1.0 } else { 0.0 })),
        ("error_excess", excess),
        ("latency_ratio", evidence.latency_ratio),
        ("memory_ratio", evidence.memory_ratio),
        ("disk_share", evidence.disk_share),
    ];
    let values = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Sample { at_us: now_us, values }
}
