//! Alarms that belong together, and whether calm days explain them.
//!
//! Alarms are of one group when they follow each other within a gap and their services are the same or call each other.
//!
//! **Formula.** m series are watched, each judged n times a day; the group lasted w judgements. The strongest alarms of k of
//! its series have the product π of their p-values. Calm series show k that coincide with this product or less at most
//! Λₖ = n·m · (m·w)^(k−1) · π·Σ_{j<k} ln(1/π)ʲ/j! times a day: so many choices of k there are, times the chance that k uniform
//! numbers have such a product (alarms of calm series taken as independent). This is asked of each service with its own
//! series and of all of them together. The group is an incident when 2·2ᵏ·Λₖ for some k ≤ 8 is within what the budget allows
//! those m series a day: a weak alarm alone never is, some that meet are, and a very strong one is by itself.
//!
//! **Invariant:** the order of alarms does not matter, and no alarm makes a group look calmer.

use std::collections::{BTreeMap, BTreeSet};

use super::alarm::{Alarm, Kind};
use super::budget::{Budget, DAY_US};
use super::graph::Graph;

/// The most series of a coincidence.
const SERIES_MAX: usize = 8;
/// The most alarms that are grouped at once; the earliest are left out.
pub const ALARMS_MAX: usize = 20_000;

/// A series' name: service, metric and labels.
type Name = (String, String, BTreeMap<String, String>);

/// Alarms that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The first alarm's time.
    pub first_us: i64,
    /// The last alarm's time.
    pub last_us: i64,
    /// The services that gave alarms.
    pub services: BTreeSet<String>,
    /// Alarms in it; all but one of a series are repetitions.
    pub alarms: usize,
    /// Whether a check failed.
    pub has_check: bool,
    /// Each series' least probability.
    strongest: BTreeMap<Name, f64>,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// How many series each service has.
    pub series: BTreeMap<String, usize>,
    /// Time between two judgements of a series.
    pub step_us: i64,
}

impl Group {
    fn of(alarm: &Alarm) -> Self {
        let name = (alarm.service.clone(), alarm.metric.clone(), alarm.labels.clone());
        Self {
            first_us: alarm.at_us,
            last_us: alarm.at_us,
            services: BTreeSet::from([alarm.service.clone()]),
            alarms: 1,
            has_check: alarm.kind == Kind::Check,
            strongest: BTreeMap::from([(name, alarm.probability())]),
        }
    }

    fn take(&mut self, other: Self) {
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
        self.services.extend(other.services);
        self.alarms += other.alarms;
        self.has_check |= other.has_check;
        for (name, p) in other.strongest {
            self.strongest.entry(name).and_modify(|known| *known = known.min(p)).or_insert(p);
        }
    }

    /// Whether a service's alarm at a time belongs to it.
    pub fn takes(&self, service: &str, at_us: i64, graph: &Graph, gap_us: i64) -> bool {
        let in_time = at_us >= self.first_us.saturating_sub(gap_us) && at_us <= self.last_us.saturating_add(gap_us);
        in_time && self.services.iter().any(|own| graph.near(own, service))
    }

    /// How many alarms repeated others of their series.
    pub fn repetitions(&self) -> usize {
        self.alarms - self.strongest.len()
    }

    /// How many decades its coincidences are rarer than the budget allows; an incident where not below 0.
    pub fn decades(&self, watch: &Watch, budget: &Budget) -> f64 {
        let step_us = watch.step_us.max(1);
        let judged = Judged { per_day: DAY_US / step_us as f64, lasted: (self.last_us - self.first_us) / step_us + 1 };
        let series = |service: &String| watch.series.get(service).copied().unwrap_or_default();
        let of = |services: &mut dyn Iterator<Item = &String>, only: Option<&String>| {
            let wanted = self.strongest.iter().filter(|((own, ..), _)| only.is_none_or(|only| only == own));
            let probabilities: Vec<f64> = wanted.map(|(_, p)| *p).collect();
            let watched = services.map(series).sum::<usize>().max(probabilities.len());
            judged.decades(probabilities, watched, budget)
        };
        let together = of(&mut self.services.iter(), None);
        let apart = self.services.iter().map(|service| of(&mut std::iter::once(service), Some(service)));
        apart.fold(together, f64::max) - 2f64.log10()
    }

    /// Whether calm days do not explain it.
    pub fn is_incident(&self, watch: &Watch, budget: &Budget) -> bool {
        self.decades(watch, budget) >= 0.0
    }
}

/// How often series are judged, and how often while a group lasted.
struct Judged {
    per_day: f64,
    lasted: i64,
}

impl Judged {
    /// How many decades alarms of these probabilities among so many series are rarer than allowed.
    fn decades(&self, mut probabilities: Vec<f64>, series: usize, budget: &Budget) -> f64 {
        probabilities.sort_by(f64::total_cmp);
        let series = series as f64;
        let mut most = f64::NEG_INFINITY;
        let (mut product, mut choices) = (1.0, self.per_day * series);
        for (k, p) in probabilities.iter().enumerate().take(SERIES_MAX) {
            product *= p;
            choices *= if k == 0 { 1.0 } else { series * self.lasted as f64 };
            let false_per_day = 2f64.powi(k as i32 + 1) * choices * product_tail(product, k + 1);
            most = most.max((budget.per_series_day * series / false_per_day).log10());
        }
        most
    }
}

/// The chance that `count` independent uniform numbers have this product or less.
fn product_tail(product: f64, count: usize) -> f64 {
    let far = -product.ln();
    let (mut term, mut sum) = (1.0, 0.0);
    for j in 0..count {
        sum += term;
        term *= far / (j + 1) as f64;
    }
    (product * sum).min(1.0)
}

/// The groups of alarms, by the time of their first.
pub fn groups(alarms: &[Alarm], graph: &Graph, gap_us: i64) -> Vec<Group> {
    let mut sorted: Vec<&Alarm> = alarms.iter().collect();
    sorted.sort_by(|a, b| (a.at_us, &a.service, &a.metric).cmp(&(b.at_us, &b.service, &b.metric)));
    let mut groups: Vec<Group> = Vec::new();
    for alarm in &sorted[sorted.len().saturating_sub(ALARMS_MAX)..] {
        let mut own = Group::of(alarm);
        let (joined, apart): (Vec<Group>, Vec<Group>) =
            groups.into_iter().partition(|group| group.takes(&alarm.service, alarm.at_us, graph, gap_us));
        groups = apart;
        joined.into_iter().for_each(|group| own.take(group));
        groups.push(own);
    }
    groups.sort_by(|a, b| (a.first_us, &a.services).cmp(&(b.first_us, &b.services)));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn alarm(service: &str, metric: &str, second: i64, p_value: f64) -> Alarm {
        let labels = BTreeMap::new();
        let (service, metric) = (service.to_owned(), metric.to_owned());
        Alarm { service, metric, labels, at_us: second * SECOND_US, p_value, kind: Kind::Point }
    }

    fn watch() -> Watch {
        let series = ["shop", "orders", "store", "search", "index"].map(|service| (service.to_owned(), 6)).into();
        Watch { series, step_us: SECOND_US }
    }

    fn graph() -> Graph {
        Graph::new([("shop", "orders"), ("orders", "store"), ("search", "index")])
    }

    #[test]
    fn alarms_join_along_calls_and_within_the_gap_whatever_their_order() {
        let mut alarms = vec![
            alarm("shop", "latency", 3, 1e-6),
            alarm("store", "latency", 1, 1e-6),
            alarm("orders", "latency", 2, 1e-6),
            alarm("orders", "latency", 3, 1e-4),
            alarm("index", "errors", 2, 1e-6),
            alarm("store", "latency", 60, 1e-6),
        ];
        let forward = groups(&alarms, &graph(), 10 * SECOND_US);
        alarms.reverse();
        assert_eq!(forward, groups(&alarms, &graph(), 10 * SECOND_US));
        let services: Vec<Vec<&str>> =
            forward.iter().map(|group| group.services.iter().map(String::as_str).collect()).collect();
        assert_eq!(services, [vec!["orders", "shop", "store"], vec!["index"], vec!["store"]]);
        assert_eq!(forward[0].repetitions(), 1);
    }

    #[test]
    fn one_weak_alarm_is_no_incident_some_that_meet_are_and_one_strong_is() {
        let budget = Budget::of(0.8).unwrap();
        let incident = |alarms: &[Alarm]| groups(alarms, &graph(), 10 * SECOND_US)[0].is_incident(&watch(), &budget);
        assert!(!incident(&[alarm("shop", "latency", 1, 1e-6)]));
        assert!(!incident(&[alarm("shop", "latency", 1, 1e-6), alarm("shop", "latency", 2, 1e-6)]), "one series");
        assert!(incident(&[alarm("shop", "latency", 1, 1e-6), alarm("shop", "errors", 2, 1e-6)]));
        assert!(incident(&[alarm("shop", "latency", 1, 1e-10)]));
        assert!(!incident(&[alarm("shop", "latency", 1, f64::NAN)]));
    }

    #[test]
    fn calm_alarms_give_no_more_incidents_than_the_budget() {
        // Alarms of p-value u for uniform u at every judgement of 12 series: what a calm day is by definition.
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut alarms = Vec::new();
        for second in 0..86_400 {
            for series in 0..12 {
                let p = next();
                if p < 3e-3 {
                    let service = if series < 6 { "shop" } else { "orders" };
                    alarms.push(alarm(service, &format!("m{series}"), second, p));
                }
            }
        }
        let budget = Budget { per_series_day: 1.0 };
        let groups = groups(&alarms, &graph(), 5 * SECOND_US);
        let incidents = groups.iter().filter(|group| group.is_incident(&watch(), &budget)).count();
        assert!((1..=12).contains(&incidents), "{incidents} incidents where 12 are allowed");
    }

    #[test]
    fn more_alarms_never_look_calmer() {
        let budget = Budget::of(0.8).unwrap();
        let decades = |alarms: &[Alarm]| groups(alarms, &graph(), SECOND_US)[0].decades(&watch(), &budget);
        let one = alarm("shop", "a", 1, 1e-5);
        assert!(decades(&[one.clone(), alarm("shop", "b", 1, 0.9)]) >= decades(&[one]));
    }

    #[test]
    fn the_chance_of_a_product_meets_its_closed_forms() {
        assert!((product_tail(0.05, 1) - 0.05).abs() < 1e-12);
        assert!((product_tail(0.05, 2) - 0.05 * (1.0 - 0.05f64.ln())).abs() < 1e-12);
        assert_eq!(product_tail(1.0, 5), 1.0);
    }
}
