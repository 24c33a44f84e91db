//! The arguments of the table function: which relation, which columns, which constants.
//!
//! **Invariant:** what stands between the parentheses is read as every function over a relation reads it; only which arguments
//! a task has is known here.

use std::sync::Arc;

use arrow::datatypes::Fields;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, FunctionArg};

use super::super::{Request, Task};
use crate::functions::arguments::Arguments as Given;
use crate::functions::calls::type_of;

/// The arguments, resolved.
pub(super) struct Arguments {
    pub(super) input: LogicalPlan,
    pub(super) time: Option<Column>,
    pub(super) value: Column,
    pub(super) by: Vec<Column>,
    /// The task's constants as the aggregate takes them.
    pub(super) constants: Vec<Expr>,
    /// The columns of the result behind those of `by`.
    pub(super) fields: Fields,
}

impl Arguments {
    /// Resolves what was written between the parentheses.
    pub(super) fn plan(
        task: Task,
        args: Vec<FunctionArg>,
        catalogs: &Arc<dyn CatalogProviderList>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self> {
        let mut given = Given::arrange(task.name(), task.arguments(), args, context)?;
        let relation = given.need("relation", "the name of a table or a sub-query in parentheses")?;
        let value = given.need("value", "the name of the column that holds the values")?;
        let (by, time) = (given.take("by"), given.take("time"));
        let mut constants: Vec<Option<SqlExpr>> = Vec::new();
        for (place, name) in task.constants().iter().enumerate() {
            constants.push(match place {
                0 => Some(given.need(name, "an interval like '24 hours' or a number of steps")?),
                _ => given.take(name),
            });
        }
        while let Some(None) = constants.last() {
            constants.pop();
        }
        let input = given.relation("relation", relation, catalogs, context)?;
        let schema = input.schema();
        let value = given.column(schema, "value", value)?;
        let time = time.map(|expr| given.column(schema, "time", expr)).transpose()?;
        let mut constant = |(name, expr): (&&str, Option<SqlExpr>)| match expr {
            Some(expr) => given.constant(expr, &type_of(name), context),
            None => Ok(Expr::Literal(Request::default_of(name), None)),
        };
        let constants = task.constants().iter().zip(constants).map(&mut constant).collect::<Result<Vec<_>>>()?;
        Request::check(task, constants.iter().map(Some))?;
        let level = task.constants().iter().zip(&constants).find(|(name, _)| **name == "level");
        let by_level = match level {
            Some((_, expr)) => expr.get_type(&DFSchema::empty())?.is_list(),
            None => false,
        };
        let fields = task.fields(by_level);
        let taken: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let by = by.map(|expr| given.columns(schema, "by", expr, &taken)).transpose()?.unwrap_or_default();
        Ok(Arguments { time, value, by, constants, fields, input })
    }
}
