//! A small service that can be broken: the fleet of `juno demo` and of the chaos tests is made of it.
//!
//! `GET /work` does a request's work: it asks the services that it calls, writes to its disk, and takes a few milliseconds.
//! `GET /healthz` says whether it answers, `GET /metrics` what it did, and `POST /fault/KIND` breaks it ([`Fault`]).
//!
//! The configuration is JSON: `{"work_ms": 3, "workers": 4}`: how long a request's own work takes, and how many requests are
//! worked on at once. It is read at the start; one that cannot be read ends the service.
//!
//! **Invariant:** listens on the loopback address only, and writes to its own directory only.

mod disk;
mod fault;
mod meters;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use clap::Args;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use self::disk::Disk;
pub use self::fault::Fault;
use self::fault::Faults;
use self::meters::Meters;
use crate::config::LogArgs;

/// How long a call to another service may take.
const CALL_LIMIT: Duration = Duration::from_millis(800);
/// How much a slow service adds to a request, and one that stutters to each third one.
const SLOW: Duration = Duration::from_millis(400);
const STUTTER: Duration = Duration::from_millis(700);
/// How much one that creeps adds with each request, and up to how much.
const CREEP: Duration = Duration::from_millis(2);
const CREEP_MAX: Duration = Duration::from_millis(600);
/// How long one that fails in bursts is well, and how long it is not.
const BURST: Duration = Duration::from_secs(4);

/// `juno demo-service`.
#[derive(Debug, Clone, Args)]
pub struct DemoServiceArgs {
    /// Name of the service
    #[arg(long)]
    pub name: String,
    /// Port on the loopback address
    #[arg(long)]
    pub port: u16,
    /// Directory that it writes to
    #[arg(long)]
    pub dir: PathBuf,
    /// Configuration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Ports of the services that it calls
    #[arg(long, value_delimiter = ',')]
    pub calls: Vec<u16>,
    /// Whether it is the standby, which has a database of its own
    #[arg(long)]
    pub standby: bool,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no configuration in it.
    #[error("cannot read the configuration \"{path}\": {reason}")]
    Config {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The port or the directory cannot be had.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
    /// There is no HTTP client.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The configuration.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    work_ms: u64,
    workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { work_ms: 3, workers: 4 }
    }
}

impl Config {
    fn read(path: Option<&PathBuf>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let wrong = |reason: String| Error::Config { path: path.display().to_string(), reason };
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
    }
}

/// The service.
struct Service {
    began: Instant,
    crept: AtomicU32,
    config: Config,
    calls: Vec<u16>,
    workers: Semaphore,
    faults: Faults,
    disk: Disk,
    meters: Meters,
    http: reqwest::Client,
}

/// Serves until a signal.
///
/// # Errors
/// When it cannot start.
pub fn run(args: &DemoServiceArgs) -> Result<(), Error> {
    // One thread serves: a fleet of them shares a small machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &DemoServiceArgs) -> Result<(), Error> {
    let config = Config::read(args.config.as_ref())?;
    let disk = Disk::open(args.dir.join("cache"))?;
    let service = Arc::new(Service {
        began: Instant::now(),
        crept: AtomicU32::new(0),
        config,
        calls: args.calls.clone(),
        workers: Semaphore::new(config.workers.min(Semaphore::MAX_PERMITS)),
        faults: Faults::open(&args.dir, args.standby),
        disk,
        meters: Meters::new(&args.name),
        http: reqwest::Client::builder().no_proxy().timeout(CALL_LIMIT).build()?,
    });
    let router = Router::new()
        .route("/work", get(work))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/fault/{kind}", post(break_it))
        .with_state(Arc::clone(&service));
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await?;
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = axum::serve(listener, router).into_future() => Ok(ended?),
        _ = term.recv() => Ok(()),
        () = service.faults.crash() => Ok(()),
    }
}

async fn work(State(service): State<Arc<Service>>) -> (StatusCode, &'static str) {
    service.faults.hang().await;
    let began = Instant::now();
    let (status, text) = service.work().await;
    service.meters.worked(began.elapsed(), !status.is_success());
    (status, text)
}

impl Service {
    async fn work(&self) -> (StatusCode, &'static str) {
        let Ok(_worker) = tokio::time::timeout(CALL_LIMIT, self.workers.acquire()).await else {
            return (StatusCode::SERVICE_UNAVAILABLE, "no worker is free");
        };
        sleep(Duration::from_millis(self.config.work_ms)).await;
        if self.faults.has(Fault::Deadlock) {
            std::future::pending::<()>().await;
        }
        if self.faults.has(Fault::Slow) {
            sleep(SLOW).await;
        }
        if self.faults.has(Fault::Stutter) && self.meters.requests().is_multiple_of(3) {
            sleep(STUTTER).await;
        }
        if self.faults.has(Fault::Creep) {
            sleep(CREEP.saturating_mul(self.crept.fetch_add(1, Ordering::Relaxed)).min(CREEP_MAX)).await;
        }
        let calls = self.calls.iter().map(|port| self.call(*port));
        let is_served = futures::future::join_all(calls).await.into_iter().all(|is_good| is_good);
        let has_database = !self.faults.has(Fault::DependencyDown);
        if !has_database {
            self.meters.called(true);
        }
        if !is_served || !has_database {
            return (StatusCode::BAD_GATEWAY, "what it calls does not answer");
        }
        if self.disk.append().is_err() {
            return (StatusCode::INSUFFICIENT_STORAGE, "its disk is full");
        }
        if self.fails() {
            return (StatusCode::INTERNAL_SERVER_ERROR, "it fails");
        }
        (StatusCode::OK, "done")
    }

    /// Whether this request is one of those that fail.
    fn fails(&self) -> bool {
        let number = self.meters.requests();
        (self.faults.has(Fault::Errors) && !number.is_multiple_of(5))
            || (self.faults.has(Fault::Flaky) && number.is_multiple_of(8))
            || (self.faults.has(Fault::Burst) && (self.began.elapsed().as_secs() / BURST.as_secs()).is_multiple_of(2))
    }

    async fn call(&self, port: u16) -> bool {
        let answer = self.http.get(format!("http://127.0.0.1:{port}/work")).send().await;
        let is_good = answer.is_ok_and(|answer| answer.status().is_success());
        self.meters.called(!is_good);
        is_good
    }
}

async fn healthz(State(service): State<Arc<Service>>) -> &'static str {
    service.faults.hang().await;
    "ok"
}

async fn metrics(State(service): State<Arc<Service>>) -> String {
    service.faults.hang().await;
    service.meters.text(service.disk.used_bytes(), disk::QUOTA_BYTES)
}

async fn break_it(State(service): State<Arc<Service>>, Path(kind): Path<String>) -> Result<StatusCode, StatusCode> {
    let fault = serde_json::from_value(serde_json::Value::String(kind)).map_err(|_| StatusCode::NOT_FOUND)?;
    match fault {
        Fault::FullDisk => service.disk.fill().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?,
        Fault::Leak => {
            tokio::spawn(fault::leak());
        }
        _ => service.faults.set(fault).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?,
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests;
