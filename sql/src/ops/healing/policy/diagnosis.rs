//! What made an incident: causes of its services with probabilities.
//!
//! **Formula.** For each service the probability of cause c is its share of e^(score + ln r − x) among its causes and
//! "nothing", which has e²; r is the service's share in the ranking of metrics by the number of services, held within 1/2
//! and 2, and 1 where there is no ranking; x is 6 for a cause that travels up the calls where a service that is called has
//! a cause of its own of at least one half. So two services can both be ill, and what calls an ill one is not for that.
//!
//! Failures add up on their way: who calls a service that fails now and then fails more often. So a service that fails in a
//! twentieth of its requests or more is held to fail as often as a caller of it does, as long as up to four calls a request
//! account for that: e ≤ 1 − (1 − own)⁴.
//!
//! **Invariant:** services do not share a probability: each candidate's is that of its service having that cause.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cause::{CAUSES, Cause};
use super::evidence::Evidence;
use super::graph::Graph;
use super::runbook::Runbook;

/// The logarithm of the weight that a service has nothing.
const NOTHING: f64 = 2.0;
/// What an ill callee takes off the causes that travel.
const EXPLAINED: f64 = 6.0;
/// How much a ranking may speak for or against a service.
const RANK_MAX: f64 = 2.0;
/// A share of failures, above the usual one, that is no chance.
const FAILING_MIN: f64 = 0.05;
/// So many calls of a request to one service may add up.
const CALLS_MAX: i32 = 4;
/// From which probability a cause is held for one.
pub const PROBABLE: f64 = 0.5;
/// Less probable candidates are not told.
const TOLD_MIN: f64 = 0.01;

/// A possible cause.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Candidate {
    /// The service.
    #[serde(rename = "component")]
    pub service: String,
    /// What is wrong with it.
    pub cause: Cause,
    /// The probability that it is.
    pub probability: f64,
    /// The callee that may explain what it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained_by: Option<String>,
}

/// What made an incident.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The possible causes, most probable first; of the probable ones, first those whose service calls no other's: what
    /// it shows may be theirs, and it cannot be seen to be well before they are.
    pub candidates: Vec<Candidate>,
    /// Whether none is probable.
    pub inconclusive: bool,
}

impl Diagnosis {
    /// The most probable candidate of at least this probability that is not among those done.
    pub fn next(&self, probability_min: f64, is_done: impl Fn(&Candidate) -> bool) -> Option<&Candidate> {
        let mut probable = self.candidates.iter().filter(|candidate| candidate.probability >= probability_min);
        probable.find(|candidate| !is_done(candidate))
    }

    /// The most probable candidate of each service, in their order.
    pub fn strongest(&self) -> impl Iterator<Item = &Candidate> {
        let mut named = BTreeSet::new();
        self.candidates.iter().filter(move |candidate| named.insert(candidate.service.as_str()))
    }

    /// The probability that a service has a cause that a runbook is for.
    pub fn answered_by(&self, service: &str, runbook: &Runbook) -> f64 {
        let answered =
            |candidate: &&Candidate| candidate.service == service && runbook.causes.contains_key(&candidate.cause);
        self.candidates.iter().filter(answered).map(|candidate| candidate.probability).sum()
    }
}

/// The causes of an incident, given what is known of each of its services.
pub fn diagnose(services: &BTreeMap<String, Evidence>, graph: &Graph) -> Diagnosis {
    let services = &passed_down(services, graph);
    let alone: BTreeMap<&str, f64> =
        services.iter().map(|(service, evidence)| (service.as_str(), own(evidence))).collect();
    let mut candidates = Vec::new();
    for (service, evidence) in services {
        let ill = |callee: &&str| alone.get(callee).is_some_and(|probability| *probability >= PROBABLE);
        // The farthest one down is the one to name.
        let explained_by = graph.reached(service).into_iter().filter(ill).max_by(|a, b| alone[a].total_cmp(&alone[b]));
        let rank = evidence
            .rank_share
            .map_or(0.0, |share| (share * services.len() as f64).clamp(1.0 / RANK_MAX, RANK_MAX).ln());
        for (cause, probability) in shares(evidence, rank, explained_by.is_some()) {
            if probability >= TOLD_MIN {
                let explained_by = explained_by.filter(|_| cause.travels()).map(str::to_owned);
                candidates.push(Candidate { service: service.clone(), cause, probability, explained_by });
            }
        }
    }
    let is_probable = |candidate: &Candidate| candidate.probability >= PROBABLE;
    let ill: BTreeSet<String> = candidates
        .iter()
        .filter(|candidate| is_probable(candidate))
        .map(|candidate| candidate.service.clone())
        .collect();
    let below = |service: &str| graph.reached(service).into_iter().filter(|callee| ill.contains(*callee)).count();
    candidates.sort_by(|a, b| {
        let place = |of: &Candidate| (!is_probable(of), if is_probable(of) { below(&of.service) } else { 0 });
        let by_place = place(a).cmp(&place(b));
        by_place
            .then_with(|| b.probability.total_cmp(&a.probability))
            .then_with(|| (a.cause, &a.service).cmp(&(b.cause, &b.service)))
    });
    let inconclusive = candidates.first().is_none_or(|candidate| !is_probable(candidate));
    Diagnosis { candidates, inconclusive }
}

/// The services with the failures of their callers that they account for.
fn passed_down(services: &BTreeMap<String, Evidence>, graph: &Graph) -> BTreeMap<String, Evidence> {
    let mut all = services.clone();
    for (caller, evidence) in services {
        let Some(felt) = evidence.failing() else { continue };
        for callee in graph.reached(caller) {
            let Some(evidence) = all.get_mut(callee) else { continue };
            let own = services[callee].failing().unwrap_or_default();
            let accounts = own >= FAILING_MIN && felt <= 1.0 - (1.0 - own).powi(CALLS_MAX);
            if accounts && evidence.failing().is_some_and(|known| known < felt) {
                evidence.error_share = Some(felt + evidence.error_usual.unwrap_or_default());
            }
        }
    }
    all
}

/// The probability of each cause of one service.
fn shares(evidence: &Evidence, rank: f64, is_explained: bool) -> Vec<(Cause, f64)> {
    let weight = |cause: Cause| {
        let explained = if is_explained && cause.travels() { EXPLAINED } else { 0.0 };
        (cause.score(evidence) + rank - explained).exp()
    };
    let weights: Vec<(Cause, f64)> = CAUSES.into_iter().map(|cause| (cause, weight(cause))).collect();
    let all = NOTHING.exp() + weights.iter().map(|(_, weight)| weight).sum::<f64>();
    weights.into_iter().map(|(cause, weight)| (cause, weight / all)).collect()
}

/// Whether a service is probably ill itself, whatever it calls.
pub fn is_ill(evidence: &Evidence) -> bool {
    own(evidence) >= PROBABLE
}

/// The probability that a service is ill whatever it calls.
fn own(evidence: &Evidence) -> f64 {
    shares(evidence, 0.0, false).into_iter().map(|(_, share)| share).sum()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Process;
    use super::*;

    fn graph() -> Graph {
        Graph::new([("shop", "orders"), ("orders", "store"), ("shop", "search")])
    }

    fn calm() -> Evidence {
        Evidence { process: Process::Running, latency_ratio: Some(1.1), error_share: Some(0.0), ..Evidence::default() }
    }

    fn services(ill: &[(&str, Evidence)]) -> BTreeMap<String, Evidence> {
        let mut all: BTreeMap<String, Evidence> =
            ["shop", "orders", "store", "search"].map(|name| (name.to_owned(), calm())).into();
        all.extend(ill.iter().map(|(name, evidence)| ((*name).to_owned(), evidence.clone())));
        all
    }

    #[test]
    fn what_calls_an_ill_service_is_explained_by_it() {
        let slow = |ratio| Evidence { latency_ratio: Some(ratio), ..calm() };
        let failing = Evidence { error_share: Some(0.8), call_error_share: Some(0.8), ..slow(9.0) };
        let ill = services(&[("store", slow(30.0)), ("orders", failing.clone()), ("shop", failing)]);
        let diagnosis = diagnose(&ill, &graph());
        let first = &diagnosis.candidates[0];
        assert_eq!((first.service.as_str(), first.cause, first.explained_by.as_deref()), ("store", Cause::Slow, None));
        assert!(first.probability > 0.8 && !diagnosis.inconclusive, "{diagnosis:?}");
        assert!(diagnosis.next(0.5, |candidate| candidate.service == "store").is_none(), "{diagnosis:?}");
    }

    #[test]
    fn two_ill_services_are_both_named() {
        let gone = Evidence { process: Process::Gone, checks_failed: 2, ..Evidence::default() };
        let full = Evidence { disk_share: Some(1.0), error_share: Some(1.0), ..calm() };
        let diagnosis = diagnose(&services(&[("store", gone), ("search", full)]), &graph());
        let first = diagnosis.next(0.8, |_| false).unwrap();
        let second = diagnosis.next(0.8, |candidate| candidate == first).unwrap();
        let mut causes = [first.cause, second.cause];
        causes.sort();
        assert_eq!(causes, [Cause::ProcessDown, Cause::DiskFull]);
    }

    #[test]
    fn of_two_ill_services_the_one_that_is_called_comes_first() {
        let gone = Evidence { process: Process::Gone, checks_failed: 3, ..Evidence::default() };
        let slow = Evidence { latency_ratio: Some(30.0), ..calm() };
        let diagnosis = diagnose(&services(&[("shop", gone), ("store", slow)]), &graph());
        let services: Vec<&str> = diagnosis.candidates.iter().map(|candidate| candidate.service.as_str()).collect();
        assert_eq!(services[..2], ["store", "shop"], "{diagnosis:?}");
    }

    #[test]
    fn a_fleet_that_is_calm_has_no_cause() {
        let diagnosis = diagnose(&services(&[]), &graph());
        assert!(diagnosis.inconclusive && diagnosis.next(0.5, |_| false).is_none(), "{diagnosis:?}");
        assert!(diagnose(&BTreeMap::new(), &graph()).inconclusive);
    }

    #[test]
    fn failures_that_add_up_on_their_way_are_of_the_one_that_is_called() {
        let failing = |share| Evidence { error_share: Some(share), error_usual: Some(0.0), ..calm() };
        let ill = services(&[("store", failing(0.12)), ("orders", failing(0.25)), ("shop", failing(0.4))]);
        let diagnosis = diagnose(&ill, &graph());
        let first = diagnosis.next(0.8, |_| false).unwrap();
        assert_eq!((first.service.as_str(), first.cause), ("store", Cause::Errors), "{diagnosis:?}");
        let others = diagnosis.next(0.5, |candidate| candidate.service == "store");
        assert_eq!(others, None, "{diagnosis:?}");
        let own = services(&[("store", failing(0.06)), ("shop", failing(0.8))]);
        let diagnosis = diagnose(&own, &graph());
        assert_eq!(diagnosis.next(0.8, |_| false).unwrap().service, "shop", "so few cannot make so many");
        let chance = services(&[("store", failing(0.02)), ("orders", failing(0.25))]);
        assert_eq!(diagnose(&chance, &graph()).next(0.8, |_| false).unwrap().service, "orders", "that is chance");
    }

    #[test]
    fn the_ranking_of_metrics_decides_between_alike_services() {
        let slow = |share| Evidence { latency_ratio: Some(4.0), rank_share: Some(share), ..calm() };
        let diagnosis = diagnose(&services(&[("search", slow(0.9)), ("store", slow(0.05))]), &graph());
        let of = |service: &str| diagnosis.candidates.iter().find(|candidate| candidate.service == service).unwrap();
        assert!(of("search").probability > of("store").probability);
    }
}
