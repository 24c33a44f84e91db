//! A plan rule for the newest rows or groups, or the oldest: a table is read from that end, until there are enough.
//!
//! `ORDER BY time DESC LIMIT 10` and `GROUP BY time_bucket(…) ORDER BY 1 DESC LIMIT 5` need no more than one end of a table.
//! Its slices tell which times they hold, so that they are cut into stages, of which each holds all rows of its times and
//! many more than the one before. What has the end of the order stands in the first ones.
//!
//! **Invariant:** a stage holds whole groups, and each row is in one stage: what a later stage gives comes behind all that
//! earlier ones gave.

mod cut;
mod node;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use self::cut::{Edge, stages};
use self::node::StagedExec;
use crate::runs::{self, Bucket};
use crate::scan::Scan;
use crate::source::{in_terms_of, over, with_leaf};

/// Puts [`StagedExec`] below a sort that gives few rows of many, by time first.
#[derive(Debug)]
pub(crate) struct Staged;

impl PhysicalOptimizerRule for Staged {
    fn name(&self) -> &str {
        "juno_staged"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, options: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = options.execution.target_partitions;
        let swap = |node: Arc<dyn ExecutionPlan>| match staged(&node, partitions)? {
            Some(input) => over(node, vec![Arc::new(input)]).map(Transformed::yes),
            None => Ok(Transformed::no(node)),
        };
        plan.transform_down(swap).map(|done| done.data)
    }
}

/// The input of a sort in stages; none where the plan is of another kind, or not worth it.
fn staged(plan: &Arc<dyn ExecutionPlan>, partitions: usize) -> Result<Option<StagedExec>> {
    let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(None) };
    let Some(rows) = sort.fetch() else { return Ok(None) };
    let first = sort.expr().first();
    let Some((scan, bucket)) = ordered(sort.input(), Arc::clone(&first.expr)) else { return Ok(None) };
    let edge = if first.options.descending { Edge::Newest } else { Edge::Oldest };
    let stages = stages(&scan.slices(), edge, bucket, rows as u64);
    if stages.len() < 2 {
        return Ok(None);
    }
    let plans = stages.into_iter().map(|slices| with_leaf(sort.input(), Arc::new(scan.only(slices, partitions))));
    Ok(Some(StagedExec::new(plans.collect::<Result<_>>()?, rows)))
}

/// The scan that rows or groups are of, and which buckets of its time an expression over them gives; none where these are
/// not known.
fn ordered(plan: &Arc<dyn ExecutionPlan>, expr: Arc<dyn PhysicalExpr>) -> Option<(&Scan, Bucket)> {
    if let Some(scan) = plan.downcast_ref::<Scan>() {
        let table = scan.origin().table.schema();
        let bucket = runs::bucket(&expr, &plan.schema())?;
        let name = plan.schema().field(bucket.column).name().clone();
        return (table.column(&name) == Some(table.time()?)).then_some((scan, bucket));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let schema = filter.input().schema();
        let all = || (0..schema.fields().len()).collect();
        let kept: Vec<usize> = filter.projection().as_ref().map_or_else(all, |kept| kept.to_vec());
        let column = |&index: &usize| Arc::new(Column::new(schema.field(index).name(), index)) as Arc<dyn PhysicalExpr>;
        let columns: Vec<_> = kept.iter().map(column).collect();
        let expr = in_terms_of(&expr, &columns).ok()?;
        return if filter.fetch().is_none() { ordered(filter.input(), expr) } else { None };
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let columns: Vec<_> = projection.expr().iter().map(|item| Arc::clone(&item.expr)).collect();
        return ordered(projection.input(), in_terms_of(&expr, &columns).ok()?);
    }
    let (input, bucket) = runs::groups_of(plan, expr.downcast_ref::<Column>()?.index())?;
    let time = Column::new(input.schema().field(bucket.column).name(), bucket.column);
    let (scan, of_rows) = ordered(input, Arc::new(time))?;
    of_rows.is_each_time().then_some((scan, bucket))
}
