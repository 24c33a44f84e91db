//! What a service says of itself in OpenMetrics text, whichever of the usual names it uses.
//!
//! Samples of one name are summed over their labels. Errors are a counter of their own, or the requests whose label of the status
//! begins with 5, as HTTP libraries count them: which is none as long as there is no such sample.
//!
//! **Invariant:** what is not said is None, and no counter is compared with one of another name.

use std::collections::BTreeMap;

/// Requests, the seconds that they took, and requests that these are of: juno's own names, and those of Prometheus' client
/// libraries, Micrometer and OpenTelemetry.
const REQUESTS: [(&str, &str, &str); 4] = [
    ("requests_total", "request_seconds_total", "requests_total"),
    ("http_requests_total", "http_request_duration_seconds_sum", "http_request_duration_seconds_count"),
    ("http_server_requests_seconds_count", "http_server_requests_seconds_sum", "http_server_requests_seconds_count"),
    (
        "http_server_request_duration_seconds_count",
        "http_server_request_duration_seconds_sum",
        "http_server_request_duration_seconds_count",
    ),
];
/// Labels with the status of an answer.
const STATUS: [&str; 4] = ["status", "code", "status_code", "http_response_status_code"];
/// After the name of a counter: that of the requests that failed.
const FAILED: &str = " failed";

/// What else is known.
const OTHERS: [&str; 7] = [
    "errors_total",
    "calls_total",
    "call_errors_total",
    "rss_bytes",
    "process_resident_memory_bytes",
    "disk_bytes",
    "disk_quota_bytes",
];

/// What one of its processes says, as far as it is known here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counters {
    samples: BTreeMap<String, f64>,
}

/// What counters gained between two looks, over all processes of a service, and what memory and disk they have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Gained {
    pub(super) requests: Option<f64>,
    pub(super) errors: Option<f64>,
    /// Seconds, and the requests that took them.
    pub(super) seconds: Option<(f64, f64)>,
    pub(super) calls: Option<(f64, f64)>,
    /// Bytes of the process that has most.
    pub(super) rss: Option<f64>,
    /// The share of the process whose disk is fullest.
    pub(super) disk: Option<f64>,
}

impl Counters {
    /// Reads a text; lines that are no samples are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut samples: BTreeMap<String, f64> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = sample(line) else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            if !is_known(name) {
                continue;
            }
            *samples.entry(name.to_owned()).or_default() += value;
            if let Some(has_failed) = has_failed(labels) {
                *samples.entry(format!("{name}{FAILED}")).or_default() += if has_failed { value } else { 0.0 };
            }
        }
        Self { samples }
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.samples.get(name).copied()
    }

    /// What was gained since an earlier text of the same process, if there is one. A counter that fell began anew.
    pub(super) fn since(&self, before: Option<&Self>) -> Gained {
        let gained = |name: &str| {
            let now = self.get(name)?;
            let then = before?.get(name).unwrap_or_default();
            Some(if now >= then { now - then } else { now })
        };
        let used = REQUESTS.into_iter().find(|(requests, ..)| self.get(requests).is_some());
        let failed = |requests: &str| {
            // A counter of errors is of the requests that are counted beside it.
            let own = if requests == "requests_total" { gained("errors_total") } else { None };
            own.or_else(|| gained(&format!("{requests}{FAILED}")))
        };
        Gained {
            requests: used.and_then(|(requests, ..)| gained(requests)),
            errors: used.and_then(|(requests, ..)| failed(requests)),
            seconds: used.and_then(|(_, seconds, timed)| Some((gained(seconds)?, gained(timed)?))),
            calls: gained("call_errors_total").zip(gained("calls_total")),
            rss: self.get("rss_bytes").or_else(|| self.get("process_resident_memory_bytes")),
            disk: self.get("disk_bytes").zip(self.get("disk_quota_bytes")).map(|(bytes, quota)| bytes / quota),
        }
    }
}

impl Gained {
    /// What two processes gained together.
    pub(super) fn and(self, other: Self) -> Self {
        let sum = |a: Option<f64>, b: Option<f64>| joined(a, b, |a, b| a + b);
        let both = |a: Option<(f64, f64)>, b: Option<(f64, f64)>| joined(a, b, |a, b| (a.0 + b.0, a.1 + b.1));
        Self {
            requests: sum(self.requests, other.requests),
            errors: sum(self.errors, other.errors),
            seconds: both(self.seconds, other.seconds),
            calls: both(self.calls, other.calls),
            rss: joined(self.rss, other.rss, f64::max),
            disk: joined(self.disk, other.disk, f64::max),
        }
    }

    /// How long a request took, in ms; not known where there was none.
    pub(super) fn latency_ms(&self) -> Option<f64> {
        self.seconds.filter(|(_, requests)| *requests > 0.0).map(|part| 1e3 * share(part))
    }

    /// The share of requests that failed.
    pub(super) fn error_share(&self) -> Option<f64> {
        self.errors.zip(self.requests).map(share)
    }

    /// The share of calls to others that failed.
    pub(super) fn call_error_share(&self) -> Option<f64> {
        self.calls.map(share)
    }
}

fn joined<T>(a: Option<T>, b: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (a, b) => a.or(b),
    }
}

/// A part of a whole; nothing of nothing is nothing.
fn share((part, whole): (f64, f64)) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn is_known(name: &str) -> bool {
    let of_requests = |(requests, seconds, timed): &(&str, &str, &str)| [*requests, *seconds, *timed].contains(&name);
    OTHERS.contains(&name) || REQUESTS.iter().any(of_requests)
}

/// The series of a line and its value; a time stamp and an exemplar may follow.
fn sample(line: &str) -> Option<(&str, f64)> {
    let line = line.split(" # ").next()?;
    let end = line.rfind('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
    let (series, rest) = line.split_at(end);
    Some((series, rest.split_whitespace().next()?.parse().ok()?))
}

/// Whether labels say that the server failed; None where they have no status.
fn has_failed(labels: &str) -> Option<bool> {
    let statuses = labels.trim_end_matches('}').split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        STATUS.contains(&name.trim()).then(|| value.trim_start_matches('"').starts_with('5'))
    });
    statuses.reduce(|one, other| one || other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gained(before: &str, now: &str) -> Gained {
        Counters::parse(now).since(Some(&Counters::parse(before)))
    }

    #[test]
    fn counters_of_http_libraries_are_read_by_their_status() {
        let before = "# TYPE http_requests_total counter\n\
                      http_requests_total{code=\"200\",method=\"get\"} 1000 1395066363000\n\
                      http_requests_total{code=\"503\",method=\"get\"} 3\n\
                      http_request_duration_seconds_sum{path=\"/a b\"} 10\n\
                      http_request_duration_seconds_count{path=\"/a b\"} 1003\n\
                      process_resident_memory_bytes 4.2e7\n";
        let now = before.replace(" 1000 ", " 1090 ").replace("} 3\n", "} 13\n").replace("} 10\n", "} 30\n");
        let gained = gained(before, &now.replace("} 1003\n", "} 1103\n"));
        assert_eq!((gained.requests, gained.error_share()), (Some(100.0), Some(0.1)));
        assert_eq!((gained.latency_ms(), gained.rss), (Some(200.0), Some(4.2e7)));
        assert_eq!(gained.call_error_share(), None);
    }

    #[test]
    fn own_names_need_no_labels_and_a_counter_that_fell_began_anew() {
        let before = "requests_total{service=\"shop\"} 50\nerrors_total 5\nrequest_seconds_total 1\ncalls_total 9\ncall_errors_total 9\n";
        let now = "requests_total{service=\"shop\"} 10\nerrors_total 1\nrequest_seconds_total 0.5\ncalls_total 19\ncall_errors_total 14\n";
        let gained = gained(before, now);
        assert_eq!((gained.requests, gained.error_share(), gained.latency_ms()), (Some(10.0), Some(0.1), Some(50.0)));
        assert_eq!(gained.call_error_share(), Some(0.5));
        let quiet = Counters::parse(now).since(Some(&Counters::parse(now)));
        assert_eq!((quiet.error_share(), quiet.latency_ms()), (Some(0.0), None), "nobody asked");
        assert_eq!(Counters::parse(now).since(None), Gained::default(), "what was before is not known");
    }

    #[test]
    fn failures_are_none_before_the_first_and_exemplars_are_no_values() {
        let well = "http_requests_total{code=\"200\"} 1000 # {trace_id=\"a}b\"} 1.0\nerrors_total 7\nother_total{code=\"500\"} 9\n";
        let gained = gained(well, &well.replace(" 1000 ", " 1100 "));
        assert_eq!(
            (gained.requests, gained.error_share()),
            (Some(100.0), Some(0.0)),
            "those errors are of something else"
        );
        let failing = format!("{}http_requests_total{{code=\"500\"}} 50\n", well.replace(" 1000 ", " 1050 "));
        let gained = self::gained(well, &failing);
        assert_eq!((gained.requests, gained.error_share()), (Some(100.0), Some(0.5)));
        assert_eq!(Counters::parse(well).samples.len(), 3, "what is not known here is not kept");
    }

    #[test]
    fn processes_of_a_service_are_taken_together() {
        let one = Gained { requests: Some(10.0), errors: Some(5.0), rss: Some(1.0), ..Gained::default() };
        let other = Gained { requests: Some(30.0), errors: Some(1.0), rss: Some(7.0), disk: Some(0.5), ..one };
        let both = one.and(other).and(Gained::default());
        assert_eq!((both.error_share(), both.rss, both.disk), (Some(0.15), Some(7.0), Some(0.5)));
    }
}
