//! From looks to the evidence that the policy judges.
//!
//! **Invariant:** what moved counts only where two of the last looks agree: one may be chance.

use std::collections::BTreeMap;

use juno_sql::healing::evidence::{Evidence, Process};
use juno_sql::healing::graph::Graph;
use juno_sql::kernels::explain_away::{Incident, Metric, rank};
use juno_sql::kernels::{Device, Series};

use super::detector::{Detector, is_good, median};
use super::scrape::{Look, Looks, SERIES};

/// Latencies below this are noise, in ms.
const LATENCY_LEAST_MS: f64 = 20.0;
/// How far from the ground each of [`SERIES`] is.
const DEPTHS: [u8; SERIES.len()] = [2, 3, 3, 0, 0, 1];
/// Of so many looks two must agree: what is slow now and then is so in some of them.
const STEADY_LOOKS: usize = 4;
/// Over how many looks growth is measured.
const GROWTH_LOOKS: usize = 3;
/// In how many looks what is gone is replaced where something else than juno does that.
const REPLACED_LOOKS: u32 = 3;

/// What is looked at: the past before the incident, and the looks since.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) detector: &'a Detector,
    pub(super) looks: &'a [Looks],
    /// How many of them came since something was last done: what was before says nothing of what is.
    pub(super) fresh: usize,
    /// When other hands changed configurations.
    pub(super) changes: &'a BTreeMap<String, i64>,
    pub(super) now_us: i64,
}

impl Sight<'_> {
    fn services(&self) -> Vec<&str> {
        self.looks.last().map_or_else(Vec::new, |looks| looks.keys().map(String::as_str).collect())
    }

    /// What every service shows.
    pub(super) fn shown(&self) -> BTreeMap<String, Evidence> {
        self.services().into_iter().map(|service| (service.to_owned(), self.one(service))).collect()
    }

    /// What is known of every service: what it shows, and its share in the ranking of metrics.
    pub(super) fn evidence(&self, graph: &Graph) -> BTreeMap<String, Evidence> {
        let (mut shown, ranks) = (self.shown(), ranks(self.detector, self.looks, &self.services(), graph));
        for (service, evidence) in &mut shown {
            evidence.rank_share = ranks.get(service).copied();
        }
        shown
    }

    fn one(&self, service: &str) -> Evidence {
        let mut evidence = self.moved(service);
        evidence.checks_failed = self.detector.failed(service);
        evidence.unanswered = self.detector.mute(service);
        if let Some(look) = self.looks.last().and_then(|looks| looks.get(service)) {
            // Where others replace what is gone, it is gone when they have not.
            let is_replaced = self.detector.pace().replaces && evidence.checks_failed < REPLACED_LOOKS;
            evidence.process = if is_replaced { Process::Unknown } else { process(look) };
            evidence.has_drifted = look.observed.has_drifted;
        }
        evidence.changed_s = self.changes.get(service).map(|at_us| (self.now_us - at_us) as f64 / 1e6);
        evidence
    }

    /// What of a service's metrics moved.
    fn moved(&self, service: &str) -> Evidence {
        let usual = |series: usize| median(self.detector.past(service, series).into_iter());
        let last = |series: usize, back: usize| {
            let look = self.looks.len().checked_sub(back + 1).and_then(|at| self.looks[at].get(service));
            look.map(|look| look.values[series]).filter(|value| value.is_finite())
        };
        // The last look alone counts where there is no other yet.
        let steady = |series: usize| {
            let now = last(series, 0)?;
            let before = (1..STEADY_LOOKS.min(self.fresh)).filter_map(|back| last(series, back));
            let mut seen: Vec<f64> = std::iter::once(now).chain(before).collect();
            seen.sort_by(|a, b| b.total_cmp(a));
            seen.get(1).or(seen.first()).copied()
        };
        let known = |value: f64| value.is_finite().then_some(value);
        let (rss, latency) = (usual(3), usual(0).max(LATENCY_LEAST_MS));
        // Memory that grew and is still held is no better than memory that grows.
        let grown = |back: usize| {
            let (then, looks) = (1..=GROWTH_LOOKS).rev().find_map(|span| Some((last(3, back + span)?, span)))?;
            let minutes = looks as f64 * f64::from(self.detector.pace().look_s) / 60.0;
            Some((last(3, back)? - then) / minutes / rss)
        };
        let growth = (0..self.looks.len()).filter_map(grown).reduce(f64::max);
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

/// Each service's share of the probability that the kernel gives to its metrics.
fn ranks(detector: &Detector, looks: &[Looks], services: &[&str], graph: &Graph) -> BTreeMap<String, f64> {
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
    let mut calls: Vec<(usize, usize)> = Vec::new();
    for (caller, name) in services.iter().enumerate() {
        calls.extend(graph.callees(name).filter_map(index).map(|callee| (caller, callee)));
    }
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
    let excess = evidence.failing();
    [
        ("healthy", Some(if is_good(look) { 1.0 } else { 0.0 })),
        ("error_excess", excess),
        ("latency_ratio", evidence.latency_ratio),
        ("memory_ratio", evidence.memory_ratio),
    ]
}
