//! What the server says about itself: log lines on stderr and counters for `/metrics`.
//!
//! **Invariant:** nothing here reads a table or decides anything; a counter that nobody scrapes costs an atomic add.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

/// What a library logs as an error each time that a cluster is not there; who asked the cluster tells it, once.
const TOLD_ELSEWHERE: &str = "kube_client::client::builder=off";

/// The way that a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Door {
    /// The PostgreSQL wire protocol.
    Pgwire,
    /// HTTP.
    Http,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabel {
    door: Door,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    door: Door,
    sqlstate: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FormatLabel {
    format: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// The route of requests that none has.
const NO_ROUTE: &str = "other";
/// Bounds of buckets of times, in seconds.
const BOUNDS: [f64; 9] = [0.000_5, 0.002, 0.008, 0.032, 0.128, 0.512, 2.048, 8.192, 32.768];

/// The counters of one server. Cheap to share; every method takes `&self`.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    statements: Family<DoorLabel, Counter>,
    statement_seconds: Histogram,
    errors: Family<ErrorLabels, Counter>,
    connections: Family<DoorLabel, Gauge<i64, AtomicI64>>,
    connections_total: Family<DoorLabel, Counter>,
    rows_ingested: Family<FormatLabel, Counter>,
    rows_rejected: Family<FormatLabel, Counter>,
    http_responses: Family<StatusLabel, Counter>,
    http_seconds: Family<RouteLabel, Histogram>,
}

impl Counters {
    /// Fresh counters, all at zero.
    pub fn new() -> Arc<Counters> {
        let mut registry = Registry::with_prefix("juno");
        let times: fn() -> Histogram = || Histogram::new(BOUNDS);
        let counters = Counters {
            statements: Family::default(),
            statement_seconds: times(),
            errors: Family::default(),
            connections: Family::default(),
            connections_total: Family::default(),
            rows_ingested: Family::default(),
            rows_rejected: Family::default(),
            http_responses: Family::default(),
            http_seconds: Family::new_with_constructor(times),
            registry: Registry::default(),
        };
        registry.register("statements", "SQL statements run, by door", counters.statements.clone());
        registry.register_with_unit(
            "statement_duration",
            "Time from the arrival of a statement to its last row",
            Unit::Seconds,
            counters.statement_seconds.clone(),
        );
        registry.register(
            "errors",
            "Statements and requests that failed, by door and SQLSTATE",
            counters.errors.clone(),
        );
        registry.register("connections", "Connections open now, by door", counters.connections.clone());
        registry.register("connections_opened", "Connections accepted, by door", counters.connections_total.clone());
        registry.register("rows_ingested", "Telemetry rows stored, by format", counters.rows_ingested.clone());
        registry.register("rows_rejected", "Telemetry rows refused, by format", counters.rows_rejected.clone());
        registry.register("http_responses", "HTTP responses, by status", counters.http_responses.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request to the head of its answer, by route",
            Unit::Seconds,
            counters.http_seconds.clone(),
        );
        Arc::new(Counters { registry, ..counters })
    }

    /// A statement was run; it took this long until its last row, or until its error.
    pub fn statement(&self, door: Door, took: Duration) {
        self.statements.get_or_create(&DoorLabel { door }).inc();
        self.statement_seconds.observe(took.as_secs_f64());
    }

    /// A statement or a request ended with this SQLSTATE.
    pub fn error(&self, door: Door, sqlstate: &str) {
        self.errors.get_or_create(&ErrorLabels { door, sqlstate: sqlstate.to_owned() }).inc();
    }

    /// A client connected. The connection counts as open until the guard is dropped.
    pub fn connected(self: &Arc<Self>, door: Door) -> Connected {
        self.connections_total.get_or_create(&DoorLabel { door }).inc();
        self.connections.get_or_create(&DoorLabel { door }).inc();
        Connected { counters: Arc::clone(self), door }
    }

    /// Rows of one ingest call: stored, and refused.
    pub fn ingested(&self, format: &'static str, stored: u64, refused: u64) {
        self.rows_ingested.get_or_create(&FormatLabel { format }).inc_by(stored);
        self.rows_rejected.get_or_create(&FormatLabel { format }).inc_by(refused);
    }

    /// An HTTP response went out; `route` is the pattern of the path, where there is one: of these there are few.
    pub fn responded(&self, status: u16, route: Option<&str>, took: Duration) {
        self.http_responses.get_or_create(&StatusLabel { status }).inc();
        let route = route.unwrap_or(NO_ROUTE).to_owned();
        self.http_seconds.get_or_create(&RouteLabel { route }).observe(took.as_secs_f64());
    }

    /// Writes all counters in the OpenMetrics text format, without the final `# EOF` line.
    pub fn encode(&self, out: &mut String) {
        text::encode_registry(out, &self.registry).expect("a String takes every write");
    }
}

/// One open connection, as the gauge counts it.
#[derive(Debug)]
pub struct Connected {
    counters: Arc<Counters>,
    door: Door,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.counters.connections.get_or_create(&DoorLabel { door: self.door }).dec();
    }
}

/// The filter of this text, or what is wrong with it.
pub(crate) fn log_filter(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("{TOLD_ELSEWHERE},{filter}"))
        .map_err(|error| format!("\"{filter}\" is no log filter: {error}"))
}

/// Sends log lines of the filter to stderr; a text where the filter cannot be read.
pub fn log_to_stderr(filter: &str, colours: bool) -> Result<(), String> {
    let filter = log_filter(filter)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // A second call keeps the first subscriber: tests start several servers in one process.
    let _ = subscriber.try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_exposition_and_closed_connections_are_not() {
        let counters = Counters::new();
        counters.statement(Door::Http, Duration::from_millis(1));
        counters.ingested("csv", 3, 1);
        counters.error(Door::Pgwire, "42P01");
        counters.responded(200, Some("/api/v4/approvals/{id}"), Duration::from_millis(1));
        counters.responded(404, None, Duration::from_millis(100));
        let open = counters.connected(Door::Pgwire);
        drop(counters.connected(Door::Http));
        let mut text = String::new();
        counters.encode(&mut text);
        for line in [
            "juno_statements_total{door=\"Http\"} 1",
            "juno_rows_ingested_total{format=\"csv\"} 3",
            "juno_errors_total{door=\"Pgwire\",sqlstate=\"42P01\"} 1",
            "juno_connections{door=\"Pgwire\"} 1",
            "juno_connections{door=\"Http\"} 0",
            "juno_http_request_duration_seconds_bucket{le=\"0.002\",route=\"/api/v4/approvals/{id}\"} 1",
            "juno_http_request_duration_seconds_count{route=\"other\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(open);
    }
}
