//! What a demo service says of itself to a scraper.
//!
//! **Invariant:** counters only rise.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters.
#[derive(Debug)]
pub(super) struct Meters {
    registry: Registry,
    requests: Counter,
    errors: Counter,
    seconds: Counter<f64, AtomicU64>,
    calls: Counter,
    call_errors: Counter,
    rss: Gauge,
    disk: Gauge,
    quota: Gauge,
}

impl Meters {
    pub(super) fn new(name: &str) -> Self {
        let label = std::iter::once(("service".into(), name.to_owned().into()));
        let mut registry = Registry::with_labels(label);
        let meters = Self {
            registry: Registry::default(),
            requests: Counter::default(),
            errors: Counter::default(),
            seconds: Counter::default(),
            calls: Counter::default(),
            call_errors: Counter::default(),
            rss: Gauge::default(),
            disk: Gauge::default(),
            quota: Gauge::default(),
        };
        registry.register("requests", "Requests", meters.requests.clone());
        registry.register("errors", "Requests that failed", meters.errors.clone());
        registry.register("request_seconds", "Time that requests took", meters.seconds.clone());
        registry.register("calls", "Calls to other services", meters.calls.clone());
        registry.register("call_errors", "Calls to other services that failed", meters.call_errors.clone());
        registry.register("rss_bytes", "Memory in use", meters.rss.clone());
        registry.register("disk_bytes", "Disk in use", meters.disk.clone());
        registry.register("disk_quota_bytes", "Disk that there is", meters.quota.clone());
        Self { registry, ..meters }
    }

    /// A request was answered.
    pub(super) fn worked(&self, took: Duration, failed: bool) {
        self.requests.inc();
        self.seconds.inc_by(took.as_secs_f64());
        if failed {
            self.errors.inc();
        }
    }

    /// Another service was called.
    pub(super) fn called(&self, failed: bool) {
        self.calls.inc();
        if failed {
            self.call_errors.inc();
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// All of them as OpenMetrics text.
    pub(super) fn text(&self, disk_bytes: u64, quota_bytes: u64) -> String {
        let gauge = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge(&self.rss, rss_bytes().unwrap_or_default());
        gauge(&self.disk, disk_bytes);
        gauge(&self.quota, quota_bytes);
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes every write");
        out
    }
}

/// Memory in use (proc(5)).
fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kb.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
