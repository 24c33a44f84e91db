//! CREATE VIEW and DROP VIEW: views that users make, kept as SQL in the table `juno_views`.
//!
//! **Invariant:** a view is planned when it is made, when the database is opened, and when a table that it may read was altered;
//! what it reads cannot be dropped before it.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, Statement as Sql};

use crate::definition::{folded, table_name};
use crate::session::Session;
use crate::statement::Kind;
use crate::{Error, Result, output};

/// Where they are kept.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS juno_views (name TEXT PRIMARY KEY, definition TEXT NOT NULL)";

/// What is known of one view.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The text of its query.
    pub(crate) definition: String,
    /// The tables and views that it names.
    pub(crate) reads: BTreeSet<String>,
}

/// The views that users made, by name.
pub(crate) type Views = BTreeMap<String, View>;

/// A view of a query: its plan, and the names it reads.
pub(crate) async fn plan(
    state: &SessionState,
    query: Box<ast::Query>,
    columns: &[String],
) -> Result<(ViewTable, View)> {
    let definition = query.to_string();
    let parsed = Parsed::Statement(Box::new(Sql::Query(query)));
    let names = output::names(&parsed);
    let references = state.resolve_table_references(&parsed)?;
    let reads = references.iter().map(|reference| reference.table().to_owned()).collect();
    let plan = named(state.statement_to_plan(parsed).await?, names, columns)?;
    if !plan.get_parameter_fields()?.is_empty() {
        return Err(Error::InvalidParameter("there is no parameter $1 in a view".into()));
    }
    Ok((ViewTable::new(plan, Some(definition.clone())), View { definition, reads }))
}

/// The plan with its columns under PostgreSQL's names, or those of the view's own list.
fn named(plan: LogicalPlan, names: Option<Vec<Option<String>>>, columns: &[String]) -> Result<LogicalPlan> {
    let fields = plan.schema().fields().len();
    if columns.len() > fields {
        return Err(Error::Syntax("syntax error: CREATE VIEW specifies more column names than columns".into()));
    }
    let names = names.filter(|names| names.len() == fields).unwrap_or_else(|| vec![None; fields]);
    let mut seen = BTreeSet::new();
    let mut exprs = Vec::with_capacity(fields);
    for (place, (column, name)) in plan.schema().columns().into_iter().zip(names).enumerate() {
        let name = columns.get(place).cloned().or(name).unwrap_or_else(|| column.name.clone());
        if !seen.insert(name.clone()) {
            return Err(Error::DuplicateColumn(name));
        }
        exprs.push(col(column).alias(name));
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// The name and the columns' names that a CREATE VIEW gives.
pub(crate) fn heading(view: &ast::CreateView) -> Result<(String, Vec<String>)> {
    if view.materialized || view.temporary || view.to.is_some() || view.or_alter {
        return Err(Error::Unsupported("materialized and temporary views are not supported".into()));
    }
    Ok((table_name(&view.name)?, view.columns.iter().map(|column| folded(&column.name)).collect()))
}

/// The statement that makes a view again.
pub(crate) fn statement(name: &str, columns: &[String], definition: &str) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns = match columns {
        [] => String::new(),
        columns => format!(" ({})", columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")),
    };
    format!("CREATE VIEW {}{columns} AS {definition}", quoted(name))
}

/// Registers the stored views. One that cannot be planned is named in the log and is not there.
pub(crate) async fn load(session: &Session) -> Result<()> {
    session.query(TABLE).await?;
    let mut stored: Vec<String> = Vec::new();
    for batch in session.collect("SELECT definition FROM juno_views ORDER BY name").await? {
        stored.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    // A view may read one that comes later: go on while any is made.
    loop {
        let mut left = Vec::new();
        let before = stored.len();
        for text in stored {
            let made = match session.parse(&text)?.pop().map(|statement| statement.kind) {
                Some(Kind::CreateView(view)) => session.register_view(&view).await,
                _ => Err(Error::Corrupt(format!("the stored view \"{text}\" is none"))),
            };
            match made {
                Ok(_) => {}
                Err(error) => left.push((text, error)),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if left.len() == before {
            for (text, error) in left {
                tracing::error!(view = text, "a stored view cannot be planned and is not there: {error}");
            }
            return Ok(());
        }
        stored = left.into_iter().map(|(text, _)| text).collect();
    }
}

/// The views that read any of these, and those that read them.
pub(crate) fn dependents(views: &Views, names: &[String]) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    loop {
        let reads = |view: &View| view.reads.iter().any(|read| names.contains(read) || found.contains(read));
        let more: Vec<String> = views
            .iter()
            .filter(|(name, view)| !found.contains(*name) && reads(view))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}
