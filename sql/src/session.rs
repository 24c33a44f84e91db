//! A session: one client's settings and transaction over the shared database.
//!
//! **Invariant:** nothing here knows which protocol a statement came by; what blocks runs on blocking threads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::common::ParamValues;
use datafusion::common::config::Dialect;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::setup_pg_catalog;
use futures::TryStreamExt;
use juno_engine::{Db, Write};
use juno_kernels::Device;
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::attribute::{Columns, PgCatalog};
use crate::catalog::{DATABASE, PG_CATALOG, PublicSchema, SCHEMA};
use crate::change::Change;
use crate::interrupt::Interrupt;
use crate::procedure::{Call, Procedure};
use crate::setting::Settings;
use crate::statement::{Kind, Outcome, Prepared, Statement, Work};
use crate::table::StatementSnapshot;
use crate::transaction::{Transaction, TransactionStatus};
use crate::types::SqlTypes;
use crate::yielding::Yielding;
use crate::{Error, Incoming, Result, cast, definition, functions, ingest, migrate, multiply, ops, output, parameter, statement};

/// What all sessions of a database share.
struct Shared {
    db: Db,
    device: Device,
    /// The state that each statement starts from.
    state: SessionState,
    /// Functions and types without tables, for DEFAULT expressions.
    bare: SessionState,
    public: Arc<PublicSchema>,
    compatibility: PostgresCompatibilityParser,
    /// One lock per table: UPDATE and DELETE read before they write.
    changing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// One client's view of the database.
pub struct Session {
    shared: Arc<Shared>,
    settings: Mutex<Settings>,
    transaction: Mutex<Transaction>,
    cancels: watch::Sender<u64>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("transaction", &self.transaction_status()).finish_non_exhaustive()
    }
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(true).with_default_catalog_and_schema(DATABASE, SCHEMA);
    config = config.with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    // The precedence of -> and ->> is PostgreSQL's only with this dialect.
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Without a zone TIMESTAMPTZ would become a timestamp without one.
    options.execution.time_zone = Some("+00:00".into());
    config
}

fn builder(device: &Device) -> SessionStateBuilder {
    let mut builder = functions::register(SessionStateBuilder::new().with_default_features(), device);
    builder.scalar_functions().get_or_insert_default().extend(cast::functions());
    let next = builder.type_planner().take();
    builder
        .with_type_planner(Arc::new(SqlTypes { next }))
        .with_analyzer_rule(Arc::new(multiply::Rule))
        .with_query_planner(Arc::new(multiply::Planner))
        .with_physical_optimizer_rule(Arc::new(Yielding))
        .with_config(config())
}

/// The state with PostgreSQL's catalog beside the public schema.
fn with_catalog(device: &Device, public: &Arc<PublicSchema>) -> Result<SessionState> {
    let context = SessionContext::new_with_state(builder(device).build());
    let catalog = Arc::new(MemoryCatalogProvider::new());
    catalog.register_schema(SCHEMA, Arc::clone(public) as _)?;
    context.register_catalog(DATABASE, Arc::clone(&catalog) as _);
    setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
    if let Some(base) = catalog.schema(PG_CATALOG) {
        catalog.register_schema(PG_CATALOG, Arc::new(PgCatalog { base, columns: Columns(public.db().clone()) }))?;
    }
    // The catalog brings its own type planner: ours stays in front of it.
    let mut builder = SessionStateBuilder::new_from_existing(context.state());
    let next = builder.type_planner().take();
    Ok(builder.with_type_planner(Arc::new(SqlTypes { next })).build())
}

impl Session {
    /// Opens a database for SQL: applies the migrations and gives a first session.
    ///
    /// # Errors
    /// Whatever keeps the migrations from being applied, such as a read-only database.
    pub async fn open(db: Db, device: Device) -> Result<Session> {
        let bare = builder(&device).with_config(SessionConfig::new().set_str("datafusion.sql_parser.dialect", "PostgreSQL")).build();
        let public = Arc::new(PublicSchema::new(db.clone(), bare.clone()));
        let state = with_catalog(&device, &public)?;
        let compatibility = PostgresCompatibilityParser::new();
        let shared = Shared { db, device, state, bare, public, compatibility, changing: Mutex::default() };
        let session = Session::over(Arc::new(shared));
        migrate::migrate(&session).await?;
        ops::register_views(&session.shared.state, &session.shared.public).await?;
        Ok(session)
    }

    fn over(shared: Arc<Shared>) -> Session {
        Session { shared, settings: Mutex::default(), transaction: Mutex::default(), cancels: watch::Sender::new(0) }
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
        statement::parse(sql, &self.shared.compatibility)
    }

    /// Plans a statement. `types` are the parameter types that the client named, by position.
    ///
    /// # Errors
    /// Names that do not exist, types that do not fit, what is not supported.
    pub async fn prepare(&self, statement: Statement, types: &[Option<DataType>]) -> Result<Prepared> {
        let state = self.statement_state();
        match statement.kind {
            Kind::Query(tag, parsed) => {
                let names = output::names(&parsed);
                let (plan, parameters, wanted) = parameter::plan(&state, *parsed, types).await?;
                let schema = Some(output::renamed(plan.schema().inner(), names.as_deref()));
                refuse_effects(&plan)?;
                Ok(Prepared { parameters, wanted, schema, work: Work::Query(tag, Box::new(plan), names) })
            }
            Kind::Change(parsed) => {
                let (plan, parameters, wanted) = parameter::plan(&state, *parsed, types).await?;
                Ok(Prepared { parameters, wanted, schema: None, work: Work::Change(Box::new(Change::from_plan(plan)?)) })
            }
            Kind::Call(function) => {
                let call = Call::resolve(&function)?;
                let schema = Some(call.procedure.schema());
                let (plan, parameters, wanted) = parameter::plan(&state, parameter::select(&call.arguments)?, types).await?;
                let work = Work::Call { procedure: call.procedure, places: call.places, arguments: Box::new(plan) };
                Ok(Prepared { parameters, wanted, schema, work })
            }
            Kind::Show(name) => {
                let schema = Some(self.shown(&name)?.schema());
                Ok(Prepared { parameters: Vec::new(), wanted: Vec::new(), schema, work: Work::Other(Box::new(Kind::Show(name))) })
            }
            other => Ok(Prepared { parameters: Vec::new(), wanted: Vec::new(), schema: None, work: Work::Other(Box::new(other)) }),
        }
    }

    /// Runs a planned statement with values for its parameters.
    ///
    /// # Errors
    /// Whatever the statement fails with; rows may fail later, while they are read.
    pub async fn execute(&self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        if parameters.len() != prepared.parameters.len() {
            let (given, wanted) = (parameters.len(), prepared.parameters.len());
            return Err(Error::InvalidParameter(format!("the statement has {wanted} parameters and was given {given}")));
        }
        let ends = matches!(&prepared.work, Work::Other(kind) if matches!(**kind, Kind::Commit | Kind::Rollback));
        if self.transaction_status() == TransactionStatus::Failed && !ends {
            return Err(Error::FailedTransaction);
        }
        let timeout = self.settings.lock().statement_timeout();
        let mut interrupt = Interrupt::new(self.cancels.subscribe(), timeout);
        let values = ParamValues::from(parameter::fitted(parameters, &prepared.wanted)?);
        match &prepared.work {
            Work::Query(tag, plan, names) => {
                let stream = interrupt.guard(self.rows(bound(plan, &values)?)).await?;
                let stream = output::renamed_stream(stream, names.as_deref());
                Ok(Outcome::Rows { tag, stream: interrupt.guard_stream(stream) })
            }
            Work::Change(change) => interrupt.guard(self.change(change, &values)).await,
            Work::Call { procedure, places, arguments } => {
                let plan = bound(arguments, &values)?;
                interrupt.guard(self.call(procedure, places, plan)).await
            }
            Work::Other(kind) => interrupt.guard(self.other(kind)).await,
        }
    }

    /// Runs every statement of a text, one after the other; the outcome of the last. Rows of the others are read and dropped.
    ///
    /// # Errors
    /// The first error; statements after it are not run.
    pub async fn query(&self, sql: &str) -> Result<Outcome> {
        let mut last = Outcome::Empty;
        for statement in self.parse(sql)? {
            if let Outcome::Rows { stream, .. } = last {
                drain(stream).await?;
            }
            let prepared = self.prepare(statement, &[]).await?;
            last = self.execute(&prepared, Vec::new()).await?;
        }
        Ok(last)
    }

    /// The rows of a text's last statement, all in memory; none where it returns none.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn collect(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        match self.query(sql).await? {
            Outcome::Rows { stream, .. } => Ok(stream.try_collect().await?),
            Outcome::Done { .. } | Outcome::Empty => Ok(Vec::new()),
        }
    }

    /// Takes telemetry: creates tables on first write, widens them by new fields, and makes all of it durable at once.
    ///
    /// # Errors
    /// Types that do not fit the table, new tags, and whatever the engine refuses; then nothing was taken.
    pub async fn ingest(&self, incoming: Vec<Incoming>) -> Result<u64> {
        let shared = Arc::clone(&self.shared);
        blocking(move || ingest::commit(&shared.db, &shared.public, incoming)).await
    }

    /// Where the session stands in its transaction.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.transaction.lock().status()
    }

    /// Marks an open transaction as failed: the protocol saw an error.
    pub fn fail_transaction(&self) {
        self.transaction.lock().fail();
    }

    /// The value of a setting.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.lock().get(name).ok()
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is not known, [`Error::Unsupported`] for a value that would not be true.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.settings.lock().set(name, value)
    }

    /// Stops whatever the session runs at the moment it is called; callable from anywhere.
    pub fn cancel_handle(&self) -> Arc<dyn Fn() + Send + Sync> {
        let cancels = self.cancels.clone();
        Arc::new(move || cancels.send_modify(|count| *count += 1))
    }

    /// A state that sees the database as it is now, for one statement.
    fn statement_state(&self) -> SessionState {
        let mut state = self.shared.state.clone();
        state.config_mut().set_extension(Arc::new(StatementSnapshot(self.shared.db.snapshot())));
        state.mark_start_execution();
        state
    }

    async fn rows(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        self.transaction.lock().check_read(&tables_of(&plan)?)?;
        let state = self.statement_state();
        let physical = state.create_physical_plan(&plan).await?;
        Ok(execute_stream(physical, state.task_ctx())?)
    }

    async fn change(&self, change: &Change, values: &ParamValues) -> Result<Outcome> {
        let _held = match change.reads_itself() {
            true => Some(self.lock(&change.table.name).await),
            false => None,
        };
        let batches: Vec<RecordBatch> = self.rows(bound(&change.plan, values)?).await?.try_collect().await?;
        let (writes, count) = change.writes(&self.shared.db, &batches)?;
        let waiting = self.transaction.lock().hold(writes)?;
        if let Some(writes) = waiting {
            self.commit(writes).await?;
        }
        Ok(Outcome::done(change.tag(count)))
    }

    async fn lock(&self, table: &str) -> OwnedMutexGuard<()> {
        let lock = Arc::clone(self.shared.changing.lock().entry(table.to_owned()).or_default());
        lock.lock_owned().await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let db = self.shared.db.clone();
        blocking(move || Ok(db.commit(writes)?)).await.map(|_| ())
    }

    async fn call(&self, procedure: &'static Procedure, places: &[usize], arguments: LogicalPlan) -> Result<Outcome> {
        if self.transaction_status() == TransactionStatus::Open {
            return Err(Error::Unsupported(format!("CALL {} cannot run inside a transaction block", procedure.name)));
        }
        let mut values = vec![None; procedure.parameters.len()];
        let rows: Vec<RecordBatch> = self.rows(arguments).await?.try_collect().await?;
        if let Some(row) = rows.iter().find(|batch| batch.num_rows() > 0) {
            for (place, array) in places.iter().zip(row.columns()) {
                values[*place] = Some(ScalarValue::try_from_array(array, 0)?);
            }
        }
        let db = self.shared.db.clone();
        let result = blocking(move || procedure.run(&db, &values)).await?;
        Ok(Outcome::Rows { tag: "CALL", stream: one_batch(result) })
    }

    async fn other(&self, kind: &Kind) -> Result<Outcome> {
        match kind {
            Kind::Begin => {
                let fresh = self.transaction.lock().begin();
                let notices = if fresh { Vec::new() } else { vec!["there is already a transaction in progress".into()] };
                Ok(Outcome::Done { tag: "BEGIN".into(), notices })
            }
            Kind::Commit => self.end(true).await,
            Kind::Rollback => self.end(false).await,
            Kind::CreateTable(create) => self.create_table(create).await,
            Kind::DropTable { names, if_exists } => self.drop_tables(names, *if_exists).await,
            Kind::Set(set) => self.set_statement(set),
            Kind::Show(name) => Ok(Outcome::Rows { tag: "SHOW", stream: one_batch(self.shown(name)?) }),
            Kind::Reset(name) => {
                self.settings.lock().reset(name.as_deref())?;
                Ok(Outcome::done("RESET"))
            }
            Kind::Forget(tag) => Ok(Outcome::done(*tag)),
            Kind::Query(..) | Kind::Change(_) | Kind::Call(_) => Err(Error::Internal("the statement was not planned".into())),
        }
    }

    async fn end(&self, commit: bool) -> Result<Outcome> {
        let status = self.transaction_status();
        let writes = self.transaction.lock().end();
        if status == TransactionStatus::Idle {
            let tag = if commit { "COMMIT" } else { "ROLLBACK" };
            return Ok(Outcome::Done { tag: tag.into(), notices: vec!["there is no transaction in progress".into()] });
        }
        match writes.filter(|_| commit) {
            Some(writes) => {
                self.commit(writes).await?;
                Ok(Outcome::done("COMMIT"))
            }
            None => Ok(Outcome::done("ROLLBACK")),
        }
    }

    async fn create_table(&self, create: &datafusion::sql::sqlparser::ast::CreateTable) -> Result<Outcome> {
        let mut defined = definition::define(create, &self.shared.bare)?;
        let name = defined.table.name.clone();
        if self.shared.public.has_view(&name) {
            return Err(Error::DuplicateTable(name));
        }
        let db = self.shared.db.clone();
        match blocking(move || Ok(db.create_table(defined.table)?)).await {
            Ok(()) => {}
            Err(Error::DuplicateTable(_)) if create.if_not_exists => {
                defined.notices = vec![format!("relation \"{name}\" already exists, skipping")];
            }
            Err(error) => return Err(error),
        }
        self.warn_of_transaction(&mut defined.notices, "CREATE TABLE");
        Ok(Outcome::Done { tag: "CREATE TABLE".into(), notices: defined.notices })
    }

    async fn drop_tables(&self, names: &[datafusion::sql::sqlparser::ast::ObjectName], if_exists: bool) -> Result<Outcome> {
        let mut notices = Vec::new();
        for name in names {
            let name = definition::table_name(name)?;
            if self.shared.public.has_view(&name) || ops::is_system_table(&name) {
                return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be dropped")));
            }
            let (db, dropped) = (self.shared.db.clone(), name.clone());
            match blocking(move || Ok(db.drop_table(&dropped)?)).await {
                Ok(()) => {}
                Err(Error::UndefinedTable(_)) if if_exists => notices.push(format!("table \"{name}\" does not exist, skipping")),
                Err(Error::UndefinedTable(_)) => return Err(Error::UndefinedTable(format!("table \"{name}\" does not exist"))),
                Err(error) => return Err(error),
            }
        }
        self.warn_of_transaction(&mut notices, "DROP TABLE");
        Ok(Outcome::Done { tag: "DROP TABLE".into(), notices })
    }

    fn warn_of_transaction(&self, notices: &mut Vec<String>, command: &str) {
        if self.transaction_status() == TransactionStatus::Open {
            notices.push(format!("{command} takes effect at once and is not undone by ROLLBACK"));
        }
    }

    fn set_statement(&self, set: &datafusion::sql::sqlparser::ast::Set) -> Result<Outcome> {
        use datafusion::sql::sqlparser::ast::Set;
        match set {
            Set::SingleAssignment { variable, values, .. } => {
                let value = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.set(&variable.to_string(), &value)?;
            }
            Set::SetTimeZone { value, .. } => self.set("TimeZone", &value.to_string())?,
            Set::SetNames { charset_name, .. } => self.set("client_encoding", &charset_name.value)?,
            Set::SetTransaction { .. } => {}
            other => return Err(Error::Unsupported(format!("{other} is not supported"))),
        }
        Ok(Outcome::done("SET"))
    }

    fn shown(&self, name: &str) -> Result<RecordBatch> {
        let settings = self.settings.lock();
        if name.eq_ignore_ascii_case("all") {
            let all = settings.all();
            let names: StringArray = all.iter().map(|(name, _)| Some(*name)).collect();
            let values: StringArray = all.iter().map(|(_, value)| Some(value.as_str())).collect();
            return Ok(RecordBatch::try_from_iter([("name", Arc::new(names) as _), ("setting", Arc::new(values) as _)])?);
        }
        let name = match name.to_lowercase().as_str() {
            "time zone" | "time.zone" => "TimeZone".to_owned(),
            "transaction isolation level" | "transaction.isolation.level" => "transaction_isolation".to_owned(),
            other => other.to_owned(),
        };
        let schema = Schema::new(vec![Field::new(&name, DataType::Utf8, true)]);
        let value = settings.get(&name)?;
        Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(vec![value]))])?)
    }
}

/// The plan with its parameters' values in place.
fn bound(plan: &LogicalPlan, values: &ParamValues) -> Result<LogicalPlan> {
    Ok(plan.clone().replace_params_with_values(values)?)
}

/// The tables that a plan scans.
fn tables_of(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut tables = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
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
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("a worker failed: {error}"))),
    }
}

#[cfg(test)]
mod tests;
