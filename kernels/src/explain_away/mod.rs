//! Root causes ranked: how far each metric moved, less what the metrics that could have moved it explain.
//!
//! **Formula.** A metric has values before and during an incident; μ and s are mean and deviation before, ν the mean during.
//! 1. *Evidence.* Without a symptom E = ln(1 + max|x − μ| / (s + |μ|/100)) over the values x during. With a symptom, a metric
//!    that stands for what was noticed, candidates are the metrics of its name in other services that it reaches by calls
//!    (all others where no calls are known), and E = ln(1 + max(0, ±(ν − μ)/|μ|)) with the sign of the symptom's move: a
//!    delay or a failure rate travels up the calls in its own unit.
//! 2. *Explaining away.* score = E − ½·max E of what may have caused it: metrics of less depth in its own service (memory
//!    before processor, processor before latency), and, where calls are known, metrics of the same name in the services it
//!    calls.
//! 3. With a symptom, + 3·max(0, correlation with the symptom during the incident).
//! 4. *Probability.* The share of e^(score/T): T = 0.3 without and 0.15 with a symptom.
//!
//! **Where the constants come from.** ½, the evidence and T without a symptom: repetitions 1 and 2 of the Sock Shop cases of RCD;
//! 3 and T with a symptom: the training issues of PetShop. Both were then left as they are.
//!
//! **Missing values.** NaN and infinite values are left out. A metric with fewer than 4 values before, or none during, is no
//! candidate and explains nothing; no candidate gives no causes. Deviations of a metric that never moved are measured against
//! a hundredth of its mean. A correlation needs 3 common values and counts 0 without.
//!
//! **Order of reduction.** Sums over a metric's values in time order; causes of equal score keep the order of metrics.
//!
//! **Twins.** The CUDA twin sums up how each metric moved; the host ranks. Tolerance between the twins: none, they agree bit
//! by bit.
//!
//! **Papers.** Pham et al., *BARO: Robust Root Cause Analysis for Microservices*, FSE 2024 (deviations of metrics);
//! Hardt et al., *The PetShop Dataset*, CLeaR 2024 (graph traversal); Pearl, *Probabilistic Reasoning in Intelligent Systems*, 1988
//! (explaining away).
//!
//! **Invariant:** a pure function; knows services and names as numbers only.

#[cfg(test)]
mod calibration;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Device, Error, Result, Series, lanes};

/// What of a metric's cause's evidence is taken off its own.
const EXPLAINED: f64 = 0.5;
/// What a correlation of 1 with the symptom counts.
const CORRELATED: f64 = 3.0;
/// The score that makes a cause e times as probable, without a symptom and with one.
const TEMPERATURES: (f64, f64) = (0.3, 0.15);
/// The deviation that any metric has, as a share of its mean.
const DEVIATION_SHARE: f64 = 0.01;
/// The fewest values before an incident that tell what is normal.
const BEFORE_MIN: usize = 4;
/// The fewest common values that correlate.
const COMMON_MIN: usize = 3;

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The service it belongs to.
    pub service: usize,
    /// Its name: equal numbers are metrics of one name in several services.
    pub name: usize,
    /// How far from the ground: metrics of less depth move those of more in the same service.
    pub depth: u8,
}

/// An incident.
#[derive(Clone, Copy, Debug)]
pub struct Incident<'a> {
    /// The metrics.
    pub metrics: &'a [Metric],
    /// Each metric's values before the incident.
    pub before: Series<'a>,
    /// Each metric's values during the incident; with a symptom, equally many, value k of each of the same time.
    pub during: Series<'a>,
    /// Which service calls which.
    pub calls: &'a [(usize, usize)],
    /// Which metric showed the incident.
    pub symptom: Option<usize>,
}

/// A possible cause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cause {
    /// The metric's place.
    pub metric: usize,
    /// What is left of its evidence; causes are in falling order of it.
    pub score: f64,
    /// The probability that it is the cause, given that one of the candidates is.
    pub probability: f64,
    /// Its mean before the incident.
    pub before: f64,
    /// Its mean during the incident.
    pub during: f64,
    /// How far it went from its mean, in deviations.
    pub deviation: f64,
    /// Its correlation with the symptom during the incident; 0 without a symptom.
    pub correlation: f64,
}

/// Ranks the possible causes of an incident.
///
/// # Errors
/// [`Error::Shape`] when metrics, their values and the symptom do not fit each other.
pub fn rank(device: &Device, incident: &Incident) -> Result<Vec<Cause>> {
    check(incident)?;
    let count = incident.metrics.len();
    let moves = moves(device, incident)?;
    let sign = incident.symptom.and_then(|symptom| moves[symptom]).map(|moved| (moved.during - moved.before).signum());
    let evidence: Vec<f64> =
        moves.iter().map(|moved| moved.as_ref().map_or(0.0, |moved| moved.evidence(incident, sign))).collect();
    let reached = reached(incident);
    let mut causes: Vec<Cause> = (0..count)
        .filter(|i| is_candidate(incident, *i, &reached))
        .filter_map(|i| moves[i].map(|moved| (i, moved)))
        .map(|(i, moved)| {
            let score =
                evidence[i] - EXPLAINED * explained(incident, i, &evidence) + CORRELATED * moved.correlation.max(0.0);
            let Move { before, during, deviation, correlation } = moved;
            Cause { metric: i, score, probability: 0.0, before, during, deviation, correlation }
        })
        .collect();
    causes.sort_by(|a, b| b.score.total_cmp(&a.score));
    weigh(&mut causes, if incident.symptom.is_some() { TEMPERATURES.1 } else { TEMPERATURES.0 });
    Ok(causes)
}

/// How every metric moved.
fn moves(device: &Device, incident: &Incident) -> Result<Vec<Option<Move>>> {
    #[cfg(feature = "cuda")]
    if let Some(moves) = device.offload("explain_away", |gpu| cuda::moves(device, gpu, incident))? {
        return Ok(moves);
    }
    lanes::map(device, incident.metrics.len(), || (), |(), i| Move::of(incident, i))
}

fn check(incident: &Incident) -> Result<()> {
    let Incident { metrics, before, during, symptom, .. } = incident;
    if before.len() != metrics.len() || during.len() != metrics.len() {
        let (before, during) = (before.len(), during.len());
        let text = format!("{} metrics with {before} series before and {during} during the incident", metrics.len());
        return Err(Error::Shape(text));
    }
    let Some(symptom) = symptom else { return Ok(()) };
    if *symptom >= metrics.len() {
        return Err(Error::Shape(format!("the symptom is metric {symptom} of {}", metrics.len())));
    }
    let length = during.get(*symptom).len();
    match (0..metrics.len()).find(|i| during.get(*i).len() != length) {
        Some(other) => {
            let values = during.get(other).len();
            let text = format!("metric {other} has {values} values during the incident, the symptom {length}");
            Err(Error::Shape(text))
        }
        None => Ok(()),
    }
}

/// How a metric moved.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Move {
    before: f64,
    during: f64,
    deviation: f64,
    correlation: f64,
}

impl Move {
    /// None where there are too few values.
    fn of(incident: &Incident, i: usize) -> Option<Self> {
        let known = |values: &[f64]| values.iter().copied().filter(|value| value.is_finite()).collect::<Vec<_>>();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (before, during) = (known(incident.before.get(i)), known(incident.during.get(i)));
        if before.len() < BEFORE_MIN || during.is_empty() {
            return None;
        }
        let center = mean(&before);
        let variance = before.iter().map(|value| (value - center).powi(2)).sum::<f64>() / before.len() as f64;
        let farthest = during.iter().map(|value| (value - center).abs()).fold(0.0, f64::max);
        let correlation = incident.symptom.map_or(0.0, |symptom| {
            let is_symptom = symptom == i;
            let other = incident.during.get(symptom);
            if is_symptom { 1.0 } else { correlation(incident.during.get(i), other) }
        });
        Some(Self {
            before: center,
            during: mean(&during),
            deviation: farthest / (variance.sqrt() + DEVIATION_SHARE * center.abs() + f64::MIN_POSITIVE),
            correlation,
        })
    }

    fn evidence(&self, incident: &Incident, sign: Option<f64>) -> f64 {
        let evidence = match (incident.symptom, sign) {
            (Some(_), sign) => {
                let relative = (self.during - self.before) / (self.before.abs() + f64::MIN_POSITIVE);
                (sign.unwrap_or(1.0) * relative).max(0.0).ln_1p()
            }
            (None, _) => self.deviation.ln_1p(),
        };
        // What moved from nothing is infinitely far, or was not a number to begin with.
        if evidence.is_nan() { 0.0 } else { evidence.min(EVIDENCE_MAX) }
    }
}

/// No evidence is larger.
const EVIDENCE_MAX: f64 = 50.0;

/// Pearson's correlation over the values that both have.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let common: Vec<(f64, f64)> =
        a.iter().zip(b).filter(|(a, b)| a.is_finite() && b.is_finite()).map(|(a, b)| (*a, *b)).collect();
    if common.len() < COMMON_MIN {
        return 0.0;
    }
    let count = common.len() as f64;
    let (a, b) = common.iter().fold((0.0, 0.0), |sum, (a, b)| (sum.0 + a / count, sum.1 + b / count));
    let (mut of_a, mut of_b, mut of_both) = (0.0, 0.0, 0.0);
    for (x, y) in common {
        of_a += (x - a) * (x - a);
        of_b += (y - b) * (y - b);
        of_both += (x - a) * (y - b);
    }
    let product = of_a.sqrt() * of_b.sqrt();
    if product > 0.0 && product.is_finite() { (of_both / product).clamp(-1.0, 1.0) } else { 0.0 }
}

/// The services that the symptom's service reaches by calls, sorted; none where no calls are known or there is no symptom.
fn reached(incident: &Incident) -> Option<Vec<usize>> {
    let symptom = incident.symptom?;
    if incident.calls.is_empty() {
        return None;
    }
    let mut reached = std::collections::BTreeSet::new();
    let mut waiting = vec![incident.metrics[symptom].service];
    while let Some(service) = waiting.pop() {
        let called = incident.calls.iter().filter(|(caller, _)| *caller == service).map(|(_, callee)| *callee);
        waiting.extend(called.filter(|callee| reached.insert(*callee)));
    }
    Some(reached.into_iter().collect())
}

fn is_candidate(incident: &Incident, i: usize, reached: &Option<Vec<usize>>) -> bool {
    let Some(symptom) = incident.symptom.map(|symptom| incident.metrics[symptom]) else { return true };
    let metric = incident.metrics[i];
    metric.name == symptom.name
        && metric.service != symptom.service
        && reached.as_ref().is_none_or(|reached| reached.binary_search(&metric.service).is_ok())
}

/// The most evidence of a metric that may have moved metric `i`.
fn explained(incident: &Incident, i: usize, evidence: &[f64]) -> f64 {
    let own = incident.metrics[i];
    let calls = |callee: usize| callee != own.service && incident.calls.contains(&(own.service, callee));
    let may_cause = |other: &Metric| {
        let below = other.service == own.service && other.depth < own.depth;
        if incident.symptom.is_some() {
            other.name == own.name && calls(other.service)
        } else {
            below || (other.name == own.name && calls(other.service))
        }
    };
    let causes = incident.metrics.iter().zip(evidence).filter(|(other, _)| may_cause(other));
    causes.map(|(_, evidence)| *evidence).fold(0.0, f64::max)
}

/// Gives each cause its share of the probability.
fn weigh(causes: &mut [Cause], temperature: f64) {
    let Some(top) = causes.first().map(|cause| cause.score) else { return };
    let weight = |cause: &Cause| ((cause.score - top) / temperature).exp();
    let all: f64 = causes.iter().map(weight).sum();
    for cause in causes {
        cause.probability = weight(cause) / all;
    }
}
