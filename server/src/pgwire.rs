//! The PostgreSQL wire door: protocol 3.0 and 3.2, simple and extended, text and binary, SCRAM-SHA-256 and TLS.
//!
//! pgwire's messages carry the bytes; the order of the conversation, the values and the limits are juno's own.
//! Statements of one Query message, and those before a Sync, run one after the other, as one transaction unless the client
//! opened a block; the first error stops the rest and undoes those before it.
//!
//! **Invariant:** nothing is decided here about SQL: a statement goes to a session, its rows and errors come back as bytes.

mod authentication;
mod backends;
mod calendar;
mod column;
mod connection;
pub(crate) mod copy;
mod decode;
mod encode;
mod extended;
mod numeric;
mod report;
mod running;
mod socket;
mod startup;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use juno_sql::{Component, User};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::Startup;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::access::Access;
use crate::serve::Doors;
use crate::telemetry::Door;

use backends::Backends;
use column::Column;
use connection::Connection;
use encode::{Encode, Encoder};
use report::Report;
use socket::{Socket, Stop};
use startup::Opening;

/// Clients that can be connected at a time.
pub const CONNECTIONS_MAX: usize = 200;
/// Sockets beyond them that may be open to be refused, or to cancel a statement.
const REFUSALS_MAX: usize = 100;
/// Time that a client has to say what it wants.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that running statements have to end after a shutdown was asked for; then they are cancelled.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Time that cancelled statements have to stop before their connections are dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// Pause after a connection could not be accepted (no file descriptors left, as a rule).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves PostgreSQL clients on `listener` until `shutdown` turns true and the running statements have ended or were
/// cancelled. Must run on the I/O runtime; statements run on `doors.query`.
pub(crate) async fn listen(
    doors: Arc<Doors>,
    listener: TcpListener,
    access: Arc<Access>,
    shutdown: watch::Receiver<bool>,
) {
    let mut ending = shutdown.clone();
    let random = doors.session.db().system().random();
    let secret = [random.next_u64(), random.next_u64()].map(u64::to_be_bytes).concat();
    doors.session.component_ran(Component::Pgwire, None);
    let door = Arc::new(Listening { doors, backends: Arc::default(), clients: AtomicUsize::new(0), access, secret });
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = ended(&mut ending) => break,
            Some(ended) = tasks.join_next() => note(ended),
            accepted = listener.accept(), if tasks.len() < CONNECTIONS_MAX + REFUSALS_MAX => match accepted {
                Ok((stream, peer)) => {
                    door.doors.session.component_ran(Component::Pgwire, None);
                    drop(tasks.spawn(Arc::clone(&door).client(stream, peer.ip(), shutdown.clone())));
                }
                Err(error) => {
                    let failed = juno_sql::Error::Internal(format!("a client could not be accepted: {error}"));
                    door.doors.session.component_ran(Component::Pgwire, Some(&failed));
                    tracing::warn!(%error, "a PostgreSQL client could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if timeout(SHUTDOWN_GRACE, drain(&mut tasks)).await.is_err() {
        door.backends.cancel_all();
        // What does not stop now is dropped with the set.
        let _ = timeout(CANCEL_GRACE, drain(&mut tasks)).await;
    }
}

/// The time zone of a session, in which times are shown and read.
fn zone(session: &juno_sql::Session) -> arrow::array::timezone::Tz {
    let name = session.setting("TimeZone");
    let zone = name.and_then(|name| name.parse().ok());
    zone.unwrap_or_else(|| "+00:00".parse().expect("a fixed offset is a time zone"))
}

/// Waits until the server shuts down; a sender that is gone counts as that.
async fn ended(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|ended| *ended).await;
}

async fn drain(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        note(ended);
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a PostgreSQL connection ended in a panic");
    }
}

/// Bytes that a batch's rows have as messages, all columns in one format.
pub(crate) fn encoded_bytes(batch: &RecordBatch, binary: bool) -> juno_sql::Result<usize> {
    let columns = Column::all(batch.schema_ref(), &[i16::from(binary)])?.into();
    let mut encoder = Encoder::new(columns, "UTC".parse().expect("a time zone"));
    encoder.chunks(batch)?.map(|chunk| chunk.map(|chunk| chunk.bytes.len())).sum()
}

struct Listening {
    doors: Arc<Doors>,
    backends: Arc<Backends>,
    clients: AtomicUsize,
    access: Arc<Access>,
    /// Makes users that do not exist look like others.
    secret: Vec<u8>,
}

impl Listening {
    /// One accepted socket, from its first byte to its last.
    async fn client(self: Arc<Self>, stream: TcpStream, peer: IpAddr, shutdown: watch::Receiver<bool>) {
        // Only latency is lost where the option is refused.
        let _ = stream.set_nodelay(true);
        let tls = self.access.tls();
        let mut socket = match timeout(STARTUP_TIMEOUT, startup::secured(stream, tls.as_ref())).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(_)) | Err(_) => return,
        };
        let opening = match timeout(STARTUP_TIMEOUT, startup::open(&mut socket)).await {
            Ok(Ok(opening)) => opening,
            Ok(Err(Stop::Fatal(report))) => return refuse(socket, report).await,
            Ok(Err(Stop::Gone)) | Err(_) => return,
        };
        match opening {
            Opening::Left => {}
            Opening::Cancel(request) => self.backends.cancel(&request),
            Opening::Start(startup) => {
                if let Some(why) = self.doors.session.refused_at_door(Some(peer), None) {
                    self.doors.counters.error(Door::Pgwire, "28000");
                    return refuse(socket, Report::fatal("28000", why)).await;
                }
                let Some(_place) = Place::take(&self.clients) else {
                    self.doors.counters.error(Door::Pgwire, "53300");
                    return refuse(socket, Report::fatal("53300", "sorry, too many clients already")).await;
                };
                let _connected = self.doors.counters.connected(Door::Pgwire);
                match self.greet(&mut socket, startup, peer).await {
                    Ok((session, backend, reported)) => {
                        let doors = Arc::clone(&self.doors);
                        Connection::new(doors, socket, session, (backend, peer), reported).serve(shutdown).await;
                    }
                    Err(Stop::Fatal(report)) => refuse(socket, report).await,
                    Err(Stop::Gone) => {}
                }
            }
        }
    }

    /// Opens the client's session and puts the greeting into the output.
    async fn greet(&self, socket: &mut Socket, startup: Startup, peer: IpAddr) -> Result<Greeted, Stop> {
        let user = timeout(STARTUP_TIMEOUT, self.identify(socket, &startup, peer)).await;
        let user = user.map_err(|_| Stop::Gone)??;
        if let Some(why) = self.doors.session.refused_at_door(None, Some(&user.name)) {
            return Err(Stop::Fatal(Report::fatal("28000", why)));
        }
        self.doors.session.seen_at_door(&user, Some(peer));
        let doors = Arc::clone(&self.doors);
        let session = self.doors.query.spawn(async move { doors.session.connect_as(user) }).await;
        let session = session.map_err(|error| {
            tracing::error!(%error, "a session could not be opened");
            Stop::Fatal(Report::fatal("XX000", "the session could not be opened"))
        })?;
        startup::apply(&startup, &session)?;
        let backend = self.backends.register(&session, startup::takes_long_keys(&startup));
        let reported = startup::reported(&session);
        startup::greet(socket, &startup, &reported, &backend);
        Ok((Arc::new(session), backend, reported))
    }

    /// Finds out who the client is.
    async fn identify(&self, socket: &mut Socket, startup: &Startup, peer: IpAddr) -> Result<User, Stop> {
        if self.access.tls().is_some() && !peer.is_loopback() && !socket.is_encrypted() {
            let report = Report::fatal("28000", "this server takes encrypted connections only");
            return Err(Stop::Fatal(report.with_hint("Connect with sslmode=require.")));
        }
        let name = startup.parameters.get("user").map_or("", String::as_str);
        if name.is_empty() {
            return Err(Stop::Fatal(Report::fatal("28000", "no PostgreSQL user name specified in startup packet")));
        }
        if self.access.is_off() && peer.is_loopback() {
            return Ok(User::trusted(name));
        }
        authentication::authenticate(socket, &self.doors.session, name, peer, &self.secret).await
    }
}

type Greeted = (Arc<juno_sql::Session>, backends::Backend, Vec<(&'static str, String)>);

async fn refuse(mut socket: Socket, report: Report) {
    socket.put(PgWireBackendMessage::ErrorResponse(report.into()));
    socket.close().await;
}

/// One of the `CONNECTIONS_MAX` places.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(clients: &AtomicUsize) -> Option<Place<'_>> {
        let more = |taken: usize| (taken < CONNECTIONS_MAX).then_some(taken + 1);
        clients.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Place(clients))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
