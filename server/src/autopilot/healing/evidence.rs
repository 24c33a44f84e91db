//! From looks to the evidence that the policy judges.
//!
//! **Invariant:** what moved counts only where the last two looks agree: one may be chance.

use std::collections::BTreeMap;

use juno_sql::healing::evidence::{Evidence, Process};
use juno_sql::kernels::explain_away::{Incident, Metric, rank};
use juno_sql::kernels::{Device, Series};

use super::detector::{Detector, is_good, median};
use super::scrape::{Look, Looks, SERIES};

/// Latencies below this are noise, in ms.
const LATENCY_LEAST_MS: f64 = 20.0;
/// How far from the ground each of [`SERIES`] is.
const DEPTHS: [u8; SERIES.len()] = [2, 3, 3, 0, 0, 1];
/// Over how many looks growth is measured.
const GROWTH_LOOKS: usize = 3;
/// In how many looks what is gone is replaced where something else than juno does that.
const REPLACED_LOOKS: u32 = 3;

/// What is known of every service: the past before the incident, and the looks since.
pub(super) fn evidence(
    detector: &Detector,
    looks: &[Looks],
    calls: &[(String, String)],
    changes: &BTreeMap<String, i64>,
    now_us: i64,
) -> BTreeMap<String, Evidence> {
    let services: Vec<&str> = looks.last().map_or_else(Vec::new, |looks| looks.keys().map(String::as_str).collect());
    let ranks = ranks(detector, looks, &services, calls);
    let of = |service: &str| {
        let mut evidence = moved(detector, looks, service);
        evidence.checks_failed = detector.failed(service);
        evidence.unanswered = detector.mute(service);
        if let Some(look) = looks.last().and_then(|looks| looks.get(service)) {
            // Where others replace what is gone, it is gone when they have not.
            let is_replaced = detector.pace().replaces && evidence.checks_failed < REPLACED_LOOKS;
            evidence.process = if is_replaced { Process::Unknown } else { process(look) };
            evidence.has_drifted = look.observed.has_drifted;
        }
        evidence.changed_s = changes.get(service).map(|at_us| (now_us - at_us) as f64 / 1e6);
        evidence.rank_share = ranks.get(service).copied();
        (service.to_owned(), evidence)
    };
    services.iter().map(|service| of(service)).collect()
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
pub(super) fn moved(detector: &Detector, looks: &[Looks], service: &str) -> Evidence {
    let usual = |series: usize| median(detector.past(service, series).into_iter());
    let last = |series: usize, back: usize| {
        let look = looks.len().checked_sub(back + 1).and_then(|at| looks[at].get(service));
        look.map(|look| look.values[series]).filter(|value| value.is_finite())
    };
    // The last look alone counts where there is no other yet.
    let steady = |series: usize| last(series, 0).map(|now| now.min(last(series, 1).unwrap_or(now)));
    let known = |value: f64| value.is_finite().then_some(value);
    let (rss, latency) = (usual(3), usual(0).max(LATENCY_LEAST_MS));
    // Memory that grew and is still held is no better than memory that grows.
    let grown = |back: usize| {
        let (then, looks) = (1..=GROWTH_LOOKS).rev().find_map(|span| Some((last(3, back + span)?, span)))?;
        let minutes = looks as f64 * f64::from(detector.pace().look_s) / 60.0;
        Some((last(3, back)? - then) / minutes / rss)
    };
    let growth = (0..looks.len()).filter_map(grown).reduce(f64::max);
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
fn ranks(detector: &Detector, looks: &[Looks], services: &[&str], calls: &[(String, String)]) -> BTreeMap<String, f64> {
    let (mut metrics, mut before, mut during) = (Vec::new(), Vec::new(), Vec::new());
    let (mut before_at, mut during_at) = (vec![0], vec![0]);
    for (number, service) in services.iter().enumerate() {
        for (series, depth) in DEPTHS.into_iter().enumerate() {
            metrics.push(Metric { service: number, name: series, depth });
            before.extend(detector.past(service, series));
            before_at.push(before.len());
            during.extend(looks.iter().filter_map(|looks| looks.get(*service)).map(|look| look.values[series]));
            during_at.push(during.len());
        }
    }
    let index = |name: &str| services.iter().position(|service| *service == name);
    let calls: Vec<(usize, usize)> =
        calls.iter().filter_map(|(caller, callee)| Some((index(caller)?, index(callee)?))).collect();
    let (Ok(before), Ok(during)) = (Series::new(&before, &before_at), Series::new(&during, &during_at)) else {
        return BTreeMap::new();
    };
    let incident = Incident { metrics: &metrics, before, during, calls: &calls, symptom: None };
    let mut shares = BTreeMap::new();
    for cause in rank(&Device::cpu(), &incident).unwrap_or_default() {
        *shares.entry(services[metrics[cause.metric].service].to_owned()).or_default() += cause.probability;
    }
    shares
}

/// What is written of a service, and what verification sees.
pub(super) fn health(evidence: &Evidence, look: &Look) -> [(&'static str, Option<f64>); 4] {
    let excess = evidence.error_share.map(|share| share - evidence.error_usual.unwrap_or(0.0));
    [
        ("healthy", Some(if is_good(look) { 1.0 } else { 0.0 })),
        ("error_excess", excess),
        ("latency_ratio", evidence.latency_ratio),
        ("memory_ratio", evidence.memory_ratio),
    ]
}
