//! The rows of an incident on their way to the kernel: metrics by name, cut where it began, laid side by side in time.
//!
//! **Invariant:** metrics and services are numbered in the order of their names, whatever order rows come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
use datafusion::common::Result;
use juno_kernels::explain_away::{self, Cause, Metric, rank};
use juno_kernels::{Device, Series};

use crate::functions::launches;
use crate::functions::points::Point;
use crate::functions::refusal::invalid;

/// Parts of names of metrics that move others of their service: what fills up.
const STOCKS: [&str; 7] = ["mem", "heap", "rss", "disk", "swap", "inode", "file_desc"];
/// What is moved by those, and moves the rest.
const RATES: [&str; 5] = ["cpu", "load", "thread", "gc", "util"];

/// When an incident was, in microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) since: i64,
    pub(super) until: i64,
}

/// Service and metric.
type Name = (String, String);

/// What was taken in.
#[derive(Debug)]
pub(super) struct Incident {
    window: Window,
    symptom: Option<Name>,
    metrics: BTreeMap<Name, Vec<Point>>,
    calls: BTreeSet<(String, String)>,
    points: usize,
}

/// A cause with its names.
pub(super) struct Found {
    pub(super) service: String,
    pub(super) metric: String,
    pub(super) cause: Cause,
}

impl Incident {
    pub(super) fn new(window: Window, symptom: Option<Name>) -> Self {
        Self { window, symptom, metrics: BTreeMap::new(), calls: BTreeSet::new(), points: 0 }
    }

    pub(super) fn call(&mut self, caller: &str, callee: &str) {
        self.calls.insert((caller.to_owned(), callee.to_owned()));
    }

    pub(super) fn point(&mut self, service: &str, metric: &str, point: Point) {
        self.points += 1;
        self.metrics.entry((service.to_owned(), metric.to_owned())).or_default().push(point);
    }

    pub(super) fn points(&self) -> usize {
        self.points
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.points * size_of::<Point>() + (self.metrics.len() + self.calls.len()) * 2 * size_of::<Name>()
    }

    /// All rows, as columns, and how many there are.
    pub(super) fn columns(&self) -> (Vec<ArrayRef>, usize) {
        let points = || self.metrics.iter().flat_map(|(name, points)| points.iter().map(move |point| (name, point)));
        let calls = || self.calls.iter();
        let none = |_: &(String, String)| None;
        let services = points().map(|(name, _)| &name.0).chain(calls().map(|call| &call.0));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(
                points()
                    .map(|(_, point)| Some(point.0))
                    .chain(calls().map(|_| None))
                    .collect::<TimestampMicrosecondArray>(),
            ),
            Arc::new(services.map(Some).collect::<StringArray>()),
            Arc::new(points().map(|(name, _)| Some(name.1.as_str())).chain(calls().map(none)).collect::<StringArray>()),
            Arc::new(points().map(|(_, point)| Some(point.1)).chain(calls().map(|_| None)).collect::<Float64Array>()),
            Arc::new(points().map(|_| None).chain(calls().map(|call| Some(call.1.as_str()))).collect::<StringArray>()),
        ];
        (columns, self.points + self.calls.len())
    }

    /// The causes, most probable first.
    pub(super) fn causes(&self, device: &Device) -> Result<Vec<Found>> {
        let failed = |error: juno_kernels::Error| invalid(format!("diagnose: {error}"));
        let names: Vec<&Name> = self.metrics.keys().collect();
        let symptom = self.symptom.as_ref().map(|symptom| self.symptom(symptom, &names)).transpose()?;
        let (before, before_offsets) = self.before();
        let (during, during_offsets) = self.during();
        let (metrics, calls) = self.numbered(&names);
        let incident = explain_away::Incident {
            metrics: &metrics,
            before: Series::new(&before, &before_offsets).map_err(failed)?,
            during: Series::new(&during, &during_offsets).map_err(failed)?,
            calls: &calls,
            symptom,
        };
        let causes = rank(device, &incident).map_err(failed)?;
        launches::count(1, metrics.len());
        let found = |cause: Cause| {
            let (service, metric) = names[cause.metric].clone();
            Found { service, metric, cause }
        };
        Ok(causes.into_iter().map(found).collect())
    }

    fn symptom(&self, symptom: &Name, names: &[&Name]) -> Result<usize> {
        names.iter().position(|name| *name == symptom).ok_or_else(|| {
            let (service, metric) = symptom;
            invalid(format!("diagnose finds no values of the symptom, metric '{metric}' of service '{service}'"))
        })
    }

    /// The values before the incident, in time order.
    fn before(&self) -> (Vec<f64>, Vec<usize>) {
        let (mut values, mut offsets) = (Vec::new(), vec![0]);
        for points in self.metrics.values() {
            let mut before: Vec<&Point> = points.iter().filter(|point| point.0 < self.window.since).collect();
            before.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            values.extend(before.iter().map(|point| point.1));
            offsets.push(values.len());
        }
        (values, offsets)
    }

    /// The values during the incident: one for every time that any metric has, NaN where it has none.
    fn during(&self) -> (Vec<f64>, Vec<usize>) {
        let Window { since, until } = self.window;
        let is_during = |point: &&Point| (since..until).contains(&point.0);
        let times: BTreeSet<i64> = self.metrics.values().flatten().filter(is_during).map(|point| point.0).collect();
        let places: BTreeMap<i64, usize> = times.into_iter().zip(0..).collect();
        let mut values = vec![f64::NAN; places.len() * self.metrics.len()];
        for (index, points) in self.metrics.values().enumerate() {
            for (time, value) in points.iter().filter(is_during) {
                let place = &mut values[index * places.len() + places[time]];
                // Of several values of one time the largest counts: it does not depend on their order.
                *place = place.max(*value);
            }
        }
        (values, (0..=self.metrics.len()).map(|metric| metric * places.len()).collect())
    }

    /// Metrics and calls with numbers in place of names.
    fn numbered(&self, names: &[&Name]) -> (Vec<Metric>, Vec<(usize, usize)>) {
        let called = self.calls.iter().flat_map(|call| [&call.0, &call.1]);
        let services = numbers(names.iter().map(|name| &name.0).chain(called));
        let metrics = numbers(names.iter().map(|name| &name.1));
        let metric = |(service, metric): &&Name| Metric {
            service: services[service.as_str()],
            name: metrics[metric.as_str()],
            depth: depth(metric),
        };
        let call = |(caller, callee): &(String, String)| (services[caller.as_str()], services[callee.as_str()]);
        (names.iter().map(metric).collect(), self.calls.iter().map(call).collect())
    }
}

/// A number for each name, in their order.
fn numbers<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    names.map(String::as_str).collect::<BTreeSet<_>>().into_iter().zip(0..).collect()
}

/// How far from the ground a metric is, by its name.
fn depth(metric: &str) -> u8 {
    let metric = metric.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| metric.contains(part));
    match () {
        () if has(&STOCKS) => 0,
        () if has(&RATES) => 1,
        () => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn memory_moves_the_processor_and_that_moves_latency() {
        assert_eq!(["carts_mem", "Heap_Used", "disk", "cpu", "load1", "latency_p99"].map(depth), [0, 0, 0, 1, 1, 2]);
    }
}
