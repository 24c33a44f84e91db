//! Start-up and shutdown of a server: the runtimes, the listeners, the database behind them.
//!
//! Two runtimes: listeners and the wire live on `io`, all session calls and result streams on `query`, so that a runaway
//! query blocks neither a connection nor a probe.
//!
//! **Invariant:** nothing here reads a request; the doors do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use juno_sql::actuator::Actuator;
use juno_sql::engine::{Db, Options};
use juno_sql::kernels::Device;
use juno_sql::{Memory, OperationSettings, Session, TEMPORARY_DIR};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::actuator::process::{Fleet, ProcessActuator};
use crate::bucket::{self, Bucket, BucketDisk};
use crate::config::{AccessArgs, Auth, MachineArgs};
use crate::http::Gate;
use crate::intelligence::Intelligence;
use crate::reach::{self, Reach};
use crate::reload::Reload;
use crate::telemetry::Counters;
use crate::{autopilot, escalation, http, pgwire};

/// Threads of the I/O runtime: it only moves bytes.
const IO_THREADS: usize = 2;
/// Time that a client may take no bytes while some wait for it, or send none of a body that is not whole.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long running requests may take to end after a signal.
const GRACE: Duration = Duration::from_secs(10);
/// Where the processes of a fleet have their directories, below that of the data.
const FLEET_DIR: &str = "fleet";
/// DataFusion's planner recurses deeply in debug builds.
const STACK_BYTES: usize = 8 << 20;

/// What every door is given.
pub struct Doors {
    /// The root session; `connect()` gives a client its own.
    pub session: Session,
    /// The runtime that all session calls and result streams run on.
    pub query: Handle,
    /// The counters behind `/metrics`.
    pub counters: Arc<Counters>,
}

/// Why a server did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with {flag} or {variable}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// The variable that sets it.
        variable: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The device that was asked for is not there.
    #[error("--device (JUNO_DEVICE): {0}")]
    Device(String),
    /// The data directory cannot be opened or closed.
    #[error("--data (JUNO_DATA) {}: {cause}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the engine or the session said.
        cause: juno_sql::Error,
    },
    /// What a setting names cannot be used.
    #[error("{flag} ({variable}): {text}")]
    Setting {
        /// The flag.
        flag: &'static str,
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        text: String,
    },
    /// An address of other machines, and nobody who could be let in.
    #[error(
        "{flag} ({variable}) {address} can be reached from other machines, and no users are set up: make an admin first with \
         juno user add NAME --role admin, or at the first start with JUNO_ADMIN_PASSWORD; without users juno listens on \
         loopback addresses only (127.0.0.1, [::1], localhost)"
    )]
    Open {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// The variable that sets it.
        variable: &'static str,
    },
    /// The bucket for parts cannot be used.
    #[error("--object-store (JUNO_OBJECT_STORE): {0}")]
    Bucket(std::io::Error),
    /// The fleet cannot be run.
    #[error("--fleet (JUNO_FLEET): {0}")]
    Fleet(String),
    /// The system refused threads or signals.
    #[error("the server cannot run: {0}")]
    System(#[from] std::io::Error),
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the data is.
    pub storage: Storage,
    /// The address for PostgreSQL clients; port 0 takes any free one.
    pub pg_addr: SocketAddr,
    /// The address for HTTP; port 0 takes any free one.
    pub http_addr: SocketAddr,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// What queries may hold in memory.
    pub memory: Memory,
    /// What operations may do.
    pub operations: OperationSettings,
    /// How they are read again when SIGHUP comes; without it that signal ends the process.
    pub reload: Option<Reload>,
    /// The processes that are run, watched and healed.
    pub fleet: Option<Fleet>,
    /// What is reached beyond this machine.
    pub reach: Reach,
    /// Certificate, key and tokens.
    pub access: AccessArgs,
    /// The password of the admin `juno`, who is made where there are no users yet.
    pub admin_password: Option<String>,
}

/// Where a database is.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The data directory; made where it is not there.
    pub data: PathBuf,
    /// Where its parts are; in the directory where absent.
    pub bucket: Option<Bucket>,
}

/// A running server. Dropping it without [`Server::stop`] is what a crash is: the log is replayed at the next start.
pub struct Server {
    io: Runtime,
    query: Runtime,
    doors: Arc<Doors>,
    config: Config,
    shutdown: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    pg_addr: SocketAddr,
    http_addr: SocketAddr,
}

impl Server {
    /// Binds both addresses, opens the database, serves. Probes are answered from the first moment on.
    pub fn start(config: Config) -> Result<Server, Error> {
        closed(config.access.auth, (config.pg_addr, config.http_addr))?;
        let access = Access::read(&config.access)?;
        let io = runtime("juno-io", IO_THREADS)?;
        let query = runtime("juno-query", std::thread::available_parallelism().map_or(2, usize::from))?;
        let pg = io.block_on(bind(config.pg_addr, "--pg-addr", "JUNO_PG_ADDR"))?;
        let web = io.block_on(bind(config.http_addr, "--http-addr", "JUNO_HTTP_ADDR"))?;
        let (pg_addr, http_addr) = (pg.local_addr()?, web.local_addr()?);
        let (shutdown, stop) = watch::channel(false);
        let counters = Counters::new();
        let gate = Gate::with_access(Arc::clone(&counters), Arc::clone(&access));
        let serving = http::listen(Arc::clone(&gate), web, stop.clone());
        let web = io.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the HTTP listener failed");
            }
        });
        let session = query.block_on(open(&config.storage, &config.device, config.memory))?;
        session.set_operations(config.operations.clone(), http::problem::document);
        query.block_on(first_admin(&session, &config))?;
        let mut intelligence = Intelligence::default();
        query.block_on(intelligence.load(&session));
        let (has_tokens, encrypts) = (!access.tokens().is_empty(), access.tls().is_some());
        guarded(&session, (pg_addr, "--pg-addr", "JUNO_PG_ADDR"), false, encrypts)?;
        guarded(&session, (http_addr, "--http-addr", "JUNO_HTTP_ADDR"), has_tokens, encrypts)?;
        let beyond = config.reach.actuators(session.db().system())?;
        let escalations = config.reach.escalations(session.db().system())?;
        query.spawn(reach::greet(beyond.clone()));
        let mut actuators = beyond;
        if let Some(fleet) = &config.fleet {
            actuators.insert(0, query.block_on(started(fleet, &config.storage.data))?);
        }
        session.set_actuators(actuators.clone());
        for actuator in actuators {
            query.spawn(heal(session.connect(), actuator));
        }
        if let Some(hook) = escalations {
            query.spawn(escalation::call(session.connect(), hook));
        }
        query.spawn(watch(session.connect(), config.fleet.as_ref()));
        query.spawn(autopilot::govern(session.connect()));
        query.spawn(autopilot::sweep(session.connect()));
        query.spawn(autopilot::scale(session.connect()));
        query.spawn(guard(session.connect()));
        query.spawn(autopilot::models(session.connect()));
        query.spawn(autopilot::learn(session.connect()));
        let wake = Arc::new(Notify::new());
        query.spawn(intelligence.keep(session.connect(), Arc::clone(&wake)));
        if let Some(reload) = config.reload.clone() {
            let _runtime = query.enter();
            let hangups = signal(SignalKind::hangup())?;
            query.spawn(reload.at_each(hangups, session.connect(), Arc::clone(&access), wake));
        }
        let doors = Arc::new(Doors { session, query: query.handle().clone(), counters });
        gate.open(Arc::clone(&doors));
        let serving = pgwire::listen(Arc::clone(&doors), pg, access, stop);
        let pg = io.spawn(async move {
            serving.await;
        });
        Ok(Server { io, query, doors, config, shutdown, listeners: vec![web, pg], pg_addr, http_addr })
    }

    /// What the doors share: for work that runs beside them.
    pub fn doors(&self) -> &Arc<Doors> {
        &self.doors
    }

    /// Where PostgreSQL clients connect.
    pub fn pg_addr(&self) -> SocketAddr {
        self.pg_addr
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// What a user needs to connect: one line for each door and one for the device.
    pub fn addresses(&self) -> String {
        let (pg, http, device) = (self.pg_addr, self.http_addr, self.doors.session.device().name());
        let version = env!("CARGO_PKG_VERSION");
        format!("juno {version} is ready\n  PostgreSQL  {pg}\n  HTTP        http://{http}\n  ML device   {device}")
    }

    /// Sleeps until SIGINT or SIGTERM comes. A second signal ends the process at once.
    pub fn wait_for_signal(&self) -> Result<(), Error> {
        self.io.block_on(async {
            let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            tracing::info!(signal = name, "shutting down: running requests may end, then all data is flushed");
            tokio::spawn(async move {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                tracing::warn!("ended by a second signal; the log is replayed at the next start");
                std::process::exit(130);
            });
            Ok(())
        })
    }

    /// Stops listening, waits for running requests within [`GRACE`], flushes and closes the database.
    pub fn stop(self) -> Result<(), Error> {
        let Server { io, query, doors, config, shutdown, listeners, .. } = self;
        shutdown.send_replace(true);
        let ended = io.block_on(async { tokio::time::timeout(GRACE, futures::future::join_all(listeners)).await });
        if ended.is_err() {
            tracing::warn!("requests still ran after {} s and were cut off", GRACE.as_secs());
        }
        let closed = doors.session.db().close();
        query.shutdown_timeout(Duration::from_secs(1));
        // The loops are gone: the processes of a fleet end with its last owner.
        doors.session.set_actuators(Vec::new());
        io.shutdown_timeout(Duration::from_secs(1));
        closed.map_err(|cause| Error::Data { path: config.storage.data, cause: cause.into() })
    }
}

/// Starts a fleet below the data directory.
async fn started(fleet: &Fleet, data: &Path) -> Result<Arc<dyn Actuator>, Error> {
    let opened = ProcessActuator::open(fleet, data.join(FLEET_DIR)).await;
    Ok(Arc::new(opened.map_err(|error| Error::Fleet(error.to_string()))?))
}

/// Watches and heals the targets of an actuator.
async fn heal(session: Session, actuator: Arc<dyn Actuator>) {
    let executor = actuator.executor();
    if let Err(error) = autopilot::heal(session, actuator, Arc::default()).await {
        tracing::error!(%error, executor, "targets are not watched");
    }
}

/// Watches telemetry, but that of services that are healed as a fleet.
fn watch(session: Session, fleet: Option<&Fleet>) -> impl Future<Output = ()> + use<> {
    let services = fleet.into_iter().flat_map(|fleet| &fleet.services).map(|service| service.name.clone()).collect();
    async move {
        if let Err(error) = autopilot::watch(session, services).await {
            tracing::error!(%error, "telemetry is not watched");
        }
    }
}

/// Watches security events.
async fn guard(session: Session) {
    if let Err(error) = autopilot::guard(session).await {
        tracing::error!(%error, "threats are not watched");
    }
}

/// Refuses to let everybody in where other machines could come.
pub(crate) fn closed(auth: Auth, (pg_addr, http_addr): (SocketAddr, SocketAddr)) -> Result<(), Error> {
    if auth == Auth::On {
        return Ok(());
    }
    let reached = [(pg_addr, "--pg-addr"), (http_addr, "--http-addr")];
    if let Some((address, flag)) = reached.into_iter().find(|(address, _)| !address.ip().is_loopback()) {
        let text = format!(
            "off lets everybody in, and {flag} {address} can be reached from other machines: listen on loopback addresses \
             (127.0.0.1, [::1], localhost), or leave it on"
        );
        return Err(Error::Setting { flag: "--auth", variable: "JUNO_AUTH", text });
    }
    tracing::warn!("authentication is off: everybody on this machine may do everything");
    Ok(())
}

/// Makes the user `juno` an admin where there are no users yet and a password is given.
async fn first_admin(session: &Session, config: &Config) -> Result<(), Error> {
    let Some(password) = config.admin_password.as_ref().filter(|_| session.accounts().is_empty()) else {
        return Ok(());
    };
    let sql = format!("CREATE USER juno PASSWORD '{}' IN ROLE admin", password.replace('\'', "''"));
    let made = session.query(&sql).await;
    made.map_err(|cause| Error::Data { path: config.storage.data.clone(), cause })?;
    tracing::info!("the admin juno was made with the password of JUNO_ADMIN_PASSWORD");
    Ok(())
}

/// Refuses an address of other machines where nobody can be told from anybody else.
fn guarded(
    session: &Session,
    (address, flag, variable): (SocketAddr, &'static str, &'static str),
    tokens: bool,
    tls: bool,
) -> Result<(), Error> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    if session.accounts().is_empty() && !tokens {
        return Err(Error::Open { address, flag, variable });
    }
    if !tls {
        tracing::warn!(%address, "what travels to other machines is not encrypted: set --tls-cert and --tls-key");
    }
    Ok(())
}

/// Opens a data directory without any listener, does the work, flushes and closes it again.
pub fn embedded<T>(
    storage: &Storage,
    machine: &MachineArgs,
    work: impl AsyncFnOnce(&Session) -> T,
) -> Result<T, Error> {
    let query = runtime("juno-query", std::thread::available_parallelism().map_or(2, usize::from))?;
    let done = query.block_on(async {
        let session = open(storage, &machine.device, machine.memory()).await?;
        let done = work(&session).await;
        let closed = session.db().close();
        closed.map_err(|error| Error::Data { path: storage.data.clone(), cause: error.into() })?;
        Ok(done)
    });
    query.shutdown_timeout(Duration::from_secs(1));
    done
}

/// Opens a data directory for SQL. Must run on the runtime that the session will be used on.
async fn open(storage: &Storage, device: &str, memory: Memory) -> Result<Session, Error> {
    let failed = |cause| Error::Data { path: storage.data.clone(), cause };
    let device = Device::parse(device).map_err(|error| Error::Device(error.to_string()))?;
    let place = storage.clone();
    let db = tokio::task::spawn_blocking(move || open_db(&place)).await;
    let db = db.map_err(std::io::Error::other)??;
    Session::open_with(db, device, memory).await.map_err(failed)
}

fn open_db(storage: &Storage) -> Result<Db, Error> {
    let mut options = Options::default();
    match &storage.bucket {
        None => bucket::refuse_without(&storage.data).map_err(Error::Bucket)?,
        Some(bucket) => {
            let disk = BucketDisk::open(&storage.data, bucket).map_err(Error::Bucket)?;
            options.system = options.system.with_disk(Arc::new(disk));
        }
    }
    let db = Db::open_with(&storage.data, options)
        .map_err(|error| Error::Data { path: storage.data.clone(), cause: error.into() })?;
    // What queries of a process that was killed had put aside; the directory is this process's alone by now.
    match std::fs::remove_dir_all(storage.data.join(TEMPORARY_DIR)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(db),
    }
}

/// A runtime with named threads.
fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
}

async fn bind(address: SocketAddr, flag: &'static str, variable: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Address { address, flag, variable, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = bind(taken.local_addr().unwrap(), "--pg-addr", "JUNO_PG_ADDR").await.unwrap_err().to_string();
        assert!(error.contains("--pg-addr") && error.contains("127.0.0.1"), "{error}");
    }
}
