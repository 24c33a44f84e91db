//! INSERT, UPDATE and DELETE: planned as the query that computes their rows, turned into writes of the engine.
//!
//! UPDATE and DELETE become a SELECT over their table and the tables of FROM or USING, so that whatever a query can say in its
//! conditions, they can. What ON CONFLICT and RETURNING compute is planned apart, over the rows that the change has found.
//!
//! **Invariant:** computes writes and makes none; the session commits them, alone or with its transaction.

mod conflict;
mod lower;
mod returning;
mod scope;
mod settle;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, SetExpr, Statement as Sql};
use juno_engine::{TableSchema, Write};

use crate::catalog::PublicSchema;
use crate::definition::table_name;
use crate::{Error, Result, apart, default, parameter};

pub(crate) use conflict::{Conflict, split};
pub(crate) use returning::Returning;
pub(crate) use scope::{Scope, StatementRows};
pub(crate) use settle::{all_rows, deleted, inserted, updated};

/// What a change does.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// New rows, and what happens to those whose key exists.
    Insert(Option<Conflict>),
    /// The columns that are assigned to, by their place in the table.
    Update(Vec<usize>),
    Delete,
}

/// A planned change of one table.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) table: Arc<TableSchema>,
    /// INSERT: the new rows. UPDATE: the old rows, then the values assigned, then the columns of FROM. DELETE: the old rows, then
    /// the columns of USING.
    pub(crate) plan: LogicalPlan,
    pub(crate) returning: Option<Returning>,
    /// Whether other tables take part, so that a row may be found several times.
    pub(crate) joined: bool,
}

/// What a change comes to.
pub(crate) struct Changed {
    pub(crate) writes: Vec<Write>,
    /// Rows changed.
    pub(crate) count: usize,
    /// The columns that RETURNING can name.
    pub(crate) rows: Vec<ArrayRef>,
}

/// A table to be changed, and the name that the statement calls it by.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) table: Arc<TableSchema>,
    pub(crate) alias: String,
}

/// A planned change, the fields that clients send its parameters as, and the types that it wants where they differ.
pub(crate) type Planned = (Change, Vec<FieldRef>, Vec<Option<DataType>>);

/// Plans an INSERT, UPDATE or DELETE.
pub(crate) async fn plan(
    state: &SessionState,
    public: &PublicSchema,
    parsed: Parsed,
    types: &[Option<DataType>],
) -> Result<Planned> {
    let (with, mut statement) = unwrapped(parsed)?;
    default::fill(&mut statement, &public.catalog())?;
    let change = match statement {
        Sql::Insert(insert) => insert_plan(state, public, with, insert, types).await?,
        Sql::Update(update) => update_plan(state, public, with, update, types).await?,
        Sql::Delete(delete) => delete_plan(state, public, with, delete, types).await?,
        other => return Err(Error::Unsupported(format!("{other} changes no table"))),
    };
    let plans = change.plans();
    let (parameters, wanted) = parameter::fields(state, &plans, types)?;
    Ok((change, parameters, wanted))
}

/// The statement itself and the WITH before it.
fn unwrapped(parsed: Parsed) -> Result<(Option<ast::With>, Sql)> {
    let Parsed::Statement(statement) = parsed else {
        return Err(Error::Internal("a change is a SQL statement".into()));
    };
    match *statement {
        Sql::Query(query) => match *query.body {
            SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) => Ok((query.with, inner)),
            _ => Err(Error::Internal("a query is not a change".into())),
        },
        other => Ok((None, other)),
    }
}

/// The table of this name, which must not be a view.
fn target(public: &PublicSchema, name: &ast::ObjectName, alias: Option<String>) -> Result<Target> {
    let name = table_name(name)?;
    if public.has_view(&name) {
        return Err(Error::InvalidDefinition(format!("\"{name}\" is a view and cannot be changed")));
    }
    let catalog = public.catalog();
    let table =
        catalog.table(&name).ok_or_else(|| Error::UndefinedTable(format!("relation \"{name}\" does not exist")))?;
    Ok(Target { table: Arc::clone(table), alias: alias.unwrap_or(name) })
}

async fn insert_plan(
    state: &SessionState,
    public: &PublicSchema,
    with: Option<ast::With>,
    mut insert: ast::Insert,
    types: &[Option<DataType>],
) -> Result<Change> {
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::Unsupported("INSERT into a table function is not supported".into()));
    };
    let alias = insert.table_alias.take().map(|alias| crate::definition::folded(&alias.alias));
    let target = target(public, name, alias)?;
    let (on, items) = (insert.on.take(), insert.returning.take());
    lower::complete(&mut insert, with, &target)?;
    let parsed = Parsed::Statement(Box::new(Sql::Insert(insert)));
    let ((plan, ..), _) = apart::plan(state, parsed, types).await?;
    let LogicalPlan::Dml(dml) = plan else {
        return Err(Error::Internal("an INSERT must plan to a change".into()));
    };
    let conflict = on.map(|on| Conflict::plan(state, &target, on)).transpose()?;
    let scope = Scope::of(&target.alias, &target.table);
    let returning = items.map(|items| Returning::plan(state, scope, items)).transpose()?;
    Ok(Change {
        op: Op::Insert(conflict),
        table: target.table,
        plan: dml.input.as_ref().clone(),
        returning,
        joined: false,
    })
}

async fn update_plan(
    state: &SessionState,
    public: &PublicSchema,
    with: Option<ast::With>,
    mut update: ast::Update,
    types: &[Option<DataType>],
) -> Result<Change> {
    let (name, alias) = lower::named(&update.table)?;
    let target = target(public, &name, alias)?;
    let items = update.returning.take();
    let joined = update.from.is_some();
    let (assigned, query) = lower::update(update, with, &target, items.is_some())?;
    let ((plan, ..), _) = apart::plan(state, query, types).await?;
    let plan = lower::cast_assigned(plan, &target.table, &assigned)?;
    let more = target.table.columns.len() + assigned.len();
    let returning = items.map(|items| Returning::plan(state, Scope::with(&target, &plan, more), items)).transpose()?;
    Ok(Change { op: Op::Update(assigned), table: target.table, plan, returning, joined })
}

async fn delete_plan(
    state: &SessionState,
    public: &PublicSchema,
    with: Option<ast::With>,
    mut delete: ast::Delete,
    types: &[Option<DataType>],
) -> Result<Change> {
    let (name, alias) = lower::deleted_from(&delete)?;
    let target = target(public, &name, alias)?;
    let items = delete.returning.take();
    let joined = delete.using.is_some();
    let query = lower::delete(delete, with, &target, items.is_some())?;
    let ((plan, ..), _) = apart::plan(state, query, types).await?;
    let more = target.table.columns.len();
    let returning = items.map(|items| Returning::plan(state, Scope::with(&target, &plan, more), items)).transpose()?;
    Ok(Change { op: Op::Delete, table: target.table, plan, returning, joined })
}

impl Change {
    /// All its plans: their parameters are numbered together.
    fn plans(&self) -> Vec<&LogicalPlan> {
        let conflict = match &self.op {
            Op::Insert(Some(conflict)) => conflict.update.as_ref().map(|update| &update.plan),
            _ => None,
        };
        std::iter::once(&self.plan).chain(conflict).chain(self.returning.as_ref().map(|r| &r.plan)).collect()
    }

    /// The word that the command tag begins with.
    pub(crate) fn word(&self) -> &'static str {
        match self.op {
            Op::Insert(_) => "INSERT",
            Op::Update(_) => "UPDATE",
            Op::Delete => "DELETE",
        }
    }

    /// The command tag.
    pub(crate) fn tag(&self, count: usize) -> String {
        match self.op {
            Op::Insert(_) => format!("INSERT 0 {count}"),
            _ => format!("{} {count}", self.word()),
        }
    }

    /// Whether the change reads the table before it writes it.
    pub(crate) fn reads_itself(&self) -> bool {
        !matches!(self.op, Op::Insert(None))
    }
}
