//! `FROM anomalies(relation, …)`, `FROM change_points(relation, …)`, `FROM diagnose(relation, …)` and the behaviours: the aggregate
//! and its unnesting, spelt as one relation.
//!
//! **Invariant:** only rewrites what was parsed into a plan of the aggregate; it reads no rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Column, NullHandling, Result, ScalarValue, UnnestOptions};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, FunctionArg, ObjectName, TableFactor};
use juno_kernels::Device;

use super::arguments::Arguments;
use super::behaviours::{self, Behaviour};
use super::diagnose;
use super::studies::{Study, aggregate};
use crate::functions::refusal::invalid;
use crate::types::timestamptz;
use crate::{Error, multiply};

/// The column of lists between aggregate and unnesting.
const LISTS: &str = "__rows";

/// Plans the table functions over relations.
#[derive(Debug)]
pub(super) struct Tables {
    anomalies: Arc<AggregateUDF>,
    change_points: Arc<AggregateUDF>,
    diagnose: Arc<AggregateUDF>,
    device: Device,
    /// Where a table named in a text is found: DataFusion gathers beforehand only those named in FROM.
    catalogs: Arc<dyn CatalogProviderList>,
}

impl Tables {
    pub(super) fn new(device: &Device, catalogs: Arc<dyn CatalogProviderList>) -> Self {
        let study = |study| Arc::new(aggregate(study, device));
        let diagnose = Arc::new(diagnose::aggregate(device));
        let (anomalies, change_points) = (study(Study::Anomalies), study(Study::ChangePoints));
        Tables { anomalies, change_points, diagnose, device: device.clone(), catalogs }
    }

    /// `anomalies('cpu', 'usage', by => 'host')`: the `by` columns, then those of the study.
    fn study(
        &self,
        study: Study,
        args: Vec<FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let names: Vec<&'static str> =
            ["relation", "value", "by", "time"].iter().chain(study.constants()).copied().collect();
        let mut arguments = Arguments::arrange(study.name(), &names, args, context)?;
        let relation = arguments.need("relation", "the name of a table or a sub-query in parentheses")?;
        let value = arguments.need("value", "the name of the column to look at")?;
        let input = arguments.relation("relation", relation, &self.catalogs, context)?;
        let value = arguments.column(input.schema(), "value", value)?;
        let fields = study.fields();
        let taken: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let by = arguments.take("by").map(|by| arguments.columns(input.schema(), "by", by, &taken)).transpose()?;
        let time = arguments.time(input.schema())?;
        let mut call = vec![Expr::Column(time), Expr::Column(value)];
        for name in study.constants() {
            call.push(match arguments.take(name) {
                Some(expr) => arguments.constant(expr, &DataType::Float64, context)?,
                None => lit(ScalarValue::Float64(None)),
            });
        }
        let function = match study {
            Study::Anomalies => &self.anomalies,
            Study::ChangePoints => &self.change_points,
        };
        rows(input, function.call(call), by.unwrap_or_default(), &fields)
    }

    /// `diagnose('metrics', 'value', service => 'service', metric => 'metric', since => …)`.
    fn diagnose(&self, args: Vec<FunctionArg>, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
        let mut arguments = Arguments::arrange(diagnose::NAME, &diagnose::ARGUMENTS, args, context)?;
        let relation = arguments.need("relation", "the name of a table or a sub-query in parentheses")?;
        let value = arguments.need("value", "the name of the column of values, or of several columns")?;
        let service = arguments.need("service", "the name of the column that says whose a metric is")?;
        let since = arguments.need("since", "the time when the incident began")?;
        let input = arguments.relation("relation", relation, &self.catalogs, context)?;
        let schema = input.schema();
        let values = arguments.columns(schema, "value", value, &[])?;
        let service = arguments.column(schema, "service", service)?;
        let metric = arguments.take("metric").map(|metric| arguments.column(schema, "metric", metric)).transpose()?;
        let time = arguments.time(schema)?;
        let mut parts = values_of(&input, &time, &service, metric.as_ref(), &values)?;
        if let Some(calls) = arguments.take("calls") {
            parts.push(self.calls(&arguments, calls, context)?);
        }
        let input = parts.into_iter().map(Ok).reduce(|all, part| LogicalPlanBuilder::from(all?).union(part?)?.build());
        let input = input.ok_or_else(|| invalid("argument value of diagnose names no column"))??;
        let mut call: Vec<Expr> = diagnose::COLUMNS.iter().map(|name| Expr::Column(Column::from_name(*name))).collect();
        call.push(cast(arguments.constant(since, &timestamptz(), context)?, timestamptz()));
        call.push(match arguments.take("until") {
            Some(until) => cast(arguments.constant(until, &timestamptz(), context)?, timestamptz()),
            None => lit(ScalarValue::try_from(timestamptz())?),
        });
        for name in ["symptom_service", "symptom_metric"] {
            call.push(match arguments.take(name) {
                Some(expr) => cast(arguments.constant(expr, &DataType::Utf8, context)?, DataType::Utf8),
                None => lit(ScalarValue::Utf8(None)),
            });
        }
        rows(input, self.diagnose.call(call), Vec::new(), &diagnose::fields())
    }

    /// Rows that say which service calls which, in the shape of the others.
    fn calls(
        &self,
        arguments: &Arguments,
        calls: SqlExpr,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let input = arguments.relation("calls", calls, &self.catalogs, context)?;
        let column = |name: &str| {
            let found = input.schema().columns().into_iter().find(|column| column.name == name);
            let text = format!(
                "argument calls of diagnose: the relation needs the columns caller and callee, and has no {name}"
            );
            found.map(Expr::Column).ok_or_else(|| invalid(text))
        };
        let (caller, callee) = (column("caller")?, column("callee")?);
        let nothing =
            |data_type: &DataType| Ok::<_, datafusion::common::DataFusionError>(lit(ScalarValue::try_from(data_type)?));
        let row = [
            nothing(&timestamptz())?,
            cast(caller, DataType::Utf8),
            nothing(&DataType::Utf8)?,
            nothing(&DataType::Float64)?,
            cast(callee, DataType::Utf8),
        ];
        named(input, row)
    }
}

/// A part for each column of values, in the shape that the aggregate takes.
fn values_of(
    input: &LogicalPlan,
    time: &Column,
    service: &Column,
    metric: Option<&Column>,
    values: &[Column],
) -> Result<Vec<LogicalPlan>> {
    let part = |value: &Column| {
        let metric = metric.map_or_else(|| lit(value.name.clone()), |metric| Expr::Column(metric.clone()));
        let row = [
            cast(Expr::Column(time.clone()), timestamptz()),
            cast(Expr::Column(service.clone()), DataType::Utf8),
            cast(metric, DataType::Utf8),
            cast(Expr::Column(value.clone()), DataType::Float64),
            lit(ScalarValue::Utf8(None)),
        ];
        named(input.clone(), row)
    };
    values.iter().map(part).collect()
}

/// Columns named as the aggregate of diagnoses takes them.
fn named(input: LogicalPlan, row: [Expr; 5]) -> Result<LogicalPlan> {
    let columns = row.into_iter().zip(diagnose::COLUMNS).map(|(expr, name)| expr.alias(name));
    LogicalPlanBuilder::from(input).project(columns.collect::<Vec<_>>())?.build()
}

/// The rows of the lists that an aggregate gives, after the columns of its groups.
pub(super) fn rows(input: LogicalPlan, lists: Expr, by: Vec<Column>, fields: &Fields) -> Result<LogicalPlan> {
    let names: Vec<String> = by.iter().map(|column| column.name.clone()).collect();
    let keys: Vec<Expr> = by.into_iter().map(Expr::Column).collect();
    let field = |field: &FieldRef| {
        let metadata = (!field.metadata().is_empty()).then(|| field.metadata().clone().into());
        let value = get_field(Expr::Column(Column::from_name(LISTS)), field.name().as_str());
        value.alias_with_metadata(field.name(), metadata)
    };
    let columns: Vec<Expr> =
        keys.iter().zip(&names).map(|(key, name)| key.clone().alias(name)).chain(fields.iter().map(field)).collect();
    let options = UnnestOptions::new().with_null_handling(NullHandling::Drop);
    let rows = LogicalPlanBuilder::from(input)
        .aggregate(keys, [lists.alias(LISTS)])?
        .unnest_column_with_options(Column::from_name(LISTS), options)?
        .build()?;
    LogicalPlanBuilder::from(multiply::keyless(rows)?).project(columns)?.build()
}

impl RelationPlanner for Tables {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let known = match &relation {
            TableFactor::Function { name, .. } | TableFactor::Table { name, args: Some(_), .. } => {
                Function::named(name)
            }
            _ => None,
        };
        let Some(function) = known else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let name = function.name();
        let (args, alias) = match relation {
            TableFactor::Function { with_ordinality: true, .. } | TableFactor::Table { with_ordinality: true, .. } => {
                let text = format!("{name} does not support WITH ORDINALITY: use row_number()");
                return Err(Error::Unsupported(text).into());
            }
            TableFactor::Function { args, alias, .. } => (args, alias),
            TableFactor::Table { args: Some(args), alias, .. } => (args.args, alias),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = match function {
            Function::Diagnose => self.diagnose(args, context)?,
            Function::Study(study) => self.study(study, args, context)?,
            Function::Behaviour(behaviour) => behaviours::plan(behaviour, args, &self.device, &self.catalogs, context)?,
        };
        let plan = match alias {
            Some(_) => plan,
            None => LogicalPlanBuilder::from(plan).alias(name)?.build()?,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// The functions that are planned here.
#[derive(Clone, Copy)]
enum Function {
    Study(Study),
    Diagnose,
    Behaviour(&'static Behaviour),
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Study(study) => study.name(),
            Self::Diagnose => diagnose::NAME,
            Self::Behaviour(behaviour) => behaviour.name(),
        }
    }

    /// Which of them a name is.
    fn named(name: &ObjectName) -> Option<Self> {
        let [part] = name.0.as_slice() else { return None };
        let ident = part.as_ident()?;
        let is = |function: &Self| match ident.quote_style {
            Some(_) => ident.value == function.name(),
            None => ident.value.eq_ignore_ascii_case(function.name()),
        };
        [Self::Study(Study::Anomalies), Self::Study(Study::ChangePoints), Self::Diagnose]
            .into_iter()
            .chain(behaviours::all().map(Self::Behaviour))
            .find(is)
    }
}
