//! One look at a fleet: what its services say, what they answer, and what the system says of them.
//!
//! **Invariant:** takes no longer than [`OBSERVE_LIMIT`], whatever the services do.

use std::collections::BTreeMap;
use std::time::Duration;

use juno_sql::actuator::{Actuator, Observation};
use tokio::time::Instant;

use crate::fleet::Demo;

/// How long a question may take.
pub(crate) const LIMIT: Duration = Duration::from_millis(900);
/// How long the actuator may take, which waits a second for a health check.
const OBSERVE_LIMIT: Duration = Duration::from_millis(1_300);
/// Requests per service and look.
const PROBES: usize = 2;
/// Names of the series of a service, as [`Look::values`] has them.
pub(crate) const SERIES: [&str; 6] =
    ["latency_ms", "error_share", "call_error_share", "rss_mb", "disk_share", "requests"];

/// What was seen of one service.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// By [`SERIES`]; NaN where it said nothing.
    pub(crate) values: [f64; 6],
    pub(crate) observed: Observation,
}

/// What remembers the counters of the look before.
pub(crate) struct Scraper {
    http: reqwest::Client,
    before: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Scraper {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        Ok(Self { http, before: BTreeMap::new() })
    }

    /// Looks at all services at once.
    pub(crate) async fn look(&mut self, demo: &Demo) -> BTreeMap<String, Look> {
        let asked = demo.ports.iter().map(|(name, port)| self.one(demo, name, *port));
        let mut all = BTreeMap::new();
        for (name, mut look, counters) in futures::future::join_all(asked).await {
            if let Some(now) = counters {
                self.count(&name, &now, &mut look);
                self.before.insert(name.clone(), now);
            }
            all.insert(name, look);
        }
        all
    }

    async fn one(&self, demo: &Demo, name: &str, port: u16) -> (String, Look, Option<BTreeMap<String, f64>>) {
        let address = |path: &str| format!("http://127.0.0.1:{port}/{path}");
        let probe = || async {
            let began = Instant::now();
            let is_good = self.http.get(address("work")).send().await.is_ok_and(|answer| answer.status().is_success());
            (began.elapsed().as_secs_f64() * 1e3, is_good)
        };
        let scrape = async { self.http.get(address("metrics")).send().await.ok()?.text().await.ok() };
        let observe = tokio::time::timeout(OBSERVE_LIMIT, demo.actuator.observe(name));
        let probes = futures::future::join_all((0..PROBES).map(|_| probe()));
        let (probes, text, observed) = tokio::join!(probes, scrape, observe);
        let failed = probes.iter().filter(|(_, is_good)| !is_good).count() as f64 / PROBES as f64;
        let latency = probes.iter().map(|(ms, _)| ms).sum::<f64>() / PROBES as f64;
        // Who does not even say its counters has no latency: that it is silent is the health check's to tell.
        let values =
            if text.is_some() { [latency, failed, f64::NAN, f64::NAN, f64::NAN, f64::NAN] } else { [f64::NAN; 6] };
        let observed = observed.ok().and_then(Result::ok).unwrap_or_default();
        // What a service shows while an order acts on it is no fault.
        let values = if observed.is_busy { [f64::NAN; 6] } else { values };
        let text = text.filter(|_| !observed.is_busy);
        (name.to_owned(), Look { values, observed }, text.map(|text| parsed(&text)))
    }

    /// Turns counters into what they gained.
    fn count(&self, name: &str, now: &BTreeMap<String, f64>, look: &mut Look) {
        let before = self.before.get(name);
        let of = |counters: &BTreeMap<String, f64>, counter: &str| counters.get(counter).copied().unwrap_or_default();
        let gained = |counter: &str| {
            let (now, then) = (of(now, counter), before.map_or(0.0, |before| of(before, counter)));
            if now >= then { now - then } else { now }
        };
        let share = |part: &str, whole: &str| if gained(whole) > 0.0 { gained(part) / gained(whole) } else { 0.0 };
        look.values[1] = look.values[1].max(share("errors_total", "requests_total"));
        look.values[2] = share("call_errors_total", "calls_total");
        look.values[3] = of(now, "rss_bytes") / f64::from(1 << 20);
        look.values[4] = of(now, "disk_bytes") / of(now, "disk_quota_bytes");
        look.values[5] = gained("requests_total");
    }
}

/// The samples of an OpenMetrics text, without their labels.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.split('{').next()?.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(sample).collect()
}
