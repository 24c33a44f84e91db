//! One look at a fleet: what its services say, what they answer, and what the system says of them.
//!
//! **Invariant:** takes no longer than [`OBSERVE_SHARE`] of the time between two looks, whatever the services do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use juno_sql::actuator::{Actuator, Observation, Pace, Watched};
use reqwest::redirect::Policy;
use tokio::time::Instant;

use super::counters::{Counters, Gained};
use crate::answer::body;

/// How long a question may take.
const LIMIT: Duration = Duration::from_millis(900);
/// How much of the time between two looks the actuator may take: one that looks each second waits a second for a health check.
const OBSERVE_SHARE: f64 = 1.3;
/// So many processes of a service are asked for their counters at most.
const SCRAPES_MAX: usize = 50;
/// The longest text of counters.
const METRICS_BYTES_MAX: usize = 8 << 20;
/// Bytes of a MiB.
const MIB: f64 = (1 << 20) as f64;
/// Requests per service and look.
const PROBES: usize = 2;
/// Names of the series of a service, as [`Look::values`] has them.
pub(super) const SERIES: [&str; 6] =
    ["latency_ms", "error_share", "call_error_share", "rss_mb", "disk_share", "requests"];

/// What was seen of one service.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// By [`SERIES`]; NaN where it said nothing.
    pub(super) values: [f64; 6],
    pub(super) observed: Observation,
    /// Whether the actuator could be asked.
    pub(super) is_known: bool,
    /// Whether it answered nothing of what it was asked: no metrics, no request and no health check.
    pub(super) is_mute: bool,
}

/// What was seen of all of them.
pub(super) type Looks = BTreeMap<String, Look>;

/// What looks, and remembers the counters of the look before.
pub(super) struct Scraper {
    http: reqwest::Client,
    actuator: Arc<dyn Actuator>,
    observe_limit: Duration,
    /// What each address said at the last look.
    before: BTreeMap<String, Counters>,
}

impl Scraper {
    pub(super) fn new(actuator: Arc<dyn Actuator>, pace: Pace) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).redirect(Policy::none()).build()?;
        let observe_limit = Duration::from_secs(pace.look_s.into()).mul_f64(OBSERVE_SHARE);
        Ok(Self { http, actuator, observe_limit, before: BTreeMap::new() })
    }

    /// Looks at all services at once.
    pub(super) async fn look(&mut self, watched: &[Watched]) -> Looks {
        let asked = watched.iter().map(|watched| self.one(watched));
        let (mut all, mut said) = (BTreeMap::new(), BTreeMap::new());
        for (name, mut look, counters) in futures::future::join_all(asked).await {
            let gained = counters.iter().map(|(address, now)| now.since(self.before.get(address)));
            if let Some(gained) = gained.reduce(Gained::and) {
                count(&gained, &mut look);
            }
            said.extend(counters);
            all.insert(name, look);
        }
        // What says nothing for once goes on from where it was; what is watched no more is forgotten.
        let is_watched = |address: &String| watched.iter().any(|watched| watched.metrics.contains(address));
        self.before.retain(|address, _| is_watched(address));
        self.before.extend(said);
        all
    }

    async fn one(&self, watched: &Watched) -> (String, Look, Vec<(String, Counters)>) {
        let scrapes = watched.metrics.iter().take(SCRAPES_MAX).map(|address| self.scrape(address));
        let scrapes = futures::future::join_all(scrapes);
        let observe = tokio::time::timeout(self.observe_limit, self.actuator.observe(&watched.name));
        let (probed, scraped, observed) = tokio::join!(self.probe(watched), scrapes, observe);
        let counters: Vec<(String, Counters)> = scraped.into_iter().flatten().collect();
        let observed = observed.ok().and_then(Result::ok);
        let is_known = observed.is_some();
        // Counters that were never there are no silence.
        let is_missed = |address: &String| self.before.contains_key(address);
        let has_counters = !counters.is_empty() || !watched.metrics.iter().any(is_missed);
        let says_nothing = !has_counters && probed.is_none_or(|(_, failed)| failed >= 1.0);
        let observed = observed.unwrap_or_default();
        // Who does not even say its counters has no latency: that it is silent is the health check's to tell. What a service
        // shows while an order acts on it is no fault.
        let says = has_counters && !observed.is_busy;
        let (latency, failed) = probed.filter(|_| says).unwrap_or((f64::NAN, f64::NAN));
        let rss = observed
            .replicas
            .first()
            .and_then(|replica| replica.rss_bytes)
            .map_or(f64::NAN, |bytes| bytes as f64 / MIB);
        let values = [latency, failed, f64::NAN, if says { rss } else { f64::NAN }, f64::NAN, f64::NAN];
        let is_mute = says_nothing && observed.replicas.iter().all(|replica| replica.is_healthy == Some(false));
        let counters = if says { counters } else { Vec::new() };
        (watched.name.clone(), Look { values, observed, is_known, is_mute }, counters)
    }

    async fn scrape(&self, address: &str) -> Option<(String, Counters)> {
        let answer = self.http.get(address).send().await.ok()?.error_for_status().ok()?;
        let text = body(answer, METRICS_BYTES_MAX).await.ok()?;
        Some((address.to_owned(), Counters::parse(&String::from_utf8_lossy(&text))))
    }

    /// The latency in ms and the share that failed of a few requests.
    async fn probe(&self, watched: &Watched) -> Option<(f64, f64)> {
        let address = watched.probe.as_ref()?;
        let one = || async {
            let began = Instant::now();
            let is_good = self.http.get(address).send().await.is_ok_and(|answer| answer.status().is_success());
            (began.elapsed().as_secs_f64() * 1e3, is_good)
        };
        let all = futures::future::join_all((0..PROBES).map(|_| one())).await;
        let failed = all.iter().filter(|(_, is_good)| !is_good).count() as f64 / PROBES as f64;
        Some((all.iter().map(|(ms, _)| ms).sum::<f64>() / PROBES as f64, failed))
    }
}

/// Adds what a service's counters say.
fn count(gained: &Gained, look: &mut Look) {
    let [latency, failed, call_failed, rss, disk, requests] = &mut look.values;
    // What a few requests of ours miss, those of all clients show.
    *latency = gained.latency_ms().map_or(*latency, |ms| latency.max(ms));
    *failed = gained.error_share().map_or(*failed, |share| failed.max(share));
    *call_failed = gained.call_error_share().unwrap_or(f64::NAN);
    *rss = gained.rss.map_or(*rss, |bytes| bytes / MIB);
    *disk = gained.disk.unwrap_or(f64::NAN);
    *requests = gained.requests.unwrap_or(f64::NAN);
}
