//! The views behind the REST endpoints, so that whatever REST can read, psql can; and what acts and judges behind them.
//!
//! **Invariant:** SQL lives in the `.sql` files of the folders below; here they are only read and registered.

pub mod actuator;
pub(crate) mod healing;

use std::sync::Arc;

use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::catalog::PublicSchema;
use crate::{Error, Result, definition, rollup};

/// View files, in an order in which each finds what it reads.
const VIEWS: &[&str] = &[
    include_str!("ops/healing/views.sql"),
    include_str!("ops/scaling/views.sql"),
    include_str!("ops/threats/views.sql"),
    include_str!("ops/operations/views.sql"),
    include_str!("ops/models/views.sql"),
];

/// Tables that juno itself needs.
const SYSTEM_TABLES: &[&str] = &[
    "governance_adaptations",
    "healing_incidents",
    "juno_migrations",
    "juno_models",
    "juno_users",
    "juno_views",
    "optimization_history",
    "scaling_events",
    "threat_events",
];

/// Whether juno itself needs a table of this name.
pub(crate) fn is_system_table(name: &str) -> bool {
    SYSTEM_TABLES.contains(&name)
}

/// Registers every view, and that of rollups.
pub(crate) async fn register_views(state: &SessionState, public: &PublicSchema) -> Result<()> {
    public.add_view(rollup::VIEW, rollup::view(public.db())?);
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
