//! `FROM forecast(relation, value, by => …, horizon => …)`: the aggregate and its unnesting, spelt as one relation.
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
use super::{NAME, aggregate, step_fields};
use crate::functions::refusal::invalid;
use crate::{Error, multiply};

/// The column of lists between aggregate and unnesting.
const LISTS: &str = "__forecast";

/// `SELECT * FROM forecast('cpu', 'usage_user', by => 'host', horizon => '24 hours', level => 0.95)`.
///
/// In place of the table's name stands a sub-query in parentheses or the name of a CTE; `by` names no column, one, or several
/// (`'a, b'` or `ARRAY['a', 'b']`); `time` names the time column, which else is `time` or the only timestamp. Gives the `by`
/// columns, then `time`, `forecast`, `lower`, `upper`.
#[derive(Debug)]
pub(in super::super) struct Table {
    aggregate: Arc<AggregateUDF>,
    /// Where a table named in a text is found: DataFusion gathers beforehand only those named in FROM.
    catalogs: Arc<dyn CatalogProviderList>,
}

impl Table {
    pub(in super::super) fn new(device: &Device, catalogs: Arc<dyn CatalogProviderList>) -> Self {
        Table { aggregate: Arc::new(aggregate(device)), catalogs }
    }

    fn plan(&self, arguments: Arguments) -> Result<LogicalPlan> {
        let Arguments { input, time, value, by, horizon, level } = arguments;
        let names: Vec<String> = by.iter().map(|column| column.name.clone()).collect();
        let time = Expr::Column(time_column(input.schema(), time)?);
        let args = [time, Expr::Column(value), horizon].into_iter().chain(level).collect();
        let lists = self.aggregate.call(args).alias(LISTS);
        let keys = by.into_iter().map(Expr::Column).collect::<Vec<_>>();
        let step = |name: &str| get_field(Expr::Column(Column::from_name(LISTS)), name).alias(name);
        let columns: Vec<Expr> = keys
            .iter()
            .zip(&names)
            .map(|(key, name)| key.clone().alias(name))
            .chain(step_fields().iter().map(|field| step(field.name())))
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
        let (args, alias) = match relation {
            TableFactor::Function { name, with_ordinality: true, .. }
            | TableFactor::Table { name, args: Some(_), with_ordinality: true, .. }
                if is_forecast(&name) =>
            {
                return Err(
                    Error::Unsupported("forecast does not support WITH ORDINALITY: use row_number()".into()).into()
                );
            }
            TableFactor::Function { name, args, alias, .. } if is_forecast(&name) => (args, alias),
            TableFactor::Table { name, args: Some(args), alias, .. } if is_forecast(&name) => (args.args, alias),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = self.plan(Arguments::plan(args, &self.catalogs, context)?)?;
        let plan = match alias {
            Some(_) => plan,
            None => LogicalPlanBuilder::from(plan).alias(NAME)?.build()?,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn is_forecast(name: &ObjectName) -> bool {
    let [part] = name.0.as_slice() else { return false };
    part.as_ident().is_some_and(|ident| match ident.quote_style {
        Some(_) => ident.value == NAME,
        None => ident.value.eq_ignore_ascii_case(NAME),
    })
}

/// The column that `time` names, else the one called so, else the only timestamp.
fn time_column(schema: &DFSchema, named: Option<Column>) -> Result<Column> {
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
            Err(invalid("forecast needs a timestamp column, and its relation has none: name one with time => '…'"))
        }
        (None, several) => {
            let names: Vec<_> = several.iter().map(|column| column.name.as_str()).collect();
            Err(invalid(format!(
                "forecast cannot choose among the timestamp columns {}: name one with time => '…'",
                names.join(", ")
            )))
        }
    }
}
