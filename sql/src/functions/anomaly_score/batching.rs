//! The plan rule that lets one kernel call score every series of a query.
//!
//! **Invariant:** changes how scores are computed, never which: schema, order and partitioning of the plan stay.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{WindowAggExec, WindowUDFExpr};
use juno_kernels::Device;

use super::AnomalyScore;
use super::node::ScoreExec;

/// Moves `anomaly_score` out of `WindowAggExec`, which calls it series by series, into [`ScoreExec`].
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
        f.write_str("Batching(anomaly_score)")
    }
}

impl PhysicalOptimizerRule for Batching {
    fn name(&self) -> &str {
        "batch_anomaly_score"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let swap = |node: Arc<dyn ExecutionPlan>| match node.downcast_ref::<WindowAggExec>() {
            Some(window) => match split(window, &self.device)? {
                Some(plan) => Ok(Transformed::yes(plan)),
                None => Ok(Transformed::no(node)),
            },
            None => Ok(Transformed::no(node)),
        };
        plan.transform_up(swap).map(|done| done.data)
    }
}

/// The plan that computes the same columns with the scores in one [`ScoreExec`]; none where there is no score.
fn split(window: &WindowAggExec, device: &Device) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let exprs = window.window_expr();
    let values: Vec<_> = exprs.iter().map(scored_value).collect();
    let (names, scored): (Vec<_>, Vec<_>) = exprs
        .iter()
        .zip(&values)
        .filter_map(|(expr, value)| Some((expr.name().to_owned(), Arc::clone(value.as_ref()?))))
        .unzip();
    if scored.is_empty() {
        return Ok(None);
    }
    let keys = exprs[0].partition_by().to_vec();
    let others: Vec<_> =
        exprs.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(expr, _)| Arc::clone(expr)).collect();
    if others.is_empty() {
        return Ok(Some(Arc::new(ScoreExec::try_new(Arc::clone(window.input()), keys, scored, names, device)?)));
    }
    let others_len = others.len();
    let rest = WindowAggExec::try_new(others, Arc::clone(window.input()), !keys.is_empty())?;
    let scores = ScoreExec::try_new(Arc::new(rest), keys, scored, names, device)?;
    let inputs = window.input().schema().fields().len();
    let is_score: Vec<bool> = values.iter().map(Option::is_some).collect();
    let order = (0..inputs).chain(positions(&is_score, inputs, others_len));
    let schema = window.schema();
    let columns = order.enumerate().map(|(to, from)| {
        let name = schema.field(to).name();
        (Arc::new(Column::new(name, from)) as Arc<dyn PhysicalExpr>, name.clone())
    });
    let columns: Vec<_> = columns.collect();
    Ok(Some(Arc::new(ProjectionExec::try_new(columns, Arc::new(scores))?)))
}

/// Where each window column stands once the others come first and the scores after them.
fn positions(is_score: &[bool], inputs: usize, others: usize) -> Vec<usize> {
    let (mut other, mut score) = (inputs, inputs + others);
    let mut take = |is_score: &bool| {
        let next = if *is_score { &mut score } else { &mut other };
        *next += 1;
        *next - 1
    };
    is_score.iter().map(&mut take).collect()
}

/// The value that an `anomaly_score` expression scores; none for any other expression.
fn scored_value(expr: &Arc<dyn WindowExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let standard = expr.as_any().downcast_ref::<StandardWindowExpr>()?;
    let call = standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>()?;
    call.fun().inner().downcast_ref::<AnomalyScore>()?;
    call.args().first().cloned()
}

#[cfg(test)]
mod tests {
    use super::positions;

    #[test]
    fn window_columns_are_found_again_behind_the_others() {
        assert_eq!(positions(&[true, false, true, false], 3, 2), [5, 3, 6, 4]);
        assert_eq!(positions(&[false, true], 1, 1), [1, 2]);
    }
}
