//! A session: one client's settings and transaction over the shared database.
//!
//! **Invariant:** nothing here knows which protocol a statement came by; what blocks runs on blocking threads.

mod block;
mod changing;
mod copy;
mod defining;
mod detecting;
mod message;
mod model;
mod operation;
mod reading;
mod rolling;
mod user;
mod utility;

pub(crate) use block::RefusedLogon;
pub use copy::CopyIn;
pub(crate) use model::{WATCHED, Watched};
pub use operation::rfc3339;
pub(crate) use operation::{Found, HISTORY, Hold, Invocation, LastRun, Mandate, Operations, objects, refused};
pub use operation::{OperationFigures, Problems};
pub use user::{Account, Accounts};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::TryStreamExt;
use juno_engine::Db;
use juno_kernels::Device;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use self::reading::{States, bound};
use crate::catalog::PublicSchema;
use crate::cursor::Cursors;
use crate::detector::status::{self as detectors, Detectors};
use crate::interrupt::Interrupt;
use crate::lock::{Held, Locks};
use crate::memory::{self, Memory};
use crate::ops::operations::live::Live;
use crate::procedure::{Call, Named, Run};
use crate::role::{self, Role, User};
use crate::setting::Settings;
use crate::state::Planner;
use crate::statement::{Kind, Outcome, Prepared, Statement, Work};
use crate::transaction::{Ended, Modes, Transaction, TransactionStatus, View};
use crate::{
    Error, Incoming, Result, apart, change, ingest, migrate, ops, output, parameter, procedure, state, statement,
    transaction, view,
};

/// What all sessions of a database share.
struct Shared {
    db: Db,
    device: Device,
    memory: Memory,
    /// Over the tables as they are committed.
    planner: Arc<Planner>,
    /// Copies of the planner's states.
    states: States,
    lean: States,
    /// Functions and types without tables, for DEFAULT expressions.
    bare: SessionState,
    /// Views are planned anew by one session at a time.
    planning_views: tokio::sync::Mutex<()>,
    compatibility: PostgresCompatibilityParser,
    detectors: Arc<Detectors>,
    /// The users, as their table has them.
    accounts: RwLock<Arc<Accounts>>,
    blocks: block::Blocks,
    locks: Arc<Locks>,
    operations: Arc<Operations>,
    /// Sessions so far: each has a number, by which it holds locks.
    sessions: AtomicU64,
}

/// One client's view of the database.
pub struct Session {
    shared: Arc<Shared>,
    user: User,
    number: u64,
    settings: Mutex<Settings>,
    transaction: Mutex<Transaction>,
    cursors: Mutex<Cursors>,
    cancels: watch::Sender<u64>,
}

/// A point between a session's cancel requests.
#[derive(Debug, Clone, Copy)]
pub struct Moment(u64);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("transaction", &self.transaction_status()).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a database for SQL: applies the migrations and gives a first session.
    ///
    /// # Errors
    /// Whatever keeps the migrations from being applied, such as a read-only database.
    pub async fn open(db: Db, device: Device) -> Result<Session> {
        Session::open_with(db, device, Memory::default()).await
    }

    /// The same with limits for the memory of queries.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open_with(db: Db, device: Device, memory: Memory) -> Result<Session> {
        let bare = state::bare(&device);
        let public = Arc::new(PublicSchema::new(db.clone(), bare.clone()));
        let planner = Arc::new(Planner::new(
            &device,
            Arc::new(memory::shared(memory, db.path().join(memory::TEMPORARY_DIR))?),
            public,
        )?);
        let operations = Arc::new(Operations::new(db.system().clock().now_us()));
        let shared = Shared {
            operations,
            db,
            device,
            memory,
            planner,
            states: States::default(),
            lean: States::default(),
            bare,
            planning_views: tokio::sync::Mutex::default(),
            compatibility: PostgresCompatibilityParser::new(),
            detectors: Arc::default(),
            accounts: RwLock::default(),
            blocks: block::Blocks::default(),
            locks: Arc::default(),
            sessions: AtomicU64::new(0),
        };
        let session = Session::over(Arc::new(shared));
        Box::pin(migrate::migrate(&session)).await?;
        session.load_accounts().await?;
        Box::pin(session.load_blocks()).await?;
        let Shared { db, device, operations, planner, detectors, .. } = session.shared.as_ref();
        let live = Live { db: db.clone(), device: device.clone(), operations: Arc::clone(operations) };
        ops::register_views(&planner.state, &planner.public, &live).await?;
        planner.public.add_view(detectors::VIEW, detectors::view(detectors)?);
        view::open(&session).await?;
        Box::pin(session.load_models()).await?;
        Box::pin(session.start_detectors()).await?;
        Box::pin(session.open_operations()).await?;
        Ok(session)
    }

    fn over(shared: Arc<Shared>) -> Session {
        let number = shared.sessions.fetch_add(1, Ordering::Relaxed);
        Session {
            shared,
            number,
            user: User::trusted("juno"),
            settings: Mutex::default(),
            transaction: Mutex::default(),
            cursors: Mutex::default(),
            cancels: watch::Sender::new(0),
        }
    }

    /// Another session over the same database, with settings and a transaction of its own.
    pub fn connect(&self) -> Session {
        Session::over(Arc::clone(&self.shared))
    }

    /// The engine below.
    pub fn db(&self) -> &Db {
        &self.shared.db
    }

    /// The device that ML functions run on.
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// The statements of a text; an empty text has none.
    ///
    /// # Errors
    /// [`Error::Syntax`] and [`Error::Unsupported`].
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        statement::parse(sql, &self.shared.compatibility, &self.user.name, |name| self.value_of(name))
    }

    /// Plans a statement. `types` are the parameter types that the client named, by position.
    ///
    /// # Errors
    /// Names that do not exist, types that do not fit, what is not supported.
    pub async fn prepare(&self, statement: Statement, types: &[Option<DataType>]) -> Result<Prepared> {
        role::permit(&self.user, &statement.kind)?;
        // Planning reads no rows, so that it needs neither a snapshot nor a state of its own.
        let planner = self.planner()?;
        let state = &planner.state;
        match statement.kind {
            Kind::Query(tag, parsed) => {
                let names = output::names(&parsed);
                let locked = statement::locks(&parsed).then(|| view::reads(state, &parsed)).transpose()?;
                let ((plan, parameters, wanted), shown) = apart::plan(state, *parsed, types).await?;
                let names = shown.names(plan.schema().as_arrow(), names);
                let schema = Some(output::renamed(&output::schema(state, &plan), names.as_deref()));
                refuse_effects(&plan)?;
                let prepared = Prepared { parameters, wanted, schema, work: Work::Query(tag, Box::new(plan), names) };
                match locked {
                    None => Ok(prepared),
                    Some(tables) => Ok(prepared.within(|inner| Work::Locked(tables, inner))),
                }
            }
            Kind::Change(parsed) => {
                let (change, parameters, wanted) = change::plan(state, &planner.public, *parsed, types).await?;
                role::own_table(&self.user, &change.table.name)?;
                let schema = change.returning.as_ref().map(|returning| Arc::clone(&returning.schema));
                Ok(Prepared { parameters, wanted, schema, work: Work::Change(Box::new(change)) })
            }
            Kind::Declare(name, hold, parsed) => {
                let names = output::names(&parsed);
                let ((plan, parameters, wanted), shown) = apart::plan(state, *parsed, types).await?;
                let names = shown.names(plan.schema().as_arrow(), names);
                refuse_effects(&plan)?;
                let work = Work::Declare(name, hold, Box::new(plan), names);
                Ok(Prepared { parameters, wanted, schema: None, work })
            }
            Kind::Fetch(fetch, moves) => {
                let schema = self.cursors.lock().schema(&fetch.cursor)?;
                let schema = (!moves).then_some(schema);
                let work = Work::Other(Box::new(Kind::Fetch(fetch, moves)));
                Ok(Prepared { parameters: Vec::new(), wanted: Vec::new(), schema, work })
            }
            Kind::Call(function) => {
                let call = Call::resolve(&function)?;
                let schema = Some(call.procedure.schema());
                let (plan, parameters, wanted) =
                    parameter::plan(state, parameter::select(&call.arguments)?, types).await?;
                let work = Work::Call { procedure: call.procedure, places: call.places, arguments: Box::new(plan) };
                Ok(Prepared { parameters, wanted, schema, work })
            }
            Kind::Show(name) => {
                let schema = Some(self.shown(&name)?.schema());
                Ok(Prepared {
                    parameters: Vec::new(),
                    wanted: Vec::new(),
                    schema,
                    work: Work::Other(Box::new(Kind::Show(name))),
                })
            }
            Kind::Configure(changes, kind) => {
                let inner = Box::pin(self.prepare(Statement { kind: *kind }, types)).await?;
                Ok(inner.within(|inner| Work::Configure(changes, inner)))
            }
            Kind::Copy(copy) => self.prepare_copy(*copy, types).await,
            other => Ok(Prepared {
                parameters: Vec::new(),
                wanted: Vec::new(),
                schema: None,
                work: Work::Other(Box::new(other)),
            }),
        }
    }

    /// Runs a planned statement with values for its parameters.
    ///
    /// # Errors
    /// Whatever the statement fails with; rows may fail later, while they are read.
    pub async fn execute(&self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        self.execute_since(self.moment(), prepared, parameters).await
    }

    /// The same for a statement that was asked for at an earlier moment: what was cancelled since then is not run.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn execute_since(
        &self,
        asked: Moment,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        prepared.check_count(parameters.len())?;
        let ends = matches!(&prepared.work, Work::Other(kind) if kind.ends_transaction());
        if self.transaction_status() == TransactionStatus::Failed && !ends {
            return Err(Error::FailedTransaction);
        }
        match &prepared.work {
            Work::Call { .. } => self.end_implicit().await?,
            Work::Other(kind) if kind.is_immediate() => self.end_implicit().await?,
            Work::Other(kind) if kind.defines() && !self.transaction.lock().holds() => {
                return Box::pin(self.alone(prepared)).await;
            }
            _ => {}
        }
        let timeout = self.settings.lock().duration("statement_timeout");
        let mut interrupt = Interrupt::new(self.cancels.subscribe(), asked.0, timeout);
        let values = ParamValues::from(parameter::fitted(parameters.clone(), &prepared.wanted)?);
        match &prepared.work {
            Work::Query(tag, plan, names) => {
                let stream = interrupt.guard(self.rows(bound(plan, &values)?)).await?;
                let stream = output::renamed_stream(stream, names.as_deref());
                Ok(Outcome::Rows { tag, stream: interrupt.guard_stream(stream) })
            }
            Work::Change(change) => match interrupt.guard(self.change(change, &values)).await? {
                Outcome::Rows { tag, stream } => Ok(Outcome::Rows { tag, stream: interrupt.guard_stream(stream) }),
                done => Ok(done),
            },
            Work::Declare(name, hold, plan, names) => {
                if !hold && !self.transaction.lock().holds() {
                    let text = "DECLARE CURSOR can only be used in transaction blocks, or WITH HOLD";
                    return Err(Error::NoTransaction(text.into()));
                }
                let stream = interrupt.guard(self.rows(bound(plan, &values)?)).await?;
                let stream = output::renamed_stream(stream, names.as_deref());
                self.cursors.lock().declare(name.clone(), *hold, stream)?;
                Ok(Outcome::done("DECLARE CURSOR"))
            }
            Work::Call { procedure, places, arguments } => {
                let plan = bound(arguments, &values)?;
                interrupt.guard(self.call(*procedure, places, plan)).await
            }
            Work::Locked(tables, inner) => {
                let _held = interrupt.guard(self.lock_all(tables)).await?;
                Box::pin(self.execute_since(asked, inner, parameters)).await
            }
            Work::Configure(changes, inner) => {
                for change in changes {
                    self.assign(&change.name, change.value.as_deref(), change.local)?;
                }
                Box::pin(self.execute_since(asked, inner, parameters)).await
            }
            Work::CopyIn(copy) => Ok(Outcome::CopyIn(copy.clone())),
            Work::CopyOut { inner, schema, options, place } => {
                let Outcome::Rows { stream, .. } = Box::pin(self.execute_since(asked, inner, parameters)).await? else {
                    return Err(Error::Internal("a query must have rows".into()));
                };
                Ok(Outcome::CopyOut {
                    schema: Arc::clone(schema),
                    options: options.clone(),
                    place: place.clone(),
                    stream,
                })
            }
            // On the heap, as what runs a statement inside of a statement would not fit the stack of a thread otherwise.
            Work::Other(kind) => match Box::pin(interrupt.guard(self.other(kind))).await? {
                Outcome::Rows { tag, stream } => Ok(Outcome::Rows { tag, stream: interrupt.guard_stream(stream) }),
                done => Ok(done),
            },
        }
    }

    /// Takes telemetry: creates tables on first write, widens them by new fields, and makes all of it durable at once.
    ///
    /// # Errors
    /// Types that do not fit the table, and whatever the engine refuses; then nothing was taken.
    pub async fn ingest(&self, incoming: Vec<Incoming>) -> Result<u64> {
        self.user.needs(Role::Operator, "writing rows")?;
        for batch in &incoming {
            role::own_table(&self.user, &batch.table)?;
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || ingest::commit(&shared.db, &shared.planner.public, incoming)).await
    }

    /// Takes telemetry by the million rows: batches of one table with the columns of the first are sorted straight into
    /// files, past the log, and seen in one step.
    ///
    /// # Errors
    /// What the batches answer, and as [`Session::ingest`]; then no row was taken.
    pub async fn import<E: From<Error> + Send + 'static>(
        &self,
        batches: impl IntoIterator<Item = Result<Incoming, E>> + Send + 'static,
    ) -> Result<u64, E> {
        self.user.needs(Role::Operator, "writing rows")?;
        let (shared, user) = (Arc::clone(&self.shared), self.user.clone());
        let permit = move |table: &str| role::own_table(&user, table);
        blocking(move || Ok(ingest::import(&shared.db, &shared.planner.public, permit, batches))).await?
    }

    /// Where the session stands in its transaction.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.transaction.lock().status()
    }

    /// How long a client may leave a transaction open without a word; None where it may for ever.
    pub fn idle_limit(&self) -> Option<Duration> {
        match self.transaction_status() {
            TransactionStatus::Idle => None,
            _ => self.settings.lock().duration("idle_in_transaction_session_timeout"),
        }
    }

    /// Marks an open transaction as failed: the protocol saw an error.
    pub fn fail_transaction(&self) {
        let implicit = {
            let mut transaction = self.transaction.lock();
            let implicit = transaction.is_implicit();
            transaction.fail();
            implicit
        };
        if implicit {
            self.cursors.lock().end(false);
        }
    }

    /// The columns of an open cursor: protocols know cursors as portals.
    pub fn cursor(&self, name: &str) -> Option<SchemaRef> {
        self.cursors.lock().schema(name).ok()
    }

    /// The value of a setting.
    pub fn setting(&self, name: &str) -> Option<String> {
        if name.eq_ignore_ascii_case("is_superuser") {
            let admin = self.user.role == Some(Role::Admin);
            return Some(if admin { "on" } else { "off" }.to_owned());
        }
        self.value_of(name).ok()
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is not known, [`Error::Unsupported`] for a value that would not be true.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.assign(name, Some(value), false).map(drop)
    }

    /// Changes a setting, or puts it back to its default; whether it had an effect, which what is local has in a
    /// transaction only.
    fn assign(&self, name: &str, value: Option<&str>, local: bool) -> Result<bool> {
        let Some(value) = value.map(|value| value.trim().trim_matches('\'')) else {
            return self.settings.lock().reset(Some(name)).map(|()| true);
        };
        let now = self.transaction.lock().modes();
        match name.to_lowercase().as_str() {
            "transaction_isolation" => {
                let repeatable = transaction::repeatable(value)?;
                now.map_or(Ok(false), |now| self.transaction.lock().set_modes(Modes { repeatable, ..now }))
            }
            "transaction_read_only" => {
                let read_only = ["on", "true", "yes", "1"].contains(&value.to_lowercase().as_str());
                now.map_or(Ok(false), |now| self.transaction.lock().set_modes(Modes { read_only, ..now }))
            }
            "default_transaction_isolation" if value.eq_ignore_ascii_case("serializable") => {
                transaction::repeatable(value).map(|_| true)
            }
            _ if local => self.settings.lock().set_local(name, value),
            _ => self.settings.lock().set(name, value).map(|()| true),
        }
    }

    /// Now, as far as cancel requests are concerned.
    pub fn moment(&self) -> Moment {
        Moment(*self.cancels.borrow())
    }

    /// Stops whatever the session runs at the moment it is called; callable from anywhere.
    pub fn cancel_handle(&self) -> Arc<dyn Fn() + Send + Sync> {
        let cancels = self.cancels.clone();
        Arc::new(move || cancels.send_modify(|count| *count += 1))
    }

    /// What the statement that begins now reads.
    fn view(&self) -> View {
        self.transaction.lock().view(&self.shared.db)
    }

    /// Takes the lock of a table, for the statement or to the end of its transaction.
    async fn lock(&self, table: &str) -> Result<Option<Held>> {
        if self.transaction.lock().has_lock(table) {
            return Ok(None);
        }
        let timeout = self.settings.lock().duration("lock_timeout");
        let taking = self.shared.locks.take(self.number, table);
        let held = match timeout {
            Some(timeout) => {
                tokio::time::timeout(timeout, taking).await.map_err(|_| Error::LockTimeout(table.to_owned()))??
            }
            None => taking.await?,
        };
        Ok(self.transaction.lock().keep_lock(table, held))
    }

    /// Takes the locks of those of some names that are tables.
    async fn lock_all(&self, names: &BTreeSet<String>) -> Result<Vec<Held>> {
        self.user.needs(Role::Operator, "locks")?;
        self.check_writable("SELECT FOR UPDATE")?;
        let mut held = Vec::new();
        for name in names.iter().filter(|name| self.public().catalog().table(name).is_some()) {
            held.extend(self.lock(name).await?);
        }
        Ok(held)
    }

    async fn commit_ended(&self, ended: Ended) -> Result<()> {
        let Ended { pending: Some(pending), changes_views, .. } = &ended else { return Ok(()) };
        if pending.is_empty() {
            return Ok(());
        }
        let (db, changes_views) = (self.shared.db.clone(), *changes_views);
        let committed = blocking(move || {
            // The locks go with the rest of it, after the commit.
            let mut ended = ended;
            let pending = ended.pending.take().unwrap_or_default();
            Ok(db.commit_pending(pending)?)
        });
        committed.await?;
        if changes_views {
            Box::pin(view::load(&self.connect())).await?;
        }
        Ok(())
    }

    /// Refuses a statement that writes where the transaction only reads.
    fn check_writable(&self, command: &str) -> Result<()> {
        let modes = self.transaction.lock().modes();
        let modes = modes.unwrap_or_else(|| self.settings.lock().modes());
        if modes.read_only { Err(Error::ReadOnlyTransaction(command.to_owned())) } else { Ok(()) }
    }

    async fn call(&self, named: Named, places: &[usize], arguments: LogicalPlan) -> Result<Outcome> {
        if self.transaction_status() == TransactionStatus::Open {
            let text = format!("CALL {} cannot run inside a transaction block", named.name());
            return Err(Error::ActiveTransaction(text));
        }
        let mut values = vec![None; named.parameters().len()];
        let rows: Vec<RecordBatch> = self.rows(arguments).await?.try_collect().await?;
        if let Some(row) = rows.iter().find(|batch| batch.num_rows() > 0) {
            for (place, array) in places.iter().zip(row.columns()) {
                values[*place] = Some(ScalarValue::try_from_array(array, 0)?);
            }
        }
        let result = match named {
            Named::Own(procedure) => match procedure.run {
                Run::Engine(run) => {
                    let db = self.shared.db.clone();
                    blocking(move || run(&db, &values)).await?
                }
                Run::CatchUp => self.catch_up(&values).await?,
                Run::Model(work) => {
                    self.check_writable("CALL")?;
                    Box::pin(self.model_call(work, &values)).await?
                }
            },
            Named::Operation(operation) => {
                let request = procedure::request(operation, values)?;
                Box::pin(self.call_operation(operation, request)).await?
            }
        };
        let result = RecordBatch::try_new(named.schema(), result)?;
        Ok(Outcome::Rows { tag: "CALL", stream: one_batch(result) })
    }
}

/// A query plan may hold no statement that changes something, such as EXPLAIN ANALYZE of an INSERT.
fn refuse_effects(plan: &LogicalPlan) -> Result<()> {
    let effect = plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_)))
    })?;
    if effect { Err(Error::Unsupported("EXPLAIN takes queries only".into())) } else { Ok(()) }
}

async fn drain(mut stream: SendableRecordBatchStream) -> Result<()> {
    while stream.try_next().await?.is_some() {}
    Ok(())
}

fn one_batch(batch: RecordBatch) -> SendableRecordBatchStream {
    let schema = batch.schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(async move { Ok(batch) })))
}

/// Runs what blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("a worker failed: {error}"))),
    }
}

#[cfg(test)]
mod tests;
