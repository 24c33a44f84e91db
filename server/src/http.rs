//! The HTTP door: routes, the middleware around every request, and what the handlers share.
//!
//! **Invariant:** no SQL stands here and no rows are looked at; handlers turn requests into session calls.

pub(crate) mod accept;
pub(crate) mod answer;
pub(crate) mod body;
mod figures;
mod health;
pub(crate) mod identity;
mod linger;
mod listener;
pub(crate) use health::exposition;
pub(crate) mod problem;
mod query;
pub(crate) mod quota;
pub(crate) mod request;
mod room;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use juno_sql::Quota;
use juno_sql::engine::system::System;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::access::Access;
use crate::serve::Doors;
use crate::telemetry::Counters;
use crate::{ingest, v4};
use problem::Problem;

/// How long a request waits for its turn before it is answered 503.
pub(crate) const TURN_MAX: Duration = Duration::from_secs(10);
/// Queries over HTTP that run at a time; more of them wait.
const QUERIES_MAX: usize = 64;
/// Ingest bodies held in memory at a time; more of them wait.
const UPLOADS_MAX: usize = 8;

/// Streams of events that are open at a time.
const STREAMS_MAX: usize = 64;

/// Pause between two looks for room.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// What all handlers share. It is there before the database is, so that probes are answered while a log is replayed.
pub struct Gate {
    doors: OnceLock<Arc<Doors>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) system: System,
    started_us: u64,
    queries: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    pub(crate) access: Arc<Access>,
    /// How long a request waits for its turn.
    turn_max: Duration,
    checks: Semaphore,
    remembered: identity::Remembered,
    streams: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    /// How far back pages of histories went lately.
    pub(crate) spans: v4::page::spans::Spans,
    /// The OpenAPI document, once it was asked for.
    pub(crate) openapi: OnceLock<String>,
}

impl Gate {
    /// A gate that answers 503 to everything but probes until it is opened.
    pub fn new(counters: Arc<Counters>) -> Arc<Gate> {
        Gate::with_access(counters, Arc::default())
    }

    /// The same, with tokens that let their users in, and what encrypts.
    pub(crate) fn with_access(counters: Arc<Counters>, access: Arc<Access>) -> Arc<Gate> {
        Gate::with_patience(counters, access, TURN_MAX)
    }

    fn with_patience(counters: Arc<Counters>, access: Arc<Access>, turn_max: Duration) -> Arc<Gate> {
        let system = System::real();
        Arc::new(Gate {
            turn_max,
            doors: OnceLock::new(),
            counters,
            started_us: system.clock().monotonic_us(),
            system,
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            access,
            checks: Semaphore::new(identity::CHECKS_MAX),
            remembered: identity::Remembered::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            stop: watch::Sender::new(false),
            spans: v4::page::spans::Spans::default(),
            openapi: OnceLock::new(),
        })
    }

    /// The database is open: requests are served from now on. A second call changes nothing.
    pub fn open(&self, doors: Arc<Doors>) {
        count_open(&doors);
        let _ = self.doors.set(doors);
    }

    /// A turn for one query.
    pub(crate) async fn query_turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.turn(&self.queries, "queries").await
    }

    /// A turn for one upload: there is memory for its body, and room for its rows.
    pub(crate) async fn upload_turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let turn = self.turn(&self.uploads, "uploads").await?;
        let doors = self.doors()?;
        let room = async {
            while !doors.session.db().has_room() {
                sleep(ROOM_LOOK).await;
            }
        };
        let found = timeout(self.turn_max, room).await;
        found.map_err(|_| Problem::new("overloaded", "rows come in faster than they can be written to parts"))?;
        Ok(turn)
    }

    async fn turn(&self, turns: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
        match timeout(self.turn_max, Arc::clone(turns).acquire_owned()).await {
            Ok(turn) => Ok(turn.expect("the semaphore is never closed")),
            Err(_) => Err(Problem::new("overloaded", format!("too many {what} run at a time"))),
        }
    }

    /// A turn for one stream of events, or 429.
    pub(crate) fn stream_turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let turn = Arc::clone(&self.streams).try_acquire_owned();
        turn.map_err(|_| {
            let mut problem = Problem::new("too-many-streams", format!("{STREAMS_MAX} streams of events are open"));
            problem.quota = Some(self.streams_left());
            problem
        })
    }

    /// The streams that may be opened besides those that are.
    pub(crate) fn streams_left(&self) -> Quota {
        let left = self.streams.available_permits() as u64;
        Quota { name: "streams", most: STREAMS_MAX as u64, left, window_s: None, reset_s: None }
    }

    /// Turns true when the server is to stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Clock and randomness of the database, once it is open.
    fn outside(&self) -> &System {
        self.doors.get().map_or(&self.system, |doors| doors.session.db().system())
    }

    /// Microseconds since 1970.
    pub(crate) fn now_us(&self) -> i64 {
        self.outside().clock().now_us()
    }

    /// Whole seconds since the gate was made.
    pub(crate) fn uptime_s(&self) -> u64 {
        (self.system.clock().monotonic_us() - self.started_us) / 1_000_000
    }

    pub(crate) fn doors(&self) -> Result<Arc<Doors>, Problem> {
        self.doors
            .get()
            .cloned()
            .ok_or_else(|| Problem::new("starting", "the database is not open yet: its log is being replayed"))
    }
}

/// Lets what is open be counted, for metrics.
fn count_open(doors: &Doors) {
    let session = doors.session.connect();
    doors.query.spawn(async move {
        if let Err(error) = session.count_open().await {
            tracing::debug!(%error, "open incidents and threats cannot be counted");
        }
    });
}

/// Serves HTTP until `shutdown` turns true, then lets the requests that run come to their end.
pub fn listen(
    gate: Arc<Gate>,
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) -> impl Future<Output = std::io::Result<()>> {
    let (router, access) = (router(Arc::clone(&gate)), Arc::clone(&gate.access));
    async move {
        let stopped = async move {
            let _ = shutdown.wait_for(|stop| *stop).await;
            gate.stop.send_replace(true);
        };
        let service = router.into_make_service_with_connect_info::<listener::Peer>();
        axum::serve(listener::Web::new(listener, access), service).with_graceful_shutdown(stopped).await
    }
}

/// All routes.
pub fn router(gate: Arc<Gate>) -> Router {
    let router = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/startupz", get(health::startupz))
        .route("/problems/{slug}", get(problem::page))
        .route("/openapi.json", get(v4::openapi))
        .route("/docs", get(v4::docs))
        .route("/api/v4/query", post(query::query))
        .route("/api/v4/ingest", post(ingest::upload))
        .route("/write", post(ingest::write))
        .route("/api/v2/write", post(ingest::write));
    v4::routes(router)
        .fallback(request::not_found)
        .method_not_allowed_fallback(request::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&gate), identity::identify))
        .layer(from_fn_with_state(Arc::clone(&gate), request::around))
        .with_state(gate)
}

#[cfg(test)]
mod tests;
