//! CREATE VIEW and DROP VIEW: views that users make, kept as SQL in the table `juno_views`.
//!
//! **Invariant:** a view is planned when it is made, when the database is opened, and when a transaction that changed views or what
//! they read is committed; what it reads cannot be dropped before it.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, Statement as Sql};
use futures::TryStreamExt;

use crate::definition::{folded, table_name};
use crate::session::Session;
use crate::statement::{Kind, Outcome, ViewDefinition};
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
    defined: &ViewDefinition,
    columns: &[String],
) -> Result<(ViewTable, View)> {
    let definition = defined.written.clone();
    let parsed = Parsed::Statement(Box::new(Sql::Query(defined.view.query.clone())));
    let names = output::names(&parsed);
    let reads = reads(state, &parsed)?;
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

/// Registers the views of a database that is opened.
pub(crate) async fn open(session: &Session) -> Result<()> {
    session.query(TABLE).await?;
    load(session).await
}

/// Registers the stored views, in place of those that there were. One that cannot be planned is named in the log and is not
/// there.
pub(crate) async fn load(session: &Session) -> Result<()> {
    let _one_at_a_time = session.planning_views().await;
    let Outcome::Rows { mut stream, .. } =
        session.step("SELECT name, definition FROM juno_views ORDER BY name").await?
    else {
        return Err(Error::Internal("a query must have rows".into()));
    };
    let mut left: BTreeMap<String, (Box<ViewDefinition>, BTreeSet<String>)> = BTreeMap::new();
    while let Some(batch) = stream.try_next().await? {
        for (name, text) in batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_string::<i32>()) {
            let (Some(name), Some(text)) = (name, text) else { continue };
            match session.parse(text)?.pop().map(|statement| statement.kind) {
                Some(Kind::CreateView(view)) => {
                    let reads = session.reads(&view.view)?;
                    left.insert(name.to_owned(), (view, reads));
                }
                _ => return Err(Error::Corrupt(format!("the stored view \"{text}\" is none"))),
            }
        }
    }
    session.keep_views(&left.keys().cloned().collect());
    // Those that are read come before those that read them.
    while !left.is_empty() {
        let is_ready = |name: &&String| left[*name].1.iter().all(|read| read == *name || !left.contains_key(read));
        let Some(next) = left.keys().find(is_ready).or_else(|| left.keys().next()).cloned() else { break };
        let Some((view, _)) = left.remove(&next) else { break };
        if let Err(error) = session.register_view(&view).await {
            tracing::error!(view = next, "a stored view cannot be planned and is not there: {error}");
        }
    }
    Ok(())
}

/// The tables and views that a query names.
pub(crate) fn reads(state: &SessionState, parsed: &Parsed) -> Result<BTreeSet<String>> {
    let references = state.resolve_table_references(parsed)?;
    Ok(references.iter().map(|reference| reference.table().to_owned()).collect())
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
