//! The ranking of metrics: one of the kernel `explain_away` for each symptom, made to one.
//!
//! **Formula.** Each symptom s gives the metrics that it may come from shares of 1. A service's share is
//! P ∝ exp(mean of ln max(its share given s, 1/100)) over the symptoms that can judge it: all but those that it shows itself,
//! as a symptom ranks what its service calls (a logarithmic pool: symptoms of one incident are no independent witnesses, so that
//! two that say the same are no surer than one). Within a service, metrics have the shares that all symptoms gave them together.
//! A symptom that no other metric can explain says nothing; where all of them are such, metrics are ranked without symptoms.
//!
//! **Paper.** Genest and Zidek, *Combining Probability Distributions*, Statistical Science 1986 (logarithmic pools).
//!
//! **Invariant:** one symptom alone is ranked as the kernel ranks it; the order of symptoms changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::asked::Asked;
use super::telemetry::literal;
use crate::operation::{Refusal, Refused};
use crate::session::{Invocation, rfc3339};
use crate::{Error, Result};

/// Metrics of one ranking; what comes after them is as good as impossible.
const RANKED_MAX: usize = 2_000;
/// No symptom makes a service less probable than this.
const SHARE_MIN: f64 = 0.01;

/// A metric that may be the cause.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranked {
    pub(super) service: String,
    pub(super) metric: String,
    pub(super) score: f64,
    pub(super) probability: f64,
    pub(super) before: f64,
    pub(super) during: f64,
    /// None where it is no number: it moved from nothing.
    pub(super) deviation: Option<f64>,
    /// None where there is nothing that it could have moved with.
    pub(super) correlation: Option<f64>,
}

impl Ranked {
    fn of(row: &Map<String, Value>) -> Self {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| row[name].as_f64().unwrap_or_default();
        Self {
            service: text("service"),
            metric: text("metric"),
            score: number("score"),
            probability: number("probability"),
            before: number("before"),
            during: number("during"),
            deviation: row["deviation"].as_f64(),
            correlation: row["correlation"].as_f64(),
        }
    }
}

/// The metrics that may be the cause, most probable first.
pub(super) async fn causes(
    invocation: &Invocation,
    asked: &Asked,
    rows: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<Ranked>> {
    let mut rankings = Vec::new();
    for (at, symptom) in asked.symptoms.iter().enumerate() {
        let (service, metric) = symptom;
        let ranking = rank(invocation, asked, rows, Some((at, symptom))).await?;
        if ranking.is_empty() {
            warnings.push(format!("nothing else can explain {metric} of {service}: it was left out"));
        } else {
            rankings.push((service.as_str(), ranking));
        }
        invocation.progress(0.5 * (at + 1) as f64 / asked.symptoms.len() as f64).await?;
    }
    match rankings.is_empty() {
        true => rank(invocation, asked, rows, None).await,
        false => Ok(pooled(rankings)),
    }
}

async fn rank(
    invocation: &Invocation,
    asked: &Asked,
    rows: &str,
    symptom: Option<(usize, &(String, String))>,
) -> Result<Vec<Ranked>> {
    let mut call = format!(
        "({rows}), 'value', service => 'service', metric => 'metric', since => '{}', until => '{}'",
        rfc3339(asked.from_us),
        rfc3339(asked.to_us)
    );
    if let Some(calls) = invocation.session.calls_table() {
        call.push_str(&format!(", calls => '{calls}'"));
    }
    if let Some((_, (service, metric))) = symptom {
        let (service, metric) = (literal(service), literal(metric));
        call.push_str(&format!(", symptom_service => {service}, symptom_metric => {metric}"));
    }
    let sql = format!("SELECT * FROM diagnose({call}) ORDER BY rank LIMIT {RANKED_MAX}");
    let at = symptom.map_or_else(|| "/window".to_owned(), |(at, _)| format!("/symptoms/{at}"));
    let ranked = invocation.session.objects(&sql, &[]).await.map_err(|error| match error {
        Error::InvalidArgument(text) => Refusal::new(Refused::NoTelemetry, text).at(&at).into(),
        other => other,
    })?;
    Ok(ranked.iter().map(Ranked::of).collect())
}

/// One ranking of those of several symptoms, each with the service that shows it.
fn pooled(mut rankings: Vec<(&str, Vec<Ranked>)>) -> Vec<Ranked> {
    if rankings.len() == 1 {
        return rankings.pop().map(|(_, ranking)| ranking).unwrap_or_default();
    }
    let shares: Vec<(&str, BTreeMap<&str, f64>)> =
        rankings.iter().map(|(shown_by, ranking)| (*shown_by, services(ranking))).collect();
    let named: BTreeSet<&str> = shares.iter().flat_map(|(_, shares)| shares.keys().copied()).collect();
    let weights: BTreeMap<&str, f64> = named.into_iter().map(|service| (service, weight(service, &shares))).collect();
    let all: f64 = weights.values().sum();
    let mut metrics: BTreeMap<(&str, &str), Ranked> = BTreeMap::new();
    let mut given: BTreeMap<&str, f64> = BTreeMap::new();
    for one in rankings.iter().flat_map(|(_, ranking)| ranking) {
        *given.entry(one.service.as_str()).or_default() += one.probability;
        let known = metrics.entry((one.service.as_str(), one.metric.as_str()));
        known
            .and_modify(|known| {
                let probability = known.probability + one.probability;
                if one.score > known.score {
                    known.clone_from(one);
                }
                known.probability = probability;
            })
            .or_insert_with(|| one.clone());
    }
    let mut pooled: Vec<Ranked> = metrics.into_values().collect();
    for one in &mut pooled {
        let service = one.service.as_str();
        // What no symptom gives any share has none to be divided.
        let own = if given[service] > 0.0 { one.probability / given[service] } else { 0.0 };
        one.probability = own * weights[service] / all;
    }
    pooled.sort_by(|a, b| {
        let names = (&a.service, &a.metric).cmp(&(&b.service, &b.metric));
        b.probability.total_cmp(&a.probability).then(names)
    });
    pooled
}

/// The services of a ranking with their shares.
fn services(ranking: &[Ranked]) -> BTreeMap<&str, f64> {
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for one in ranking {
        *shares.entry(one.service.as_str()).or_default() += one.probability;
    }
    shares
}

/// How probable the symptoms that can judge a service make it.
fn weight(service: &str, symptoms: &[(&str, BTreeMap<&str, f64>)]) -> f64 {
    let judges = symptoms.iter().filter(|(shown_by, _)| *shown_by != service);
    let logarithms: Vec<f64> =
        judges.map(|(_, shares)| shares.get(service).copied().unwrap_or(0.0).max(SHARE_MIN).ln()).collect();
    (logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(service: &str, metric: &str, probability: f64) -> Ranked {
        Ranked {
            service: service.into(),
            metric: metric.into(),
            score: probability,
            probability,
            before: 1.0,
            during: 2.0,
            deviation: Some(3.0),
            correlation: Some(0.0),
        }
    }

    fn first(rankings: Vec<(&str, Vec<Ranked>)>) -> (String, f64) {
        let pooled = pooled(rankings);
        assert!((pooled.iter().map(|one| one.probability).sum::<f64>() - 1.0).abs() < 1e-9, "{pooled:?}");
        (pooled[0].service.clone(), pooled[0].probability)
    }

    #[test]
    fn what_is_not_known_is_not_told_as_nothing() {
        let row = |unknown: Value| {
            let row = serde_json::json!({
                "service": "store", "metric": "latency", "score": 1.0, "probability": 0.5, "before": 1.0, "during": 2.0,
                "deviation": unknown, "correlation": unknown,
            });
            Ranked::of(row.as_object().expect("an object"))
        };
        let (unknown, known) = (row(Value::Null), row(Value::from(0.5)));
        assert_eq!((unknown.deviation, unknown.correlation), (None, None));
        assert_eq!((known.deviation, known.correlation), (Some(0.5), Some(0.5)));
    }

    #[test]
    fn one_symptom_is_ranked_as_it_is_and_two_that_agree_are_no_surer() {
        let ranking = || vec![ranked("store", "latency", 0.8), ranked("mail", "latency", 0.2)];
        assert_eq!(pooled(vec![("shop", ranking())]), ranking());
        let (service, probability) = first(vec![("shop", ranking()), ("site", ranking())]);
        assert!(service == "store" && (probability - 0.8).abs() < 1e-9, "{probability}");
    }

    #[test]
    fn what_explains_all_symptoms_comes_before_what_explains_one_better() {
        let shop = || ("shop", vec![ranked("mail", "latency", 0.85), ranked("store", "latency", 0.15)]);
        let site = || ("site", vec![ranked("store", "latency", 1.0)]);
        assert_eq!(first(vec![shop(), site()]).0, "store");
        assert_eq!(first(vec![site(), shop()]), first(vec![shop(), site()]), "whatever their order");
    }

    #[test]
    fn what_shows_a_symptom_itself_is_not_judged_by_it() {
        let shop = ("shop", vec![ranked("cart", "latency", 0.9), ranked("store", "latency", 0.1)]);
        let cart = ("cart", vec![ranked("store", "latency", 1.0)]);
        assert_eq!(first(vec![shop, cart]).0, "cart");
    }

    #[test]
    fn metrics_of_a_service_share_what_it_has() {
        let errors = vec![ranked("store", "errors", 1.0)];
        let latency = vec![ranked("store", "latency", 0.5), ranked("mail", "latency", 0.5)];
        let pooled = pooled(vec![("shop", errors), ("site", latency)]);
        let of = |metric: &str| pooled.iter().find(|one| one.service == "store" && one.metric == metric).unwrap();
        assert!((of("errors").probability / of("latency").probability - 2.0).abs() < 1e-9, "{pooled:?}");
    }
}
