//! The views and operations behind the REST endpoints, so that whatever REST can do, psql can; and what acts and judges behind them.
//!
//! **Invariant:** SQL lives in the `.sql` files of the folders below; here they are only read and registered. An operation is a file
//! of its own and a line in [`OPERATIONS`].

pub mod actuator;
pub(crate) mod columns;
pub(crate) mod governance;
pub(crate) mod healing;
pub(crate) mod operations;
pub(crate) mod rl;
pub(crate) mod scaling;
pub(crate) mod threats;

use std::sync::Arc;

use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use self::healing::remediate::standing;
use self::operations::live::{self, Live};
use crate::catalog::PublicSchema;
use crate::operation::Operation;
use crate::session::HISTORY;
use crate::{Error, Result, definition, rollup};

/// View files, in an order in which each finds what it reads.
const VIEWS: &[&str] = &[
    include_str!("ops/healing/views.sql"),
    include_str!("ops/scaling/views.sql"),
    include_str!("ops/models/views.sql"),
    include_str!("ops/threats/views.sql"),
    include_str!("ops/governance/views.sql"),
    include_str!("ops/operations/history.sql"),
    include_str!("ops/operations/views.sql"),
    include_str!("ops/rl/views.sql"),
];

/// Every operation.
pub const OPERATIONS: &[&Operation] = &[
    &operations::predict::OPERATION,
    &operations::optimize::OPERATION,
    &operations::kill_switch::OPERATION,
    &operations::maintenance_windows::CREATE,
    &operations::maintenance_windows::CANCEL,
    &operations::approvals::APPROVE,
    &operations::approvals::DENY,
    &operations::jobs::CANCEL,
    &operations::audit::VERIFY,
    &governance::propose::OPERATION,
    &governance::rollback::OPERATION,
    &healing::diagnose::OPERATION,
    &healing::remediate::OPERATION,
    &healing::resolve::OPERATION,
    &scaling::forecast::OPERATION,
    &rl::train::OPERATION,
    &rl::evaluate::OPERATION,
    &rl::promote::OPERATION,
    &rl::rollback::OPERATION,
    &scaling::plan::OPERATION,
    &scaling::execute::OPERATION,
    &scaling::autoscale::OPERATION,
    &threats::analyze::OPERATION,
    &threats::respond::OPERATION,
    &threats::expire::UNDO,
    &threats::label::OPERATION,
];

/// Tables that juno itself needs.
const SYSTEM_TABLES: &[&str] = &[
    "governance_adaptations",
    "healing_incidents",
    "juno_approvals",
    "juno_audit",
    "juno_autoscaled",
    "juno_blocks",
    "juno_detectors",
    "juno_escalations",
    "juno_events",
    "juno_forecasts",
    "juno_idempotency",
    "juno_indicators",
    "juno_intents",
    "juno_jobs",
    "juno_kill_switch",
    "juno_maintenance_windows",
    "juno_migrations",
    "juno_model_drift",
    "juno_models",
    "juno_optimization_trials",
    "juno_policies",
    "juno_remediations",
    "juno_scaling_executions",
    "juno_scaling_knobs",
    "juno_rl_policies",
    "juno_scaling_plans",
    "juno_sigma_rules",
    "juno_threat_responses",
    "juno_users",
    "juno_views",
    "optimization_history",
    "rl_experience",
    "scaling_events",
    "threat_events",
];

/// Whether juno itself needs a table of this name.
pub(crate) fn is_system_table(name: &str) -> bool {
    SYSTEM_TABLES.contains(&name)
}

/// Registers every view, and that of rollups.
pub(crate) async fn register_views(state: &SessionState, public: &PublicSchema, live: &Live) -> Result<()> {
    public.add_view(rollup::VIEW, rollup::view(public.db())?);
    for (name, view) in live::views(live)? {
        public.add_view(name, view);
    }
    public.add_view(HISTORY, live.operations.history.view()?);
    public.add_view(standing::VIEW, standing::view(&live.operations)?);
    for file in VIEWS {
        for statement in
            Parser::parse_sql(&PostgreSqlDialect {}, file).map_err(|error| Error::Internal(error.to_string()))?
        {
            let Sql::CreateView(view) = statement else {
                return Err(Error::Internal("a view file holds CREATE VIEW and nothing else".into()));
            };
            let name = definition::table_name(&view.name)?;
            let text = view.query.to_string();
            let query = Parsed::Statement(Box::new(Sql::Query(view.query)));
            let plan = state.statement_to_plan(query).await?;
            public.add_view(&name, Arc::new(ViewTable::new(plan, Some(text))));
        }
    }
    Ok(())
}
