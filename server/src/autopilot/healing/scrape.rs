//! One look at a fleet: what its services say, what they answer, and what the system says of them.
//!
//! **Invariant:** takes no longer than [`OBSERVE_SHARE`] of the time between two looks, whatever the services do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use juno_sql::actuator::{Actuator, Observation, Pace, Watched};
use tokio::time::Instant;

/// How long a question may take.
const LIMIT: Duration = Duration::from_millis(900);
/// How much of the time between two looks the actuator may take: one that looks each second waits a second for a health check.
const OBSERVE_SHARE: f64 = 1.3;
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
    before: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Scraper {
    pub(super) fn new(actuator: Arc<dyn Actuator>, pace: Pace) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        let observe_limit = Duration::from_secs(pace.look_s.into()).mul_f64(OBSERVE_SHARE);
        Ok(Self { http, actuator, observe_limit, before: BTreeMap::new() })
    }

    /// Looks at all services at once.
    pub(super) async fn look(&mut self, watched: &[Watched]) -> Looks {
        let asked = watched.iter().map(|watched| self.one(watched));
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

    async fn one(&self, watched: &Watched) -> (String, Look, Option<BTreeMap<String, f64>>) {
        let scrape = async { self.http.get(watched.metrics.as_ref()?).send().await.ok()?.text().await.ok() };
        let observe = tokio::time::timeout(self.observe_limit, self.actuator.observe(&watched.name));
        let (probed, text, observed) = tokio::join!(self.probe(watched), scrape, observe);
        let observed = observed.ok().and_then(Result::ok);
        let is_known = observed.is_some();
        let says_nothing =
            watched.metrics.is_some() && text.is_none() && probed.is_none_or(|(_, failed)| failed >= 1.0);
        let observed = observed.unwrap_or_default();
        // Who does not even say its counters has no latency: that it is silent is the health check's to tell. What a service
        // shows while an order acts on it is no fault.
        let says = (text.is_some() || watched.metrics.is_none()) && !observed.is_busy;
        let (latency, failed) = probed.filter(|_| says).unwrap_or((f64::NAN, f64::NAN));
        let values = [latency, failed, f64::NAN, f64::NAN, f64::NAN, f64::NAN];
        let text = text.filter(|_| says);
        let is_mute = says_nothing && observed.replicas.iter().all(|replica| replica.is_healthy == Some(false));
        (watched.name.clone(), Look { values, observed, is_known, is_mute }, text.map(|text| parsed(&text)))
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

    /// Turns counters into what they gained.
    fn count(&self, name: &str, now: &BTreeMap<String, f64>, look: &mut Look) {
        let before = self.before.get(name);
        let gained = |counter: &str| {
            let now = *now.get(counter)?;
            let then = before.and_then(|before| before.get(counter)).copied().unwrap_or_default();
            Some(if now >= then { now - then } else { now })
        };
        let share = |part: &str, whole: &str| {
            let (part, whole) = (gained(part)?, gained(whole)?);
            Some(if whole > 0.0 { part / whole } else { 0.0 })
        };
        // What a few requests of ours miss, those of all clients show.
        if let Some(seconds) = share("request_seconds_total", "requests_total") {
            look.values[0] = look.values[0].max(seconds * 1e3);
        }
        if let Some(errors) = share("errors_total", "requests_total") {
            look.values[1] = look.values[1].max(errors);
        }
        let observed = look.observed.replicas.first().and_then(|replica| replica.rss_bytes);
        let rss = now.get("rss_bytes").copied().or(observed.map(|bytes| bytes as f64));
        let disk = now.get("disk_bytes").zip(now.get("disk_quota_bytes")).map(|(bytes, quota)| bytes / quota);
        let rest = [
            share("call_errors_total", "calls_total"),
            rss.map(|bytes| bytes / f64::from(1 << 20)),
            disk,
            gained("requests_total"),
        ];
        for (value, known) in look.values[2..].iter_mut().zip(rest) {
            *value = known.unwrap_or(f64::NAN);
        }
    }
}

/// The samples of an OpenMetrics text, summed over their labels.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, Ok(value))) = line.rsplit_once(' ').map(|(name, value)| (name, value.parse::<f64>())) else {
            continue;
        };
        *samples.entry(name.split('{').next().unwrap_or(name).to_owned()).or_default() += value;
    }
    samples
}
