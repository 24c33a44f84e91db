//! The plan rule that lets one kernel call forecast every group of a query.
//!
//! **Invariant:** changes how forecasts are computed, never which: schema, order and partitioning of the plan stay.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateOutputMode};
use juno_kernels::Device;

use super::node::ForecastExec;
use super::{Forecast, Output, Request, Task};

/// Has aggregates that forecast give the collected points instead, and forecasts them in a [`ForecastExec`] above.
///
/// An aggregate over sorted input ends group after group; forecasting there would be a launch per group.
pub(in super::super) struct Batching {
    device: Device,
}

impl Batching {
    pub(in super::super) fn new(device: &Device) -> Self {
        Batching { device: device.clone() }
    }
}

impl std::fmt::Debug for Batching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batching(forecast)")
    }
}

impl PhysicalOptimizerRule for Batching {
    fn name(&self) -> &str {
        "batch_forecast"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let swap = |node: Arc<dyn ExecutionPlan>| match node.downcast_ref::<AggregateExec>() {
            Some(aggregate) if forecasts(aggregate) => Ok(Transformed::yes(split(aggregate, &self.device)?)),
            _ => Ok(Transformed::no(node)),
        };
        plan.transform_up(swap).map(|done| done.data)
    }
}

fn forecasts(aggregate: &AggregateExec) -> bool {
    aggregate.mode().output_mode() == AggregateOutputMode::Final
        && aggregate.aggr_expr().iter().any(|expr| task_of(expr).is_some())
}

/// The task of an aggregate that gives a task's rows.
fn task_of(expr: &AggregateFunctionExpr) -> Option<Task> {
    let function = expr.fun().inner().downcast_ref::<Forecast>()?;
    (function.output == Output::Rows).then_some(function.task)
}

/// The aggregate with points in place of forecasts, under the node that forecasts them.
fn split(aggregate: &AggregateExec, device: &Device) -> Result<Arc<dyn ExecutionPlan>> {
    let groups = aggregate.schema().fields().len() - aggregate.aggr_expr().len();
    let (mut exprs, mut requests) = (Vec::new(), Vec::new());
    for (index, expr) in aggregate.aggr_expr().iter().enumerate() {
        let Some(task) = task_of(expr) else {
            exprs.push(Arc::clone(expr));
            continue;
        };
        requests.push((groups + index, Request::of(task, &expr.expressions())?));
        let collect = AggregateUDF::new_from_impl(Forecast::new(device, task, Output::Points));
        let points = AggregateExprBuilder::new(Arc::new(collect), expr.expressions())
            .schema(aggregate.input_schema())
            .alias(expr.name())
            .with_distinct(expr.is_distinct())
            .with_ignore_nulls(expr.ignore_nulls())
            .build()?;
        exprs.push(Arc::new(points));
    }
    let collecting = AggregateExec::try_new(
        *aggregate.mode(),
        aggregate.group_expr().clone(),
        exprs,
        aggregate.filter_expr().to_vec(),
        Arc::clone(aggregate.input()),
        aggregate.input_schema(),
    )?
    .with_limit_options(aggregate.limit_options());
    let (schema, properties) = (aggregate.schema(), aggregate.properties());
    Ok(Arc::new(ForecastExec::new(Arc::new(collecting), requests, schema, properties, device)))
}
