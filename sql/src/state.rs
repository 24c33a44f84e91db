//! How DataFusion is set up: PostgreSQL's dialect and types, juno's functions and plan rules, PostgreSQL's catalog.
//!
//! **Invariant:** made once when a database is opened, and for a transaction that changes tables; statements start from clones.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::config::Dialect;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use juno_kernels::Device;

use crate::aggregate::Aggregates;
use crate::catalog::{DATABASE, PG_CATALOG, PublicSchema, SCHEMA};
use crate::latest::Latest;
use crate::pg_catalog::{self, PgCatalog};
use crate::runs::Runs;
use crate::staged::Staged;
use crate::types::SqlTypes;
use crate::yielding::Yielding;
use crate::{Result, cast, functions, lean};

fn config() -> SessionConfig {
    let mut config =
        SessionConfig::new().with_information_schema(true).with_default_catalog_and_schema(DATABASE, SCHEMA);
    config = config.with_create_default_catalog_and_schema(false);
    let options = config.options_mut();
    // The precedence of -> and ->> is PostgreSQL's only with this dialect.
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Without a zone TIMESTAMPTZ would become a timestamp without one.
    options.execution.time_zone = Some("+00:00".into());
    config
}

/// Rules that find shorter ways to the rows of plans; before DataFusion's own, while plans have their plain form.
fn shortcuts(builder: &mut SessionStateBuilder) {
    let rules = &mut builder.physical_optimizers().get_or_insert_default().rules;
    rules.splice(0..0, [Arc::new(Latest) as _, Arc::new(Aggregates) as _, Arc::new(Runs) as _, Arc::new(Staged) as _]);
}

fn builder(device: &Device, runtime: Arc<RuntimeEnv>) -> SessionStateBuilder {
    let mut builder = functions::register(SessionStateBuilder::new().with_default_features(), device);
    builder.scalar_functions().get_or_insert_default().extend(cast::functions());
    shortcuts(&mut builder);
    let next = builder.type_planner().take();
    builder
        .with_type_planner(Arc::new(SqlTypes { next }))
        .with_physical_optimizer_rule(Arc::new(Yielding))
        .with_runtime_env(runtime)
        .with_config(config())
}

/// What statements over a picture of the tables start from.
pub(crate) struct Planner {
    pub(crate) public: Arc<PublicSchema>,
    pub(crate) state: SessionState,
    /// The same for plans that few rules can do something for.
    pub(crate) lean: SessionState,
}

impl Planner {
    pub(crate) fn new(device: &Device, runtime: Arc<RuntimeEnv>, public: Arc<PublicSchema>) -> Result<Self> {
        let state = with_catalog(device, runtime, &public)?;
        Ok(Planner { public, lean: lean::lean(&state), state })
    }
}

/// With PostgreSQL's catalog beside the public schema.
fn with_catalog(device: &Device, runtime: Arc<RuntimeEnv>, public: &Arc<PublicSchema>) -> Result<SessionState> {
    let context = SessionContext::new_with_state(builder(device, runtime).build());
    for function in functions::threat_functions(public.models(), device) {
        context.register_udf(function);
    }
    let catalog = Arc::new(MemoryCatalogProvider::new());
    catalog.register_schema(SCHEMA, Arc::clone(public) as _)?;
    context.register_catalog(DATABASE, Arc::clone(&catalog) as _);
    setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
    // In place of the library's of the same names.
    for function in functions::catalog_functions().chain(functions::quoting()).chain(pg_catalog::functions(public)) {
        context.register_udf(function);
    }
    if let Some(base) = catalog.schema(PG_CATALOG) {
        catalog.register_schema(PG_CATALOG, Arc::new(PgCatalog::new(base, public)))?;
    }
    // The catalog brings its own type planner: ours stays in front of it.
    let mut builder = SessionStateBuilder::new_from_existing(context.state());
    let next = builder.type_planner().take();
    Ok(builder.with_type_planner(Arc::new(SqlTypes { next })).build())
}

/// Functions and types without tables, for DEFAULT expressions.
pub(crate) fn bare(device: &Device) -> SessionState {
    builder(device, Arc::default())
        .with_config(SessionConfig::new().set_str("datafusion.sql_parser.dialect", "PostgreSQL"))
        .build()
}
