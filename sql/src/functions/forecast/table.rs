//! `FROM forecast(relation, value, by => …, horizon => …)`, and every other [`Task`]: the aggregate and its unnesting, spelt as
//! one relation.
//!
//! **Invariant:** only rewrites what was parsed into a plan of the aggregate; it reads no rows.

mod arguments;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Column, DFSchema, ExprSchema, NullHandling, Result, UnnestOptions};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{ObjectName, TableFactor};
use juno_kernels::Device;

use self::arguments::Arguments;
use super::{Task, aggregate};
use crate::functions::refusal::invalid;
use crate::{Error, multiply};

/// The column of lists between aggregate and unnesting.
const LISTS: &str = "__forecast";

/// `SELECT * FROM forecast('cpu', 'usage_user', by => 'host', horizon => '24 hours', level => 0.95)`.
///
/// In place of the table's name stands a sub-query in parentheses or the name of a CTE; `by` names no column, one, or several
/// (`'a, b'` or `ARRAY['a', 'b']`); `time` names the time column, which else is `time` or the only timestamp. Gives the `by`
/// columns, then the columns of the task, for a forecast `time`, `forecast`, `lower`, `upper`, with a `level` behind the time where
/// the levels are an array.
#[derive(Debug)]
pub(in super::super) struct Table {
    /// In the order of [`Task::ALL`].
    aggregates: [Arc<AggregateUDF>; Task::ALL.len()],
    /// Where a table named in a text is found: DataFusion gathers beforehand only those named in FROM.
    catalogs: Arc<dyn CatalogProviderList>,
}

impl Table {
    pub(in super::super) fn new(device: &Device, catalogs: Arc<dyn CatalogProviderList>) -> Self {
        Table { aggregates: Task::ALL.map(|task| Arc::new(aggregate(device, task))), catalogs }
    }

    fn plan(&self, task: Task, arguments: Arguments) -> Result<LogicalPlan> {
        let Arguments { input, time, value, by, constants, fields } = arguments;
        let names: Vec<String> = by.iter().map(|column| column.name.clone()).collect();
        let time = Expr::Column(time_column(task, input.schema(), time)?);
        let args = [time, Expr::Column(value)].into_iter().chain(constants).collect();
        let lists = self.aggregates[task as usize].call(args).alias(LISTS);
        let keys = by.into_iter().map(Expr::Column).collect::<Vec<_>>();
        let step = |name: &str| get_field(Expr::Column(Column::from_name(LISTS)), name).alias(name);
        let columns: Vec<Expr> = keys
            .iter()
            .zip(&names)
            .map(|(key, name)| key.clone().alias(name))
            .chain(fields.iter().map(|field| step(field.name())))
            .collect();
        let options = UnnestOptions::new().with_null_handling(NullHandling::Drop);
        let steps = LogicalPlanBuilder::from(input)
            .aggregate(keys, [lists])?
            .unnest_column_with_options(Column::from_name(LISTS), options)?
            .build()?;
        LogicalPlanBuilder::from(multiply::keyless(steps)?).project(columns)?.build()
    }
}

impl RelationPlanner for Table {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let named = match &relation {
            TableFactor::Function { name, .. } | TableFactor::Table { name, args: Some(_), .. } => task_of(name),
            _ => None,
        };
        let Some(task) = named else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let (args, alias, ordinality) = match relation {
            TableFactor::Function { args, alias, with_ordinality, .. } => (args, alias, with_ordinality),
            TableFactor::Table { args: Some(args), alias, with_ordinality, .. } => (args.args, alias, with_ordinality),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        if ordinality {
            let text = format!("{} does not support WITH ORDINALITY: use row_number()", task.name());
            return Err(Error::Unsupported(text).into());
        }
        let plan = self.plan(task, Arguments::plan(task, args, &self.catalogs, context)?)?;
        let plan = match alias {
            Some(_) => plan,
            None => LogicalPlanBuilder::from(plan).alias(task.name())?.build()?,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn task_of(name: &ObjectName) -> Option<Task> {
    let [part] = name.0.as_slice() else { return None };
    let ident = part.as_ident()?;
    match ident.quote_style {
        Some(_) => Task::named(&ident.value),
        None => Task::named(&ident.value.to_lowercase()),
    }
}

/// The column that `time` names, else the one called so, else the only timestamp.
fn time_column(task: Task, schema: &DFSchema, named: Option<Column>) -> Result<Column> {
    let is_timestamp = |column: &Column| {
        schema.field_from_column(column).is_ok_and(|field| matches!(field.data_type(), DataType::Timestamp(..)))
    };
    if let Some(column) = named {
        return Ok(column);
    }
    let timestamps: Vec<Column> = schema.columns().into_iter().filter(is_timestamp).collect();
    match (timestamps.iter().find(|column| column.name == "time"), timestamps.as_slice()) {
        (Some(time), _) => Ok(time.clone()),
        (None, [only]) => Ok(only.clone()),
        (None, []) => {
            let name = task.name();
            Err(invalid(format!(
                "{name} needs a timestamp column, and its relation has none: name one with time => '…'"
            )))
        }
        (None, several) => {
            let names: Vec<_> = several.iter().map(|column| column.name.as_str()).collect();
            Err(invalid(format!(
                "{} cannot choose among the timestamp columns {}: name one with time => '…'",
                task.name(),
                names.join(", ")
            )))
        }
    }
}
